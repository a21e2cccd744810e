"""Structure factors as a dense table with a border (docs/physics.md, section 6)."""

from __future__ import annotations

import numpy as np

from bragg_numba.experiment import StructureFactors
from bragg_numba.memory import require


def dense_table(factors: StructureFactors, max_memory: int | None) -> tuple[tuple[int, int, int], np.ndarray]:
    """Return the first index per axis and F as float64 (h, k, l), with a border of one cell.

    Cells that no reflection names, and the border, hold ``default_F``.

    Raises
    ------
    InputError
        If the table would take more memory than allowed.
    """
    if factors.indices is None or factors.amplitudes is None:
        return (0, 0, 0), np.full((1, 1, 1), factors.default_F)
    shape = tuple(n + 2 for n in factors.table_shape)
    cells = shape[0] * shape[1] * shape[2]
    # float64 for exact work and float32 squares for the fast kernels
    require(
        "the structure factor table",
        12 * cells,
        max_memory,
        f"its indices span {shape[0] - 2} x {shape[1] - 2} x {shape[2] - 2} cells; is one of them wrong?",
    )
    table = np.full(shape, factors.default_F)
    return fill_table(factors, factors.amplitudes, table), table


def fill_table(factors: StructureFactors, values: np.ndarray, table: np.ndarray) -> tuple[int, int, int]:
    """Put a value of each reflection into a table with a border of one cell; return the first index per axis."""
    assert factors.indices is not None
    first = factors.indices.min(axis=0).astype(np.int64) - 1
    # Column by column, so that of many millions no copy of all three is made.
    flat = np.zeros(len(factors.indices), dtype=np.int64)
    for axis in range(3):
        flat *= table.shape[axis]
        flat += factors.indices[:, axis]
        flat -= first[axis]
    cells_of = table.reshape(-1)
    cells_of[flat] = values
    if not np.array_equal(cells_of[flat], values):
        # Of a reflection listed twice the last value counts; numpy's assignment does not promise that.
        _, last = np.unique(flat[::-1], return_index=True)
        keep = len(flat) - 1 - last
        cells_of[flat[keep]] = values[keep]
    return int(first[0]), int(first[1]), int(first[2])
