"""Rendering on a GPU: tables sent once, bands of rows rendered while the one before is copied and written.

All memory and all streams are numba's own, so that the same lines run under its CUDA simulator; CuPy is
needed only to hand a frame that stays on the device to a caller.
"""

from __future__ import annotations

import importlib.util
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.kernels.parameters import Frame, Sources
from bragg_numba.plan.plan import Plan
from bragg_numba.plan.work import list_tiles
from bragg_numba.render import devices
from bragg_numba.render.devices import Device
from bragg_numba.render.statistics import Tally

#: Bands that are on their way at once: one is rendered while the one before is copied to the host.
HALVES = 2

#: Share of the free device memory that the buffers of one simulator may take.
MEMORY_SHARE = 0.8

#: Bytes of device memory a pixel of a buffer: photons, and what marks a pixel for the float64 pass (8 + 4 + 4).
PIXEL_BYTES = 20

#: A frame of more pixels than this is rendered in several bands even where it fits, so that copying overlaps.
BAND_PIXELS = 2**22

#: Blocks of the settling pass a multiprocessor: it strides over a list whose length only the device knows.
SETTLE_BLOCKS = 32

#: Terms in a launch: a second of float32 on a slow card, so that Ctrl-C is heard and no watchdog bites.
LAUNCH_PIXEL_STEPS = {"tile": 2e10, "float64": 2e9}


