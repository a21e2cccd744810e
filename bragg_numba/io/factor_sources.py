"""What structure factors are made of, by kinds of files: the whole sphere of P1, its cell, and what was counted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError, read_from
from bragg_numba.io.anomalous import Given
from bragg_numba.io.reflections import Reflections, expand

__all__ = ["Source", "cif_source", "model_source", "mtz_source", "partial_source"]

#: Plain values by name: indices int32 (n, 3), amplitudes float64 (n,), cell (6 numbers), space_group, origin (text),
#: counts, pairs of a name and a number, and anomalous, fields of ``Anomalous`` or None.
Source = dict[str, Any]

#: B of the solvent of a usual protein crystal, square angstrom.
USUAL_B_SOL = 46.0

#: Finest resolution that is computed, angstrom: the form factors of 1992 are made for 0.25 and coarser.
FINEST_A = 0.1


def mtz_source(
    path: str | os.PathLike[str], labels: str | Iterable[str] | None = None, max_memory: int | None = None
) -> Source:
    """Read a merged MTZ file; see ``reflection_files.read_mtz`` and ``reflections.expand``."""
    from bragg_numba.io.reflection_files import read_mtz

    return _of_reflections(path, read_mtz(path, labels), max_memory)


def cif_source(
    path: str | os.PathLike[str], labels: str | Iterable[str] | None = None, max_memory: int | None = None
) -> Source:
    """Read a CIF file of structure factors; see ``reflection_files.read_cif`` and ``reflections.expand``."""
    from bragg_numba.io.reflection_files import read_cif

    return _of_reflections(path, read_cif(path, labels), max_memory)


def model_source(
    path: str | os.PathLike[str],
    dmin_A: float,
    *,
    method: str = "auto",
    anomalous: str | Mapping[str, Any] | None = None,
    k_sol: float = 0.0,
    B_sol: float = USUAL_B_SOL,
    max_memory: int | None = None,
) -> Source:
    """Compute the structure factors of a file of coordinates; see ``models.read_model`` and ``model_factors``.

    Where f' and f'' of an element depend on the energy its sum is kept apart, in ``anomalous``.
    """
    from bragg_numba.io.anomalous import check_anomalous
    from bragg_numba.io.model_factors import METHODS, model_factors
    from bragg_numba.io.models import read_model

    finest = check.number("dmin_A", dmin_A, low=FINEST_A, high=1e4)
    method = check.choice("method", method, METHODS)
    waves = {} if anomalous == "auto" else check_anomalous("anomalous", anomalous)  # before the file is read
    k_sol = check.number("k_sol", k_sol, low=0.0, high=10.0)
    B_sol = check.number("B_sol", B_sol, low=0.0, high=1e4)
    model = read_model(path)
    if anomalous == "auto":
        waves = check_anomalous("anomalous", anomalous, model.elements)
    with read_from(path):
        factors = model_factors(
            model, finest, method=method, elements=tuple(waves), k_sol=k_sol, B_sol=B_sol, max_memory=max_memory
        )
        fixed, tables = split_given({element: waves[element] for element in factors.partial})
        normal = factors.at(fixed)
        total = np.abs(normal)
    if not np.isfinite(total).all():
        raise InputError(os.fspath(path), "holds atoms whose waves have no finite sum")
    words = [f"{os.path.basename(os.fspath(path))}: {factors.method} summation to {finest:g} A"]
    words += [f"{element} f' {pair[0]:g} f'' {pair[1]:g}" for element, pair in fixed.items()]
    words += [f"{element} f' f'' {described(tables[element])}" for element in tables]
    words += [f"{element} is not in it" for element in waves if element not in factors.partial]
    words += [f"solvent of {k_sol:g} electrons/A^3, B {B_sol:g} A^2"] if k_sol > 0.0 else []
    return {
        "indices": factors.indices,
        "amplitudes": total,
        "anomalous": anomalous_fields(normal, factors.partial, tables),
        "cell": model.cell,
        "space_group": model.group.name,
        "origin": "; ".join([*words, *model.notes]),
        "counts": tuple(model.counts.items()),
    }


def split_given(given: Mapping[str, Given]) -> tuple[dict[str, tuple[float, float]], dict[str, np.ndarray | None]]:
    """What holds at any energy, and what depends on it, by element."""
    fixed = {element: one for element, one in given.items() if isinstance(one, tuple)}
    return fixed, {element: one for element, one in given.items() if not isinstance(one, tuple)}


def described(table: np.ndarray | None) -> str:
    """Where f' and f'' of an element come from, for a person."""
    if table is None:
        return "by Cromer and Liberman"
    return f"from {len(table)} rows, {table[0, 0]:g} to {table[-1, 0]:g} eV"


