"""The matrix of parity cases, as its YAML file has it: command lines, sweeps, thresholds, golden data."""

from __future__ import annotations

import itertools
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bragg_numba.errors import InputError
from bragg_numba.tolerances import OF_BRIGHTEST, RELATIVE

__all__ = ["Case", "Law", "Point", "Thresholds", "default_cases_file", "load_cases"]

#: Images that a case may compare; all but ``float`` must be equal to the last count.
IMAGES = ("float", "int", "noise", "pgm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What agreement is asked for."""

    correlation: float = 0.9999999  #: of the frame
    sum_ratio: float = 1e-6  #: |ours / reference - 1|
    relative: float = RELATIVE  #: a pixel: |ours - reference| <= relative |reference| + absolute max(reference)
    absolute: float = OF_BRIGHTEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """A power law that our images must follow over a sweep."""

    against: str  #: the swept value
    power: float
    within: float  #: of the fitted slope
    of: str = "max"  #: max or sum


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One command line of a case."""

    case: str
    label: str  #: which point of the sweep; empty where there is one
    words: tuple[str, ...]
    values: dict[str, Any]
    golden: str | None = None
    images: tuple[str, ...] = ("float",)
    precision: str | None = None  #: ours, where it is not for the run to choose
    thresholds: Thresholds = Thresholds()

    @property
    def name(self) -> str:
        """The case and the point of its sweep."""
        return f"{self.case} [{self.label}]" if self.label else self.case


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of the matrix."""

    name: str
    stands_for: str
    points: tuple[Point, ...]
    law: Law | None = None
    differ_below: float | None = None  #: images of different points correlate to less than this
    brightest_within: float | None = None  #: the brightest pixels lie at most this many pixels apart
    full_frame: bool = False  #: 4096 x 4096: run by --full-frame or by name


def default_cases_file() -> Path:
    """Return the matrix of this checkout.

    Raises
    ------
    InputError
        Where the package is installed without its tests.
    """
    path = Path(__file__).resolve().parents[3] / "tests" / "parity_cases.yaml"
    if not path.is_file():
        raise InputError("--cases", "must name a file: this installation has no tests/parity_cases.yaml beside it")
    return path


def load_cases(path: str | Path) -> tuple[list[Case], Path | None]:
    """Read a matrix.

    Returns
    -------
    tuple
        The cases in the file's order, and the golden file that it names (None: none, or it is not there).

    Raises
    ------
    InputError
        If the file cannot be read or understood, or PyYAML is not installed.
    """
    path = Path(path)
    content = _read_yaml(path)
    here = path.resolve().parent
    _only(content, {"inputs", "golden", "thresholds", "cases"}, str(path))
    golden = here / content["golden"] if content.get("golden") else None
    places = {"inputs": str(here / content.get("inputs", ".")), "here": str(here)}
    thresholds = _thresholds(Thresholds(), content.get("thresholds"), str(path))
    cases = [_case(entry, places, thresholds, f"{path}: case {i + 1}") for i, entry in enumerate(content["cases"])]
    names = [case.name for case in cases]
    for name in names:
        if names.count(name) > 1:
            raise InputError(str(path), "must not name two cases alike", name)
    return cases, golden if golden is not None and golden.is_file() else None


def _read_yaml(path: Path) -> dict:
    try:
        import yaml
    except ImportError:
        hint = "install it: pip install 'bragg-numba[test]'"
        raise InputError("PyYAML", "must be installed to read a matrix of cases", hint=hint) from None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(str(path), "could not be read", hint=error.strerror or str(error)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(str(path), "is not YAML", hint=" ".join(str(error).split())) from None
    if not isinstance(content, dict) or not isinstance(content.get("cases"), list):
        raise InputError(str(path), "must be a mapping with a list 'cases'")
    return content


def _only(entry: dict, known: set[str], name: str) -> None:
    for key in entry:
        if key not in known:
            raise InputError(name, f"must not have an entry {key!r}", hint="known: " + ", ".join(sorted(known)))


def _thresholds(base: Thresholds, entry, name: str) -> Thresholds:
    if entry is None:
        return base
    _only(entry, set(Thresholds.__slots__), f"{name}: thresholds")
    return replace(base, **{key: float(value) for key, value in entry.items()})


_CASE_KEYS = {
    *("name", "stands_for", "flags", "sweep", "variants", "golden", "images", "thresholds", "law"),
    *("differ_below", "brightest_within", "full_frame", "precision"),
}


def _case(entry, places: dict[str, str], thresholds: Thresholds, where: str) -> Case:
    if not isinstance(entry, dict):
        raise InputError(where, "must be a mapping", entry)
    _only(entry, _CASE_KEYS, where)
    for key in ("name", "stands_for", "flags"):
        if not isinstance(entry.get(key), str):
            raise InputError(where, f"must have a text '{key}'", entry.get(key))
    images = tuple(entry.get("images", ("float",)))
    if not images or set(images) - set(IMAGES):
        raise InputError(where, f"images must be some of {', '.join(IMAGES)}", images)
    precision = entry.get("precision")
    if precision not in (None, "auto", "tile", "float64"):
        raise InputError(where, "precision must be auto, tile or float64", precision)
    shared = {
        "images": images,
        "precision": precision,
        "thresholds": _thresholds(thresholds, entry.get("thresholds"), where),
    }
    law: dict[str, Any] | None = entry.get("law")
    if law is not None:
        _only(law, set(Law.__slots__), f"{where}: law")
        # YAML takes 1e-5, without a point, for a word.
        law = {key: value if key in ("against", "of") else float(value) for key, value in law.items()}
    return Case(
        name=entry["name"],
        stands_for=entry["stands_for"],
        points=tuple(_points(entry, places, shared, where)),
        law=None if law is None else Law(**law),
        differ_below=entry.get("differ_below"),
        brightest_within=entry.get("brightest_within"),
        full_frame=bool(entry.get("full_frame", False)),
    )


def _points(entry: dict, places: dict[str, str], shared: dict, where: str):
    """Yield the product of a case's variants (label -> more flags) and sweeps (name -> values)."""
    sweep, variants = entry.get("sweep") or {}, entry.get("variants") or {"": ""}
    golden = entry.get("golden")
    for variant, more in variants.items():
        for chosen in itertools.product(*sweep.values()):
            values = dict(zip(sweep, chosen, strict=True))
            parts = [variant] if variant else []
            parts += [f"{name} {value}" for name, value in values.items()]
            label = ", ".join(parts)
            yield Point(
                case=entry["name"],
                label=label,
                words=tuple(_words(f"{entry['flags']} {more or ''}", {**places, **values}, where)),
                values=values,
                golden=golden.get(label) if isinstance(golden, dict) else golden,
                **shared,
            )


def _words(text: str, values: dict, where: str) -> list[str]:
    try:
        # Split before filling in, so that a folder's name may hold a space; a value may hold several words.
        filled = [(word, word.format_map(values)) for word in shlex.split(text)]
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(where, "must have flags whose {names} are swept values", hint=str(error)) from None
    places = ("{inputs}", "{here}")
    return [part for word, full in filled for part in ([full] if any(p in word for p in places) else full.split())]
