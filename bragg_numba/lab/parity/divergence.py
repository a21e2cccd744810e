"""Find the first quantity in which two traces of one pixel part, and guess why.

A trace lists intermediate quantities (*taps*) in the order of computation. Two traces are lined up by name
and occurrence; the first tap that differs is where to look, for whatever follows is spoilt by it. The ratio
of the two values is held against the mistakes that are usually made: units, degrees for radians, factors,
signs, axes in the wrong order.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bragg_numba.errors import InputError
from bragg_numba.trace.equations import EQUATION_NUMBERS, TAP_EQUATIONS
from bragg_numba.trace.taps import FINAL_NAMES

__all__ = [
    "Divergence",
    "Tap",
    "diverge",
    "first_divergence",
    "parse_trace",
]

#: Names whose value is a vector (a list of numbers is then one value, not one value per sub-step).
_VECTOR_NAME = re.compile(
    r"(_vec|_vector|_axis|_vec_A_inv|_vector_meters|_pos_meters|_[fso]det)$"
    r"|^(hkl_|rot_[abc]_|term_|[fso]det_|R[xyz]$|R_total$|angles_rad$|beam_center_m$)"
)

#: C prints its ``name=value`` lines with %g, six digits.
SIX_DIGITS = 1e-5
#: Taps that pass through zero: differences are held against a typical size, not against the value.
TYPICAL_SIZE = {"hkl_frac": 1.0, "F_latt_a": 1.0, "F_latt_b": 1.0, "F_latt_c": 1.0, "F_latt": 1.0}
#: A ratio explains a difference when it meets it this closely (%g prints six digits).
RATIO_TOLERANCE = 2e-5
R_E_SQUARED = 7.94079248018965e-30

#: Factors by which people are usually wrong; the inverse of each is tried too.
FACTORS: tuple[tuple[float, str], ...] = (
    (1e10, "probable unit error: angstroms and metres"),
    (1e9, "probable unit error: nanometres and metres (or a fluence in other units of area)"),
    (1e7, "probable unit error: 1/angstrom and 1/mm (1e10 / 1e3)"),
    (1e6, "probable unit error: micrometres and metres (or square millimetres and square metres)"),
    (1e4, "probable unit error: square centimetres and square metres"),
    (1e3, "probable unit error: millimetres and metres"),
    (1e2, "probable unit error: centimetres and metres (or per cent)"),
    (10.0, "probable unit error: angstroms and nanometres (or millimetres and centimetres)"),
    (1e12, "probable unit error: picometres and metres (or square micrometres and square metres)"),
    (1e20, "probable unit error: square angstroms and square metres"),
    (1e30, "probable unit error: cubic angstroms and cubic metres"),
    (180.0 / math.pi, "degrees and radians"),
    (1e3 * 180.0 / math.pi, "degrees and milliradians"),
    (2.0, "a factor 2"),
    (4.0, "a factor 4"),
    (2.0 * math.pi, "a factor 2 pi: q and s = q / 2 pi"),
    (math.pi, "a factor pi"),
    (R_E_SQUARED, "the classical electron radius squared"),
    (math.sqrt(R_E_SQUARED), "the classical electron radius"),
)

Value = tuple[float, ...] | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tap:
    """One quantity of a trace, where it stood."""

    name: str
    occurrence: int  #: 0 for the first tap of this name
    value: Value
    rough: bool = False  #: printed with six digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """The first tap that differs."""

    name: str
    occurrence: int
    ours: Value
    theirs: Value
    difference: tuple[float, ...]  #: ours - theirs, component by component; empty for words
    ratio: float | None  #: ours / theirs where all components share one
    explanations: tuple[str, ...]
    equation: str  #: "eq. 7 (scattering vector)", or the name alone where it has no number
    meaning: str
    agreed: int  #: taps before this one, all equal
    agreed_names: tuple[str, ...] = ()  #: the last few of those

    def as_dict(self) -> dict:
        """Return a form that JSON can hold."""
        return {
            "name": self.name,
            "occurrence": self.occurrence,
            "ours": _json_value(self.ours),
            "theirs": _json_value(self.theirs),
            "difference": _json_value(self.difference),
            "ratio": self.ratio if self.ratio is None or math.isfinite(self.ratio) else None,
            "explanations": list(self.explanations),
            "equation": self.equation,
            "meaning": self.meaning,
            "agreed": self.agreed,
        }

    def text(self) -> str:
        """Return what a person wants to know, in a few lines."""
        after = f" (the last: {', '.join(self.agreed_names)})" if self.agreed_names else ""
        lines = [
            f"first divergence: {self.name}, sub-step {self.occurrence}"
            + (f" - {self.meaning}" if self.meaning else ""),
            f"  ours    {_shown(self.ours)}",
            f"  theirs  {_shown(self.theirs)}",
        ]
        if self.difference:
            lines.append(f"  ours - theirs  {_shown(self.difference)}")
        if self.ratio is not None:
            lines.append(f"  ours / theirs  {self.ratio:.12g}")
        lines += [f"  explained by: {text}" for text in self.explanations]
        if not self.explanations:
            lines.append("  no usual mistake explains it")
        if self.equation:
            lines.append(f"  look at: {self.equation} of docs/physics.md")
        lines.append(f"  {self.agreed} taps before it agree{after}")
        return "\n".join(lines)


def parse_trace(text: str) -> list[Tap]:
    """Read the taps of a trace, in the order of computation.

    Parameters
    ----------
    text
        Lines of the reference's form (``TRACE_C: name v ...``, ``TRACE_C:name=v ...``; others are passed
        over), or a JSON mapping of tap names to numbers, lists of numbers, or one list per sub-step. A list
        of numbers is one vector where the name is a vector's, else one number per sub-step. The mapping may
        stand under a key ``taps`` and each value may be ``{"value": ..., "unit": ...}``.

    Raises
    ------
    InputError
        Where there is no tap in it.
    """
    taps = _json_taps(text) if text.lstrip().startswith("{") else _line_taps(text)
    if not taps:
        raise InputError("the trace", "must hold lines 'TRACE_C: name value' or a JSON mapping of taps")
    return taps


def _line_taps(text: str) -> list[Tap]:
    taps: list[Tap] = []
    seen: dict[str, int] = defaultdict(int)
    for line in text.splitlines():
        for name, value, rough in _line_values(line):
            taps.append(Tap(name=name, occurrence=seen[name], value=value, rough=rough))
            seen[name] += 1
    return taps


def _line_values(line: str) -> Iterable[tuple[str, Value, bool]]:
    line = line.strip()
    if line.startswith("TRACE_C_PHI "):
        pairs = (word.partition("=") for word in line.split()[1:])
        # These repeat taps of the step under names of their own: the other program may not print them.
        return [(f"phi:{name}", _value(value), False) for name, _, value in pairs]
    head, colon, rest = line.partition(":")
    if not colon or not head.startswith("TRACE_") or head == "TRACE_CONFIG":
        return []
    setup = re.match(r"\s*(\w+)=(.*)", rest)
    if setup:
        return [(setup[1], _value(setup[2]), True)]
    name, _, value = rest.strip().partition(" ")
    return [(name, _value(value), False)] if value.strip() else []


_NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|inf(?:inity)?|nan)"
_NUMBERS = re.compile(rf"[\s\[\];,()]*(?:{_NUMBER}[\s\[\];,()]*)+", re.IGNORECASE)
_LABELLED = re.compile(rf"\s*(?:\w+:{_NUMBER}\s*)+", re.IGNORECASE)


def _value(text: str) -> Value:
    """Return numbers (also from ``[1 0; 0 1]`` and ``rotx:0 roty:1``), or the text where it is none."""
    if _NUMBERS.fullmatch(text):
        return tuple(float(word) for word in re.split(r"[\s\[\];,()]+", text) if word)
    if _LABELLED.fullmatch(text):
        return tuple(float(word.partition(":")[2]) for word in text.split())
    return text.strip()


def _json_taps(text: str) -> list[Tap]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError("the trace", "is not readable JSON", hint=str(error)) from error
    if isinstance(content.get("taps"), dict):
        content = content["taps"]
    columns = {}
    for name, value in content.items():
        if isinstance(value, dict) and "value" in value:
            value = value["value"]
        steps = _json_steps(name, value)
        if steps:
            columns[name] = steps
    return _interleaved(columns)


def _json_steps(name: str, value) -> list[Value]:
    """Return one value per sub-step; nothing for what is no quantity."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, bool | int | float):
        return [(float(value),)]
    if not isinstance(value, list) or not value:
        return []
    if all(isinstance(item, bool | int | float) for item in value):
        numbers = [float(item) for item in value]
        return [tuple(numbers)] if _VECTOR_NAME.search(name) else [(number,) for number in numbers]
    steps = [step for item in value for step in _json_steps(name, item if isinstance(item, list) else [item])]
    return steps if len(steps) == len(value) else []


