"""How far apart two images of the same detector are, over the frame and over its tiles.

A single number over a whole frame can hide a bad corner behind bright peaks, and a region that looks
perfect can hide a bad frame. So every measure is taken once over the frame and once for each tile of
a grid, and a verdict asks both (:meth:`Comparison.passes`).

**The correlation of the frame** is Pearson's, in float64. It does not see a factor: an image times 1e9
correlates perfectly.

**The correlation of a tile** is the smaller of Pearson's and the *amplitude agreement*

    1 - sum (sqrt(ours) - sqrt(reference))^2 / sum (|ours| + |reference|),

which is 1 for equal tiles, falls with any factor, and gives a photon far from the peaks the weight of one
in a peak. A tile without structure (both images vary by less than 0.1 % of their mean) has a Pearson
correlation made of rounding noise; there the amplitude agreement stands alone, so a flat background
raises no false alarm and a background of the wrong height still counts.

Pearson's correlation of constant images is 1 where the constants are equal and 0 otherwise. A pixel that is
not a number or infinite, in either image, makes the correlation of its tile and of the frame 0.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bragg_numba.errors import InputError
from bragg_numba.tolerances import OF_BRIGHTEST, RELATIVE

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Comparison", "PeakMatch", "Tile", "compare_images"]

#: No tile is narrower than this many pixels: fewer hold no statistics.
SMALLEST_TILE = 16
#: A tile that varies by less than this part of its mean is flat.
FLAT = 1e-3
#: Differences below this part of the brightest pixel are nothing at all: float32 keeps 38 decades.
NOTHING = 1e-20
#: A peak stands this many standard deviations above the mean of its image ...
PEAK_SIGMAS = 5.0
#: ... and its partner in the other image lies within this many pixels.
PEAK_REACH = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One tile of the frame; ranges are [first, last + 1) in pixels of the frame."""

    slow: tuple[int, int]
    fast: tuple[int, int]
    correlation: float  #: the judged one: see the module's text
    pearson: float  #: Pearson's alone; meaningless where the tile is flat
    sum_ratio: float  #: ours / reference
    max_relative_difference: float  #: |ours - reference| / max(|reference|, absolute tolerance)
    not_finite: int = 0

    @property
    def name(self) -> str:
        """Where the tile is, in words: ``slow 0..511, fast 3584..4095``."""
        return f"slow {self.slow[0]}..{self.slow[1] - 1}, fast {self.fast[0]}..{self.fast[1] - 1}"

    def as_dict(self) -> dict:
        """Return a form that JSON can hold; what is not finite becomes None."""
        return {
            "slow": list(self.slow),
            "fast": list(self.fast),
            "correlation": _json_number(self.correlation),
            "pearson": _json_number(self.pearson),
            "sum_ratio": _json_number(self.sum_ratio),
            "max_relative_difference": _json_number(self.max_relative_difference),
            "not_finite": self.not_finite,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakMatch:
    """Peaks of the two images, paired one to one, nearest first; shifts in pixels, ours - reference."""

    matched: int = 0
    unmatched_reference: int = 0
    unmatched_ours: int = 0
    median_shift: float | None = None
    max_shift: float | None = None
    median_shift_slow_fast: tuple[float, float] | None = None

    def as_dict(self) -> dict:
        """Return a form that JSON can hold."""
        shift = self.median_shift_slow_fast
        return {
            "matched": self.matched,
            "unmatched_reference": self.unmatched_reference,
            "unmatched_ours": self.unmatched_ours,
            "median_shift": self.median_shift,
            "max_shift": self.max_shift,
            "median_shift_slow_fast": None if shift is None else list(shift),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What :func:`compare_images` found. Positions are (slow, fast) pixels of the frame."""

    shape: tuple[int, int]
    origin: tuple[int, int]
    correlation: float
    mse: float
    rmse: float
    max_difference: float
    max_difference_at: tuple[int, int] | None
    sum_reference: float
    sum_ours: float
    sum_ratio: float
    max_reference: float
    max_ours: float
    relative_tolerance: float
    absolute_tolerance: float
    fraction_within: float
    not_finite_reference: int
    not_finite_ours: int
    not_finite_at: tuple[int, int] | None
    peaks: PeakMatch
    tile_grid: tuple[int, int]
    tiles: tuple[Tile, ...] = field(repr=False)

    @property
    def worst_tile(self) -> Tile:
        """The tile that agrees least; among equals the one with the largest relative difference."""
        return min(self.tiles, key=lambda tile: (tile.correlation, -tile.max_relative_difference))

    @property
    def finite(self) -> bool:
        """Whether every pixel of both images is a finite number."""
        return self.not_finite_reference == 0 and self.not_finite_ours == 0

    def passes(self, threshold: float) -> bool:
        """Whether the frame and its worst tile both correlate to at least ``threshold``."""
        return self.finite and self.correlation >= threshold and self.worst_tile.correlation >= threshold

    def verdict(self, threshold: float) -> str:
        """Say in one sentence whether the images agree, and what spoils them if they do not."""
        if self.not_finite_at is not None:
            slow, fast = self.not_finite_at
            return (
                f"Not comparable: {self.not_finite_reference} pixels of the reference and "
                f"{self.not_finite_ours} of ours are not finite, the first at slow {slow}, fast {fast}."
            )
        if self.passes(threshold):
            return (
                f"Good: the images correlate to {self.correlation:.9g}, the worst tile to "
                f"{self.worst_tile.correlation:.9g}; {threshold:g} was asked for."
            )
        worst = self.worst_tile
        tile = f"the worst tile ({worst.name}) to {worst.correlation:.6g}"
        if self.correlation >= threshold:
            return (
                f"Bad, though the frame correlates to {self.correlation:.9g}: {tile}, "
                f"with sums in the ratio {worst.sum_ratio:.6g}; {threshold:g} was asked for."
            )
        return (
            f"Bad: the images correlate to {self.correlation:.6g} and {tile}; sums are in the ratio "
            f"{self.sum_ratio:.6g}; {threshold:g} was asked for."
        )

    def as_dict(self) -> dict:
        """Return a form that JSON can hold; what is not finite becomes None."""
        return {
            "shape": list(self.shape),
            "origin": list(self.origin),
            "correlation": self.correlation,
            "mse": _json_number(self.mse),
            "rmse": _json_number(self.rmse),
            "max_difference": _json_number(self.max_difference),
            "max_difference_at": _json_place(self.max_difference_at),
            "sum_reference": _json_number(self.sum_reference),
            "sum_ours": _json_number(self.sum_ours),
            "sum_ratio": _json_number(self.sum_ratio),
            "max_reference": _json_number(self.max_reference),
            "max_ours": _json_number(self.max_ours),
            "relative_tolerance": self.relative_tolerance,
            "absolute_tolerance": _json_number(self.absolute_tolerance),
            "fraction_within": self.fraction_within,
            "not_finite_reference": self.not_finite_reference,
            "not_finite_ours": self.not_finite_ours,
            "not_finite_at": _json_place(self.not_finite_at),
            "peaks": self.peaks.as_dict(),
            "tile_grid": list(self.tile_grid),
            "worst_tile": self.worst_tile.as_dict(),
            "tiles": [tile.as_dict() for tile in self.tiles],
        }


def compare_images(
    reference: np.ndarray,
    ours: np.ndarray,
    *,
    tiles: int = 8,
    relative: float = RELATIVE,
    absolute: float = OF_BRIGHTEST,
    origin: tuple[int, int] = (0, 0),
) -> Comparison:
    """Compare two images of one shape, whole and tile by tile.

    Parameters
    ----------
    reference, ours
        (n_slow, n_fast) images, any real type. They are read tile by tile, so that no float64 copy of a
        whole frame is made.
    tiles
        Tiles along each side of the grid; fewer where they would be narrower than 16 pixels.
    relative, absolute
        A pixel is within tolerance where |ours - reference| <= relative |reference| + absolute
        max(reference).
    origin
        (slow, fast) of the first pixel in its frame, where the images are regions of one; every place that
        is reported is a place in the frame.

    Returns
    -------
    Comparison
        Sums and squares skip the pixels that are not finite; the correlations do not forgive them.
    """
    reference, ours = _checked_pair(reference, ours)
    max_reference, max_ours = _largest(reference), _largest(ours)
    largest = max(abs(max_reference), abs(max_ours))
    floor = absolute * max(max_reference, 0.0)
    n_slow, n_fast = reference.shape
    grid = (max(1, min(tiles, n_slow // SMALLEST_TILE)), max(1, min(tiles, n_fast // SMALLEST_TILE)))
    parts, found = [], []
    for rows in _cuts(n_slow, grid[0]):
        for columns in _cuts(n_fast, grid[1]):
            parts.append(_tile_sums(reference, ours, rows, columns, relative, floor))
            found.append(_as_tile(parts[-1], rows, columns, origin, NOTHING * largest))
    whole = functools.reduce(_joined, parts)
    mse = whole.squares / whole.count if whole.count else math.nan
    pixels = reference.size
    return Comparison(
        shape=(n_slow, n_fast),
        origin=(origin[0], origin[1]),
        correlation=_pearson(whole),
        mse=mse,
        rmse=math.sqrt(mse),
        max_difference=whole.max_difference,
        max_difference_at=_moved(whole.max_difference_at, origin),
        sum_reference=whole.sum_reference,
        sum_ours=whole.sum_ours,
        sum_ratio=_ratio(whole.sum_ours, whole.sum_reference),
        max_reference=max_reference,
        max_ours=max_ours,
        relative_tolerance=relative,
        absolute_tolerance=floor,
        fraction_within=whole.within / pixels,
        not_finite_reference=whole.bad_reference,
        not_finite_ours=whole.bad_ours,
        not_finite_at=_moved(whole.bad_at, origin),
        peaks=_match_peaks(
            _find_peaks(reference, whole.mean_reference, whole.squares_reference, whole.count),
            _find_peaks(ours, whole.mean_ours, whole.squares_ours, whole.count),
        ),
        tile_grid=grid,
        tiles=tuple(found),
    )


def _checked_pair(reference, ours):
    import numpy as np

    reference, ours = np.asarray(reference), np.asarray(ours)
    for name, image in (("the reference image", reference), ("our image", ours)):
        if image.ndim != 2 or image.size == 0:
            raise InputError(name, "must have two dimensions and at least one pixel", image.shape)
    if reference.shape != ours.shape:
        rule = f"must have the shape of the reference, {reference.shape}"
        raise InputError("our image", rule, ours.shape, "resample one")
    return reference, ours


def _largest(image) -> float:
    """Return the largest finite value, found a block of rows at a time."""
    import numpy as np

    step = max(1, (1 << 20) // image.shape[1])
    best = -math.inf
    for first in range(0, image.shape[0], step):
        block = image[first : first + step]
        finite = block[np.isfinite(block)]  # of whole numbers, too, which know no infinity to begin with
        if finite.size:
            best = max(best, float(finite.max()))
    return best if math.isfinite(best) else 0.0


def _cuts(length: int, parts: int) -> list[tuple[int, int]]:
    edges = [length * part // parts for part in range(parts + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))


@dataclass(slots=True, kw_only=True)
class _Sums:
    """Sums over the finite pixels of a tile; ``squares_*`` and ``product`` are about the means."""

    count: int = 0
    mean_reference: float = 0.0
    mean_ours: float = 0.0
    squares_reference: float = 0.0
    squares_ours: float = 0.0
    product: float = 0.0
    squares: float = 0.0
    amplitude_squares: float = 0.0
    amplitude_total: float = 0.0
    sum_reference: float = 0.0
    sum_ours: float = 0.0
    range_reference: tuple[float, float] = (math.inf, -math.inf)
    range_ours: tuple[float, float] = (math.inf, -math.inf)
    within: int = 0
    max_difference: float = 0.0
    max_difference_at: tuple[int, int] | None = None
    max_relative: float = 0.0
    bad_reference: int
    bad_ours: int
    bad_at: tuple[int, int] | None


def _tile_sums(reference, ours, rows, columns, relative: float, floor: float) -> _Sums:
    import numpy as np

    a = reference[slice(*rows), slice(*columns)].astype(np.float64)
    b = ours[slice(*rows), slice(*columns)].astype(np.float64)
    good_a, good_b = np.isfinite(a), np.isfinite(b)
    good = good_a & good_b
    bad_at = None
    if not good.all():
        bad_at = _frame_place(int(np.argmin(good)), a.shape, rows, columns)
    place = np.flatnonzero(good)
    a, b = a.ravel()[place], b.ravel()[place]
    count = a.size
    bad = (int(np.sum(~good_a)), int(np.sum(~good_b)))
    if count == 0:
        return _Sums(bad_reference=bad[0], bad_ours=bad[1], bad_at=bad_at)
    difference = np.abs(b - a)
    magnitude = np.abs(a)
    at = int(np.argmax(difference))
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = difference / np.maximum(magnitude, floor)
    mean_a, mean_b = float(a.mean()), float(b.mean())
    amplitudes = np.copysign(np.sqrt(np.abs(b)), b) - np.copysign(np.sqrt(magnitude), a)
    return _Sums(
        count=count,
        mean_reference=mean_a,
        mean_ours=mean_b,
        squares_reference=float(np.sum((a - mean_a) ** 2)),
        squares_ours=float(np.sum((b - mean_b) ** 2)),
        product=float(np.sum((a - mean_a) * (b - mean_b))),
        squares=float(np.sum(difference**2)),
        amplitude_squares=float(np.sum(amplitudes**2)),
        amplitude_total=float(np.sum(magnitude) + np.sum(np.abs(b))),
        sum_reference=float(np.sum(a)),
        sum_ours=float(np.sum(b)),
        range_reference=(float(a.min()), float(a.max())),
        range_ours=(float(b.min()), float(b.max())),
        within=int(np.count_nonzero(difference <= relative * magnitude + floor)),
        max_difference=float(difference[at]),
        max_difference_at=_frame_place(int(place[at]), good.shape, rows, columns),
        # 0 / 0 (nothing against nothing, below any tolerance) is no difference.
        max_relative=float(np.max(np.where(difference == 0, 0.0, parts))),
        bad_reference=bad[0],
        bad_ours=bad[1],
        bad_at=bad_at,
    )


def _frame_place(flat: int, shape, rows, columns) -> tuple[int, int]:
    return rows[0] + flat // shape[1], columns[0] + flat % shape[1]


def _joined(one: _Sums, two: _Sums) -> _Sums:
    """Join two tiles' sums; moments about a mean by the pairwise rule of Chan, Golub and LeVeque."""
    count = one.count + two.count
    step_a, step_b = two.mean_reference - one.mean_reference, two.mean_ours - one.mean_ours
    share = two.count / count if count else 0.0
    weight = one.count * share
    larger = two if two.max_difference > one.max_difference or one.max_difference_at is None else one
    return _Sums(
        count=count,
        mean_reference=one.mean_reference + step_a * share,
        mean_ours=one.mean_ours + step_b * share,
        squares_reference=one.squares_reference + two.squares_reference + step_a * step_a * weight,
        squares_ours=one.squares_ours + two.squares_ours + step_b * step_b * weight,
        product=one.product + two.product + step_a * step_b * weight,
        squares=one.squares + two.squares,
        amplitude_squares=one.amplitude_squares + two.amplitude_squares,
        amplitude_total=one.amplitude_total + two.amplitude_total,
        sum_reference=one.sum_reference + two.sum_reference,
        sum_ours=one.sum_ours + two.sum_ours,
        range_reference=_hull(one.range_reference, two.range_reference),
        range_ours=_hull(one.range_ours, two.range_ours),
        within=one.within + two.within,
        max_difference=larger.max_difference,
        max_difference_at=larger.max_difference_at,
        max_relative=max(one.max_relative, two.max_relative),
        bad_reference=one.bad_reference + two.bad_reference,
        bad_ours=one.bad_ours + two.bad_ours,
        bad_at=one.bad_at or two.bad_at,
    )


def _hull(one, two) -> tuple[float, float]:
    return min(one[0], two[0]), max(one[1], two[1])


def _pearson(sums: _Sums) -> float:
    if sums.count == 0 or sums.bad_reference or sums.bad_ours:
        return 0.0
    flat_a = sums.range_reference[0] == sums.range_reference[1]
    flat_b = sums.range_ours[0] == sums.range_ours[1]
    if flat_a or flat_b:
        return 1.0 if flat_a and flat_b and sums.range_reference == sums.range_ours else 0.0
    if sums.squares == 0.0:
        return 1.0
    scale = math.sqrt(sums.squares_reference) * math.sqrt(sums.squares_ours)
    if not math.isfinite(scale) or scale == 0.0:
        return 0.0
    return max(-1.0, min(1.0, sums.product / scale))


def _is_flat(sums: _Sums) -> bool:
    """Whether neither image has structure in this tile."""
    return all(
        math.sqrt(squares / sums.count) <= FLAT * abs(mean)
        for squares, mean in (
            (sums.squares_reference, sums.mean_reference),
            (sums.squares_ours, sums.mean_ours),
        )
    )


def _as_tile(sums: _Sums, rows, columns, origin, nothing: float) -> Tile:
    pearson = _pearson(sums)
    if sums.bad_reference or sums.bad_ours:
        correlation = 0.0
    elif sums.max_difference <= nothing:
        correlation = 1.0
    else:
        agreement = 1.0 - sums.amplitude_squares / sums.amplitude_total
        correlation = agreement if _is_flat(sums) else min(pearson, agreement)
    return Tile(
        slow=(rows[0] + origin[0], rows[1] + origin[0]),
        fast=(columns[0] + origin[1], columns[1] + origin[1]),
        correlation=correlation,
        pearson=pearson,
        sum_ratio=_ratio(sums.sum_ours, sums.sum_reference),
        max_relative_difference=sums.max_relative,
        not_finite=sums.bad_reference + sums.bad_ours,
    )


def _ratio(ours: float, reference: float) -> float:
    if reference == 0.0:
        return 1.0 if ours == 0.0 else math.copysign(math.inf, ours)
    return ours / reference


def _moved(place, origin):
    return None if place is None else (place[0] + origin[0], place[1] + origin[1])


def _json_number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _json_place(place) -> list[int] | None:
    return None if place is None else [int(place[0]), int(place[1])]


def _find_peaks(image, mean: float, squares: float, count: int) -> np.ndarray:
    """Return (n, 2) centroids (slow, fast) of the local maxima of 5 x 5 pixels above the threshold.

    Only the few pixels above the threshold are looked at, so a large frame costs no filtered copy.
    """
    import numpy as np

    if count == 0 or squares == 0.0:
        return np.empty((0, 2))
    threshold = mean + PEAK_SIGMAS * math.sqrt(squares / count)
    slow, fast = np.nonzero((image > threshold) & np.isfinite(image))
    value = image[slow, fast].astype(np.float64)
    highest = np.ones(value.size, dtype=bool)
    for d_slow, d_fast in _window():
        other = _neighbour(image, slow, fast, d_slow, d_fast)
        # Of equal neighbours the first in reading order is the peak, so a plateau counts once.
        highest &= value > other if (d_slow, d_fast) < (0, 0) else value >= other
    return _centroids(image, slow[highest], fast[highest])


def _window() -> list[tuple[int, int]]:
    return [(i, j) for i in range(-2, 3) for j in range(-2, 3) if (i, j) != (0, 0)]


def _neighbour(image, slow, fast, d_slow: int, d_fast: int) -> np.ndarray:
    """Return float64 values of the neighbours; minus infinity outside the frame and for bad pixels."""
    import numpy as np

    s, f = slow + d_slow, fast + d_fast
    inside = (s >= 0) & (s < image.shape[0]) & (f >= 0) & (f < image.shape[1])
    values = np.full(slow.size, -np.inf)
    values[inside] = image[s[inside], f[inside]]
    values[~np.isfinite(values)] = -np.inf
    return values


def _centroids(image, slow, fast) -> np.ndarray:
    """Return the intensity-weighted centres of 5 x 5 pixels, each above the window's lowest pixel."""
    import numpy as np

    if slow.size == 0:
        return np.empty((0, 2))
    window = [(0, 0), *_window()]
    values = np.stack([_neighbour(image, slow, fast, i, j) for i, j in window])
    lowest = np.min(np.where(np.isfinite(values), values, np.inf), axis=0)
    weights = np.where(np.isfinite(values), values - lowest, 0.0)
    total = np.sum(weights, axis=0)
    total[total == 0.0] = 1.0
    steps = np.array(window, dtype=np.float64)
    return np.stack([slow + steps[:, 0] @ weights / total, fast + steps[:, 1] @ weights / total], axis=1)


def _match_peaks(reference, ours) -> PeakMatch:
    """Pair peaks one to one, the nearest pairs first."""
    import numpy as np

    used_reference, used_ours, moved = set(), set(), []
    for _, i, j in sorted(_near_pairs(reference, ours)):
        if i not in used_reference and j not in used_ours:
            used_reference.add(i)
            used_ours.add(j)
            moved.append(ours[j] - reference[i])
    found = PeakMatch(
        matched=len(moved), unmatched_reference=len(reference) - len(moved), unmatched_ours=len(ours) - len(moved)
    )
    if not moved:
        return found
    shifts = np.array(moved)
    lengths = np.hypot(shifts[:, 0], shifts[:, 1])
    return replace(
        found,
        median_shift=float(np.median(lengths)),
        max_shift=float(np.max(lengths)),
        median_shift_slow_fast=(float(np.median(shifts[:, 0])), float(np.median(shifts[:, 1]))),
    )


def _near_pairs(reference, ours) -> list[tuple[float, int, int]]:
    """List (distance, index of reference, index of ours) of all pairs within reach, by a grid of cells."""
    cells: dict[tuple[int, int], list[int]] = {}
    for j, (slow, fast) in enumerate(ours.tolist()):
        cells.setdefault((int(slow // PEAK_REACH), int(fast // PEAK_REACH)), []).append(j)
    places, pairs = ours.tolist(), []
    for i, (slow, fast) in enumerate(reference.tolist()):
        row, column = int(slow // PEAK_REACH), int(fast // PEAK_REACH)
        for near in ((row + a, column + b) for a in (-1, 0, 1) for b in (-1, 0, 1)):
            for j in cells.get(near, ()):
                distance = math.hypot(places[j][0] - slow, places[j][1] - fast)
                if distance <= PEAK_REACH:
                    pairs.append((distance, i, j))
    return pairs
