"""Label images: which spot each pixel belongs to, its mean wavelength and its mean indices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.kernels.parameters import Frame
from bragg_numba.kernels.spots.rows import BLOCK_ROWS, Lists
from bragg_numba.kernels.work import PANEL, ROW
from bragg_numba.plan.arithmetic.spots import cannot_serve
from bragg_numba.plan.plan import Plan
from bragg_numba.plan.work import list_tiles
from bragg_numba.predict.lit import deal
from bragg_numba.render.spots import TILE, SpotsRenderer
from bragg_numba.threads import threads

#: Bytes that the label images take for each pixel.
BYTES_OF_PIXEL = 5 * 4


@dataclass(frozen=True, slots=True)
class Labels:
    """What the Bragg photons of each pixel are, background apart; (slow, fast)."""

    spot: np.ndarray  #: int32: the row of the table of spots that brings most photons; -1: none, or none of the table
    wavelength_A: np.ndarray  #: float32: mean over the photons; NaN where there are none
    h: np.ndarray  #: float32: mean of the reflections' indices over the photons; NaN where there are none
    k: np.ndarray
    l: np.ndarray  # noqa: E741

    def images(self) -> dict[str, np.ndarray]:
        """The images by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    def without(self, hidden: np.ndarray) -> Labels:
        """The same without what the pixels show where ``hidden``, bool (slow, fast), says that nothing arrives."""
        self.spot[hidden] = -1
        for image in (self.wavelength_A, self.h, self.k, self.l):
            image[hidden] = np.nan
        return self


class Labeller:
    """Renders a frame spot by spot, and asks each pixel which of them is its own.

    Parameters
    ----------
    plan
        Of the frame, whatever engine renders it.
    thread_count
        CPU threads; None: all.

    Raises
    ------
    InputError
        If the engine of spots cannot render the plan.
    """

    def __init__(self, plan: Plan, precision: str = "auto", thread_count: int | None = None) -> None:
        require_labels("labels", plan)
        self._plan, self._threads = plan, thread_count
        self._renderer = SpotsRenderer(plan, precision, thread_count)

    def label(self, table: np.ndarray) -> Labels:
        """Label the pixels with rows of a table of the frame's spots."""
        from bragg_numba.kernels.spots import labels as kernels

        plan, lit = self._plan, self._renderer.lit
        shape = plan.shape
        found = Labels(
            np.full(shape, -1, np.int32), *(np.full(shape, np.nan, np.float32) for _ in ("wavelength", "h", "k", "l"))
        )
        rows_of = _rows_of_table(lit.indices, table, len(plan.panels))
        waves = plan.sources.wavelength
        several = bool(np.ptp(waves) > 0.0)
        corners = np.array([(g.first_row, g.first_column) for g in plan.panels], dtype=np.int64)
        with threads(self._threads):
            scratch = self._renderer.scratch()
            for tiles, first_row, one_by_one in self._bands():
                rows = min(BLOCK_ROWS, shape[0] - first_row)
                image, weighted, best = (np.zeros((rows, shape[1]), np.float32) for _ in range(3))
                label, sums = np.full((rows, shape[1]), -1, np.int32), np.zeros((5, rows, shape[1]))
                for part, spots in one_by_one:
                    self._render(part, spots, Frame(image, plan.mask, first_row), scratch, by_wavelength=False)
                    if several:
                        self._render(part, spots, Frame(weighted, plan.mask, first_row), scratch, by_wavelength=True)
                    of_band = (corners, first_row, several, image, weighted)
                    kernels.weigh_spots(part, spots, lit.indices, *of_band, best, label, sums)
                self._keep(found, first_row, rows_of[tiles[0, PANEL]], label, sums, float(waves[0]), several)
        return found

    def _bands(self) -> Iterator[tuple[np.ndarray, int, Iterator[tuple[np.ndarray, np.ndarray]]]]:
        """Rows of blocks: their tiles, the first row of the frame, and blocks with one spot each, in turns."""
        plan = self._plan
        tiles = list_tiles(plan.panels, plan.roi, plan.mask, TILE, (0, plan.shape[0]))
        lists = deal(plan, self._renderer.lit, tiles, TILE)
        if not len(tiles):
            return
        starts = np.flatnonzero(np.diff(tiles[:, [PANEL, ROW]], axis=0, prepend=-1).any(axis=1))
        for start, stop in zip(starts, np.append(starts[1:], len(tiles)), strict=True):
            panel = plan.panels[tiles[start, PANEL]]
            first = lists.first[start : stop + 1]
            yield (
                tiles[start:stop],
                panel.first_row + int(tiles[start, ROW]),
                _in_turns(tiles[start:stop], first, lists),
            )

    def _render(self, tiles: np.ndarray, spots: np.ndarray, frame: Frame, scratch, *, by_wavelength: bool) -> None:
        """Render blocks with one spot each; ``by_wavelength``: every photon times its wavelength over the first's."""
        lists = Lists(np.arange(len(tiles) + 1), spots)
        self._renderer.render_alone(tiles, lists, frame, scratch, by_wavelength=by_wavelength)

    def _keep(self, found: Labels, first_row: int, rows_of, label, sums, wavelength: float, several: bool) -> None:
        photons, *means = sums
        lit = photons > 0.0
        here = slice(first_row, first_row + len(label))
        found.spot[here][lit] = rows_of[label[lit]]
        for image, values in zip((found.h, found.k, found.l), means, strict=False):
            image[here][lit] = values[lit] / photons[lit]
        found.wavelength_A[here][lit] = 1e10 * wavelength * (sums[4][lit] / photons[lit] if several else 1.0)


def require_labels(name: str, plan: Plan) -> None:
    """Raise InputError under ``name`` if no label images can be made of a plan."""
    if plan.lattices is not None:
        raise InputError(name, "cannot be made of frames with lattices")
    if plan.sizes is not None:
        raise InputError(name, "cannot be made of blocks of several sizes")
    if why := cannot_serve(plan):
        raise InputError(name, f"cannot be made: {why}", hint="they come from the engine of spots")


def _in_turns(tiles: np.ndarray, first: np.ndarray, lists: Lists) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The first spot of each block, then the second of each that has one, and so on."""
    counts = np.diff(first)
    for turn in range(int(counts.max())):
        here = np.flatnonzero(counts > turn)
        yield np.ascontiguousarray(tiles[here]), np.ascontiguousarray(lists.spot[first[here] + turn])


def _rows_of_table(indices: np.ndarray, table: np.ndarray, panels: int) -> np.ndarray:
    """Which row of a table each reflection has on each panel, int32 (panels, n); -1: none."""
    found = np.full((panels, len(indices)), -1, np.int32)
    keys = _key(*indices.T)
    order = np.argsort(keys)
    wanted = _key(table["h"], table["k"], table["l"])
    at = np.searchsorted(keys[order], wanted)
    at = np.minimum(at, len(keys) - 1)
    known = keys[order[at]] == wanted if len(keys) else np.zeros(len(wanted), bool)
    rows = np.flatnonzero(known)
    found[table["panel"][rows], order[at[rows]]] = rows
    return found


def _key(h, k, l) -> np.ndarray:  # noqa: E741
    """Indices as one number, each within a million."""
    h, k, l = (np.asarray(n, dtype=np.int64) + 2**20 for n in (h, k, l))  # noqa: E741
    key: np.ndarray = (h << 42) + (k << 21) + l
    return key
