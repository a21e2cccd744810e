"""Numbers about an image for its plots: percentiles, a histogram and a radial profile."""

from __future__ import annotations

import math

import numpy as np

from bragg_numba.view.sight import Sight

#: Percentiles that are kept of the pixels above 0, for the contrast.
PERCENTILES = (0, 1, 5, 10, 25, 50, 75, 90, 95, 98, 99, 99.5, 99.8, 99.9, 99.95, 99.99, 99.995, 99.999, 100)

#: Of a histogram of photons: decades below the brightest pixel that it shows, and how many bins it has about.
_DECADES, _BINS = 8, 60

#: Whole numbers up to this have bins of their own.
_ONE_BY_ONE = 40

#: Bins of a radial profile, at most.
_RADIAL = 400

#: Pixels whose angles are computed at once.
_AT_ONCE = 1_000_000


def measure(image: np.ndarray, mask: np.ndarray) -> dict:
    """Return percentiles, histogram, extremes and sum of the pixels of an image that are not masked."""
    good = image[mask == 0]
    if good.dtype.kind == "f":
        good = good[np.isfinite(good)]
    lit = good[good > 0]
    levels = np.percentile(lit, PERCENTILES).tolist() if lit.size else [0.0] * len(PERCENTILES)
    return {
        "percentiles": list(PERCENTILES),
        "levels": levels,
        "lit": int(lit.size),
        "pixels": int(good.size),
        "max": float(good.max()) if good.size else 0.0,
        "min": float(good.min()) if good.size else 0.0,
        "sum": float(good.sum(dtype=np.float64)),
        "histogram": histogram(good),
    }


def histogram(values: np.ndarray) -> dict:
    """Sort pixels into bins that suit them.

    Whole numbers have a bin each up to 40 and above it bins that grow, always of whole numbers; their counts are those
    of a single number, on average, so that wide bins do not stand out. Other numbers have bins of equal width in the
    logarithm, at least 10 a decade, over no more than the 8 decades below the brightest.

    Returns
    -------
    dict
        ``edges`` (n + 1), ``pixels`` (n), ``per`` what a bin's pixels are counted by: "value" or "bin", and how many
        pixels are ``dark``: below the first edge.
    """
    top = float(values.max()) if values.size else 0.0
    # Counts that were kept as real numbers are counts.
    whole = values.dtype.kind in "iub" or (0.0 < top < 2**31 and bool((values == np.rint(values)).all()))
    if whole:
        edges = whole_edges(int(top))
        inside = values[values >= 0]
        # Counted one by one first: a histogram of whole numbers by real edges is where combs come from.
        place = np.searchsorted(edges, inside, side="right") - 1
        pixels = np.bincount(place.astype(np.intp), minlength=len(edges) - 1)[: len(edges) - 1]
        mean = pixels / np.diff(edges)
        return _of(edges, mean, "value", int(values.size - inside.size))
    if top <= 0.0:
        return _of(np.array([1.0, 10.0]), np.zeros(1), "bin", int(values.size))
    powers = np.log10(values[values > 0], dtype=np.float64)
    high = float(powers.max())
    low = max(float(powers.min()), high - _DECADES)
    a_decade = min(100, max(10, round(_BINS / max(high - low, 0.1))))
    first, last = math.floor(low * a_decade), math.floor(high * a_decade) + 1
    bins = np.arange(first, last + 1) / a_decade
    pixels, _ = np.histogram(powers, bins=bins)
    return _of(10.0**bins, pixels, "bin", int(values.size - pixels.sum()))


def whole_edges(top: int) -> np.ndarray:
    """Edges of bins for whole numbers from 0 to ``top``: each 1 wide up to 40, then a tenth of where they begin."""
    edges = [float(value) for value in range(min(top, _ONE_BY_ONE) + 2)]
    while edges[-1] <= top:
        edges.append(edges[-1] + max(1, int(edges[-1]) // 10))
    return np.array(edges)


def _of(edges: np.ndarray, pixels: np.ndarray, per: str, dark: int) -> dict:
    return {"edges": edges.tolist(), "pixels": pixels.tolist(), "per": per, "dark": dark}


class Radial:
    """Sorts the pixels of a detector into rings of equal width in 1/d; kept for images with the same geometry."""

    def __init__(self, sight: Sight, mask: np.ndarray) -> None:
        g = sight.geometry
        self._bin = np.full(mask.shape, -1, dtype=np.int16)
        parts, finest = [], 0.0
        for panel in g.panels:
            rows_at_once = max(1, _AT_ONCE // panel.n_fast)
            for row in range(0, panel.n_slow, rows_at_once):
                stop = min(row + rows_at_once, panel.n_slow)
                slow, fast = np.arange(row, stop)[:, None] + 0.5, np.arange(panel.n_fast)[None, :] + 0.5
                angle = sight.two_theta(panel, *np.broadcast_arrays(fast, slow))
                inverse_d = (2.0 / sight.wavelength_A * np.sin(angle / 2.0)).astype(np.float32)
                place = (
                    slice(panel.first_row + row, panel.first_row + stop),
                    slice(panel.first_column, panel.first_column + panel.n_fast),
                )
                finest = max(finest, float(inverse_d.max()))
                parts.append((place, inverse_d))
        n = max(1, min(_RADIAL, math.isqrt(mask.size) // 2))
        self.width = max(finest, 1e-30) / n
        for place, inverse_d in parts:
            self._bin[place] = np.minimum(inverse_d / np.float32(self.width), n - 1)
        self._bin[mask != 0] = -1

    def profile(self, image: np.ndarray) -> dict:
        """Return ``inverse_d`` (1/angstrom, middle of a ring), ``mean`` and ``pixels`` of the rings that have any."""
        place = self._bin.ravel().astype(np.int64) + 1
        values = np.nan_to_num(image.ravel().astype(np.float64))
        pixels = np.bincount(place)[1:]
        sums = np.bincount(place, weights=values)[1:]
        at = np.flatnonzero(pixels)
        return {
            "inverse_d": ((at + 0.5) * self.width).tolist(),
            "mean": (sums[at] / pixels[at]).tolist(),
            "pixels": pixels[at].tolist(),
        }
