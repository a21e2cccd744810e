"""The simulator: a plan made once, rendered as often as wanted."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.experiment import Experiment
from bragg_numba.memory import require
from bragg_numba.plan.plan import Plan, make_plan
from bragg_numba.render.amorphous import KeptBackground, render_layers
from bragg_numba.render.devices import is_device_array
from bragg_numba.render.diffuse import render_diffuse
from bragg_numba.render.engine import choose_engine, choose_gpu_engine
from bragg_numba.render.statistics import Statistics, StatisticsCollector, Tally
from bragg_numba.render.transmission import KeptTransmission, transmission_image

if TYPE_CHECKING:
    from bragg_numba.render.labels import Labeller, Labels
    from bragg_numba.slopes.slopes import Slopes

PRECISIONS = ("auto", "tile", "float64")


class _Rendering:
    """What one call of ``render`` or ``tiles`` leaves behind."""

    def __init__(self, tally: Tally, frame: Any = None, statistics: Statistics | None = None) -> None:
        self.tally = tally
        self.frame = frame  # on the host or on a device
        self.statistics = statistics  # made of the frame when they are asked for


class _LastRenderings:
    """The last rendering of each thread, and of all; a copy, or what another process gets, begins without any."""

    def __init__(self) -> None:
        self._of_thread = threading.local()
        self._of_all: _Rendering | None = None

    def __reduce__(self):
        return _LastRenderings, ()

    def add(self, rendering: _Rendering) -> None:
        self._of_thread.last = self._of_all = rendering

    def get(self) -> _Rendering | None:
        """That of the calling thread; where it has rendered nothing, that of any."""
        return getattr(self._of_thread, "last", self._of_all)


class Simulator:
    """Renders one experiment; making it makes the plan.

    Threads may share one. What ``render`` returns belongs to the call. ``statistics`` and ``notes`` are about the
    frame that the calling thread rendered last; in a thread that has rendered none, about the last one of any.

    Parameters
    ----------
    experiment
        What to render.
    backend
        ``"auto"``: a GPU where one is usable, else the CPU (``backend_reason`` says why); ``"cpu"``,
        ``"cuda"`` or ``"cuda:N"`` for GPU N.
    precision
        ``"auto"``: float32 where its error bound allows it, else float64; ``"tile"`` or ``"float64"``
        force one of them.
    threads
        CPU threads; None: all.
    max_memory
        Bytes that the plan and the frame may take; None: 80 % of what is free.
    plan
        The experiment's plan where it was made before; None: made here.
    background
        Where amorphous backgrounds are kept for simulators that differ in the fluence alone; None: its own.
    transmission
        Where images of the transmission are kept for simulators that share them; None: its own.

    Examples
    --------
    >>> from bragg_numba import Experiment, Simulator
    >>> sim = Simulator(Experiment.from_nanobragg("-cell 100 -default_F 100 -N 5 -detpixels 64"))
    >>> sim.render().shape
    (64, 64)
    """

    def __init__(
        self,
        experiment: Experiment,
        *,
        backend: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        max_memory: int | None = None,
        plan: Plan | None = None,
        background: KeptBackground | None = None,
        transmission: KeptTransmission | None = None,
    ) -> None:
        if not isinstance(experiment, Experiment):
            raise InputError("experiment", "must be an Experiment", experiment)
        check.choice("precision", precision, PRECISIONS)
        self.plan: Plan = make_plan(experiment, max_memory) if plan is None else plan
        self._renderer = _choose_renderer(backend, self.plan, precision, threads)
        self._max_memory = max_memory
        self._background = KeptBackground() if background is None else background
        self._transmission = KeptTransmission() if transmission is None else transmission
        self._last = _LastRenderings()
        self._precision, self._threads = precision, threads
        self._labeller: Labeller | None = None

    def __repr__(self) -> str:
        n_slow, n_fast = self.shape
        return (
            f"<Simulator on {self.backend}, engine {self.engine}, precision {self.precision}: "
            f"{n_fast} x {n_slow} pixels (fast x slow), "
            f"{self.plan.steps} steps a pixel>"
        )

    @property
    def experiment(self) -> Experiment:
        """What is rendered."""
        return self.plan.experiment

    @property
    def backend(self) -> str:
        """The backend that was chosen."""
        return self._renderer.name

    @property
    def backend_reason(self) -> str:
        """Why that backend: a clause."""
        return self._renderer.reason

    @property
    def device(self) -> str:
        """What renders: the GPU and its memory, or ``CPU``."""
        return str(getattr(self._renderer, "device", "CPU"))

    @property
    def precision(self) -> str:
        """The precision that was chosen."""
        return self._renderer.precision

    @property
    def engine(self) -> str:
        """The engine that was chosen: ``"pixels"`` or ``"spots"``."""
        return self._renderer.engine

    @property
    def engine_reason(self) -> str:
        """Why that engine: a clause."""
        return self._renderer.engine_reason

    @property
    def engine_seconds(self) -> dict[str, float]:
        """What each engine was predicted to take, seconds of one thread; empty where they were not compared."""
        return dict(self._renderer.engine_seconds)

    @property
    def cut_photons(self) -> float:
        """What no pixel's expectation is off by more than because something was cut, photons.

        With ``Sampling.cutoff_photons`` that; without, what the tolerance lets the engine of spots cut off gauss
        spots; else 0.
        """
        return self._renderer.cut_photons

    def describe_rendering(self) -> dict[str, Any]:
        """How a frame is rendered, plain values by name: what files and reports keep."""
        return {
            "backend": self.backend,
            "precision": self.precision,
            "engine": self.engine,
            "engine_reason": self.engine_reason,
            "engine_seconds": self.engine_seconds,
            "cutoff_photons": self.experiment.sampling.cutoff_photons,
            "cut_photons": self.cut_photons,
            "truth": self.truth,
        }

    def describe_structure_factors(self) -> dict[str, Any]:
        """What the list of structure factors holds and lacks, plain values by name: what files and reports keep.

        See ``predict.holes``: completeness on the detector and in shells, what was counted when the list was read, and
        how many reflections that the frame reaches have ``default_F``. Nothing is rendered.
        """
        from bragg_numba.predict.holes import report_holes

        return report_holes(self.plan)

    @property
    def shape(self) -> tuple[int, int]:
        """(slow, fast) pixels."""
        return self.plan.shape

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done otherwise than a user may expect, one sentence each."""
        last = self._last.get()
        notes = (*self.plan.notes, *self._renderer.notes)
        if last is None or not last.tally.missed:
            return notes
        return (
            *notes,
            f"{last.tally.missed} interpolations reached beyond the structure factor table and took the nearest entry",
        )

    def render(self, out=None, progress: Callable[[float], None] | None = None, *, device_array: bool = False):
        """Render the frame.

        Parameters
        ----------
        out
            (slow, fast) float32, C-contiguous: gets the photons and is returned. Without it a new array. With
            a CUDA backend it may lie on the device: anything with ``__cuda_array_interface__`` or DLPack.
        progress
            Called with the fraction done, from time to time.
        device_array
            Return a CuPy array that stays on the device; nothing is copied to the host.

        Returns
        -------
        numpy.ndarray or cupy.ndarray
            (slow, fast) float32, photons. Pixels outside the region of interest or masked are 0. Kept, for
            ``statistics``, until the thread renders the next one or ends.
        """
        on_device = device_array or (out is not None and is_device_array(out))
        tally = Tally()
        cleared = out is None
        if on_device:
            out, parts = self._start_on_device(out, device_array, tally)
        else:
            if out is None:
                self.require_image_memory()
                out = np.zeros(self.shape, dtype=np.float32)
            else:
                self._check_out(out)
            parts = self._renderer.render_into(out, tally, cleared=cleared)
        for done in parts:
            if progress is not None:
                progress(done)
        self._add_backgrounds(out)
        self._last.add(_Rendering(tally, frame=out))
        return out

    def _add_backgrounds(self, out) -> None:
        """Add diffuse scattering and amorphous backgrounds to the frame, and let it through what stands in its way.

        All that is done on the CPU.
        """
        plan = self.plan
        if plan.amorphous is None and plan.diffuse is None and plan.transmission is None:
            return
        from bragg_numba.threads import threads

        frame = _on_host(out) if is_device_array(out) else out
        with threads(self._threads):
            if plan.diffuse is not None:
                frame += render_diffuse(plan)
            if plan.transmission is not None:
                frame *= self._transmission.image(plan.transmission)
            if plan.amorphous is not None:
                self._background.add(plan.amorphous, frame, self.transmission(backgrounds=True))
        if frame is not out:
            _to_device(frame, out)

    def _add_rows(self, start: int, tile: np.ndarray) -> None:
        """Do the same with the rows of a tile; the whole frame may be larger than memory."""
        plan = self.plan
        if plan.amorphous is None and plan.diffuse is None and plan.transmission is None:
            return
        from bragg_numba.threads import threads

        with threads(self._threads):
            if plan.diffuse is not None:
                tile += render_diffuse(plan, start, len(tile))
            passed = None
            if plan.transmission is not None:
                passed = transmission_image(plan.transmission, row_start=start, rows=len(tile))
                tile *= passed
            if plan.amorphous is not None:
                layers = render_layers(plan.amorphous, start, len(tile))
                if plan.transmission is not None and plan.transmission.splits:
                    passed = transmission_image(plan.transmission, backgrounds=True, row_start=start, rows=len(tile))
                tile += layers if passed is None else layers * passed

    def transmission(self, *, backgrounds: bool = False) -> np.ndarray | None:
        """How much of what is scattered towards each pixel arrives there, (slow, fast) float32 (docs/transmission.md).

        None where nothing stands in the way. ``backgrounds``: of what amorphous backgrounds scatter, instead of
        the crystal's photons.
        """
        plan = self.plan.transmission
        return None if plan is None else self._transmission.image(plan, backgrounds=backgrounds)

    def tiles(self, rows: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Render the frame in tiles of whole rows, for frames larger than memory.

        Yields
        ------
        (int, numpy.ndarray)
            First row and (n, n_fast) float32 photons. The array is used again for later tiles.
        """
        n_slow, n_fast = self.shape
        rows = rows or max(1, min(n_slow, 2**25 // n_fast))
        collector = StatisticsCollector(self.plan)
        tally = Tally()
        cuts = ((start, min(start + rows, n_slow)) for start in range(0, n_slow, rows))
        for start, tile in self._renderer.stream(cuts, tally):
            self._add_rows(start, tile)
            collector.add(tile, start)
            yield start, tile
        self._last.add(_Rendering(tally, statistics=collector.result()))

    @property
    def statistics(self) -> Statistics:
        """Statistics of the calling thread's last frame, by nanoBragg's definitions."""
        last = self._last.get()
        if last is None:
            raise InputError("Simulator.statistics", "needs a rendered frame", hint="call render() first")
        if last.statistics is None:
            collector = StatisticsCollector(self.plan)
            collector.add(_on_host(last.frame))
            last.statistics = collector.result()
        return last.statistics

    @property
    def truth(self) -> str:
        """How ``spot_table`` gets photons and centroids: ``"summed"`` over the pixels, or ``"predicted"``.

        The CPU's engine of spots sums them while it renders.
        """
        hit = self.plan.lattices is None or len(self.plan.lattices) > 0
        return "summed" if self.engine == "spots" and self.backend == "cpu" and hit else "predicted"

    def spot_table(self, threshold: float = 1.0) -> np.ndarray:
        """List the spots of the frame that hold at least ``threshold`` photons (docs/series.md, "The truth").

        ``truth`` is ``"summed"``: those of the calling thread's last frame, which must have been rendered; photons and
        centroid are those of the rendered pixels, what lies beyond the edges or is masked does not count. It is
        ``"predicted"``: the photons of whole spots from integrals (predict.spots.spot_table); nothing need be rendered.

        Photons are those that arrive: what ``transmission`` takes away is taken at the spot's centroid. Partiality and
        excitation error are the crystal's, whatever stands in the way.

        Returns
        -------
        numpy.ndarray
            (n,) of dtype predict.spots.SPOT, lattice by lattice and panel by panel in the order of h, k, l.

        Raises
        ------
        InputError
            If no frame was rendered where one is needed, or nothing can be predicted: with nanoBragg's running
            products.
        """
        threshold = check.number("threshold", threshold, low=0.0, high=1e30)
        if self.truth == "predicted":
            from bragg_numba.predict.spots import spot_table

            return self._arriving(spot_table(self.plan, threshold), threshold)
        last = self._last.get()
        if last is None or last.tally.found is None:
            raise InputError("Simulator.spot_table", "needs a rendered frame", hint="call render() first")
        return self._arriving(last.tally.found.table(self.plan, threshold), threshold)

    def _arriving(self, table: np.ndarray, threshold: float) -> np.ndarray:
        """A table of spots with the photons that arrive, without spots whose are now fewer than the threshold."""
        image = self.transmission()
        if image is None:
            return table
        slow, fast = (
            np.clip(np.floor(table[name]).astype(np.int64), 0, n - 1)
            for name, n in zip(("slow", "fast"), self.shape, strict=True)
        )
        table["photons"] *= image[slow, fast]
        return table[table["photons"] >= threshold]

    def labels(self, threshold: float = 1.0) -> Labels:
        """Label the pixels with their spots: a ``Labels`` of images (slow, fast), about Bragg photons alone.

        ``spot`` int32 is the row of ``spot_table(threshold)`` that brings a pixel most photons, -1 where there are
        none or what brings most is not in the table; ``wavelength_A``, ``h``, ``k``, ``l`` float32 are means over the
        pixel's photons, NaN where there are none. They are made on the CPU by the engine of spots, whichever rendered
        the frame, each spot for itself: which takes far longer than a frame of few steps.

        Raises
        ------
        InputError
            As ``spot_table``; or if the engine of spots cannot render the frame.
        """
        from bragg_numba.render.labels import BYTES_OF_PIXEL, Labeller

        n_slow, n_fast = self.shape
        require("the label images", BYTES_OF_PIXEL * n_slow * n_fast, self._max_memory, f"{n_fast} x {n_slow} pixels")
        if self._labeller is None:
            self._labeller = Labeller(self.plan, self._precision, self._threads)
        found = self._labeller.label(self.spot_table(threshold))
        image = self.transmission()
        return found if image is None else found.without(image == 0.0)

    def slopes(
        self,
        parameters: str | Iterable[str],
        *,
        boxes: Sequence[Sequence[int]] | None = None,
        mask: np.ndarray | None = None,
        precision: str | None = None,
        at: Mapping[str, float] | None = None,
    ) -> Slopes:
        """Slopes of the photons in parameters of the experiment (docs/slopes.md); nothing is rendered yet.

        Parameters
        ----------
        parameters
            Names such as ``crystal.cell[0]`` and ``detector.distance_mm``, or words for several (``"orientation,
            cell, scale"``).
        boxes
            (fast_min, fast_max, slow_min, slow_max), inclusive: of the pixels in these alone; None: of all.
        mask
            bool (slow, fast): True where a pixel is wanted; None: everywhere.
        precision
            ``"auto"`` and ``"tile"``: terms in float32; ``"float64"``; None: as asked of the simulator.
        at
            Values of parameters where value and slopes are taken, if not the experiment's; cell counts are real here.

        Raises
        ------
        InputError
            By the name of what is no parameter or has no slope, a part of the experiment among them.
        """
        from bragg_numba.render.surroundings import surroundings
        from bragg_numba.slopes.differences import tangents_of
        from bragg_numba.slopes.parameters import find_parameters, frozen, plan_at
        from bragg_numba.slopes.pixels import Pixels, check_boxes
        from bragg_numba.slopes.slopes import Slopes, refuse_plan
        from bragg_numba.slopes.tangents import F2

        refuse_plan(self.plan)
        experiment = frozen(self.plan)
        found = find_parameters(experiment, parameters)
        plan = self.plan if at is None else plan_at(experiment, at, self.plan)
        tangents = tangents_of(experiment, [one for one in found if one.name != F2], at, oversample=plan.oversample)
        by_name = dict(zip((one.name for one in found if one.name != F2), tangents, strict=True))
        wanted = self._precision if precision is None else check.choice("precision", precision, PRECISIONS)
        renderer = self._renderer
        make: Callable[..., Slopes] = Slopes
        if self.backend != "cpu" and renderer.engine == "pixels":
            from bragg_numba.render.cuda_slopes import CudaSlopes

            make = partial(CudaSlopes, device=renderer.device)
        elif self.backend != "cpu" or wanted != self._precision:  # spots have slopes on the CPU alone
            renderer = choose_engine(self.plan, wanted, self._threads)
        return make(
            plan,
            {one.name: by_name.get(one.name) for one in found},
            pixels=Pixels(plan, mask=mask, boxes=None if boxes is None else check_boxes(plan, boxes)),
            surroundings=surroundings(plan, self._threads),
            precision=wanted,
            engine=renderer.engine,
            engine_reason=renderer.engine_reason,
            threads=self._threads,
            max_memory=self._max_memory,
        )

    def left_out(self) -> float:
        """Photons that the cutoff left out of the calling thread's last frame, all pixels together: about at most.

        What the spots' plane integrals (docs/series.md, "The truth") sum to, less what was rendered, and never more
        than the cutoff in every pixel. The integrals know spots by their centres: of one at the frame's edge they
        count all.
        """
        most = self.cut_photons * self.statistics.pixels
        if most == 0.0 or self.plan.rules.running:
            return most
        from bragg_numba.predict.spots import spot_table

        total = float(self._arriving(spot_table(self.plan, 0.0), 0.0)["photons"].sum())
        between = self._background_sum()
        if self.plan.diffuse is not None:
            diffuse, image = render_diffuse(self.plan), self.transmission()
            between += float((diffuse if image is None else diffuse * image).sum(dtype=np.float64))
        return min(most, max(total - (self.statistics.sum - between), 0.0))

    def _background_sum(self) -> float:
        """Photons of water and other backgrounds in the rendered pixels."""
        rules = self.plan.rules
        if rules.background == 0.0 and rules.flat_background == 0.0 and self.plan.amorphous is None:
            return 0.0
        from bragg_numba.render.background import without_reflections

        plan, background = without_reflections(self.plan), self._background
        dark = Simulator(
            self.experiment, backend="cpu", plan=plan, background=background, transmission=self._transmission
        )
        dark.render()
        return dark.statistics.sum

    def require_image_memory(self) -> None:
        """Raise InputError if a whole frame takes more memory than is allowed."""
        n_slow, n_fast = self.shape
        require("the image", 4 * n_slow * n_fast, self._max_memory, f"{n_fast} x {n_slow} pixels")

    def require_finite(self) -> None:
        """Raise InputError if the last frame holds more photons in a pixel than float32 can."""
        if not math.isfinite(self.statistics.sum):
            raise InputError(
                "the image",
                "has pixels beyond the largest float32, 3.4e38 photons",
                hint="lower the fluence, the structure factors or the size of the crystal",
            )

    def solid_angle(self) -> float:
        """Solid angle of the rendered pixels, steradian."""
        from bragg_numba.kernels import sums

        rows = np.zeros(self.shape[0])
        for panel in self.plan.panels:
            sums.sum_solid_angles(panel, self.plan.roi, self.plan.mask, rows)
        return float(rows.sum())

    def trace(self, slow: int, fast: int, max_steps: int | None = None):
        """Trace one pixel: a mapping of every intermediate quantity, see ``trace.pixel.Trace``.

        Computed in float64, whatever precision renders. ``max_steps`` bounds the sub-steps that are listed.
        """
        from bragg_numba.trace.pixel import MAX_STEPS, trace_pixel

        return trace_pixel(self.plan, slow, fast, MAX_STEPS if max_steps is None else max_steps)

    def _check_out(self, out) -> None:
        if not isinstance(out, np.ndarray) or out.shape != self.shape or out.dtype != np.float32:
            shown = f"{getattr(out, 'dtype', type(out).__name__)} {getattr(out, 'shape', '')}"
            raise InputError("out", f"must be a float32 array of shape {self.shape}", shown)
        if not out.flags.c_contiguous or not out.flags.writeable:
            raise InputError("out", "must be C-contiguous and writeable")

    def _start_on_device(self, out, device_array: bool, tally: Tally):
        """The device array that gets the photons, and the rendering into it, not yet begun."""
        if not hasattr(self._renderer, "render_on_device"):
            name = "device_array" if device_array else "out"
            if self.plan.parts is not None:
                rule = "must be left to the host where a frame has lattices or sizes of blocks: they are added there"
                raise InputError(name, rule)
            reason = f"this simulator renders on {self.backend}: {self.backend_reason}"
            raise InputError(name, "needs a CUDA backend", hint=reason)
        from bragg_numba.render import cuda

        if out is None:
            cuda.require_cupy()
            frame = self._renderer.new_frame()
            return cuda.as_caller_array(frame), self._renderer.render_on_device(frame, tally)
        frame = cuda.as_numba_array("out", out, self._renderer.device.index)
        if tuple(frame.shape) != self.shape or frame.dtype != np.float32 or not frame.is_c_contiguous():
            shown = f"{frame.dtype} {tuple(frame.shape)}"
            raise InputError("out", f"must be a C-contiguous float32 array of shape {self.shape}", shown)
        return out, self._renderer.render_on_device(frame, tally)


def _on_host(image) -> np.ndarray:
    """A frame in host memory; copied if it lies on a device."""
    if isinstance(image, np.ndarray):
        return image
    if hasattr(image, "copy_to_host"):
        return image.copy_to_host()
    import cupy

    return cupy.asnumpy(cupy.asarray(image))


def _to_device(image: np.ndarray, out) -> None:
    """Copy a frame into one that lies on a device."""
    if hasattr(out, "copy_to_device"):
        out.copy_to_device(image)
        return
    import cupy

    cupy.asarray(out)[...] = cupy.asarray(image)


def _choose_renderer(backend: str, plan: Plan, precision: str, threads: int | None):
    """The renderer of a backend; ``auto`` takes a GPU where one is usable, and remembers why not."""
    if plan.parts is not None:
        from bragg_numba.render.lattices import LatticesRenderer

        return LatticesRenderer(plan, lambda one: _choose_renderer(backend, one, precision, threads))
    from bragg_numba.render import devices

    if backend == "cpu":
        return choose_engine(plan, precision, threads)
    if backend == "auto":
        device, reason = devices.find_device()
        if device is None:
            return choose_engine(plan, precision, threads, reason)
        try:
            return choose_gpu_engine(plan, precision, device, threads, reason)
        except InputError as error:
            return choose_engine(plan, precision, threads, f"{device.name} is not used: {error}")
    index = devices.parse_backend(backend)
    if index is None:
        raise InputError("backend", "must be one of auto, cpu, cuda, cuda:N", backend)
    return choose_gpu_engine(plan, precision, devices.require_device(index), threads)


def simulate(experiment: Experiment, backend: str = "auto", **options) -> np.ndarray:
    """Render one frame: ``Simulator(experiment, backend=backend, **options).render()``.

    Returns
    -------
    numpy.ndarray
        (slow, fast) float32, photons.
    """
    return Simulator(experiment, backend=backend, **options).render()
