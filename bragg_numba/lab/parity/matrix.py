"""Run the matrix of parity cases: against the C program where there is one, else against golden data."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bragg_numba.errors import BraggError, InputError
from bragg_numba.lab.parity.cases import Case, Law, Point

if TYPE_CHECKING:
    import numpy as np

__all__ = ["FAILED", "PASSED", "SKIPPED", "Command", "Golden", "Outcome", "Reference", "run_cases"]

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
#: Side of the golden file's blocks, pixels.
BLOCK = 64
#: The central region that full frames are judged on as well, pixels.
CENTRE = 512
#: Longest side of a picture in the report, pixels.
PICTURE = 192
#: What the times of full frames are called.
COLD, WARM = "ours, a process of its own", "ours, warm render"
_SUFFIX = {"float": ".bin", "int": "_int.img", "noise": "_noise.img", "pgm": ".pgm"}


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What was found for one point of the matrix."""

    name: str
    case: str
    stands_for: str
    words: tuple[str, ...]
    status: str = PASSED
    against: str = ""  #: "reference", "golden data", or "a law"
    reasons: list[str] = field(default_factory=list)  #: why it failed or was skipped
    excess: float = 0.0  #: largest |difference| over what is allowed for the pixel; at most 1 where it agrees
    correlation: float | None = None
    sum_ratio: float | None = None
    worst_tile: str = ""
    worst_correlation: float | None = None
    centre: dict | None = None  #: the same for the central region of a full frame
    seconds: dict[str, float] = field(default_factory=dict)
    brightest: tuple[int, int] | None = None  #: (slow, fast)
    largest: float = 0.0  #: our brightest pixel
    total: float = 0.0  #: our sum
    pictures: tuple[np.ndarray, ...] | None = None  #: reference, ours (or parts of them), their difference

    def fail(self, reason: str) -> None:
        """Mark as failed, and why."""
        self.status = FAILED
        self.reasons.append(reason)

    def as_dict(self) -> dict:
        """Return a form that JSON can hold."""
        found = {name: getattr(self, name) for name in self.__slots__ if name != "pictures"}
        return {name: _json(value) for name, value in found.items()}


def _json(value):
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, tuple | list):
        return [_json(part) for part in value]
    if isinstance(value, dict):
        return {key: _json(part) for key, part in value.items()}
    return value


# --- the three sources of images ----------------------------------------------------------------


_FLAGS = {"float": "-floatfile", "int": "-intfile", "noise": "-noisefile", "pgm": "-pgmfile"}


def _our_outputs(stem: Path, words: Iterable[str], images: Iterable[str]) -> list[str]:
    """Flags for the files that are compared and no others: which files are asked for decides the arithmetic."""
    kinds = dict.fromkeys(["float", *images])
    flags = [word for kind in kinds for word in (_FLAGS[kind], f"{stem}{_SUFFIX[kind]}")]
    # Under its own name the cache of -hkl would feed the next run, as nanoBragg has it.
    return flags + (["-dump", f"{stem}_Fdump.bin"] if "-hkl" in words else [])


def _their_outputs(stem: Path, words: Iterable[str], images: Iterable[str]) -> list[str]:
    """Flags that send all that the C program always writes to files that start with ``stem``."""
    flags = _our_outputs(stem, words, _FLAGS)
    # Naming a noise file asks for noise; without these the program would make what nobody compares.
    flags += [] if "noise" in images else ["-nonoise"]
    return flags + ([] if "pgm" in images else ["-nopgm"])


class _Images:
    """Images of one run, read from the files that it wrote when they are asked for."""

    def __init__(self, stem: Path, shape: tuple[int, int], seconds: float) -> None:
        self.stem, self.shape, self.seconds = stem, shape, seconds

    def floats(self) -> np.ndarray:
        from bragg_numba.lab.parity.images import load_image

        return load_image(f"{self.stem}.bin", self.shape)

    def counts(self, kind: str) -> np.ndarray:
        """Pixels of an integer image (SMV uint16, PGM uint8), flat."""
        return _pixels(Path(f"{self.stem}{_SUFFIX[kind]}").read_bytes(), kind, self.shape)


