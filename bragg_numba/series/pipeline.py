"""Frames through rendering, noise, packing and writing, several at the same time, in bounded memory.

A lane is a thread that takes one frame all the way from its plan to its packed bytes; lanes work side by side and
never wait for each other, so that no core is idle while a frame is packed or another one begins. The thread that
started them writes the frames in their order.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.attributes import set_attributes
from bragg_numba.io.compression import Codec
from bragg_numba.io.data_file import FrameWriter, PartFile, create_hdf5, refusal
from bragg_numba.io.frame_stack import DIGEST
from bragg_numba.plan.plan import Plan, make_plan
from bragg_numba.predict.spots import spot_table
from bragg_numba.render.amorphous import KeptBackground
from bragg_numba.series import interrupts, truth
from bragg_numba.series.options import OutputOptions, data_path
from bragg_numba.series.stages import StageClock

#: Frames take turns, whole ones, where kernels have to, and on a GPU, which gains nothing from two at the same time.
KERNELS = threading.Lock()

#: Frames that are made at the same time, at most: each takes memory, and more cores than this may share a frame.
MOST_LANES = 4

#: Part of the free memory that frames in flight may take; one lane works with less.
MEMORY_SHARE = 0.25


class Slot:
    """The buffers of one frame in flight."""

    def __init__(self, shape: tuple[int, int], products: dict[str, str]) -> None:
        self.frames = {"photons": np.zeros(shape, dtype=np.float32)}
        if "counts" in products:
            self.frames["counts"] = np.zeros(shape, dtype=products["counts"])
        self.packed: dict[str, np.ndarray] = {}  # bytes of packed frames, used again and again

    @property
    def photons(self) -> np.ndarray:
        """Expected photons, float32."""
        return self.frames["photons"]

    @property
    def counts(self) -> np.ndarray:
        """What was drawn from them, where counts are wanted."""
        return self.frames["counts"]

    def pack(self, codec: Codec, product: str):
        """Pack photons or counts into the slot's own memory: valid until its next frame."""
        frame = self.frames[product]
        if product not in self.packed:
            self.packed[product] = np.empty(codec.room(frame), dtype=np.uint8)
        return codec.pack(frame, self.packed[product])


def draw_counts(slot: Slot, seed: int, frame: int, scale: float):
    """Draw the Poisson counts of ``slot.photons`` times ``scale`` into ``slot.counts``; return ``Drawn``.

    Counts are cut at their type's ``SATURATION``.
    """
    from bragg_numba.io.nxmx import SATURATION
    from bragg_numba.response import counter

    top = SATURATION[slot.counts.dtype.name]
    return counter.draw_counts(slot.photons, seed, frame, slot.counts, top=top, scale=scale)


@dataclass(frozen=True, slots=True)
class Layout:
    """How many frames are made at the same time, and with how many threads each."""

    lanes: int
    threads: int | None  #: None: as many as numba chooses
    alone: bool  #: only one lane at a time renders


