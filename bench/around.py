"""What a warm render is embedded in: starts of processes, memory, growth, skipped work, series.

Each function measures one thing and returns a number. ``AROUND`` lists them with what is asked for.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from cases import (
    CASES,
    FIDELITIES,
    GEOMETRY,
    PANELS,
    PANELS_LINE,
    SERIAL,
    SERIAL_LINE,
    SLOPES,
    SLOPES_LINE,
    tiled,
    wilson_factors,
)
from pairs import paired_ratio, seconds

from bragg_numba import Experiment, Simulator
from bragg_numba.plan.plan import make_plan
from bragg_numba.tolerances import allowed

_LINE = CASES["benchmark_4096"][1]

#: To this come pixels and mosaic domains: the work grows, its kind stays.
GROWTH = "-cell 100 100 100 90 90 90 -default_F 100 -N 20 -lambda 1 -detsize 100 -distance 100 -oversample 1 -mosaic 1"

#: Detectors, and how many times as long as plain Poisson counts they may take.
RESPONSES = {"eiger2": 1.5, "jungfrau": 2.5, "rayonix": 8.0}

# What a child process does; each prints one number.
_IMPORT = "import time; t = time.perf_counter(); import bragg_numba; print(time.perf_counter() - t)"
_FIRST_PIXEL = (
    "import sys, time; from bragg_numba import Experiment, simulate; "
    "simulate(Experiment.from_nanobragg(sys.argv[1])); print(time.time())"
)
_PEAK = (
    "import contextlib, io, re, sys; from bragg_numba.cli.nanobragg import main\n"
    "with contextlib.redirect_stdout(io.StringIO()):\n    status = main(sys.argv[1:])\n"
    "print(1024 * int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]))\nsys.exit(status)"
)


def _child(code: str, *words: str) -> float:
    done = subprocess.run([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])


def import_seconds(times: int = 5) -> float:
    """Seconds of ``import bragg_numba`` in a new process."""
    return statistics.median(_child(_IMPORT) for _ in range(times))


def first_pixel_seconds(times: int = 5) -> float:
    """Seconds from the start of a process to its first rendered pixel, kernels in their cache."""
    line = _LINE.replace("-detpixels 4096", "-detpixels 64")
    _child(_FIRST_PIXEL, line)

    def once() -> float:
        start = time.time()
        return _child(_FIRST_PIXEL, line) - start

    return statistics.median(once() for _ in range(times))


def whole_process_over_c(binary: str, *, integers: bool = False, pairs: int = 5) -> float:
    """Our whole command over the C program's, both writing raw floats.

    The C program writes its integer image as well: it has no flag against it. ``integers`` asks us for that
    too, which makes us render in float64.
    """
    words = [*_LINE.split(), "-floatfile", "f.bin", "-noprogress"]
    ours = [sys.executable, "-m", "bragg_numba.cli.nanobragg", *words]
    if integers:
        ours += ["-intfile", "i.img"]
    theirs = [os.path.realpath(binary), *words, "-nonoise", "-nopgm"]
    threads = os.environ["NUMBA_NUM_THREADS"]
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    with tempfile.TemporaryDirectory() as folder:

        def run(command) -> None:
            subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)

        return paired_ratio(lambda: run(ours), lambda: run(theirs), pairs, repeats=1)


def physical_over_nanobragg(pairs: int = 7) -> float:
    """Time of fidelity ``physical`` over that of ``nanobragg``: 20 domains, oversample 2, 3 layers."""
    sims = {name: Simulator(Experiment.from_nanobragg(line)) for name, line in FIDELITIES.items()}
    outs = {name: np.zeros(sim.shape, np.float32) for name, sim in sims.items()}
    return paired_ratio(
        lambda: sims["physical"].render(outs["physical"]),
        lambda: sims["nanobragg"].render(outs["nanobragg"]),
        pairs,
        repeats=1,
    )


def growth(small: str, large: str, factor: float, pairs: int = 5) -> float:
    """Exponent of the time's growth between two lines whose work differs by ``factor``; 1 is linear."""
    sims = [Simulator(Experiment.from_nanobragg(f"{GROWTH} {words}")) for words in (large, small)]
    outs = [np.zeros(sim.shape, np.float32) for sim in sims]
    ratio = paired_ratio(lambda: sims[0].render(outs[0]), lambda: sims[1].render(outs[1]), pairs, repeats=2)
    return math.log(ratio) / math.log(factor)


