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
from bragg_numba.experiment import Experiment
from bragg_numba.io.hdf5 import reading
from bragg_numba.io.text_files import json_text
from bragg_numba.series.series_plan import FORMAT, VERSION, SeriesPlan


class Series(SeriesPlan):
    """Many frames of one experiment.

    Parameters
    ----------
    experiment
        What all frames share.
    frames
        What changes: a numpy structured array, a CSV file, a dict of columns or an iterable of dicts, with
        columns ``orientation`` (3 x 3) or ``quaternion`` (w, x, y, z), ``phi_deg``, ``wavelength_A``,
        ``spectrum`` (rows of angstrom and weight), ``fluence_per_m2``, ``cell_counts``, ``mosaic_spread_deg``,
        ``mosaic_domains``, ``mosaic_seed``, ``beam_x_mm``, ``beam_y_mm`` and ``seed`` (of the noise).

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
            spot_threshold, labels, backend, precision, exports.

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


def load_plan(path) -> tuple[Series, dict]:
    """Read a plan: the series and its output options."""
    path = Path(path)
    text = json_text(path)
    if text is None:
        from bragg_numba.io.frame_file import open_frame

        with open_frame(path) as file, reading(path):
            if "/entry/process/series" not in file:
                raise InputError(os.fspath(path), "holds no series")
            text = file["/entry/process/series"][()].decode("utf-8")
    with read_from(path):
        return read_plan(text, path.parent)


def read_plan(text: str, folder=".") -> tuple[Series, dict]:
    """Build a series and its output options from a plan's JSON text; files that it names are relative to ``folder``."""
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError("series plan", f"is not JSON: {error}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT or values.get("version") != VERSION:
        raise InputError("series plan", f'must be a JSON object with "format": "{FORMAT}" and "version": {VERSION}')
    known = {"format", "version", "experiment", "nanobragg", "frames", "rotation", "stills", "output"}
    _need_known("series plan", "part", values, known)
    folder = Path(os.path.abspath(folder))  # so that an error about a file says where it was looked for
    experiment = _experiment(values, folder)
    ways = [name for name in ("frames", "rotation", "stills") if name in values]
    if len(ways) != 1:
        raise InputError("series plan", "must hold exactly one of frames, rotation and stills", ways)
    output = values.get("output", {})
    if not isinstance(output, dict):
        raise InputError("series plan: output", "must be a JSON object", output)
    if not isinstance(output.get("prefix", ""), str):
        raise InputError("series plan: output.prefix", "must be text: how file names begin", output["prefix"])
    return _series(experiment, ways[0], values[ways[0]], folder), output


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


def _series(experiment: Experiment, way: str, given, folder: Path) -> Series:
    if way == "frames":
        return Series(experiment, folder / given if isinstance(given, str) else given)
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


def still_series(experiment: Experiment, n: int, *, seed: int = 1, orientations="random", distributions=None) -> Series:
    """Stills: one crystal after another.

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
            columns["orientation"] = random_rotations(_generator(seed, "orientation"), n)
    else:
        given = np.asarray(orientations, dtype=np.float64)
        if len(given) != n:
            raise InputError("orientations", f"must be {n} rotations", given.shape)
        columns["quaternion" if given.ndim == 2 and given.shape[1] == 4 else "orientation"] = given
    for name, how in (distributions or {}).items():
        columns[name] = _draw(name, how, _generator(seed, name), n)
    if not columns:
        columns["phi_deg"] = np.full(n, experiment.rotation.phi_deg)
    return Series(experiment, columns)


def random_rotations(generator: np.random.Generator, n: int) -> np.ndarray:
    """Rotation matrices (n, 3, 3), uniform over all rotations: quaternions uniform on the sphere."""
    from bragg_numba.series.frames import rotation_of_quaternion

    return rotation_of_quaternion(generator.standard_normal((n, 4)))


def _generator(seed: int, name: str) -> np.random.Generator:
    # A stream of its own for every column: adding a column changes no other.
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *name.encode()])))


def _draw(name: str, how, generator: np.random.Generator, n: int) -> np.ndarray:
    where = f"distributions.{name}"
    if callable(how):
        return np.asarray(how(generator, n))
    if not isinstance(how, Mapping) or len(how) != 1:
        raise InputError(where, "must be one of normal, uniform, lognormal, choice, with its numbers", how)
    kind, numbers = next(iter(how.items()))
    if kind == "choice":
        values = np.asarray(numbers)
        if not len(values):
            raise InputError(where, "must offer at least one value")
        return values[generator.integers(len(values), size=n)]
    if kind not in ("normal", "uniform", "lognormal"):
        raise InputError(where, "must be one of normal, uniform, lognormal, choice", kind)
    first, second = check.vector(where, numbers, length=2)
    if kind == "uniform":
        if second < first:
            raise InputError(where, "must have low <= high", numbers)
        return first + (second - first) * generator.random(n)
    if second < 0.0 or (kind == "lognormal" and first <= 0.0):
        raise InputError(where, "must have sigma >= 0 (and a median above 0)", numbers)
    draw = generator.standard_normal(n)
    return first + second * draw if kind == "normal" else first * np.exp(second * draw)
