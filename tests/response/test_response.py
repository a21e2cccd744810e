"""Each stage of a detector's response, alone and together, against its formula."""

from __future__ import annotations

import json

import numba
import numpy as np
import pytest
from bragg_numba.kernels.random import effects
from bragg_numba.kernels.response import charge as charges
from bragg_numba.kernels.response.losses import rate_corrected
from scipy import signal, stats

from bragg_numba import InputError, Response
from bragg_numba.response import spread
from bragg_numba.response.choice import plain_response, resolve
from bragg_numba.response.counter import poisson
from bragg_numba.response.maps import pixel_gains, quantile_table
from bragg_numba.response.presets import PRESETS
from bragg_numba.response.recording import record

SHAPE = (300, 400)
#: One test in 1e5 would fail by chance if the seeds were not fixed.
UNLIKELY = 1e-5


def flat(mean: float, shape=SHAPE) -> np.ndarray:
    return np.full(shape, mean, dtype=np.float32)


def values(response: Response, mean: float, seed: int = 3, shape=SHAPE, **where) -> np.ndarray:
    return response.apply(flat(mean, shape), seed, **where).astype(np.float64)


def assert_moments(found: np.ndarray, mean: float, variance: float) -> None:
    """Mean and variance within 5 standard errors, those of a distribution that is nearly normal."""
    assert abs(found.mean() - mean) < 5 * np.sqrt(variance / found.size)
    fourth = np.mean((found - found.mean()) ** 4)
    assert abs(found.var() - variance) < 5 * np.sqrt((fourth - variance**2) / found.size)


# ---- nothing on ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [1e-3, 0.3, 5.0, 49.0, 51.0, 1e3, 1e6])
def test_an_ideal_detector_gives_the_poisson_counts_bit_for_bit(mean):
    assert np.array_equal(Response().apply(flat(mean), 7, 5), poisson(flat(mean), 7, 5))


@pytest.mark.parametrize("mean", [1e-3, 0.3, 5.0, 49.0, 51.0, 1e3, 1e5, 1e6])
def test_counts_of_a_counter_follow_the_poisson_distribution(mean):
    # A counter whose losses, of a part of 1e-9, nobody can see.
    counts = values(Response.preset("eiger2", dead_time_ns=1e-6), mean)
    law = stats.poisson(float(np.float32(mean) * np.float32(Response.preset("eiger2").quantum_efficiency)))
    edges = np.unique(law.ppf(np.linspace(0, 1, 41)[1:-1]))
    expected = np.diff(np.concatenate([[0], law.cdf(edges), [1]])) * counts.size
    observed = np.bincount(np.searchsorted(edges, counts.ravel()), minlength=edges.size + 1)
    kept = expected > 5
    statistic = np.sum((observed[kept] - expected[kept]) ** 2 / expected[kept])
    assert stats.chi2.sf(statistic, max(kept.sum() - 1, 1)) > UNLIKELY


# ---- normal deviates -----------------------------------------------------------------------------------------


def normals(seed=1, frame=0, effect=effects.READOUT, first=0, n=1_000_000) -> np.ndarray:
    out = np.empty(n, dtype=np.float32)
    table = quantile_table()
    effects.fill_normals(np.uint64(seed), np.uint32(frame), np.uint64(effect), np.uint64(first), table, out)
    return out


def test_normal_deviates_are_normal():
    found = normals().astype(np.float64)
    assert_moments(found, 0.0, 1.0)
    assert stats.kstest(found, "norm").pvalue > UNLIKELY
    for limit in (2.0, 3.0, 4.0):
        expected = 2 * stats.norm.sf(limit) * found.size
        assert stats.poisson(expected).sf((abs(found) > limit).sum() - 1) > UNLIKELY
        assert stats.poisson(expected).cdf((abs(found) > limit).sum()) > UNLIKELY


def test_normal_deviates_are_the_quantiles_of_their_words():
    words = np.linspace(0, 2**32 - 1, effects.CHUNK).astype(np.uint32)
    found = np.empty(effects.CHUNK, dtype=np.float32)
    effects.normals_of_words(words, quantile_table(), found)
    exact = stats.norm.ppf((words + 0.5) / 2.0**32)
    # Chords of 2048 steps: h^2 z / (8 density^2) at the first step where they serve, 16 / 2048, is 1.2e-4.
    assert abs(found - exact).max() < 1.3e-4