def growth_with_pixels() -> float:
    """Exponent of the time against pixels, 1024^2 to 4096^2."""
    return growth("-detpixels 1024 -mosaic_dom 5", "-detpixels 4096 -mosaic_dom 5", 16.0, pairs=3)


def growth_with_steps() -> float:
    """Exponent of the time against steps, 20 to 160 mosaic domains."""
    return growth("-detpixels 512 -mosaic_dom 20", "-detpixels 512 -mosaic_dom 160", 8.0)


def peak_bytes(words: str) -> float:
    """Largest resident memory of a whole command, its interpreter and libraries included (Linux)."""
    with tempfile.TemporaryDirectory() as folder:
        return _child(_PEAK, *words.format(folder=folder).split(), "-noprogress")


def peak_of_4096() -> float:
    """Peak of a 4096 x 4096 render that writes raw floats."""
    return peak_bytes(f"{_LINE} -floatfile {{folder}}/f.bin")


def peak_of_16384() -> float:
    """Peak of a 16,384 x 16,384 frame that streams to HDF5."""
    line = _LINE.replace("-detpixels 4096 -pixel 0.1", "-detpixels 16384 -pixel 0.025")
    return peak_bytes(f"{line} -o {{folder}}/f.h5")


def cut_protein() -> tuple[Simulator, Simulator]:
    """The protein case with its table cut at 3 angstrom: as it is, and with skipping switched off.

    A kernel may skip only where unlisted reflections have no amplitude. That the second plan's ``default_F``
    is not 0 forbids it; the table, all that is ever summed, is the same.
    """
    experiment = Experiment.from_nanobragg(CASES["protein"][1])
    factors = experiment.structure_factors
    cell = make_plan(experiment).cell
    stars = np.array([cell.a_star, cell.b_star, cell.c_star])
    kept = np.linalg.norm(factors.indices @ stars, axis=1) <= 1.0 / 3.0
    cut = factors.replace(indices=factors.indices[kept], amplitudes=factors.amplitudes[kept])
    skipping = Simulator(experiment.replace(structure_factors=cut))
    plan = skipping.plan
    never_dark = dataclasses.replace(plan, lookup=plan.lookup._replace(default_F=1e-300))
    return skipping, Simulator(skipping.experiment, plan=never_dark)


def gain_of_skipping(pairs: int = 5) -> float:
    """Speed gained by skipping what no reflection reaches, on the cut protein; the images must be equal."""
    skipping, plodding = cut_protein()
    quick, whole = (np.zeros(skipping.shape, np.float32) for _ in range(2))
    gain = paired_ratio(lambda: plodding.render(whole), lambda: skipping.render(quick), pairs)
    assert np.array_equal(quick, whole), "skipping must not change a pixel"
    assert (quick == 0.0).any(), "the cut must leave dark pixels"
    return gain


def panels_over_plane(name: str, pairs: int = 15) -> float:
    """Time a pixel of a detector of panels over that of one plane with as many pixels."""
    columns, rows, n_fast, n_slow = PANELS[name]
    size = f"-detpixels_x {columns * n_fast} -detpixels_y {rows * n_slow}"
    plane = Simulator(Experiment.from_nanobragg(PANELS_LINE.format(size)))
    panels = Simulator(plane.experiment.replace(detector=tiled(columns, rows, n_fast, n_slow)))
    outs = [np.zeros(sim.shape, np.float32) for sim in (panels, plane)]
    return paired_ratio(lambda: panels.render(outs[0]), lambda: plane.render(outs[1]), pairs, repeats=1)


def amorphous_seconds(times: int = 5) -> float:
    """Seconds of a layer of water on 4096 x 4096 pixels, which a series renders once."""
    from bragg_numba import Background
    from bragg_numba.render.amorphous import render_layers

    experiment = Experiment.from_nanobragg(_LINE).replace(backgrounds=(Background(material="water"),))
    plan = make_plan(experiment).amorphous
    return statistics.median(seconds(lambda: render_layers(plan)) for _ in range(times))


