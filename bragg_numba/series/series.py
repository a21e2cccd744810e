"""A series: one experiment, and what changes from frame to frame."""

from __future__ import annotations

import difflib
import inspect
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError, read_from
from bragg_numba.experiment import Damage, Experiment, Spectrum
from bragg_numba.experiment.transmission import obstacle_of
from bragg_numba.io.hdf5 import reading
from bragg_numba.io.text_files import json_text
from bragg_numba.series.draws import draw, draw_lattices, generator_of, random_rotations
from bragg_numba.series.frames import rotation_of_quaternion
from bragg_numba.series.series_plan import FORMAT, PARTS, VERSION, SeriesPlan


class Series(SeriesPlan):
    """Many frames of one experiment.

    Parameters
    ----------
    experiment
        What all frames share.
    frames
        What changes: a numpy structured array, a CSV file, a dict of columns or an iterable of dicts, with
        columns ``orientation`` (3 x 3) or ``quaternion`` (w, x, y, z), or ``lattices`` (a list of dicts with
        ``orientation`` or ``quaternion``, ``weight`` and ``cell``, empty where no crystal is hit), ``phi_deg``,
        ``wavelength_A``, ``spectrum`` (rows of angstrom and weight), ``shot`` (of ``Beam.spectrum``),
        ``fluence_per_m2``, ``cell_counts``, ``mosaic_spread_deg``, ``mosaic_domains``, ``mosaic_seed``, ``scale``,
        ``beam_x_mm``, ``beam_y_mm`` and ``seed`` (of the noise).
    first_frame
        The number of the first frame where the table is a part of a longer one: noise and shots are drawn by it.
    reference
        The first row of the longer table, as a table of one frame, by which a detector's response is fixed.

    Raises
    ------
    InputError
        For a table that this experiment cannot honour.

    Examples
    --------
    >>> experiment = Experiment.from_nanobragg("-cell 100 -default_F 100 -N 5 -detpixels 64")
    >>> series = Series(experiment, [{"phi_deg": 0.0}, {"phi_deg": 0.5}])
    >>> len(series), series.experiment_of(1).rotation.phi_deg
    (2, 0.5)
    """

    def write(
        self,
        prefix,
        *,
        workers: int | str | None = None,
        scheduler: str | None = None,
        resume: bool = False,
        overwrite: bool = False,
        threads: int | None = None,
        progress: Callable | None = None,
        **output,
    ):
        """Render every frame and write NXmx files; return a ``SeriesResult``.

        Parameters
        ----------
        prefix
            ``run7/s`` makes ``run7/s_master.h5`` and ``run7/s_data_000001.h5`` and so on; where both
            photons and counts are written, ``run7/s_counts_master.h5`` and ``run7/s_photons/s_master.h5``. Folders
            are made if need be.
        workers
            None: threads of this process. A number or ``"local:4"``: as many Dask processes on this machine.
        scheduler
            Address of a Dask scheduler, ``tcp://...``, whose workers see the same files.
        resume
            Keep the data files that are already whole and make the others.
        overwrite
            Remove a series of the same name first.
        threads
            CPU threads a process renders with; None: all.
        progress
            Called with a ``Progress`` now and then.
        output
            Fields of ``OutputOptions``: photons, counts, seed, scale, compression, frames_per_file, spots,
            spot_threshold, labels, backend, precision, exports, layout, frames_per_master.

        Raises
        ------
        InputError
            If the files exist already or cannot be written, or a worker was lost for good.
        """
        from bragg_numba.series.options import OutputOptions
        from bragg_numba.series.write import write_series

        return write_series(
            self,
            prefix,
            OutputOptions.from_dict(output),
            workers=workers,
            scheduler=scheduler,
            resume=resume,
            overwrite=overwrite,
            threads=threads,
            progress=progress,
        )

    def save(self, path, output: Mapping | None = None) -> None:
        """Write the plan to a JSON file that ``bragg-numba series`` runs; ``output``: fields of OutputOptions."""
        from bragg_numba.io.atomic import write_bytes

        write_bytes(path, (self.to_json(output) + "\n").encode())

    @classmethod
    def from_json(cls, text: str, folder=".") -> Series:
        """Build from the JSON of a plan; names of files in it are relative to ``folder``."""
        return read_plan(text, folder)[0]

    @classmethod
    def load(cls, path) -> Series:
        """Read a plan's JSON file, or the series of a master that this package wrote."""
        return load_plan(path)[0]


