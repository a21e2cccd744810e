"""Keep what a comparison found: numbers, pictures, commands, environment and a page for a person.

A folder ``comparisons/YYYYMMDD-HHMMSS-<hash>`` holds one comparison; the hash is that of the flags (or of the
names of the files), so that runs of one command line are found together.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import os
import platform
import shlex
import subprocess
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from bragg_numba.lab.parity import pictures

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np

    from bragg_numba.lab.parity.metrics import Comparison, Tile

__all__ = [
    "Evidence",
    "InOtherArithmetic",
    "ProgramRun",
    "environment",
    "metric_rows",
    "new_folder",
    "write_commands",
    "write_evidence",
    "write_summary",
]

#: Longest side of a picture inside the page, in pixels.
PAGE_PICTURE = 640
#: Side of the enlarged worst place, in pixels of the frame.
CLOSE_UP = 96
#: Bytes of a program's output that the page repeats; the files hold all of it.
PAGE_OUTPUT = 6000


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramRun:
    """One program as it was run."""

    name: str  #: "reference" or "ours"
    command: tuple[str, ...]
    status: int | None  #: exit status; None where it did not start or not finish
    seconds: float
    stdout: Path
    stderr: Path
    floats: Path

    def as_dict(self) -> dict:
        """Return a form that JSON can hold."""
        return {
            "name": self.name,
            "command": list(self.command),
            "status": self.status,
            "seconds": round(self.seconds, 4),
            "stdout": self.stdout.name,
            "stderr": self.stderr.name,
            "floats": self.floats.name,
        }


@dataclass(frozen=True, slots=True)
class InOtherArithmetic:
    """The same command line in ours' other arithmetic, compared as the first."""

    arithmetic: str  #: "tile on cpu"
    whole: Comparison
    region: Comparison | None = None

    @property
    def judged(self) -> Comparison:
        """The comparison that the threshold applies to."""
        return self.whole if self.region is None else self.region

    def as_dict(self) -> dict:
        """Return a form that JSON can hold."""
        region = None if self.region is None else self.region.as_dict()
        return {"arithmetic": self.arithmetic, "whole": self.whole.as_dict(), "region": region}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a verdict rests on."""

    title: str
    threshold: float
    whole: Comparison
    region: Comparison | None = None
    runs: tuple[ProgramRun, ...] = ()
    notes: tuple[str, ...] = ()
    arithmetic: str = ""  #: ours': "float64 on cpu"; empty where it is not known
    also: tuple[InOtherArithmetic, ...] = ()

    @property
    def judged(self) -> Comparison:
        """The comparison that the threshold applies to: the region where one was asked for."""
        return self.whole if self.region is None else self.region

    @property
    def passed(self) -> bool:
        """Whether the images are as close as was asked, in every arithmetic that was rendered."""
        return all(one.judged.passes(self.threshold) for one in self._each())

    def _each(self) -> tuple[Evidence | InOtherArithmetic, ...]:
        """What was compared, arithmetic by arithmetic."""
        return (self, *self.also)

    def verdict(self) -> str:
        """Return the verdict in words; a region's good verdict does not hide a bad frame."""
        text = self.judged.verdict(self.threshold)
        if self.region is not None:
            text = "Region: " + text
            if not self.whole.passes(self.threshold):
                text += " Whole frame: " + self.whole.verdict(self.threshold)
        if self.arithmetic:
            text = f"Ours in {self.arithmetic}: {text}"
        for other in self.also:
            text += f" In {other.arithmetic}: {other.judged.verdict(self.threshold)}"
        return text

    def columns(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Return a title and the measures for each column of a table that a person reads."""
        found = []
        for one in self._each():
            within = f", {one.arithmetic}" if one.arithmetic else ""
            if one.region is not None:
                found.append((f"region{within}", metric_rows(one.region)))
            found.append((f"whole frame{within}", metric_rows(one.whole)))
        return found

    def as_dict(self) -> dict:
        """Return a form that JSON can hold."""
        return {
            "title": self.title,
            "verdict": self.verdict(),
            "passed": self.passed,
            "threshold": self.threshold,
            "whole": self.whole.as_dict(),
            "region": None if self.region is None else self.region.as_dict(),
            "arithmetic": self.arithmetic,
            "also": [other.as_dict() for other in self.also],
            "runs": [run.as_dict() for run in self.runs],
            "notes": list(self.notes),
        }


def new_folder(outdir: str | Path, words: Iterable[str]) -> Path:
    """Make and return a new folder ``outdir/YYYYMMDD-HHMMSS-<hash of the words>``."""
    digest = hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    name = f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{digest}"
    parent = Path(outdir).absolute()
    parent.mkdir(parents=True, exist_ok=True)
    for count in range(1000):  # the same flags twice in one second
        folder = parent / (name if count == 0 else f"{name}-{count}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{parent / name} and 999 folders after it exist already")


def environment(binary: str | Path | None = None) -> dict:
    """Return what the result may depend on: versions, processor, commit, the reference program's hash."""
    return {
        "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": _processor(),
        "processor_count": os.cpu_count(),
        "versions": _versions(),
        "commit": _commit(),
        "threads": {key: os.environ.get(key) for key in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")},
        "reference_program": None if binary is None else str(binary),
        "reference_sha256": _sha256(binary),
    }


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("bragg-numba", "numpy", "numba", "h5py", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Return the commit of the checkout that this package is run from, if it is run from one."""
    here = Path(__file__).resolve()
    top = here.parents[2]
    if not (top / ".git").exists():
        return None
    try:
        commit = _git(top, "rev-parse", "HEAD")
        return commit + (" with local changes" if _git(top, "status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()


def _sha256(path) -> str | None:
    try:
        return None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return None


def write_commands(folder: Path, commands: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Write ``commands.txt``: (comment, words) pairs as lines that a shell takes."""
    lines = [f"# {comment}\n{shlex.join(words)}\n" for comment, words in commands]
    (folder / "commands.txt").write_text("\n".join(lines), encoding="utf-8", errors="surrogateescape")


def write_summary(folder: Path, content: dict) -> None:
    """Write ``summary.json``."""
    text = json.dumps(content, indent=2, allow_nan=False)
    (folder / "summary.json").write_text(text + "\n", encoding="utf-8")


def write_evidence(
    folder: Path,
    evidence: Evidence,
    reference: np.ndarray,
    ours: np.ndarray,
    *,
    percentile: float = 99.9,
    save_diff: bool = False,
    binary: str | Path | None = None,
) -> None:
    """Write everything but the programs' own files into a folder that exists.

    Parameters
    ----------
    folder
        Where to; see :func:`new_folder`.
    evidence
        The verdict and what it rests on.
    reference, ours
        (n_slow, n_fast) whole frames.
    percentile
        The percentile of the reference's positive pixels that is drawn black.
    save_diff
        Also write ours - reference as ``diff.bin``, raw float32.
    binary
        The reference program, for its hash.
    """
    import numpy as np

    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.subtract(ours, reference, dtype=np.float32)
    bright = pictures.bright_level(reference, percentile)
    pictures.log_picture(reference, bright).save(folder / "c.png")
    pictures.log_picture(ours, bright).save(folder / "py.png")
    pictures.difference_picture(difference, bright).save(folder / "diff.png")
    if save_diff:
        difference.tofile(folder / "diff.bin")
    facts = environment(binary)
    write_summary(folder, evidence.as_dict())
    (folder / "environment.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    page = _page(evidence, reference, ours, difference, bright, facts)
    (folder / "report.html").write_text(page, encoding="utf-8", errors="backslashreplace")


def metric_rows(comparison: Comparison) -> list[tuple[str, str]]:
    """Return the measures as (name, value) texts for a table that a person reads."""
    worst, peaks = comparison.worst_tile, comparison.peaks
    differs = comparison.max_difference_at if comparison.max_difference > 0 else None
    rows = [
        ("pixels (slow x fast)", f"{comparison.shape[0]} x {comparison.shape[1]}"),
        ("correlation", f"{comparison.correlation:.10g}"),
        ("worst tile", worst.name),
        ("  its correlation", f"{worst.correlation:.10g}"),
        ("  its sum ratio", f"{worst.sum_ratio:.9g}"),
        ("sum, reference", f"{comparison.sum_reference:.9g}"),
        ("sum, ours", f"{comparison.sum_ours:.9g}"),
        ("sum ratio, ours / reference", f"{comparison.sum_ratio:.9g}"),
        ("RMSE", f"{comparison.rmse:.6g}"),
        ("MSE", f"{comparison.mse:.6g}"),
        ("largest difference", f"{comparison.max_difference:.6g}{_at(differs)}"),
        ("pixels within tolerance", f"{100 * comparison.fraction_within:.6g} %"),
        ("peaks matched", f"{peaks.matched}"),
        ("  only in the reference, only in ours", f"{peaks.unmatched_reference}, {peaks.unmatched_ours}"),
    ]
    if peaks.matched:
        rows.append(("  median, largest shift (pixels)", f"{peaks.median_shift:.4g}, {peaks.max_shift:.4g}"))
    if not comparison.finite:
        counts = f"{comparison.not_finite_reference}, {comparison.not_finite_ours}"
        rows.append(("NOT FINITE, reference, ours", counts + _at(comparison.not_finite_at)))
    return rows


def _at(place) -> str:
    return "" if place is None else f" at slow {place[0]}, fast {place[1]}"


STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2530; background: #fff; max-width: 1120px;
       margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.45rem; margin: 0 0 .6rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.verdict { padding: .8rem 1rem; border-left: 5px solid; border-radius: 3px; font-size: 1.05rem; }
.good { background: #e9f6ec; border-color: #2c8a43; } .bad { background: #fcebea; border-color: #be1e2d; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: .16rem .9rem .16rem 0; text-align: left; border-bottom: 1px solid #e4e8ed; }
td:first-child { white-space: pre; }
.pictures { display: flex; gap: 14px; flex-wrap: wrap; }
figure { margin: 0; flex: 1 1 300px; max-width: 356px; } figcaption { font-size: .88rem; color: #4c5866; }
figure img { width: 100%; border: 1px solid #d3d9e0; image-rendering: pixelated; }
.grid td { border: 2px solid #fff; padding: .25rem .4rem; font-size: .75rem; text-align: right; }
.grid td.worst { border-color: #1c2530; }
pre { background: #f5f7f9; padding: .7rem .9rem; overflow: auto; max-height: 26rem; font-size: .82rem;
      white-space: pre-wrap; overflow-wrap: anywhere; }
.quiet { color: #4c5866; font-size: .9rem; }
"""


def _page(evidence: Evidence, reference, ours, difference, bright: float, facts: dict) -> str:
    mood = "good" if evidence.passed and evidence.whole.passes(evidence.threshold) else "bad"
    parts = [
        f"<h1>{escape(evidence.title)}</h1>",
        f'<p class="verdict {mood}">{escape(evidence.verdict())}</p>',
        *(f'<p class="quiet">{escape(note)}</p>' for note in evidence.notes),
        "<h2>The images</h2>",
        _whole_pictures(evidence.whole, reference, ours, difference, bright),
        "<h2>The largest difference, close up</h2>",
        _close_up(evidence.judged, reference, ours, difference, bright),
        "<h2>Measures</h2>",
        _measures(evidence),
        "<h2>Tile by tile</h2>",
        _tile_table(evidence.whole, evidence.threshold),
        *(_run_section(run) for run in evidence.runs),
        "<h2>Environment</h2>",
        f"<pre>{escape(json.dumps(facts, indent=2))}</pre>",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(evidence.title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _figure(picture, caption: str) -> str:
    text = escape(caption)
    image = f'<img src="{pictures.data_uri(picture)}" alt="{text}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def _whole_pictures(whole: Comparison, reference, ours, difference, bright: float) -> str:
    figures = []
    for image, draw, caption in (
        (reference, pictures.log_picture, "Reference, logarithmic, five decades"),
        (ours, pictures.log_picture, "Ours, on the same scale"),
        (difference, pictures.difference_picture, "Ours - reference: red more, blue less, white equal"),
    ):
        small, factor = pictures.shrink(image, PAGE_PICTURE)
        picture = draw(small, bright).convert("RGB")
        _mark(picture, whole.worst_tile, factor)
        figures.append(_figure(picture, caption))
    return (
        f'<div class="pictures">{"".join(figures)}</div>'
        f'<p class="quiet">The box is the worst tile, {escape(whole.worst_tile.name)}. '
        "Slow runs down, fast runs to the right.</p>"
    )


def _mark(picture, tile: Tile, factor: int) -> None:
    from PIL import ImageDraw

    box = [tile.fast[0], tile.slow[0], tile.fast[1] - 1, tile.slow[1] - 1]
    ImageDraw.Draw(picture).rectangle([edge // factor for edge in box], outline=(235, 140, 0), width=2)


def _close_up(comparison: Comparison, reference, ours, difference, bright: float) -> str:
    place = comparison.not_finite_at or comparison.max_difference_at
    if place is None or (comparison.finite and comparison.max_difference == 0.0):
        return '<p class="quiet">No pixel differs.</p>'
    window = tuple(_around(at, length) for at, length in zip(place, reference.shape, strict=True))
    figures = [
        _figure(_enlarged(draw(image[window], bright)), caption)
        for image, draw, caption in (
            (reference, pictures.log_picture, "Reference"),
            (ours, pictures.log_picture, "Ours"),
            (difference, pictures.difference_picture, "Ours - reference"),
        )
    ]
    slow, fast = (f"{part.start}..{part.stop - 1}" for part in window)
    words = f"slow {slow}, fast {fast}; the pixel is{_at(place)}"
    return f'<div class="pictures">{"".join(figures)}</div><p class="quiet">{words}.</p>'


def _around(at: int, length: int) -> slice:
    side = min(CLOSE_UP, length)
    first = min(max(0, at - side // 2), length - side)
    return slice(first, first + side)


def _enlarged(picture):
    factor = max(1, 320 // max(picture.size))
    return picture.resize((picture.width * factor, picture.height * factor), resample=0)


def _measures(evidence: Evidence) -> str:
    columns = evidence.columns()
    names = list(dict.fromkeys(name for _, rows in columns for name, _ in rows))
    head = "<tr><th></th>" + "".join(f"<th>{title}</th>" for title, _ in columns) + "</tr>"
    tables = [dict(rows) for _, rows in columns]
    body = "".join(_table_row(name, [table.get(name, "") for table in tables]) for name in names)
    tolerance = evidence.whole
    return (
        f"<table>{head}{body}</table>"
        '<p class="quiet">Within tolerance: |ours - reference| &le; '
        f"{tolerance.relative_tolerance:g} |reference| + {tolerance.absolute_tolerance:.3g}. "
        "A tile's correlation is the smaller of Pearson's and the agreement of the square roots, which also "
        "sees a factor; in a tile without structure the latter alone. Sums and differences skip the pixels "
        "that are not finite; the correlations do not.</p>"
    )


def _table_row(name: str, values: Iterable[str]) -> str:
    cells = "".join(f"<td>{escape(value)}</td>" for value in values)
    return f"<tr><td>{escape(name)}</td>{cells}</tr>"


def _tile_table(whole: Comparison, threshold: float) -> str:
    worst, columns = whole.worst_tile, whole.tile_grid[1]
    rows = [whole.tiles[first : first + columns] for first in range(0, len(whole.tiles), columns)]
    cells = ("".join(_tile_cell(tile, tile is worst, threshold) for tile in row) for row in rows)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return (
        f'<table class="grid">{body}</table>'
        '<p class="quiet">1 - correlation of each tile, as it lies on the frame; the framed one is worst. '
        "Point at a tile for its place, sum ratio and largest relative difference.</p>"
    )


def _tile_cell(tile: Tile, is_worst: bool, threshold: float) -> str:
    lack = 1.0 - tile.correlation
    # Green at rounding (1e-9 and below) through yellow to red at a tenth.
    heat = min(1.0, max(0.0, (math.log10(max(lack, 1e-12)) + 9.0) / 8.0))
    colour = f"hsl({120 * (1 - heat):.0f} 55% {88 - 18 * heat:.0f}%)"
    largest = f"largest relative difference {tile.max_relative_difference:.3g}"
    hint = f"{tile.name}; sum ratio {tile.sum_ratio:.7g}; {largest}"
    mark = " class=worst" if is_worst else ""
    weight = ";font-weight:700" if tile.correlation < threshold else ""
    return f'<td{mark} style="background:{colour}{weight}" title="{escape(hint)}">{max(lack, 0.0):.1e}</td>'


def _run_section(run: ProgramRun) -> str:
    output = "".join(
        f"<details><summary>{path.name}</summary><pre>{escape(_tail(path))}</pre></details>"
        for path in (run.stdout, run.stderr)
    )
    status = "did not finish" if run.status is None else f"exit status {run.status}"
    return (
        f"<h2>{escape(run.name.capitalize())}</h2><pre>{escape(shlex.join(run.command))}</pre>"
        f'<p class="quiet">{run.seconds:.2f} s, {status}</p>{output}'
    )


def _tail(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
    return text if len(text) <= PAGE_OUTPUT else "...\n" + text[-PAGE_OUTPUT:]
