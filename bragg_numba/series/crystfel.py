"""Series from what CrystFEL's users have: a cell, merged intensities, a geometry, and a stream as template.

The seat of pattern_sim: docs/crystfel.md tells which of its options is what here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bragg_numba import checks as check
from bragg_numba.conventions import FRAMES
from bragg_numba.dialect import CommandLine, parse
from bragg_numba.dialect.geometry_files import (
    CONVENTION,
    NARROWEST_BAND,
    Fields,
    GeomOptions,
    detector_of_geometry,
    even_band,
    nouns_of_geom,
)
from bragg_numba.dialect.parse import split_words
from bragg_numba.errors import InputError, read_from
from bragg_numba.experiment import Detector, Experiment, StructureFactors
from bragg_numba.experiment.placing import place_detector
from bragg_numba.io.crystfel_factors import read_factors, reflections_of_cell
from bragg_numba.io.crystfel_files import (
    CrystfelCell,
    StreamChunk,
    StreamCrystal,
    StreamHeader,
    parse_cell,
    read_cell,
    read_chunks,
    read_stream_header,
)
from bragg_numba.io.crystfel_stream import CONVENTION_LINE
from bragg_numba.io.geom_file import parse_geom
from bragg_numba.io.geometry import ELECTRON_CHARGE, LIGHT, PLANCK, Geometry, Placement
from bragg_numba.series.mcstas import mcstas_rotation

#: pattern_sim's own crystal and beam: 8 x 8 x 8 cells; 1e12 photons within a radius of a micrometre.
_DEFAULTS = ("-N", "8", "-fluence", repr(1e12 / (np.pi * 1e-12)))

#: Amplitude of every reflection where nobody says any, electrons.
_EQUAL_F = 100.0

#: What a plan may say of its template.
_TEMPLATE_KEYS = ("stream", "empty", "n")


@dataclass(frozen=True, slots=True)
class _Frame:
    """What a chunk says of its frame; axes are those of CrystFEL."""

    wavelength_A: float | None
    bandwidth: float
    shift_m: tuple[float, float, float]  #: from where the first frame's detector would be without any shift
    crystals: tuple[StreamCrystal, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A stream that was read: what of it every frame shares, and its frames."""

    file: str
    geometry: Geometry | None
    text: str  #: of the geometry
    first: Placement | None
    cell: CrystfelCell | None  #: the target's
    convention: str  #: whose laboratory frames are in, unless the plan says another
    frames: list[_Frame]
    notes: tuple[str, ...]
    trouble: InputError | None  #: why its geometry places no detector, where it has one

    @property
    def wavelengths_A(self) -> list[float]:
        """Those that the stream says, by frame."""
        return [frame.wavelength_A for frame in self.frames if frame.wavelength_A is not None]

    def any_cell(self) -> CrystfelCell:
        """The target's cell; where the stream names none, that of its first crystal."""
        if self.cell is not None:
            return self.cell
        for frame in self.frames:
            for crystal in frame.crystals:
                _, (a, b, c, al, be, ga) = orientation_and_cell(np.array(crystal.reciprocal).T)
                centring = crystal.centering if crystal.centering in tuple("PABCIFRH") else "P"
                return CrystfelCell(lengths_A=(a, b, c), angles_deg=(al, be, ga), centering=centring)
        raise InputError("the stream", "must hold a crystal or a unit cell", file=self.file)


