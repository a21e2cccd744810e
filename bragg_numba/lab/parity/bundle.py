"""The evidence of a whole matrix: one page with the worst first, one summary, the commands."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from bragg_numba.lab.parity import pictures
from bragg_numba.lab.parity.evidence import STYLE, environment, write_commands, write_summary
from bragg_numba.lab.parity.matrix import FAILED, PASSED, SKIPPED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bragg_numba.lab.parity.matrix import Outcome

__all__ = ["counts", "one_line", "write_bundle"]

#: The percentile of the reference's positive pixels that is drawn black.
PERCENTILE = 99.9

_STYLE = (
    STYLE
    + """
body { max-width: 1280px; }
td { vertical-align: top; padding-top: .45rem; padding-bottom: .45rem; }
td img { width: 96px; height: 96px; object-fit: contain; border: 1px solid #d3d9e0; image-rendering: pixelated; }
.failed { color: #be1e2d; font-weight: 600; } .passed { color: #2c8a43; } .skipped { color: #7a8694; }
td:first-child { white-space: normal; } details pre { max-width: 60rem; }
"""
)


def counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Return how many outcomes passed, failed and were skipped."""
    found = Counter(outcome.status for outcome in outcomes)
    return {status: found[status] for status in (PASSED, FAILED, SKIPPED)}


def worst_first(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Sort: what failed, then what passed, each by its excess, then what was skipped."""
    order = {FAILED: 0, PASSED: 1, SKIPPED: 2}
    return sorted(outcomes, key=lambda outcome: (order[outcome.status], -outcome.excess))


def one_line(outcome: Outcome) -> str:
    """Say an outcome in one line."""
    words = [f"{outcome.status:<7}", outcome.name]
    if outcome.correlation is not None and outcome.sum_ratio is not None:
        words.append(f"excess {outcome.excess:.3g}, correlation {outcome.correlation:.9f},")
        words.append(f"sum ratio - 1 {outcome.sum_ratio - 1.0:+.1e}")
    if outcome.reasons:
        words.append("- " + "; ".join(outcome.reasons))
    return " ".join(words)


def write_bundle(folder: Path, title: str, outcomes: Sequence[Outcome], program=None) -> None:
    """Write ``report.html``, ``summary.json``, ``commands.txt`` and ``environment.json`` into ``folder``."""
    ordered = worst_first(outcomes)
    facts = environment(program)
    write_summary(
        folder,
        {
            "title": title,
            "passed": not counts(outcomes)[FAILED],
            "counts": counts(outcomes),
            "outcomes": [outcome.as_dict() for outcome in ordered],
        },
    )
    commands = [(outcome.name, ("nanobragg-numba", *outcome.words)) for outcome in ordered if outcome.words]
    write_commands(folder, commands)
    (folder / "environment.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(_page(title, ordered, facts), encoding="utf-8")


def _page(title: str, ordered: Sequence[Outcome], facts: dict) -> str:
    found = counts(ordered)
    mood = "bad" if found[FAILED] else "good"
    verdict = f"{found[PASSED]} passed, {found[FAILED]} failed, {found[SKIPPED]} skipped."
    rows = "\n".join(_row(outcome) for outcome in ordered)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="verdict {mood}">{verdict}</p>\n'
        '<p class="quiet">Worst first. <b>Excess</b> is the largest |difference| of a pixel over what is allowed '
        "for it; up to 1 the images agree. Pictures: reference, ours, ours - reference; large golden images "
        "show their centre.</p>\n"
        "<table><tr><th>case</th><th></th><th>excess</th><th>correlation</th><th>sum ratio - 1</th>"
        f"<th>worst tile</th><th>seconds</th><th></th></tr>\n{rows}\n</table>\n"
        f"<h2>Environment</h2><pre>{escape(json.dumps(facts, indent=2))}</pre>\n</body></html>\n"
    )


def _row(outcome: Outcome) -> str:
    name = f"<b>{escape(outcome.name)}</b><br><span class=quiet>{escape(outcome.stands_for)}</span>"
    if outcome.words:
        name += f"<details><summary>command</summary><pre>{escape(shlex.join(outcome.words))}</pre></details>"
    status = f'<span class="{outcome.status}">{outcome.status}</span>'
    if outcome.reasons:
        status += f"<br><span class=quiet>{escape('; '.join(outcome.reasons))}</span>"
    cells = [name, status]
    if outcome.correlation is None or outcome.sum_ratio is None:
        cells += [""] * 4
    else:
        tile = escape(outcome.worst_tile)
        if outcome.worst_correlation is not None:
            tile += f"<br>1 - {max(0.0, 1.0 - outcome.worst_correlation):.1e}"
        cells += [
            f"{outcome.excess:.3g}{_centre(outcome, 'excess', '.3g')}",
            f"{outcome.correlation:.10f}{_centre(outcome, 'correlation', '.10f')}",
            f"{outcome.sum_ratio - 1.0:+.1e}",
            tile,
        ]
    cells.append("<br>".join(f"{escape(who)} {seconds:.2f}" for who, seconds in outcome.seconds.items()))
    cells.append(_pictures(outcome))
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _centre(outcome: Outcome, key: str, form: str) -> str:
    return "" if outcome.centre is None else f"<br><span class=quiet>centre {outcome.centre[key]:{form}}</span>"


def _pictures(outcome: Outcome) -> str:
    if outcome.pictures is None:
        return ""
    reference, ours, difference = outcome.pictures
    bright = pictures.bright_level(reference, PERCENTILE)
    drawn = (
        (pictures.log_picture(reference, bright), "reference"),
        (pictures.log_picture(ours, bright), "ours"),
        (pictures.difference_picture(difference, bright), "ours - reference"),
    )
    return "&nbsp;".join(f'<img src="{pictures.data_uri(picture)}" alt="{what}">' for picture, what in drawn)
