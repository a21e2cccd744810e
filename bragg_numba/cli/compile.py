"""``bragg-numba compile``: prepare a machine, an image of a container or a cluster's shared folder on purpose."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator

HELP = (
    "Compile the CPU's kernels now, so that no later run on this machine has to: all of them, which takes minutes, "
    "or with nanoBragg's flags after -- those that such a command needs. They are kept beside the package, or where "
    "NUMBA_CACHE_DIR says, for this kind of processor."
)

#: An experiment of one tile; the table of a single reflection stands for any.
_LINE = "-cell 50 60 70 80 95 100 -default_F 1 -N 3 -distance 100 -detpixels_x 64 -detpixels_y 16 -oversample 1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    parser.add_argument("flags", nargs="*", metavar="-- FLAGS", help="nanoBragg's flags of a command to prepare for")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(arguments: argparse.Namespace) -> int:
    """Compile, and say what and how long it took."""
    jobs = list(_jobs_of_command(arguments.flags) if arguments.flags else all_jobs())
    start = time.perf_counter()
    for number, (name, job) in enumerate(jobs, start=1):
        begun = time.perf_counter()
        job()
        if not arguments.quiet:
            print(f"[{number}/{len(jobs)}] {name}: {time.perf_counter() - begun:.1f} s", flush=True)
    if not arguments.quiet:
        print(f"{len(jobs)} sets of kernels are ready after {time.perf_counter() - start:.0f} s")
    return 0


def all_jobs() -> Iterator[tuple[str, Callable[[], object]]]:
    """Every set of kernels that a plan can ask for on the CPU: its name, and what compiles it."""
    yield from _other_jobs()
    yield "float64", lambda: _render_in("float64", "square", placed=True)
    yield from _spots_jobs()
    for shape, placed, factors in itertools.product(_shapes(), (True, False), (False, True)):
        table = "table" if placed else "one F"
        extra = ", factors of each term" if factors else ""
        for form in ("lit groups",) if _ends(shape) else ():
            yield f"{shape}, {table}, {form}{extra}", _tile_job(shape, placed, factors, lit=True)
        for split in (False, True):
            form = "split changes" if split else "single changes"
            yield f"{shape}, {table}, {form}{extra}", _tile_job(shape, placed, factors, split=split)


def _spots_jobs() -> Iterator[tuple[str, Callable[[], object]]]:
    """The kernels of the engine of spots, and what finds them."""
    for shape, factors in itertools.product(_shapes(), (False, True)):
        for precision in ("tile",) if _ends(shape) else ("tile", "float64"):
            extra = ", factors of each term" if factors else ""
            yield f"{shape}, spots in {precision}{extra}", _spots_job(shape, precision, factors)


def _spots_job(shape: str, precision: str, factors: bool):
    experiment = _experiment(shape, placed=True, fidelity="physical" if factors else "nanobragg")
    sampling = experiment.sampling.replace(engine="spots", cutoff_photons=1e-3)
    return lambda: _render_a_corner(experiment.replace(sampling=sampling), precision)


def _jobs_of_command(flags: list[str]) -> Iterator[tuple[str, Callable[[], object]]]:
    from bragg_numba.experiment import Experiment
    from bragg_numba.render.simulator import Simulator

    experiment = Experiment.from_nanobragg(flags)
    # A corner alone would not be worth the engine of spots.
    engine = Simulator(experiment, backend="cpu").engine
    experiment = experiment.replace(sampling=experiment.sampling.replace(engine=engine))
    yield from _other_jobs()
    yield "what the command renders with", lambda: _render_a_corner(experiment, "auto")
    # The integer image is made in float64, and so are pixels that float32 cannot decide.
    yield "the same in float64", lambda: _render_a_corner(experiment, "float64")


def _shapes() -> tuple[str, ...]:
    from bragg_numba.kernels.parameters import SHAPE_NAMES

    return SHAPE_NAMES


def _ends(shape: str) -> bool:
    from bragg_numba.kernels.parameters import SHAPE_NAMES
    from bragg_numba.plan.arithmetic.cpu import LIT_RADIUS_SQUARED

    return SHAPE_NAMES.index(shape) in LIT_RADIUS_SQUARED


def _experiment(shape: str, placed: bool, fidelity: str = "nanobragg"):
    import numpy as np

    from bragg_numba.experiment import Experiment, StructureFactors

    experiment = Experiment.from_nanobragg(_LINE)
    indices = np.array([[0, 0, 1]], np.int32) if placed else None
    factors = StructureFactors(default_F=1.0, indices=indices, amplitudes=np.array([1.0]) if placed else None)
    crystal = experiment.crystal.replace(shape=shape)
    return experiment.replace(crystal=crystal, structure_factors=factors, fidelity=fidelity)


def _tile_job(shape: str, placed: bool, factors: bool, *, lit: bool = False, split: bool = False):
    from bragg_numba.plan.arithmetic.cpu import CpuArithmetic

    arithmetic = CpuArithmetic("tile", 0.0, "to compile it", split=split, seeks_lit=lit)
    return lambda: _render_in(arithmetic, shape, placed=placed, factors=factors)


def _render_in(arithmetic, shape: str, *, placed: bool, factors: bool = False) -> None:
    """Render one tile in an arithmetic, whatever the plan would choose."""
    import numpy as np

    from bragg_numba.plan.plan import make_plan
    from bragg_numba.render.cpu import CpuRenderer

    plan = make_plan(_experiment(shape, placed, "physical" if factors else "nanobragg"))
    renderer = CpuRenderer(plan, "float64")
    if arithmetic != "float64":
        renderer.use(arithmetic)
    renderer.render_rows(0, plan.shape[0], np.zeros(plan.shape, np.float32))


def _render_a_corner(experiment, precision: str) -> None:
    """Render one tile of an experiment; with the engine of spots their table and labels, too."""
    from bragg_numba.render.simulator import Simulator

    n_slow, n_fast = experiment.detector.shape
    corner = experiment.sampling.replace(roi=(0, min(63, n_fast - 1), 0, min(15, n_slow - 1)))
    simulator = Simulator(experiment.replace(sampling=corner), backend="cpu", precision=precision)
    simulator.render()
    if simulator.truth == "summed":
        simulator.labels()


def _other_jobs() -> Iterator[tuple[str, Callable[[], object]]]:
    """What does not depend on the experiment: sums over a frame, orientations, counts, noise, spots."""
    import numpy as np

    from bragg_numba.kernels.atoms import sum_waves
    from bragg_numba.plan.plan import make_plan
    from bragg_numba.predict.spots import spot_table
    from bragg_numba.render.statistics import StatisticsCollector
    from bragg_numba.response.classic import noise_image
    from bragg_numba.response.counter import draw_counts, poisson
    from bragg_numba.response.response import Response

    plan = make_plan(_experiment("square", placed=True))
    photons = np.ones(plan.shape, np.float32)

    def sums() -> None:
        collector = StatisticsCollector(plan)
        collector.add(photons)
        collector.result()

    def counts() -> None:
        poisson(photons, 1)
        for kind in (np.uint16, np.uint32):
            draw_counts(photons, 1, 0, np.empty(photons.shape, kind), top=100)

    def responses() -> None:
        response = Response.preset("rayonix", point_spread_um=1.0)
        for one in (response, Response.preset("eiger2", hot_pixels=0.1, flicker=0.1)):
            one.apply(photons, 1)

    def orientations() -> None:
        crystal = plan.experiment.crystal.replace(misset_deg="random", mosaic_spread_deg=1.0, mosaic_domains=2)
        make_plan(plan.experiment.replace(crystal=crystal))

    def waves() -> None:
        rows, firsts = np.zeros((1, 4), np.int64), np.array([0, 1], np.int64)
        numbers = np.zeros(6), firsts, np.zeros((1, 9)), np.zeros((1, 10))
        sum_waves(rows, *numbers, np.zeros((1, 1), np.complex128))

    def background() -> None:
        from bragg_numba.experiment import Background, Diffuse
        from bragg_numba.render.amorphous import render_layers
        from bragg_numba.render.diffuse import render_diffuse

        nouns = {"backgrounds": (Background(material="water"),), "diffuse": Diffuse()}
        with_them = make_plan(plan.experiment.replace(**nouns))
        assert with_them.amorphous is not None
        render_layers(with_them.amorphous)
        render_diffuse(with_them)

    yield "backgrounds and diffuse scattering", background
    yield "sums over a frame", sums
    yield "structure factors of atoms", waves
    yield "random orientations and mosaic domains", orientations
    yield "counts", counts
    yield "responses of detectors", responses
    yield "nanoBragg's noise", lambda: noise_image(photons, 1)
    yield "spots", lambda: spot_table(plan)
