"""Which pixels slopes are wanted of, as lists that the kernels walk block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.kernels.parameters import Panel
from bragg_numba.kernels.slopes.rows import BLOCK, TALL, WIDE
from bragg_numba.plan.plan import Plan

#: Pixels that are listed at a time.
PIXELS_IN_BATCH = 2**18

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Batch:
    """Pixels of panels in the order of their blocks.

    ``blocks`` int32 (n, 3): panel, first pixel in the lists, number of pixels. ``rows`` and ``columns`` int32: in the
    panel; ``frame_rows`` and ``frame_columns``: in the frame.
    """

    blocks: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    frame_rows: np.ndarray
    frame_columns: np.ndarray


def check_boxes(plan: Plan, boxes: Sequence) -> np.ndarray:
    """Boxes as int64 (n, 4): fast_min, fast_max, slow_min, slow_max, inclusive, inside the frame."""
    n_slow, n_fast = plan.shape
    found = []
    for number, box in enumerate(boxes):
        name = f"boxes[{number}]"
        edges = [check.count(name, n, low=0) for n in check.vector(name, box, length=4)]
        if edges[0] > edges[1] or edges[2] > edges[3] or edges[1] >= n_fast or edges[3] >= n_slow:
            hint = f"fast_min, fast_max, slow_min, slow_max, inclusive, of {n_fast} x {n_slow} pixels"
            raise InputError(name, "must be edges of a box inside the frame", tuple(edges), hint)
        found.append(edges)
    if not found:
        raise InputError("boxes", "must hold at least one box", hint="None: the whole frame")
    return np.array(found, dtype=np.int64)


def wanted_pixels(plan: Plan, mask: np.ndarray | None) -> np.ndarray:
    """bool (slow, fast): pixels that are rendered, and not left out by ``mask``."""
    wanted = np.zeros(plan.shape, dtype=np.bool_)
    fast_min, fast_max, slow_min, slow_max = plan.roi
    wanted[slow_min : slow_max + 1, fast_min : fast_max + 1] = True
    if plan.mask.size:
        wanted &= plan.mask
    if mask is not None:
        given = np.asarray(mask)
        if given.shape != plan.shape or given.dtype != np.bool_:
            raise InputError("mask", f"must be bool of the frame's shape {plan.shape}", (given.dtype.name, given.shape))
        wanted &= given
    return wanted


def pixels_in_boxes(shape: tuple[int, int], boxes: np.ndarray) -> np.ndarray:
    """bool (slow, fast): True where a pixel lies in one of the boxes."""
    inside = np.zeros(shape, dtype=np.bool_)
    for fast_min, fast_max, slow_min, slow_max in boxes.tolist():
        inside[slow_min : slow_max + 1, fast_min : fast_max + 1] = True
    return inside


def list_batches(plan: Plan, wanted: np.ndarray, boxes: np.ndarray | None) -> Iterator[Batch]:
    """List the wanted pixels of every panel, in pieces that lie close together; with boxes only theirs, each once."""
    for index, panel in enumerate(plan.panels):
        rows = slice(panel.first_row, panel.first_row + panel.n_slow)
        of_panel = wanted[rows, panel.first_column : panel.first_column + panel.n_fast]
        if boxes is None:
            yield from _whole_panel(index, panel, of_panel)
        else:
            yield from _boxes_of_panel(index, panel, of_panel, boxes)


def _whole_panel(index: int, panel: Panel, wanted: np.ndarray) -> Iterator[Batch]:
    strips = max(1, PIXELS_IN_BATCH // (TALL * panel.n_fast))
    for top in range(0, panel.n_slow, TALL * strips):
        part = wanted[top : top + TALL * strips]
        rows, columns = pieces_of(part)
        if len(rows):
            cuts = np.append(np.arange(0, len(rows), BLOCK), len(rows))
            yield _batch(index, panel, rows + top, columns, cuts)


def pieces_of(wanted: np.ndarray, tall: int = TALL, wide: int = WIDE) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of wanted pixels, piece by piece of ``tall`` x ``wide``."""
    n_rows, n_columns = -(-wanted.shape[0] // tall) * tall, -(-wanted.shape[1] // wide) * wide
    padded = np.zeros((n_rows, n_columns), dtype=np.bool_)
    padded[: wanted.shape[0], : wanted.shape[1]] = wanted
    pieces = padded.reshape(n_rows // tall, tall, n_columns // wide, wide).transpose(0, 2, 1, 3)
    down, across, row, column = np.nonzero(pieces)
    return (down * tall + row).astype(np.int32), (across * wide + column).astype(np.int32)


def _boxes_of_panel(index: int, panel: Panel, wanted: np.ndarray, boxes: np.ndarray) -> Iterator[Batch]:
    left = wanted.copy()  # boxes may overlap
    lists: list[tuple[np.ndarray, np.ndarray]] = []
    cuts, listed = [0], 0
    for fast_min, fast_max, slow_min, slow_max in boxes.tolist():
        top, bottom = max(slow_min - panel.first_row, 0), min(slow_max + 1 - panel.first_row, panel.n_slow)
        first, last = max(fast_min - panel.first_column, 0), min(fast_max + 1 - panel.first_column, panel.n_fast)
        if top >= bottom or first >= last:
            continue
        rows, columns = pieces_of(left[top:bottom, first:last])
        left[top:bottom, first:last] = False
        if not len(rows):
            continue
        lists.append((rows + np.int32(top), columns + np.int32(first)))
        listed += len(rows)
        # Small boxes share a block, a large one makes several alike.
        if len(cuts) > 1 and listed - cuts[-2] <= BLOCK:
            cuts[-1] = listed
        else:
            start, parts = listed - len(rows), -(-len(rows) // BLOCK)
            cuts += [start + len(rows) * (part + 1) // parts for part in range(parts)]
        if listed >= PIXELS_IN_BATCH:
            yield _joined(index, panel, lists, cuts)
            lists, cuts, listed = [], [0], 0
    if lists:
        yield _joined(index, panel, lists, cuts)


def _joined(index: int, panel: Panel, lists: list[tuple[np.ndarray, np.ndarray]], cuts: list[int]) -> Batch:
    rows, columns = (np.concatenate(part) for part in zip(*lists, strict=True))
    return _batch(index, panel, rows, columns, np.array(cuts))


def _batch(index: int, panel: Panel, rows: np.ndarray, columns: np.ndarray, cuts: np.ndarray) -> Batch:
    blocks = np.empty((len(cuts) - 1, 3), dtype=np.int32)
    blocks[:, 0], blocks[:, 1], blocks[:, 2] = index, cuts[:-1], np.diff(cuts)
    rows, columns = rows.astype(np.int32), columns.astype(np.int32)
    return Batch(blocks, rows, columns, rows + panel.first_row, columns + panel.first_column)
