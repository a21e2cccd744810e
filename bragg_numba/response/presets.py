"""Responses of kinds of detectors, from published numbers (docs/response.md says which are assumed)."""

from __future__ import annotations

import difflib
import math

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError

#: Attenuation length of silicon in micrometres by photon energy in keV: the total of all processes.
_KEV = (4.0, 7.1, 8.0, 9.5, 12.4, 15.0, 20.0, 25.0, 30.0, 40.0)
_SILICON_UM = (9.6, 47.1, 66.4, 109.0, 238.0, 415.0, 962.0, 1816.0, 2989.0, 6126.0)


def silicon_efficiency(thickness_um: float, photon_keV: float) -> float:
    """Return the part of photons that a silicon sensor absorbs at normal incidence; 4 to 40 keV, its ends beyond."""
    length = math.exp(np.interp(math.log(photon_keV), np.log(_KEV), np.log(_SILICON_UM)))
    return -math.expm1(-thickness_um / length)


def _ideal(keV: float) -> dict:
    return {}


def _eiger2(keV: float) -> dict:
    return {
        "pixel_um": 75.0,
        "quantum_efficiency": silicon_efficiency(450.0, keV),
        "dead_time_ns": 100.0,
        "rate_correction": True,
        "rate_limit_per_s": 2.19e6,
        "chip_pixels": (256, 256),
        "module_pixels": (1028, 512),
        "module_gap": (12, 38),
    }


def _pilatus3(keV: float) -> dict:
    return {
        "pixel_um": 172.0,
        "quantum_efficiency": silicon_efficiency(320.0, keV),
        "dead_time_ns": 120.0,
        "rate_correction": True,
        "count_limit": 2**20 - 1,
        "rate_limit_per_s": 2e6,
        "chip_pixels": (60, 97),
        "module_pixels": (487, 195),
        "module_gap": (7, 17),
        "chip_edge": 1.5,
    }


def _jungfrau(keV: float) -> dict:
    return {
        "kind": "integrator",
        "pixel_um": 75.0,
        "quantum_efficiency": silicon_efficiency(320.0, keV),
        "calibration": 0.01,
        "adu_per_photon": (41.5 * keV, 1.39 * keV, 0.11 * keV),
        "switch_photons": (25.0 * 12.4 / keV, 800.0 * 12.4 / keV),
        "readout_noise_adu": (83.0 * 3.6e-3 * 41.5, 2.5, 2.5),
        "pedestal_adu": (2500.0, 1000.0, 1000.0),
        "adc_bits": 14,
        "offset_adu": 100.0,
        "chip_pixels": (256, 256),
        "module_pixels": (1030, 514),
        "module_gap": (8, 36),
    }


def _agipd(keV: float) -> dict:
    return {
        "kind": "integrator",
        "pixel_um": 200.0,
        "quantum_efficiency": silicon_efficiency(500.0, keV),
        "calibration": 0.02,
        "adu_per_photon": (20.0 * keV, 0.5 * keV, 0.1 * keV),
        "switch_photons": (40.0 * 12.0 / keV, 1700.0 * 12.0 / keV),
        "readout_noise_adu": (0.9 * 20.0, 2.5, 2.5),
        "pedestal_adu": (4000.0, 2000.0, 2000.0),
        "adc_bits": 14,
        "offset_adu": 150.0,
    }


def _epix10k(keV: float) -> dict:
    high, low = 162.0 / 9.5, 1.62 / 9.5
    return {
        "kind": "integrator",
        "pixel_um": 100.0,
        "quantum_efficiency": silicon_efficiency(500.0, keV),
        "calibration": 0.0475,
        "adu_per_photon": (high * keV, low * keV),
        "switch_photons": (80.0 * 9.5 / keV,),
        "readout_noise_adu": (0.325 * high, 13.0 * low),
        "pedestal_adu": (2500.0, 2500.0),
        "adc_bits": 14,
        "offset_adu": 50.0,
    }


def _rayonix(keV: float) -> dict:
    return {
        "kind": "integrator",
        "pixel_um": 73.24,
        "quantum_efficiency": 0.85,
        "point_spread": "fibre",
        "point_spread_um": 80.0,
        "spread_counts": True,
        "calibration": 0.03,
        "excess_variance": 0.41,
        "adu_per_photon": (7.3 / 4.0 * keV / 12.4,),
        "readout_noise_adu": (11.5 / 4.0,),
        "pedestal_adu": (40.0,),
        "adc_bits": 16,
    }


def _noisify(keV: float) -> dict:
    return {
        "kind": "integrator",
        "pixel_um": 100.0,
        "calibration": 0.03,
        "calibrate_photons": True,
        "pedestal_adu": (40.0,),
        "adc_bits": 16,
    }


_PRESETS = {
    "ideal": _ideal,
    "eiger2": _eiger2,
    "pilatus3": _pilatus3,
    "jungfrau": _jungfrau,
    "agipd": _agipd,
    "epix10k": _epix10k,
    "rayonix": _rayonix,
    "noisify": _noisify,
}

PRESETS = tuple(_PRESETS)


def check_preset(name: str, value) -> str:
    """Return the name of a preset; refuse another one with those that exist."""
    clean = value.lower() if isinstance(value, str) else value
    if clean not in PRESETS:
        near = difflib.get_close_matches(str(value), PRESETS, n=1)
        hint = f"did you mean {near[0]}?" if near else ""
        raise InputError(name, f"must be one of {', '.join(PRESETS)}", value, hint)
    return clean


def preset_fields(name: str, photon_keV: float) -> dict:
    """Return the fields of a preset for photons of an energy, 1 to 100 keV."""
    clean = check_preset("response", name)
    keV = check.number("photon_keV", photon_keV, low=1.0, high=100.0)
    return {"name": clean, **_PRESETS[clean](keV)}