def read_template(given, folder: Path) -> Template:
    """Read a plan's template: the name of a stream, or an object with it and what is wanted of it.

    Raises
    ------
    InputError
        If the stream cannot be read, breaks a rule or holds no frame. What is wrong with its geometry is the
        ``trouble`` of who needs it.
    """
    asked = {"stream": given} if isinstance(given, str) else given
    where = "series plan: template"
    if not isinstance(asked, Mapping) or not isinstance(asked.get("stream"), str):
        raise InputError(where, 'must be the name of a stream, or an object with one: {"stream": "run.stream"}', given)
    for key in asked:
        if key not in _TEMPLATE_KEYS:
            raise InputError(f"{where}: {key}", "is not known", hint=f"known: {', '.join(_TEMPLATE_KEYS)}")
    empty = check.flag(f"{where}.empty", asked.get("empty", True))
    most = check.optional(check.count, f"{where}.n", asked.get("n"), low=1, high=10_000_000)
    path = folder / asked["stream"]
    file = os.fspath(path)
    header = read_stream_header(path)
    cell = parse_cell(header.cell, f"{file}: unit cell") if header.cell.strip() else None
    placer = _Placer(header.geometry, file)
    frames: list[_Frame] = []
    mixed = 0
    for chunk in read_chunks(path):
        if not chunk.crystals and not empty:
            continue
        if len(frames) == most:
            break
        shifts = np.array([crystal.det_shift_mm for crystal in chunk.crystals]).reshape(-1, 2)
        mixed += bool(len(shifts) and np.ptp(shifts, axis=0).max() > 1e-6)
        frames.append(_frame(chunk, shifts, placer))
    if not frames:
        rule = "must hold a chunk" if empty else "must hold a chunk with a crystal"
        raise InputError("the stream", rule, file=file)
    notes = []
    if mixed:
        what = f"{mixed} chunks have crystals with different detector shifts"
        notes.append(f"{file}: {what}: a frame has one detector, moved by their mean")
    placed = placer.geometry, header.geometry, placer.first
    return Template(file, *placed, cell, _convention(header), frames, tuple(notes), placer.trouble)


def _convention(header: StreamHeader) -> str:
    """The detector convention that a stream of this package names; else that whose axes are CrystFEL's."""
    named = [line.removeprefix(CONVENTION_LINE).strip() for line in header.lines if line.startswith(CONVENTION_LINE)]
    return named[0] if named and named[0] in FRAMES else CONVENTION


class _Placer:
    """Places the detector of a stream's geometry as each chunk has it."""

    def __init__(self, text: str, file: str) -> None:
        self.geometry: Geometry | None = None
        self.file = file
        self.first: Placement | None = None
        self.trouble: InputError | None = None
        self._varies = False
        if not text.strip():
            return
        try:
            self.geometry = geometry = parse_geom(text, f"{file}: geometry")
        except InputError as error:
            self.trouble = error
            return
        lengths = {panel.clen or geometry.clen for panel in geometry.panels}
        given = [*lengths, geometry.shift_x, geometry.shift_y]
        self._varies = any(one is not None and one.path is not None for one in given)

    def shift_m(self, chunk: StreamChunk) -> tuple[float, float, float]:
        """How far a chunk's detector lies from that of the first chunk, metres; not at all where nobody knows."""
        if self.geometry is None or self.trouble or (self.first is not None and not self._varies):
            return (0.0, 0.0, 0.0)
        try:
            placed = self._place(chunk)
        except InputError as error:
            self.trouble = error
            return (0.0, 0.0, 0.0)
        if self.first is None:
            self.first = placed
        x, y, z = (
            there - first for there, first in zip(placed.panels[0].origin_m, self.first.panels[0].origin_m, strict=True)
        )
        return (x, y, z)

    def _place(self, chunk: StreamChunk) -> Placement:
        geometry = self.geometry
        assert geometry is not None
        clen_m = None
        lengths = [panel.clen or geometry.clen for panel in geometry.panels]
        known = all(one is not None and (one.path is None or one.path in chunk.headers) for one in lengths)
        if not known and chunk.camera_length_m is not None:
            # The mean over the panels, their own offsets included, is what chunks say without their headers.
            clen_m = chunk.camera_length_m - float(np.mean([panel.coffset_m for panel in geometry.panels]))
        with read_from(f"{self.file}: line {chunk.line}"):
            return geometry.place(chunk.headers, clen_m=clen_m)