def test_polynomials_of_the_tails_give_the_exact_deviates_to_the_last_bit():
    near = np.arange(4096, dtype=np.uint32)  # the ends themselves, and where rows of the polynomials begin
    rows = (np.arange(1, 128, dtype=np.uint32)[:, None] * 2**18 + np.arange(-8, 8)).ravel().astype(np.uint32)
    any_of_them = np.random.default_rng(1).integers(0, 2**25, 200_000).astype(np.uint32)
    lower = np.concatenate([near, rows, any_of_them])
    for word in np.concatenate([lower, ~lower]):
        assert effects.fast_tail(word) == effects.exact_tail(word)


def test_digits_of_whole_adu_are_those_of_any():
    draw = np.random.default_rng(2)
    charge = draw.gamma(0.3, 30.0, 5000).astype(np.float32)
    normals = draw.normal(size=charge.size).astype(np.float32)
    stages = Response.preset("jungfrau").stage_table()
    stages[0, 1:] = np.inf
    found, expected = np.empty((2, charge.size), dtype=np.uint32)
    limits = np.float32(16383), np.float32(100), np.uint32(13000)
    overloads = charges.digitise_first(charge, normals, stages, *limits, found)
    assert overloads == charges.digitise_any(charge, normals, stages, *limits, expected) > 0
    assert (found < 100).any()
    np.testing.assert_array_equal(found, expected)


def test_effects_frames_seeds_and_places_have_streams_of_their_own():
    base = normals(n=100_000)
    others = [normals(effect=effects.CASCADE), normals(frame=1), normals(seed=2), normals(first=1), normals(first=4)]
    for other in others:
        assert abs(np.corrcoef(base, other[: base.size])[0, 1]) < 5 / np.sqrt(base.size)
    assert np.array_equal(normals(first=3, n=5000), base[3:5003])


# ---- dead time -----------------------------------------------------------------------------------------------


def counted(rate: float, exposure_s: float, paralyzable: bool, n=4000, seed=5) -> np.ndarray:
    """Counts of a detector with a dead time of 100 ns, photon by photon."""
    random, counts = np.random.default_rng(seed), []
    for photons in random.poisson(rate * exposure_s, n):
        times = np.sort(random.random(photons)) * exposure_s
        if paralyzable:
            counts.append(int(photons > 0) + int((np.diff(times) >= 1e-7).sum()))
            continue
        count, last = 0, -1.0
        for time in times:
            if time - last >= 1e-7:
                count, last = count + 1, time
        counts.append(count)
    return np.array(counts, dtype=np.float64)


@pytest.mark.parametrize("paralyzable", [False, True])
@pytest.mark.parametrize(("rate", "exposure_s"), [(1e6, 3e-6), (2e6, 2e-5), (5e5, 1e-3), (4e6, 3e-4)])
def test_counts_after_a_dead_time_are_those_of_photons_at_random_times(rate, exposure_s, paralyzable):
    response = Response(dead_time_ns=100.0, paralyzable=paralyzable)
    found = values(response, rate * exposure_s, exposure_s=exposure_s)
    direct = counted(rate, exposure_s, paralyzable)
    error = np.sqrt(direct.var() / direct.size + found.var() / found.size)
    assert abs(found.mean() - direct.mean()) < 5 * error
    # The variance of so many direct counts is known to sqrt(2 / 4000) of itself.
    assert abs(found.var() / direct.var() - 1) < 5 * np.sqrt(2 / direct.size)


@pytest.mark.parametrize("rate", [1e4, 1e5, 1e6, 3e6])
def test_dead_time_makes_counts_fewer_and_their_variance_smaller_still(rate):
    for paralyzable in (False, True):
        x = rate * 1e-7
        decay = np.exp(-x)
        mean = rate * decay if paralyzable else rate / (1 + x)
        variance = rate * decay * (1 - 2 * x * decay) if paralyzable else rate / (1 + x) ** 3
        found = values(Response(dead_time_ns=100.0, paralyzable=paralyzable), rate)
        # The formulas are those of an endless exposure: they miss up to a count.
        assert abs(found.mean() - mean) < 1.0 + 5 * np.sqrt(variance / found.size)
        assert abs(found.var() / variance - 1) < 5 * np.sqrt(2 / found.size) + 1 / rate


