"""Geometry for programs that want it in a text file of their own: CrystFEL, DIALS, pyFAI and XDS."""

from __future__ import annotations

import json
import math
import re

import numpy as np

from bragg_numba.conventions import ENERGY_WAVELENGTH_EV_A
from bragg_numba.errors import InputError
from bragg_numba.io.geom_file import lines_of_groups
from bragg_numba.io.geom_groups import MOST_GROUPS
from bragg_numba.io.nxmx import LARGEST_VALID, SATURATION, Description

#: XDS's customary frame (x right, y down, z along the beam) from that of McStas (x left, y up).
_XDS = np.diag([-1.0, -1.0, 1.0])

#: The frame of DIALS and imgCIF (z against the beam).
_DIALS = np.diag([-1.0, 1.0, -1.0])

#: pyFAI's three axes (up, to the right as seen along the beam, along the beam).
_PYFAI = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])

#: A sensor that absorbs every photon at every angle, for a DIALS that is told not to correct parallax; millimetres.
_ABSORBS_ALL_MM = 10000

_SHIFT = "/entry/instrument/detector/shift"


def plain(value: float, decimals: int) -> str:
    """A number without an exponent, which CrystFEL refuses in directions."""
    return np.format_float_positional(round(float(value), decimals) + 0.0, trim="-")


def is_upright(description: Description) -> bool:
    """Whether the detector is one panel with axes at right angles, which those of a custom one need not be."""
    g = description.geometry
    return g.is_single and bool(abs(g.fast @ g.slow) < 1e-9)


def crystfel_geom(description: Description) -> str:
    """Return a CrystFEL geometry file for the masters of a series; photons and counts share it."""
    g = description.geometry
    return "\n".join(
        [
            "; CrystFEL geometry, written by bragg_numba. Axes: z along the beam, y up.",
            "; Give a master to indexamajig; HDF5_PLUGIN_PATH must lead to bitshuffle unless compression is none.",
            *_geom_polarization(description),
            *_geom_wavelength(description),
            f"adu_per_photon = {plain(description.adu_per_photon, 9)}",
            *_geom_place(description),
            *([f"res = {plain(1.0 / g.pixel_size, 9)}"] if g.is_single else []),
            "",
            "dim0 = %",
            "dim1 = ss",
            "dim2 = fs",
            "data = /entry/data/data",
            f"mask0_data = {description.mask_path}",
            "mask0_goodbits = 0x0",
            "mask0_badbits = 0xffffffff",
            *_geom_saturation(description),
            "",
            *(_geom_panel(description) if g.is_single else _geom_panels(description)),
            *_geom_groups(description),
            "",
        ]
    )


def _geom_panel(description: Description) -> list[str]:
    """The one panel of a detector that is a single plane."""
    g = description.geometry
    return [
        "p0/min_fs = 0",
        f"p0/max_fs = {g.n_fast - 1}",
        "p0/min_ss = 0",
        f"p0/max_ss = {g.n_slow - 1}",
        f"p0/fs = {_xyz(g.fast)}",
        f"p0/ss = {_xyz(g.slow)}",
        f"p0/corner_x = {plain(g.origin[0] / g.pixel_size, 9)}",
        f"p0/corner_y = {plain(g.origin[1] / g.pixel_size, 9)}",
        *_geom_offset(description),
    ]


def _geom_panels(description: Description) -> list[str]:
    """Every panel with its own pixels: ``res`` counts along fast, and the length of ``ss`` says the rest."""
    lines = []
    shift = description.shift_m
    clen = 0.0 if shift is not None and shift[:, 2].any() else description.geometry.origin[2]
    for name, g in zip(_geom_names(description), description.geometry.panels, strict=True):
        lines += [
            f"{name}/res = {plain(1.0 / g.pitch_fast, 9)}",
            f"{name}/min_fs = {g.first_column}",
            f"{name}/max_fs = {g.first_column + g.n_fast - 1}",
            f"{name}/min_ss = {g.first_row}",
            f"{name}/max_ss = {g.first_row + g.n_slow - 1}",
            f"{name}/fs = {_xyz(g.fast)}",
            f"{name}/ss = {_xyz(g.slow * (g.pitch_slow / g.pitch_fast))}",
            f"{name}/corner_x = {plain(g.origin[0] / g.pitch_fast, 9)}",
            f"{name}/corner_y = {plain(g.origin[1] / g.pitch_fast, 9)}",
            f"{name}/coffset = {plain(g.origin[2] - clen, 12)}",
            "",
        ]
    return lines[:-1]


def _geom_names(description: Description) -> list[str]:
    """The panels' names, or numbers where CrystFEL would read a name otherwise."""
    names = [panel.name for panel in description.geometry.panels]
    if all(re.fullmatch(r"(?!bad|group|rigid_group)[\w.+-]+", name, re.ASCII) for name in names):
        return names
    return [f"p{number}" for number in range(len(names))]


def panel_names(description: Description) -> list[str]:
    """Return what the panels are called in the .geom, by number."""
    return ["p0"] if description.geometry.is_single else _geom_names(description)