def _interleaved(columns: Mapping[str, Sequence[Value]]) -> list[Tap]:
    """Put columns of sub-steps into the order of computation: step after step, then the scaling."""
    known = {name: place for place, name in enumerate(TAP_EQUATIONS)}
    names = sorted(columns, key=lambda name: known.get(name, len(known)))
    rank = {name: place for place, name in enumerate(names)}
    taps = [
        Tap(name=name, occurrence=step, value=value)
        for name, steps in columns.items()
        for step, value in enumerate(steps)
    ]
    return sorted(taps, key=lambda tap: (tap.name in FINAL_NAMES, tap.occurrence, rank[tap.name]))


def first_divergence(
    ours: str | Sequence[Tap],
    theirs: str | Sequence[Tap],
    rtol: float = 1e-9,
    names: Mapping[str, str] | None = None,
) -> Divergence | None:
    """Return the first tap in which two traces differ, or None where all common taps agree.

    Parameters
    ----------
    ours, theirs
        Traces, as text or as taps. Taps that only one of them has are passed over. Where one has a whole
        number of times as many occurrences of a name as the other (one prints every mosaic domain, the other
        the first), the first of each group is compared. The order is that of ``theirs``.
    rtol
        Relative tolerance, of a vector's length for its components. Lines that C prints with six digits are
        held to 1e-5.
    names
        Our tap name -> theirs, where they differ.
    """
    pairs = _paired(_taps(ours), _taps(theirs), names or {})
    if not pairs:
        raise InputError("the traces", "must have taps in common")
    agreed: list[str] = []
    for mine, other in pairs:
        if not _equal(mine, other, rtol):
            return _divergence(mine, other, agreed, [pair[1] for pair in pairs])
        agreed.append(other.name)
    return None


