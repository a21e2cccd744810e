"""Geometry for programs that want it in a text file of their own: CrystFEL and XDS."""

from __future__ import annotations

import numpy as np

from bragg_numba.conventions import ENERGY_WAVELENGTH_EV_A
from bragg_numba.errors import InputError
from bragg_numba.io.nxmx import SATURATION, Description

#: XDS's customary frame (x right, y down, z along the beam) from that of McStas (x left, y up).
_XDS = np.diag([-1.0, -1.0, 1.0])


def crystfel_geom(description: Description) -> str:
    """Return a CrystFEL geometry file for the masters of a series; photons and counts share it."""
    g = description.geometry
    pixel = g.pixel_size
    return "\n".join(
        [
            "; CrystFEL geometry, written by bragg_numba. Axes: z along the beam, y up.",
            "; Give a master to indexamajig; HDF5_PLUGIN_PATH must lead to bitshuffle unless compression is none.",
            *_geom_wavelength(description),
            "adu_per_photon = 1",
            f"; Counts end at {SATURATION['uint16']} (uint16) or {SATURATION['uint32']} (uint32), photons do not:",
            "; for counts give --max-adu to process_hkl or partialator, which CrystFEL prefers to max_adu here.",
            f"clen = {g.origin[2]:.12g} m",
            f"res = {1.0 / pixel:.12g}",
            *_geom_shift(description),
            "",
            "dim0 = %",
            "dim1 = ss",
            "dim2 = fs",
            "data = /entry/data/data",
            "mask0_data = /entry/instrument/detector/pixel_mask",
            "mask0_goodbits = 0x0",
            "mask0_badbits = 0xffffffff",
            "",
            "p0/min_fs = 0",
            f"p0/max_fs = {g.n_fast - 1}",
            "p0/min_ss = 0",
            f"p0/max_ss = {g.n_slow - 1}",
            f"p0/fs = {_xyz(g.fast)}",
            f"p0/ss = {_xyz(g.slow)}",
            f"p0/corner_x = {g.origin[0] / pixel:.12g}",
            f"p0/corner_y = {g.origin[1] / pixel:.12g}",
            "",
        ]
    )


def _geom_wavelength(description: Description) -> list[str]:
    if description.wavelength_of_frames:
        return ["wavelength = /entry/instrument/beam/incident_wavelength A"]
    mean = description.mean_wavelength_A
    lines = [f"photon_energy = {ENERGY_WAVELENGTH_EV_A / mean:.10g} eV"]
    weights = description.wavelength_weights
    if weights is not None:
        sigma = float(np.sqrt(np.average((description.wavelength_A - mean) ** 2, weights=weights)))
        lines.append(f"bandwidth = {sigma / mean:.6g}")
    return lines


def _geom_shift(description: Description) -> list[str]:
    if description.shift_m is None:
        return []
    return [f"detector_shift_{axis} = /entry/instrument/detector/shift/{axis} m" for axis in "xy"]


def _xyz(vector) -> str:
    terms = [f"{value:+.12g}{axis}" for value, axis in zip(vector, "xyz", strict=True) if abs(value) > 1e-15]
    return " ".join(terms)


def xds_input(description: Description, template: str) -> str:
    """Return the lines of XDS.INP that this series fixes.

    Parameters
    ----------
    description
        Of a sweep's counts.
    template
        Name of the data files with ``??????`` for what XDS fills in.

    Raises
    ------
    InputError
        For stills: XDS wants a rotation.
    """
    if description.omega_deg is None:
        raise InputError("XDS.INP", "needs an even sweep: these frames are stills", hint="CrystFEL takes stills")
    g, omega = description.geometry, description.omega_deg
    fast, slow, origin, spindle = (_XDS @ v for v in (g.fast, g.slow, g.origin, g.spindle))
    if abs(fast @ slow) > 1e-9:
        raise InputError("XDS.INP", "needs detector axes at right angles")
    n = description.frames
    sensor = 0.0 if description.sensor_um is None else description.sensor_um / 1000.0
    pixel_mm = g.pixel_size * 1000.0
    lines = [
        "! Written by bragg_numba: the part of XDS.INP that these frames fix. Add JOB, SPACE_GROUP_NUMBER, LIB.",
        *_xds_warnings(description),
        "DETECTOR= EIGER",
        f"NAME_TEMPLATE_OF_DATA_FRAMES= {template}",
        f"DATA_RANGE= 1 {n}",
        f"SPOT_RANGE= 1 {n}",
        "STARTING_FRAME= 1",
        f"STARTING_ANGLE= {omega[0]:.9g}",
        f"OSCILLATION_RANGE= {(omega[-1] - omega[0]) / n:.9g}",
        f"X-RAY_WAVELENGTH= {description.mean_wavelength_A:.10g}",
        f"INCIDENT_BEAM_DIRECTION= {_three(_XDS @ np.array([0.0, 0.0, 1.0]))}",
        f"ROTATION_AXIS= {_three(spindle)}",
        f"POLARIZATION_PLANE_NORMAL= {_three(_XDS @ description.polarization_normal)}",
        f"FRACTION_OF_POLARIZATION= {(1.0 + description.polarization) / 2.0:.6g}",
        f"NX= {g.n_fast}  NY= {g.n_slow}  QX= {pixel_mm:.10g}  QY= {pixel_mm:.10g}",
        f"DETECTOR_DISTANCE= {1000.0 * float(origin @ np.cross(fast, slow)):.10g}",
        f"ORGX= {-(origin @ fast) / g.pixel_size + 0.5:.8g}  ORGY= {-(origin @ slow) / g.pixel_size + 0.5:.8g}",
        f"DIRECTION_OF_DETECTOR_X-AXIS= {_three(fast)}",
        f"DIRECTION_OF_DETECTOR_Y-AXIS= {_three(slow)}",
        f"SENSOR_THICKNESS= {sensor:.6g}",
        f"MINIMUM_VALID_PIXEL_VALUE= 0  OVERLOAD= {SATURATION[description.dtype]}",
        "UNIT_CELL_CONSTANTS= " + " ".join(f"{value:.6g}" for value in description.cell),
    ]
    return "\n".join(lines) + "\n"


def _xds_warnings(description: Description) -> list[str]:
    if description.dtype == "float32":
        return ["! XDS takes whole numbers only: make counts of these photons (bragg-numba noise) and name their file."]
    if description.dtype == "uint16":
        return ["! LIB: dectris-neggia takes these counts; durin takes those above 32767 as negative (write uint32)."]
    return []


def _three(vector) -> str:
    return " ".join(f"{value + 0.0:.9g}" for value in np.where(np.abs(vector) < 1e-15, 0.0, vector))
