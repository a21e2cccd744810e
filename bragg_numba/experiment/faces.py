"""How nouns show themselves: as the call that makes them, as lines with units, as a table for a notebook.

What has its default value is left out everywhere. Debuggers print a ``repr`` at every step: nothing here renders,
compiles or reads files.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

__all__ = ["beside", "call", "given", "html_table", "lines", "of_parts", "span", "unit_of"]

#: End of a field's name -> its unit; of two that fit, the longer one counts.
UNITS = {
    "_A": "angstrom",
    "_F": "electrons",
    "_MGy": "MGy",
    "_MGy_per_A": "MGy/angstrom",
    "_deg": "deg",
    "_fs": "fs",
    "_m": "m",
    "_mm": "mm",
    "_mrad": "mrad",
    "_g_per_cm3": "g/cm^3",
    "_g_per_mol": "g/mol",
    "_per_A": "1/angstrom",
    "_per_MGy": "1/MGy",
    "_per_m2": "1/m^2",
    "_per_s": "1/s",
    "_per_um2_per_Gy": "1/um^2/Gy",
    "_percent": "%",
    "_photons": "photons",
    "_px": "px",
    "_s": "s",
    "_um": "um",
}

#: Units of the fields whose name does not end in one.
UNITS_OF_FIELDS = {
    "amplitudes": "electrons",
    "bad": "px",
    "cell": "angstrom, deg",
    "first_column": "px",
    "first_row": "px",
    "max": "photons",
    "mean": "photons",
    "mosflm_matrix": "wavelength/angstrom",
    "normal": "electrons",
    "n_fast": "px",
    "n_slow": "px",
    "panels": "px, mm",
    "partial": "electrons",
    "rms": "photons",
    "rmsd": "photons",
    "roi": "px",
    "sum": "photons",
}

#: Numbers of a tuple or an array that are still printed one by one: a 3 x 3 matrix is, a mask is not.
MOST_NUMBERS = 24

#: Letters of a text that is still printed: a path is, a file is not.
MOST_LETTERS = 1000


def unit_of(field: str) -> str:
    """Return the unit that a field's name tells, ``""`` for what has none."""
    found = [end for end in UNITS if field.endswith(end)]
    return UNITS_OF_FIELDS.get(field) or UNITS.get(max(found, key=len, default=""), "")


def given(noun) -> list[tuple[str, object]]:
    """Return name and value of the dataclass fields that differ from their defaults, in the order of the class."""
    pairs = [(field, getattr(noun, field.name)) for field in dataclasses.fields(noun)]
    # By their repr -0.0 is not 0.0, as in a noun's JSON, and neither arrays nor nouns are compared in full.
    return [(field.name, value) for field, value in pairs if repr(value) != repr(_default(field))]


def _default(field: dataclasses.Field):
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def call(noun) -> str:
    """Return the call that makes the noun; only what is too long for a line cannot be pasted back."""
    fields = ", ".join(f"{name}={_code(value)}" for name, value in given(noun))
    return f"{type(noun).__name__}({fields})"


def _code(value) -> str:
    """A value as Python reads it, or its summary in angle brackets."""
    if _is_long(value):
        return f"<{_summary(value)}>"
    if isinstance(value, np.ndarray):
        return _code(tuple(value.tolist()))
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_code, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, float):
        text = repr(value)
        return text if text == "-0.0" else text.removesuffix(".0")
    return repr(value)


def _plain(value) -> str:
    """A value as a person reads it: without brackets and quotes."""
    if _is_long(value) or _holds_nouns(value):
        return _summary(value)
    if isinstance(value, np.ndarray):
        return _plain(tuple(value.tolist()))
    if isinstance(value, (tuple, list)):
        deep = any(isinstance(part, (tuple, list)) for part in value)
        return ("; " if deep else " ").join(map(_plain, value))
    return value if isinstance(value, str) else _code(value)


def _unit(name: str, value) -> str:
    """The unit of a value: words such as ``misset_deg="random"`` have none."""
    return "" if value is None or isinstance(value, (str, bool)) or _holds_nouns(value) else unit_of(name)


def _is_long(value) -> bool:
    return _size(value) > MOST_NUMBERS or (isinstance(value, str) and len(value) > MOST_LETTERS)


def _holds_nouns(value) -> bool:
    return isinstance(value, tuple) and len(value) > 0 and dataclasses.is_dataclass(value[0])