def load_plan(path, changes: Mapping[str, Any] | None = None) -> tuple[Series, dict]:
    """Read a plan: the series and its output options; ``changes`` are parts that a plan of JSON has otherwise.

    Which frames there are, if ``changes`` say it, they say alone.
    """
    path = Path(path)
    text = json_text(path)
    if changes:
        text = _with_changes(path, text, changes)
    if text is None:
        from bragg_numba.io.frame_file import open_frame

        with open_frame(path) as file, reading(path):
            if "/entry/process/series" not in file:
                raise InputError(os.fspath(path), "holds no series")
            text = file["/entry/process/series"][()].decode("utf-8")
    with read_from(path):
        return read_plan(text, path.parent)


def plan_text(parts: Mapping[str, Any]) -> str:
    """Return the JSON of a plan with these parts."""
    return json.dumps({"format": FORMAT, "version": VERSION, **parts})


def _with_changes(path: Path, text: str | None, changes: Mapping[str, Any]) -> str:
    if text is None:
        rule = f"cannot be made with other parts: {', '.join(changes)}"
        raise InputError(os.fspath(path), rule, hint="it is no plan, but frames that are made as they were")
    with read_from(path):
        values = _parsed(text)
    if any(name in changes for name in _WAYS):
        values = {name: value for name, value in values.items() if name not in _WAYS}
    return json.dumps({**values, **changes})