def _geom_groups(description: Description) -> list[str]:
    """Which panels belong together: as the .geom has it that the detector is from, else as their names tell."""
    names, like = _geom_names(description), description.layout
    if len(names) == 1 or len(names) >= MOST_GROUPS:  # with their group they are more than CrystFEL takes
        return []
    same = like is not None and [panel.name for panel in like.panels] == names
    return ["", *lines_of_groups(names, like if same else None)]


def _geom_polarization(description: Description) -> list[str]:
    """What to give to partialator and process_hkl, whose own default is a beam that is all horizontal."""
    if description.polarization is None:
        return ["; No polarization factor: partialator and process_hkl want --polarisation=none"]
    percent = 50.0 * (1.0 + description.polarization)
    # The normal of the E-vector's plane is a quarter turn ahead of the E-vector.
    x, y, _ = description.polarization_normal
    degrees = math.degrees(math.atan2(-x, y)) % 180.0
    kind, turn = "horiz", round(degrees) % 180
    if round(percent) != 50 and turn:
        kind = "vert" if turn == 90 else f"{turn}deg"
    lines = [f"; partialator and process_hkl want --polarisation={kind}{round(percent)}"]
    if abs(percent - round(percent)) > 1e-6 or (kind != "horiz" and abs(degrees - turn) > 1e-6):
        lines.append(f"; (they take whole numbers: it is {plain(percent, 4)} % at {plain(degrees, 4)} degrees)")
    return lines


def _geom_wavelength(description: Description) -> list[str]:
    if description.wavelength_of_frames:
        lines = ["wavelength = /entry/instrument/beam/incident_wavelength A"]
    else:
        lines = [f"photon_energy = {plain(ENERGY_WAVELENGTH_EV_A / description.mean_wavelength_A, 5)} eV"]
    if description.bandwidth:
        lines.append(f"bandwidth = {plain(description.bandwidth, 12)}")
    return lines


def _geom_place(description: Description) -> list[str]:
    """Where the detector is along the beam, and in which values of the master every frame's shift is."""
    shift = description.shift_m
    if shift is None:
        return [f"clen = {plain(description.geometry.origin[2], 12)} m"]
    along = f"{_SHIFT}/z" if shift[:, 2].any() else plain(description.geometry.origin[2], 12)
    return [f"clen = {along} m", *(f"detector_shift_{axis} = {_SHIFT}/{axis} m" for axis in "xy")]


def _geom_offset(description: Description) -> list[str]:
    """What is to be added to a clen that is the frame's shift alone."""
    shift = description.shift_m
    if shift is None or not shift[:, 2].any():
        return []
    return [f"p0/coffset = {plain(description.geometry.origin[2], 12)}"]


def _geom_saturation(description: Description) -> list[str]:
    """Values that are no measurements. max_adu would mark reflections too; CrystFEL wants it when merging."""
    if description.dtype == "float32":
        return []
    valid = description.largest_valid
    lines = [f"; Counts above {valid} are cut: give --max-adu={valid} to partialator and process_hkl."]
    if description.dtype == "uint16":
        # Photons, which are not cut, share this file. 65535 is what a missing data file reads as.
        return [*lines, *(f"flag_equal = {value}" for value in (SATURATION["uint16"], 65535))]
    # The largest number below all of the cut, no number and a missing file, as CrystFEL (float32) tells them apart.
    return [*lines, f"flag_morethan = {2**31 - 256}"]


def _xyz(vector) -> str:
    """A direction as CrystFEL reads it: signs, digits, points and axes alone."""
    digits = {axis: (value < 0.0, plain(abs(value), 15)) for axis, value in zip("xyz", vector, strict=True)}
    return " ".join(f"{'-' if minus else '+'}{size}{axis}" for axis, (minus, size) in digits.items() if size != "0")


def dials_import(description: Description, name: str, master_name: str) -> str:
    """Return parameters for ``dials.import`` that say what NXmx cannot, or DIALS does not read there.

    ``name`` and ``master_name`` are those of this text and of a master, for the example in it.
    """
    return "\n".join(
        [
            "# Written by bragg_numba: what NXmx cannot say, or DIALS does not read there. For",
            f"#     dials.import {name} {master_name}",
            "geometry {",
            *_phil_beam(description),
            *_phil_sensor(description),
            "}",
            "",
        ]
    )


def _phil_beam(description: Description) -> list[str]:
    if description.polarization is None:
        return [
            "  # The images hold no polarization factor (-nopolar). DIALS corrects for one all the same:",
            "  # no fraction undoes that.",
        ]
    normal = _DIALS @ description.polarization_normal
    return [
        "  beam {",
        f"    polarization_fraction = {plain((1.0 + description.polarization) / 2.0, 12)}",
        f"    polarization_normal = {','.join(plain(value, 12) for value in normal)}",
        "  }",
    ]


def _phil_sensor(description: Description) -> list[str]:
    if description.sensor_um is not None and description.recorded is None:
        return []
    n = len(description.geometry.panels)
    return [
        "  detector {",
        *(line for number in range(n) for line in _phil_panel(description, number if n > 1 else None)),
        "  }",
    ]


