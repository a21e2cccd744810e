"""The truth beside the images: a table of frames, one row each, and their spots."""

from __future__ import annotations

from typing import Any

import numpy as np

from bragg_numba.io.attributes import set_attributes
from bragg_numba.io.compression import Codec
from bragg_numba.plan.plan import Plan
from bragg_numba.predict.spots import SPOT
from bragg_numba.series.mcstas import beam_center_px

#: One frame. Matrices are in the laboratory frame of the experiment's convention; of a frame with several lattices they
#: are those of the first, and NaN where there is none.
FRAME = np.dtype(
    [
        ("frame", np.int64),
        ("orientation", np.float64, (3, 3)),
        ("reciprocal_per_A", np.float64, (3, 3)),
        ("cell", np.float64, (6,)),
        ("phi_deg", np.float64),
        ("osc_deg", np.float64),
        ("wavelength_A", np.float64),
        ("fluence_per_m2", np.float64),
        ("cell_counts", np.int64, (3,)),
        ("beam_center_px", np.float64, (2,)),
        ("dose_MGy", np.float64),
        ("noise_seed", np.uint64),
        ("overloads", np.int64),
        ("max_photons", np.float64),
        ("sum_photons", np.float64),
        ("engine", "S6"),
        ("truth", "S9"),
        ("first_spot", np.int64),
        ("spots", np.int64),
        ("lattices", np.int64),
    ]
)

#: One lattice of a frame, in series whose frames have several or none; as ``FRAME`` says it of the first.
LATTICE = np.dtype(
    [
        ("frame", np.int64),
        ("lattice", np.int32),
        ("weight", np.float64),
        ("orientation", np.float64, (3, 3)),
        ("reciprocal_per_A", np.float64, (3, 3)),
        ("cell", np.float64, (6,)),
        ("cell_counts", np.int64, (3,)),
    ]
)

#: Units of the columns of all tables.
UNITS = {
    "slow": "pixel",
    "fast": "pixel",
    "photons": "photons",
    "resolution_A": "angstrom",
    "excitation_error_per_A": "1/angstrom",
    "reciprocal_per_A": "1/angstrom",
    "phi_deg": "deg",
    "osc_deg": "deg",
    "wavelength_A": "angstrom",
    "fluence_per_m2": "1/m^2",
    "beam_center_px": "pixel",
    "dose_MGy": "MGy",
}


def frame_record(plan: Plan, frame: int) -> np.ndarray:
    """One row of the table of frames: what is known before the frame is rendered."""
    experiment = plan.experiment
    record = np.zeros((), dtype=FRAME)
    record["frame"] = frame
    record["lattices"] = 1 if plan.lattices is None else len(plan.lattices)
    _say_crystal(record, plan if not plan.lattices else plan.lattices[0])
    if plan.lattices == ():
        record["orientation"] = record["reciprocal_per_A"] = np.nan
    record["phi_deg"] = experiment.rotation.phi_deg
    record["osc_deg"] = np.degrees(plan.phi.range)
    record["wavelength_A"] = mean_wavelength(plan)
    record["fluence_per_m2"] = experiment.beam.photons_per_m2
    record["beam_center_px"] = beam_center_px(plan.detector)
    record["dose_MGy"] = 0.0 if experiment.damage is None else experiment.damage.dose_MGy
    return record


def lattice_records(plan: Plan, frame: int) -> np.ndarray | None:
    """The rows of the table of lattices that are a frame's; None where the experiment has no lattices."""
    lattices = plan.experiment.lattices
    if plan.lattices is None or lattices is None:
        return None
    records = np.zeros(len(plan.lattices), dtype=LATTICE)
    for number, (record, one) in enumerate(zip(records, plan.lattices, strict=True)):
        record["frame"], record["lattice"] = frame, number
        record["weight"] = lattices[number].weight
        _say_crystal(record, one)
    return records


def _say_crystal(record, plan: Plan) -> None:
    """Fill in what a row says of one crystal."""
    cell = plan.cell
    record["orientation"] = orientation_matrix(plan)
    # The inverse of what is rendered: under fidelity nanobragg the set-up's reciprocal vectors of a skewed cell
    # are not quite those of its real ones.
    record["reciprocal_per_A"] = np.linalg.inv([cell.a, cell.b, cell.c])
    record["cell"] = (*cell.lengths_A, *cell.angles_deg)
    record["cell_counts"] = plan.cell_counts


def mean_wavelength(plan: Plan) -> float:
    """Weighted mean of the sources' wavelengths, angstrom."""
    return plan.sources.mean_wavelength_A


def orientation_matrix(plan: Plan) -> np.ndarray:
    """U of U B at phi = 0: the rotation from the standard setting (a* along x, b* in the x-y plane) to the lab."""
    stars = np.linalg.inv([plan.cell.a, plan.cell.b, plan.cell.c])
    # B is upper triangular with a positive diagonal: the QR decomposition, up to signs.
    u, b = np.linalg.qr(stars)
    return u * np.sign(np.diag(b))


