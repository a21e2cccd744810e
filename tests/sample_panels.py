"""Detectors made of panels, for tests."""

from __future__ import annotations

import numpy as np

from bragg_numba import Crystal, Detector, Experiment, Panel, Sampling, StructureFactors


def crooked(seed: int = 3, **fields) -> Detector:
    """Four panels as no factory makes them: oblong pixels, skewed axes, tilted, gaps in rows and columns."""
    rng = np.random.default_rng(seed)
    panels = []
    for number, (row, column) in enumerate(((0, 0), (0, 75), (43, 3), (45, 71))):
        fast = np.array([1.0, 0.0, 0.0]) + 0.08 * rng.normal(size=3)
        slow = np.array([0.0, -1.0, 0.0]) + 0.15 * rng.normal(size=3)
        panels.append(
            Panel(
                n_fast=(70, 37, 65, 40)[number],
                n_slow=(41, 33, 26, 19)[number],
                origin_mm=(-14.0 + 0.2 * column, 9.0 - 0.25 * row, 60.0 + rng.normal()),
                fast=tuple(fast * (0.5 + number)),
                slow=tuple(slow),
                pixel_mm=((0.2, 0.26), (0.25, 0.2), (0.17, 0.24), (0.2, 0.2))[number],
                first_row=row,
                first_column=column,
            )
        )
    return Detector(panels=panels, convention="adxv", **fields)


def lit(detector: Detector, **parts) -> Experiment:
    """A crystal before a detector; every pixel gets photons."""
    parts = {
        "crystal": Crystal(cell=(70, 80, 90, 90, 95, 90), misset_deg=(10, 20, 30), cell_counts=(3, 4, 5)),
        "structure_factors": StructureFactors(default_F=100),
        "sampling": Sampling(oversample=1),
        **parts,
    }
    return Experiment(detector=detector, **parts)


def corner_and_steps(panel: Panel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Corner of a panel, and the steps from a pixel to the next along fast and slow, metres."""
    steps = [
        0.001 * pitch * np.array(vector) / np.linalg.norm(vector)
        for pitch, vector in zip(panel.pixel_mm, (panel.fast, panel.slow), strict=True)
    ]
    return 0.001 * np.array(panel.origin_mm), *steps


def window(panel: Panel):
    """A panel's rectangle of the image."""
    return np.s_[
        panel.first_row : panel.first_row + panel.n_slow, panel.first_column : panel.first_column + panel.n_fast
    ]