def _pixels(content: bytes, kind: str, shape) -> np.ndarray:
    """Take the pixels, the last bytes of a file, whatever its header; an SMV file may be padded."""
    import numpy as np

    count = shape[0] * shape[1]
    if kind == "pgm":
        return np.frombuffer(content[-count:], dtype=np.uint8)
    return np.frombuffer(content, dtype="<u2", offset=512, count=count)


@dataclass(frozen=True, slots=True)
class Command:
    """Our nanoBragg command; whoever compares hands it in, so that nothing here imports it."""

    run: Callable[[list[str]], int]  #: runs a command line in this process; returns its exit status
    module: str  #: what ``python -m`` runs in a process of its own


class Ours:
    """Our command; ``precision`` is auto, tile or float64."""

    def __init__(self, folder: Path, command: Command, precision: str = "auto") -> None:
        self.folder, self.command, self.precision = folder, command, precision

    def render(self, point: Point) -> _Images:
        """Run our command line; raise InputError with its sentence if it refuses."""
        from bragg_numba.experiment import Experiment

        stem = self.folder / "py"
        words = [*_our_outputs(stem, point.words, point.images), *point.words]
        words += ["-precision", point.precision or self.precision]
        printed, errors = io.StringIO(), io.StringIO()
        start = time.perf_counter()
        # In the scratch folder, as the reference: the caller's may hold an Fdump.bin, which would be read.
        with contextlib.chdir(self.folder):
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
                status = self.command.run(words)
            seconds = time.perf_counter() - start
            if status == 0:
                shape = Experiment.from_nanobragg(list(point.words)).detector.shape
        if status != 0:
            said = errors.getvalue().strip().splitlines()
            raise InputError("our command", f"failed with exit status {status}", hint=said[-1] if said else "")
        return _Images(stem, shape, seconds)

    def time_cold(self, point: Point) -> float:
        """Seconds that our command takes in a process of its own, imports and all."""
        stem = self.folder / "cold"
        words = [sys.executable, "-m", self.command.module, *_our_outputs(stem, point.words, point.images)]
        words += ["-precision", point.precision or self.precision]
        start = time.perf_counter()
        done = subprocess.run([*words, *point.words], capture_output=True, check=False, cwd=self.folder)
        seconds = time.perf_counter() - start
        if done.returncode != 0:
            raise InputError("our command", f"failed with exit status {done.returncode} in a process of its own")
        return seconds

    def time_warm(self, point: Point) -> float:
        """Seconds of the second render of one Simulator: no start, no compiling, no file."""
        from bragg_numba.experiment import Experiment
        from bragg_numba.render.simulator import Simulator

        with contextlib.chdir(self.folder):
            experiment = Experiment.from_nanobragg(list(point.words))
        sim = Simulator(experiment, precision=point.precision or self.precision)
        image = sim.render()
        start = time.perf_counter()
        sim.render(out=image)
        return time.perf_counter() - start


