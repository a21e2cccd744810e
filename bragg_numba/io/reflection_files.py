"""Reflections of MTZ files and of CIF files of structure factors (SF-mmCIF, and the older core CIF)."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.atomic import file_error
from bragg_numba.io.reflections import MOST, Reflections
from bragg_numba.io.space_groups import SpaceGroup, find_space_group, from_operations, from_triplets

__all__ = ["checked_cell", "parse_cif", "read_cif", "read_mtz", "read_whole", "refused_by_gemmi"]


@dataclass(frozen=True, slots=True)
class _Choice:
    """Columns that would do: one of amplitudes or intensities, or two of Friedel mates; the lower rank is preferred."""

    labels: tuple[str, ...]
    intensities: bool
    rank: int


#: What is taken where nobody chooses: Friedel mates before means, amplitudes before intensities, measured before
#: calculated; a measured amplitude has a sigma beside it.
_F_PAIR, _F, _F_BARE, _I_PAIR, _I, _CALCULATED, _ONLY_BY_NAME = range(7)


def read_mtz(path: str | os.PathLike[str], labels: str | Iterable[str] | None = None) -> Reflections:
    """Read amplitudes or intensities of a merged MTZ file.

    Parameters
    ----------
    path
        The file; it may be gzipped.
    labels
        The column, or the two of F(+) and F(-) or of I(+) and I(-), a text with commas or a sequence; sigmas may
        stand among them. None: Friedel mates that are kept apart before means, amplitudes before intensities.

    Raises
    ------
    InputError
        If the file cannot be read, is no MTZ file or is not merged; if the labels name no column, or one of another
        kind, or nobody chose and there are several: the columns that would do are listed.
    """
    import gemmi

    file = os.fspath(path)
    if b"MTZENDOFHEADERS" not in read_whole(path):
        raise InputError(file, "is no whole MTZ file: it does not end as one", hint="was it cut short?")
    with refused_by_gemmi(path, "an MTZ file"):
        return _mtz_reflections(gemmi.read_mtz_file(file), labels, file)


def _mtz_reflections(mtz: Any, labels: str | Iterable[str] | None, file: str) -> Reflections:
    """The amplitudes or intensities of gemmi's MTZ file."""
    if len(mtz.batches) or any(column.type == "Y" for column in mtz.columns):
        raise InputError("the MTZ file", "must be merged", file=file, hint="scale and merge it first")
    columns = {column.label: column for column in reversed(mtz.columns)}
    if not {"H", "K", "L"} <= set(columns):
        raise InputError("the MTZ file", "must have the columns H, K and L", sorted(columns), file=file)

    def numbers(label: str) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # a file may mark missing values with any kind of NaN
            values = np.array(columns[label], dtype=np.float64)
        return np.where(values == mtz.valm, np.nan, values)  # or with a number of its own

    choices = list(_mtz_choices([(column.label, column.type) for column in mtz.columns]))
    sigmas = {column.label for column in mtz.columns if column.type in "QLM"}
    chosen, values = _choose(labels, choices, sigmas, set(columns), numbers, file)
    dataset = columns[chosen.labels[0]].dataset_id
    cell, wavelength = mtz.get_cell(dataset), mtz.dataset(dataset).wavelength
    sizes = checked_cell((cell.a, cell.b, cell.c, cell.alpha, cell.beta, cell.gamma), file)
    return Reflections(
        indices=_whole_indices(np.column_stack([numbers(axis) for axis in "HKL"]), file),
        values=values[0],
        mates=values[1] if len(values) == 2 else None,
        intensities=chosen.intensities,
        labels=chosen.labels,
        cell=sizes,
        group=_mtz_group(mtz, sizes, file),
        wavelength_A=wavelength if wavelength > 0.0 else None,
    )


def read_cif(path: str | os.PathLike[str], labels: str | Iterable[str] | None = None) -> Reflections:
    """Read amplitudes or intensities of a CIF file of structure factors: of its first block that has any.

    Parameters
    ----------
    path
        The file; it may be gzipped.
    labels
        Names without what comes before index_h, such as F_meas_au, or pdbx_F_plus and pdbx_F_minus; else as in
        ``read_mtz``.

    Raises
    ------
    InputError
        As ``read_mtz``; also if the file does not state its cell and space group.
    """
    file = os.fspath(path)
    complaint: InputError | None = None
    blocks = list(parse_cif(path))
    for place, block in enumerate(blocks):
        loop, prefix = _reflection_loop(block)
        if loop is None:
            continue
        try:
            with refused_by_gemmi(path, "CIF"):
                return _read_block(block, loop, prefix, labels, blocks[:place], file)
        except InputError as error:
            complaint = complaint or error
    if complaint is not None:
        raise complaint
    raise InputError(file, "holds no reflections: no loop with index_h, index_k and index_l")


