"""Structure factors that depend on the wavelength, flattened for the kernels (eq. 46)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bragg_numba.experiment import StructureFactors
from bragg_numba.kernels.parameters import OVERHANG, Dispersion
from bragg_numba.memory import require
from bragg_numba.plan.sources import Sources
from bragg_numba.plan.table import fill_table


@dataclass(frozen=True, slots=True)
class DispersionPlan:
    """What kernels get in the place of the table, and the table that holds the largest F."""

    first: tuple[int, int, int]  #: first index of the table along each axis
    kernels: Dispersion
    largest: np.ndarray  #: float64 (h, k, l): what F does not exceed at the wavelength of any source


def flatten_dispersion(
    factors: StructureFactors, sources: Sources, max_memory: int | None, like: DispersionPlan | None = None
) -> DispersionPlan | None:
    """Flatten structure factors that depend on the wavelength; None where they do not.

    Beside the table of the largest F there is one for each real and imaginary part: with one element five numbers of
    float64 for each cell of the table, 40 bytes where a table of one wavelength has 12.

    Parameters
    ----------
    like
        What was made of the same structure factors, whose tables are taken over.

    Raises
    ------
    InputError
        If the tables would take more memory than allowed, or f' and f'' are not known at a wavelength.
    """
    anomalous = factors.anomalous
    if anomalous is None:
        return None
    waves, of_source = np.unique(sources.wavelength, return_inverse=True)
    made = anomalous.factors(waves * 1e10)
    strongest = np.abs(made).max(axis=0)
    of_sources = np.ascontiguousarray(made[of_source.reshape(-1)])
    if like is None:
        first, parts, shape = _parts(factors, max_memory)
    else:
        first, parts, shape = like.first, like.kernels.parts, like.largest.shape
    cells = shape[0] * shape[1] * shape[2]
    tables = parts[: len(parts) - OVERHANG].reshape(-1, cells)
    largest = np.hypot(tables[0], tables[1])
    for element, factor in enumerate(strongest):
        largest += factor * np.hypot(tables[2 * element + 2], tables[2 * element + 3])
    kernels = Dispersion(parts, of_sources.view(np.float64), 0.0)
    return DispersionPlan(first, kernels, largest.reshape(shape))


def _parts(factors: StructureFactors, max_memory: int | None):
    """First index, Dispersion.parts, and the shape of each table."""
    anomalous = factors.anomalous
    assert anomalous is not None
    shape = tuple(n + 2 for n in factors.table_shape)
    cells = shape[0] * shape[1] * shape[2]
    waves = [anomalous.normal, *anomalous.partial]
    require(
        "the structure factor tables",
        8 * (2 * len(waves) + 2) * cells,
        max_memory,
        f"with {len(anomalous.elements)} anomalous elements their indices span "
        f"{shape[0] - 2} x {shape[1] - 2} x {shape[2] - 2} cells; is one of them wrong?",
    )
    parts = np.zeros(2 * len(waves) * cells + OVERHANG)
    parts[:cells] = factors.default_F
    tables = parts[: len(parts) - OVERHANG].reshape(-1, *shape)
    first = (0, 0, 0)
    for number, wave in enumerate(waves):
        first = fill_table(factors, np.ascontiguousarray(wave.real), tables[2 * number])
        fill_table(factors, np.ascontiguousarray(wave.imag), tables[2 * number + 1])
    return first, parts, shape
