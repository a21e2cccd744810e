"""The table of frames says what was rendered."""

import numpy as np

from bragg_numba import Experiment, Simulator
from bragg_numba.series.truth import frame_record, orientation_matrix


def test_the_orientation_matrix_is_the_missetting():
    experiment = Experiment.from_nanobragg("-cell 50 60 70 80 95 105 -default_F 100 -detpixels 32")
    u = still = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    turned = experiment.replace(crystal=experiment.crystal.replace(orientation=tuple(map(tuple, still))))
    assert np.abs(orientation_matrix(Simulator(turned).plan) - u).max() < 1e-12
    record = frame_record(Simulator(turned).plan, 3)
    assert np.allclose(record["cell"][:3], (50, 60, 70), rtol=1e-12)