def test_rate_correction_restores_the_mean_and_not_the_variance():
    for paralyzable in (False, True):
        response = Response(dead_time_ns=100.0, paralyzable=paralyzable, rate_correction=True)
        found, x = values(response, 1e6), 0.1
        # var of the counts over the square of the derivative of their mean
        variance = 1e6 * (1 + x) if not paralyzable else 1e6 * np.exp(x) * (1 - 2 * x * np.exp(-x)) / (1 - x) ** 2
        assert abs(found.mean() - 1e6) < 2.0 + 5 * np.sqrt(variance / found.size)
        assert abs(found.var() / variance - 1) < 5 * np.sqrt(2 / found.size) + 1e-4


def test_a_few_photons_are_lost_as_often_as_two_are_too_near():
    response = Response(dead_time_ns=100.0)
    photons = flat(5.0, (1000, 1000))
    lost = poisson(photons, 3).sum() - float(response.apply(photons, 3, exposure_s=1e-3).sum(dtype=np.float64))
    expected = photons.size * 25.0 * 1e-4  # n (n - 1) tau / T, to 1e-4 of itself for each further photon
    assert abs(lost - expected) < 5 * np.sqrt(expected) + 1e-3 * expected


def test_a_counter_ends_at_its_limit_and_says_so():
    response = Response(count_limit=100, name="small")
    found = record(response, flat(95.0), 1)
    drawn = poisson(flat(95.0), 1)
    assert found.overloads == (drawn >= 100).sum() > 0
    assert np.array_equal(found.counts, np.minimum(drawn, 100))
    fast = Response(rate_limit_per_s=1e4)
    assert fast.saturation(0.01) == 100


# ---- point spread --------------------------------------------------------------------------------------------


def fibre(**changes) -> Response:
    return Response(point_spread="fibre", point_spread_um=80.0, pixel_um=100.0, **changes)


def spot(shape, at, photons=1e6) -> np.ndarray:
    image = np.zeros(shape, dtype=np.float32)
    image[at] = photons
    return image


def parts_of_fibre(shape, at, length) -> np.ndarray:
    weights = spread.fibre_weights(length, shape[0] - 1, shape[1] - 1)
    return weights[np.ix_(abs(np.arange(shape[0]) - at[0]), abs(np.arange(shape[1]) - at[1]))]


@pytest.mark.parametrize("shape", [(120, 90), (1203, 300)])
@pytest.mark.parametrize("at", [(0, 0), (60, 89), (40, 40)])
def test_a_spot_in_a_fibre_is_its_integral_and_loses_what_falls_off(shape, at):
    out, away = fibre().spread(spot(shape, at))
    exact = parts_of_fibre(shape, at, 0.8 / spread.FIBRE_WIDTH)
    # Rounding of float32 transforms; what lies far is known to 1e-2 of itself.
    assert abs(out / 1e6 - exact).max() < 1e-7
    assert abs(away / 1e6 - (1 - exact.sum())) < 1e-6
    assert away + out.sum(dtype=np.float64) == pytest.approx(1e6, abs=1e-3)


def test_a_fibre_conserves_the_radial_mean():
    image = np.random.default_rng(1).gamma(0.3, 10.0, (201, 201)).astype(np.float32)
    out, away = fibre().spread(image)
    slow, fast = np.indices(image.shape) - 100
    ring = np.hypot(slow, fast).astype(int)
    radial = np.bincount(ring.ravel(), out.ravel().astype(np.float64))
    assert abs((radial.sum() + away) / image.sum(dtype=np.float64) - 1) < 1e-6
    direct = signal.fftconvolve(
        image.astype(np.float64), parts_of_fibre((401, 401), (200, 200), 0.8 / spread.FIBRE_WIDTH)
    )
    assert abs(out - direct[200:401, 200:401]).max() < 1e-5 * image.max()


