"""The background of a frame that exists, as a table of F: its radial profile, without the spots."""

from __future__ import annotations

import dataclasses

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.experiment import Background, Experiment, StructureFactors
from bragg_numba.plan.amorphous import Amorphous, Layer, cut_table
from bragg_numba.plan.plan import make_plan
from bragg_numba.render.amorphous import render_layer
from bragg_numba.render.transmission import transmission_image

#: A bin of fewer pixels than this says nothing, as in nonBragg.
LEAST_PIXELS = 100

#: Deviations from the median, of a Gaussian's standard deviation, beyond which a pixel is a spot; and rounds.
REJECT_SIGMA, ROUNDS = 6.0, 10

#: Points of the table that tells a pixel's sin(theta)/lambda.
STOL_POINTS = 20001


def background_of_frame(
    image,
    experiment: Experiment,
    *,
    bins: int = 200,
    offset: float = 0.0,
    gain: float = 1.0,
    reject_sigma: float = REJECT_SIGMA,
    least_pixels: int = LEAST_PIXELS,
    **fields,
) -> Background:
    """Make a Background of a frame: rendered in the same experiment it looks like the frame between its spots.

    A pixel's photons are divided by what F = 1 would bring there, sorted by sin(theta)/lambda into bins, and averaged
    without those far from their bin's median.

    Parameters
    ----------
    image
        (slow, fast) numbers; NaN, and where the detector is masked, does not count.
    experiment
        Beam, detector and sampling that the frame was made with; its crystal and backgrounds do not matter.
    bins
        Bins of equal width from the least to the largest sin(theta)/lambda.
    offset, gain
        Photons are (image - offset) / gain.
    reject_sigma
        How far from the median, in standard deviations (1.4826 median absolute deviations), a pixel may be.
    least_pixels
        Bins of fewer pixels are left out.
    fields
        Of the Background: thickness_mm, density_g_per_cm3, name ... They say how much material there is; F follows.

    Raises
    ------
    InputError
        If the image has another shape than the detector, there is no fluence, or no bin has pixels enough.
    """
    bins = check.count("bins", bins, low=1, high=1_000_000)
    least_pixels = check.count("least_pixels", least_pixels, low=1)
    reject_sigma = check.number("reject_sigma", reject_sigma, above=0.0)
    offset, gain = check.number("offset", offset), check.number("gain", gain)
    if gain == 0.0:
        raise InputError("gain", "must not be 0", gain)
    try:
        photons = (np.asarray(image, dtype=np.float64) - offset) / gain
    except (TypeError, ValueError):
        raise InputError("image", "must be an array of numbers") from None
    if photons.shape != experiment.detector.shape:
        raise InputError("image", f"must have the detector's shape {experiment.detector.shape}", photons.shape)
    of_one, stol = _factors(experiment, fields)
    good = np.isfinite(photons) & (of_one > 0.0)
    if not good.any():
        raise InputError("image", "must have pixels that scattering reaches", hint="is there a fluence?")
    s, squares, unit = stol[good], photons[good] / of_one[good], of_one[good]
    low, high = float(s.min()), float(s.max())
    place = np.minimum(((s - low) * (bins / max(high - low, 1e-300))).astype(np.int64), bins - 1)
    order = np.argsort(place, kind="stable")
    cuts = np.searchsorted(place[order], np.arange(bins + 1))
    points = []
    for first, end in zip(cuts, cuts[1:], strict=False):
        members = order[first:end]
        kept = _without_spots(squares[members], unit[members], reject_sigma)
        if kept.sum() >= least_pixels:
            mean = float(np.average(squares[members][kept], weights=unit[members][kept]))
            points.append((float(s[members][kept].mean()), np.sign(mean) * abs(mean) ** 0.5))
    if not points:
        raise InputError("bins", f"must hold {least_pixels} pixels each", bins, "take fewer")
    table = np.array(points)
    return Background(stol_per_A=table[:, 0], F=table[:, 1], **{"origin": "radial profile of a frame", **fields})


def _factors(experiment: Experiment, fields) -> tuple[np.ndarray, np.ndarray]:
    """Photons of F = 1, and the mean sin(theta)/lambda, 1/angstrom, of every pixel: two float64 (slow, fast)."""
    sample = Background(stol_per_A=np.zeros(1), F=np.ones(1), **fields)
    nothing = StructureFactors(indices=np.zeros((1, 3), dtype=np.int32), amplitudes=np.zeros(1))
    whole = make_plan(experiment.replace(backgrounds=(sample,), structure_factors=nothing, diffuse=None))
    plan = whole.amorphous
    assert plan is not None
    ones = render_layer(plan, plan.layers[0]).astype(np.float64)
    # What F^2 = sin(theta)/lambda brings, over that: all sources and sub-pixels weigh as they do in the frame.
    most = float(2.0 * plan.rays[:, 9].max())
    grid = np.linspace(0.0, most, STOL_POINTS)
    ramp = dataclasses.replace(plan.layers[0], table=cut_table(grid, np.sqrt(grid * 1e-10)))
    stol = _over(plan, ramp, ones)
    if whole.transmission is not None:
        ones *= transmission_image(whole.transmission, backgrounds=True)
    return ones, stol


def _over(plan: Amorphous, layer: Layer, ones: np.ndarray) -> np.ndarray:
    image = render_layer(plan, layer).astype(np.float64)
    return np.divide(image, ones, out=np.zeros_like(image), where=ones > 0.0)


def _without_spots(squares: np.ndarray, unit: np.ndarray, sigma: float) -> np.ndarray:
    """Which pixels of a bin belong to its background: none far from the median of those that are left."""
    kept = np.ones(len(squares), dtype=bool)
    for _ in range(ROUNDS):
        if not kept.any():
            break
        middle = np.median(squares[kept])
        spread = 1.4826 * np.median(np.abs(squares[kept] - middle))
        if spread == 0.0:  # few photons, most pixels alike: what Poisson statistics let them differ by
            photon = 1.0 / np.median(unit[kept])
            spread = np.sqrt(max(middle / photon, 1.0)) * photon
        now = np.abs(squares - middle) <= sigma * spread
        if (now == kept).all():
            break
        kept = now
    return kept
