"""From a plan to photons."""

from bragg_numba.render.simulator import Simulator, simulate
from bragg_numba.render.statistics import Statistics

__all__ = ["Simulator", "Statistics", "simulate"]
