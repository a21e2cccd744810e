"""What rendering costs, predicted: by which ``auto`` chooses an engine, and threads share tiles out evenly.

Seconds of one thread. They need to be right to a factor of two where the engines differ by more, and the same on every
machine, so that the same experiment is rendered by the same engine everywhere: nothing here is measured at run time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bragg_numba.kernels.parameters import GAUSS, ROUND, SQUARE, TOPHAT
from bragg_numba.kernels.spots.rows import LIMIT, SCALE_H, SCALE_L, Lists
from bragg_numba.plan.arithmetic.cpu import CpuArithmetic
from bragg_numba.plan.plan import Plan

if TYPE_CHECKING:  # kernels that a frame of pixels does not need
    from bragg_numba.predict.lit import Lit

# The constants are CPU times of one thread, fitted to 54 frames of 512^2 to 2048^2 pixels on a processor with vectors
# of 512 bits, both engines in one run: every shape, 1 to 300 steps, oversampling, layers, many wavelengths and
# directions. They hold to a quarter in most of them, to a factor of two in nearly all.

#: Pixels: a step of a pixel in float32 by the shape; the same where only groups that a spot may touch are summed; in
#: float64; a source that weighs its pixels; a sub-pixel or layer; a pixel.
PIXEL_STEP = {SQUARE: 1.9e-9, ROUND: 2.3e-9, GAUSS: 1.4e-9, TOPHAT: 1.4e-9}
LIT_PIXEL_STEP = 2.1e-10
EXACT_PIXEL_STEP = 9.0e-9
WEIGHING, AIMING, STORING = 6.3e-10, 1.0e-9, 1.3e-10

#: Spots: a block; the same for a sub-pixel or layer, and for a direction of the beam; an orientation of a reflection on
#: a block; a step that comes near, and a pixel of it by the shape, in float32 and in float64; by how many pixels more
#: than a spot's size are looked at along an axis. Fitted anew to ten frames when blocks took the place of tiles.
TILE, TILE_AIMING, TILE_WEIGHING = 1.5e-5, 2.5e-5, 2.0e-5
ORIENTATION, NEAR_STEP = 1.0e-7, 1.0e-7
SPOT_PIXEL = {SQUARE: 3.0e-9, ROUND: 8.0e-9, GAUSS: 1.8e-9, TOPHAT: 1.8e-9}
EXACT_SPOT_PIXEL = {SQUARE: 1.2e-8, ROUND: 2.4e-8, GAUSS: 7.0e-9, TOPHAT: 4.0e-9}
AROUND_SPOT = {SQUARE: 11.0, ROUND: 11.0, GAUSS: 8.0, TOPHAT: 8.0}

#: The search for candidates, beside that: for each reflection and orientation, and in any case.
CANDIDATE, SEARCH = 3.0e-7, 3.0e-3

#: A GPU, as an H100 has it (docs/gpu.md): a step of a pixel by the shape; a pixel of a tile that a step of a spot comes
#: near. What it renders is the same whatever the card: the choice must not depend on that.
GPU_PIXEL_STEP = {SQUARE: 4.5e-12, ROUND: 5.0e-12, GAUSS: 3.5e-12, TOPHAT: 3.5e-12}
GPU_SPOT_PIXEL = {SQUARE: 3.0e-11, ROUND: 3.0e-11, GAUSS: 5.0e-12, TOPHAT: 5.0e-12}


def predict_pixels(plan: Plan, arithmetic: CpuArithmetic) -> float:
    """Seconds that the engine of pixels takes for a frame."""
    pixels = float((plan.roi[1] - plan.roi[0] + 1) * (plan.roi[3] - plan.roi[2] + 1))
    if plan.mask.size:
        pixels *= np.count_nonzero(plan.mask) / plan.mask.size
    if arithmetic.precision == "float64":
        step = EXACT_PIXEL_STEP
    elif arithmetic.seeks_lit:
        step = LIT_PIXEL_STEP
    else:
        step = PIXEL_STEP.get(plan.lattice.shape, max(PIXEL_STEP.values()))
    subs = plan.oversample**2 * plan.layers.n
    weighing = WEIGHING * len(plan.sources.wavelength) if plan.rules.weighted else 0.0
    return pixels * (STORING + subs * (AIMING + weighing) + plan.steps * plan.layers.n * step)


def predict_gpu_pixels(plan: Plan) -> float:
    """Seconds that a GPU takes for a frame, pixel by pixel in float32."""
    return plan.pixel_steps * GPU_PIXEL_STEP[plan.lattice.shape]


def predict_tiles(plan: Plan, lit: Lit, lists: Lists, *, single: bool) -> np.ndarray:
    """Seconds that the engine of spots takes for each tile of a work list, float64 (tiles,)."""
    counts = np.diff(lists.first)
    directions = len(lit.beams.weight)
    of_tile = TILE_AIMING + (TILE_WEIGHING * directions if plan.rules.weighted else 0.0)
    # What a reflection costs on each of its tiles: its steps are shared out among these.
    tiles_of_spot = np.maximum(np.bincount(lists.spot, minlength=len(lit.spots)), 1)
    of_spot = ORIENTATION * len(lit.forms.cells) * directions + _near_steps(plan, lit, single=single) / tiles_of_spot
    sums = np.append(0.0, np.cumsum(of_spot[lists.spot]))
    subs = plan.oversample**2 * plan.layers.n
    costs: np.ndarray = TILE + subs * (of_tile * np.ones(len(counts)) + sums[lists.first[1:]] - sums[lists.first[:-1]])
    return costs


def predict_search(plan: Plan, lit: Lit) -> float:
    """Seconds that the search for the reflections of a frame takes."""
    return SEARCH + CANDIDATE * len(lit.spots) * len(lit.forms.cells) * len(lit.beams.weight)


def _near_steps(plan: Plan, lit: Lit, *, single: bool) -> np.ndarray:
    """Seconds that the steps of each reflection take that come near to the sphere, for one sub-pixel and layer."""
    from bragg_numba.kernels.spots.candidates import STEPS

    panel = plan.panels[0]
    to_pixels = (plan.sources.wavelength.mean() * panel.close_distance) ** 2 / (panel.pitch_fast * panel.height)
    # Spots are rendered in runs and patches of pixels, which stick out.
    around = AROUND_SPOT[plan.lattice.shape]
    pixels = np.minimum((np.sqrt(_areas(plan, lit) * to_pixels) + around) ** 2, float(plan.shape[0] * plan.shape[1]))
    of_pixel = (SPOT_PIXEL if single else EXACT_SPOT_PIXEL)[plan.lattice.shape]
    seconds: np.ndarray = lit.extents[:, STEPS] * (NEAR_STEP + of_pixel * pixels)
    return seconds


def _areas(plan: Plan, lit: Lit) -> np.ndarray:
    """Mean area in which a near step of each reflection exceeds the cut, 1/m^2.

    A body of volume V that a plane meets somewhere between -R and R is cut in V / 2R on average.
    """
    to_star = np.linalg.inv(lit.forms.vectors[0].reshape(3, 3))
    scales = lit.spots[:, SCALE_H : SCALE_L + 1]
    body = abs(float(np.linalg.det(to_star)))
    if plan.lattice.shape in (GAUSS, TOPHAT):
        reach = np.linalg.norm(to_star, 2) / scales[:, 0]
    else:
        reach = np.linalg.norm(np.linalg.norm(to_star, axis=0) / scales, axis=1)
    if plan.lattice.shape == SQUARE:
        # Where u v w < M, u and the like being 3 N times a distance, or 1 if that is less.
        most = np.sqrt(lit.spots[:, LIMIT])
        logs = np.log(np.maximum(most, 1.0))
        cells = math.prod(plan.cell_counts)
        volume = np.minimum(body, 8.0 / 27.0 / cells * body * most * (1.0 + 2.0 * logs + 0.5 * logs * logs))
    else:
        volume = 4.0 / 3.0 * math.pi * body / np.prod(scales, axis=1)
    areas: np.ndarray = volume / (2.0 * reach)
    return areas


def cut_evenly(costs: np.ndarray, most: float, least: int) -> list[int]:
    """Where to cut a list of tiles so that parts cost at most ``most``, as far as each has ``least`` tiles."""
    cuts, done = [0], np.cumsum(costs)
    while cuts[-1] < len(costs):
        start = cuts[-1]
        before = done[start - 1] if start else 0.0
        stop = int(np.searchsorted(done, before + most, side="right"))
        cuts.append(min(max(stop, start + least), len(costs)))
    return cuts


def share_out(costs: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """Share tiles out so that each thread's cost about the same.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        An order of the tiles, int64 (n,), and int64 (threads + 1,): thread i has order[starts[i] : starts[i + 1]].
    """
    falling = np.argsort(-costs, kind="stable")
    # There and back again: 0 1 2 2 1 0 0 1 2 ...
    rounds, place = np.divmod(np.arange(len(costs)), threads)
    owner = np.where(rounds % 2 == 0, place, threads - 1 - place)
    by_owner = np.argsort(owner, kind="stable")
    starts = np.append(0, np.cumsum(np.bincount(owner, minlength=threads))).astype(np.int64)
    return falling[by_owner], starts


def reorder(lists: Lists, order: np.ndarray) -> Lists:
    """The spots of some tiles of a list, in another order."""
    counts = np.diff(lists.first)[order]
    first = np.append(0, np.cumsum(counts)).astype(np.int64)
    return Lists(first, np.ascontiguousarray(lists.spot[places_of(lists, order)]))


def places_of(lists: Lists, order: np.ndarray) -> np.ndarray:
    """Where in a list the spots of some tiles stand, one tile after the other, int64."""
    counts = np.diff(lists.first)[order]
    before = np.append(0, np.cumsum(counts))
    places: np.ndarray = np.arange(before[-1]) + np.repeat(lists.first[order] - before[:-1], counts)
    return places


def shown(seconds: float) -> str:
    """A time in two digits."""
    unit, factor = ("ms", 1e3) if seconds < 1.0 else ("s", 1.0)
    return f"{seconds * factor:.{max(0, 1 - math.floor(math.log10(max(seconds * factor, 1e-9))))}f} {unit}"