def test_a_gauss_conserves_photons_and_has_its_width():
    response = Response(point_spread="gauss", point_spread_um=150.0)
    out, away = response.spread(spot((101, 101), (50, 50)))
    assert abs(away) < 1e-6 * 1e6
    profile = out.sum(axis=0, dtype=np.float64) / 1e6
    sigma = 2.0 / (2 * np.sqrt(2 * np.log(2)))
    # A pixel's own width adds 1/12.
    assert np.sum(profile * (np.arange(101) - 50.0) ** 2) == pytest.approx(sigma**2 + 1 / 12, rel=1e-5)
    corner, gone = response.spread(spot((101, 101), (0, 0)))
    inside = 0.5 + 0.5 * spread.gauss_weights(sigma, 100)[len(spread.gauss_weights(sigma, 100)) // 2]
    assert gone == pytest.approx(1e6 * (1 - inside**2), rel=1e-5)
    assert gone + corner.sum(dtype=np.float64) == pytest.approx(1e6, rel=1e-7)


def test_a_wide_gauss_is_the_product_of_error_functions():
    for shape in ((90, 140), (1, 3)):
        image = np.random.default_rng(3).random(shape).astype(np.float32)
        out, away = Response(point_spread="gauss", point_spread_um=3000.0).spread(image)
        direct = image.astype(np.float64)
        for axis in (0, 1):
            weights = spread.gauss_weights(40.0 / (2 * np.sqrt(2 * np.log(2))), 10**6)
            direct = np.apply_along_axis(
                lambda row, w=weights: np.convolve(row, w)[len(w) // 2 :][: len(row)], axis, direct
            )
        assert np.allclose(out, direct, rtol=1e-5)
        assert away == pytest.approx(image.sum(dtype=np.float64) - direct.sum(), rel=1e-5)


def test_any_kernel_spreads_as_it_is():
    kernel = np.array([[0.0, 0.1, 0.0], [0.2, 0.4, 0.05], [0.0, 0.1, 0.05]])
    response = Response(point_spread="kernel", point_spread_kernel=kernel)
    image = np.random.default_rng(2).random((20, 30)).astype(np.float32)
    out, away = response.spread(image)
    assert np.allclose(out, signal.convolve2d(image, kernel, mode="same"), atol=1e-6)
    assert away == pytest.approx(image.sum(dtype=np.float64) - out.sum(dtype=np.float64))
    assert response == Response.from_dict(json.loads(json.dumps(response.to_dict())))


def test_a_phosphor_correlates_neighbours_and_a_counter_does_not():
    parts = parts_of_fibre((81, 81), (40, 40), 0.8 / spread.FIBRE_WIDTH)
    shape, inner = (500, 500), np.s_[60:-60, 60:-60]
    phosphor = fibre(kind="integrator", spread_counts=True, adu_per_photon=100.0, pedestal_adu=1000.0, adc_bits=24)
    found = (values(phosphor, 100.0, shape=shape) - 1000.0)[inner] / 100.0
    for down, along in ((0, 0), (0, 1), (1, 0), (1, 1)):
        shifted = np.roll(parts, (down, along), axis=(0, 1))
        wanted = 100.0 * (parts * shifted).sum()
        moved = np.roll(found, (-down, -along), axis=(0, 1))[2:-2, 2:-2]
        covariance = np.mean((found[2:-2, 2:-2] - found.mean()) * (moved - found.mean()))
        # Means of spread counts: fewer independent ones than pixels, by 1 / sum K^2.
        assert abs(covariance - wanted) < 5 * 12.4 * np.sqrt(8.0 / found.size)
    assert (parts**2).sum() == pytest.approx(0.124, abs=5e-4)
    counter = values(fibre(), 100.0, shape=shape)[inner]
    assert abs(counter.var() / counter.mean() - 1) < 5 * np.sqrt(2 / counter.size)
    assert abs(np.corrcoef(counter[:, 1:].ravel(), counter[:, :-1].ravel())[0, 1]) < 5 / np.sqrt(counter.size)


# ---- charge --------------------------------------------------------------------------------------------------


def integrator(**changes) -> Response:
    fields = {"kind": "integrator", "adu_per_photon": 100.0, "pedestal_adu": 5000.0, "adc_bits": 24}
    return Response(**{**fields, **changes})


@pytest.mark.parametrize("mean", [0.01, 1.0, 40.0, 2000.0])
def test_each_stage_of_an_integrator_adds_its_variance(mean):
    assert_moments(values(integrator(), mean), 5000 + 100 * mean, 1e4 * mean)
    noisy = values(integrator(readout_noise_adu=30.0), mean)
    assert_moments(noisy, 5000 + 100 * mean, 1e4 * mean + 900 + 1 / 12)
    cascade = values(integrator(excess_variance=0.41), mean)
    assert_moments(cascade, 5000 + 100 * mean, 1e4 * mean * 1.41 + 1 / 12)
    uneven = values(integrator(calibration=0.03), mean)
    gains = pixel_gains(0.03, 1, SHAPE, 0).astype(np.float64)
    assert abs(uneven.mean() - 5000 - 100 * mean * gains.mean()) < 5 * 100 * np.sqrt(mean / uneven.size)
    assert abs(gains.std() - 0.03) < 5 * 0.03 / np.sqrt(2 * gains.size)


@pytest.mark.parametrize("name", ["jungfrau", "agipd", "epix10k"])
def test_gain_and_noise_are_found_again_from_pairs_of_frames(name):
    response, shape = Response.preset(name), (800, 800)
    dark = [values(response, 0.0, shape=shape, frame=frame) for frame in (0, 1)]
    light = [values(response, 8.0, shape=shape, frame=frame) for frame in (2, 3)]
    noise = (dark[0] - dark[1]).std() / np.sqrt(2)
    signal_adu = (light[0] + light[1]).mean() / 2 - (dark[0] + dark[1]).mean() / 2
    # Each pixel's gain enters the variance squared.
    gain = ((light[0] - light[1]).var() / 2 - noise**2) / signal_adu / (1 + response.calibration**2)
    assert gain == pytest.approx(response.adu_per_photon[0], rel=0.01)
    assert noise == pytest.approx(response.readout_noise_adu[0], rel=0.01)


def test_all_stages_together_have_the_sum_of_the_variances():
    response = Response.preset("rayonix")
    frames = np.stack([values(response, 50.0, shape=(400, 400), frame=frame) for frame in range(2)])[:, 80:-80, 80:-80]
    g, n = response.adu_per_photon[0], 50.0 * response.quantum_efficiency
    parts = parts_of_fibre((161, 161), (80, 80), 80.0 / 73.24 / spread.FIBRE_WIDTH)
    inside = parts.sum()
    # Photons spread, then the cascade's noise, gain map, read-out and digits.
    squares = 1 + 0.03**2
    wanted = g**2 * squares * n * ((parts**2).sum() + 0.41 * inside) + response.readout_noise_adu[0] ** 2 + 1 / 12
    variance = (frames[0] - frames[1]).var() / 2
    assert variance == pytest.approx(wanted, rel=0.02)


def test_noisify_loses_photons_where_a_gain_map_would_scale_them():
    before = np.stack([values(Response.preset("noisify"), 200.0, frame=frame) for frame in range(2)])
    after = np.stack([values(Response.preset("noisify", calibrate_photons=False), 200.0, frame=f) for f in range(2)])
    for frames in (before, after):
        assert abs(frames.mean() - 240.0) < 0.1
    # Of one pixel: the variance is its own mean, in the one case, and its gain squared in the other.
    assert (before[0] - before[1]).var() / 2 == pytest.approx(200.0, rel=0.02)
    assert np.cov(before.reshape(2, -1))[0, 1] == pytest.approx(36.0, rel=0.05)


def test_gain_stages_are_linear_and_noisier_in_photons():
    response = Response.preset("jungfrau", calibration=0.0, quantum_efficiency=1.0)
    for mean, stage in ((10.0, 0), (200.0, 1), (5000.0, 2)):
        found = (values(response, mean) - response.offset) / response.adu_of_photon
        noise = (response.readout_noise_adu[stage] ** 2 + 1 / 12) / response.adu_per_photon[stage] ** 2
        assert_moments(found, mean, mean + noise)
    assert (values(response, 2e4) == response.saturation()).all()


def test_flicker_is_one_factor_a_frame():
    response = Response(flicker=0.1)
    means = np.array([values(response, 100.0, shape=(100, 100), frame=frame).mean() for frame in range(200)])
    assert abs(means.std() / 100.0 - 0.1) < 5 * 0.1 / np.sqrt(2 * 200)
    one = values(response, 100.0)
    assert abs(one.var() / one.mean() - 1) < 5 * np.sqrt(2 / one.size)


def test_dead_and_hot_pixels_belong_to_the_detector():
    response = Response.preset("jungfrau", dead_pixels=0.02, hot_pixels=0.01, detector_seed=4)
    dead, hot = response.bad_pixels(SHAPE)
    assert abs(dead.mean() - 0.02) < 5 * np.sqrt(0.02 / dead.size)
    assert abs(hot.mean() - 0.01) < 5 * np.sqrt(0.01 / hot.size)
    for seed, frame in ((1, 0), (2, 9)):
        found = response.apply(flat(3.0), seed, frame)
        assert (found[dead] == 0).all()
        assert (found[hot] == response.saturation()).all()
    assert not np.array_equal(response.replace(detector_seed=5).bad_pixels(SHAPE)[0], dead)
    assert record(response, flat(3.0), 1).overloads == 0


# ---- streams -------------------------------------------------------------------------------------------------


def test_switching_one_stage_never_shifts_another():
    photons = np.random.default_rng(1).gamma(0.5, 20.0, SHAPE).astype(np.float32)
    full = integrator(readout_noise_adu=30.0, excess_variance=0.4, calibration=0.05, flicker=0.1)
    bare = integrator(readout_noise_adu=30.0)
    quiet = integrator()
    noise = bare.apply(photons, 1).astype(float) - quiet.apply(photons, 1)
    with_map = full.replace(excess_variance=0.0, flicker=0.0)
    noise_with_map = with_map.apply(photons, 1).astype(float) - with_map.replace(readout_noise_adu=(0.0,)).apply(
        photons, 1
    )
    assert abs(noise - noise_with_map).max() <= 1.0  # digits
    assert np.array_equal(full.replace(detector_seed=1).apply(photons, 1), full.apply(photons, 1))
    assert np.array_equal(quiet.apply(photons, 1), 5000 + 100 * poisson(photons, 1))


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "rayonix"])
def test_threads_tiles_and_order_give_the_same_bits(name):
    photons = np.random.default_rng(2).gamma(0.5, 40.0, (64, 50)).astype(np.float32)
    response = Response.preset(name, dead_pixels=0.01, hot_pixels=0.01)
    whole = response.apply(photons, 8, 3)
    tiles = [response.apply(photons[a:b], 8, 3, first_row=a) for a, b in [(40, 64), (7, 40), (0, 7)]]
    assert np.array_equal(np.concatenate(tiles[::-1]), whole)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        assert np.array_equal(response.apply(photons, 8, 3), whole)
    finally:
        numba.set_num_threads(threads)


