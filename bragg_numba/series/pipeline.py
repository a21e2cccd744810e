"""Frames through rendering, noise, packing and writing, several at the same time, in bounded memory.

A lane is a thread that takes one frame all the way from its plan to its packed bytes; lanes work side by side and
never wait for each other, so that no core is idle while a frame is packed or another one begins. The thread that
started them writes the frames in their order.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from itertools import chain

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.attributes import set_attributes
from bragg_numba.io.compression import Codec
from bragg_numba.io.data_file import FrameWriter, PartFile, create_hdf5, refusal
from bragg_numba.io.frame_stack import DIGEST
from bragg_numba.plan.plan import Plan, make_plan
from bragg_numba.render.amorphous import KeptBackground
from bragg_numba.render.transmission import KeptTransmission
from bragg_numba.series import interrupts, truth
from bragg_numba.series.noise import Noise
from bragg_numba.series.options import OutputOptions, data_path
from bragg_numba.series.stages import StageClock

#: Frames take turns, whole ones, where kernels have to, and on a GPU, which gains nothing from two at the same time.
KERNELS = threading.Lock()

#: Frames that are made at the same time, at most: each takes memory, and more cores than this may share a frame.
MOST_LANES = 4

#: Pixels up to which a frame is a small one, and how many more of these than lanes are in flight.
SMALL_FRAME, MORE_SMALL_ONES = 2**20, 4

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
    # Photons and counts, both with room for their packed bytes; label images.
    frame = 2 * shape[0] * shape[1] * sum(np.dtype(dtype).itemsize for dtype in ("float32", options.counts or "u1"))
    frame += len(truth.LABELS) * 4 * shape[0] * shape[1] if options.labels else 0
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
        self._background, self._transmission = KeptBackground(), KeptTransmission()
        self._noise = Noise(series, options)

    def plan(self, index: int):
        """The plan of one frame."""
        plan = make_plan(self.series.experiment_of(index), like=self._plan)
        self._plan = plan
        return plan

    def render(self, plan, out: np.ndarray):
        """Render a plan into ``out``; return the simulator that did.

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
            transmission=self._transmission,
        )
        with self._kernels():
            simulator.render(out=out, progress=self._go_on)
        return simulator

    def label(self, simulator, threshold: float) -> dict[str, np.ndarray]:
        """The label images of the frame that a simulator has rendered, by name."""
        with self._kernels():
            return simulator.labels(threshold).images()

    def draw_counts(self, slot: Slot, index: int):
        """Draw the counts of frame ``index``."""
        from bragg_numba.threads import threads

        with self._kernels(), threads(self.layout.threads):
            return self._noise.draw(slot.photons, slot.counts, index)

    def sum_photons(self, slot: Slot):
        """What ``draw_counts`` returns, without drawing."""
        from bragg_numba.response.counter import sum_photons
        from bragg_numba.threads import threads

        with self._kernels(), threads(self.layout.threads):
            return sum_photons(slot.photons)

    def seed(self, index: int) -> int:
        """The noise seed of one frame."""
        return self._noise.seed(index)

    def _kernels(self):
        return KERNELS if self.layout.alone else nullcontext()

    def _go_on(self, part_done: float) -> None:
        if self.stop.is_set():
            raise Stopped


@dataclass(frozen=True, slots=True)
class Job:
    """One data file of every product: its number, from 1, its frames, and a digest of all that fixes its bytes."""

    number: int
    frames: range
    digest: str


def write_data_files(
    series,
    options: OutputOptions,
    prefix,
    jobs: Sequence[Job],
    *,
    threads: int | None = None,
    on_frame: Callable[[], None] | None = None,
    clock: StageClock | None = None,
) -> None:
    """Render the frames of jobs and write their data files of every product.

    The files of a job take their names when all of them are whole. The lanes work on the frames of the next job while
    those of one are brought onto the disk.

    Raises
    ------
    InputError
        If the system refuses to write.
    """
    clock = StageClock() if clock is None else clock
    try:
        with _Publisher(clock) as publisher, _Lanes(series, options, jobs, threads, clock) as lanes:
            for job in jobs:
                parts = {
                    product: PartFile(data_path(prefix, product, options, job.number)) for product in options.products
                }
                try:
                    _write_parts(parts, job, lanes, prefix, on_frame)
                except BaseException:
                    for part in parts.values():
                        part.discard()
                    raise
                publisher.publish(list(parts.values()))
    except OSError as error:
        raise refusal(prefix, error) from error


