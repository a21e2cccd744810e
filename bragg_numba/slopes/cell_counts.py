"""Real numbers of cells: between whole ones the lattice factor goes on about each peak."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from bragg_numba import checks as check
from bragg_numba.kernels.parameters import ROUND, SQUARE
from bragg_numba.plan.plan import Plan


def metric_is_of_volume(plan: Plan) -> bool:
    """Whether the radius is that of nanoBragg's gauss and top-hat spots, which the cell's vectors enter (eq. 14)."""
    return plan.lattice.shape not in (SQUARE, ROUND) and not plan.rules.per_term


def with_counts(plan: Plan, cell_counts: Sequence[float]) -> Plan:
    """A plan whose crystal has a real number of cells along each axis, the lattice factor going on about each peak."""
    counts = np.array(check.vector("cell_counts", cell_counts, low=1.0, high=1e6))
    before, lattice = np.array([plan.lattice.n_a, plan.lattice.n_b, plan.lattice.n_c]), plan.lattice
    grown = counts / before
    if metric_is_of_volume(plan):
        metric = plan.metric * float(grown.prod()) ** 2
    else:
        metric = plan.metric * np.outer(grown, grown)
    return dataclasses.replace(
        plan,
        lattice=lattice._replace(
            n_a=float(counts[0]),
            n_b=float(counts[1]),
            n_c=float(counts[2]),
            metric_hh=float(metric[0, 0]),
            metric_kk=float(metric[1, 1]),
            metric_ll=float(metric[2, 2]),
            metric_hk=float(2.0 * metric[0, 1]),
            metric_hl=float(2.0 * metric[0, 2]),
            metric_kl=float(2.0 * metric[1, 2]),
        ),
    )
