"""What a simulator takes and refuses."""

from __future__ import annotations

import numpy as np
import pytest
from sample_experiments import same_in_python

from bragg_numba import InputError, Simulator

WIDE = np.zeros((20, 48), np.float32)


@pytest.mark.parametrize("bad", [np.zeros((24, 20), np.float32), np.zeros((20, 24)), WIDE[:, ::2]])
def test_an_array_that_cannot_take_the_frame_is_refused(bad):
    with pytest.raises(InputError, match="out must be"):
        Simulator(same_in_python()).render(out=bad)