def response_over_poisson(name: str, pairs: int = 5) -> float:
    """Time of a detector's whole response over that of plain Poisson counts, 4096^2.

    Of mean 1, and as uneven as a frame with spots on a background.
    """
    from bragg_numba import Response, poisson

    photons = np.random.default_rng(1).gamma(0.5, 2.0, (4096, 4096)).astype(np.float32)
    response, out = Response.preset(name), np.empty(photons.shape, np.uint32)
    whole, plain = lambda: response.record(photons, 1, out=out), lambda: poisson(photons, 1, out=out)
    return paired_ratio(whole, plain, pairs, repeats=1)


def brightest_over_dim(pixels: int = 2**22, pairs: int = 5) -> float:
    """Time of Poisson counts of the slowest of some means up to 1e6 over that of a mean of 5."""
    from bragg_numba import poisson

    frames = {mean: np.full((1024, pixels // 1024), mean, np.float32) for mean in (5, 12, 50, 1e3, 1e5, 1e6)}
    out = np.empty(frames[5].shape, np.uint32)
    ways = {mean: functools.partial(poisson, frame, 1, out=out) for mean, frame in frames.items()}
    return max(paired_ratio(ways[mean], ways[5], pairs, repeats=1) for mean in ways if mean != 5)


def spots_over_pixels(cells: int, pairs: int = 5, rows: int = 96) -> float:
    """Speed of a frame of a serial experiment by spots over that by pixels, which render its middle ``rows`` only."""
    experiment = Experiment.from_nanobragg(SERIAL_LINE.format(cells))
    experiment = experiment.replace(structure_factors=wilson_factors((67.2, 59.8, 47.2, 110.3), 2.0))
    n_slow, n_fast = experiment.detector.shape
    first = (n_slow - rows) // 2
    band = experiment.sampling.replace(engine="pixels", roi=(0, n_fast - 1, first, first + rows - 1))
    pixels = Simulator(experiment.replace(sampling=band))
    frame, part = (np.zeros((n_slow, n_fast), np.float32) for _ in range(2))

    def by_spots() -> None:  # with all that a new frame takes
        Simulator(experiment.replace(sampling=experiment.sampling.replace(engine="spots"))).render(frame)

    ratio = paired_ratio(lambda: pixels.render(part), by_spots, pairs, repeats=2) * n_slow / rows
    wanted = slice(first, first + rows)
    off = np.abs(frame[wanted] - part[wanted])
    assert (off <= allowed(part[wanted], float(frame.max()))).all(), "both engines must render the same image"
    return ratio


def slopes_over_value(shape: str, pairs: int = 7) -> float:
    """Time of photons and their slopes in 18 parameters, images of all, over that of the photons' render.

    In processor time and with one thread: what else runs takes little from either.
    """
    simulator = Simulator(Experiment.from_nanobragg(SLOPES_LINE.format(shape)), backend="cpu", threads=1)
    slopes, out = simulator.slopes(GEOMETRY), np.zeros(simulator.shape, np.float32)

    def spent(job: Callable[[], object]) -> float:
        start = time.thread_time()
        job()
        return time.thread_time() - start

    def once() -> float:
        return spent(slopes.value_and_images) / min(spent(lambda: simulator.render(out)) for _ in range(2))

    once()
    return statistics.median(once() for _ in range(pairs))


def series_frames_per_s(frames: int = 16) -> float:
    """Frames a second of a series of 4096^2 single-step frames, Poisson counts only, compressed."""
    from bragg_numba.series import rotation_series

    experiment = Experiment.from_nanobragg(_LINE)

    def write(folder: str, n: int) -> None:
        series = rotation_series(experiment, start_deg=0.0, width_deg=0.1, n=n)
        series.write(Path(folder) / f"s{n}", photons=False, counts="uint16", seed=7)

    with tempfile.TemporaryDirectory() as folder:
        write(folder, 2)
        return frames / seconds(lambda: write(folder, frames))


def training_frames_per_s(frames: int = 48, workers: int = 2) -> float:
    """Frames a second that reach a training loop: 1024^2 photons read from a file, new Poisson counts, float32 tensors.

    Of a second pass, when the workers are there and have their kernels.
    """
    from bragg_numba.series import still_series
    from bragg_numba.torch import Frames

    line = _LINE.replace("-detpixels 4096 -pixel 0.1", "-detpixels 1024 -pixel 0.4")
    with tempfile.TemporaryDirectory() as folder:
        still_series(Experiment.from_nanobragg(line), frames).write(Path(folder) / "s", exports=False)
        data = Frames(Path(folder) / "s_master.h5", truth="spots")
        loader = data.loader(4, num_workers=workers, persistent_workers=True)

        def learn() -> None:
            for batch in loader:
                batch["frame"].mean()

        learn()
        return frames / seconds(learn)


@dataclasses.dataclass(frozen=True)
class Around:
    """One figure: what it is, its unit, what is asked for and how it is measured.

    ``asked`` is a bound from above where ``most``, else from below; None: there is none. ``needs`` names a module that
    not every machine has.
    """

    title: str
    unit: str
    measure: Callable[[], float]
    asked: float | None
    most: bool = True
    needs: str | None = None

    @property
    def lacking(self) -> str:
        """Why it cannot be measured here; empty where it can."""
        absent = self.needs is not None and importlib.util.find_spec(self.needs) is None
        return f"{self.needs} is not installed" if absent else ""

    def holds(self, value: float) -> bool | None:
        """Whether a figure is as asked."""
        if self.asked is None:
            return None
        return value <= self.asked if self.most else value >= self.asked


AROUND = {
    "import": Around("import bragg_numba", "s", import_seconds, 0.4),
    "first_pixel": Around("first pixel of a second process", "s", first_pixel_seconds, 1.5),
    "physical_over_nanobragg": Around("physical over nanobragg", "x", physical_over_nanobragg, 1.5),
    "growth_with_pixels": Around("time grows with pixels^", "", growth_with_pixels, 1.15),
    "growth_with_steps": Around("time grows with steps^", "", growth_with_steps, 1.15),
    "peak_4096": Around("peak memory, 4096^2", "bytes", peak_of_4096, 350e6),
    "peak_16384": Around("peak memory, 16384^2 streamed to HDF5", "bytes", peak_of_16384, 700e6),
    "amorphous_4096": Around("amorphous background, 4096^2, once a series", "s", amorphous_seconds, 0.1),
    "bright_pixels": Around("Poisson counts of any mean over those of mean 5", "x", brightest_over_dim, 3.0),
    **{
        f"response_{name}": Around(
            f"response of {name} over Poisson counts, 4096^2", "x", functools.partial(response_over_poisson, name), most
        )
        for name, most in RESPONSES.items()
    },
    "gain_of_skipping": Around("gain of skipping, protein cut at 3 A", "x", gain_of_skipping, None, most=False),
    **{
        f"panels_{PANELS[name][0] * PANELS[name][1]}": Around(
            f"{name} over one plane", "x", functools.partial(panels_over_plane, name), 1.1
        )
        for name in PANELS
    },
    **{
        f"spots_{cells}": Around(
            f"spots over pixels, 3000^2, 2500 steps, gauss N {cells}",
            "x",
            functools.partial(spots_over_pixels, cells),
            SERIAL[cells],
            most=False,
        )
        for cells in SERIAL
    },
    **{
        f"slopes_{shape}": Around(
            f"photons and 18 slopes over photons, 512^2, 100 domains, {shape}",
            "x",
            functools.partial(slopes_over_value, shape),
            SLOPES[shape],
        )
        for shape in SLOPES
    },
    "series": Around("series of 4096^2 counts, one step", "frames/s", series_frames_per_s, None, most=False),
    "training": Around(
        "frames of 1024^2 fed to a training loop, 2 workers",
        "frames/s",
        training_frames_per_s,
        None,
        most=False,
        needs="torch",
    ),
}

#: The same for figures that need the C program's binary.
AROUND_C = {
    "process_over_c": ("whole process over the C program's, raw floats", False, 0.6),
    "process_with_integers_over_c": ("the same, our integer image (float64) too", True, None),
}