def test_the_spread_of_a_frame_does_not_depend_on_threads():
    photons = np.random.default_rng(2).gamma(0.5, 40.0, (120, 130)).astype(np.float32)
    response, threads = Response.preset("rayonix"), numba.get_num_threads()
    whole = response.apply(photons, 8, 3)
    try:
        numba.set_num_threads(1)
        assert np.array_equal(response.apply(photons, 8, 3), whole)
    finally:
        numba.set_num_threads(threads)


def test_shots_differ_and_detectors_do_not():
    response = Response.preset("epix10k")
    first, second = (values(response, 200.0, frame=frame) for frame in (0, 1))
    gains = pixel_gains(0.0475, 1, SHAPE, 0)
    assert not np.array_equal(first, second)
    # The map is in both; what is left of them is independent.
    left = [frame - 50.0 - (frame.mean() - 50.0) * gains for frame in (first, second)]
    assert abs(np.corrcoef(left[0].ravel(), left[1].ravel())[0, 1]) < 5 / np.sqrt(gains.size)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.2


# ---- refusals ------------------------------------------------------------------------------------------------


def test_an_unknown_preset_lists_those_that_exist():
    with pytest.raises(InputError, match="ideal, eiger2, pilatus3, jungfrau, agipd, epix10k, rayonix"):
        Response.preset("jungfrauu")


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "film"},
        {"quantum_efficiency": 1.5},
        {"point_spread": "gauss"},
        {"point_spread_um": 30.0},
        {"point_spread": "kernel"},
        {"point_spread": "kernel", "point_spread_kernel": np.ones((3, 3))},
        {"point_spread": "kernel", "point_spread_kernel": np.full((2, 3), 0.1)},
        {"point_spread": "kernel", "point_spread_kernel": [["a"]]},
        {"spread_counts": True},
        {"adu_per_photon": (1.0, 2.0)},
        {"adu_per_photon": (1.0, 2.0), "switch_photons": (5.0,)},
        {"adu_per_photon": ()},
        {"adu_per_photon": "ten"},
        {"readout_noise_adu": (1.0, 2.0)},
        {"pedestal_adu": 70000.0},
        {"dead_time_ns": -1.0},
        {"dead_time_ns": np.nan},
        {"count_limit": 0},
        {"detector_seed": -1},
    ],
)
def test_responses_that_cannot_be_are_refused(fields):
    with pytest.raises(InputError, match=r"Response\."):
        Response(**fields)


