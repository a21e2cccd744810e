"""What structure factors are made of, by kinds of files: the whole sphere of P1, its cell, and what was counted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError, read_from
from bragg_numba.io.reflections import Reflections, expand

__all__ = ["Source", "cif_source", "model_source", "mtz_source"]

#: Plain values by name: indices int32 (n, 3), amplitudes float64 (n,), cell (6 numbers), space_group, origin (text),
#: and counts, pairs of a name and a number.
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
    anomalous: Mapping[str, tuple[float, float]] | None = None,
    k_sol: float = 0.0,
    B_sol: float = USUAL_B_SOL,
    max_memory: int | None = None,
) -> Source:
    """Compute the structure factors of a file of coordinates; see ``models.read_model`` and ``model_factors``."""
    from bragg_numba.io.model_factors import METHODS, check_anomalous, model_factors
    from bragg_numba.io.models import read_model

    finest = check.number("dmin_A", dmin_A, low=FINEST_A, high=1e4)
    method = check.choice("method", method, METHODS)
    waves = check_anomalous("anomalous", anomalous)
    k_sol = check.number("k_sol", k_sol, low=0.0, high=10.0)
    B_sol = check.number("B_sol", B_sol, low=0.0, high=1e4)
    model = read_model(path)
    with read_from(path):
        factors = model_factors(
            model, finest, method=method, elements=tuple(waves), k_sol=k_sol, B_sol=B_sol, max_memory=max_memory
        )
        total = np.abs(factors.at(waves))
    if not np.isfinite(total).all():
        raise InputError(os.fspath(path), "holds atoms whose waves have no finite sum")
    words = [f"{os.path.basename(os.fspath(path))}: {factors.method} summation to {finest:g} A"]
    words += [
        f"{element} f' {pair[0]:g} f'' {pair[1]:g}" for element, pair in waves.items() if element in factors.partial
    ]
    words += [f"{element} is not in it" for element in waves if element not in factors.partial]
    words += [f"solvent of {k_sol:g} electrons/A^3, B {B_sol:g} A^2"] if k_sol > 0.0 else []
    return {
        "indices": factors.indices,
        "amplitudes": total,
        "cell": model.cell,
        "space_group": model.group.name,
        "origin": "; ".join([*words, *model.notes]),
        "counts": tuple(model.counts.items()),
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
