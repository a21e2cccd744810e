"""The table of a series: what changes from frame to frame."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.experiment import Crystal, Damage, Detector, Experiment, Lattice, Panel, Spectrum
from bragg_numba.experiment.noun import plain_value, unpack_array
from bragg_numba.experiment.placing import place_detector
from bragg_numba.io.text_files import read_text

#: Columns of the table: type and shape of one frame's value. None: any length, which may differ between frames.
COLUMNS: dict[str, tuple[type, tuple]] = {
    "orientation": (np.float64, (3, 3)),
    "lattice_orientation": (np.float64, (None, 3, 3)),
    "lattice_weight": (np.float64, (None,)),
    "lattice_cell": (np.float64, (None, 6)),
    "phi_deg": (np.float64, ()),
    "wavelength_A": (np.float64, ()),
    "spectrum": (np.float64, (None, 2)),
    "shot": (np.int64, ()),
    "fluence_per_m2": (np.float64, ()),
    "cell_counts": (np.int64, (3,)),
    "mosaic_spread_deg": (np.float64, ()),
    "mosaic_domains": (np.int64, ()),
    "mosaic_seed": (np.int64, ()),
    "scale": (np.float64, ()),
    "beam_x_mm": (np.float64, ()),
    "beam_y_mm": (np.float64, ()),
    "detector_shift_mm": (np.float64, (3,)),
    "dose_MGy": (np.float64, ()),
    "seed": (np.uint64, ()),
}

#: Other names under which a table may bring a column, one number each: CSV files have no vectors.
SPLIT_COLUMNS: dict[str, tuple[str, ...]] = {
    "orientation": tuple(f"u{row}{column}" for row in (1, 2, 3) for column in (1, 2, 3)),
    "quaternion": ("qw", "qx", "qy", "qz"),
    "cell_counts": ("n_a", "n_b", "n_c"),
    "detector_shift_mm": ("shift_x_mm", "shift_y_mm", "shift_z_mm"),
}


#: The columns of lattices, and what a row of ``lattices`` calls them.
_OF_LATTICES = {"lattice_orientation": "orientation", "lattice_weight": "weight", "lattice_cell": "cell"}


class FrameTable:
    """Columns of equal length, one row a frame; only what changes has a column.

    Parameters
    ----------
    columns
        Name to array, first axis the frame: see ``COLUMNS``. ``quaternion`` (w, x, y, z) may stand for
        ``orientation``; ``u11`` to ``u33``, ``qw`` to ``qz`` and ``n_a`` to ``n_c`` for their vectors. ``lattices``, a
        list of dicts for each frame with ``orientation`` or ``quaternion``, ``weight`` and ``cell``, may stand for
        the columns of lattices, in which NaN fills up frames that have fewer than others.

    Raises
    ------
    InputError
        For an unknown column, a wrong shape or a number that is not finite.
    """

    def __init__(self, columns: Mapping[str, object]) -> None:
        given = _join_split(dict(columns))
        if "lattices" in given:
            given.update(_columns_of_lattices(given))
        if "quaternion" in given:
            if "orientation" in given:
                raise InputError("frames", "must hold either orientation or quaternion, not both")
            given["orientation"] = rotation_of_quaternion(given.pop("quaternion"))
        for name in given:
            if name not in COLUMNS:
                raise InputError(f"frames.{name}", "is not a known column", hint=_near(name))
        if not given:
            raise InputError("frames", "must hold at least one column", hint=", ".join(COLUMNS))
        # In the order of COLUMNS, so that equal tables have equal bytes.
        self.columns = {name: _clean(name, given[name]) for name in COLUMNS if name in given}
        lengths = {name: len(values) for name, values in self.columns.items()}
        if len(set(lengths.values())) != 1:
            raise InputError("frames", "must have columns of one length", lengths)
        if not len(self):
            raise InputError("frames", "must hold at least one frame")
        if self.has_lattices:
            _check_lattices(self.columns)

    @property
    def has_lattices(self) -> bool:
        """Whether each frame has a list of lattices, which may be empty."""
        return any(name in self.columns for name in _OF_LATTICES)

    @property
    def lattices(self) -> np.ndarray:
        """How many lattices each frame has, (n,) int; 1 where the table does not say."""
        if not self.has_lattices:
            return np.ones(len(self), dtype=np.int64)
        found: np.ndarray = np.isfinite(self["lattice_orientation"][..., 0, 0]).sum(axis=1)
        return found

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def row(self, index: int) -> dict:
        """Return one frame's values by column."""
        return {name: values[index] for name, values in self.columns.items()}

    def digest(self, start: int, stop: int) -> str:
        """Return a SHA-256 of the rows start..stop."""
        found = hashlib.sha256()
        for name, values in self.columns.items():
            part = np.ascontiguousarray(values[start:stop])
            found.update(f"{name} {part.dtype.str} {part.shape} ".encode())
            found.update(part.tobytes())
        return found.hexdigest()

    def part(self, start: int, stop: int) -> FrameTable:
        """Return the rows start..stop as a table; its columns share the memory of these."""
        made = object.__new__(FrameTable)  # what was checked once need not be again
        made.columns = {name: values[start:stop] for name, values in self.columns.items()}
        return made

    def to_dict(self) -> dict:
        """Return the columns as what ``json`` can write."""
        # Seeds as numbers: packed arrays know no unsigned integers.
        return {
            name: values.tolist() if name == "seed" else plain_value(values) for name, values in self.columns.items()
        }

    @classmethod
    def from_any(cls, frames) -> FrameTable:
        """Build from a FrameTable, a structured array, a CSV file, a dict of columns or an iterable of dicts."""
        if isinstance(frames, FrameTable):
            return frames
        if isinstance(frames, (str, os.PathLike)):
            return cls(_read_csv(frames))
        if isinstance(frames, np.ndarray):
            if frames.dtype.names is None or frames.ndim != 1:
                raise InputError("frames", "must be a structured array with one axis", frames.dtype)
            return cls({name: frames[name] for name in frames.dtype.names})
        if isinstance(frames, Mapping):
            return cls({name: _unpacked(name, values) for name, values in frames.items()})
        if isinstance(frames, Iterable):
            return cls(_from_rows(frames))
        raise InputError("frames", "must be a table: array, CSV file, columns or rows", type(frames).__name__)