def _taps(trace: str | Sequence[Tap]) -> Sequence[Tap]:
    return parse_trace(trace) if isinstance(trace, str) else trace


def _paired(ours: Sequence[Tap], theirs: Sequence[Tap], names: Mapping[str, str]) -> list[tuple[Tap, Tap]]:
    columns = defaultdict(list)
    for tap in ours:
        columns[names.get(tap.name, tap.name)].append(tap)
    counts: dict[str, int] = defaultdict(int)
    for tap in theirs:
        counts[tap.name] += 1
    pairs = []
    for tap in theirs:
        place = _partner(tap.occurrence, counts[tap.name], len(columns.get(tap.name, ())))
        if place is not None:
            pairs.append((columns[tap.name][place], tap))
    return pairs


def _partner(occurrence: int, theirs: int, ours: int) -> int | None:
    """Return the occurrence of ours that stands for theirs, or None."""
    if ours and ours % theirs == 0:
        return occurrence * (ours // theirs)
    if ours and theirs % ours == 0:
        group = theirs // ours
        return occurrence // group if occurrence % group == 0 else None
    return occurrence if occurrence < ours else None


def _equal(mine: Tap, other: Tap, rtol: float) -> bool:
    a, b = mine.value, other.value
    if isinstance(a, str) or isinstance(b, str):
        return a == b
    if len(a) != len(b):
        return False
    if mine.rough or other.rough:
        rtol = max(rtol, SIX_DIGITS)
    size = max(math.hypot(*a), math.hypot(*b), TYPICAL_SIZE.get(other.name, 0.0))
    return all(
        x == y or (math.isnan(x) and math.isnan(y)) or abs(x - y) <= rtol * size for x, y in zip(a, b, strict=True)
    )


def _divergence(mine: Tap, other: Tap, agreed: list[str], theirs: Sequence[Tap]) -> Divergence:
    key, meaning = TAP_EQUATIONS.get(other.name, ("", ""))
    a, b = mine.value, other.value
    ratio: float | None = None
    difference: tuple[float, ...] = ()
    explanations: tuple[str, ...] = ("different kinds",)
    if not isinstance(a, str) and not isinstance(b, str) and len(a) == len(b):
        ratio = _common_ratio(a, b)
        difference = tuple(x - y for x, y in zip(a, b, strict=True))
        explanations = tuple(_explanations(other.name, a, b, ratio, theirs))
    return Divergence(
        name=other.name,
        occurrence=other.occurrence,
        ours=a,
        theirs=b,
        difference=difference,
        ratio=ratio,
        explanations=explanations,
        equation=_equation(key),
        meaning=meaning,
        agreed=len(agreed),
        agreed_names=tuple(dict.fromkeys(agreed[-6:])),
    )


def _equation(key: str) -> str:
    number = EQUATION_NUMBERS.get(key)
    return key if number is None else f"eq. {number} ({key})"


def _common_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Return ours / theirs where one number does for all components."""
    if not all(map(math.isfinite, (*ours, *theirs))):
        return None
    # Scaled to 1, for squares of 1e-25 metres are at home here, those of 1e-200 are not.
    largest = max(map(abs, theirs))
    if largest == 0.0:
        return None
    unit = [y / largest for y in theirs]
    ratio = sum(x * y for x, y in zip(ours, unit, strict=True)) / sum(y * y for y in unit) / largest
    size = abs(ratio) * largest
    fits = all(abs(x - ratio * y) <= RATIO_TOLERANCE * size for x, y in zip(ours, theirs, strict=True))
    return ratio if fits else None


def _explanations(name: str, ours, theirs, ratio: float | None, trace: Sequence[Tap]) -> list[str]:
    if not all(map(math.isfinite, ours)):
        return ["ours is not a finite number"]
    if ratio is not None:
        return _explain_ratio(ratio, trace)
    found = _explain_arrangement(ours, theirs, trace) or _explain_shift(name, ours, theirs, trace)
    if not found and not any(ours):
        found = ["ours is zero"]
    if not found and not any(theirs):
        found = ["theirs is zero"]
    return found


def _explain_ratio(ratio: float, trace: Sequence[Tap]) -> list[str]:
    """Name the factors, and the factors times a power of ten, that make this ratio."""
    if ratio == 0.0:
        return ["ours is zero"]
    sign = ["the sign is turned"] if ratio < 0 else []
    size = abs(ratio)
    if _close(size, 1.0):
        return sign
    factors = [*_factors_of_trace(trace), *FACTORS]
    found = [_said(text, size) for factor, text in factors if _close(size, factor) or _close(size, 1 / factor)]
    if not found:
        found = [_power_of_ten(size)] if _whole_power(size) is not None else _mixed(size, factors)
    return sign + found


def _said(text: str, size: float) -> str:
    return f"{text} (ours is {_short(size)} times theirs)"


def _mixed(size: float, factors) -> list[str]:
    """Two mistakes at once: a factor and a power of ten."""
    found = []
    for factor, text in factors:
        for part, word in ((size / factor, "times"), (size * factor, "divided by")):
            power = _whole_power(part)
            if power is not None and not text.startswith("probable unit"):
                found.append(f"10^{power} {word} {_short(factor)}: {text}, and a unit")
    return found[:3]


def _whole_power(size: float) -> int | None:
    power = round(math.log10(size))
    return power if _close(size, 10.0**power) else None


def _power_of_ten(size: float) -> str:
    return _said("probable unit error: a power of ten", size)


def _close(one: float, two: float) -> bool:
    return abs(one - two) <= RATIO_TOLERANCE * abs(two)


def _short(number: float) -> str:
    power = _whole_power(number)
    return f"1e{power}" if power is not None and abs(power) > 2 else f"{number:.6g}"


def _factors_of_trace(trace: Sequence[Tap]) -> list[tuple[float, str]]:
    """Return factors that this pixel brings: wavelength, steps, and the like, leaving out those of 1."""
    firsts: dict[str, float] = {}
    for tap in trace:
        if not isinstance(tap.value, str) and len(tap.value) == 1:
            firsts.setdefault(tap.name, tap.value[0])
    named = (
        ("lambda_angstroms", "the wavelength in angstroms"),
        ("lambda_meters", "the wavelength in metres"),
        ("steps", "the number of steps"),
        ("R_distance_meters", "the airpath in metres"),
        ("capture_fraction", "the capture fraction"),
        ("polar", "the polarization factor"),
        ("obliquity_factor", "the obliquity"),
        ("omega_pixel", "the solid angle"),
        ("fluence_photons_per_m2", "the fluence"),
    )
    values = ((firsts.get(name), text) for name, text in named)
    return [(value, text) for value, text in values if value and value > 0 and not abs(value - 1.0) < 1e-3]


_AXES = "xyz"


def _explain_arrangement(ours, theirs, trace: Sequence[Tap]) -> list[str]:
    """Name swapped components and turned signs of a vector, the simplest that will do."""
    if len(ours) != 3:
        return []
    choices = (
        (order, signs)
        for order in itertools.permutations(range(3))
        for signs in itertools.product((1.0, -1.0), repeat=3)
    )
    for order, signs in sorted(choices, key=_complexity):
        arranged = tuple(sign * theirs[axis] for sign, axis in zip(signs, order, strict=True))
        ratio = _common_ratio(ours, arranged)
        # A negative ratio is the same arrangement with all signs turned; it has its own turn.
        if ratio is not None and ratio > 0:
            return [_arrangement(order, signs), *_explain_ratio(ratio, trace)]
    return []


def _complexity(choice) -> tuple[int, int]:
    order, signs = choice
    return sum(axis != place for place, axis in enumerate(order)), sum(sign < 0 for sign in signs)


def _arrangement(order, signs) -> str:
    parts = []
    if order != (0, 1, 2):
        parts.append("components in another order")
    if min(signs) < 0:
        parts.append("turned signs")
    words = ", ".join(("-" if sign < 0 else "") + _AXES[axis] for sign, axis in zip(signs, order, strict=True))
    return f"{' and '.join(parts)}: ours is their ({words})"


def _explain_shift(name: str, ours, theirs, trace: Sequence[Tap]) -> list[str]:
    """Name a shift by half or whole pixels along the detector axes."""
    if "pix" not in name or len(ours) != 3:
        return []
    vectors = {tap.name: tap.value for tap in reversed(trace) if not isinstance(tap.value, str)}
    fdet, sdet = vectors.get("fdet_vec"), vectors.get("sdet_vec")
    pixel = vectors.get("beam_center_m", ())[2:3]
    if not fdet or not sdet or not pixel or pixel[0] <= 0:
        return []
    step = [(x - y) / (pixel[0] * 1e-3) for x, y in zip(ours, theirs, strict=True)]
    fast, slow = (sum(x * y for x, y in zip(step, axis, strict=True)) for axis in (fdet, sdet))
    left = [x - fast * f - slow * s for x, f, s in zip(step, fdet, sdet, strict=True)]
    if math.hypot(*left) > 1e-3:
        return []
    return [f"a shift by {fast:+.4g} pixels along fast and {slow:+.4g} along slow"]


def _shown(value: Value) -> str:
    return value if isinstance(value, str) else "  ".join(f"{number:.15g}" for number in value)


def _json_value(value: Value):
    if isinstance(value, str):
        return value
    return [number if math.isfinite(number) else None for number in value]


def diverge(
    ours: str | Path,
    theirs: str | Path,
    *,
    rtol: float = 1e-9,
    names: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Compare two trace files.

    Returns
    -------
    tuple
        Status (0 no divergence, 1 diverged, 5 unreadable) and the text for a person.
    """
    try:
        mine, other = _read(ours), _read(theirs)
        found = first_divergence(mine, other, rtol, names)
    except InputError as error:
        return 5, str(error)
    if found is not None:
        return 1, found.text()
    common = len(_paired(mine, other, names or {}))
    missing = sorted({tap.name for tap in other} - {(names or {}).get(tap.name, tap.name) for tap in mine})
    note = f"; {len(missing)} taps of theirs are not in ours: {', '.join(missing)}" if missing else ""
    return 0, f"no divergence: {common} taps agree to {rtol:g}{note}"


def _read(path: str | Path) -> list[Tap]:
    try:
        return parse_trace(Path(path).read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise InputError(str(path), "could not be read", hint=error.strerror or str(error)) from error
    except InputError as error:
        raise InputError(str(path), "is not a trace", hint=str(error)) from error