def _write_parts(parts: dict[str, PartFile], job: Job, lanes: _Lanes, prefix, on_frame) -> None:
    """Write the frames of a job, as they come from the lanes, into a file of each product."""
    options, clock, n = lanes.options, lanes.clock, len(job.frames)
    with ExitStack() as stack:
        with clock("write"):
            files = {}
            for product, part in parts.items():
                files[product] = stack.enter_context(create_hdf5(part.part, prefix))
                set_attributes(files[product], NX_class="NXroot", default="entry", **{DIGEST: job.digest})
            writers = {
                product: FrameWriter(
                    files[product], n, lanes.shape, dtype, lanes.codec, product == "counts" and bool(options.response)
                )
                for product, dtype in options.products.items()
            }
            tables_of = {"spots": options.spots, "lattices": lanes.renderer.series.has_lattices}
            tables = {product: truth.TruthWriter(files[product], n, **tables_of) for product in writers}
            first = files[next(iter(options.products))]  # as the background, once
            labels = truth.LabelWriter(first, n, lanes.shape, lanes.codec) if options.labels else None
        for place in range(n):
            with clock("wait"):
                frame = lanes.take()
            with clock("write"):
                for product, writer in writers.items():
                    writer.write(place, frame.slot.frames[product], frame.packed[product])
                    tables[product].append(place, frame.record, frame.spots, frame.lattices)
                if labels is not None and frame.labels is not None:
                    labels.write(place, frame.labels)
            lanes.free(frame.slot)
            if on_frame is not None:
                on_frame()
        with clock("write"):
            for table in tables.values():
                table.finish()
            stack.close()


class _Publisher:
    """Brings finished files onto the disk while others are made, those of one job at a time."""

    def __init__(self, clock: StageClock) -> None:
        self._clock = clock
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="series-sync")
        self._last: Future | None = None

    def __enter__(self) -> _Publisher:
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            if kind is None:
                self._settle()
        finally:
            self._pool.shutdown(wait=True)

    def publish(self, parts: list[PartFile]) -> None:
        """Let files take their names; wait for those before, and raise what became of them."""
        try:
            self._settle()
        except BaseException:
            for part in parts:
                part.discard()
            raise
        self._last = self._pool.submit(self._publish, parts)

    def _publish(self, parts: list[PartFile]) -> None:
        try:
            with self._clock("sync"):
                for part in parts:
                    part.publish()
        finally:
            for part in parts:
                part.discard()

    def _settle(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            _await(last)


@dataclass(slots=True)
class _Frame:
    """A frame that is ready to be written."""

    slot: Slot
    record: np.ndarray
    packed: dict
    spots: np.ndarray | None
    lattices: np.ndarray | None
    labels: dict[str, np.ndarray] | None


class _Lanes:
    """The frames of jobs on their way, in their order; a context that ends with the last lane."""

    def __init__(self, series, options: OutputOptions, jobs: Sequence[Job], threads, clock: StageClock) -> None:
        self.shape = series.experiment.detector.shape
        self.layout = choose_layout(options, self.shape, threads)
        self.renderer = Renderer(series, options, self.layout)
        self.options, self.clock = options, clock
        self.codec = Codec(options.compression)
        self._indices = chain.from_iterable(job.frames for job in jobs)
        self._waiting: deque[Future] = deque()
        # One frame more than lanes: they go on while it is written. Of small ones a few more: also while a file is
        # begun or ended.
        small = self.shape[0] * self.shape[1] <= SMALL_FRAME
        self._slots = min(sum(len(job.frames) for job in jobs), self.layout.lanes + (MORE_SMALL_ONES if small else 1))
        self._pool = ThreadPoolExecutor(max_workers=self.layout.lanes, thread_name_prefix="series-lane")

    def __enter__(self) -> _Lanes:
        for _ in range(self._slots):
            self.free(Slot(self.shape, self.options.products))
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is not None:
            self.renderer.stop.set()
            for future in self._waiting:
                future.cancel()
        self._pool.shutdown(wait=True)

    def take(self) -> _Frame:
        """Wait for the next frame."""
        return _await(self._waiting.popleft())

    def free(self, slot: Slot) -> None:
        """Let a slot hold the next frame that nobody has begun."""
        index = next(self._indices, None)
        if index is not None:
            self._waiting.append(self._pool.submit(self._make, index, slot))

    def _make(self, index: int, slot: Slot) -> _Frame:
        """Make one frame in a lane."""
        clock, renderer, options = self.clock, self.renderer, self.options
        if renderer.stop.is_set():
            raise Stopped
        with clock("plan"):
            plan = renderer.plan(index)
            number = renderer.series.number_of(index)
            record, lattices = truth.frame_record(plan, number), truth.lattice_records(plan, number)
        with clock("render"):
            simulator = renderer.render(plan, slot.photons)
            record["engine"], record["truth"] = simulator.engine, simulator.truth
        with clock("noise"):
            try:
                found = renderer.sum_photons(slot) if options.counts is None else renderer.draw_counts(slot, index)
            except InputError as error:  # photons that overflow
                raise InputError(f"frame {number}:", str(error)) from None
        record["noise_seed"], record["overloads"] = renderer.seed(index), found.overloads
        record["max_photons"], record["sum_photons"] = found.most, found.photons
        with clock("compress"):
            packed = {product: slot.pack(self.codec, product) for product in options.products}
        spots = None
        if options.spots:
            with clock("truth"):
                spots = simulator.spot_table(options.spot_threshold)
        labels = None
        if options.labels:
            with clock("labels"):
                labels = renderer.label(simulator, options.spot_threshold)
        return _Frame(slot, record, packed, spots, lattices, labels)


def _await(future: Future) -> _Frame:
    while True:
        interrupts.check()
        # A short wait, so that Ctrl-C is heard.
        try:
            return future.result(timeout=0.1)
        except NotYet:
            if future.done():
                return future.result()
