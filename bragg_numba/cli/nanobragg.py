"""``nanobragg-numba``: nanoBragg's command line."""

from __future__ import annotations

import gc
import json
import shlex
import sys
import time
from collections.abc import Iterator

from bragg_numba.cli.console import (
    REFUSED,
    compilation_announced,
    guarded,
    leave,
    open_streams,
    printed,
    progress_bar,
    say_error,
    say_notes,
)
from bragg_numba.errors import BraggError, InputError


def main(argv=None) -> int:
    """Run one nanoBragg command line; may be called again and again in one process.

    Parameters
    ----------
    argv
        Words without the program's name; None: those of this process.

    Returns
    -------
    int
        0 on success, 2 when the input was refused (one sentence on stderr), 130 when interrupted.
    """
    words = [str(word) for word in (sys.argv[1:] if argv is None else argv)]
    return guarded(lambda: _run(words))


def entry() -> None:
    """Console script."""
    gc.set_threshold(100_000)  # imports make many objects and hardly any garbage: looking for it takes a tenth of them
    open_streams()
    leave(printed(main(), REFUSED))


def _run(words: list[str]) -> int:
    from bragg_numba.dialect import CommandLine, parse
    from bragg_numba.dialect.flags import help_text, usage
    from bragg_numba.experiment import Experiment

    if any(word in ("-h", "-help", "--help", "--h") for word in words):
        print(help_text(), end="")
        return 0
    if any(word in ("-version", "--version") for word in words):
        from bragg_numba.versions import __version__

        print(f"nanobragg-numba {__version__}")
        return 0
    given = parse(words)
    keys = {one.flag.key for one in given}
    if not keys & {"cell", "mat", "expt", "mtz", "cif", "pdb"}:
        return _refuse_with_usage(usage(), "needs a crystal: -cell a b c al be ga, or -mat FILE, or a file of one")
    try:
        line = CommandLine(given)
        experiment, request = Experiment.from_command_line(line), line.request()
    except BraggError as error:
        if getattr(error, "name", "") == "StructureFactors":
            return _refuse_with_usage(
                usage(), "needs structure factors: -hkl FILE, or -default_F F, or a file of a crystal"
            )
        raise
    return render_request(experiment, request, "nanobragg-numba " + shlex.join(words))


def _refuse_with_usage(usage: str, sentence: str) -> int:
    print(usage, end="")
    say_error(f"nanobragg-numba {sentence}")
    return 2


def render_request(experiment, request, command: str) -> int:
    """Render an experiment and write what a command line asks for; print the report."""
    with compilation_announced():
        return _render_request(experiment, request, command)