def apply_frame(
    experiment: Experiment,
    row: Mapping[str, Any],
    index: int = 0,
    spectra: Spectrum | None = None,
    shot: int | None = None,
) -> Experiment:
    """Return the experiment of one frame.

    ``shot``, ``index`` where it is None, counts the shots of a spectrum that differ from frame to frame, unless ``row``
    has ``shot``; ``spectra`` are those of the column ``spectrum`` (``spectra_of``), one for each ``index``.
    ``orientation`` replaces ``Crystal.orientation``; ``fluence_per_m2`` wins over a flux, ``cell_counts`` over
    sizes in millimetres, a matrix and several sizes. What changes the crystal changes that of every lattice; of a frame
    with several ``crystal`` is the first.
    """
    crystal: dict[str, Any] = {}
    beam: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    for name in ("cell_counts", "mosaic_spread_deg", "mosaic_domains", "mosaic_seed", "scale"):
        if name in row:
            crystal[name] = row[name].tolist()
    if "cell_counts" in row:
        crystal |= {"size_mm": (None, None, None), "cell_count_matrix": None, "block_sizes": None}
    if "orientation" in row:
        crystal["orientation"] = tuple(tuple(line) for line in row["orientation"].tolist())
    if "wavelength_A" in row:
        beam["wavelength_A"] = float(row["wavelength_A"])
    if spectra is not None:
        beam["spectrum"] = spectra.alone(index)
    elif experiment.beam.spectrum is not None and experiment.beam.spectrum.varies:
        counted = index if shot is None else shot
        beam["shot"] = int(row["shot"]) if "shot" in row else experiment.beam.shot + counted
    if "fluence_per_m2" in row:
        beam.update(fluence_per_m2=float(row["fluence_per_m2"]), flux_per_s=0.0)
    place = {name: float(row[name]) for name in ("beam_x_mm", "beam_y_mm") if name in row}
    if crystal:
        changes["crystal"] = experiment.crystal.replace(**crystal)
    lattices = experiment.lattices
    if "lattice_orientation" in row:
        own = changes.get("crystal", experiment.crystal)
        found = changes["lattices"] = _lattices_of(own, row)
        if found:  # who looks at the crystal alone sees the first
            changes["crystal"] = found[0].crystal.replace(water_um=own.water_um)
    elif lattices and crystal:
        changes["lattices"] = tuple(one.replace(crystal=one.crystal.replace(**crystal)) for one in lattices)
    if beam:
        changes["beam"] = experiment.beam.replace(**beam)
    if place:
        changes["detector"] = experiment.detector.replace(**place)
    if "detector_shift_mm" in row and row["detector_shift_mm"].any():
        changes["detector"] = moved_detector(experiment, row["detector_shift_mm"])
    if "phi_deg" in row:
        changes["rotation"] = experiment.rotation.replace(phi_deg=float(row["phi_deg"]))
    if "dose_MGy" in row:
        changes["damage"] = (experiment.damage or Damage()).replace(dose_MGy=float(row["dose_MGy"]))
    return experiment.replace(**changes) if changes else experiment