def _frame(chunk: StreamChunk, shifts_mm: np.ndarray, placer: _Placer) -> _Frame:
    x, y, z = placer.shift_m(chunk)
    if len(shifts_mm):
        mean = shifts_mm.mean(axis=0) / 1000.0
        x, y = x + float(mean[0]), y + float(mean[1])
    for crystal in chunk.crystals:
        if np.linalg.det(np.array(crystal.reciprocal)) < 0.0:
            rule = "must have astar, bstar and cstar that are right-handed"
            raise InputError(f"line {crystal.line}: the crystal", rule, file=placer.file)
    energy = chunk.photon_energy_eV
    wavelength = None if energy is None else PLANCK * LIGHT / (ELECTRON_CHARGE * energy) / 1e-10
    if wavelength is not None and not 1e-3 <= wavelength <= 1e4:
        rule = "must make a wavelength of 0.001 to 10000 angstrom"
        raise InputError(f"line {chunk.line}: photon_energy_eV", rule, energy, file=placer.file)
    if max(map(abs, (x, y, z))) > 1e3:
        rule = "must move the detector by less than a kilometre"
        raise InputError(f"line {chunk.line}: the chunk", rule, (x, y, z), file=placer.file)
    bandwidth = chunk.bandwidth
    if bandwidth is None:
        bandwidth = 0.0 if placer.geometry is None else placer.geometry.bandwidth
    if not 0.0 <= bandwidth < 0.2:
        raise InputError(
            f"line {chunk.line}: beam_bandwidth", "must lie between 0 and 0.2", bandwidth, file=placer.file
        )
    return _Frame(wavelength, bandwidth, (x, y, z), chunk.crystals)


def orientation_and_cell(stars: np.ndarray) -> tuple[np.ndarray, tuple[float, ...]]:
    """Return U (3, 3) and the cell of reciprocal vectors in columns, 1/angstrom: they are U times the standard setting.

    The standard setting has a* along x and b* in the x-y plane.
    """
    u, upper = np.linalg.qr(stars)
    axes = np.linalg.inv(stars)  # a, b, c in rows
    edges = np.linalg.norm(axes, axis=1)
    cosines = [axes[i] @ axes[j] / (edges[i] * edges[j]) for i, j in ((1, 2), (0, 2), (0, 1))]
    angles = np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))
    return u * np.sign(np.diag(upper)), (*edges.tolist(), *angles.tolist())


def base_experiment(
    values: Mapping[str, Any], folder: Path, template: Template | None, saved: Experiment | None
) -> tuple[Experiment, list[str]]:
    """Return what all frames of a plan share, where it names files of CrystFEL, and notes on these.

    ``cell``, ``hkl`` with ``symmetry``, and ``geom`` win over what the ``saved`` experiment or ``nanobragg`` say;
    without either of these, crystal and beam are those that pattern_sim had by default.

    Raises
    ------
    InputError
        If a file cannot be read or breaks a rule, or nobody says what a series needs.
    """
    for name in ("cell", "hkl", "symmetry", "geom"):
        if name in values and not isinstance(values[name], str):
            what = "a point group" if name == "symmetry" else "the name of a file"
            raise InputError(f"series plan: {name}", f"must be text: {what}", values[name])
    if "symmetry" in values and "hkl" not in values:
        raise InputError("series plan: symmetry", "has no effect without hkl, the list that it expands")
    cell = read_cell(folder / values["cell"]) if "cell" in values else None
    if saved is not None:
        base, has_detector, has_factors = _changed(saved, values, folder, cell), True, True
    else:
        base, has_detector, has_factors = _of_words(values, folder, cell, template)
    if template is not None:
        base = _on_template(base, template, has_detector=has_detector)
        cell = cell or template.cell
    factors, notes = _factors(values, folder, cell, base, template, known=has_factors)
    return base.replace(structure_factors=factors), notes