@pytest.mark.parametrize(
    "where",
    [
        {"seed": -1},
        {"seed": 1, "frame": 2**32},
        {"seed": 1, "exposure_s": 0.0},
        {"seed": 1, "pixel_um": 0.0},
        {"seed": 1, "mask": np.ones((2, 2), bool)},
        {"seed": 1, "scale": -1.0},
        {"seed": 1, "first_row": 5},
    ],
)
def test_arguments_out_of_range_are_refused(where):
    with pytest.raises(InputError):
        fibre().apply(flat(1.0), **where)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e-6])
@pytest.mark.parametrize("name", ["eiger2", "rayonix", "noisify"])
def test_photons_that_are_no_photons_are_refused(name, bad):
    photons = flat(1.0, (3, 4))
    photons[2, 1] = bad
    with pytest.raises(InputError, match="slow 2, fast 1"):
        Response.preset(name, flicker=0.1).apply(photons, 1)


def test_empty_frames_give_empty_counts():
    for name in PRESETS:
        assert Response.preset(name).apply(np.zeros((0, 4), np.float32), 1).shape == (0, 4)


def test_a_plan_names_a_preset_a_change_of_one_or_all_fields():
    assert plain_response("response", "EIGER2") == "eiger2"
    changed = plain_response("response", {"preset": "jungfrau", "detector_seed": 9})
    assert resolve(changed, photon_keV=9.0) == Response.preset("jungfrau", photon_keV=9.0, detector_seed=9)
    assert resolve(changed, photon_keV=9.0, absorbed=True).quantum_efficiency == 1.0
    whole = Response.preset("rayonix", hot_pixels=0.1)
    assert resolve(plain_response("response", whole)) == whole
    for bad in (5, {"preset": "film"}, {"no_such": 1}, {"preset": "eiger2", "dead_time_ns": -1}):
        with pytest.raises(InputError):
            plain_response("response", bad)


