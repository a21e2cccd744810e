"""What of a frame is no Bragg photon."""

from __future__ import annotations

import dataclasses

import numpy as np

from bragg_numba.kernels.parameters import Table
from bragg_numba.plan.plan import Plan


def without_reflections(plan: Plan) -> Plan:
    """The plan of the same frame of a crystal that scatters nothing: water alone."""
    nothing = np.zeros((3, 3, 3))
    lookup = Table(-1, -1, -1, *nothing.shape, has_table=True, interpolate=False, default_F=0.0)
    return dataclasses.replace(plan, table=nothing, lookup=lookup, lattices=None, sizes=None, diffuse=None)
