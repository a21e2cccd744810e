"""Kernels that parallel kernels call by their address: one for all arguments of the same types."""

from __future__ import annotations

import numpy as np
import pytest
from bragg_numba.kernels.parameters import Frame
from bragg_numba.kernels.pixels import cpu

from bragg_numba import Experiment
from bragg_numba.plan.plan import make_plan


def arguments(words: str = "") -> tuple:
    return make_plan(Experiment.from_nanobragg(f"-cell 50 -default_F 1 -N 3 -detpixels 8 {words}")).arguments


def kernel(plan_arguments: tuple):
    image = np.zeros((8, 8), np.float32)
    return cpu.float64_kernel(plan_arguments, Frame(image, np.zeros((0, 0), np.bool_), 0))


def test_plans_of_the_same_types_share_a_kernel():
    assert kernel(arguments()) is kernel(arguments("-lambda 2 -mosaic 1 -mosaic_dom 3"))


@pytest.mark.parametrize("place", [1, 6])
def test_arguments_of_another_type_get_a_kernel_of_their_own(place):
    given = arguments()
    lattice, table = given[1]._replace(n_a=3), np.asfortranarray(np.ones((3, 4, 5)))
    other = list(given)
    other[place] = {1: lattice, 6: table}[place]

    assert kernel(tuple(other)) is not kernel(given)