def test_rate_correction_inverts_the_mean_count():
    for paralyzable in (False, True):
        for photons in (1e3, 1e5, 1e6, 5e6):
            mean = photons * np.exp(-photons * 1e-7) if paralyzable else photons / (1 + photons * 1e-7)
            assert rate_corrected(mean, 1e-7, paralyzable) == pytest.approx(photons, rel=1e-9)
    assert rate_corrected(1e7, 1e-7, False) == np.inf
    assert rate_corrected(4e6, 1e-7, True) == np.inf


# ---- virtual pixels ------------------------------------------------------------------------------------------


def chips(way="split", **changes) -> Response:
    fields = {"virtual_pixels": way, "chip_pixels": (6, 5), "module_pixels": (30, 12), "module_gap": (3, 2)}
    return Response(**{**fields, **changes})


def places(response: Response, shape) -> tuple[list[int], list[int]]:
    """Columns and rows of places of wide pixels."""
    there = response.virtual_mask(shape)
    return list(np.flatnonzero(there.all(axis=0))), list(np.flatnonzero(there.all(axis=1)))


def test_wide_pixels_lie_where_the_chips_of_real_modules_meet():
    columns, rows = places(Response.preset("eiger2", virtual_pixels="mask"), (512 + 38 + 512, 1028 + 12 + 300))
    assert columns == [c + o for c in (254, 512, 770, 1040 + 254) for o in (0, 1, 2, 3)]
    assert rows == [r + o for r in (254, 550 + 254) for o in (0, 1, 2, 3)]
    columns, rows = places(Response.preset("pilatus3", virtual_pixels="mask"), (195, 487))
    assert columns == [59 + 61 * i + o for i in range(7) for o in (0, 1, 2)]
    assert rows == [96, 97, 98]
    columns, _ = places(Response.preset("jungfrau", virtual_pixels="mask"), (514, 1030))
    assert columns == [255 + 258 * i + o for i in range(3) for o in (0, 1, 2, 3)]
    assert not Response.preset("eiger2").virtual_mask((600, 600)).any()