def _phil_panel(description: Description, number: int | None) -> list[str]:
    lines = ["    panel {", *([] if number is None else [f"      id = {number}"])]
    if description.recorded is not None:
        lines += [
            f"      gain = {plain(description.adu_per_photon, 9)}",
            f"      pedestal = {plain(description.pedestal_adu, 9)}",
        ]
    if description.sensor_um is None:
        lines += [
            "      # No sensor: all photons are caught, at the surface. DIALS divides by 1 - exp(-mu t / cos).",
            f"      thickness = {_ABSORBS_ALL_MM}",
            "      parallax_correction = False",
        ]
    return [*lines, "    }"]


def pyfai_poni(description: Description) -> str:
    """Return a PONI file for pyFAI: the detector as it turns three times about its point of normal incidence.

    Raises
    ------
    InputError
        For several panels, and for axes that are not at right angles.
    """
    if not is_upright(description):
        raise InputError("PONI", "needs a detector of one panel with axes at right angles")
    g = description.geometry
    down, across, origin = (_PYFAI @ v for v in (g.slow, g.fast, g.origin))
    normal = np.cross(down, across)
    # pyFAI's pixels run so that the third axis leads away from the sample; if not, slow runs against its first one.
    flipped = normal @ origin < 0.0
    if flipped:
        origin = origin + g.n_slow * g.pixel_size * down
        down, normal = -down, -normal
    turns = (
        math.atan2(-across[2], normal[2]),
        math.asin(max(-1.0, min(1.0, down[2]))),
        math.atan2(down[1], down[0]),
    )
    config = {"pixel1": g.pixel_size, "pixel2": g.pixel_size, "max_shape": [g.n_slow, g.n_fast]}
    return "\n".join(
        [
            "# Written by bragg_numba. Pixels under the mask are those of /entry/instrument/detector/pixel_mask.",
            "poni_version: 2.1",
            "Detector: Detector",
            f"Detector_config: {json.dumps({**config, 'orientation': 2 if flipped else 3})}",
            f"Distance: {float(origin @ normal)!r}",
            f"Poni1: {float(-origin @ down)!r}",
            f"Poni2: {float(-origin @ across)!r}",
            *(f"Rot{number}: {angle + 0.0!r}" for number, angle in enumerate(turns, start=1)),
            f"Wavelength: {description.mean_wavelength_A * 1e-10:.12g}",
            "",
        ]
    )


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
        For stills, as XDS wants a rotation; for several panels, and for axes that are not at right angles.
    """
    if description.omega_deg is None:
        raise InputError("XDS.INP", "needs an even sweep: these frames are stills", hint="CrystFEL takes stills")
    if not is_upright(description):
        raise InputError("XDS.INP", "needs a detector of one panel with axes at right angles")
    g, omega = description.geometry, description.omega_deg
    fast, slow, origin, spindle = (_XDS @ v for v in (g.fast, g.slow, g.origin, g.spindle))
    n = description.frames
    sensor = 0.0 if description.sensor_um is None else description.sensor_um / 1000.0
    pixel_mm = g.pixel_size * 1000.0
    # Of photons, counts may be made: uint16, unless somebody asks for more.
    overload = LARGEST_VALID["uint16"] if description.dtype == "float32" else description.largest_valid
    fraction = 0.5 if description.polarization is None else (1.0 + description.polarization) / 2.0
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
        f"FRACTION_OF_POLARIZATION= {fraction:.6g}",
        f"NX= {g.n_fast}  NY= {g.n_slow}  QX= {pixel_mm:.10g}  QY= {pixel_mm:.10g}",
        f"DETECTOR_DISTANCE= {1000.0 * float(origin @ np.cross(fast, slow)):.10g}",
        f"ORGX= {-(origin @ fast) / g.pixel_size + 0.5:.10g}  ORGY= {-(origin @ slow) / g.pixel_size + 0.5:.10g}",
        f"DIRECTION_OF_DETECTOR_X-AXIS= {_three(fast)}",
        f"DIRECTION_OF_DETECTOR_Y-AXIS= {_three(slow)}",
        f"SENSOR_THICKNESS= {sensor:.6g}",
        f"MINIMUM_VALID_PIXEL_VALUE= 0  OVERLOAD= {overload}",
        "UNIT_CELL_CONSTANTS= " + " ".join(f"{value:.6g}" for value in description.cell),
    ]
    return "\n".join(lines) + "\n"


def _xds_warnings(description: Description) -> list[str]:
    warnings = {
        "XDS takes whole numbers only: make counts of these photons (bragg-numba noise) and name their file.": (
            description.dtype == "float32"
        ),
        "LIB: dectris-neggia takes these counts; durin takes those above 32767 as negative (write uint32).": (
            description.dtype == "uint16"
        ),
        "These images hold no polarization factor (-nopolar), and XDS corrects for one all the same.": (
            description.polarization is None
        ),
        "The beam centre varies from frame to frame: this is the first frame's.": description.shift_m is not None,
    }
    return [f"! {text}" for text, holds in warnings.items() if holds]


def _three(vector) -> str:
    return " ".join(f"{value + 0.0:.9g}" for value in np.where(np.abs(vector) < 1e-15, 0.0, vector))
