"""The quantities of a trace (*taps*): their names in the reference, their units, and how they are printed."""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = [
    "FINAL_NAMES",
    "PLACE_NAMES",
    "REFERENCE_STEP_NAMES",
    "STEP_NAMES",
    "UNITS",
    "number",
    "tap_line",
]

#: Which sub-step of each loop a column belongs to.
PLACE_NAMES = ("layer", "subpixel_slow", "subpixel_fast", "source", "phi_tic", "mos_tic")
#: Taps that the reference prints for the first phi and domain of every source, in its order.
REFERENCE_STEP_NAMES = (
    *("pix0_vector_meters", "fdet_vec", "sdet_vec", "pixel_pos_meters", "R_distance_meters", "omega_pixel_sr"),
    *("close_distance_meters", "obliquity_factor", "diffracted_vec", "incident_vec"),
    *("lambda_meters", "lambda_angstroms", "scattering_vec_A_inv"),
    *("rot_a_angstroms", "rot_b_angstroms", "rot_c_angstroms"),
    *("rot_a_star_A_inv", "rot_b_star_A_inv", "rot_c_star_A_inv"),
    *("hkl_frac", "hkl_rounded", "F_latt_a", "F_latt_b", "F_latt_c", "F_latt", "F_cell"),
)
#: Ours alone: what the reference does not print of a sub-step.
OUR_STEP_NAMES = (
    *("phi_deg", "turned_a_star_A_inv", "turned_b_star_A_inv", "turned_c_star_A_inv"),
    *("source_weight", "capture_step", "polar_step", "kept", "domain_share", "term", "I_running"),
)
STEP_NAMES = (*PLACE_NAMES, *REFERENCE_STEP_NAMES, *OUR_STEP_NAMES)
#: Taps that are made once a pixel, after all steps, in the reference's order.
FINAL_NAMES = (
    *("I_before_scaling", "r_e_meters", "r_e_sqr", "fluence_photons_per_m2", "steps"),
    *("oversample_thick", "oversample_polar", "oversample_omega"),
    *("capture_fraction", "polar", "omega_pixel", "cos_2theta", "I_pixel_final", "floatimage_accumulated"),
)

_UNITS = {
    "1/m": "scattering_vec_A_inv",
    "1/angstrom": "rot_a_star_A_inv rot_b_star_A_inv rot_c_star_A_inv "
    "turned_a_star_A_inv turned_b_star_A_inv turned_c_star_A_inv",
    "angstrom": "lambda_angstroms rot_a_angstroms rot_b_angstroms rot_c_angstroms",
    "degree": "phi_deg",
    "electron": "F_cell",
    "electron^2": "term I_running I_before_scaling",
    "m": "Fbeam_m Sbeam_m distance_m term_fast term_slow term_beam pix0_vector pix0_vector_meters "
    "pixel_pos_meters R_distance_meters close_distance_meters lambda_meters r_e_meters",
    "m^2": "r_e_sqr",
    # The reference divides metres by 1000 once more and calls the pixel's size in millimetres by its name.
    "km, km, mm": "beam_center_m",
    "photon": "I_pixel_final floatimage_accumulated",
    "photon/m^2": "fluence_photons_per_m2",
    "radian": "angles_rad",
    "steradian": "omega_pixel_sr omega_pixel",
}
#: Tap -> unit; what is not named here has none (a cosine, an index, a unit vector, a count).
UNITS: dict[str, str] = {name: unit for unit, names in _UNITS.items() for name in names.split()}

_INTEGERS = {
    *PLACE_NAMES,
    *("hkl_rounded", "steps", "oversample_thick", "oversample_polar", "oversample_omega"),
}

#: What the table says of taps that only our own traces have.
MEANINGS = {
    "layer": "layer of the sensor",
    "subpixel_slow": "sub-pixel along slow",
    "subpixel_fast": "sub-pixel along fast",
    "source": "source of the beam",
    "phi_tic": "step of the spindle",
    "mos_tic": "mosaic domain",
    "phi_deg": "spindle angle",
    "turned_a_star_A_inv": "reciprocal vector a* of this step, after phi and mosaic",
    "turned_b_star_A_inv": "reciprocal vector b* of this step, after phi and mosaic",
    "turned_c_star_A_inv": "reciprocal vector c* of this step, after phi and mosaic",
    "source_weight": "weight of the source (fidelity physical)",
    "capture_step": "capture fraction in use at this step",
    "polar_step": "polarization factor in use at this step",
    "domain_share": "weight of the mosaic domain over the mean",
    "kept": "0 beyond dmin, else 1; with fidelity physical times the step's factors",
    "term": "squared amplitude of this step",
    "I_running": "sum after this step",
}


def number(value) -> str:
    """Print a number as the reference does: ``%.15g``."""
    return "%.15g" % value


def tap_value(value) -> str:
    """Print a tap: a number, a vector, or a word."""
    if isinstance(value, str):
        return value
    if isinstance(value, Iterable):
        return " ".join(number(part) for part in value)
    return number(value)


def tap_line(name: str, value) -> str:
    """Return ``TRACE_C: name value``."""
    return f"TRACE_C: {name} {tap_value(value)}"


def json_value(value):
    """Return a value that JSON can hold: what is not finite becomes None, what counts is an int."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return [json_value(part) for part in value]
    return float(value) if math.isfinite(value) else None


def json_tap(name: str, value):
    """Return a tap as JSON holds it; indices and counts as whole numbers."""
    if name in _INTEGERS:
        return _whole(value)
    return json_value(value)


def _whole(value):
    if isinstance(value, list | tuple):
        return [_whole(part) for part in value]
    return int(value) if math.isfinite(value) else None