@pytest.mark.parametrize("edge", [1.5, 2.0])
def test_counts_of_wide_pixels_are_divided_and_none_is_lost(edge):
    # Modules of two chips side by side, over many rows: every border is one column.
    module = 14 if edge == 2.0 else 13
    response, shape = chips(chip_edge=edge, module_pixels=(module, 12), chip_pixels=(6, 12)), (600, 10 * (module + 3))
    found = response.apply(flat(8.0, shape), 3).astype(np.float64)
    columns, rows = places(response, shape)
    assert rows == []
    assert len(columns) == 10 * (4 if edge == 2.0 else 3)
    sets = [found[:, columns[i :: 4 if edge == 2.0 else 3]] for i in range(4 if edge == 2.0 else 3)]
    for one in sets:
        assert abs(one.mean() - 8.0) < 5 * np.sqrt(12.0 / one.size)
    if edge == 2.0:
        # Both together are what the wide pixel counted, a Poisson number; each is half, but for rounding.
        assert (sets[0] + sets[1]).var() == pytest.approx(16.0, rel=5 * np.sqrt(2 / sets[0].size))
        assert set(np.unique(sets[0] - sets[1])) == {-1.0, 0.0, 1.0}
        assert sets[0].var() == pytest.approx(4.0 + 0.125, rel=5 * np.sqrt(2 / sets[0].size))
    else:
        # 2/3 of 12 photons, and a third of each of two pixels; all three are what both pixels counted.
        assert sum(sets).var() == pytest.approx(24.0, rel=5 * np.sqrt(2 / sets[0].size))
        for one, share in ((sets[0], 12 * 4 / 9), (sets[1], 24 / 9), (sets[2], 12 * 4 / 9)):
            assert share - 0.3 < one.var() < share + 0.7


def test_virtual_pixels_shift_no_other_stream_and_are_overloaded_together():
    photons = np.random.default_rng(2).gamma(0.5, 40.0, (40, 70)).astype(np.float32)
    response = chips(quantum_efficiency=0.8)
    there = response.virtual_mask(photons.shape)
    split, plain = response.apply(photons, 8, 3), response.replace(virtual_pixels=None).apply(photons, 8, 3)
    assert np.array_equal(split[~there], plain[~there])
    masked = record(response.replace(virtual_pixels="mask"), photons, 8, 3)
    assert np.array_equal(masked.counts, np.where(there, 0, plain))
    limited = record(chips(count_limit=20), flat(15.0, (40, 70)), 1)
    assert limited.overloads == (limited.counts == 20).sum() > 0
    column = places(response, photons.shape)[0][0]
    assert np.array_equal(limited.counts[:, column] == 20, limited.counts[:, column + 1] == 20)


def test_an_integrators_wide_pixels_are_divided_above_their_offset():
    response = chips(kind="integrator", adu_per_photon=100.0, pedestal_adu=5000.0, readout_noise_adu=30.0, adc_bits=24)
    found, there = values(response, 3.0, shape=(400, 350)), response.virtual_mask((400, 350))
    assert abs(found[there].mean() - 5300.0) < 5 * np.sqrt(3e4 / there.sum())
    assert abs(found[~there].var() / (3e4 + 900) - 1) < 0.05
    assert found[there].var() < 0.6 * found[~there].var()


@pytest.mark.parametrize(
    "fields",
    [
        {"virtual_pixels": "split"},
        {"virtual_pixels": "some", "chip_pixels": (6, 5), "module_pixels": (30, 12)},
        {"chip_pixels": (6, 5)},
        {"chip_pixels": (6,), "module_pixels": (30, 12)},
        {"chip_pixels": (6.5, 5), "module_pixels": (30, 12)},
        {"chip_pixels": (6, 5), "module_pixels": (30, 12), "chip_edge": 1.7},
        {"chip_pixels": (6, 5), "module_pixels": (30, 12), "module_gap": (-1, 0)},
    ],
)
def test_chips_that_cannot_be_are_refused(fields):
    with pytest.raises(InputError, match=r"Response\."):
        Response(**fields)
    with pytest.raises(InputError, match="first_row"):
        chips().apply(flat(1.0), 1, first_row=3)