def anomalous_fields(
    normal: np.ndarray, partial: Mapping[str, np.ndarray], tables: Mapping[str, np.ndarray | None]
) -> dict[str, Any] | None:
    """Fields of ``Anomalous`` of the elements whose f' and f'' depend on the energy; None where there is none."""
    if not tables:
        return None
    return {
        "normal": normal,
        "elements": tuple(tables),
        "partial": np.stack([partial[element] for element in tables]),
        "tables": tuple(tables.values()),
    }


def partial_source(normal: Any, partial: Mapping[str, Any], anomalous: Any) -> Source:
    """Take F and partial sums of elements that somebody has; see ``StructureFactors.from_partial_sums``."""
    from bragg_numba.io.anomalous import check_anomalous, element_of

    if not isinstance(partial, Mapping) or not partial:
        raise InputError("partial", 'must be like {"Fe": an array of complex numbers}', partial)
    sums = {element_of("partial", symbol): np.asarray(waves) for symbol, waves in partial.items()}
    given = check_anomalous("anomalous", dict.fromkeys(sums, "auto") if isinstance(anomalous, str) else anomalous)
    if isinstance(anomalous, str) and anomalous != "auto":
        raise InputError("anomalous", "must be \"auto\", or say of each element where f' and f'' come from", anomalous)
    if lacking := [element for element in sums if element not in given]:
        raise InputError("anomalous", f"must say where f' and f'' of {', '.join(lacking)} come from")
    if unknown := [element for element in given if element not in sums]:
        raise InputError("partial", f"must have a sum for each element that is anomalous; it has none of {unknown[0]}")
    total = np.array(normal)
    if total.dtype.kind not in "iufc" or total.ndim != 1:
        raise InputError("normal", "must be an array of complex numbers, shape (n,)", normal)
    total = total.astype(np.complex128)
    for element, waves in sums.items():
        if waves.dtype.kind not in "iufc" or waves.shape != total.shape:
            rule = f"must be an array of complex numbers, shape {total.shape}"
            raise InputError(f"partial[{element!r}]", rule, waves.shape)
    fixed, tables = split_given(given)
    for element, pair in fixed.items():
        total += complex(*pair) * sums[element]
    words = [f"{element} f' {pair[0]:g} f'' {pair[1]:g}" for element, pair in fixed.items()]
    words += [f"{element} f' f'' {described(tables[element])}" for element in tables]
    return {
        "amplitudes": np.abs(total),
        "anomalous": anomalous_fields(total, sums, tables),
        "origin": "; ".join(["partial sums", *words]),
    }


def _of_reflections(path: str | os.PathLike[str], listed: Reflections, max_memory: int | None) -> Source:
    with read_from(path):
        sphere = expand(listed, max_memory)
    what = "roots of intensities" if listed.intensities else "amplitudes"
    return {
        "indices": sphere.indices,
        "amplitudes": sphere.amplitudes,
        "cell": listed.cell,
        "space_group": listed.group.name,
        "origin": f"{os.path.basename(os.fspath(path))}: {what} {','.join(listed.labels)}",
        "counts": tuple(sphere.counts.items()),
    }