def with_doses(experiment: Experiment, table: FrameTable) -> FrameTable:
    """The table with the dose of every frame of a sweep, where the experiment says what a frame adds.

    Stills are crystals of their own: what one absorbs is no other's. A table that has doses keeps them.
    """
    damage = experiment.damage
    sweeps = "phi_deg" in table and "orientation" not in table and not table.has_lattices
    if damage is None or not damage.adds or "dose_MGy" in table or not sweeps:
        return table
    fluences = table.columns.get("fluence_per_m2", np.full(len(table), experiment.beam.mean_photons_per_m2))
    return FrameTable({**table.columns, "dose_MGy": damage.doses_of_sweep(fluences)})


def spectra_of(table: FrameTable) -> Spectrum | None:
    """The column ``spectrum`` as a Spectrum with a shot for each frame, checked once for all of them."""
    if "spectrum" not in table:
        return None
    lengths, weights = table["spectrum"][..., 0], table["spectrum"][..., 1]
    padding = np.isnan(weights)
    lengths = np.where(padding, lengths[:, :1], lengths)
    try:
        # What a frame's photons are is the fluence's business.
        return Spectrum.table(np.where(padding, 0.0, weights), wavelengths_A=lengths, equal_energy=True)
    except InputError as error:
        raise InputError("frames.spectrum:", str(error)) from None


def moved_detector(experiment: Experiment, shift_mm) -> Detector:
    """Return an experiment's detector moved by a vector of the laboratory, every panel by the same."""
    detector = experiment.detector
    panels = detector.panels
    if panels is None:
        placed = place_detector(experiment)
        origin = tuple(1000.0 * value for value in placed.origin)
        size: dict[str, Any] = {"n_fast": placed.n_fast, "n_slow": placed.n_slow}
        size["pixel_mm"] = (1000.0 * placed.pixel_size,) * 2
        panels = (Panel(name="p0", origin_mm=origin, fast=placed.fast, slow=placed.slow, **size),)
        kept = (
            *("convention", "point_pixel", "attenuation_depth_um", "thickness_um", "thickness_steps", "mask"),
            *("sensor", "sensor_density_g_per_cm3"),
        )
        detector = Detector(panels=panels, **{name: getattr(detector, name) for name in kept})
    x, y, z = (float(value) for value in shift_mm)
    moved = tuple(p.replace(origin_mm=(p.origin_mm[0] + x, p.origin_mm[1] + y, p.origin_mm[2] + z)) for p in panels)
    return detector.replace(panels=moved)


