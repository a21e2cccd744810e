"""How many steps of what size: nanoBragg's rules for what the user left open (section 2.6)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bragg_numba.errors import InputError


@dataclass(frozen=True, slots=True)
class Steps:
    """``n`` steps of size ``step`` covering ``range``; the unit is the caller's."""

    n: int
    step: float
    range: float


ONE = Steps(1, 0.0, 0.0)

#: More sources or orientations than this are a slip of the pen: listing them alone would take long.
MOST_LISTED = 2_000_000


def steps_within(span: float, step: float) -> int:
    """Return how many steps of ``step`` > 0 cover ``span``, rounded up; a number without end is refused."""
    wanted = span / step
    if not wanted <= 1e18:
        raise InputError("steps", "must be large enough to cover their range", step, f"the range is {span:g}")
    return math.ceil(wanted)


def require_listable(name: str, n: int, hint: str) -> None:
    """Raise InputError if ``n`` things are too many to list."""
    if n > MOST_LISTED:
        raise InputError(name, f"must not be more than {MOST_LISTED:,}", n, hint)


def scan_steps(span: float | None, step: float | None, n: int | None, *, lone_range: float) -> Steps:
    """Steps of divergence, dispersion and sensor depth; ``None`` means not given.

    ``lone_range`` is the range that the reference assumes when only a number of steps is given.
    """
    step = 0.0 if step is None else step
    if n is None:
        if span is None:
            found = Steps(2, step, step) if step > 0.0 else ONE
        elif step <= 0.0:
            found = Steps(2, span, span)
        else:
            found = Steps(steps_within(span, step), step, span)
    elif span is None:
        found = Steps(2, step, step) if step > 0.0 else Steps(n, lone_range / n, lone_range)
    elif step <= 0.0:
        n = max(n, 2)
        found = Steps(n, span / (n - 1), span)
    else:
        found = Steps(n, step, span)
    return found if found.range > 0.0 and found.step > 0.0 and found.n > 0 else ONE


def layer_steps(thickness: float, n: int | None, *, physical: bool) -> Steps:
    """Layers of the sensor: nanoBragg's n >= 2 with step t/(n-1) (t/2 by default), or n of t/n."""
    if thickness <= 0.0:
        return ONE
    if physical:
        n = n or 2
        return Steps(n, thickness / n, thickness)
    if n is None:
        return Steps(2, thickness / 2, thickness)
    n = max(n, 2)
    return Steps(n, thickness / (n - 1), thickness)


def phi_steps(osc: float | None, step: float | None, n: int | None, *, one_degree: float) -> Steps:
    """Steps of the spindle; ``one_degree`` is the range assumed when only the number is given.

    Raises
    ------
    InputError
        If a range holds no step: nanoBragg then divides by none of them.
    """
    given = step if step is not None else -1.0
    if n is None:
        if osc is None:
            return Steps(2, given, given) if given > 0.0 else ONE
        if given <= 0.0:
            return Steps(2, osc / 2.0, osc)
        covering = steps_within(osc, given)
        if covering < 1:
            hint = "-osc and -phistep; leave out the step for a crystal that stands still"
            raise InputError("the number of phi steps", "must be at least 1, but a range of 0 has none", covering, hint)
        return Steps(covering, given, osc)
    if osc is None:
        return Steps(2, given, given) if given > 0.0 else Steps(n, one_degree / n, one_degree)
    return Steps(n, osc / n if given < 0.0 else given, osc)


def mosaic_domains(spread: float | None, n: int | None) -> int:
    """Number of domains: 10 when only a spread is given, 1 without a spread."""
    if spread is None or spread <= 0.0:
        return 1
    return 10 if n is None else n