class Reference:
    """The C program."""

    title = "reference"

    def __init__(self, program: str | Path, folder: Path, timeout: float | None = None) -> None:
        self.program = Path(program).expanduser().absolute()
        if not (self.program.is_file() and os.access(self.program, os.X_OK)):
            raise InputError("the reference program", "must be an executable file", str(program), "check NB_C_BIN")
        self.folder, self.timeout = folder, timeout

    def render(self, point: Point, shape: tuple[int, int]) -> _Images:
        """Run the C program in a folder of its own; raise InputError if it fails."""
        stem = self.folder / "c"
        words = [*_their_outputs(stem, point.words, point.images), *point.words]
        for suffix in _SUFFIX.values():
            Path(f"{stem}{suffix}").unlink(missing_ok=True)
        start = time.perf_counter()
        try:
            done = subprocess.run(
                [str(self.program), *words],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise InputError("the reference program", f"took longer than {self.timeout:g} s") from None
        seconds = time.perf_counter() - start
        floats = Path(f"{stem}.bin")
        if done.returncode != 0 or not floats.is_file():
            said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
            what = f"failed with exit status {done.returncode}" if done.returncode else "wrote no float image"
            raise InputError("the reference program", what, hint=said[-1][:200] if said else "")
        size = floats.stat().st_size
        if size != 4 * shape[0] * shape[1]:
            raise InputError("the reference's image", f"must have our {shape[0]} x {shape[1]} pixels", f"{size} bytes")
        return _Images(stem, shape, seconds)


class Golden:
    """Images of the C program kept in a file; see tests/golden/README.md."""

    title = "golden data"

    def __init__(self, path: str | Path) -> None:
        import h5py

        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise InputError(str(path), "could not be read", hint=str(error)) from None

    def __enter__(self) -> Golden:
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def group(self, name: str):
        """Return the group of a case, or None."""
        return self._file.get(name)

    def words(self, name: str) -> list[str]:
        """The command line of a group, as it was run beside its input files."""
        return json.loads(self._file[name].attrs["argv"])


# --- measures -----------------------------------------------------------------------------------


def _excess(reference, ours, largest: float, point: Point, pixels: float = 1.0) -> np.ndarray:
    """|ours - reference| over what is allowed; for sums over ``pixels`` pixels their tolerances add up."""
    import numpy as np

    asked = point.thresholds
    a, b = np.asarray(reference, dtype=np.float64), np.asarray(ours, dtype=np.float64)
    allowed = asked.relative * np.abs(a) + asked.absolute * largest * pixels
    difference = np.abs(b - a)
    # Equal pixels agree whatever is allowed; a NaN never does.
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(b == a, 0.0, np.where(np.isnan(difference), np.inf, difference / allowed))


def _excess_by_rows(reference, ours, largest: float, point: Point) -> float:
    """Take the largest excess a block of rows at a time, so that a full frame needs no float64 copies."""
    rows = max(1, (1 << 20) // reference.shape[1])
    starts = range(0, reference.shape[0], rows)
    return max(float(_excess(reference[i : i + rows], ours[i : i + rows], largest, point).max()) for i in starts)


def _judge(outcome: Outcome, point: Point) -> None:
    asked = point.thresholds
    if not outcome.excess <= 1.0:
        outcome.fail(f"a pixel differs by {outcome.excess:.4g} times what is allowed")
    if outcome.correlation is not None and not outcome.correlation >= asked.correlation:
        outcome.fail(f"correlation {outcome.correlation:.9g}, {asked.correlation:.9g} was asked for")
    if outcome.sum_ratio is not None and not abs(outcome.sum_ratio - 1.0) <= asked.sum_ratio:
        outcome.fail(f"sum ratio {outcome.sum_ratio:.9g}, within {asked.sum_ratio:g} of 1 was asked for")


def _whole(outcome: Outcome, point: Point, reference, ours) -> None:
    """Compare two whole images."""
    from bragg_numba.lab.parity.metrics import compare_images

    asked = point.thresholds
    found = compare_images(reference, ours, relative=asked.relative, absolute=asked.absolute)
    outcome.correlation, outcome.sum_ratio = found.correlation, found.sum_ratio
    outcome.worst_tile, outcome.worst_correlation = found.worst_tile.name, found.worst_tile.correlation
    outcome.excess = _excess_by_rows(reference, ours, max(found.max_reference, 0.0), point)
    outcome.pictures = (reference, ours)


def _centre(outcome: Outcome, reference, ours, origin, point: Point, largest: float) -> None:
    from bragg_numba.lab.parity.metrics import compare_images

    found = compare_images(reference, ours, origin=origin)
    outcome.centre = {
        "region": f"slow {origin[0]}..{origin[0] + reference.shape[0] - 1}, "
        f"fast {origin[1]}..{origin[1] + reference.shape[1] - 1}",
        "correlation": found.correlation,
        "sum_ratio": found.sum_ratio,
        "worst_tile": found.worst_tile.name,
        "worst_correlation": found.worst_tile.correlation,
        "excess": float(_excess(reference, ours, largest, point).max()),
    }
    if not outcome.centre["excess"] <= 1.0:
        outcome.fail(f"a pixel of the centre differs by {outcome.centre['excess']:.4g} times what is allowed")


def _sampled(outcome: Outcome, point: Point, group, ours) -> None:
    """Compare with golden data that keep a sample of the pixels, the sums of all blocks, and the centre."""
    import numpy as np

    largest = float(group.attrs["max"])
    index, value = group["sample_index"][()], group["sample_value"][()]
    outcome.excess = float(_excess(value, ours.reshape(-1)[index], largest, point).max())
    outcome.correlation = float(np.corrcoef(value.astype(np.float64), ours.reshape(-1)[index].astype(np.float64))[0, 1])
    sums = group["block_sum"][()]
    outcome.sum_ratio = outcome.total / float(sums.sum())
    mine = _block_sums(ours)
    # Edge blocks are short: what their tolerances add up to is less, so this is the laxer side by little.
    excess = _excess(sums, mine, largest, point, pixels=BLOCK * BLOCK)
    worst = np.unravel_index(int(np.argmax(excess)), excess.shape)
    slow, fast = (int(i) * BLOCK for i in worst)
    outcome.worst_tile = f"slow {slow}..{slow + BLOCK - 1}, fast {fast}..{fast + BLOCK - 1}"
    outcome.worst_correlation = _agreement(sums[worst], mine[worst])
    outcome.excess = max(outcome.excess, float(excess.max()))
    centre = group["centre"][()]
    origin = tuple(int(i) for i in group["centre"].attrs["origin_slow_fast"])
    part = ours[tuple(slice(o, o + n) for o, n in zip(origin, centre.shape, strict=True))]
    outcome.pictures = (centre, part)
    _centre(outcome, centre, part, origin, point, largest)


def _agreement(reference: float, ours: float) -> float:
    """Amplitude agreement of two sums, as metrics has it for tiles; 1 where both are equal."""
    a, b = math.sqrt(max(reference, 0.0)), math.sqrt(max(ours, 0.0))
    return 1.0 if a == b else 1.0 - (a - b) ** 2 / (a * a + b * b)


def _block_sums(image) -> np.ndarray:
    import numpy as np

    rows = np.arange(0, image.shape[0], BLOCK)
    columns = np.arange(0, image.shape[1], BLOCK)
    strips = [np.add.reduceat(image[r : r + BLOCK].sum(axis=0, dtype=np.float64), columns) for r in rows]
    return np.array(strips)


# --- the run ------------------------------------------------------------------------------------


class Runner:
    """Compares points with one source of truth."""

    def __init__(
        self, folder: Path, command: Command, against, *, precision: str = "auto", keep: Path | None = None
    ) -> None:
        self.folder, self.against, self.keep = folder, against, keep
        self.ours = Ours(folder, command, precision)

    def run(self, case: Case) -> list[Outcome]:
        """Run one row of the matrix; what goes wrong becomes an outcome, not an exception."""
        outcomes = []
        for point in case.points:
            outcome = Outcome(
                name=point.name,
                case=case.name,
                stands_for=case.stands_for,
                words=point.words,
                against=self.against.title if self.against else "",
            )
            try:
                self._run_point(case, point, outcome)
            except (BraggError, OSError) as error:
                outcome.fail(str(error))
            outcomes.append(outcome)
        return outcomes + self._laws(case, outcomes)

    def _run_point(self, case: Case, point: Point, outcome: Outcome) -> None:
        if self._skip(point, outcome):
            return
        mine = self.ours.render(point)
        outcome.seconds["ours"] = mine.seconds
        ours = mine.floats()
        _our_facts(outcome, ours)
        if isinstance(self.against, Reference):
            self._against_reference(case, point, outcome, mine, ours)
        else:
            self._against_golden(point, outcome, mine, ours)
        _judge(outcome, point)
        if case.full_frame:
            outcome.seconds[COLD] = self.ours.time_cold(point)
            outcome.seconds[WARM] = self.ours.time_warm(point)
        if outcome.status == FAILED and self.keep is not None:
            self._keep_files(outcome, self.keep)

    def _skip(self, point: Point, outcome: Outcome) -> bool:
        if isinstance(self.against, Reference):
            return False
        if self.against is None:
            reason = "there are neither a reference program (NB_C_BIN) nor golden data"
        elif point.golden is None:
            reason = "no golden data for this command line; set NB_C_BIN to run the C program"
        elif self.against.group(point.golden) is None:
            reason = f"the golden data have no case {point.golden}"
        else:
            return False
        outcome.status = SKIPPED
        outcome.reasons.append(reason)
        return True

    def _against_reference(self, case: Case, point: Point, outcome: Outcome, mine: _Images, ours) -> None:
        import numpy as np

        theirs = self.against.render(point, mine.shape)
        outcome.seconds["reference"] = theirs.seconds
        reference = theirs.floats()
        _whole(outcome, point, reference, ours)
        if case.full_frame:
            first = [(n - CENTRE) // 2 for n in reference.shape]
            part = tuple(slice(i, i + CENTRE) for i in first)
            _centre(outcome, reference[part], ours[part], tuple(first), point, float(reference.max()))
        if case.brightest_within is not None and outcome.brightest is not None:
            at = np.unravel_index(int(np.argmax(reference)), reference.shape)
            apart = max(abs(int(a) - b) for a, b in zip(at, outcome.brightest, strict=True))
            # Of peaks that symmetry makes equal either may win by a rounding.
            equal = reference[outcome.brightest] >= (1.0 - point.thresholds.relative) * reference[at]
            if apart > case.brightest_within and not equal:
                outcome.fail(f"the brightest pixels lie {apart} pixels apart")
        for kind in point.images[1:] if point.images[0] == "float" else point.images:
            _same_counts(outcome, kind, theirs.counts(kind), mine.counts(kind))

    def _against_golden(self, point: Point, outcome: Outcome, mine: _Images, ours) -> None:
        group = self.against.group(point.golden)
        shape = tuple(int(n) for n in group.attrs["shape"])
        if shape != ours.shape:
            raise InputError("our image", f"must have the golden image's {shape[0]} x {shape[1]} pixels", ours.shape)
        if "image" in group:
            _whole(outcome, point, group["image"][()], ours)
        else:
            _sampled(outcome, point, group, ours)
        for kind, name in (("int", "smv_int"), ("noise", "smv_noise"), ("pgm", "pgm")):
            if kind in point.images:
                if name not in group:
                    raise InputError(f"golden case {point.golden}", f"has no {kind} image")
                theirs = _pixels(bytes(group[name][()].tobytes()), kind, shape)
                _same_counts(outcome, kind, theirs, mine.counts(kind))

    def _keep_files(self, outcome: Outcome, keep: Path) -> None:
        import shutil

        place = keep / "".join(c if c.isalnum() or c in "._-" else "_" for c in outcome.name)
        place.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            if path.is_file() and path.name.startswith(("c", "py")) and "cold" not in path.name:
                shutil.copy2(path, place / path.name)

    def _laws(self, case: Case, outcomes: list[Outcome]) -> list[Outcome]:
        """Judge what is asked of a sweep as a whole; only where every point was rendered."""
        rendered = [outcome for outcome in outcomes if outcome.brightest is not None]
        if len(rendered) < len(outcomes) or len(rendered) < 2:
            return []
        found = []
        if case.law is not None:
            found.append(_power_law(case, case.law, rendered))
        if case.differ_below is not None:
            found.append(_difference(case, case.differ_below, rendered))
        return found


def _our_facts(outcome: Outcome, ours) -> None:
    import numpy as np

    at = np.unravel_index(int(np.argmax(ours)), ours.shape)
    outcome.brightest = (int(at[0]), int(at[1]))
    outcome.largest = float(ours[at])
    outcome.total = float(ours.sum(dtype=np.float64))


def _same_counts(outcome: Outcome, kind: str, theirs, ours) -> None:
    import numpy as np

    if theirs.shape != ours.shape:
        outcome.fail(f"the {kind} images have {theirs.size} and {ours.size} pixels")
        return
    different = int(np.count_nonzero(theirs != ours))
    if different:
        most = int(np.max(np.abs(theirs.astype(np.int64) - ours.astype(np.int64))))
        outcome.fail(f"{different} pixels of the {kind} image differ, by up to {most}")


def _power_law(case: Case, law: Law, outcomes: list[Outcome]) -> Outcome:
    import numpy as np

    x = np.log([float(point.values[law.against]) for point in case.points])
    y = np.log([outcome.largest if law.of == "max" else outcome.total for outcome in outcomes])
    slope = float(np.polyfit(x, y, 1)[0])
    said = f"{law.of} goes as {law.against}^{slope:.4f}; {law.power:g} within {law.within:g} was asked for"
    found = Outcome(
        name=f"{case.name}: power law", case=case.name, stands_for=case.stands_for, words=(), against="a law"
    )
    found.reasons.append(said)
    if not abs(slope - law.power) <= law.within:
        found.status = FAILED
    return found


def _difference(case: Case, below: float, outcomes: list[Outcome]) -> Outcome:
    import numpy as np

    images = [outcome.pictures[1].astype(np.float64).ravel() for outcome in outcomes if outcome.pictures is not None]
    pairs = [(i, j) for i in range(len(images)) for j in range(i)]
    most = max(float(np.corrcoef(images[i], images[j])[0, 1]) for i, j in pairs)
    found = Outcome(
        name=f"{case.name}: points differ", case=case.name, stands_for=case.stands_for, words=(), against="a law"
    )
    found.reasons.append(f"images of different points correlate to {most:.4f} at most")
    if not most <= below:
        found.status = FAILED
    return found


def run_cases(
    cases: Iterable[Case],
    command: Command,
    *,
    program: str | Path | None = None,
    golden: str | Path | None = None,
    precision: str = "auto",
    timeout: float | None = None,
    keep: Path | None = None,
    tell: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Run cases and return what was found, in their order.

    Parameters
    ----------
    cases
        From :func:`cases.load_cases`.
    command
        Our nanoBragg command.
    program
        The C program; where it is given every point runs live.
    golden
        Golden data for the points that have some; the others are skipped with the reason.
    precision
        Ours: auto, tile or float64.
    timeout
        Seconds that one run of the C program may take.
    keep
        A folder for both programs' files of every point that fails.
    tell
        Called with every outcome as it is found. Pictures of large frames are cut to their centre after it.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bragg-parity-")))
        against: Reference | Golden | None = None
        if program is not None:
            against = Reference(program, folder, timeout)
        elif golden is not None:
            against = stack.enter_context(Golden(golden))
        runner = Runner(folder, command, against, precision=precision, keep=keep)
        outcomes = []
        for case in cases:
            for outcome in runner.run(case):
                _lighten(outcome)
                outcomes.append(outcome)
                if tell is not None:
                    tell(outcome)
        return outcomes


def _lighten(outcome: Outcome) -> None:
    """Shrink the images of an outcome to what its pictures show, so that a long run stays small."""
    import numpy as np

    from bragg_numba.lab.parity.pictures import shrink

    if outcome.pictures is not None:
        reference, ours = outcome.pictures
        difference = np.subtract(ours, reference, dtype=np.float32)
        outcome.pictures = tuple(shrink(image, PICTURE)[0] for image in (reference, ours, difference))
