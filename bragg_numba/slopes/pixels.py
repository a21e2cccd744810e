"""Which pixels slopes are wanted of, as lists that the kernels walk block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.kernels.parameters import Panel
from bragg_numba.kernels.slopes.rows import BLOCK, TALL, WIDE
from bragg_numba.plan.plan import Plan

#: Likelihoods of data, in the order of the kernel's numbers.
LIKELIHOODS = ("gaussian", "model", "poisson")

#: Pixels that are listed at a time.
PIXELS_IN_BATCH = 2**18

#: Terms of a pixel up to which boxes fill blocks up.
_FEW_TERMS = 4

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Data that normal equations are made of, in the order of a list of pixels: those of every plan of the frame.

    ``fields`` are data (NaN where they do not count), variance and background, float64, of each batch; ``kind`` is the
    number of the likelihood, and ``pixels`` is how many count.
    """

    fields: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]
    kind: int
    pixels: int


class Pixels:
    """The pixels of a frame that are looked at: a list of them serves every plan of the same frame.

    Parameters
    ----------
    plan
        Of the frame.
    mask
        bool (slow, fast): True where a pixel is wanted; None: what the plan renders.
    boxes
        What ``check_boxes`` returns: their pixels alone, each once.
    """

    def __init__(self, plan: Plan, *, mask: np.ndarray | None = None, boxes: np.ndarray | None = None) -> None:
        self._plan = plan
        self._boxes = boxes
        self.wanted = wanted_pixels(plan, mask)

    def observe(
        self,
        data: np.ndarray,
        variance: np.ndarray | float | None = None,
        mask: np.ndarray | None = None,
        *,
        likelihood: str = "gaussian",
        background: np.ndarray | float = 0.0,
    ) -> Observed:
        """Check data and put them into the order of the pixels; arguments as ``Slopes.normal`` takes them."""
        kind, shape = LIKELIHOODS.index(check.choice("likelihood", likelihood, LIKELIHOODS)), self._plan.shape
        counts = as_frame("data", data, shape)
        spread = as_frame("variance", (1.0 if kind == 0 else 0.0) if variance is None else variance, shape)
        behind = as_frame("background", background, shape)
        counted = np.isfinite(counts) & self.wanted
        if mask is not None:
            counted &= wanted_pixels(self._plan, mask)
        if kind == 0 and not (spread[counted] > 0.0).all():
            raise InputError("variance", "must be greater than 0 in every pixel that counts")
        if kind == 1 and not (spread[counted] >= 0.0).all():
            raise InputError("variance", "must not be negative")
        if kind == 2 and not (counts[counted] >= 0.0).all():
            raise InputError("data", "must not be negative where they are Poisson's")
        counts = np.where(counted, counts, np.nan)
        fields, pixels = [], 0
        for batch in self.batches:
            at = batch.frame_rows, batch.frame_columns
            listed = counts[at]
            fields.append((listed, spread[at], behind[at]))
            pixels += int(np.isfinite(listed).sum())
        return Observed(fields=tuple(fields), kind=kind, pixels=pixels)

    def frames_of(self, observed: Observed) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Data, variance and background as frames; NaN, 1 and 0 where no pixel is listed."""
        frames = tuple(np.full(self._plan.shape, fill) for fill in (np.nan, 1.0, 0.0))
        for batch, fields in zip(self.batches, observed.fields, strict=True):
            for frame, field in zip(frames, fields, strict=True):
                frame[batch.frame_rows, batch.frame_columns] = field
        return frames  # type: ignore[return-value]

    @cached_property
    def listed(self) -> np.ndarray:
        """bool (slow, fast): the pixels that are looked at."""
        return self.wanted if self._boxes is None else self.wanted & inside_boxes(self._plan.shape, self._boxes)

    @cached_property
    def batches(self) -> tuple[Batch, ...]:
        """The pixels of all panels, in blocks."""
        return tuple(list_batches(self._plan, self.wanted, self._boxes))


def as_frame(name: str, value: Any, shape: tuple[int, int]) -> np.ndarray:
    """A number, or (slow, fast) of them, as a frame in float64."""
    field = np.asarray(value, dtype=np.float64)
    if field.ndim == 0:
        return np.full(shape, float(field))
    if field.shape != shape:
        raise InputError(name, f"must have the frame's shape {shape}", field.shape)
    return field


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


def inside_boxes(shape: tuple[int, int], boxes: np.ndarray) -> np.ndarray:
    """bool (slow, fast): True in a box."""
    inside = np.zeros(shape, dtype=np.bool_)
    for left, right, top, bottom in boxes.tolist():
        inside[top : bottom + 1, left : right + 1] = True
    return inside


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


def list_batches(plan: Plan, wanted: np.ndarray, boxes: np.ndarray | None) -> Iterator[Batch]:
    """List the wanted pixels of every panel, in pieces that lie close together; with boxes only theirs, each once."""
    # Where there are many terms, a block of a box or two passes over most of them; else blocks had better be full.
    if boxes is not None and len(plan.cells) * len(plan.sources.wavelength) <= _FEW_TERMS:
        wanted, boxes = wanted & inside_boxes(plan.shape, boxes), None
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