def _read_block(block: Any, loop: Any, prefix: str, labels, before: list, file: str) -> Reflections:
    tags = [tag[len(prefix) :] for tag in loop.tags if tag.lower().startswith(prefix)]
    if not loop.length():
        raise InputError("the loop of reflections", "must hold at least one", file=file)

    def numbers(tag: str) -> np.ndarray:
        return _cif_numbers(block.find_values(prefix + tag), f"{prefix}{tag}", file)

    choices = [choice for choice in _CIF_CHOICES if set(choice.labels) <= set(tags)]
    sigmas = {tag for tag in tags if "sigma" in tag}
    chosen, values = _choose(labels, choices, sigmas, set(tags), numbers, file)
    places = (block, *before)
    cell = next((sizes for one in places if (sizes := _cif_cell(one, file)) is not None), None)
    if cell is None:
        raise InputError("the CIF file", "must state the unit cell", file=file, hint="_cell.length_a and the like")
    group = next((found for one in places if (found := _cif_group(one, cell, file)) is not None), None)
    if group is None:
        hint = "_symmetry.space_group_name_H-M"
        raise InputError("the CIF file", "must state the space group", file=file, hint=hint)
    # An MTZ file holds the same numbers in 32 bits: one table must come of either.
    with np.errstate(over="ignore"):  # what 32 bits cannot hold is no value
        values = [column.astype(np.float32).astype(np.float64) for column in values]
    wavelength = _cif_value(block, "_diffrn_radiation_wavelength.wavelength", "_diffrn_radiation_wavelength")
    return Reflections(
        indices=_whole_indices(np.column_stack([numbers(f"index_{axis}") for axis in "hkl"]), file),
        values=values[0],
        mates=values[1] if len(values) == 2 else None,
        intensities=chosen.intensities,
        labels=chosen.labels,
        cell=cell,
        group=group,
        wavelength_A=wavelength if wavelength is not None and wavelength > 0.0 else None,
    )


# --- which columns


def _choose(
    labels: str | Iterable[str] | None,
    choices: Sequence[_Choice],
    sigmas: set[str],
    known: set[str],
    numbers,
    file: str,
) -> tuple[_Choice, list[np.ndarray]]:
    """The columns that are asked for, or the best ones there are, and their values."""
    wanted = [label for label in _split(labels) if label not in sigmas] or _split(labels)
    would_do = "; ".join(",".join(choice.labels) for choice in choices) or "none"
    if wanted:
        chosen = next((choice for choice in choices if sorted(choice.labels) == sorted(wanted)), None)
        if chosen is None:
            unknown = [label for label in wanted if label not in known]
            rule = "must name columns of the file" if unknown else "must name amplitudes or intensities"
            raise InputError("labels", rule, ",".join(wanted), f"those that would do: {would_do}", file=file)
        values = [numbers(label) for label in chosen.labels]
        if not any(np.isfinite(column).any() for column in values):
            raise InputError("labels", "must name columns with values", ",".join(wanted), file=file)
        return chosen, values
    if not choices:
        rule = "must hold amplitudes or intensities"
        raise InputError("the file", rule, ", ".join(sorted(known)), file=file)
    for rank in sorted({choice.rank for choice in choices if choice.rank != _ONLY_BY_NAME}):
        filled = []
        for choice in choices:
            if choice.rank == rank:
                values = [numbers(label) for label in choice.labels]
                if any(np.isfinite(column).any() for column in values):
                    filled.append((choice, values))
        if len(filled) == 1:
            return filled[0]
        if filled:
            several = "; ".join(",".join(choice.labels) for choice, _ in filled)
            raise InputError("labels", "must say which", several, f"those that would do: {would_do}", file=file)
    rule = "must hold amplitudes or intensities that have values"
    raise InputError("the file", rule, file=file, hint=f"labels may name others: {would_do}")


def _split(labels: str | Iterable[str] | None) -> list[str]:
    parts = labels.split(",") if isinstance(labels, str) else [] if labels is None else [str(one) for one in labels]
    return [part.strip() for part in parts if part.strip()]


