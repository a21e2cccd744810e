"""One frame through the stages of a response on the GPU where it lies: the twin of ``recording``."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bragg_numba.render import devices
from bragg_numba.render.cuda import as_caller_array, as_numba_array
from bragg_numba.response import cuda_spread
from bragg_numba.response.cuda_counts import device_photons, launch, statistics_of
from bragg_numba.response.maps import quantile_table
from bragg_numba.response.virtual import lines_of, places_of

#: Why a point spread is made on the host.
ON_HOST = "the point spread was made on the host, since CuPy is not installed"


class Settings(NamedTuple):
    """The checked arguments of ``recording.record``."""

    seed: int
    frame: int
    first_row: int
    scale: float
    exposure_s: float
    pixel_um: float | None
    top: int


class SeenOnDevice(NamedTuple):
    """What ``Recorded`` is made of."""

    counts: Any  #: (slow, fast) uint32 in the memory of the GPU, as its caller holds arrays there
    photons: float
    most: float
    overloads: int
    spread_away: float
    notes: tuple[str, ...]


def record_on_device(response, photons, settings: Settings, mask: np.ndarray | None) -> SeenOnDevice:
    """Let a detector see expected photons that lie on a GPU; what it says stays there.

    Its values are those of ``recording.record`` but where a deviate lies within rounding of a step.

    Raises
    ------
    InputError
        If the array is none of photons, or a pixel is NaN, infinite or negative.
    """
    from numba import cuda

    index = devices.index_of(photons)
    with cuda.gpus[index]:
        found = _Frame(response, device_photons(photons, index), settings, index).record(mask)
        cuda.synchronize()
    return found._replace(counts=as_caller_array(found.counts))


class _Frame:
    """A frame on its way through the stages."""

    def __init__(self, response, photons, settings: Settings, index: int) -> None:
        from numba import cuda

        self.response, self.photons, self.settings, self.index = response, photons, settings, index
        self.shape = int(photons.shape[0]), int(photons.shape[1])
        self.first = np.uint64(settings.first_row * self.shape[1])
        self.shot = np.uint64(settings.seed), np.uint32(settings.frame)
        self.detector = np.uint64(response.detector_seed)
        self.table = cuda.to_device(quantile_table())
        self.size = self.shape[0] * self.shape[1]
        self.notes: list[str] = []

    def record(self, mask: np.ndarray | None) -> SeenOnDevice:
        """Go through all stages."""
        from numba import cuda

        from bragg_numba.kernels.random import cuda as random

        response, settings = self.response, self.settings
        factor = settings.scale * response.quantum_efficiency
        factor *= response.flicker_factor(settings.seed, settings.frame)
        found = statistics_of(self.photons, factor)
        expected, away = self.expected(factor)
        counts = cuda.device_array(self.shape, dtype=np.uint32)
        launch(random.poisson_counts, self.size, expected, *self.shot, self.first, counts)
        if response.kind == "counter":
            self.count(counts)
        else:
            away += self.integrate(counts)
        if response.virtual_pixels == "split":
            self.divide(counts)
        overloads = self.mark(counts, mask)
        return SeenOnDevice(counts, found.photons, found.most, overloads, away, tuple(self.notes))

    def expected(self, factor: float):
        """Return the photons to be drawn, float32, ``factor`` times those given; and how many were spread away."""
        from numba import cuda

        response, away = self.response, 0.0
        calibrated = response.calibration > 0.0 and (response.kind == "counter" or response.calibrate_photons)
        spread = response.point_spread is not None and not response.spread_counts and self.size > 0
        split = response.virtual_pixels == "split"
        if factor == 1.0 and not (calibrated or spread or split):
            return self.photons, away
        expected = cuda.device_array(self.shape, dtype=np.float32)
        if spread:
            self.scale(self.photons, factor, 0.0, expected)
            expected, away = self.spread(expected)
        if calibrated or not spread:
            source = expected if spread else self.photons
            self.scale(source, 1.0 if spread else factor, response.calibration * calibrated, expected)
        if split:
            self.gather(expected)
        return expected, away

    def scale(self, photons, factor: float, sigma: float, out) -> None:
        """Multiply photons by a factor and by the pixels' gains."""
        from bragg_numba.kernels.response import cuda as kernels

        gains = np.float32(sigma), self.detector, self.first
        launch(kernels.scale_photons, self.size, photons, np.float32(factor), *gains, self.table, out)

    def spread(self, image):
        """Return an image after the point spread, and how much of it left the frame."""
        from numba import cuda

        response = self.response
        before = statistics_of(image).photons
        if cuda_spread.is_possible():
            out = cuda_spread.spread_on_device(response, image, self.settings.pixel_um, self.index)
        else:
            self.notes.append(ON_HOST)
            spread = response.spreader(self.settings.pixel_um)(image.copy_to_host())
            if not response.spread_counts:
                spread = np.maximum(spread, np.float32(0.0))  # a transform's rounding may leave less than nothing
            out = cuda.to_device(np.ascontiguousarray(spread))
        return out, before - statistics_of(out).photons

    def count(self, counts) -> None:
        """Turn photons into what a counter says, in place."""
        from bragg_numba.kernels.response import cuda as kernels

        response, settings = self.response, self.settings
        launch(
            kernels.lose_counts,
            self.size,
            counts,
            response.dead_time_ns * 1e-9 / settings.exposure_s,
            response.paralyzable,
            response.rate_correction,
            response.raw_limit(settings.exposure_s),
            float(settings.top),
            *self.shot,
            self.first,
        )

    def integrate(self, counts) -> float:
        """Turn photons into digits, in place; return how many were spread away."""
        from numba import cuda

        from bragg_numba.kernels.response import cuda as kernels

        response, away = self.response, 0.0
        charge = cuda.device_array((0, 0), dtype=np.float32)
        if response.spread_counts and response.point_spread is not None and self.size:
            charge = cuda.device_array(self.shape, dtype=np.float32)
            launch(kernels.to_charge, self.size, counts, charge)
            charge, away = self.spread(charge)
        sigma = 0.0 if response.calibrate_photons else response.calibration
        launch(
            kernels.record_charge,
            self.size,
            charge,
            np.float32(sigma),
            self.detector,
            np.float32(response.excess_variance),
            cuda.to_device(response.stage_table()),
            np.float32(response.adc_top),
            np.float32(response.offset),
            np.uint32(self.settings.top),
            *self.shot,
            self.first,
            self.table,
            counts,
        )
        return away

    def gather(self, expected) -> None:
        """Give wide pixels the expected photons of their places."""
        from bragg_numba.kernels.response import cuda as kernels

        for axis, lines in self._lines():
            tasks = lines.places.shape[0] * self.shape[1 - axis]
            if tasks:
                launch(kernels.gather_wide, tasks, expected, lines.places, np.float32(lines.weight), axis)

    def divide(self, counts) -> None:
        """Divide the values of wide pixels among their places."""
        from bragg_numba.kernels.response import cuda as kernels

        offset, top = round(self.response.offset), self.settings.top
        for axis, lines in self._lines():
            tasks = lines.places.shape[0] * self.shape[1 - axis]
            if tasks:
                launch(kernels.divide_wide, tasks, counts, lines.places, lines.share, offset, axis, top, *self.shot)

    def _lines(self):
        from numba import cuda

        for axis, lines in enumerate(lines_of(self.response, self.shape)):
            yield axis, lines._replace(places=cuda.to_device(lines.places))

    def mark(self, counts, mask: np.ndarray | None) -> int:
        """Give dead, hot, masked and missing pixels their values; return how many others are overloaded."""
        from numba import cuda

        from bragg_numba.kernels.response import cuda as kernels

        response = self.response
        there = np.zeros((0, 0), dtype=bool) if mask is None else host_mask(mask)
        slow, fast = np.zeros(0, dtype=bool), np.zeros(0, dtype=bool)
        if response.virtual_pixels == "mask":
            slow, fast = places_of(response, self.shape)
        overloads = cuda.to_device(np.zeros(1, dtype=np.uint32))
        launch(
            kernels.mark_pixels,
            self.size,
            *(cuda.to_device(one) for one in (there, slow, fast)),
            response.dead_pixels,
            response.hot_pixels,
            self.detector,
            self.first,
            np.uint32(self.settings.top),
            counts,
            overloads,
        )
        return int(overloads.copy_to_host()[0])


def host_mask(mask) -> np.ndarray:
    """Return a mask (slow, fast), of the host or on a device, as bool on the host."""
    if not isinstance(mask, np.ndarray) and devices.is_device_array(mask):
        mask = as_numba_array("mask", mask, devices.index_of(mask)).copy_to_host()
    return np.ascontiguousarray(mask, dtype=bool)
