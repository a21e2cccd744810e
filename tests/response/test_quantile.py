"""Counts of bright pixels: the Poisson distribution's quantile of a deviate, near its steps and far in its tails."""

from __future__ import annotations

import mpmath
import numba
import numpy as np
import pytest
from bragg_numba.kernels.random import philox, quantile
from scipy import special

from bragg_numba.response.counter import poisson

#: From the least mean that is expanded in float32 to the largest that is asked for.
EXPANDED = [12.0, 12.7, 23.4, 49.9, 50.0, 71.3, 95.5, 1000.5, 12345.6, 1e6]


@numba.njit
def counts_of(mean, p, upper):
    found = np.empty(len(p))
    for i in range(len(p)):
        found[i] = quantile.count_of_quantile(mean, p[i], upper)
    return found


@numba.njit
def deviates(p):
    found = np.empty_like(p)
    for i in range(len(p)):
        found[i] = quantile.tail_deviate(p[i])
    return found


def steps(mean: float, reach: float = 8.0) -> np.ndarray:
    """Up to 400 counts within ``reach`` standard deviations of a mean."""
    root = np.sqrt(mean)
    return np.unique(np.linspace(max(0.0, mean - reach * root), mean + reach * root, 400).astype(np.int64))


def test_a_normal_deviate_has_its_probability_to_the_end_of_the_tail():
    p = np.concatenate([np.linspace(1e-3, 0.5, 2000), 10.0 ** -np.linspace(3, 16, 2000)])

    assert np.abs(deviates(p) - special.ndtri(p)).max() < 1e-9


@mpmath.workdps(30)
def tails(count: int, mean: float) -> tuple[float, float]:
    """P(X <= count) and P(X > count), summed term by term: SciPy's are wrong by 1e-5 at 5 deviations from 1e6."""
    first = mpmath.exp(count * mpmath.log(mean) - mean - mpmath.loggamma(count + 1))
    below = term = first
    n = count
    while n > 0 and term > below * 1e-18:
        term *= n / mpmath.mpf(mean)
        below += term
        n -= 1
    above, term, n = mpmath.mpf(0), first, count
    while n < mean or term > above * 1e-18:
        n += 1
        term *= mpmath.mpf(mean) / n
        above += term
    return float(below), float(above)


@pytest.mark.parametrize("mean", [mean for mean in EXPANDED if mean >= philox.SMALL_MEAN])
def test_a_deviate_beside_a_step_of_the_distribution_gets_the_count_on_its_side(mean):
    tried = 0
    for k in steps(mean)[::13]:
        for upper, chance in enumerate(tails(int(k), mean)):
            if 1e-16 < chance < 0.5:
                # Below its step a deviate belongs to k, above to k + 1; of the upper tail the other way.
                beside = chance * np.array([1 - 1e-11, 1 + 1e-11])
                wanted = [k + 1, k] if upper else [k, k + 1]
                assert list(counts_of(mean, beside, bool(upper))) == wanted
                tried += 1
    assert tried > 5


@pytest.mark.parametrize("mean", EXPANDED)
def test_float32_never_settles_a_count_that_is_another_one(mean):
    # The words beside every step, which are the hardest, and some further off.
    mean = float(np.float32(mean))
    edges = (special.pdtr(steps(mean, 5.0), mean) * 2.0**32).astype(np.int64)
    away = np.concatenate([[0], *((-1) ** s * np.array([1, 2, 5, 20, 100, 1000, 10**4, 10**5, 10**6]) for s in (0, 1))])
    words = (edges[:, None] + away).ravel()
    words = words[(words >= 0) & (words < 2**32)][: philox.CHUNK * 8].astype(np.uint32)
    words = np.concatenate([words, np.full(-len(words) % philox.CHUNK, 2**31, np.uint32)])
    means, work = np.full(philox.CHUNK, mean, np.float32), np.zeros(philox.WORK, np.float32)
    settled = 0
    for chunk in words.reshape(-1, philox.CHUNK):
        drawn = np.full(philox.CHUNK, philox.UNSURE, np.uint32)
        philox.settle_brighter(means, chunk, work, work.view(np.int32), drawn)
        sure = drawn != philox.UNSURE
        settled += sure.sum()
        u = chunk[sure] * 2.0**-32
        assert (special.pdtr(drawn[sure], mean) > u + 2.0**-32).all()
        assert (special.pdtr(drawn[sure] - 1.0, mean) <= u).all()
    assert settled > 0.3 * len(words)


@pytest.mark.parametrize("mean", EXPANDED[:-1])
def test_nearly_all_bright_pixels_are_settled_in_float32(mean):
    words = np.random.default_rng(1).integers(0, 2**32, philox.CHUNK, dtype=np.uint32)
    drawn, work = np.full(philox.CHUNK, philox.UNSURE, np.uint32), np.zeros(philox.WORK, np.float32)
    means = np.full(philox.CHUNK, mean, np.float32)
    philox.settle_brighter(means, words, work, work.view(np.int32), drawn)

    assert (drawn == philox.UNSURE).mean() < 0.01


def test_a_brighter_pixel_never_counts_fewer_photons():
    """One deviate a pixel, whatever its mean: also across the borders between ways of drawing."""
    before = np.zeros((1, 4000), np.uint32)
    for mean in np.geomspace(0.01, 3e6, 200):
        counts = poisson(np.full((1, 4000), mean, np.float32), seed=6)
        assert (counts >= before).all()
        before = counts


def test_bright_frames_have_tails():
    # 4e6 pixels of mean 60: beyond 5 standard deviations the distribution is skew, 1.7e-6 above and 3e-8 below.
    counts = poisson(np.full((2000, 2000), 60.0, np.float32), seed=12)
    for least in (95, 100, 104):
        expected = counts.size * special.pdtrc(least - 1, 60.0)
        found = int((counts >= least).sum())
        assert abs(found - expected) < 5 * np.sqrt(expected) + 1
    for most in (30, 26):
        expected = counts.size * special.pdtr(most, 60.0)
        assert abs(int((counts <= most).sum()) - expected) < 5 * np.sqrt(expected) + 1