#: How names of F(+) and F(-) differ.
_SIGN = re.compile(r"\(([+-])\)|([+-])$|(plus|minus)", re.IGNORECASE)

#: Amplitudes of maps, which are no structure factors of the crystal: FWT, DELFWT, 2FOFCWT, mFo-DFc and the like.
_MAP = re.compile(r"wt$|^[0-9]*m?fo-?d?fc|^delf|^fom", re.IGNORECASE)


def _mtz_choices(columns: list[tuple[str, str]]) -> Iterator[_Choice]:
    """What would do of columns with their types: G and K are F and I of Friedel mates, F and J their means."""
    for kind, rank in (("G", _F_PAIR), ("K", _I_PAIR)):
        pairs: dict[str, dict[bool, str]] = {}
        for label, type_ in columns:
            if type_ == kind:
                sign = _SIGN.search(label)
                minus = sign is not None and sign[0].strip("()").lower() in ("-", "minus")
                pairs.setdefault(_SIGN.sub("", label, count=1), {}).setdefault(minus, label)
        for pair in pairs.values():
            if len(pair) == 2:
                yield _Choice((pair[False], pair[True]), kind == "K", rank)
    types = [type_ for _, type_ in columns]
    for place, (label, type_) in enumerate(columns):
        if type_ == "F":
            measured = types[place + 1 : place + 2] == ["Q"]
            yield _Choice((label,), False, _ONLY_BY_NAME if _MAP.search(label) else _F if measured else _F_BARE)
        elif type_ == "J":
            yield _Choice((label,), True, _I)


_CIF_CHOICES = (
    _Choice(("pdbx_F_plus", "pdbx_F_minus"), False, _F_PAIR),
    _Choice(("F_meas_au",), False, _F),
    _Choice(("F_meas",), False, _F),
    _Choice(("pdbx_I_plus", "pdbx_I_minus"), True, _I_PAIR),
    _Choice(("intensity_meas",), True, _I),
    _Choice(("F_squared_meas",), True, _I),
    _Choice(("F_calc_au",), False, _CALCULATED),
    _Choice(("F_calc",), False, _CALCULATED),
    _Choice(("F_squared_calc",), True, _CALCULATED),
    _Choice(("intensity_calc",), True, _CALCULATED),
    _Choice(("pdbx_F_calc_with_solvent",), False, _ONLY_BY_NAME),
)


# --- parts of the files


def read_whole(path: str | os.PathLike[str]) -> bytes:
    """Return a file's bytes, unpacked where it is gzipped.

    Raises
    ------
    InputError
        If it cannot be read or unpacked.
    """
    file = os.fspath(path)
    try:
        with open(path, "rb") as handle:
            data = handle.read()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(file, f"cannot be unpacked: {error}", hint="was it cut short?") from error
    except OSError as error:
        raise file_error(path, error, "read") from error


@contextmanager
def refused_by_gemmi(path: str | os.PathLike[str], kind: str) -> Iterator[None]:
    """Turn what gemmi says of a file inside the block into a refusal of one sentence."""
    try:
        yield
    except InputError:
        raise
    except (RuntimeError, ValueError, IndexError, KeyError, OSError) as error:
        reason = " ".join(str(error).replace(os.fspath(path), "the file").split())[:200]
        raise InputError(os.fspath(path), f"cannot be read as {kind}: {reason}") from error


def parse_cif(path: str | os.PathLike[str]):
    """Return gemmi's document of a CIF file, gzipped or not."""
    import gemmi

    data = read_whole(path)
    with refused_by_gemmi(path, "CIF"):
        return gemmi.cif.read_string(data.decode("utf-8", "replace"))


def checked_cell(cell: Sequence[float], file: str) -> tuple[float, ...]:
    """Return a, b, c, alpha, beta, gamma if they enclose a volume.

    Raises
    ------
    InputError
        If they do not, or stand for no crystal (edges of 1 angstrom, as in files of electron microscopy).
    """
    from bragg_numba.io.reflections import metric_of

    sizes = tuple(float(size) for size in cell)
    positive = np.isfinite(sizes).all() and min(sizes[:3]) > 1.001 and 0.0 < min(sizes[3:]) <= max(sizes[3:]) < 180.0
    with np.errstate(all="ignore"):
        try:
            sound = positive and bool((np.linalg.eigvalsh(metric_of(sizes)) > 0.0).all())
        except np.linalg.LinAlgError:
            sound = False
    if not sound:
        raise InputError("the unit cell", "must be that of a crystal (angstrom, degrees)", sizes, file=file)
    return sizes