class GpuRenderer:
    """What every renderer on a GPU does: bands of rows with two buffers that take turns, and memory.

    A renderer of a kind has ``precision`` and the methods that raise NotImplementedError here.

    Raises
    ------
    InputError
        If the device memory does not hold the tables and one row.
    """

    engine: ClassVar[str]

    #: What no pixel's expectation is off by more than because spots are cut, photons.
    cut_photons = 0.0

    def __init__(self, plan: Plan, device: Device, reason: str) -> None:
        self.plan, self.device, self.reason = plan, device, reason
        self.engine_reason = "asked for"
        #: Seconds that each engine was predicted to take, by name; empty where they were not compared.
        self.engine_seconds: dict[str, float] = {}
        self.name = "cuda" if device.index == 0 else f"cuda:{device.index}"
        with self._on_device():
            self._send_tables()
            self._rows = self._rows_of_a_buffer(max(1, BAND_PIXELS // plan.shape[1]))

    @property
    def settles(self) -> bool:
        """Whether its kernels list pixels in doubt, for another kernel."""
        return False

    @property
    def fills_frame(self) -> bool:
        """Whether its kernels write every pixel of a frame, so that none need be cleared."""
        return self.plan.covers_frame

    def launch(self, row_start: int, row_stop: int, image, half: _Half) -> None:
        """Start the kernels that fill ``image``, a device array (row_stop - row_start, n_fast), on a stream."""
        raise NotImplementedError

    def _send_tables(self) -> None:
        """Send what stays the same for every frame of this plan."""
        raise NotImplementedError

    def _rows_of_a_launch(self) -> float:
        """How many rows may be rendered at a time lest a launch take too long."""
        raise NotImplementedError

    @property
    def notes(self) -> tuple[str, ...]:
        """What a GPU does otherwise than a user may expect."""
        return ()

    # --- ways to render ---------------------------------------------------------------------------

    def ranges(self, buffer: int | None = None) -> Iterator[tuple[int, int]]:
        """Cut the frame into rows that fit a ``buffer`` (None: one of those that take turns) and a launch."""
        n_slow = self.plan.shape[0]
        rows = int(max(1, min(buffer or self._rows, n_slow, self._rows_of_a_launch())))
        for start in range(0, n_slow, rows):
            yield start, min(start + rows, n_slow)

    def render_into(self, out: np.ndarray, tally: Tally, *, cleared: bool = False) -> Iterator[float]:
        """Render the frame into ``out`` (slow, fast) float32; yield the share of it that is there.

        Every pixel is written, whether it is ``cleared`` or not.
        """
        from bragg_numba.kernels.copies import copy_rows

        for start, band in self.stream(self.ranges(), tally):
            copy_rows(band, out[start : start + len(band)])
            yield (start + len(band)) / len(out)

    def stream(self, ranges: Iterable[tuple[int, int]], tally: Tally) -> Iterator[tuple[int, np.ndarray]]:
        """Render bands of rows; while the caller uses one, the next is rendered and copied.

        Yields
        ------
        (int, numpy.ndarray)
            First row and (n, n_fast) float32 photons, 0 outside the region and the mask. The array is used
            again for the next band but one.
        """
        cuts = list(self._fitting(ranges))
        rows = max(stop - start for start, stop in cuts)
        with self._on_device():
            halves = _take_halves(self, rows, HALVES)
        try:
            waiting = None
            for number, (start, stop) in enumerate(cuts):
                half = halves[number % HALVES]
                with self._on_device():
                    half.begin(self, start, stop)
                if waiting is not None:
                    yield self._finish(waiting, tally)
                waiting = half
            if waiting is not None:
                yield self._finish(waiting, tally)
        finally:
            with self._on_device():
                for half in halves:
                    half.stream.synchronize()
            _give_halves(self, halves)

    def render_on_device(self, frame, tally: Tally) -> Iterator[float]:
        """Render into a device array (slow, fast) float32; yield the share of it that is there. Nothing is copied."""
        with self._on_device():
            # Nothing is copied that a second buffer could hide: one, of the whole frame if it fits.
            rows = self._rows_of_a_buffer(self.plan.shape[0])
            halves = _take_halves(self, rows, 1)
            half = halves[0]
            try:
                for start, stop in self.ranges(rows):
                    half.render(self, start, stop, frame[start:stop])
                    half.stream.synchronize()
                    tally.missed += half.count_missed()
                    yield stop / self.plan.shape[0]
            finally:
                half.stream.synchronize()
                _give_halves(self, halves)

    def new_frame(self):
        """An empty device array for one frame, as numba holds it."""
        from numba import cuda

        n_slow, n_fast = self.plan.shape
        with self._on_device():
            self._require_memory("the frame", 4 * n_slow * n_fast)
            return cuda.device_array((n_slow, n_fast), dtype=np.float32)

    # --- memory -----------------------------------------------------------------------------------

    def _on_device(self):
        from numba import cuda

        return cuda.gpus[self.device.index]

    def _free_memory(self) -> float:
        from numba import cuda

        return float(cuda.current_context().get_memory_info().free)

    def _require_memory(self, what: str, n_bytes: float) -> None:
        allowed = MEMORY_SHARE * self._free_memory()
        if n_bytes > allowed:
            raise InputError(
                what,
                f"would take {int(n_bytes):,} bytes on {self.device.name}, where {int(allowed):,} are allowed",
                hint="use backend cpu, another GPU, or make it smaller",
            )

    def _rows_of_a_buffer(self, most: int) -> int:
        """Rows of a buffer for which there is memory, at most ``most``."""
        n_slow, n_fast = self.plan.shape
        room = MEMORY_SHARE * self._free_memory() / (HALVES * PIXEL_BYTES * n_fast)
        if room < 1.0:
            self._require_memory("a row of the image", HALVES * PIXEL_BYTES * n_fast)
        return int(min(n_slow, most, room))

    def _fitting(self, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Cut ranges that are longer than a buffer."""
        for start, stop in ranges:
            for first in range(start, stop, self._rows):
                yield first, min(first + self._rows, stop)

    def _finish(self, half: _Half, tally: Tally) -> tuple[int, np.ndarray]:
        start, band = half.finish()
        tally.missed += half.count_missed()
        return start, band


class CudaRenderer(GpuRenderer):
    """Renders rows of a plan on one GPU, pixel by pixel."""

    engine = "pixels"

    def __init__(
        self,
        plan: Plan,
        precision: str,
        device: Device,
        reason: str = "asked for",
    ) -> None:
        from bragg_numba.plan.arithmetic.cuda import choose, single

        self.choice = choose(plan, precision)
        self.single: Any = single(plan, self.choice) if self.choice.side else None
        super().__init__(plan, device, reason)

    @property
    def precision(self) -> str:
        """``tile`` or ``float64``."""
        return "tile" if self.choice.side else "float64"

    @property
    def settles(self) -> bool:
        """In float32 some pixels stay in doubt."""
        return self.precision == "tile"

    @property
    def notes(self) -> tuple[str, ...]:
        """That a cutoff changes nothing, where there is one."""
        cutoff = self.plan.experiment.sampling.cutoff_photons
        rule = "on a GPU pixels pass nothing over"
        return (f"the cutoff of {cutoff:g} photons has no effect: {rule}",) if cutoff > 0.0 else ()

    def _rows_of_a_launch(self) -> float:
        per_row = max(1.0, self.plan.pixel_steps / self.plan.shape[0])
        return LAUNCH_PIXEL_STEPS[self.precision] // per_row

    def _send_tables(self) -> None:
        from numba import cuda

        from bragg_numba.plan.arithmetic.cuda import panel_arguments

        plan = self.plan
        # float64 amplitudes, and their squares in float32 with a wider border
        tables = 12 * plan.table.size if self.precision == "tile" else 8 * plan.table.size
        self._require_memory("the plan", plan.cells.nbytes + tables + plan.mask.nbytes)
        self.sources = Sources(*(cuda.to_device(array) for array in plan.sources.arrays))
        self.cells = cuda.to_device(plan.cells)
        self.panels, self.flats = (
            cuda.to_device(part) if isinstance(part, np.ndarray) else part for part in panel_arguments(plan)
        )
        # A kernel cannot take an array without elements.
        self.mask = cuda.to_device(plan.mask if plan.mask.size else np.ones((1, 1), dtype=np.bool_))
        self.table, self.table_squared = _sent_tables(self)
        #: The tiles of rows that were rendered before, by the first row and the one after the last.
        self._tiles: dict[tuple[int, int], Any] = {}

    # --- launches ---------------------------------------------------------------------------------

    def launch(self, row_start: int, row_stop: int, image, half: _Half) -> None:
        """Start the kernels that fill ``image``, a device array (row_stop - row_start, n_fast), on a stream."""
        from numba import cuda

        from bragg_numba.kernels.pixels.cuda_frame import TILE_SIDE

        plan = self.plan
        tiles = self._tiles.get((row_start, row_stop))
        if tiles is None:
            listed = list_tiles(plan.panels, plan.roi, plan.mask, (TILE_SIDE, TILE_SIDE), (row_start, row_stop))
            tiles = self._tiles[row_start, row_stop] = cuda.to_device(listed) if len(listed) else ()
        if not len(tiles):
            return
        launch = self._launch_tile if self.choice.side else self._launch_float64
        launch(tiles, Frame(image, self.mask, row_start), half)

    def _launch_float64(self, tiles, frame: Frame, half: _Half) -> None:
        from bragg_numba.kernels.pixels import cuda as kernels

        plan = self.plan
        kernel = kernels.float64_kernel(kernels.exact_kind(plan.panels, plan.lattice, plan.lookup))
        kernel[kernels.BLOCKS_OF_TILE * len(tiles), kernels.THREADS, half.stream](
            self.panels,
            plan.lattice,
            plan.lookup,
            plan.rules,
            self.sources,
            self.cells,
            self.table,
            tiles,
            frame,
            half.missed,
        )

    def _launch_tile(self, tiles, frame: Frame, half: _Half) -> None:
        from bragg_numba.kernels.pixels import cuda as kernels

        plan, single = self.plan, self.single
        half.forget_doubts()
        kernel = kernels.tile_kernel(
            kernels.tile_kind(plan.panels, plan.lattice, plan.lookup, plan.rules, self.choice.side)
        )
        nouns = (self.panels, self.flats, plan.rules, single, self.sources, self.cells)
        kernel[len(tiles), kernels.THREADS, half.stream](*nouns, self.table_squared, tiles, frame, half.doubts)
        settle = kernels.settle_kernel(kernels.exact_kind(plan.panels, plan.lattice, plan.lookup))
        blocks = min(kernels.BLOCKS_OF_TILE * len(tiles), SETTLE_BLOCKS * _multiprocessors())
        exact = (self.panels, plan.lattice, plan.lookup, plan.rules, self.sources, self.cells, self.table)
        settle[blocks, kernels.THREADS, half.stream](*exact, single.part_rounds, frame, half.doubts)


class _Half:
    """One of the buffers that take turns: its stream, its rows on the device and on the host."""

    def __init__(self, renderer: GpuRenderer, rows: int) -> None:
        from numba import cuda

        from bragg_numba.kernels.pixels.cuda_frame import Doubts

        n_fast = renderer.plan.shape[1]
        self.rows, self.key = rows, (renderer.device.index, n_fast, renderer.settles)
        self.stream = cuda.stream()
        pixels = rows * n_fast if renderer.settles else 1
        self.doubts = Doubts(
            cuda.device_array(pixels, dtype=np.int64),
            cuda.device_array(pixels, dtype=np.int32),
            cuda.device_array(pixels, dtype=np.uint32),
            cuda.device_array(1, dtype=np.int32),
        )
        self.missed = cuda.device_array(1, dtype=np.int64)
        # Made where rows go to the host: a frame that stays on the device needs neither.
        self._image: Any = None
        self._band: Any = None
        self._no_doubts = cuda.pinned_array(1, dtype=np.int32)
        self._none_missed = cuda.pinned_array(1, dtype=np.int64)
        self._missed = cuda.pinned_array(1, dtype=np.int64)
        self._no_doubts[0] = self._none_missed[0] = self._missed[0] = 0
        self._lists: tuple = ()
        self._zeros: Any = None
        self._start = self._count = 0

    def render(self, renderer: GpuRenderer, row_start: int, row_stop: int, image) -> None:
        """Start rendering rows into ``image``; returns at once."""
        self.missed.copy_to_device(self._none_missed, stream=self.stream)
        if not renderer.fills_frame:
            image.copy_to_device(self._zero_rows(renderer, row_stop - row_start), stream=self.stream)
        renderer.launch(row_start, row_stop, image, self)
        self.missed.copy_to_host(self._missed, stream=self.stream)

    def begin(self, renderer: GpuRenderer, row_start: int, row_stop: int) -> None:
        """Start rendering rows and copying them to the host; returns at once."""
        from numba import cuda

        if self._band is None:
            shape = (self.rows, renderer.plan.shape[1])
            self._image = cuda.device_array(shape, dtype=np.float32)
            # Page-locked: only from there and to there do copies run beside kernels.
            self._band = cuda.pinned_array(shape, dtype=np.float32)
        self._start, self._count = row_start, row_stop - row_start
        image = self._image[: self._count]
        self.render(renderer, row_start, row_stop, image)
        image.copy_to_host(self._band[: self._count], stream=self.stream)

    def finish(self) -> tuple[int, np.ndarray]:
        """Wait for the rows that were begun: first row and host array."""
        self.stream.synchronize()
        return self._start, self._band[: self._count]

    def send_lists(self, *lists: np.ndarray) -> tuple:
        """Send arrays that differ from band to band and are kept until the next; the device arrays."""
        from numba import cuda

        self._lists = tuple(cuda.to_device(one, stream=self.stream) for one in lists)
        return self._lists

    def forget_doubts(self) -> None:
        """Empty the list of pixels in doubt, after what was started before."""
        self.doubts.count.copy_to_device(self._no_doubts, stream=self.stream)

    def count_missed(self) -> int:
        """Interpolations that left the table in the rows that were rendered last."""
        return int(self._missed[0])

    def _zero_rows(self, renderer: GpuRenderer, count: int):
        from numba import cuda

        if self._zeros is None:
            self._zeros = cuda.to_device(np.zeros((self.rows, renderer.plan.shape[1]), dtype=np.float32))
        return self._zeros[:count]


# --- what outlives a simulator: a series makes one for each frame ----------------------------------

_LOCK = threading.Lock()
_SPARE: list[list[_Half]] = []
_TABLES: dict[int, tuple] = {}


def _take_halves(renderer: GpuRenderer, rows: int, count: int) -> list[_Half]:
    """At least ``count`` buffers for bands of ``rows`` rows: those of the frame before where they fit."""
    key = (renderer.device.index, renderer.plan.shape[1], renderer.settles)
    with _LOCK:
        for at, halves in enumerate(_SPARE):
            if halves[0].key == key and halves[0].rows >= rows and len(halves) >= count:
                return _SPARE.pop(at)
        _SPARE.clear()
    return [_Half(renderer, rows) for _ in range(count)]


def _give_halves(renderer: GpuRenderer, halves: list[_Half]) -> None:
    """Keep one set of buffers for the next frame."""
    with _LOCK:
        _SPARE[:] = [halves]


def _sent_tables(renderer: CudaRenderer) -> tuple:
    """The structure factors on the device, sent once however many plans share them.

    Amplitudes in float64, and for tile their squares in float32 with as much border as its patches need.
    """
    from numba import cuda

    from bragg_numba.plan.arithmetic.cuda import padded_table

    plan, index = renderer.plan, renderer.device.index
    border = renderer.single.reach if renderer.single else None
    with _LOCK:
        owner, table, squares, has_border = _TABLES.get(index, (lambda: None, None, None, None))
    if owner() is not plan.table:
        table, squares = cuda.to_device(np.ascontiguousarray(plan.table)), None
    if border is not None and (squares is None or has_border != border):
        squares, has_border = cuda.to_device(np.ascontiguousarray(padded_table(plan))), border
    with _LOCK:
        _TABLES[index] = (weakref.ref(plan.table), table, squares, has_border)
    return table, squares


def release() -> None:
    """Let go of the buffers and tables that are kept for the next simulator."""
    with _LOCK:
        _SPARE.clear()
        _TABLES.clear()


def _multiprocessors() -> int:
    from numba import cuda

    return 1 if devices.simulated() else int(cuda.get_current_device().MULTIPROCESSOR_COUNT)


# --- arrays of callers ----------------------------------------------------------------------------


def require_cupy() -> None:
    """Raise InputError where a frame cannot be handed over on the device."""
    if not devices.simulated() and importlib.util.find_spec("cupy") is None:
        raise InputError("device_array", "needs CuPy, which is not installed", hint=devices.install_hint())


def as_caller_array(frame):
    """A device array of numba's as a CuPy array of the same memory; the simulator's stand-in as it is."""
    if devices.simulated():
        return frame
    import cupy

    return cupy.asarray(frame)


def as_numba_array(name: str, array, index: int):
    """A caller's device array as numba holds it, the same memory.

    Raises
    ------
    InputError
        If it lies elsewhere than on GPU ``index``, or DLPack is its only interface and CuPy is missing.
    """
    from numba import cuda

    if devices.simulated():
        return array
    if not hasattr(array, "__cuda_array_interface__"):
        kind, where = array.__dlpack_device__()
        if int(where) != index:
            raise InputError(name, f"must lie on GPU {index}", int(where))
        require_cupy()
        import cupy

        array = cupy.from_dlpack(array)
    with cuda.gpus[index]:
        return cuda.as_cuda_array(array)