#: Rows of the two tables that are kept before they are written: few calls of HDF5 where frames are small, in bounded
#: memory. Spots are not packed: that took as long as all else of small frames, for a third of what are few bytes.
FRAMES_KEPT, SPOTS_KEPT = 4096, 2**18

#: What the columns of the table of spots are, in each way to get them.
MEANING = (
    "photons, slow, fast: where frames say truth = summed, of the rendered pixels; predicted: of the whole spot, from "
    "integrals; partiality: photons over those of the whole spot with every step on the Ewald sphere"
)


class TruthWriter:
    """A file's tables of frames, lattices and spots, written in few pieces; whole after ``finish``."""

    def __init__(self, file, frames: int, *, spots: bool, lattices: bool = False) -> None:
        group = file.create_group("/entry/truth")
        units = ", ".join(f"{name}: {unit}" for name, unit in UNITS.items())
        set_attributes(group, NX_class="NXcollection", units=units)
        self._group = group
        self._frames = group.create_dataset("frames", (frames,), FRAME)
        self._rows = np.zeros(min(frames, FRAMES_KEPT), dtype=FRAME)
        self._start = self._stop = 0  # of the rows that are kept
        self._with_spots = spots
        self._spots: Any = None  # a dataset, from when something is written
        self._lists: list[np.ndarray] = []
        self._written = self._kept = 0  # spots
        self._lattices: list[np.ndarray] | None = [] if lattices else None

    def append(
        self, place: int, record: np.ndarray, spots: np.ndarray | None, lattices: np.ndarray | None = None
    ) -> None:
        """Add one frame's row, its lattices and its spots; frames come in their order."""
        if self._lattices is not None and lattices is not None:
            self._lattices.append(lattices)
        if self._with_spots and spots is not None:
            record["first_spot"], record["spots"] = self._written + self._kept, len(spots)
            self._lists.append(spots)
            self._kept += len(spots)
            if self._kept >= SPOTS_KEPT:
                self._extend_spots()
        if place - self._start >= len(self._rows):
            self._write_frames()
        row = self._rows[place - self._start]
        for name in record.dtype.names or ():  # a table that an earlier version wrote has fewer columns
            row[name] = record[name]
        self._stop = place + 1

    def finish(self) -> None:
        """Write what is still kept."""
        self._write_frames()
        if self._spots is not None:
            self._extend_spots()
        elif self._with_spots:
            spots = self._take_spots()
            self._spots = self._group.create_dataset("spots", data=spots)
        if self._spots is not None:
            set_attributes(self._spots, meaning=MEANING)
        if self._lattices is not None:
            rows = np.concatenate(self._lattices) if self._lattices else np.zeros(0, LATTICE)
            self._group.create_dataset("lattices", data=rows)

    def _write_frames(self) -> None:
        self._frames[self._start : self._stop] = self._rows[: self._stop - self._start]
        self._start = self._stop

    def _extend_spots(self) -> None:
        """Write spots of which more may follow."""
        if self._spots is None:
            self._spots = self._group.create_dataset("spots", (0,), SPOT, maxshape=(None,), chunks=(4096,))
        spots = self._take_spots()
        self._spots.resize((self._written,))
        self._spots[self._written - len(spots) :] = spots

    def _take_spots(self) -> np.ndarray:
        spots = np.concatenate(self._lists) if self._lists else np.zeros(0, SPOT)
        self._written, self._kept, self._lists = self._written + len(spots), 0, []
        return spots


#: Label images, with units and what they are.
LABELS = {
    "spot": ("", "row among the frame's spots that brings most photons; -1: none, or none of the table"),
    "wavelength_A": ("angstrom", "mean wavelength of the Bragg photons; NaN: none"),
    "h": ("", "mean index h of the Bragg photons' reflections; NaN: none"),
    "k": ("", "mean index k of the Bragg photons' reflections; NaN: none"),
    "l": ("", "mean index l of the Bragg photons' reflections; NaN: none"),
}


class LabelWriter:
    """The label images of one file, (frame, slow, fast)."""

    def __init__(self, file, frames: int, shape: tuple[int, int], codec: Codec) -> None:
        group = file["/entry/truth"].create_group("labels")
        set_attributes(group, NX_class="NXcollection")
        self._images = {}
        for name, (unit, meaning) in LABELS.items():
            dtype = np.int32 if name == "spot" else np.float32
            filter_of = codec.dataset_options()
            image = group.create_dataset(name, (frames, *shape), dtype, chunks=(1, *shape), **filter_of)
            set_attributes(image, meaning=meaning, **({"units": unit} if unit else {}))
            self._images[name] = image

    def write(self, place: int, images: dict[str, np.ndarray]) -> None:
        """Write one frame's images."""
        for name, image in images.items():
            self._images[name][place] = image
