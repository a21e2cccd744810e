"""``nb-compare``: run nanoBragg.c and this package with the same flags, or take two files, and compare."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn, TypeVar

from bragg_numba.cli.console import open_streams, printed, replace_missing_streams
from bragg_numba.errors import InputError

Number = TypeVar("Number", int, float)

__all__ = ["entry", "main"]

GOOD, USAGE, PROGRAM_FAILED, BELOW_THRESHOLD, SHAPES_DIFFER, UNREADABLE = range(6)

#: Both the frame and its worst tile must correlate this well. Two correct float32 programs reach 0.9999999;
#: a wrong factor of 2 %, a shift of a tenth of a pixel or a wrong edge stay below.
DEFAULT_THRESHOLD = 0.9999
#: The percentile of the reference's positive pixels that is drawn black.
DEFAULT_PERCENTILE = 99.9

#: Flags of either program that name a file to write; nanoBragg.c takes any word that contains one of these.
OUTPUT_FLAGS = (
    *("-floatfile", "-floatimage", "-intfile", "-intimage", "-pgmfile", "-pgmimage"),
    *("-noisefile", "-noiseimage", "-stolout"),
)
#: Ours alone; matched whole.
OUR_OUTPUT_FLAGS = ("-h5file", "-o", "-pngfile")
#: What our command renders in float64, so that its bytes are the reference's; matched whole.
INTEGER_FLAGS = ("-intfile", "-intimage", "-noisefile", "-noiseimage", "-pgmfile", "-pgmimage")

#: Seconds of our run up to which it is repeated in the other arithmetic.
LITTLE_SECONDS = 20.0

#: What our command's report says of its arithmetic, and of its image's shape.
_ARITHMETIC = re.compile(r"pixel-steps on (\S+) in (\S+)")
_SHAPE = re.compile(r"\((\d+)x(\d+) pixels\)")

_DESCRIPTION = "Compare nanoBragg.c with bragg-numba on the same flags, or two image files with each other."
_EPILOG = f"""\
Ours renders in the arithmetic in which the same flags alone would: float64 where the reference's integer, noise
or grey images are made (without output flags they are), else what -precision auto chooses; a run of less than
{LITTLE_SECONDS:g} s is repeated in the other one, and both are judged. The report says which they were.

Images are compared whole and over a grid of tiles; the threshold applies to the correlation of the
frame and to that of its worst tile, so that a good centre cannot hide a bad edge. With --roi it applies
to the region, and a frame that is worse is warned of. Evidence goes to OUTDIR/YYYYMMDD-HHMMSS-HASH (with
--images only when --outdir is given): both programs' output, pictures, summary.json and report.html.

exit status:
  0  the images agree               3  they correlate below the threshold
  1  the command line is wrong      4  their shapes differ (see --resample)
  2  a program failed or is absent  5  a file could not be read or written

environment:
  NB_C_BIN  the nanoBragg program, where --c-bin is not given (default: ./nanoBragg)

examples:
  nb-compare -- -lambda 1 -cell 100 100 100 90 90 90 -default_F 100 -N 5 -distance 100 -detpixels 512
  nb-compare --images floatimage.bin frame.h5 --threshold {DEFAULT_THRESHOLD}
"""


class _Usage(Exception):
    """The command line is wrong."""


class _ProgramFailed(Exception):
    """A program is absent, failed or wrote no image."""


class _ShapesDiffer(Exception):
    """The images have different shapes."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Usage(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see ``nb-compare --help``.

    Parameters
    ----------
    argv
        Words after the command's name; those of the process without it.

    Returns
    -------
    int
        The exit status: 0 good, 1 usage, 2 a program failed, 3 below threshold, 4 shapes differ, 5 cannot
        read or write.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    replace_missing_streams()
    try:
        request = _parse(words)
        if request is None:
            return GOOD
        return _compare_files(request, request.images) if request.images else _compare_programs(request)
    except _Usage as error:
        print(f"{_usage()}nb-compare: error: {error}", file=sys.stderr)
        return USAGE
    except _ProgramFailed as error:
        print(f"nb-compare: {error}", file=sys.stderr)
        return PROGRAM_FAILED
    except _ShapesDiffer as error:
        print(f"nb-compare: {error}", file=sys.stderr)
        return SHAPES_DIFFER
    except InputError as error:
        print(f"nb-compare: {error}", file=sys.stderr)
        return UNREADABLE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"nb-compare: could not read or write {where}{error.strerror or error}", file=sys.stderr)
        return UNREADABLE


def entry() -> None:
    """Run :func:`main` as a command."""
    open_streams()
    sys.exit(printed(main(), UNREADABLE))


