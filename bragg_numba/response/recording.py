"""One frame through the stages of a response, in the order of docs/response.md."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.response.counter import checked_shot, draw_counts, sum_of, sum_photons
from bragg_numba.response.maps import bad_pixels, pixel_gains, quantile_table
from bragg_numba.response.photons import as_image, is_on_device
from bragg_numba.response.stages import LARGEST, Stages
from bragg_numba.response.virtual import divide, gather


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a detector said of a frame, and what is known of it."""

    counts: np.ndarray  #: (slow, fast) uint32; where the photons lie on a GPU, an array there
    photons: float  #: expected ones, in all pixels together, before everything
    most: float  #: expected in one pixel
    overloads: int  #: pixels that are saturated, without the hot ones
    spread_away: float  #: photons that the point spread moved out of the frame, expected or drawn
    notes: tuple[str, ...] = ()  #: what was done elsewhere than asked for, a sentence each


def record(
    response: Stages,
    photons,
    seed: int,
    frame: int = 0,
    *,
    exposure_s: float = 1.0,
    pixel_um: float | None = None,
    mask: np.ndarray | None = None,
    first_row: int = 0,
    scale: float = 1.0,
    top: int | None = None,
    out: np.ndarray | None = None,
) -> Recorded:
    """Let a detector see expected photons; what it says follows from seed, frame and pixel alone.

    Parameters
    ----------
    response
        The detector.
    photons
        (slow, fast) float32, expected photons; finite and not negative. What a detector says of a device array
        stays on its GPU.
    seed
        Of the noise, 0 to 2^64 - 1.
    frame
        Number of the frame in its series, 0 to 2^32 - 1.
    exposure_s
        Seconds in which the photons come, evenly.
    pixel_um
        Side of a pixel; default: the response's.
    mask
        (slow, fast) bool; False where there is no pixel, which becomes 0.
    first_row
        The frame's row that ``photons[0]`` is; only 0 where there is a point spread.
    scale
        Photons are multiplied by it first.
    top
        The largest value; default: the largest that uint32 may hold here.
    out
        (slow, fast) uint32, C-contiguous; filled and part of what is returned. Default: a new array, as it must be
        on a GPU.

    Raises
    ------
    InputError
        If a pixel is NaN, infinite or negative, or an argument lies outside its range.
    """
    on_device = is_on_device(photons)
    image = photons if on_device else as_image(photons)
    exposure_s = check.number("exposure_s", exposure_s, above=0.0, high=1e12)
    scale = check.number("scale", scale, low=0.0, high=1e30)
    seed, frame = checked_shot(seed, frame)
    first_row = check.whole_number("first_row", first_row, 0, 2**32 - 1)
    top = LARGEST["uint32"] if top is None else check.count("top", top, low=6, high=LARGEST["uint32"])
    top = min(top, response.saturation(exposure_s))
    spread = response.spreader(pixel_um)
    if spread is not None and first_row:
        raise InputError("first_row", "must be 0 where there is a point spread", first_row, "which needs whole frames")
    if response.virtual_pixels is not None and first_row:
        raise InputError("first_row", "must be 0 with virtual pixels", first_row, "which need whole frames")
    if mask is not None and np.shape(mask) != tuple(image.shape):
        raise InputError("mask", f"must have the shape of photons, {tuple(image.shape)}", np.shape(mask))
    if on_device:
        settings = (seed, frame, first_row, scale, exposure_s, pixel_um, top)
        return _record_on_device(response, image, settings, mask, out)
    first = first_row * image.shape[1]
    counts = np.empty(image.shape, dtype=np.uint32) if out is None else out
    if counts.shape != image.shape or counts.dtype != np.uint32 or not counts.flags.c_contiguous:
        raise InputError("out", f"must be a contiguous uint32 array of shape {image.shape}", counts.shape)
    expected, away, was = _expected(response, image, scale, seed, frame, first, spread)
    split = response.virtual_pixels == "split" and image.size > 0
    if split:
        found = was or sum_photons(image)
        was = found[0], found[1]
        if expected is image:
            expected = image * np.float32(scale * response.quantum_efficiency)
        expected = gather(response, expected)
    rest = scale * response.quantum_efficiency if expected is image else 1.0
    # No photons are lost to an end of the counter here: it has its own.
    drawn = draw_counts(expected, seed, frame, counts, top=2**32 - 1, scale=rest, first_pixel=first)
    total, most = was if was is not None else (drawn.photons, drawn.most)
    if response.kind == "counter":
        overloads = _count(response, counts, exposure_s, seed, frame, first, top)
    else:
        overloads, lost = _integrate(response, counts, seed, frame, first, top, spread)
        away += lost
    if split:
        overloads += divide(response, counts, seed, frame, top)
    elif response.virtual_pixels == "mask":
        there = response.virtual_mask(image.shape)
        overloads -= int(np.count_nonzero((counts >= top) & there))
        counts[there] = 0
    if mask is not None:
        absent = ~np.asarray(mask, dtype=bool)
        overloads -= int(np.count_nonzero((counts >= top) & absent))
        counts[absent] = 0
    if response.dead_pixels > 0.0 or response.hot_pixels > 0.0:
        dead, hot = bad_pixels(response, image.shape, first)
        overloads -= int(np.count_nonzero((counts >= top) & (dead | hot)))
        counts[dead] = 0
        counts[hot if mask is None else hot & ~absent] = top
    return Recorded(counts, total, most, max(overloads, 0), away)


