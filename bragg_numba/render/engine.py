"""Which engine renders a plan: pixel by pixel, or reflection by reflection; and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.kernels.parameters import GAUSS, SHAPE_NAMES, TOPHAT
from bragg_numba.plan.arithmetic.cpu import choose
from bragg_numba.plan.arithmetic.spots import cannot_average, cannot_serve, require_servable
from bragg_numba.plan.plan import Plan
from bragg_numba.render import costs
from bragg_numba.render.cpu import CpuRenderer, TileRenderer

if TYPE_CHECKING:
    from collections.abc import Callable

    from bragg_numba.render.cuda import GpuRenderer
    from bragg_numba.render.devices import Device
    from bragg_numba.render.spots import SpotsRenderer

#: Squared radius up to which a spot counts, however little of it is wanted: there a gauss spot has 7e-5 of its peak.
_SURELY_SHOWN = {GAUSS: 3.0, TOPHAT: 0.39}

#: Frames that pixels render sooner than this, seconds of one thread, are not looked at for spots.
LEAST_SECONDS = 0.02


def choose_engine(
    plan: Plan, precision: str = "auto", threads: int | None = None, reason: str = "asked for"
) -> TileRenderer:
    """The CPU's renderer of ``Sampling.engine``; its ``engine_reason`` says why, as a clause.

    ``auto`` depends on nothing but plan and precision: everybody's machine chooses the same.

    Parameters
    ----------
    reason
        Why the CPU renders.

    Raises
    ------
    InputError
        If spots were asked for, and cannot be.
    """
    wanted = plan.experiment.sampling.engine
    if plan.experiment.sampling.pixel_average:
        require_averages(plan)
        spots = _spots(plan, precision, threads, reason)
        if wanted == "auto":
            spots.engine_reason = "spots are integrated over pixels"
        return spots
    if wanted == "pixels":
        return CpuRenderer(plan, precision, threads, reason)
    if wanted == "spots":
        require_servable(plan)
        return _spots(plan, precision, threads, reason)
    return _by_cost(
        _keeps_to_pixels(plan, precision),
        lambda: costs.predict_pixels(plan, choose(plan, precision)),
        lambda: CpuRenderer(plan, precision, threads, reason),
        lambda: _spots(plan, precision, threads, reason),
    )


def choose_gpu_engine(
    plan: Plan, precision: str, device: Device, threads: int | None = None, reason: str = "asked for"
) -> GpuRenderer:
    """A GPU's renderer of ``Sampling.engine``; ``auto`` chooses as on the CPU, by what an H100 was seen to take.

    Parameters
    ----------
    threads
        Threads of the CPU, which finds the reflections of spots; None: all.
    reason
        Why this GPU renders.

    Raises
    ------
    InputError
        If spots were asked for and cannot be, or the device memory does not hold the plan.
    """
    if plan.experiment.sampling.pixel_average:
        raise InputError("Sampling.pixel_average", "is not rendered by GPUs", hint="backend cpu renders it")
    if plan.dispersion is not None:
        rule = "are not rendered by GPUs where they depend on the energy"
        raise InputError("structure factors", rule, hint="backend cpu renders them")
    if plan.weighs_domains:
        hint = "backend cpu renders them"
        raise InputError("Crystal.mosaic_weights", "that differ are not rendered by GPUs", hint=hint)
    from bragg_numba.render.cuda import CudaRenderer
    from bragg_numba.render.cuda_spots import CudaSpotsRenderer

    wanted = plan.experiment.sampling.engine
    if wanted == "pixels":
        return CudaRenderer(plan, precision, device, reason)
    if wanted == "spots":
        require_servable(plan)
        return CudaSpotsRenderer(plan, precision, device, threads, reason)
    return _by_cost(
        _keeps_to_pixels(plan, precision),
        lambda: costs.predict_gpu_pixels(plan),
        lambda: CudaRenderer(plan, precision, device, reason),
        lambda: CudaSpotsRenderer(plan, precision, device, threads, reason),
    )


def _spots(plan: Plan, precision: str, threads: int | None, reason: str) -> SpotsRenderer:
    from bragg_numba.render.spots import SpotsRenderer  # its kernels are not loaded for a frame of pixels

    return SpotsRenderer(plan, precision, threads, reason)


def _by_cost(why: str, of_pixels: Callable[[], float], pixels: Callable, spots: Callable):
    """The renderer that is predicted to be the quicker one, from ``pixels`` or ``spots``; it says why.

    Parameters
    ----------
    why
        Why spots are not looked at, a clause; empty if they are.
    of_pixels
        Predicts the seconds that pixels take.
    """
    seconds = 0.0 if why else of_pixels()
    if not why and seconds < LEAST_SECONDS:
        why = f"they are predicted to take {costs.shown(seconds)}"
    chosen = None
    if not why:
        by_spots = spots()
        if by_spots.lit.halved:
            why = "spots reach half-way to their neighbours"
        else:
            of_spots = by_spots.predict_seconds()
            chosen = by_spots if of_spots < seconds else pixels()
            own, other = sorted((of_spots, seconds))
            why = f"predicted to take {costs.shown(own)}, and the other engine {costs.shown(other)}"
            chosen.engine_seconds = {"pixels": seconds, "spots": of_spots}
    chosen = chosen or pixels()
    chosen.engine_reason = why
    return chosen


def require_averages(plan: Plan) -> None:
    """Raise InputError if spots of a plan cannot be integrated over pixels."""
    if why := cannot_average(plan):
        hint = "cutoff_photons, or -cutoff, says where they end" if why.startswith("fringes") else "leave it out"
        raise InputError("Sampling.pixel_average", f"cannot be: {why}", hint=hint)


def _keeps_to_pixels(plan: Plan, precision: str) -> str:
    """Why ``auto`` does not look at spots, a clause; empty if it does."""
    if why := cannot_serve(plan):
        return f"spots cannot serve: {why}"
    if plan.experiment.sampling.cutoff_photons > 0.0:
        return ""  # which may leave little of a spot
    if plan.lattice.shape not in (GAUSS, TOPHAT):
        return f"fringes of a {SHAPE_NAMES[plan.lattice.shape]} crystal never end, and there is no cutoff"
    if precision == "float64":
        return "float64 was asked for, and there is no cutoff: nothing is left out"
    if _is_crowded(plan):
        return "spots reach half-way to their neighbours"
    return ""


def _is_crowded(plan: Plan) -> bool:
    """Tell whether spots surely reach half-way to their neighbours, without a look at any."""
    squared = _SURELY_SHOWN[plan.lattice.shape]
    return bool(np.sqrt(squared * np.diag(np.linalg.inv(plan.metric))).max() > 0.5)
