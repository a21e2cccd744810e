"""Conventions: the axes that each detector convention stands for, and nanoBragg's factors between units."""

from __future__ import annotations

import math

#: Degrees in a radian, formed as the reference forms it.
DEGREES = 180.0 * (1.0 / math.pi)

#: eV * angstrom, the value that nanoBragg uses.
ENERGY_WAVELENGTH_EV_A = 12398.42

#: Molecules in a mole, the value that nanoBragg uses.
AVOGADRO = 6.02214179e23

#: The axes of a convention by name: beam, fast, slow, normal, twotheta, polarization, spindle; unit vectors.
Frame = dict[str, tuple[float, float, float]]

_MOSFLM_LIKE: Frame = {
    "beam": (1.0, 0.0, 0.0),
    "fast": (0.0, 0.0, 1.0),
    "slow": (0.0, -1.0, 0.0),
    "normal": (1.0, 0.0, 0.0),
    "twotheta": (0.0, 0.0, -1.0),
    "polarization": (0.0, 0.0, 1.0),
    "spindle": (0.0, 0.0, 1.0),
}
_ALONG_Z: Frame = {"beam": (0.0, 0.0, 1.0), "fast": (1.0, 0.0, 0.0), "normal": (0.0, 0.0, 1.0)}

#: The axes of each convention in the laboratory frame (behaviour of the reference, section 2.2).
FRAMES: dict[str, Frame] = {
    "mosflm": _MOSFLM_LIKE,
    "denzo": _MOSFLM_LIKE,
    "adxv": {
        **_ALONG_Z,
        "slow": (0.0, -1.0, 0.0),
        "twotheta": (-1.0, 0.0, 0.0),
        "polarization": (1.0, 0.0, 0.0),
        "spindle": (1.0, 0.0, 0.0),
    },
    "xds": {
        **_ALONG_Z,
        "slow": (0.0, 1.0, 0.0),
        "twotheta": (1.0, 0.0, 0.0),
        "polarization": (1.0, 0.0, 0.0),
        "spindle": (1.0, 0.0, 0.0),
    },
    "dials": {
        **_ALONG_Z,
        "slow": (0.0, 1.0, 0.0),
        "twotheta": (0.0, 1.0, 0.0),
        "polarization": (0.0, 1.0, 0.0),
        "spindle": (0.0, 1.0, 0.0),
    },
    # What the reference starts from when vectors are given without a convention.
    "custom": {**_MOSFLM_LIKE, "twotheta": (0.0, 1.0, 0.0)},
}