def _lattices_of(crystal: Crystal, row: Mapping[str, Any]) -> tuple[Lattice, ...]:
    """The lattices of one frame: the crystal as each of them has it."""
    if crystal.water_um:
        crystal = crystal.replace(water_um=0.0)
    found = []
    for place, turn in enumerate(row["lattice_orientation"]):
        if not np.isfinite(turn[0, 0]):
            break
        changes: dict[str, Any] = {"orientation": tuple(tuple(line) for line in turn.tolist())}
        if "lattice_cell" in row:
            changes.update(_exact_cell(row["lattice_cell"][place].tolist()))
        weight = float(row["lattice_weight"][place]) if "lattice_weight" in row else 1.0
        found.append(Lattice(crystal=crystal.replace(**changes), weight=weight))
    return tuple(found)


def _exact_cell(cell: list[float]) -> dict[str, Any]:
    """Fields of ``Crystal`` for a cell in its standard setting: a* along x, b* in the x-y plane.

    nanoBragg's own setting of oblique angles is not quite that: there a matrix says it, whose scale is the cell's.
    """
    matrix = None
    if sum(angle != 90.0 for angle in cell[3:]) > 1:
        al, be, ga = np.cos(np.radians(cell[3:]))
        cosines = np.array([[1.0, ga, be], [ga, 1.0, al], [be, al, 1.0]])
        # Of unit edges, whatever these are; Crystal has refused angles that close no cell.
        upper = np.linalg.cholesky(np.linalg.inv(cosines)).T / cell[:3]
        matrix = tuple(map(tuple, upper.tolist()))
    return {"cell": tuple(cell), "mosflm_matrix": matrix}


def check_against(experiment: Experiment, table: FrameTable) -> None:
    """Refuse columns that this experiment could not honour."""
    beam, detector = experiment.beam, experiment.detector
    if "orientation" in table and (table.has_lattices or experiment.lattices is not None):
        raise InputError("frames.orientation", "has no effect: every lattice has an orientation of its own")
    if "wavelength_A" in table and any(row[4] is not None for row in beam.sources or ()):
        raise InputError("frames.wavelength_A", "has no effect: Beam.sources fixes the wavelengths")
    if "wavelength_A" in table and beam.spectrum is not None and beam.spectrum.is_absolute:
        raise InputError("frames.wavelength_A", "has no effect: Beam.spectrum fixes the wavelengths")
    if "wavelength_A" in table and experiment.crystal.mosflm_matrix is not None and experiment.crystal.cell is None:
        raise InputError(
            "frames.wavelength_A",
            "would change the cell: mosflm_matrix is in units of the wavelength",
            hint="give cell",
        )
    if "spectrum" in table:
        if "wavelength_A" in table:
            raise InputError("frames", "must hold either wavelength_A or spectrum, not both")
        if beam.sources is not None or beam.dispersion_percent or beam.spectrum is not None:
            raise InputError("frames.spectrum", "cannot be combined with a dispersion, Beam.spectrum or Beam.sources")
    if "shot" in table and ("spectrum" in table or beam.spectrum is None or not beam.spectrum.varies):
        raise InputError("frames.shot", "has no effect: it counts the shots of a Beam.spectrum that differ")
    if "detector_shift_mm" in table:
        if "beam_x_mm" in table or "beam_y_mm" in table:
            raise InputError("frames", "must hold either detector_shift_mm or beam_x_mm and beam_y_mm, not both")
        if detector.curved:
            raise InputError("frames.detector_shift_mm", "cannot move a curved detector")
    centred = "beam_x_mm" in table or "beam_y_mm" in table
    if centred and detector.origin_mm is not None:
        raise InputError("frames.beam_x_mm", "has no effect: Detector.origin_mm fixes where the detector is")


