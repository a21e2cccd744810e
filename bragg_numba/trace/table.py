"""A trace as tables that a person reads: the pixel, its strongest sub-steps, where the photons come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bragg_numba.trace.equations import TAP_EQUATIONS
from bragg_numba.trace.taps import MEANINGS, PLACE_NAMES, STEP_NAMES

if TYPE_CHECKING:
    from bragg_numba.trace.pixel import Trace

__all__ = ["print_trace"]

#: Sub-steps of the second table.
STRONGEST = 10
#: Columns of a file, and of a terminal that has room for the meanings.
WIDE, ROOMY = 170, 120


def print_trace(trace: Trace, file=None) -> None:
    """Print a trace as rich tables to ``file`` (default: standard output)."""
    from rich.console import Console

    console = Console(file=file)
    if not console.is_terminal:
        console = Console(file=file, width=WIDE)
    roomy = console.width >= ROOMY
    console.print(f"pixel slow {trace.slow}, fast {trace.fast}: {trace.value:.9g} photons", highlight=False)
    console.print(_table("set-up", trace, trace.setup, roomy))
    if trace.kept:
        strongest = _strongest(trace)
        console.print(_step_table(trace, strongest[0], roomy))
        if trace.kept > 1:
            console.print(_strongest_table(trace, strongest))
    console.print(_table("result", trace, trace.final, roomy))
    for note in trace.notes:
        console.print(f"note: {note}", highlight=False)


def _strongest(trace: Trace) -> list[int]:
    weight = [term * kept for term, kept in zip(trace.steps["term"], trace.steps["kept"], strict=True)]
    return sorted(range(trace.kept), key=lambda i: -weight[i])[:STRONGEST]


def _meaning(name: str) -> str:
    if name in MEANINGS:
        return MEANINGS[name]
    return TAP_EQUATIONS.get(name, ("", ""))[1]


def _shown(value) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, tuple) and len(value) == 9:
        return "\n".join(_shown(value[i : i + 3]) for i in (0, 3, 6))
    if isinstance(value, tuple | list):
        return "  ".join(f"{part:.9g}" for part in value)
    return f"{value:.12g}"


def _frame(title: str, *heads: str):
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for head in heads:
        table.add_column(head, no_wrap=head != "what")
    return table


def _table(title: str, trace: Trace, taps: dict, roomy: bool):
    table = _frame(title, "tap", "value", "unit", *(["what"] if roomy else []))
    for name, value in taps.items():
        table.add_row(name, _shown(value), trace.unit(name), *([_meaning(name)] if roomy else []))
    return table


def _step_table(trace: Trace, strongest: int, roomy: bool):
    chosen = [0, strongest] if trace.kept > 1 else [0]
    heads = ["first", "strongest"] if trace.kept > 1 else ["value"]
    table = _frame(f"sub-steps: {trace.step_count}", "tap", *heads, "unit", *(["what"] if roomy else []))
    for name in STEP_NAMES:
        values = [_shown(trace.steps[name][i]) for i in chosen]
        table.add_row(name, *values, trace.unit(name), *([_meaning(name)] if roomy else []))
    return table


def _strongest_table(trace: Trace, strongest: list[int]):
    title = "strongest sub-steps" + (" of those listed" if trace.kept < trace.step_count else "")
    places = ("layer", "sub s", "sub f", "source", "phi", "domain")
    table = _frame(title, *places, "h k l", "F cell", "F latt", "share")
    terms = [trace.steps["term"][i] * trace.steps["kept"][i] for i in range(trace.kept)]
    whole = sum(terms)
    for i in strongest:
        place = [str(trace.steps[name][i]) for name in PLACE_NAMES]
        share = f"{100 * terms[i] / whole:.3g} %" if whole else ""
        factors = [f"{trace.steps[name][i]:.6g}" for name in ("F_cell", "F_latt")]
        hkl = " ".join(f"{part:.4f}" for part in trace.steps["hkl_frac"][i])
        table.add_row(*place, hkl, *factors, share)
    return table
