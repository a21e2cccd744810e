"""Which engine renders a plan: pixel by pixel, or reflection by reflection; and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.kernels.parameters import GAUSS, SHAPE_NAMES, TOPHAT
from bragg_numba.plan.arithmetic.cpu import choose
from bragg_numba.plan.arithmetic.spots import cannot_average, cannot_serve
from bragg_numba.plan.plan import Plan
from bragg_numba.render import costs
from bragg_numba.render.cpu import CpuRenderer, TileRenderer

if TYPE_CHECKING:
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
    why = _keeps_to_pixels(plan, precision)
    seconds = 0.0 if why else costs.predict_pixels(plan, choose(plan, precision))
    if not why and seconds < LEAST_SECONDS:
        why = f"they are predicted to take {costs.shown(seconds)}"
    if not why:
        spots = _spots(plan, precision, threads, reason)
        if not spots.lit.halved:
            return _quicker(plan, precision, threads, reason, spots, seconds)
        why = "spots reach half-way to their neighbours"
    pixels = CpuRenderer(plan, precision, threads, reason)
    pixels.engine_reason = why
    return pixels


def choose_gpu_engine(
    plan: Plan, precision: str, device: Device, threads: int | None = None, reason: str = "asked for"
) -> GpuRenderer:
    """A GPU's renderer of ``Sampling.engine``: ``auto`` takes pixels, for want of anything to compare by.

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
    wanted = plan.experiment.sampling.engine
    if wanted == "spots":
        require_servable(plan)
        from bragg_numba.render.cuda_spots import CudaSpotsRenderer

        return CudaSpotsRenderer(plan, precision, device, threads, reason)
    from bragg_numba.render.cuda import CudaRenderer

    why = "asked for" if wanted == "pixels" else "neither engine has been timed on a GPU"
    return CudaRenderer(plan, precision, device, reason, why)


def _spots(plan: Plan, precision: str, threads: int | None, reason: str) -> SpotsRenderer:
    from bragg_numba.render.spots import SpotsRenderer  # its kernels are not loaded for a frame of pixels

    return SpotsRenderer(plan, precision, threads, reason)


def _quicker(plan: Plan, precision: str, threads, reason: str, spots: SpotsRenderer, of_pixels: float) -> TileRenderer:
    """The engine that is predicted to be the quicker one; ``of_pixels``: what pixels would take, seconds."""
    of_spots = spots.predict_seconds()
    chosen: TileRenderer = spots if of_spots < of_pixels else CpuRenderer(plan, precision, threads, reason)
    own, other = sorted((of_spots, of_pixels))
    chosen.engine_reason = f"predicted to take {costs.shown(own)}, and the other engine {costs.shown(other)}"
    chosen.engine_seconds = {"pixels": of_pixels, "spots": of_spots}
    return chosen


def require_servable(plan: Plan) -> None:
    """Raise InputError if the engine of spots cannot render a plan."""
    if why := cannot_serve(plan):
        raise InputError("Sampling.engine", f"cannot be spots: {why}", hint="auto takes pixels there")


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