def rotation_of_quaternion(values) -> np.ndarray:
    """Rotation matrices (n, 3, 3) of quaternions (n, 4): w, x, y, z, of any length but 0."""
    try:
        q = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("frames.quaternion", "must be numbers w, x, y, z") from None
    if q.ndim != 2 or q.shape[1] != 4:
        raise InputError("frames.quaternion", "must have shape (frames, 4): w, x, y, z", q.shape)
    size = np.linalg.norm(q, axis=1, keepdims=True)
    if not (np.isfinite(size) & (size > 0)).all():
        raise InputError("frames.quaternion", "must be finite and not 0")
    w, x, y, z = (q / size).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def _join_split(given: dict) -> dict:
    for name, parts in SPLIT_COLUMNS.items():
        found = [part for part in parts if part in given]
        if not found:
            continue
        if len(found) != len(parts):
            missing = ", ".join(part for part in parts if part not in given)
            raise InputError("frames", f"must hold all of {', '.join(parts)}; missing: {missing}")
        if name in given:
            raise InputError("frames", f"must hold either {name} or {', '.join(parts)}, not both")
        joined = np.stack([np.asarray(given.pop(part)) for part in parts], axis=1)
        given[name] = joined.reshape(-1, 3, 3) if name == "orientation" else joined
    return given


def _clean(name: str, values) -> np.ndarray:
    dtype, shape = COLUMNS[name]
    ragged = shape[:1] == (None,)
    try:
        array = _pad(name, values, shape[1:]) if ragged else _numeric(values)
        if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
            raise ValueError
    except InputError:
        raise
    except (TypeError, ValueError):
        raise InputError(f"frames.{name}", "must be numbers, of one shape in every frame") from None
    if shape == (3, 3) and array.ndim == 2 and array.shape[1] == 9:
        array = array.reshape(-1, 3, 3)
    if name == "spectrum":
        _check_spectra(array)
    elif ragged:
        pass  # _check_lattices looks at all of their columns together
    elif array.ndim == 0 or array.shape[1:] != shape:
        raise InputError(f"frames.{name}", f"must have shape {('frames', *shape)}", array.shape)
    elif not np.isfinite(array).all():
        bad = int(np.argwhere(~np.isfinite(array))[0, 0])
        raise InputError(f"frames.{name}", f"must be finite numbers; frame {bad} is not")
    whole = np.issubdtype(dtype, np.integer)
    if whole and array.size:
        lowest, highest = (0, 2**64) if dtype is np.uint64 else (-(2**63), 2**63)
        broken = array.dtype.kind == "f" and not np.array_equal(array, np.rint(array))
        if broken or int(array.min()) < lowest or int(array.max()) >= highest:
            raise InputError(f"frames.{name}", f"must be whole numbers from {lowest} to {highest - 1}")
    clean: np.ndarray = np.ascontiguousarray(array.astype(dtype))
    clean.flags.writeable = False
    return clean


def _numeric(values) -> np.ndarray:
    """An array of numbers; whole numbers stay whole, even those of 64 bits without a sign."""
    if not isinstance(values, np.ndarray):
        values = list(values)
        if all(isinstance(one, (int, np.integer)) and one >= 0 for one in values) and values:
            return np.array([int(one) for one in values], dtype=np.uint64)
    return np.array(values)


#: What the rows of columns are whose frames may have different numbers of them.
_ROWS = {
    "spectrum": "rows of wavelength (angstrom) and weight in every frame",
    "lattice_orientation": "rotation matrices (3 x 3) in every frame",
    "lattice_weight": "a list of numbers in every frame",
    "lattice_cell": "cells of 6 numbers in every frame",
}


