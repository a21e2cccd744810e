"""The truth beside the images: a table of frames, one row each, and their spots."""

from __future__ import annotations

import numpy as np

from bragg_numba.io.attributes import set_attributes
from bragg_numba.plan.plan import Plan
from bragg_numba.predict.spots import SPOT
from bragg_numba.series.mcstas import mcstas_geometry

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
        ("noise_seed", np.uint64),
        ("overloads", np.int64),
        ("max_photons", np.float64),
        ("sum_photons", np.float64),
        ("engine", "S6"),
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
    record["beam_center_px"] = mcstas_geometry(experiment, plan.detector).beam_center_px
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
    return float(np.average(plan.sources.wavelength, weights=plan.sources.weight)) * 1e10


def orientation_matrix(plan: Plan) -> np.ndarray:
    """U of U B at phi = 0: the rotation from the standard setting (a* along x, b* in the x-y plane) to the lab."""
    stars = np.linalg.inv([plan.cell.a, plan.cell.b, plan.cell.c])
    # B is upper triangular with a positive diagonal: the QR decomposition, up to signs.
    u, b = np.linalg.qr(stars)
    return u * np.sign(np.diag(b))


class TruthWriter:
    """The tables of frames, of their lattices and of their spots, in one file."""

    def __init__(self, file, frames: int, *, spots: bool, lattices: bool = False) -> None:
        group = file.create_group("/entry/truth")
        units = ", ".join(f"{name}: {unit}" for name, unit in UNITS.items())
        set_attributes(group, NX_class="NXcollection", units=units)
        self._frames = group.create_dataset("frames", (frames,), FRAME)
        self._spots = self._lattices = None
        if spots:
            self._spots = group.create_dataset(
                "spots", (0,), SPOT, maxshape=(None,), chunks=(4096,), compression="gzip", compression_opts=1
            )
        if lattices:
            self._lattices = group.create_dataset("lattices", (0,), LATTICE, maxshape=(None,), chunks=(1024,))

    def append(
        self, place: int, record: np.ndarray, spots: np.ndarray | None, lattices: np.ndarray | None = None
    ) -> None:
        """Write one frame's row, its lattices and its spots."""
        if self._spots is not None and spots is not None:
            record["first_spot"], record["spots"] = len(self._spots), len(spots)
            _extend(self._spots, spots)
        if self._lattices is not None and lattices is not None:
            _extend(self._lattices, lattices)
        self._frames[place] = record


def _extend(table, rows: np.ndarray) -> None:
    if len(rows):
        first = len(table)
        table.resize((first + len(rows),))
        table[first:] = rows