def _parser() -> _Parser:
    parser = _Parser(
        prog="nb-compare",
        usage="nb-compare [options] -- FLAGS...\n       nb-compare [options] --images A B",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--images", nargs=2, metavar=("A", "B"), help="compare these files (reference, ours) and run nothing")
    add(
        "--shape",
        nargs=2,
        type=_count,
        metavar=("SLOW", "FAST"),
        help="pixels of raw files that are not square",
    )
    add("--outdir", metavar="DIR", help="where evidence folders go (default: comparisons)")
    add(
        "--roi",
        nargs=4,
        type=_index,
        metavar=("XMIN", "XMAX", "YMIN", "YMAX"),
        help="judge this region: fast, then slow pixels, both ends included, as nanoBragg's -roi",
    )
    add("--threshold", type=_threshold, default=DEFAULT_THRESHOLD, metavar="T", help="default: %(default)s")
    add("--resample", action="store_true", help="bring ours to the reference's pixels if the shapes differ")
    add(
        "--png-scale",
        type=_percentile,
        default=DEFAULT_PERCENTILE,
        metavar="PCTL",
        help="percentile of the reference's positive pixels that is drawn black (default: %(default)s)",
    )
    add("--save-diff", action="store_true", help="also keep ours - reference as diff.bin, raw float32")
    add("--c-bin", metavar="PATH", help="the nanoBragg program (default: $NB_C_BIN, else ./nanoBragg)")
    add("--timeout", type=_seconds, metavar="S", help="seconds that each program may take (default: no limit)")
    add("--py-bin", metavar="CMD", help="our command, as a shell would take it (default: this package's)")
    return parser


def _usage() -> str:
    return _parser().format_usage()


def _number(text: str, kind: Callable[[str], Number], rule: str, holds: Callable[[Number], bool]) -> Number:
    with contextlib.suppress(ValueError):
        value = kind(text)
        if holds(value):
            return value
    raise argparse.ArgumentTypeError(f"must be {rule}, got {text!r}")


def _count(text: str) -> int:
    return _number(text, int, "a whole number of at least 1", lambda value: value >= 1)


def _index(text: str) -> int:
    return _number(text, int, "a pixel number of at least 0", lambda value: value >= 0)


def _threshold(text: str) -> float:
    return _number(text, float, "a correlation from -1 to 1", lambda value: -1.0 <= value <= 1.0)


def _percentile(text: str) -> float:
    return _number(text, float, "a percentile above 0, up to 100", lambda value: 0.0 < value <= 100.0)


def _seconds(text: str) -> float:
    return _number(text, float, "seconds above 0", lambda value: 0.0 < value < float("inf"))


@dataclass(frozen=True, slots=True)
class _Request:
    """The command line, understood."""

    images: tuple[str, str] | None
    shape: tuple[int, int] | None
    outdir: str | None
    region: tuple[slice, slice] | None
    threshold: float
    resample: bool
    percentile: float
    save_diff: bool
    c_bin: str
    py_bin: tuple[str, ...]
    timeout: float | None
    flags: tuple[str, ...]


def _parse(words: list[str]) -> _Request | None:
    """Return what is asked for, or None where it was help and that has been given."""
    cut = words.index("--") if "--" in words else len(words)
    flags = tuple(words[cut + 1 :])
    try:
        options = _parser().parse_args(words[:cut])
    except SystemExit:  # argparse leaves this way after it has printed the help
        return None
    if options.images and flags:
        raise _Usage("give either --images A B or -- FLAGS..., not both")
    if not options.images and not flags:
        raise _Usage("nothing to compare: give -- and nanoBragg's flags, or --images A B")
    if options.shape and not options.images:
        raise _Usage("--shape is for --images; the programs' own images tell their shape")
    return _Request(
        images=tuple(options.images) if options.images else None,
        shape=tuple(options.shape) if options.shape else None,
        outdir=options.outdir,
        region=_region(options.roi),
        threshold=options.threshold,
        resample=options.resample,
        percentile=options.png_scale,
        save_diff=options.save_diff,
        c_bin=options.c_bin or os.environ.get("NB_C_BIN") or "./nanoBragg",
        py_bin=_our_command(options.py_bin),
        timeout=options.timeout,
        flags=flags,
    )


def _region(roi: list[int] | None) -> tuple[slice, slice] | None:
    if roi is None:
        return None
    fast_first, fast_last, slow_first, slow_last = roi
    if fast_last < fast_first or slow_last < slow_first:
        raise _Usage("--roi XMIN XMAX YMIN YMAX must not end before it begins")
    return slice(slow_first, slow_last + 1), slice(fast_first, fast_last + 1)


def _our_command(text: str | None) -> tuple[str, ...]:
    if text is None:
        return (sys.executable, "-m", "bragg_numba.cli.nanobragg")
    try:
        command = tuple(shlex.split(text))
    except ValueError as error:
        raise _Usage(f"--py-bin could not be split into words: {error}") from error
    if not command:
        raise _Usage("--py-bin must name a command")
    return command


def _compare_files(request: _Request, paths: tuple[str, str]) -> int:
    from bragg_numba.lab.parity import evidence, images

    reference, ours = (images.load_image(path, request.shape) for path in paths)
    reference, ours, notes = _same_shape(reference, ours, request)
    folder = None
    if request.outdir is not None:
        _check_region(request.region, reference.shape)
        folder = evidence.new_folder(request.outdir, paths)
        evidence.write_commands(folder, [("this comparison", ("nb-compare", "--images", *paths))])
    title = f"{Path(paths[0]).name} against {Path(paths[1]).name}"
    return _judge(request, reference, ours, folder=folder, title=title, notes=notes)


def _compare_programs(request: _Request) -> int:
    from bragg_numba.lab.parity import evidence, images

    reference_command = (_find_program(request.c_bin),)
    our_command = (_find_program(request.py_bin[0], ours=True), *request.py_bin[1:])
    flags, notes = _without_outputs(request.flags)
    for note in notes:
        print(f"note: {note}")
    folder = evidence.new_folder(request.outdir or "comparisons", request.flags)
    # The reference alone is held to one thread: its sums then come in one order.
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="nb-compare-") as scratch:
        exact = _makes_integers(request.flags)
        plans = [
            _Plan("reference", "c", reference_command, one_thread, folder, Path(scratch)),
            _Plan("ours", "py", our_command, dict(os.environ), folder, Path(scratch), integers=exact),
        ]
        evidence.write_commands(folder, [(plan.comment(), plan.command(flags)) for plan in plans])
        runs = []
        for plan in plans:
            runs.append(_run(plan, flags, request.timeout))
            # One at a time: where the reference fails nobody waits for ours.
            _insist_on_success(runs, folder)
        arithmetic = _arithmetic(runs[1].stdout)
        again = _other_arithmetic(request, plans[1], arithmetic, runs[1].seconds)
        if again is not None:
            plans.append(again)
            runs.append(_run(again, flags, request.timeout))
            _insist_on_success(runs, folder)
            evidence.write_commands(folder, [(plan.comment(), plan.command(flags)) for plan in plans])
        shapes = [plan.shape() for plan in plans]
    reference, ours, *others = (
        images.load_image(run.floats, _fitting(run.floats, shape, shapes[0]))
        for run, shape in zip(runs, shapes, strict=True)
    )
    try:
        reference, ours, more = _same_shape(reference, ours, request)
    except _ShapesDiffer as error:
        _write_failure(folder, runs, str(error))
        raise
    also = []
    for run, image in zip(runs[2:], others, strict=True):
        name = _arithmetic(run.stdout)
        if name == arithmetic:
            notes = (*notes, f"ours renders this command line in {name} whichever files are asked for")
        else:
            also.append((name, _same_shape(reference, image, request)[1]))
    return _judge(
        request,
        reference,
        ours,
        folder=folder,
        title="nanoBragg.c against bragg-numba",
        notes=(*notes, *more),
        runs=tuple(runs),
        binary=reference_command[0],
        arithmetic=arithmetic,
        also=tuple(also),
    )