def _pad(name: str, values, shape: tuple[int, ...]) -> np.ndarray:
    """Rows of ``shape``, more in some frames than in others, as one array; NaN fills up the short ones."""
    frames = [np.asarray(one, dtype=np.float64) for one in values]
    # A frame may be without a lattice; a list without anything in it has no shape.
    frames = [one.reshape(0, *shape) if not one.size and name in _OF_LATTICES else one for one in frames]
    if any(one.ndim != len(shape) + 1 or one.shape[1:] != shape for one in frames) or (
        name == "spectrum" and any(not len(one) for one in frames)
    ):
        raise InputError(f"frames.{name}", f"must be {_ROWS[name]}")
    out = np.full((len(frames), max((len(one) for one in frames), default=1) or 1, *shape), np.nan)
    for row, one in zip(out, frames, strict=True):
        row[: len(one)] = one
    return out


def _columns_of_lattices(given: dict) -> dict:
    """The columns that a list of dicts for each frame, one dict a lattice, stands for."""
    frames = given.pop("lattices")
    clash = [name for name in _OF_LATTICES if name in given]
    if clash:
        raise InputError("frames", f"must hold either lattices or {clash[0]}, not both")
    if isinstance(frames, (str, bytes, Mapping)) or not isinstance(frames, Iterable):
        raise InputError("frames.lattices", "must be a list of lattices for each frame", frames)
    listed = list(frames)
    for index, frame in enumerate(listed):
        if not isinstance(frame, (list, tuple)) or not all(isinstance(one, Mapping) for one in frame):
            hint = "dicts of orientation or quaternion, weight and cell; an empty list: no crystal is hit"
            raise InputError(f"frames[{index}].lattices", "must be a list of lattices", frame, hint)
    rows = [dict(one) for frame in listed for one in frame]
    for row in rows:
        if "quaternion" in row:
            if "orientation" in row:
                raise InputError("frames.lattices", "must hold either orientation or quaternion, not both")
            row["orientation"] = rotation_of_quaternion([row.pop("quaternion")])[0]
        for name in row:
            if name not in _OF_LATTICES.values():
                near = difflib.get_close_matches(str(name), [*_OF_LATTICES.values(), "quaternion"], n=1)
                hint = f"did you mean {near[0]}?" if near else "orientation or quaternion, weight, cell"
                raise InputError(f"frames.lattices: {name}", "is not known of a lattice", hint=hint)
    places = np.cumsum([0, *(len(frame) for frame in listed)])
    columns = {}
    for column, name in _OF_LATTICES.items():
        have = [name in row for row in rows]
        if any(have) or column == "lattice_orientation":
            if not all(have) and name != "weight":
                raise InputError("frames.lattices", f"must all have {name}, or none of them", have.index(False))
            values = [row.get(name, 1.0) for row in rows]
            columns[column] = [values[a:b] for a, b in zip(places, places[1:], strict=False)]
    return columns


def _check_lattices(columns: Mapping[str, np.ndarray]) -> None:
    """Refuse columns of lattices that do not fit each other, or of which a number is none that a lattice can have."""
    turns = columns.get("lattice_orientation")
    if turns is None:
        raise InputError("frames", "must hold lattice_orientation beside the other columns of lattices")
    there = ~np.isnan(turns).all(axis=(2, 3))
    # NaN fills up a frame's list at its end.
    if (there[:, 1:] & ~there[:, :-1]).any():
        raise InputError("frames.lattice_orientation", "must have a frame's lattices first and NaN after them")
    for name in _OF_LATTICES:
        if name not in columns:
            continue
        values = columns[name]
        flat = values.reshape(*values.shape[:2], -1)
        if values.shape[1] != there.shape[1] or (np.isfinite(flat).all(axis=2) != there).any():
            raise InputError(f"frames.{name}", "must have finite numbers for each lattice of a frame, and no others")
        if (~np.isnan(flat).all(axis=2) & ~there).any():
            raise InputError(f"frames.{name}", "must have NaN where a frame has no further lattice")
    found = turns[there]
    off = np.abs(found @ found.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2)) > 1e-6
    off |= np.linalg.det(found) < 0.0
    if off.any():
        frame = int(np.argwhere(there)[np.flatnonzero(off)[0], 0])
        rule = "must be rotation matrices (orthonormal, determinant +1)"
        raise InputError("frames.lattice_orientation", f"{rule}; frame {frame} has another")
    weights = columns.get("lattice_weight")
    if weights is not None and ((weights[there] < 0.0) | (weights[there] > 1e6)).any():
        raise InputError("frames.lattice_weight", "must be at least 0 and at most 1e6", weights[there].tolist())
    cells = columns.get("lattice_cell")
    if cells is not None:
        # Each cell once: crystals of a table often have one.
        listed, first = np.unique(cells[there], axis=0, return_index=True)
        for cell, place in zip(listed.tolist(), first.tolist(), strict=True):
            try:
                Crystal(cell=tuple(cell))
            except InputError as error:
                frame = int(np.argwhere(there)[place, 0])
                raise InputError(f"frames[{frame}].lattice_cell:", str(error)) from None