def _parsed(text: str) -> dict:
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError("series plan", f"is not JSON: {error}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT or values.get("version") != VERSION:
        raise InputError("series plan", f'must be a JSON object with "format": "{FORMAT}" and "version": {VERSION}')
    return values


def read_plan(text: str, folder=".") -> tuple[Series, dict]:
    """Build a series and its output options from a plan's JSON text; files that it names are relative to ``folder``."""
    values = _parsed(text)
    known = {"format", "version", "experiment", "nanobragg", "output"}
    known |= {*_OF_EXPERIMENT, *_CRYSTFEL_PARTS, *_WAYS, *PARTS}
    _need_known("series plan", "part", values, known)
    folder = Path(os.path.abspath(folder))  # so that an error about a file says where it was looked for
    ways = [name for name in _WAYS if name in values]
    if any(name in values for name in _CRYSTFEL_PARTS):
        made = _of_crystfel(values, ways, folder, _experiment(values, folder) if "experiment" in values else None)
    else:
        experiment = _with_parts(_experiment(values, folder), values, folder)
        _need_one(ways)
        made = _series(experiment, ways[0], values, folder)
    output = values.get("output", {})
    if not isinstance(output, dict):
        raise InputError("series plan: output", "must be a JSON object", output)
    if not isinstance(output.get("prefix", ""), str):
        raise InputError("series plan: output.prefix", "must be text: how file names begin", output["prefix"])
    return made, output


#: What says which frames there are: a plan has one of them.
_WAYS = ("frames", "rotation", "stills", "template")

#: Parts of a plan that name CrystFEL's files, or say how they are meant.
_CRYSTFEL_PARTS = ("cell", "hkl", "symmetry", "geom", "template")


def _need_one(ways: list[str]) -> None:
    if len(ways) != 1:
        raise InputError("series plan", f"must hold exactly one of {', '.join(_WAYS[:-1])} and {_WAYS[-1]}", ways)


def _of_crystfel(values: dict, ways: list[str], folder: Path, saved: Experiment | None) -> Series:
    """The series of a plan that names files of CrystFEL."""
    from bragg_numba.series.crystfel import base_experiment, read_template, template_columns

    _need_one(ways)
    template = read_template(values["template"], folder) if "template" in values else None
    experiment, notes = base_experiment(values, folder, template, saved)
    experiment = _with_parts(experiment, values, folder)
    if template is None:
        made = _series(experiment, ways[0], values, folder)
    else:
        made = Series(experiment, template_columns(template, experiment))
        notes += template.notes
    made.notes = tuple(notes)
    return made


def _experiment(values: dict, folder: Path) -> Experiment:
    if ("experiment" in values) == ("nanobragg" in values):
        raise InputError(
            "series plan", "must hold either experiment (or its file's name) or nanobragg (a command line)"
        )
    if "nanobragg" in values:
        return Experiment.from_nanobragg(values["nanobragg"], folder)
    given = values["experiment"]
    if isinstance(given, str):
        return Experiment.load(folder / given)
    return Experiment.from_json(json.dumps(given))


#: Parts of a plan that are parts of its experiment.
_OF_EXPERIMENT = ("spectrum", "transmission", "damage")


def _with_parts(experiment: Experiment, values: dict, folder: Path) -> Experiment:
    """The experiment with the spectrum, the transmission and the damage that a plan has."""
    experiment = _with_spectrum(experiment, values, folder)
    if "transmission" in values:
        listed = values["transmission"]
        if not isinstance(listed, list):
            raise InputError("series plan: transmission", "must be a list of JSON objects", listed)
        named = ((f"series plan: transmission[{place}]", one) for place, one in enumerate(listed))
        experiment = experiment.replace(transmission=tuple(obstacle_of(name, one) for name, one in named))
    if "damage" in values:
        experiment = experiment.replace(damage=Damage.from_dict(values["damage"]))
    return experiment


def _with_spectrum(experiment: Experiment, values: dict, folder: Path) -> Experiment:
    """The experiment with the spectrum that a plan has: a file's name, or fields of Spectrum with one or without."""
    if "spectrum" not in values:
        return experiment
    given = values["spectrum"]
    given = {"file": given} if isinstance(given, str) else given
    if not isinstance(given, dict):
        raise InputError("series plan: spectrum", "must be a JSON object, or a file's name", given)
    if "file" in given:
        known = ("unit", "centre_jitter_percent", "energy_jitter_percent", "channel_jitter", "equal_energy", "recentre")
        _need_known("series plan: spectrum", "part of a file's spectrum", given, ("file", "seed", *known))
        if not isinstance(given["file"], str) or not isinstance(given.get("unit", ""), str):
            raise InputError("series plan: spectrum", "must have texts as file and unit", given)
        more = {name: value for name, value in given.items() if name != "file"}
        spectrum = Spectrum.from_file(folder / given["file"], **more)
    else:
        spectrum = Spectrum.from_dict(given)
    return experiment.replace(beam=experiment.beam.replace(spectrum=spectrum))


def _series(experiment: Experiment, way: str, values: dict, folder: Path) -> Series:
    given, parts = values[way], {name: values[name] for name in PARTS if name in values}
    if way == "frames":
        return Series(experiment, folder / given if isinstance(given, str) else given, **parts)
    for name in parts:
        raise InputError(f"series plan: {name}", "is said of a table of frames alone", hint=f"there is {way}")
    maker = rotation_series if way == "rotation" else still_series
    if not isinstance(given, dict):
        raise InputError(f"series plan: {way}", "must be a JSON object", given)
    arguments = inspect.signature(maker).parameters
    _need_known(f"series plan: {way}", "argument", given, [name for name in arguments if name != "experiment"])
    try:
        return maker(experiment, **given)
    except TypeError as error:
        # Python names the argument that is missing.
        raise InputError(f"series plan: {way}", f"does not fit: {str(error).split(') ')[-1]}") from None


def _need_known(where: str, what: str, given, known) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
            raise InputError(f"{where}: {name}", f"is not a known {what}", hint=hint)


def rotation_series(experiment: Experiment, start_deg: float, width_deg: float, n: int, phi_steps=None) -> Series:
    """A sweep about the spindle: frame i covers ``start_deg + i * width_deg`` and the ``width_deg`` after it.

    Parameters
    ----------
    phi_steps
        Steps within one frame; None: as the experiment's rotation says, else nanoBragg's two.

    Examples
    --------
    >>> experiment = Experiment.from_nanobragg("-cell 100 -default_F 100 -N 5 -detpixels 64")
    >>> rotation_series(experiment, start_deg=10.0, width_deg=0.5, n=3).frames["phi_deg"]
    array([10. , 10.5, 11. ])
    """
    start = check.number("start_deg", start_deg)
    width = check.number("width_deg", width_deg, above=0.0, high=360.0)
    n = check.count("n", n, low=1, high=10_000_000)
    changes: dict[str, Any] = {"osc_deg": width}
    if phi_steps is not None:
        changes.update(phi_steps=phi_steps, phi_step_deg=None)
    experiment = experiment.replace(rotation=experiment.rotation.replace(**changes))
    return Series(experiment, {"phi_deg": start + width * np.arange(n)})


def still_series(
    experiment: Experiment, n: int, *, seed: int = 1, orientations="random", distributions=None, lattices=None
) -> Series:
    """Stills: one crystal after another, or several and none on a frame.

    Parameters
    ----------
    seed
        Of everything that is drawn; the first frames of a longer series are those of a shorter one.
    orientations
        ``"random"``: uniform over all rotations; ``"same"``: the experiment's; or rotation matrices (n, 3, 3),
        or quaternions (n, 4).
    distributions
        What else varies: column to ``{"normal": [mean, sigma]}``, ``{"uniform": [low, high]}``,
        ``{"lognormal": [median, sigma of the logarithm]}``, ``{"choice": [values]}``, or a function of
        (numpy Generator, n) that returns n values.
    lattices
        How many crystals a frame shows; None: one. A dict with any of ``hit_rate``, the share of frames that hit
        any (default 1); ``count``, how many these hit: a number, or numbers and their probabilities; ``weights``, what
        the photons of each are multiplied by: a number, a list (of the first, the second ...) or a distribution; and
        ``split_deg``: those after the first are turned from it about any axis by an angle of this sigma, as parts of a
        split crystal are, where otherwise each lies as ``orientations="random"`` has it.

    Examples
    --------
    >>> experiment = Experiment.from_nanobragg("-cell 100 -default_F 100 -N 5 -detpixels 64")
    >>> series = still_series(experiment, 4, seed=3, distributions={"wavelength_A": {"normal": [1.0, 0.001]}})
    >>> series.frames["orientation"].shape
    (4, 3, 3)
    """
    n = check.count("n", n, low=1, high=10_000_000)
    seed = check.count("seed", seed, low=0, high=2**63 - 1)
    columns: dict[str, object] = {}
    if isinstance(orientations, str):
        if check.choice("orientations", orientations, ("random", "same")) == "random":
            columns["orientation"] = random_rotations(generator_of(seed, "orientation"), n)
    else:
        given = np.asarray(orientations, dtype=np.float64)
        if len(given) != n:
            raise InputError("orientations", f"must be {n} rotations", given.shape)
        columns["quaternion" if given.ndim == 2 and given.shape[1] == 4 else "orientation"] = given
    for name, how in (distributions or {}).items():
        columns[name] = draw(f"distributions.{name}", how, generator_of(seed, name), n)
    if lattices is not None:
        columns.update(draw_lattices(lattices, _first_orientations(experiment, columns, n), seed))
    if not columns:
        columns["phi_deg"] = np.full(n, experiment.rotation.phi_deg)
    return Series(experiment, columns)


def stream_series(
    path,
    experiment: Experiment | None = None,
    *,
    cell=None,
    hkl=None,
    symmetry: str | None = None,
    geom=None,
    empty: bool = True,
    n: int | None = None,
) -> Series:
    """The frames of a CrystFEL stream: each chunk one, with all of its crystals, its energy, bandwidth and shift.

    Parameters
    ----------
    path
        The stream.
    experiment
        What all frames share; its detector is theirs. None: the detector of the geometry in the stream, and crystal
        and beam as pattern_sim had them by default (docs/crystfel.md).
    cell, hkl, symmetry, geom
        Names of a .cell, of a list of merged intensities with its point group, and of a .geom, which win over the
        experiment and over the stream.
    empty
        Whether chunks without a crystal are frames, dark ones.
    n
        How many chunks, from the first; None: all.

    Raises
    ------
    InputError
        If a file cannot be read or breaks a rule: which line, which rule, which value.
    """
    given = {"cell": cell, "hkl": hkl, "geom": geom}
    values: dict[str, Any] = {name: os.path.abspath(file) for name, file in given.items() if file is not None}
    if symmetry is not None:
        values["symmetry"] = symmetry
    values["template"] = {"stream": os.path.abspath(path), "empty": empty, "n": n}
    return _of_crystfel(values, ["template"], Path.cwd(), experiment)


def _first_orientations(experiment: Experiment, columns: dict, n: int) -> np.ndarray:
    """The orientations (n, 3, 3) that a table has for one crystal a frame, taken out of it."""
    if "quaternion" in columns:
        return rotation_of_quaternion(columns.pop("quaternion"))
    if "orientation" not in columns:
        own = experiment.crystal.orientation
        return np.repeat(np.eye(3)[None] if own is None else np.array(own)[None], n, axis=0)
    found = np.asarray(columns.pop("orientation"), dtype=np.float64)
    if found.shape[1:] == (9,):
        found = found.reshape(-1, 3, 3)
    if found.shape != (n, 3, 3):
        raise InputError("orientations", f"must be {n} rotations (3 x 3)", found.shape)
    return found
