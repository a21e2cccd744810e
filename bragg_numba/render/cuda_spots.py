"""Rendering on a GPU reflection by reflection: only tiles that a spot touches are computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bragg_numba.kernels.parameters import Frame
from bragg_numba.kernels.spots.candidates import STEPS
from bragg_numba.kernels.spots.rows import Beams, Forms, Lists
from bragg_numba.plan.arithmetic.cuda import panel_arguments
from bragg_numba.plan.plan import Plan
from bragg_numba.plan.work import list_tiles
from bragg_numba.predict.lit import deal, find_lit
from bragg_numba.render import costs
from bragg_numba.render.cuda import GpuRenderer
from bragg_numba.render.devices import Device
from bragg_numba.threads import threads

#: Work of a launch, in terms of a pixel: some tenths of a second on a slow card, so that Ctrl-C is heard and no
#: watchdog bites.
LAUNCH_TERMS = 1e9

#: What looking for one spot and orientation on a tile costs a block, in terms of a pixel.
TERMS_OF_A_LOOK = 32.0


class CudaSpotsRenderer(GpuRenderer):
    """Renders rows of a plan on one GPU, reflection by reflection.

    The plan must be one that this engine can serve (plan.arithmetic.spots.require_servable).

    Parameters
    ----------
    thread_count
        Threads of the CPU that find the reflections and deal them to tiles; None: all.
    precision
        ``"float64"``: every term in float64; otherwise the places alone, and the shapes in float32, unless spots
        reach half-way to their neighbours.
    """

    engine = "spots"

    def __init__(
        self,
        plan: Plan,
        precision: str,
        device: Device,
        thread_count: int | None = None,
        reason: str = "asked for",
    ) -> None:
        self._threads = thread_count
        with threads(thread_count):
            self.lit = find_lit(plan, plan.experiment.sampling.cutoff_photons, single=False)
        self.cut_photons = self.lit.cut_photons
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

    def predict_seconds(self) -> float:
        """What a frame is predicted to take: the host's search on one thread, and the GPU's part."""
        terms = float(self._work_of_spots().sum())
        return costs.predict_search(self.plan, self.lit) + terms * costs.GPU_SPOT_PIXEL[self.plan.lattice.shape]

    def _send_tables(self) -> None:
        from numba import cuda

        lit, plan = self.lit, self.plan
        arrays = (*lit.beams, *lit.forms, lit.spots, plan.mask)
        self._require_memory("the plan", sum(array.nbytes for array in arrays))
        self.beams = Beams(*(cuda.to_device(array) for array in lit.beams))
        self.forms = Forms(*(cuda.to_device(array) for array in lit.forms))
        self.spots = cuda.to_device(_with_elements(lit.spots))
        panels, _ = panel_arguments(plan)
        self.panels = cuda.to_device(panels) if isinstance(panels, np.ndarray) else panels
        self.mask = cuda.to_device(plan.mask if plan.mask.size else np.ones((1, 1), dtype=np.bool_))

    def _rows_of_a_launch(self) -> float:
        return self._rows

    def launch(self, row_start: int, row_stop: int, image, half) -> None:
        """Start the kernels that add the spots of some rows to ``image``, which is empty where no tile is rendered."""
        from bragg_numba.kernels.spots import cuda as kernels
        from bragg_numba.kernels.spots.cuda_terms import SpotKind

        plan = self.plan
        size = (kernels.TILE_SIDE, kernels.TILE_SIDE)
        with threads(self._threads):
            tiles = list_tiles(plan.panels, plan.roi, plan.mask, size, (row_start, row_stop))
            lists = deal(plan, self.lit, tiles, size)
        if not self._has_background:
            kept = np.flatnonzero(np.diff(lists.first))
            lists = Lists(lists.first[np.append(kept, len(tiles))], lists.spot)
            tiles = np.ascontiguousarray(tiles[kept])
        if not len(tiles):
            return
        self._require_memory("the spots of a band", 8 * len(lists.spot))
        kernel = kernels.spots_kernel(SpotKind(plan.lattice.shape, self.exact, len(plan.panels) > 1))
        frame = Frame(image, self.mask, row_start)
        on_device, first, spot = half.send_lists(tiles, lists.first, _with_elements(lists.spot))
        for start, stop in self._launches(lists):
            kernel[stop - start, kernels.THREADS, half.stream](
                self.panels,
                plan.lattice,
                self._rules,
                self.beams,
                self.forms,
                self.spots,
                on_device[start:stop],
                Lists(first[start : stop + 1], spot),
                frame,
            )

    def _launches(self, lists: Lists) -> Iterator[tuple[int, int]]:
        """Cut a work list into launches: the first tile and the one after the last."""
        of_spot = self._work_of_spots()
        before = np.append(0.0, np.cumsum(of_spot[lists.spot]))[lists.first]
        start, end = 0, len(before) - 1
        while start < end:
            stop = int(np.searchsorted(before, before[start] + LAUNCH_TERMS, "right")) - 1
            stop = min(max(stop, start + 1), end)
            yield start, stop
            start = stop

    def _work_of_spots(self) -> np.ndarray:
        """What a tile costs for each of the spots that it looks for, in terms of a pixel, at most.

        A spot that lies on one tile alone costs this in all.
        """
        from bragg_numba.kernels.pixels.cuda_frame import TILE_PIXELS

        plan, lit = self.plan, self.lit
        looks = TERMS_OF_A_LOOK * len(lit.forms.cells) * len(lit.beams.weight)
        return plan.layers.n * plan.oversample**2 * (looks + TILE_PIXELS * lit.extents[:, STEPS])


def _with_elements(array: np.ndarray) -> Any:
    """An array that a kernel can take: one without elements gets a row of zeros, which no tile asks for."""
    return array if array.size else np.zeros((1, *array.shape[1:]), array.dtype)