def _makes_integers(flags: Sequence[str]) -> bool:
    """Say whether a command line makes integer images: it names one, or no output at all."""
    outputs = (*OUTPUT_FLAGS, *OUR_OUTPUT_FLAGS)
    return any(word in INTEGER_FLAGS for word in flags) or not any(word in outputs for word in flags)


def _arithmetic(stdout: Path) -> str:
    """Return what our command said that it rendered in: "float64 on cpu"; empty where it said nothing."""
    text = stdout.read_bytes().decode("utf-8", "replace")
    said = _ARITHMETIC.search(text)
    precision, backend = (said[2], said[1]) if said else ("", "")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        report = json.loads(text)
        precision, backend = str(report["precision"]), str(report["backend"])
    return f"{'float32 (tile)' if precision == 'tile' else precision} on {backend}" if precision else ""


def _other_arithmetic(request: _Request, first: _Plan, arithmetic: str, seconds: float) -> _Plan | None:
    """Return how to run ours again in its other arithmetic, unless one was asked for or it takes long."""
    if not arithmetic or seconds > LITTLE_SECONDS or "-precision" in (*request.flags, *request.py_bin):
        return None
    if first.integers:  # the same command line, if it wrote photons alone
        return replace(first, name="ours, photons alone", short="py2", integers=False)
    if arithmetic.startswith("float64"):
        return None
    return replace(first, name="ours, float64", short="py2", extra=("-precision", "float64"))