def _record_on_device(response, photons, settings, mask, out) -> Recorded:
    """``record`` for a device array; the settings are checked, but for ``out``, which must be None."""
    from bragg_numba.response.cuda_recording import Settings, record_on_device

    if out is not None:
        raise InputError("out", "must be left out for photons on a device")
    seen = record_on_device(response, photons, Settings(*settings), mask)
    return Recorded(seen.counts, seen.photons, seen.most, seen.overloads, seen.spread_away, seen.notes)


def _expected(response, image, scale, seed, frame, first, spread):
    """Return the photons to be drawn, how many the point spread moved away, and sum and maximum before all that.

    The image itself is returned where all that there is to do is one factor.
    """
    gains = None
    if response.calibration > 0.0 and (response.kind == "counter" or response.calibrate_photons):
        gains = pixel_gains(response.calibration, response.detector_seed, image.shape, first)
    spread = None if response.spread_counts else spread
    if spread is None and gains is None and response.flicker == 0.0:
        return image, 0.0, None
    found = sum_photons(image)
    factor = scale * response.quantum_efficiency * response.flicker_factor(seed, frame)
    expected = image * np.float32(factor)
    away = 0.0
    if spread is not None and image.size:
        before = expected.sum(dtype=np.float64)
        expected = np.maximum(spread(expected), np.float32(0.0))  # a transform's rounding may leave less than nothing
        away = float(before - expected.sum(dtype=np.float64))
    if gains is not None:
        expected = expected * gains
    return np.ascontiguousarray(expected), away, (found.photons, found.most)


def _count(response, counts, exposure_s, seed, frame, first, top) -> int:
    """Turn photons into what a counter says, in place; return how many pixels are overloaded."""
    from bragg_numba.kernels.random.philox import chunks_of
    from bragg_numba.kernels.response.losses import lose_counts

    overloads = np.zeros(chunks_of(counts.size, first), dtype=np.int64)
    lose_counts(
        counts.reshape(-1),
        response.dead_time_ns * 1e-9 / exposure_s,
        response.paralyzable,
        response.rate_correction,
        response.raw_limit(exposure_s),
        float(top),
        np.uint64(seed),
        np.uint32(frame),
        np.uint64(first),
        overloads,
    )
    return int(overloads.sum())


def _integrate(response, counts, seed, frame, first, top, spread) -> tuple[int, float]:
    """Turn photons into digits, in place; return how many pixels are overloaded, and photons that were spread away."""
    from bragg_numba.kernels.random.philox import chunks_of
    from bragg_numba.kernels.response.charge import record_charge, to_charge

    charge, away = np.empty(0, dtype=np.float32), 0.0
    if response.spread_counts and spread is not None and counts.size:
        charge, sums = np.empty(counts.shape, dtype=np.float32), np.empty(len(counts))
        to_charge(counts, charge, sums)
        before = float(sums.sum())
        if before > 0.0:
            charge = np.ascontiguousarray(spread(charge))
            away = before - sum_of(charge)
    gains = np.empty(0, dtype=np.float32)
    if response.calibration > 0.0 and not response.calibrate_photons:
        gains = pixel_gains(response.calibration, response.detector_seed, counts.shape, first).reshape(-1)
    overloads = np.zeros(chunks_of(counts.size, first), dtype=np.int64)
    record_charge(
        charge.reshape(-1),
        gains,
        np.float32(response.excess_variance),
        response.stage_table(),
        np.float32(response.adc_top),
        np.float32(response.offset),
        np.uint32(top),
        np.uint64(seed),
        np.uint32(frame),
        np.uint64(first),
        quantile_table(),
        counts.reshape(-1),
        overloads,
    )
    return int(overloads.sum()), away