def _render_request(experiment, request, command: str) -> int:
    from bragg_numba.cli.outputs import write_outputs
    from bragg_numba.cli.report import plan_lines, plan_report, result_doubts
    from bragg_numba.cli.streaming import stream_outputs, streams
    from bragg_numba.io.atomic import require_writable
    from bragg_numba.predict.holes import hole_lines
    from bragg_numba.render.simulator import Simulator

    for name in ("h5_file", "png_file", "float_file", "int_file", "noise_file", "pgm_file"):
        if getattr(request, name):
            require_writable(getattr(request, name))
    started = time.perf_counter()
    sim = Simulator(
        experiment,
        backend=request.backend,
        precision=_precision(experiment, request),
        threads=request.threads or None,
        max_memory=request.max_memory,
    )
    if request.int_file or request.noise_file:
        sim.plan.detector.require_single("an SMV image")
    by_tiles = streams(request, sim.plan)
    if not by_tiles:
        sim.require_image_memory()
    if request.printout_pixel is not None:
        _check_pixel(request.printout_pixel, sim.shape)
    say_notes([*request.notes, *sim.plan.notes])
    if not request.json:
        print("nanoBragg physics by bragg_numba")
        print("\n".join(plan_lines(sim.plan)))
        print(f"  rendering {sim.plan.pixel_steps:.4g} pixel-steps on {sim.backend} in {sim.precision}")
        print(f"  {sim.backend}: {sim.backend_reason}")
        print(f"  engine {sim.engine}: {sim.engine_reason}")
        sys.stdout.flush()
    holes = sim.describe_structure_factors()
    planned = time.perf_counter()
    if by_tiles:
        with progress_bar("rendering and writing", request.progress) as progress:
            written = stream_outputs(request, sim, command, holes, progress)
        image, rendered = None, time.perf_counter()
    else:
        with progress_bar("rendering", request.progress) as progress:
            image = sim.render(progress=progress)
        sim.require_finite()
        rendered = time.perf_counter()
        written = write_outputs(request, sim, image, command, holes)
    doubts = result_doubts(sim.plan, sim.statistics, written)
    request.notes += doubts
    say_notes([*sim.notes[len(sim.plan.notes) :], *doubts])
    done = time.perf_counter()
    seconds = {"plan": planned - started, "render": rendered - planned, "write": done - rendered}
    if request.json:
        report = {
            "plan": plan_report(sim.plan),
            "structure_factors": holes,
            "statistics": sim.statistics.as_dict(),
            "solid_angle_sr": sim.solid_angle(),
            "output": written,
            "backend_reason": sim.backend_reason,
            **sim.describe_rendering(),
            "left_out_photons": _left_out(sim),
            "seconds": seconds,
            "notes": [*request.notes, *sim.notes],
        }
        print(json.dumps(report))
        return 0
    for line in [*hole_lines(holes), *result_lines(sim, written)]:
        print(line)
    if request.printout:
        for line in _printout(request, sim.plan, image):
            print(line)
    rate = sim.plan.pixel_steps / max(seconds["render"], 1e-9)
    print(
        f"plan {seconds['plan']:.2f} s, render {seconds['render']:.2f} s "
        f"({rate:.3g} pixel-steps/s), write {seconds['write']:.2f} s"
    )
    return 0


def result_lines(sim, written: dict) -> list[str]:
    """The statistics as nanoBragg prints them, and what was written."""
    s = sim.statistics
    angle = sim.solid_angle()
    lines = [
        "solid angle subtended by detector = %g steradian ( %g%% sphere)" % (angle, angle / 0.12566370614359174),
        "max_I = %g  at %g %g" % (s.max, s.max_fast_m, s.max_slow_m),
        "mean= %g rms= %g rmsd= %g" % (s.mean, s.rms, s.rmsd),
    ]
    if (left_out := _left_out(sim)) is not None:
        lines.append(
            "cutoff: no pixel lacks more than %g photons, all together about %g at most" % (sim.cut_photons, left_out)
        )
    if "intfile_scale" in written:
        lines.append("intfile_scale = %g" % written["intfile_scale"])
    if "pgm_scale" in written:
        lines.append("pgm_scale = %g" % written["pgm_scale"])
    if "noise_photons" in written:
        lines.append("%.0f photons on noise image (%d overloads)" % (written["noise_photons"], written["overloads"]))
    lines += [f"wrote {path}" for path in written["files"]]
    return lines


def _left_out(sim) -> float | None:
    """Photons that a cutoff left out of the frame at most; None where none was asked for, or has an effect."""
    return sim.left_out() if sim.experiment.sampling.cutoff_photons > 0.0 and sim.cut_photons > 0.0 else None


def _precision(experiment, request) -> str:
    """The reference's bytes need its arithmetic: one last bit of a photon may turn a rounding or a draw."""
    exact = request.int_file or request.noise_file or request.pgm_file
    if request.precision == "auto" and exact and experiment.fidelity == "nanobragg":
        return "float64"
    return request.precision


def _check_pixel(pixel: tuple[int, int], shape: tuple[int, int]) -> None:
    n_slow, n_fast = shape
    fast, slow = pixel
    if not (0 <= fast < n_fast and 0 <= slow < n_slow):
        raise InputError("-printout_pixel", f"must lie on the {n_fast} x {n_slow} detector", pixel)


def _printout(request, plan, image) -> Iterator[str]:
    from bragg_numba.cli.report import pixel_lines

    n_slow, n_fast = image.shape
    if request.printout_pixel is not None:
        fast, slow = request.printout_pixel
        yield from pixel_lines(plan, fast, slow, float(image[slow, fast]))
        return
    for slow in range(n_slow):
        for fast in range(n_fast):
            yield f"{fast:4d} {slow:4d} : pixel {image[slow, fast]:15.10g}"


if __name__ == "__main__":
    entry()
