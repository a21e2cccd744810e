"""What a dose makes of the cell and of the table of structure factors (eq. 54)."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from bragg_numba.experiment.damage import Damage
from bragg_numba.experiment.placing import PlacedDetector
from bragg_numba.experiment.vectors import scale
from bragg_numba.memory import require
from bragg_numba.plan.cell import Cell
from bragg_numba.plan.sources import Sources
from bragg_numba.plan.transmission import corners_of

#: Steps along each edge of a panel in the search for the longest scattering vector; a bit more is taken, to be sure.
STEPS_OF_EDGE, MORE = 16, 1.02

#: Length of q lambda beyond which edges of a detector no longer bound what lies inside.
WIDE = 1.2


def drifted(cell: Cell, damage: Damage | None) -> Cell:
    """The cell with the edges that it has at a dose; its angles and directions stay."""
    if damage is None or damage.cell_growth == (1.0, 1.0, 1.0):
        return cell
    a, b, c = damage.cell_growth
    return dataclasses.replace(
        cell,
        a=scale(cell.a, a),
        b=scale(cell.b, b),
        c=scale(cell.c, c),
        a_star=scale(cell.a_star, 1.0 / a),
        b_star=scale(cell.b_star, 1.0 / b),
        c_star=scale(cell.c_star, 1.0 / c),
        volume_A3=cell.volume_A3 * a * b * c,
    )


def faded_table(
    first: tuple[int, int, int],
    table: np.ndarray,
    default_F: float,
    damage: Damage,
    cell: Cell,
    longest_per_A: float,
    max_memory: int | None,
) -> tuple[tuple[int, int, int], np.ndarray]:
    """A table of structure factors with what a dose leaves of each (eq. 54): first index per axis, and F.

    Parameters
    ----------
    first, table, default_F
        As ``plan.table.dense_table`` has them. Where reflections beside the table have an F, the table that is
        returned reaches as far as the detector does, for each of them fades by its own spacing.
    cell
        Whose spacings count.
    longest_per_A
        Scattering vectors on the detector are no longer than this, 1/angstrom.

    Raises
    ------
    InputError
        If the table would take more memory than allowed.
    """
    if default_F != 0.0:
        most = [math.ceil(longest_per_A * edge) + 2 for edge in cell.lengths_A]
        start = [min(low, -far) for low, far in zip(first, most, strict=True)]
        stop = [max(low + n, far + 1) for low, n, far in zip(first, table.shape, most, strict=True)]
        shape = tuple(high - low for low, high in zip(start, stop, strict=True))
        if shape != table.shape:
            cells = math.prod(shape)
            hint = f"{shape[0]} x {shape[1]} x {shape[2]} reflections fade each by its own spacing"
            require("the structure factor table", 32 * cells, max_memory, hint)
            whole = np.full(shape, default_F)
            place = tuple(
                slice(low - begin, low - begin + n) for low, begin, n in zip(first, start, table.shape, strict=True)
            )
            whole[place] = table
            first, table = (start[0], start[1], start[2]), whole
    h, k, l = (np.arange(low, low + n) for low, n in zip(first, table.shape, strict=True))  # noqa: E741
    stars = np.array([cell.a_star, cell.b_star, cell.c_star])
    metric = stars @ stars.T
    squared = (metric[0, 0] * h * h)[:, None, None] + (metric[1, 1] * k * k)[:, None] + metric[2, 2] * l * l
    squared += 2.0 * ((metric[0, 1] * np.outer(h, k))[:, :, None] + (metric[0, 2] * np.outer(h, l))[:, None, :])
    squared += 2.0 * metric[1, 2] * np.outer(k, l)
    with np.errstate(divide="ignore"):
        spacing = 1.0 / np.sqrt(np.maximum(squared, 0.0))
    return first, table * np.sqrt(damage.intensity_left(spacing))


def longest_scattering_per_A(detector: PlacedDetector, sources: Sources, *, curved: bool) -> float:
    """A length, 1/angstrom, that scattering vectors on a detector do not exceed."""
    part = np.linspace(0.0, 1.0, STEPS_OF_EDGE + 1)[:, None]
    directions = np.unique(sources.incident, axis=0)
    longest = 2.0 if curved else 0.0
    for panel in () if curved else detector.panels:
        first, across, down, far = corners_of(panel)
        edges = ((first, across), (first, down), (across, far), (down, far))
        points = np.vstack([start + part * (stop - start) for start, stop in edges])
        rays = points / np.linalg.norm(points, axis=1, keepdims=True)
        nearest = min(float((rays @ direction).min()) for direction in directions)
        longest = max(longest, math.sqrt(max(2.0 - 2.0 * nearest, 0.0)))
    longest = 2.0 if longest > WIDE else longest * MORE
    return longest / (float(sources.wavelength.min()) * 1e10)
