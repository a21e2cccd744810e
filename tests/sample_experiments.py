"""Experiments with something in every part, for tests of what carries them."""

from __future__ import annotations

import numpy as np

from bragg_numba import Beam, Crystal, Detector, Experiment, Rotation, Sampling, StructureFactors

CELL = (70, 80, 90, 75, 85, 95)


def rich_experiment() -> Experiment:
    """Something in every part, arrays and a mask included."""
    rng = np.random.default_rng(5)
    mask = rng.random((20, 24)) > 0.2
    return Experiment(
        beam=Beam(wavelength_A=1.5, fluence_per_m2=1e26, polarization=0.9, dispersion_percent=1, dispersion_steps=2),
        crystal=Crystal(
            cell=CELL, misset_deg=(10, 20, 30), cell_counts=(4, 5, 6), mosaic_spread_deg=0.3, mosaic_domains=2
        ),
        detector=Detector(
            n_fast=24, n_slow=20, pixel_mm=2, distance_mm=90, convention="xds", twotheta_deg=5, mask=mask
        ),
        rotation=Rotation(phi_deg=1, osc_deg=0.5, phi_steps=2),
        sampling=Sampling(oversample=2, roi=(1, 22, 2, 18), dmin_A=1.6),
        structure_factors=StructureFactors(
            default_F=3, indices=rng.integers(-9, 9, (200, 3)), amplitudes=rng.random(200) * 100
        ),
    )


#: The command line of ``same_in_python``.
LINE = (
    "-cell 70 80 90 75 85 95 -default_F 100 -Na 4 -Nb 5 -Nc 6 -lambda 1.5 -misset 10 20 30 -distance 90 "
    "-detpixels_f 24 -detpixels_s 20 -pixel 2 -xds -mosaic 0.3 -mosaic_dom 3 -phi 1 -osc 0.5 -phisteps 2 -polar 0.9 "
    "-oversample 2 -dispersion 1 -dispsteps 2 -fluence 1e26 -detector_rotx 4"
)


def same_in_python() -> Experiment:
    return Experiment(
        beam=Beam(wavelength_A=1.5, polarization=0.9, fluence_per_m2=1e26, dispersion_percent=1, dispersion_steps=2),
        crystal=Crystal(
            cell=CELL, misset_deg=(10, 20, 30), cell_counts=(4, 5, 6), mosaic_spread_deg=0.3, mosaic_domains=3
        ),
        detector=Detector(n_fast=24, n_slow=20, pixel_mm=2, distance_mm=90, convention="xds", rotation_deg=(4, 0, 0)),
        rotation=Rotation(phi_deg=1, osc_deg=0.5, phi_steps=2),
        sampling=Sampling(oversample=2),
        structure_factors=StructureFactors(default_F=100),
    )
