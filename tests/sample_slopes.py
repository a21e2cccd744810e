"""Experiments whose slopes GPUs are tried on, and how near these must be to the CPU's, for tests."""

from __future__ import annotations

import numpy as np

from bragg_numba import Beam, Crystal, Detector, Experiment, Sampling, StructureFactors

#: All that a crystal, a beam and a flat detector without a sensor have.
NAMES = (
    "crystal.cell, crystal.misset_deg[1], crystal.turn_deg, crystal.cell_counts, crystal.mosaic_spread_deg, "
    "beam.wavelength_A, beam.polarization, beam.fluence_per_m2, detector.distance_mm, detector.beam_x_mm, "
    "detector.rotation_deg, detector.twotheta_deg, scale"
)


def curved_names() -> str:
    """Those of NAMES that a curved detector has."""
    return ", ".join(name for name in NAMES.split(", ") if not name.startswith("detector"))


def an_experiment(shape="square", fidelity="physical", crystal=None, detector=None, beam=None, **parts) -> Experiment:
    """A triclinic crystal's peak and fringes on a tilted detector of few pixels."""
    crystal = {
        "cell": (60, 70, 80, 85, 95, 100),
        "cell_counts": (5, 6, 7),
        "misset_deg": (10, 20, 30),
        "mosaic_spread_deg": 1.0,
        "mosaic_domains": 3,
        **(crystal or {}),
    }
    place = {"n_fast": 7, "n_slow": 5, "pixel_mm": 0.4, "distance_mm": 60.0, "rotation_deg": (3, 5, 7)}
    place |= {"twotheta_deg": 10, "beam_x_mm": 1.3, "beam_y_mm": 1.1, **(detector or {})}
    return Experiment(
        beam=Beam(**{"wavelength_A": 1.0, "fluence_per_m2": 1e28, "polarization": 0.7, **(beam or {})}),
        crystal=Crystal(shape=shape, **crystal),
        detector=Detector(**place),
        structure_factors=parts.pop("structure_factors", StructureFactors(default_F=100)),
        sampling=parts.pop("sampling", Sampling(oversample=1, interpolate=False)),
        fidelity=fidelity,
        **parts,
    )


def a_table() -> StructureFactors:
    """Structure factors of most reflections that a frame reaches."""
    grid = np.stack(np.meshgrid(*[np.arange(-12, 13)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[grid.sum(axis=1) % 5 != 0]
    h, k, l = grid.T  # noqa: E741
    return StructureFactors(indices=grid, amplitudes=50 + 20 * np.sin(h) + 10 * np.cos(k + 2 * l), default_F=20.0)


def assert_near(image, expected, precision: str = "float64") -> None:
    """Within the bound of float32 (docs/physics.md, section 13); in float64 within what orders of operations leave."""
    size = np.abs(expected)
    assert size.max() > 0
    of_itself, of_largest = (1e-5, 1e-6) if precision == "tile" else (1e-9, 1e-11)
    worst = np.abs(image - expected) - (of_itself * size + of_largest * size.max())
    assert worst.max() <= 0, (worst.max() / size.max(), np.unravel_index(worst.argmax(), worst.shape))
