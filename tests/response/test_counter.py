"""Counter-based photon noise against published vectors and the Poisson distribution."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from bragg_numba.kernels.random import philox
from bragg_numba.kernels.random.philox import philox4x32
from bragg_numba.kernels.random.quantile import log_probability
from scipy import stats

from bragg_numba.errors import InputError
from bragg_numba.response.counter import draw_counts, poisson, sum_photons

# Random123's kat_vectors, philox4x32 with 10 rounds: counter, key, result.
ONES = 0xFFFFFFFF
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
# Each way of drawing, and both sides of every border between two of them.
MEANS = [1e-6, 1e-3, 0.0155, 0.0157, 0.3, 1.0, 1.49, 1.51, 3.7, 11.9, 12.1, 49.9, 50.0, 120.0, 1e3, 1e5, 1e6, 1e7]
# One test in 1e5 would fail by chance if the seed were not fixed.
UNLIKELY = 1e-5


def constant(mean: float, shape: tuple[int, int] = (256, 256)) -> np.ndarray:
    return np.full(shape, mean, dtype=np.float32)


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN_ANSWERS)
def test_philox_gives_the_published_known_answers(counter, key, result):
    words = philox4x32(*(np.uint64(word) for word in counter + key))

    assert tuple(int(word) for word in words) == result


@pytest.mark.parametrize("mean", MEANS)
def test_counts_follow_the_poisson_distribution(mean):
    # So many pixels that eight of them or more have a photon.
    counts = poisson(constant(mean, (256, max(256, int(8 / mean / 256)))), seed=2024).ravel()
    law = stats.poisson(float(np.float32(mean)))
    # About forty classes of equal weight, or one for each count where there are fewer counts than that.
    edges = np.unique(law.ppf(np.linspace(0, 1, 41)[1:-1]))
    expected = np.diff(np.concatenate([[0], law.cdf(edges), [1]])) * counts.size
    observed = np.bincount(np.searchsorted(edges, counts), minlength=edges.size + 1)

    kept = expected > 5
    assert kept.sum() > 1
    statistic = np.sum((observed[kept] - expected[kept]) ** 2 / expected[kept])
    assert stats.chi2.sf(statistic, kept.sum() - 1) > UNLIKELY


@pytest.mark.parametrize("mean", [*MEANS, 1e9])
def test_mean_and_variance_are_the_mean(mean):
    counts = poisson(constant(mean), seed=5).astype(np.float64)
    mean = float(np.float32(mean))

    # 5 standard errors; the fourth central moment of the distribution is mean + 3 mean^2.
    assert abs(counts.mean() - mean) < 5 * np.sqrt(mean / counts.size)
    deviations = counts - mean
    assert abs((deviations**2).mean() - mean) < 5 * np.sqrt((mean + 2 * mean**2) / counts.size)


def test_tail_of_weak_pixels_is_there():
    # At mean 0.1 the probability of 3 photons or more is 1.5e-4, of 4 or more 3.8e-6.
    counts = poisson(constant(0.1, (2000, 2000)), seed=11)
    for least in (3, 4):
        expected = counts.size * stats.poisson(float(np.float32(0.1))).sf(least - 1)
        found = int((counts >= least).sum())
        assert stats.poisson(expected).cdf(found) > UNLIKELY
        assert stats.poisson(expected).sf(found - 1) > UNLIKELY


@pytest.mark.parametrize("mean", [10.0, 11.3, 1e3, 1e7, 4e9])
def test_log_probability_is_that_of_the_distribution(mean):
    for count in np.unique(np.floor(mean + np.sqrt(mean) * np.arange(-3.0, 9.0))):
        # scipy subtracts terms of the size of mean * ln(mean): its own rounding is the limit.
        tolerance = 1e-9 + 8 * np.finfo(float).eps * mean * np.log(mean)
        assert abs(log_probability(count, mean) - stats.poisson.logpmf(count, mean)) < tolerance


@numba.njit
def one_by_one(photons, first_pixel, frame, seed):
    """``poisson_count``, which defines the counts, pixel after pixel."""
    counts = np.empty(len(photons), dtype=np.uint32)
    low, high = np.uint64(seed) & philox.LOW_WORD, np.uint64(seed) >> philox.WORD_BITS
    for i in range(len(photons)):
        pixel = np.uint64(first_pixel + i)
        counts[i] = np.uint32(philox.poisson_count(np.float64(photons[i]), pixel, np.uint64(frame), low, high))
    return counts


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("varied", [False, True], ids=["flat", "varied"])
def test_counts_drawn_together_are_those_drawn_one_by_one(mean, varied):
    shape = (300, 1111)  # no whole number of chunks, and rows that begin within groups
    photons = constant(mean, shape)
    if varied:
        photons = np.random.default_rng(8).gamma(0.5, 2.0 * mean, shape).astype(np.float32)
    together = poisson(photons, seed=2**40 + 5, frame=9, first_row=3)

    assert np.array_equal(together.ravel(), one_by_one(photons.ravel(), 3 * shape[1], 9, 2**40 + 5))


@numba.njit
def decays(means):
    found = np.empty_like(means)
    for i in range(len(means)):
        found[i] = philox.fast_decay(means[i])
    return found


def test_fast_decay_is_as_close_as_the_margin_assumes():
    means = np.linspace(0.0, philox.SMALL_MEAN, 1_000_001).astype(np.float32)
    exact = np.exp(-means.astype(np.float64))

    # The margin is twice what is documented, 1e-4: the rest of it is for the sum.
    assert np.abs(decays(means) / exact - 1.0).max() < 0.5 * float(philox.CLOSE)


def test_a_word_that_leaves_the_count_open_is_decided_by_more_bits():
    mean = 0.7
    inside = np.exp(-mean) * 2.0**32
    word, part = np.uint64(inside), inside % 1.0  # count 0 for the first ``part`` of this word's deviates
    counts = np.array(
        [philox.count_by_inversion(mean, word, *(np.uint64(n) for n in (i, 0, 1, 2))) for i in range(4000)]
    )

    assert set(counts) == {0.0, 1.0}
    # 5 standard errors of a share of 4000
    assert abs((counts == 0.0).mean() - part) < 5 * np.sqrt(part * (1 - part) / 4000)


def test_the_last_word_reaches_beyond_what_32_bits_resolve():
    last = np.uint64(0xFFFFFFFF)
    counts = [philox.count_by_inversion(1.0, last, *(np.uint64(n) for n in (i, 0, 1, 2))) for i in range(3000)]
    # All of them have a probability below 2^-32 to be reached, and one in n has n times less.
    assert stats.poisson(1.0).sf(min(counts)) < 2.0**-32
    assert stats.poisson(1.0).sf(max(counts) - 1) < 2.0**-32 / 100


def test_counts_are_scaled_clipped_and_summed_in_passing():
    photons = np.random.default_rng(3).gamma(0.3, 300.0, (123, 457)).astype(np.float32)
    counts = np.empty(photons.shape, dtype=np.uint16)
    found = draw_counts(photons, 4, 7, counts, top=999, scale=0.7)
    wanted = poisson(photons * np.float32(0.7), 4, 7)

    assert np.array_equal(counts, np.minimum(wanted, 999))
    assert found.overloads == int((wanted > 999).sum()) > 0
    assert found.most == photons.max()
    assert found.photons == pytest.approx(photons.sum(dtype=np.float64), rel=photons.size * np.finfo(float).eps)
    assert sum_photons(photons)[:2] == found[:2]


@pytest.mark.parametrize("mean", [1.0, 8.0, 40.0, 300.0])
def test_no_count_is_above_the_largest_that_was_asked_for(mean):
    counts, top = np.empty((64, 64), dtype=np.uint16), max(6, int(mean))
    found = draw_counts(constant(mean, (64, 64)), 1, 0, counts, top=top)
    wanted = poisson(constant(mean, (64, 64)), 1, 0)

    assert np.array_equal(counts, np.minimum(wanted, top))
    assert found.overloads == (wanted > top).sum()


def test_no_photons_give_no_counts():
    assert not poisson(constant(0.0), seed=3).any()


def test_counts_above_32_bits_saturate_and_never_wrap():
    photons = np.array([[4.29e9, 4.2949673e9, 4.4e9, 1e10, 3e38]], dtype=np.float32)
    counts = poisson(photons, seed=1)[0]

    assert abs(float(counts[0]) - 4.29e9) < 8 * np.sqrt(4.29e9)
    assert counts[1] > 4.29e9
    assert (counts[2:] == 2**32 - 1).all()


def test_tiles_of_rows_give_the_counts_of_the_whole_frame():
    photons = np.random.default_rng(1).gamma(0.5, 20, (64, 50)).astype(np.float32)
    whole = poisson(photons, seed=8, frame=3)
    tiles = [poisson(photons[first:last], 8, frame=3, first_row=first) for first, last in [(0, 7), (7, 40), (40, 64)]]

    assert np.array_equal(np.concatenate(tiles), whole)


def test_number_of_threads_does_not_matter():
    photons = np.random.default_rng(2).gamma(0.5, 20, (64, 50)).astype(np.float32)
    threads = numba.get_num_threads()
    whole = poisson(photons, seed=8)
    try:
        numba.set_num_threads(1)
        alone = poisson(photons, seed=8)
    finally:
        numba.set_num_threads(threads)

    assert np.array_equal(alone, whole)


@pytest.mark.parametrize("mean", [0.01, 1.0, 30.0, 100.0])
@pytest.mark.parametrize(
    "other",
    [
        lambda photons: np.roll(poisson(photons, 1), 1, axis=1),
        lambda photons: np.roll(poisson(photons, 1), 1, axis=0),
        lambda photons: poisson(photons, 2),
        lambda photons: poisson(photons, 1 + 2**32),
        lambda photons: poisson(photons, 1, frame=1),
        lambda photons: poisson(photons, 1, frame=2**31),
    ],
    ids=["next fast pixel", "next slow pixel", "next seed", "high word of the seed", "next frame", "late frame"],
)
def test_neighbours_seeds_and_frames_are_independent(mean, other):
    photons = constant(mean)
    correlation = np.corrcoef(poisson(photons, 1).ravel(), other(photons).ravel())[0, 1]

    assert abs(correlation) < 5 / np.sqrt(photons.size)


def test_out_is_filled_and_returned():
    out = np.empty((3, 4), dtype=np.uint32)

    assert poisson(constant(2.0, (3, 4)), seed=1, out=out) is out
    assert np.array_equal(out, poisson(constant(2.0, (3, 4)), seed=1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e-6])
def test_photons_that_are_no_photons_are_refused(bad):
    photons = constant(1.0, (3, 4))
    photons[2, 1] = bad
    with pytest.raises(InputError, match="slow 2, fast 1"):
        poisson(photons, seed=1)


@pytest.mark.parametrize(
    "arguments",
    [
        {"seed": -1},
        {"seed": 2**64},
        {"seed": 0.5},
        {"seed": 1, "frame": 2**32},
        {"seed": 1, "first_row": -1},
        {"seed": 1, "n_fast": 5},
        {"seed": 1, "out": np.empty((3, 4), dtype=np.int32)},
        {"seed": 1, "out": np.empty((4, 3), dtype=np.uint32).T},
    ],
)
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(InputError):
        poisson(constant(1.0, (3, 4)), **arguments)


@pytest.mark.parametrize("photons", [np.zeros(3), "text", np.zeros((2, 2, 2)), [[1, 2], [3]]])
def test_anything_but_an_image_is_refused(photons):
    with pytest.raises(InputError, match="photons"):
        poisson(photons, seed=1)


def test_empty_frames_give_empty_counts():
    assert poisson(np.zeros((0, 4), dtype=np.float32), seed=1).shape == (0, 4)