def choose_layout(options: OutputOptions, shape: tuple[int, int], threads: int | None) -> Layout:
    """Choose the layout: a lane for each core, as far as memory allows and numba's threads can be entered twice."""
    import numba

    from bragg_numba.memory import free_memory

    threads = threads or numba.get_num_threads()
    if options.backend.startswith("cuda") or not _kernels_run_side_by_side():
        return Layout(2, threads, alone=True)
    # Photons and counts, both with room for their packed bytes.
    frame = 2 * shape[0] * shape[1] * sum(np.dtype(dtype).itemsize for dtype in ("float32", options.counts or "u1"))
    affordable = int(MEMORY_SHARE * free_memory() / frame) - 1
    lanes = max(1, min(threads, MOST_LANES, affordable))
    return Layout(lanes, threads // lanes, alone=False)


def _kernels_run_side_by_side() -> bool:
    """Tell whether two threads may run parallel kernels at the same time."""
    from bragg_numba.kernels._launch import launches_overlap
    from bragg_numba.response.counter import sum_photons

    # Not known before a kernel ran.
    sum_photons(np.zeros((1, 1), dtype=np.float32))
    return launches_overlap()


class Stopped(Exception):
    """Another part of the series failed: what a lane does is no longer wanted."""


class Renderer:
    """Makes the frames of a series, from several threads at once; what does not change is planned once."""

    def __init__(self, series, options: OutputOptions, layout: Layout | None = None) -> None:
        self.series, self.options = series, options
        self.layout = Layout(1, None, alone=True) if layout is None else layout
        self.stop = threading.Event()
        self._plan: Plan | None = None
        self._background = KeptBackground()

    def plan(self, index: int):
        """The plan of one frame."""
        plan = make_plan(self.series.experiment_of(index), like=self._plan)
        self._plan = plan
        return plan

    def render(self, plan, out: np.ndarray) -> str:
        """Render a plan into ``out``; return the engine that did.

        Raises
        ------
        Stopped
            If ``stop`` was set meanwhile.
        """
        from bragg_numba.render.simulator import Simulator

        simulator = Simulator(
            plan.experiment,
            backend=self.options.backend,
            precision=self.options.precision,
            threads=self.layout.threads,
            plan=plan,
            background=self._background,
        )
        with self._kernels():
            simulator.render(out=out, progress=self._go_on)
        return simulator.engine

    def draw_counts(self, slot: Slot, index: int):
        """Draw the counts of frame ``index``."""
        from bragg_numba.render.cpu import threads

        with self._kernels(), threads(self.layout.threads):
            return draw_counts(slot, self.seed(index), index, self.options.scale)

    def sum_photons(self, slot: Slot):
        """What ``draw_counts`` returns, without drawing."""
        from bragg_numba.render.cpu import threads
        from bragg_numba.response.counter import sum_photons

        with self._kernels(), threads(self.layout.threads):
            return sum_photons(slot.photons)

    def seed(self, index: int) -> int:
        """The noise seed of one frame."""
        return int(self.series.frames["seed"][index]) if "seed" in self.series.frames else self.options.seed

    def _kernels(self):
        return KERNELS if self.layout.alone else nullcontext()

    def _go_on(self, part_done: float) -> None:
        if self.stop.is_set():
            raise Stopped


def write_data_files(
    series,
    options: OutputOptions,
    prefix,
    number: int,
    frames: range,
    digest: str,
    *,
    threads: int | None = None,
    on_frame: Callable[[], None] | None = None,
    clock: StageClock | None = None,
) -> None:
    """Render ``frames`` and write data file ``number`` of every product; they take their names when all are whole.

    Raises
    ------
    InputError
        If the system refuses to write.
    """
    clock = StageClock() if clock is None else clock
    parts = {product: PartFile(data_path(prefix, product, options, number)) for product in options.products}
    try:
        with ExitStack() as stack:
            files = {}
            for product, part in parts.items():
                files[product] = stack.enter_context(create_hdf5(part.part, prefix))
                set_attributes(files[product], NX_class="NXroot", default="entry", **{DIGEST: digest})
            _Job(series, options, frames, threads, clock, on_frame).run(files)
        with clock("sync"):
            for part in parts.values():
                part.publish()
    except OSError as error:
        raise refusal(prefix, error) from error
    finally:
        for part in parts.values():
            part.discard()


@dataclass(slots=True)
class _Frame:
    """A frame that is ready to be written."""

    slot: Slot
    record: np.ndarray
    packed: dict
    spots: np.ndarray | None


class _Job:
    """The frames of one data file on their way."""

    def __init__(self, series, options, frames: range, threads, clock: StageClock, on_frame) -> None:
        self.shape = series.experiment.detector.shape
        self.layout = choose_layout(options, self.shape, threads)
        self.renderer = Renderer(series, options, self.layout)
        self.options, self.frames, self.clock, self.on_frame = options, frames, clock, on_frame
        self.codec = Codec(options.compression)

    def run(self, files: dict) -> None:
        """Make frames in the lanes, write them here."""
        shape, n = self.shape, len(self.frames)
        writers = {
            product: FrameWriter(files[product], n, shape, dtype, self.codec)
            for product, dtype in self.options.products.items()
        }
        tables = {product: truth.TruthWriter(files[product], n, spots=self.options.spots) for product in writers}
        waiting: deque[Future] = deque()
        indices = iter(self.frames)
        with ThreadPoolExecutor(max_workers=self.layout.lanes, thread_name_prefix="series-lane") as lanes:

            def begin(slot: Slot) -> None:
                index = next(indices, None)
                if index is not None:
                    waiting.append(lanes.submit(self._make, index, slot))

            try:
                # One frame more than lanes: they go on while it is written.
                for _ in range(min(n, self.layout.lanes + 1)):
                    begin(Slot(shape, self.options.products))
                for place in range(n):
                    with self.clock("wait"):
                        frame = _await(waiting.popleft())
                    with self.clock("write"):
                        for product, writer in writers.items():
                            writer.write(place, frame.slot.frames[product], frame.packed[product])
                            tables[product].append(place, frame.record, frame.spots)
                            files[product].flush()
                    begin(frame.slot)
                    if self.on_frame is not None:
                        self.on_frame()
            except BaseException:
                self.renderer.stop.set()
                for future in waiting:
                    future.cancel()
                raise

    def _make(self, index: int, slot: Slot) -> _Frame:
        """Make one frame in a lane."""
        clock, renderer, options = self.clock, self.renderer, self.options
        if renderer.stop.is_set():
            raise Stopped
        with clock("plan"):
            plan = renderer.plan(index)
            record = truth.frame_record(plan, index)
        with clock("render"):
            record["engine"] = renderer.render(plan, slot.photons)
        with clock("noise"):
            try:
                found = renderer.sum_photons(slot) if options.counts is None else renderer.draw_counts(slot, index)
            except InputError as error:  # photons that overflow
                raise InputError(f"frame {index}:", str(error)) from None
        record["noise_seed"], record["overloads"] = renderer.seed(index), found.overloads
        record["max_photons"], record["sum_photons"] = found.most, found.photons
        with clock("compress"):
            packed = {product: slot.pack(self.codec, product) for product in options.products}
        spots = None
        if options.spots:
            with clock("truth"):
                spots = spot_table(plan, options.spot_threshold)
        return _Frame(slot, record, packed, spots)


def _await(future: Future) -> _Frame:
    while True:
        interrupts.check()
        # A short wait, so that Ctrl-C is heard.
        try:
            return future.result(timeout=0.1)
        except NotYet:
            if future.done():
                return future.result()