def _whole_indices(indices: np.ndarray, file: str) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        sound = np.isfinite(indices) & (np.rint(indices) == indices) & (np.abs(indices) <= MOST)
    if not sound.all():
        row = int(np.flatnonzero(~sound.all(axis=1))[0])
        shown = tuple(float(index) for index in indices[row])
        raise InputError(f"reflection {row + 1}", "must have whole h, k and l", shown, file=file)
    return indices.astype(np.int32)


def _mtz_group(mtz: Any, cell: tuple[float, ...], file: str) -> SpaceGroup:
    if mtz.spacegroup is not None:
        return from_operations(mtz.spacegroup.operations(), mtz.spacegroup.xhm())
    called = "the MTZ file's space group"
    for name in (mtz.spacegroup_name, mtz.spacegroup_number):
        if name:
            try:
                return find_space_group(str(name), cell[3:], called=called)
            except InputError as error:
                complaint = error
    if not mtz.spacegroup_name and not mtz.spacegroup_number:
        raise InputError("the MTZ file", "must state the space group", file=file)
    raise complaint.in_file(file)


def _reflection_loop(block: Any) -> tuple[Any, str]:
    """The loop of reflections and what the names of its columns begin with."""
    for prefix in ("_refln.", "_refln_"):
        column = block.find_loop(prefix + "index_h")
        loop = column.get_loop()
        if loop is not None and {prefix + "index_k", prefix + "index_l"} <= set(loop.tags):
            return loop, prefix
    return None, ""


def _cif_numbers(column: Any, called: str, file: str) -> np.ndarray:
    """A column of a CIF, float64; NaN for ? and ."""
    words = np.array(list(column))
    missing = (words == "?") | (words == ".")
    try:
        return np.where(missing, "nan", words).astype(np.float64)
    except ValueError:
        import gemmi

        values = np.array([gemmi.cif.as_number(word) for word in words])  # takes 12.3(4)
        wrong = np.isnan(values) & ~missing
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise InputError(
                f"{called} of reflection {row + 1}", "must be a number", str(words[row]), file=file
            ) from None
        return values


def _cif_value(block: Any, *tags: str) -> float | None:
    """The first of these items that is a number."""
    import gemmi

    for tag in tags:
        for word in block.find_values(tag):
            value = gemmi.cif.as_number(word)
            if np.isfinite(value):
                return float(value)
    return None


def _cif_cell(block: Any, file: str) -> tuple[float, ...] | None:
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    sizes = [_cif_value(block, f"_cell.{name}", f"_cell_{name}") for name in names]
    if all(size is None for size in sizes):
        return None
    missing = [name for name, size in zip(names, sizes, strict=True) if size is None]
    if missing:
        raise InputError("the unit cell", f"must have a {missing[0]}", file=file)
    return checked_cell([size for size in sizes if size is not None], file)


_CIF_OPERATIONS = ("_space_group_symop.operation_xyz", "_symmetry_equiv.pos_as_xyz")
_CIF_NAMES = (
    *("_space_group.name_H-M_alt", "_symmetry.space_group_name_H-M"),
    *("_space_group.name_Hall", "_symmetry.space_group_name_Hall"),
    *("_space_group.IT_number", "_symmetry.Int_Tables_number"),
)


def _cif_group(block: Any, cell: tuple[float, ...], file: str) -> SpaceGroup | None:
    """The space group of a block: by its operations, else its names; None if it says nothing of it."""
    import gemmi

    def words(tag: str) -> list[str]:
        found = [*block.find_values(tag), *block.find_values(tag.replace(".", "_"))]
        return [text for word in found if (text := gemmi.cif.as_string(word))]

    try:
        for tag in _CIF_OPERATIONS:
            if triplets := words(tag):
                return from_triplets(triplets)
        complaint = None
        for tag in _CIF_NAMES:
            for name in words(tag):
                try:
                    return find_space_group(name, cell[3:])
                except InputError as error:
                    complaint = complaint or error
    except InputError as error:
        raise error.in_file(file) from None
    if complaint is not None:
        raise complaint.in_file(file)
    return None
