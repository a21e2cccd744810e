"""Lists of unique reflections, expanded by the operations of their space group to the whole sphere of P1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.space_groups import SpaceGroup
from bragg_numba.memory import require

__all__ = ["MOST", "Reflections", "Sphere", "expand", "inverse_squares", "metric_of"]

#: Largest index of a reflection, of whatever file.
MOST = 1_000_000

#: Part by which 1/d^2 of a reflection may be beyond the finest of the list: rounding of a cell, no more.
_RIM = 1e-6

#: What stands for the number of a reflection where the space group extinguishes it.
_EXTINCT = -2


@dataclass(frozen=True, slots=True, kw_only=True)
class Reflections:
    """What a file says of reflections: one value a row, or one of h and one of -h."""

    indices: np.ndarray  #: int32 (n, 3)
    values: np.ndarray  #: float64 (n,); NaN where there is none
    mates: np.ndarray | None = None  #: float64 (n,): of -h, where the file keeps Friedel mates apart
    intensities: bool = False  #: whether the values are those, and not amplitudes
    labels: tuple[str, ...]  #: columns of the file
    cell: tuple[float, ...]  #: a, b, c (angstrom), alpha, beta, gamma (degrees)
    group: SpaceGroup
    wavelength_A: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sphere:
    """Amplitudes of every reflection of P1 that a list tells of, each once, in the order of h, k, l."""

    indices: np.ndarray  #: int32 (n, 3)
    amplitudes: np.ndarray  #: float64 (n,); 0 where the space group extinguishes, listed or not
    counts: dict[str, int]  #: what the list held that deserves a word


def expand(listed: Reflections, max_memory: int | None = None) -> Sphere:
    """Return all images of the reflections of a list, their Friedel mates, and the extinct reflections as zeros.

    Friedel mates that a list keeps apart, in columns or in rows of their own, stay apart; where it has only one of the
    two, the other gets its value. Rows that are images of each other count as one reflection with their mean. The
    amplitude of an intensity is its root, of a negative one (and of a negative amplitude) 0.

    Raises
    ------
    InputError
        If no row has a value, an index is beyond ``MOST``, or the table would take too much memory.
    """
    indices, values, rows_of_value = _values_by_reflection(listed)
    group = listed.group
    counts = {
        "rows": len(listed.indices),
        "not_a_number": len(listed.indices) - len(rows_of_value),
        "duplicate": len(rows_of_value) - len(np.unique(_representatives(rows_of_value, group))),
        "negative": int(np.count_nonzero(values < 0.0)),
    }
    if not len(values):
        raise InputError("the reflections", f"must have a value of {', '.join(listed.labels)} in at least one row")
    unique, values, counts["conflicting"] = _merge(indices, values, group)
    amplitudes = np.maximum(values, 0.0)
    if listed.intensities:
        amplitudes = np.sqrt(amplitudes)
    extinct = group.extinct(unique)
    counts["extinct_listed"] = int(np.count_nonzero(amplitudes[extinct]))
    amplitudes[extinct] = 0.0

    # Which reflection of the list each one of the box is an image of; -1: none; _EXTINCT.
    limits = np.array([np.abs(unique @ rotation).max(axis=0) for rotation in group.rotations]).max(axis=0)
    shape = tuple(int(n) for n in 2 * limits + 1)
    cells = shape[0] * shape[1] * shape[2]
    shown = f"its indices span {shape[0]} x {shape[1]} x {shape[2]} cells; is one of them wrong?"
    require("the table of structure factors", 30 * cells, max_memory, shown)
    source = np.full(shape, -1, dtype=np.int32)
    numbers = np.arange(len(unique), dtype=np.int32)
    for rotation in group.rotations:
        source[tuple((unique @ rotation + limits).T)] = numbers
    own = np.count_nonzero(source >= 0)
    source = np.where(source < 0, source[::-1, ::-1, ::-1], source)
    counts["friedel_filled"] = int(np.count_nonzero(source >= 0) - own)
    _mark_extinct(source, limits, listed, unique)

    found = np.flatnonzero(source != -1)
    rows, l = np.divmod(found, shape[2])  # noqa: E741
    h, k = np.divmod(rows, shape[1])
    return Sphere(
        indices=(np.stack([h, k, l], axis=1) - limits).astype(np.int32),
        amplitudes=np.append(amplitudes, (0.0, 0.0))[source.ravel()[found]],  # the last but one is for what is extinct
        counts=counts,
    )


def metric_of(cell: tuple[float, ...]) -> np.ndarray:
    """Return the reciprocal metric G of a cell, (3, 3), 1/angstrom^2: 1/d^2 of h is h G h."""
    a, b, c = cell[:3]
    ca, cb, cg = np.cos(np.radians(cell[3:6]))
    real = np.array([[a * a, a * b * cg, a * c * cb], [a * b * cg, b * b, b * c * ca], [a * c * cb, b * c * ca, c * c]])
    return np.linalg.inv(real)


def inverse_squares(metric: np.ndarray, h, k, l) -> np.ndarray:  # noqa: E741 - Miller's names
    """Return 1/d^2 of reflections, 1/angstrom^2; the indices may be any that broadcast."""
    squares = metric[0, 0] * h * h + metric[1, 1] * k * k + metric[2, 2] * l * l
    return squares + 2.0 * (metric[0, 1] * h * k + metric[0, 2] * h * l + metric[1, 2] * k * l)


def _values_by_reflection(listed: Reflections) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reflections with a value, int64 (n, 3), their values, and the rows (m, 3) that have one."""
    rows = np.asarray(listed.indices, dtype=np.int64)
    if len(rows) and np.abs(rows).max() > MOST:
        raise InputError("h, k and l", f"must not be beyond {MOST}", int(np.abs(rows).max()))
    given = np.isfinite(listed.values)
    if listed.mates is None:
        return rows[given], listed.values[given], rows[given]
    mated = np.isfinite(listed.mates)
    indices = np.concatenate([rows[given], -rows[mated]])
    return indices, np.concatenate([listed.values[given], listed.mates[mated]]), rows[given | mated]