def _check_spectra(array: np.ndarray) -> None:
    # A row of NaN is padding; half a row is not.
    padding = np.isnan(array).any(axis=2)
    if (np.isnan(array).all(axis=2) != padding).any() or padding.all(axis=1).any() or np.isinf(array).any():
        raise InputError("frames.spectrum", "must hold finite wavelengths and weights")
    weights = np.where(padding, 0.0, array[..., 1])
    if (weights < 0).any() or not (weights.sum(axis=1) > 0).all():
        raise InputError("frames.spectrum", "must have weights of at least 0, not all of them 0")


def _unpacked(name: str, values):
    if isinstance(values, dict) and "zlib_base64" in values:
        return unpack_array(f"frames.{name}", values)
    return values


def _from_rows(rows: Iterable[Mapping]) -> dict[str, list]:
    columns: dict[str, list] = {}
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InputError(f"frames[{index}]", "must be a dict of column and value", row)
        if index == 0:
            columns = {name: [] for name in row}
        if row.keys() != columns.keys():
            odd = sorted(row.keys() ^ columns.keys())
            raise InputError(f"frames[{index}]", f"must have the columns of the first frame; differs in {odd}")
        for name, value in row.items():
            columns[name].append(value)
    return columns


def _read_csv(path) -> dict[str, np.ndarray | list[int]]:
    name = os.fspath(path)
    try:
        rows = csv.reader(io.StringIO(read_text(path)))
        lines = [line for line in rows if line and not line[0].lstrip().startswith("#")]
    except csv.Error as error:
        raise InputError(name, f"cannot be read: {error}") from None
    if len(lines) < 2:
        raise InputError(name, "must hold a line of column names and at least one frame")
    names = [word.strip() for word in lines[0]]
    if len(set(names)) != len(names):
        raise InputError(name, "must name every column once", names)
    for number, line in enumerate(lines[1:], start=1):
        if len(line) != len(names):
            raise InputError(name, f"must have {len(names)} values in frame {number}", len(line))
    columns: dict[str, np.ndarray | list[int]] = {}
    for place, column in enumerate(names):
        words = [line[place].strip() for line in lines[1:]]
        whole = COLUMNS.get(column, (float, ()))[0] in (np.int64, np.uint64) or column in SPLIT_COLUMNS["cell_counts"]
        columns[column] = _numbers(name, column, words, whole=whole)
    return columns


def _numbers(path: str, column: str, words: list[str], *, whole: bool) -> np.ndarray | list[int]:
    for number, word in enumerate(words, start=1):
        try:
            int(word) if whole else float(word)
        except ValueError:
            kind = "a whole number" if whole else "a number"
            raise InputError(f"{path}, frame {number}, {column}", f"must be {kind}", word) from None
    # int first: a seed of 64 bits does not fit a float.
    return [int(word) for word in words] if whole else np.array(words, dtype=np.float64)


def _near(name: str) -> str:
    known = [*COLUMNS, "quaternion", "lattices"]
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