def _changed(base: Experiment, values: Mapping[str, Any], folder: Path, cell: CrystfelCell | None) -> Experiment:
    """A saved experiment with another cell or another detector."""
    if cell is not None:
        changed = base.crystal.replace(cell=(*cell.lengths_A, *cell.angles_deg), mosflm_matrix=None)
        base = base.replace(crystal=changed)
    if "geom" in values:
        path = folder / values["geom"]
        nouns = nouns_of_geom(path, GeomOptions())
        base = base.replace(beam=base.beam.replace(**nouns["beam"]), detector=Detector.from_dict(nouns["detector"]))
    return base


def _of_words(
    values: Mapping[str, Any], folder: Path, cell: CrystfelCell | None, template: Template | None
) -> tuple[Experiment, bool, bool]:
    """The experiment of a command line, whether it says where the detector is, and whether what reflections have."""
    words = split_words(values["nanobragg"]) if "nanobragg" in values else list(_DEFAULTS)
    line = CommandLine(parse(words), folder)
    given = {one.flag.key for one in line.order}
    has_factors = bool(given & {"hkl", "default_F", "dump"})
    if "hkl" in values and "hkl" in given:
        raise InputError("series plan", "must name structure factors once: hkl, or -hkl of nanobragg")
    if "geom" in values:
        words += ["-geom", os.fspath(folder / values["geom"])]
    has_detector = "geom" in values or bool(given & {"geom", "expt"}) or _says_detector(line)
    if cell is not None:
        words += ["-cell", *map(repr, (*cell.lengths_A, *cell.angles_deg))]
    elif not given & {"cell", "mat", "expt"}:
        if template is None:
            hint = "cell: the name of a .cell file, or -cell of nanobragg"
            raise InputError("series plan", "must say the crystal's cell", hint=hint)
        found = template.any_cell()
        words += ["-cell", *map(repr, (*found.lengths_A, *found.angles_deg))]
    if not has_factors:
        words += ["-default_F", repr(_EQUAL_F)]
    if not has_detector and template is None and "nanobragg" not in values:
        raise InputError("series plan", "must say the detector", hint="geom: the name of a .geom, or nanobragg")
    base = Experiment.from_nanobragg(words, folder)
    if template is not None and not has_detector and not given & set(FRAMES):
        # The place of this one does not matter: the stream has another.
        base = base.replace(detector=Detector(convention=template.convention))
    return base, has_detector, has_factors


def _says_detector(line: CommandLine) -> bool:
    """Tell whether a command line places a detector, or gives it its pixels."""
    plain = {**CommandLine([]).detector, "convention": None}
    return {**line.detector, "convention": None} != plain


def _on_template(base: Experiment, template: Template, *, has_detector: bool) -> Experiment:
    """An experiment with the stream's detector, unless it has one, and a crystal that lies as the stream's do."""
    crystal = base.crystal
    cell = crystal.cell or (*template.any_cell().lengths_A, *template.any_cell().angles_deg)
    base = base.replace(
        crystal=crystal.replace(cell=cell, misset_deg=None, orientation=None, mosflm_matrix=None), lattices=None
    )
    if not has_detector:
        if template.trouble is not None:
            raise template.trouble
        if template.geometry is None:
            rule = "must hold a geometry, or the plan a detector"
            raise InputError("the stream", rule, hint="geom: the name of a .geom", file=template.file)
        base = base.replace(detector=_detector(base, template))
    if any(frame.bandwidth > NARROWEST_BAND for frame in template.frames):
        # Every frame brings its own.
        base = base.replace(beam=base.beam.replace(dispersion_percent=0.0, dispersion_steps=None))
    return base


def _detector(base: Experiment, template: Template) -> Detector:
    """The detector of a stream's geometry, in the laboratory of the experiment's convention."""
    assert template.geometry is not None and template.first is not None
    folder = os.path.dirname(template.file)
    options = GeomOptions(mask_folder=folder or ".")
    fields = detector_of_geometry(template.geometry, template.text, options, template.first)
    turn = mcstas_rotation(base, place_detector(base)).T
    panels = [{**panel, **_turned(panel, turn)} for panel in fields["panels"]]
    return Detector.from_dict({**fields, "panels": tuple(panels), "convention": base.detector.convention})


