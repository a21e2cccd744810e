"""Frames through rendering, noise, packing and writing, all at the same time, in bounded memory."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress

import numpy as np

from bragg_numba.io.compression import Codec
from bragg_numba.io.data_file import FrameWriter, PartFile, create_hdf5, refusal
from bragg_numba.series import interrupts, truth
from bragg_numba.series.options import OutputOptions, data_path
from bragg_numba.series.stages import StageClock

#: Kernels share one pool of threads, and not every one of numba's threading layers can be entered twice.
KERNELS = threading.Lock()

#: Frames in flight: one rendered, one packed, one written.
SLOTS = 3

DIGEST = "bragg_numba_digest"


class Slot:
    """The buffers of one frame in flight."""

    def __init__(self, shape: tuple[int, int], products: dict[str, str]) -> None:
        self.photons = np.zeros(shape, dtype=np.float32)
        self.drawn = np.zeros(shape, dtype=np.uint32) if "counts" in products else None
        narrow = products.get("counts") == "uint16"
        self.counts = np.zeros(shape, dtype=np.uint16) if narrow else self.drawn
        self.scaled: np.ndarray | None = None


def draw_counts(slot: Slot, seed: int, frame: int, scale: float) -> None:
    """Draw the Poisson counts of ``slot.photons`` times ``scale`` into ``slot.drawn``."""
    from bragg_numba.noise.counter import poisson

    photons = slot.photons
    if scale != 1.0:
        if slot.scaled is None:
            slot.scaled = np.empty_like(photons)
        photons = np.multiply(slot.photons, np.float32(scale), out=slot.scaled)
    with KERNELS:
        poisson(photons, seed, frame, out=slot.drawn)


def saturate(slot: Slot, dtype: str) -> int:
    """Clip ``slot.drawn`` into ``slot.counts`` at the largest valid count; return how many pixels were above."""
    from bragg_numba.io.nxmx import SATURATION

    top = SATURATION[dtype]
    overloads = 0
    # By parts that fit the cache: the comparison, the sum and the clipping then read memory once.
    drawn, counts = slot.drawn.reshape(-1), slot.counts.reshape(-1)
    for start in range(0, drawn.size, 65536):
        part = drawn[start : start + 65536]
        if part.max() > top:
            overloads += int(np.count_nonzero(part > top))
        np.minimum(part, top, out=counts[start : start + 65536], casting="unsafe")
    return overloads


class Renderer:
    """Renders the frames of a series one after another; what does not change is planned once."""

    def __init__(self, series, options: OutputOptions, threads: int | None = None) -> None:
        self.series, self.options, self.threads = series, options, threads
        self._plan = None

    def plan(self, index: int):
        """The plan of one frame."""
        from bragg_numba.plan.plan import make_plan

        self._plan = make_plan(self.series.experiment_of(index), like=self._plan)
        return self._plan

    def render(self, plan, out: np.ndarray) -> None:
        """Render a plan into ``out``."""
        from bragg_numba.render.simulator import Simulator

        simulator = Simulator(
            plan.experiment,
            backend=self.options.backend,
            precision=self.options.precision,
            threads=self.threads,
            plan=plan,
        )
        with KERNELS:
            simulator.render(out=out)

    def seed(self, index: int) -> int:
        """The noise seed of one frame."""
        return int(self.series.frames["seed"][index]) if "seed" in self.series.frames else self.options.seed


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
                files[product].attrs.update({"NX_class": "NXroot", "default": "entry", DIGEST: digest})
            _Job(series, options, frames, threads, clock, on_frame).run(files)
        with clock("write"):
            for part in parts.values():
                part.publish()
    except OSError as error:
        raise refusal(prefix, error) from error
    finally:
        for part in parts.values():
            part.discard()


class _Job:
    """The frames of one data file on their way."""

    def __init__(self, series, options, frames: range, threads, clock: StageClock, on_frame) -> None:
        self.renderer = Renderer(series, options, threads)
        self.options, self.frames, self.clock, self.on_frame = options, frames, clock, on_frame
        self.codec = Codec(options.compression)
        self.free: queue.Queue[Slot] = queue.Queue()
        self.ready: queue.Queue = queue.Queue()
        self.failed: BaseException | None = None
        self.stop = threading.Event()

    def run(self, files: dict) -> None:
        """Render in this thread, pack in two others, write in one more."""
        writer = threading.Thread(target=self._write_all, args=(files,), name="series-writer", daemon=True)
        with ThreadPoolExecutor(max_workers=2, thread_name_prefix="series-pack") as pool:
            writer.start()
            try:
                self._render_all(pool)
            except BaseException:
                self.stop.set()
                raise
            finally:
                self.ready.put(None)
                writer.join()
        if self.failed is not None:
            raise self.failed

    def _render_all(self, pool: ThreadPoolExecutor) -> None:
        slots = 0
        for place, index in enumerate(self.frames):
            interrupts.check()
            with self.clock("plan"):
                plan = self.renderer.plan(index)
            if slots < SLOTS:
                self.free.put(Slot(plan.shape, self.options.products))
                slots += 1
            with self.clock("wait"):
                slot = self._free_slot()
            if slot is None:
                return
            with self.clock("render"):
                self.renderer.render(plan, slot.photons)
            record = truth.frame_record(plan, index)
            seed = self.renderer.seed(index)
            record["noise_seed"] = seed
            if slot.drawn is not None:
                with self.clock("noise"):
                    draw_counts(slot, seed, index, self.options.scale)
            work: dict[str, Future] = {}
            if self.options.photons:
                work["photons"] = pool.submit(self._pack_photons, slot, record)
            if slot.drawn is not None:
                work["counts"] = pool.submit(self._pack_counts, slot, record)
            if self.options.spots:
                work["spots"] = pool.submit(self._list_spots, plan)
            self.ready.put((place, slot, record, work))

    def _free_slot(self) -> Slot | None:
        while not self.stop.is_set():
            # A short wait, so that Ctrl-C and a failed writer are heard.
            with suppress(queue.Empty):
                return self.free.get(timeout=0.1)
        return None

    def _pack_photons(self, slot: Slot, record):
        with self.clock("compress"):
            packed = self.codec.pack(slot.photons)
        # float64 sums over whole rows: the same in every run.
        record["max_photons"] = slot.photons.max()
        record["sum_photons"] = slot.photons.sum(dtype=np.float64)
        return packed

    def _pack_counts(self, slot: Slot, record):
        with self.clock("compress"):
            record["overloads"] = saturate(slot, self.options.counts)
            packed = self.codec.pack(slot.counts)
        if not self.options.photons:
            record["max_photons"] = slot.photons.max()
            record["sum_photons"] = slot.photons.sum(dtype=np.float64)
        return packed

    def _list_spots(self, plan) -> np.ndarray:
        with self.clock("truth"):
            return truth.spot_table(plan, self.options.spot_threshold)

    def _write_all(self, files: dict) -> None:
        try:
            writers, tables = {}, {}
            while (item := self.ready.get()) is not None:
                place, slot, record, work = item
                done = {name: future.result() for name, future in work.items()}
                with self.clock("write"):
                    if not writers:
                        writers, tables = self._start(files, slot)
                    for product, writer in writers.items():
                        frame = slot.photons if product == "photons" else slot.counts
                        writer.write(place, frame, done[product])
                        tables[product].append(place, record, done.get("spots"))
                        files[product].flush()
                self.free.put(slot)
                if self.on_frame is not None:
                    self.on_frame()
        except BaseException as error:
            self.failed = error
            self.stop.set()

    def _start(self, files: dict, slot: Slot):
        shape, n = slot.photons.shape, len(self.frames)
        writers, tables = {}, {}
        for product, dtype in self.options.products.items():
            writers[product] = FrameWriter(files[product], n, shape, dtype, self.codec)
            tables[product] = TruthWriter(files[product], n, spots=self.options.spots)
        return writers, tables


class TruthWriter:
    """The tables of frames and spots of one file."""

    def __init__(self, file, frames: int, *, spots: bool) -> None:
        group = file.create_group("/entry/truth")
        group.attrs["NX_class"] = "NXcollection"
        group.attrs["units"] = ", ".join(f"{name}: {unit}" for name, unit in truth.UNITS.items())
        self._frames = group.create_dataset("frames", (frames,), truth.FRAME)
        self._spots = None
        if spots:
            self._spots = group.create_dataset(
                "spots", (0,), truth.SPOT, maxshape=(None,), chunks=(4096,), compression="gzip", compression_opts=1
            )

    def append(self, place: int, record: np.ndarray, spots: np.ndarray | None) -> None:
        """Write one frame's row and its spots."""
        if self._spots is not None and spots is not None:
            first = len(self._spots)
            record["first_spot"], record["spots"] = first, len(spots)
            if len(spots):
                self._spots.resize((first + len(spots),))
                self._spots[first:] = spots
        self._frames[place] = record
