"""Rendering on a GPU reflection by reflection: only tiles that a spot touches are computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bragg_numba.kernels.parameters import Frame
from bragg_numba.kernels.spots.candidates import STEPS
from bragg_numba.kernels.spots.rows import Beams, Forms, Lists
from bragg_numba.kernels.work import PANEL
from bragg_numba.plan.plan import Plan
from bragg_numba.plan.work import list_tiles
from bragg_numba.predict.lit import deal, find_lit
from bragg_numba.render.cuda import GpuRenderer
from bragg_numba.render.devices import Device

#: Work of a launch, in terms of a pixel: some tenths of a second on a slow card, so that Ctrl-C is heard and no
#: watchdog bites.
LAUNCH_TERMS = 1e9

#: What looking for one spot and orientation on a tile costs a block, in terms of a pixel.
TERMS_OF_A_LOOK = 32.0


class CudaSpotsRenderer(GpuRenderer):
    """Renders rows of a plan on one GPU, reflection by reflection.

    What the plan asks for must be what this engine knows: flat panels, no interpolation of structure factors, no
    running products.

    Parameters
    ----------
    cutoff_photons
        What no pixel's expectation may be off by (predict.lit.find_lit).
    precision
        ``"float64"``: every term in float64; otherwise the places alone, and the shapes in float32, unless spots
        reach half-way to their neighbours.
    """

    def __init__(
        self, plan: Plan, cutoff_photons: float, device: Device, precision: str = "auto", reason: str = "asked for"
    ) -> None:
        self.lit = find_lit(plan, cutoff_photons, single=False)
        self.exact = precision == "float64" or self.lit.halved
        # Gains are photons: the scale is in them.
        rules = plan.rules
        self._rules = rules._replace(scale=1.0, background=rules.background * rules.scale)
        super().__init__(plan, device, reason)

    @property
    def precision(self) -> str:
        """``tile`` or ``float64``."""
        return "float64" if self.exact else "tile"

    @property
    def fills_frame(self) -> bool:
        """Tiles without spots are passed over where there is no background."""
        return self.plan.covers_frame and self._has_background

    @property
    def _has_background(self) -> bool:
        return self._rules.background != 0.0 or self._rules.flat_background != 0.0

    def _send_tables(self) -> None:
        from numba import cuda

        lit, plan = self.lit, self.plan
        arrays = (*lit.beams, *lit.forms, lit.spots, plan.mask)
        self._require_memory("the plan", sum(array.nbytes for array in arrays))
        self.beams = Beams(*(cuda.to_device(array) for array in lit.beams))
        self.forms = Forms(*(cuda.to_device(array) for array in lit.forms))
        self.spots = cuda.to_device(_with_elements(lit.spots))
        self.mask = cuda.to_device(plan.mask if plan.mask.size else np.ones((1, 1), dtype=np.bool_))

    def _rows_of_a_launch(self) -> float:
        return self._rows

    def launch(self, row_start: int, row_stop: int, image, half) -> None:
        """Start the kernels that add the spots of some rows to ``image``, which is empty where no tile is rendered."""
        from bragg_numba.kernels.spots import cuda as kernels
        from bragg_numba.kernels.spots.cuda_terms import SpotKind

        plan = self.plan
        size = (kernels.TILE_SIDE, kernels.TILE_SIDE)
        tiles = list_tiles(plan.panels, plan.roi, plan.mask, size, (row_start, row_stop))
        lists = deal(plan, self.lit, tiles, size)
        if not self._has_background:
            kept = np.flatnonzero(np.diff(lists.first))
            lists = Lists(lists.first[np.append(kept, len(tiles))], lists.spot)
            tiles = np.ascontiguousarray(tiles[kept])
        if not len(tiles):
            return
        self._require_memory("the spots of a band", 8 * len(lists.spot))
        kernel = kernels.spots_kernel(SpotKind(plan.lattice.shape, self.exact))
        on_device, frame = half.send_tiles(tiles), Frame(image, self.mask, row_start)
        first, spot = half.send_lists(lists.first, _with_elements(lists.spot))
        for number, start, stop in self._launches(tiles, lists):
            kernel[stop - start, kernels.THREADS, half.stream](
                plan.panels[number],
                plan.lattice,
                self._rules,
                self.beams,
                self.forms,
                self.spots,
                on_device[start:stop],
                Lists(first[start : stop + 1], spot),
                frame,
            )

    def _launches(self, tiles: np.ndarray, lists: Lists) -> Iterator[tuple[int, int, int]]:
        """Cut a work list into launches: the panel, the first tile and the one after the last."""
        of_spot = self._work_of_spots()
        before = np.append(0.0, np.cumsum(of_spot[lists.spot]))[lists.first]
        for number in range(len(self.plan.panels)):
            start, end = np.searchsorted(tiles[:, PANEL], (number, number + 1))
            while start < end:
                stop = int(np.searchsorted(before, before[start] + LAUNCH_TERMS, "right")) - 1
                stop = min(max(stop, int(start) + 1), int(end))
                yield number, int(start), stop
                start = stop

    def _work_of_spots(self) -> np.ndarray:
        """What a tile costs for each of the spots that it looks for, in terms of a pixel, at most."""
        from bragg_numba.kernels.pixels.cuda_frame import TILE_PIXELS

        plan, lit = self.plan, self.lit
        looks = TERMS_OF_A_LOOK * len(lit.forms.cells) * len(lit.beams.weight)
        return plan.layers.n * plan.oversample**2 * (looks + TILE_PIXELS * lit.extents[:, STEPS])


def _with_elements(array: np.ndarray) -> Any:
    """An array that a kernel can take: one without elements gets a row of zeros, which no tile asks for."""
    return array if array.size else np.zeros((1, *array.shape[1:]), array.dtype)