def _turned(panel: Fields, turn: np.ndarray) -> Fields:
    return {name: tuple((turn @ np.array(panel[name]) + 0.0).tolist()) for name in ("origin_mm", "fast", "slow")}


def _factors(
    values: Mapping[str, Any],
    folder: Path,
    cell: CrystfelCell | None,
    base: Experiment,
    template: Template | None,
    *,
    known: bool,
) -> tuple[StructureFactors, list[str]]:
    """The structure factors: of a list; else the experiment's, without what the cell's centring forbids; and notes."""
    if "hkl" in values:
        found = read_factors(folder / values["hkl"], values.get("symmetry"), cell=cell)
        return StructureFactors(**found.fields), [*found.doubts, *found.notes]
    own = base.structure_factors
    notes = [] if known else [f"no list of reflections: every F is {own.default_F:g} electrons"]
    if own.indices is not None or cell is None or cell.centering in ("P", "R"):
        return own, notes
    lengths = [base.beam.wavelength_A, *(template.wavelengths_A if template else ())]
    indices = reflections_of_cell(cell, _smallest_spacing(base, min(lengths)))
    if not len(indices):
        return own, notes
    return StructureFactors(indices=indices, amplitudes=np.full(len(indices), own.default_F)), notes


def _smallest_spacing(base: Experiment, wavelength_A: float) -> float:
    """A spacing that no pixel sees, angstrom: a little below that of the corners of the panels."""
    placed = place_detector(base)
    beam, least = np.array(placed.beam), 1.0
    for panel in placed.panels:
        across = panel.n_fast * panel.pitch_fast * np.array(panel.fast)
        down = panel.n_slow * panel.pitch_slow * np.array(panel.slow)
        for corner in (0.0 * down, across, down, across + down):
            at = np.array(panel.origin) + corner
            least = min(least, float(at @ beam / np.linalg.norm(at)))
    sine = float(np.sqrt((1.0 - least) / 2.0))
    return 0.95 * wavelength_A / (2.0 * max(sine, 1e-3))


def template_columns(template: Template, base: Experiment) -> dict[str, Any]:
    """Return the columns of a table of frames: one frame for each chunk, its crystals as lattices."""
    turn = mcstas_rotation(base, place_detector(base)).T
    frames = template.frames
    turns, cells, weights = [], [], []
    for frame in frames:
        found = [orientation_and_cell(turn @ np.array(one.reciprocal).T) for one in frame.crystals]
        turns.append([u for u, _ in found])
        cells.append([cell for _, cell in found])
        weights.append([one.weight for one in frame.crystals])
    columns: dict[str, Any] = {
        "lattice_orientation": turns,
        "lattice_weight": weights,
        "lattice_cell": cells,
    }
    # A chunk without a crystal need not say its energy.
    usual = template.wavelengths_A[0] if template.wavelengths_A else base.beam.wavelength_A
    known = [usual if one.wavelength_A is None else one.wavelength_A for one in frames]
    if any(frame.bandwidth > NARROWEST_BAND for frame in frames):
        columns["spectrum"] = [_band(length, one.bandwidth) for length, one in zip(known, frames, strict=True)]
    else:
        columns["wavelength_A"] = known
    shifts = np.array([frame.shift_m for frame in frames]) * 1000.0 @ turn.T
    if shifts.any():
        columns["detector_shift_mm"] = shifts
    return columns


def _band(wavelength_A: float, deviation: float) -> list[tuple[float, float]]:
    """Evenly spaced wavelengths of equal weights with a standard deviation, a fraction of their mean."""
    if deviation <= NARROWEST_BAND:
        return [(wavelength_A, 1.0)]
    fields = even_band(deviation)
    n, spread = fields["dispersion_steps"], fields["dispersion_percent"] / 100.0
    return [(wavelength_A * (1.0 + spread * (step / (n - 1) - 0.5)), 1.0) for step in range(n)]
