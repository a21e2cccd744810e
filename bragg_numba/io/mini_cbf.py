"""One frame of counts as miniCBF, the format of PILATUS detectors, by fabio."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.atomic import write_bytes
from bragg_numba.io.exports import is_upright
from bragg_numba.io.nxmx import NO_SENSOR_M, Description


def write_mini_cbf(path, frame: np.ndarray, description: Description, index: int) -> None:
    """Write a frame of counts, (slow, fast), whole or not at all; what is no pixel becomes -1, what is bad -2.

    Raises
    ------
    InputError
        For photons, several panels, axes off the right angle and detectors that are not square to the beam, which the
        header cannot say; where fabio is not installed, and if the file cannot be written.
    """
    if description.dtype == "float32":
        raise InputError("miniCBF", "holds whole numbers", hint="bragg-numba noise makes counts of photons")
    g = description.geometry
    normal = np.cross(g.fast, g.slow)
    if not is_upright(description) or abs(abs(normal[2]) - 1.0) > 1e-9:
        raise InputError("miniCBF", "needs a detector of one panel that stands square to the beam")
    try:
        from fabio.cbfimage import CbfImage
    except ImportError:
        hint = "pip install 'bragg-numba[cbf]'"
        raise InputError("miniCBF", "is written by fabio, which is not installed", hint=hint) from None
    pixels = frame.astype(np.int32)
    mask = description.whole_mask
    pixels[mask != 0] = -2
    pixels[(mask & 1) != 0] = -1
    header = {
        # That of simulated detectors: of a PILATUS, programs derive gaps from its size.
        "_array_data.header_convention": '"GENERIC_MINI"',
        "_array_data.header_contents": "\r\n".join(_header(description, index)),
    }
    name = os.path.basename(os.fspath(path)) or "frame.cbf"
    with tempfile.TemporaryDirectory() as folder:  # for fabio writes the file's own name into it
        CbfImage(data=pixels, header=header).write(os.path.join(folder, name))
        write_bytes(path, Path(folder, name).read_bytes())


def _header(description: Description, index: int) -> list[str]:
    """Lines as DECTRIS's detectors write them."""
    g = description.geometry
    omega = description.omega_deg
    start, width = (0.0, 0.0) if omega is None else (omega[index], omega[index + 1] - omega[index])
    wavelength = description.wavelength_A[index if description.wavelength_of_frames else 0]
    centre = np.array(g.beam_center_px)
    if description.shift_m is not None:
        shift = description.shift_m[index]
        centre = centre - np.array([shift @ g.fast, shift @ g.slow]) / g.pixel_size
    thickness = NO_SENSOR_M if description.sensor_um is None else description.sensor_um * 1e-6
    distance = g.distance + (0.0 if description.shift_m is None else float(description.shift_m[index][2]))
    polarization = 0.0 if description.polarization is None else description.polarization
    return [
        "# Detector: simulated by bragg_numba, S/N 00-0000",
        "# 2000-01-01T00:00:00.000",
        f"# Pixel_size {g.pixel_size:.10g} m x {g.pixel_size:.10g} m",
        f"# Silicon sensor, thickness {thickness:.9f} m",
        f"# Exposure_time {description.exposure_s:.7f} s",
        f"# Exposure_period {description.exposure_s:.7f} s",
        "# Tau = 0 s",
        f"# Count_cutoff {description.largest_valid} counts",
        "# Threshold_setting: 0 eV",
        f"# Wavelength {wavelength:.10g} A",
        f"# Detector_distance {distance:.10g} m",
        f"# Beam_xy ({centre[0]:.6f}, {centre[1]:.6f}) pixels",
        f"# Polarization {(1.0 + polarization) / 2.0:.6g}",
        f"# Start_angle {start:.7g} deg.",
        f"# Angle_increment {width:.7g} deg.",
        "# Oscillation_axis X.CW",
        "",
    ]
