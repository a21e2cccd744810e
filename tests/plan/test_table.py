"""Structure factors as a dense table."""

import numpy as np

from bragg_numba import StructureFactors
from bragg_numba.plan.table import dense_table


def test_every_amplitude_stands_where_its_indices_say():
    rng = np.random.default_rng(2)
    indices = np.unique(rng.integers(-9, 7, (300, 3)), axis=0)
    rng.shuffle(indices)
    amplitudes = rng.random(len(indices)) + 1.0

    first, table = dense_table(StructureFactors(default_F=0.5, indices=indices, amplitudes=amplitudes), None)

    assert np.array_equal(table[tuple((indices - first).T)], amplitudes)
    assert (table == 0.5).sum() == table.size - len(indices)
    for edge in (table[0], table[-1], table[:, 0], table[:, -1], table[..., 0], table[..., -1]):
        assert (edge == 0.5).all()


def test_of_a_reflection_that_is_listed_again_the_last_value_counts():
    indices = np.repeat([[1, 2, 3], [0, 0, 1], [4, 0, -2]], 50, axis=0)
    amplitudes = np.arange(1.0, 151.0)
    order = np.random.default_rng(3).permutation(150)

    first, table = dense_table(StructureFactors(indices=indices[order], amplitudes=amplitudes[order]), None)

    for hkl in ((1, 2, 3), (0, 0, 1), (4, 0, -2)):
        own = (indices[order] == hkl).all(axis=1)
        assert table[tuple(np.array(hkl) - first)] == amplitudes[order][own][-1]
