"""The stages of a detector's response, each off by default, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.experiment.noun import Noun
from bragg_numba.response import spread, virtual

KINDS = ("counter", "integrator")
SPREADS = ("gauss", "fibre", "kernel")

#: Gain stages, at most.
STAGES = 3

#: The largest value that a pixel of either type may have: what DIALS reads of uint32, and the two above are flags.
LARGEST = {"uint16": 65533, "uint32": 2**31 - 3}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Stages(Noun):
    """The fields of a ``Response``."""

    name: str = "custom"
    kind: str = "counter"
    pixel_um: float = 75.0  #: used where the photons come without a detector
    quantum_efficiency: float = 1.0  #: part of the photons that is absorbed
    flicker: float = 0.0  #: sigma of the factor that all pixels of a frame share
    point_spread: str | None = None  #: "gauss", "fibre" or "kernel"
    point_spread_um: float = 0.0  #: full width at half maximum of gauss and fibre
    point_spread_kernel: np.ndarray | None = None  #: (odd, odd), sum 1 or less
    spread_counts: bool = False  #: spread the photons that were drawn, as a phosphor does, not those expected
    calibration: float = 0.0  #: sigma of the pixels' gains (of a counter: efficiencies) about 1
    calibrate_photons: bool = False  #: they multiply expected photons in an integrator, too
    detector_seed: int = 1  #: of all that belongs to the detector, not to a frame
    dead_pixels: float = 0.0  #: part of the pixels that is always 0
    hot_pixels: float = 0.0  #: part of the pixels that is always saturated
    dead_time_ns: float = 0.0
    paralyzable: bool = False
    rate_correction: bool = False  #: make up for the mean loss of counts
    rate_limit_per_s: float | None = None  #: counts a second (as counted) from which on a pixel is overloaded
    count_limit: int | None = None  #: the largest number that the counter holds
    excess_variance: float = 0.0  #: of the charge of one photon, in photons squared
    adu_per_photon: tuple = (1.0,)  #: of each gain stage
    switch_photons: tuple = ()  #: charge from which on the next stage is used
    readout_noise_adu: tuple = (0.0,)  #: of each stage
    pedestal_adu: tuple = (0.0,)  #: of each stage
    adc_bits: int = 16
    offset_adu: float | None = None  #: linearised values are put on the first stage's scale, above this; None: as read

    virtual_pixels: str | None = None  #: places of wide pixels between chips: "split" or "mask"; None: there are none
    chip_pixels: tuple | None = None  #: of a chip (fast, slow)
    module_pixels: tuple | None = (
        None  #: places of a module (fast, slow), of which the frame's first begins at its corner
    )
    module_gap: tuple = (0, 0)  #: places between modules (fast, slow)
    chip_edge: float = 2.0  #: places of a wide pixel, 1.5 or 2

    def __post_init__(self) -> None:
        put, pre = self._set, "Response."
        put("name", check.text(pre + "name", self.name))
        put("kind", check.choice(pre + "kind", self.kind, KINDS))
        put("pixel_um", check.number(pre + "pixel_um", self.pixel_um, above=0.0, high=1e7))
        for field in ("quantum_efficiency", "dead_pixels", "hot_pixels"):
            put(field, check.number(pre + field, getattr(self, field), low=0.0, high=1.0))
        for field in ("flicker", "calibration"):
            put(field, check.number(pre + field, getattr(self, field), low=0.0, high=10.0))
        put("point_spread", check.optional(check.choice, pre + "point_spread", self.point_spread, allowed=SPREADS))
        put("point_spread_um", check.number(pre + "point_spread_um", self.point_spread_um, low=0.0, high=1e6))
        for field in ("spread_counts", "calibrate_photons", "paralyzable", "rate_correction"):
            put(field, check.flag(pre + field, getattr(self, field)))
        put("detector_seed", check.whole_number(pre + "detector_seed", self.detector_seed, 0, 2**64 - 1))
        put("dead_time_ns", check.number(pre + "dead_time_ns", self.dead_time_ns, low=0.0, high=1e12))
        limit = self.rate_limit_per_s
        put("rate_limit_per_s", check.optional(check.number, pre + "rate_limit_per_s", limit, low=1e-9, high=1e15))
        put("count_limit", check.optional(check.count, pre + "count_limit", self.count_limit, low=1))
        put("excess_variance", check.number(pre + "excess_variance", self.excess_variance, low=0.0, high=1e6))
        put("adc_bits", check.count(pre + "adc_bits", self.adc_bits, low=1, high=24))
        put("offset_adu", check.optional(check.number, pre + "offset_adu", self.offset_adu, low=0.0, high=1e6))
        self._check_spread()
        self._check_stages()
        self._check_chips()

    def _check_spread(self) -> None:
        name = "Response.point_spread_kernel"
        if (self.point_spread == "kernel") != (self.point_spread_kernel is not None):
            rule = "must be given where point_spread is kernel, and there alone"
            raise InputError(name, rule, self.point_spread)
        if self.point_spread_kernel is not None:
            self._set("point_spread_kernel", spread.check_kernel(name, self.point_spread_kernel))
        if self.point_spread in ("gauss", "fibre") and self.point_spread_um == 0.0:
            raise InputError("Response.point_spread_um", f"must be greater than 0 for {self.point_spread}")
        if self.point_spread is None and self.point_spread_um > 0.0:
            raise InputError("Response.point_spread", "must say gauss or fibre beside point_spread_um", None)
        if self.spread_counts and self.kind == "counter":
            hint = "a counter's photons are spread before they are counted"
            raise InputError("Response.spread_counts", "is for integrators", True, hint)

    def _check_chips(self) -> None:
        put, pre = self._set, "Response."
        way = check.optional(check.choice, pre + "virtual_pixels", self.virtual_pixels, allowed=virtual.WAYS)
        put("virtual_pixels", way)
        for field, low in (("chip_pixels", 4), ("module_pixels", 4), ("module_gap", 0)):
            given = getattr(self, field)
            if given is None and field != "module_gap":
                continue
            found = _numbers(pre + field, given, low=low, high=1e6)
            if len(found) != 2 or any(number != round(number) for number in found):
                raise InputError(pre + field, "must be two whole numbers, (fast, slow)", given)
            put(field, (int(found[0]), int(found[1])))
        put("chip_edge", check.number(pre + "chip_edge", self.chip_edge, low=1.5, high=2.0))
        if self.chip_edge not in (1.5, 2.0):
            raise InputError(pre + "chip_edge", "must be 1.5 or 2", self.chip_edge)
        if (self.chip_pixels is None) != (self.module_pixels is None):
            hint = "a detector of one module: its whole size"
            raise InputError(pre + "module_pixels", "must be given with chip_pixels", self.module_pixels, hint)
        if self.virtual_pixels is not None and self.chip_pixels is None:
            raise InputError(pre + "chip_pixels", "must be given where there are virtual pixels", None)
        if self.virtual_pixels is not None and self.spread_counts:
            raise InputError(pre + "virtual_pixels", "must be left out of a phosphor's response", self.virtual_pixels)

    def _check_stages(self) -> None:
        pre, gains = "Response.", _numbers("Response.adu_per_photon", self.adu_per_photon, above=0.0, high=1e9)
        n = len(gains)
        if not 1 <= n <= STAGES:
            raise InputError(pre + "adu_per_photon", f"must have 1 to {STAGES} stages", n)
        self._set("adu_per_photon", gains)
        switches = _numbers(pre + "switch_photons", self.switch_photons, above=0.0, high=1e12)
        if len(switches) != n - 1 or any(b <= a for a, b in zip(switches, switches[1:], strict=False)):
            raise InputError(pre + "switch_photons", f"must be {n - 1} rising numbers, one for each change", switches)
        self._set("switch_photons", switches)
        for field in ("readout_noise_adu", "pedestal_adu"):
            found = _numbers(pre + field, getattr(self, field), low=0.0, high=1e7)
            if len(found) not in (1, n):
                raise InputError(pre + field, f"must be one number, or one for each of {n} stages", found)
            self._set(field, found if len(found) == n else found * n)
        if n > 1 and self.offset_adu is None:
            raise InputError(pre + "offset_adu", "must be given where there are several gain stages", None)
        if max(self.pedestal_adu) >= self.adc_top:
            raise InputError(pre + "pedestal_adu", f"must lie below the top of the converter, {self.adc_top}")

    @property
    def adc_top(self) -> int:
        """The largest number of the converter, which is an overload."""
        return 2**self.adc_bits - 1

    @property
    def adu_of_photon(self) -> float:
        """Mean value of one absorbed photon in the frames that are written."""
        return 1.0 if self.kind == "counter" else float(self.adu_per_photon[0])

    @property
    def offset(self) -> float:
        """Mean value of a pixel without photons in the frames that are written."""
        if self.kind == "counter":
            return 0.0
        return float(self.pedestal_adu[0] if self.offset_adu is None else self.offset_adu)

    def saturation(self, exposure_s: float = 1.0) -> int:
        """The least value of a pixel in the frames that is an overload; a count there may have been more."""
        if self.kind == "integrator":
            top = (self.adc_top - self.pedestal_adu[-1]) * self.adu_per_photon[0] / self.adu_per_photon[-1]
            return int(max(1, min(LARGEST["uint32"], np.floor(top + self.offset))))
        limit = self.raw_limit(exposure_s)
        if self.rate_correction and np.isfinite(limit):
            from bragg_numba.kernels.response.losses import rate_corrected

            limit = rate_corrected(float(limit), self.dead_time_ns * 1e-9 / exposure_s, self.paralyzable)
        return int(max(1, min(LARGEST["uint32"], limit)))

    def raw_limit(self, exposure_s: float) -> float:
        """The count, before any correction, from which on a pixel is overloaded; infinite where there is none."""
        limits = [np.inf]
        if self.count_limit is not None:
            limits.append(float(self.count_limit))
        if self.rate_limit_per_s is not None:
            limits.append(max(1.0, np.ceil(self.rate_limit_per_s * exposure_s)))
        if self.rate_correction and self.dead_time_ns > 0.0:
            # Where the correction has no answer any more.
            most = exposure_s / (self.dead_time_ns * 1e-9) * (np.exp(-1.0) if self.paralyzable else 1.0)
            limits.append(max(1.0, np.floor(0.999 * most)))
        return float(min(limits))

    def pixel_type(self, exposure_s: float = 1.0) -> str:
        """The smaller of uint16 and uint32 that holds every value, but for the last two of 16 bits."""
        return "uint16" if self.saturation(exposure_s) < 2**16 else "uint32"

    def flicker_factor(self, seed: int, frame: int) -> float:
        """The factor of all pixels of a frame, not below 0."""
        if self.flicker == 0.0:
            return 1.0
        from bragg_numba.kernels.random.effects import FLICKER, fill_normals
        from bragg_numba.response.maps import quantile_table

        deviate = np.empty(1, dtype=np.float32)
        fill_normals(np.uint64(seed), np.uint32(frame), FLICKER, np.uint64(0), quantile_table(), deviate)
        return max(0.0, 1.0 + self.flicker * float(deviate[0]))

    def stage_table(self) -> np.ndarray:
        """The gain stages as the kernels take them, (5, 3) float32; those that are not there are never reached."""
        n = len(self.adu_per_photon)
        stages = np.zeros((5, STAGES))
        stages[0] = np.inf
        stages[0, 1:n] = self.switch_photons
        stages[1, :n], stages[2, :n] = self.adu_per_photon, self.readout_noise_adu
        stages[3, :n] = self.pedestal_adu
        stages[4, :n] = np.array(self.adu_per_photon[0]) / self.adu_per_photon
        return stages.astype(np.float32)

    def bad_pixels(self, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return which pixels of a frame (slow, fast) are dead and which hot, two arrays of bool."""
        from bragg_numba.response.maps import bad_pixels

        return bad_pixels(self, (int(shape[0]), int(shape[1])))

    def virtual_mask(self, shape: tuple[int, int]) -> np.ndarray:
        """Return which pixels of a frame (slow, fast) are places of wide pixels; none without ``virtual_pixels``."""
        if self.virtual_pixels is None:
            return np.zeros((int(shape[0]), int(shape[1])), dtype=bool)
        return virtual.virtual_mask(self, (int(shape[0]), int(shape[1])))

    def spread(self, photons, *, pixel_um: float | None = None) -> tuple[np.ndarray, float]:
        """Return photons (slow, fast) after the point spread, float32, and how many of them left the frame."""
        from bragg_numba.response.photons import check_photons

        image = check_photons(photons)
        found = self.spreader(pixel_um)
        if found is None or not image.size:
            return image.copy(), 0.0
        out = found(image)
        return out, float(image.sum(dtype=np.float64) - out.sum(dtype=np.float64))

    def point_spread_of(self, pixel_um: float | None = None) -> tuple[str | None, float, np.ndarray | None, bool]:
        """Return kind, width in pixels of this size, kernel, and whether float32 would not do."""
        pitch = self.pixel_um if pixel_um is None else check.number("pixel_um", pixel_um, above=0.0, high=1e7)
        # Where expected photons are spread, what rounding leaves of a dark pixel would be drawn from.
        return self.point_spread, self.point_spread_um / pitch, self.point_spread_kernel, not self.spread_counts

    def spreader(self, pixel_um: float | None = None):
        """Return what spreads an image of pixels of this size, or None."""
        kind, width, kernel, exact = self.point_spread_of(pixel_um)
        return spread.spreader(kind, width, kernel, exact=exact)


def _numbers(name: str, values, **limits) -> tuple[float, ...]:
    if isinstance(values, str) or (not np.iterable(values) and isinstance(values, bool)):
        raise InputError(name, "must be numbers", values)
    parts = tuple(values) if np.iterable(values) else (values,)
    return tuple(check.number(f"{name}[{i}]", part, **limits) for i, part in enumerate(parts))