def _size(value) -> int:
    if isinstance(value, np.ndarray):
        return value.size
    if _holds_nouns(value):
        return sum(_size(part) for noun in value for _, part in given(noun))
    return sum(map(_size, value)) if isinstance(value, (tuple, list)) else 1


def _summary(value) -> str:
    """Shape and range of what is too long to be printed."""
    if isinstance(value, str):
        return f"text of {len(value.splitlines())} lines"
    if _holds_nouns(value):
        shown = f"{len(value)} of {type(value[0]).__name__}"
        if not hasattr(value[0], "name"):
            return shown
        first, last = value[0].name, value[-1].name
        return f"{shown}, {first}" + (f" to {last}" if len(value) > 1 else "")
    if not isinstance(value, np.ndarray):
        rows = isinstance(value[0], (tuple, list))
        return f"{len(value)} rows of {len(value[0])}" if rows else f"{len(value)} values"
    shape = " x ".join(map(str, value.shape))
    if value.dtype == bool:
        return f"{shape} bool, {np.count_nonzero(value)} of {value.size} True"
    if value.dtype.kind == "c":
        return f"{shape} {value.dtype}, abs {span(np.abs(value))}"
    return f"{shape} {value.dtype}, {span(value)}"


def span(values: np.ndarray) -> str:
    """Return ``lowest to highest`` of some numbers; NaN does not count."""
    low, high = np.nanmin(values), np.nanmax(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


#: Nouns of a list that are shown one by one.
MOST_SHOWN = 8


def of_parts(noun) -> Iterator[tuple[str, list[tuple[str, object]]]]:
    """Yield the parts of a noun that is made of nouns, each with what is given of it; fields of its own come first."""
    pairs = [(field.name, getattr(noun, field.name)) for field in dataclasses.fields(noun)]
    own = [pair for pair in given(noun) if not dataclasses.is_dataclass(pair[1]) and not _is_listed(pair[1])]
    if own:
        yield "", own
    for name, value in pairs:
        if dataclasses.is_dataclass(value):
            yield name, given(value)
        elif _is_listed(value):
            kinds = (f" {part.KIND}" if hasattr(part, "KIND") else "" for part in value)
            named = zip(kinds, value, strict=True)
            yield from ((f"{name}[{place}]{kind}", given(part)) for place, (kind, part) in enumerate(named))


def _is_listed(value) -> bool:
    """Whether a field holds nouns, not too many to show each."""
    return (
        isinstance(value, tuple)
        and 0 < len(value) <= MOST_SHOWN
        and all(dataclasses.is_dataclass(part) for part in value)
    )


def lines(noun, head: str) -> str:
    """Return the noun's parts over several lines, with units, below ``head``."""
    text = [head]
    for part, fields in of_parts(noun):
        if part:
            text.append(f"  {part}" if fields else f"  {part}: defaults")
        width = max((len(name) for name, _ in fields), default=0)
        indent = "    " if part else "  "
        text += [f"{indent}{name:<{width}}  {_plain(value)} {_unit(name, value)}".rstrip() for name, value in fields]
    return "\n".join(text)


def html_table(title: str, parts: Iterable[tuple[str, Sequence[tuple[str, object]]]]) -> str:
    """Return a table of field, value and unit under a title, for notebooks.

    Parameters
    ----------
    title
        Stands above the table; plain text, like everything else here: it is escaped.
    parts
        Name of a part (``""``: no name) and its fields, name and value.
    """
    rows = []
    for part, fields in parts:
        if part:
            rows.append(f'<tr><th colspan="3" style="text-align:left">{html.escape(part)}</th></tr>')
        if not fields:
            rows.append('<tr><td colspan="3" style="text-align:left">defaults</td></tr>')
        for name, value in fields:
            cells = (html.escape(text) for text in (name, _plain(value), _unit(name, value)))
            rows.append("<tr>" + "".join(f'<td style="text-align:left">{cell}</td>' for cell in cells) + "</tr>")
    head = "".join(f'<th style="text-align:left">{name}</th>' for name in ("field", "value", "unit"))
    return (
        f"<table><caption>{html.escape(title)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def beside(picture: str, table: str) -> str:
    """Return a picture and a table side by side, both HTML, for notebooks; without a picture the table alone."""
    if not picture:
        return table
    style = "display:flex;flex-wrap:wrap;gap:1em;align-items:flex-start"
    return f'<div style="{style}"><div>{picture}</div><div>{table}</div></div>'