def _representatives(indices: np.ndarray, group: SpaceGroup) -> np.ndarray:
    """One number for each reflection (n, 3) that is the same for all its images; Friedel mates are none."""
    side = 6 * MOST + 1  # on hexagonal axes images have indices up to twice those of the list
    keys = np.full(len(indices), np.iinfo(np.int64).max)
    for rotation in group.rotations:
        h, k, l = (indices @ rotation + 3 * MOST).T  # noqa: E741
        np.minimum(keys, (h * side + k) * side + l, out=keys)
    return keys


def _merge(indices: np.ndarray, values: np.ndarray, group: SpaceGroup) -> tuple[np.ndarray, np.ndarray, int]:
    """One of the images of each reflection, the mean of what was said of them, and how many had been said to differ."""
    keys = _representatives(indices, group)
    order = np.lexsort((values, keys))  # by value too: the mean must not depend on the order of rows
    keys, values = keys[order], values[order]
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    ends = np.append(starts[1:], len(keys))
    lowest, highest = values[starts], values[ends - 1]
    means = np.where(lowest == highest, lowest, np.add.reduceat(values, starts) / (ends - starts))
    differ = highest - lowest > 1e-6 * np.maximum(np.abs(highest), np.abs(lowest))
    return indices[order[starts]], means, int(np.count_nonzero(differ))


def _mark_extinct(source: np.ndarray, limits: np.ndarray, listed: Reflections, unique: np.ndarray) -> None:
    """Mark the extinct reflections that no row names, up to the list's resolution."""
    if not listed.group.can_extinguish:
        return
    metric = metric_of(listed.cell)
    most = float(inverse_squares(metric, *unique.T).max()) * (1.0 + _RIM)
    axes = [np.arange(-limit, limit + 1) for limit in limits]
    for place, h in enumerate(axes[0]):  # plane by plane: the sphere's box may be large
        inside = inverse_squares(metric, h, axes[1][:, None], axes[2][None, :]) <= most
        k, l = np.nonzero(inside & (source[place] == -1))  # noqa: E741
        candidates = np.column_stack([np.full(len(k), h), axes[1][k], axes[2][l]])
        extinct = listed.group.extinct(candidates)
        source[place, k[extinct], l[extinct]] = _EXTINCT