def _find_program(name: str, *, ours: bool = False) -> str:
    """Return the program's full path; the programs run in the caller's folder, whatever PATH holds."""
    path = Path(name).expanduser()
    if path.is_file() and os.access(path, os.X_OK):
        return str(path.absolute())
    found = shutil.which(name)
    if found is not None:
        return found
    why = "is not executable" if path.is_file() else "does not exist"
    if ours:
        raise _ProgramFailed(f"our program {name!r} {why} (check --py-bin)")
    hint = "compile nanoBragg.c and name it with --c-bin PATH or NB_C_BIN"
    raise _ProgramFailed(f"the reference program {name!r} {why} ({hint})")


def _without_outputs(flags: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Drop the flags that name files to write, for each program writes into the evidence folder.

    ``-dump`` names a file to write beside ``-hkl``, but the file to read without it.
    """
    kept, notes, position = [], [], 0
    writes_dump = "-hkl" in flags
    while position < len(flags):
        word = flags[position]
        is_output = (
            word.startswith("-")
            and any(flag in word for flag in OUTPUT_FLAGS)
            or word in OUR_OUTPUT_FLAGS
            or (word == "-dump" and writes_dump)
        )
        if is_output and position + 1 < len(flags):
            notes.append(f"left out {word} {flags[position + 1]}: files go to the evidence folder")
            position += 2
        else:
            kept.append(word)
            position += 1
    return tuple(kept), tuple(notes)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one program is to be run."""

    name: str
    short: str  #: the stem of its files: c, py
    program: tuple[str, ...]
    variables: dict[str, str]
    folder: Path
    scratch: Path
    integers: bool = True  #: make the integer image too, which decides our arithmetic
    extra: tuple[str, ...] = ()

    @property
    def floats(self) -> Path:
        return self.folder / f"{self.short}.bin"

    def comment(self) -> str:
        threads = ", with OMP_NUM_THREADS=1" if self.name == "reference" else ""
        return f"{self.name}, run in {Path.cwd()}{threads}"

    def command(self, flags: Sequence[str]) -> tuple[str, ...]:
        return (*self.program, *self.outputs(flags), *self.extra, *flags)

    def _scratch_file(self, suffix: str) -> str:
        return str(self.scratch / f"{self.short}_{suffix}")

    def outputs(self, flags: Sequence[str]) -> list[str]:
        """Return flags that keep every output out of the caller's folder.

        Noise and PGM do not enter the float image and are not made, unless the flags ask for them again. They
        come after the names, for naming a noise file asks for noise.
        """
        words = ["-floatfile", str(self.floats)]
        if self.integers:
            words += ["-intfile", self._scratch_file("int.img")]
            words += ["-noisefile", self._scratch_file("noise.img"), "-pgmfile", self._scratch_file("image.pgm")]
            words += ["-nonoise", "-nopgm"]
        return words + (["-dump", self._scratch_file("Fdump.bin")] if "-hkl" in flags else [])

    def shape(self) -> tuple[int, int] | None:
        """Return (slow, fast) from the integer image's header, else from what was printed; floats do not hold it."""
        from bragg_numba.lab.parity import images

        with contextlib.suppress(InputError, OSError):
            return images.smv_shape(self._scratch_file("int.img"))
        text = (self.folder / f"{self.short}_stdout.txt").read_bytes().decode("utf-8", "replace")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            fast, slow = json.loads(text)["plan"]["pixels_fast_slow"]
            return slow, fast
        found = _SHAPE.search(text)
        return None if found is None else (int(found[2]), int(found[1]))


def _run(plan: _Plan, flags: Sequence[str], timeout: float | None):
    """Run one program in the caller's folder, where the names of its input files mean what they say."""
    from bragg_numba.lab.parity.evidence import ProgramRun

    command = plan.command(flags)
    stdout, stderr = (plan.folder / f"{plan.short}_{stream}.txt" for stream in ("stdout", "stderr"))
    print(f"running {plan.name}: {shlex.join(plan.program)} ...", flush=True)
    start = time.perf_counter()
    with open(stdout, "wb") as out, open(stderr, "wb") as err:
        try:
            status = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=plan.variables,
                timeout=timeout,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            err.write(f"ended after {timeout:g} s (--timeout)\n".encode())
            status = None
        except OSError as error:
            err.write(f"{error}\n".encode())
            status = None
    seconds = time.perf_counter() - start
    return ProgramRun(
        name=plan.name,
        command=command,
        status=status,
        seconds=seconds,
        stdout=stdout,
        stderr=stderr,
        floats=plan.floats,
    )


def _insist_on_success(runs, folder: Path) -> None:
    for run in runs:
        if run.status == 0 and run.floats.is_file() and run.floats.stat().st_size > 0:
            continue
        if run.status is None:
            what = "did not finish"
        elif run.status < 0:
            what = f"was ended by signal {-run.status}"
        elif run.status:
            what = f"failed with exit status {run.status}"
        else:
            what = "wrote no float image"
        text = f"{run.name} {what}{_last_words(run)} (its output is in {folder})"
        _write_failure(folder, runs, text)
        raise _ProgramFailed(text)


def _last_words(run) -> str:
    for path in (run.stderr, run.stdout):
        lines = path.read_bytes().decode("utf-8", "replace").strip().splitlines()
        if any(line.startswith("usage:") for line in lines):
            return ": it printed its usage, so flags are missing"
        if lines:
            return f": {lines[-1].strip()[:200]}"
    return ""


def _write_failure(folder: Path, runs, text: str) -> None:
    from bragg_numba.lab.parity import evidence

    content = {"verdict": text, "passed": False, "runs": [run.as_dict() for run in runs]}
    evidence.write_summary(folder, content)


def _fitting(path: Path, own, others) -> tuple[int, int] | None:
    """Return the first known shape that the file's size agrees with; None is a square."""
    count = path.stat().st_size // 4
    for shape in (own, others):
        if shape is not None and shape[0] * shape[1] == count:
            return shape
    return None


def _same_shape(reference, ours, request: _Request):
    """Return both images in one shape, and what was done for it."""
    from bragg_numba.lab.parity.images import resample

    if reference.shape == ours.shape:
        return reference, ours, ()
    theirs, mine = (" x ".join(map(str, image.shape)) for image in (reference, ours))
    if not request.resample:
        raise _ShapesDiffer(
            f"shapes differ: the reference has {theirs} pixels, ours {mine} (--resample brings ours to the reference's)"
        )
    note = f"ours was brought from {mine} to {theirs} pixels, keeping its photons"
    print(f"note: {note}")
    return reference, resample(ours, reference.shape), (note,)


def _check_region(region, shape) -> None:
    if region is not None and any(part.stop > length for part, length in zip(region, shape, strict=True)):
        raise _Usage(f"--roi reaches beyond the image of {shape[0]} x {shape[1]} (slow x fast) pixels")


def _judge(
    request: _Request, reference, ours, *, folder, title, notes=(), runs=(), binary=None, arithmetic="", also=()
) -> int:
    """Measure, print, keep; return the exit status. ``also`` are (arithmetic, image) pairs of ours."""
    from bragg_numba.lab.parity import evidence, metrics

    _check_region(request.region, reference.shape)

    def measured(image):
        if request.region is None:
            return metrics.compare_images(reference, image), None
        origin = tuple(part.start for part in request.region)
        part = metrics.compare_images(reference[request.region], image[request.region], origin=origin)
        return metrics.compare_images(reference, image), part

    whole, region = measured(ours)
    found = evidence.Evidence(
        title=title,
        threshold=request.threshold,
        whole=whole,
        region=region,
        runs=runs,
        notes=tuple(notes),
        arithmetic=arithmetic,
        also=tuple(evidence.InOtherArithmetic(name, *measured(image)) for name, image in also),
    )
    if folder is not None:
        evidence.write_evidence(
            folder,
            found,
            reference,
            ours,
            percentile=request.percentile,
            save_diff=request.save_diff,
            binary=binary,
        )
    _print_result(found, folder)
    return GOOD if found.passed else BELOW_THRESHOLD


def _print_result(found, folder: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    columns = [(title, dict(rows)) for title, rows in found.columns()]
    table = Table("", *(title for title, _ in columns), title=found.title, title_justify="left")
    for name in dict.fromkeys(name for _, rows in columns for name in rows):
        table.add_row(name, *(rows.get(name, "") for _, rows in columns))
    for run in found.runs:
        table.add_row(f"seconds, {run.name}", *[""] * (len(columns) - 1), f"{run.seconds:.2f}")
    Console().print(table)
    print(found.verdict())
    if found.region is not None and found.passed and not found.whole.passes(found.threshold):
        print("warning: the region is good, but the whole frame is below the threshold", file=sys.stderr)
    if folder is not None:
        print(f"evidence: {folder}")


if __name__ == "__main__":
    entry()
