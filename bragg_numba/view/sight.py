"""Where the pixels of a frame are seen: scattering angles, resolutions and rings."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bragg_numba.experiment.placing import Curve
from bragg_numba.experiment.vectors import rotate_by
from bragg_numba.io.nxmx import McStasGeometry, McStasPanel

#: Resolutions that rings may have, angstrom.
RINGS_A: tuple[float, ...] = (
    100.0,
    50.0,
    30.0,
    20.0,
    15.0,
    10.0,
    7.0,
    5.0,
    4.0,
    3.5,
    3.0,
    2.5,
    2.2,
    2.0,
    1.8,
    1.6,
    1.5,
    1.4,
    1.3,
    1.2,
)
RINGS_A += (1.1, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


@dataclass(frozen=True, slots=True)
class Sight:
    """A frame's detector in the frame of McStas (z along the beam), and the wavelength of its beam."""

    geometry: McStasGeometry
    wavelength_A: float
    curve: Curve | None = None  #: of a detector that is bent about the crystal

    def positions(self, panel: McStasPanel, fast, slow) -> np.ndarray:
        """Points (..., 3) at some pixels from the panel's corner, metres."""
        if self.curve is None:
            return panel.place(fast, slow)
        c, g = self.curve, self.geometry
        by_fast = c.curve_fast_sign * (np.asarray(fast) * panel.pitch_fast - c.beam_fast) / c.curve_radius
        by_slow = c.curve_slow_sign * (np.asarray(slow) * panel.pitch_slow - c.beam_slow) / c.curve_radius
        bent = rotate_by(*g.slow, 0.0, 0.0, c.curve_radius, np.sin(by_fast), np.cos(by_fast))
        return np.stack(np.broadcast_arrays(*rotate_by(*g.fast, *bent, np.sin(by_slow), np.cos(by_slow))), axis=-1)

    def two_theta(self, panel: McStasPanel, fast, slow) -> np.ndarray:
        """Scattering angles at some pixels from the panel's corner, radians."""
        at = self.positions(panel, fast, slow)
        return np.arctan2(np.hypot(at[..., 0], at[..., 1]), at[..., 2])

    def describe(self) -> dict:
        """Return plain numbers and lists, for the page; metres, angstrom."""
        g = self.geometry
        panels = [
            {
                "name": panel.name,
                "origin": panel.origin.tolist(),
                "fast": (panel.fast * panel.pitch_fast).tolist(),
                "slow": (panel.slow * panel.pitch_slow).tolist(),
                "column": panel.first_column,
                "row": panel.first_row,
                "width": panel.n_fast,
                "height": panel.n_slow,
            }
            for panel in g.panels
        ]
        centre = [value if math.isfinite(value) else None for value in g.beam_center_px]
        return {"wavelength": self.wavelength_A, "panels": panels, "centre": centre, "curve": self._describe_curve()}

    def _describe_curve(self) -> dict | None:
        if self.curve is None:
            return None
        c, g = self.curve, self.geometry
        return {
            "radius": c.curve_radius,
            "signs": [c.curve_fast_sign, c.curve_slow_sign],
            "centre": [c.beam_fast, c.beam_slow],
            "pitch": [g.panels[0].pitch_fast, g.panels[0].pitch_slow],
            "fast": g.fast.tolist(),
            "slow": g.slow.tolist(),
        }


def ring_points(g: McStasPanel, two_theta: float, n: int = 361) -> np.ndarray:
    """Pixel coordinates (n, 2) fast, slow of a ring on a flat panel's plane; NaN where it misses.

    Counted from the corner of the image; ``two_theta`` is its scattering angle, radians.
    """
    around = np.linspace(0.0, 2.0 * np.pi, n)
    rays = np.stack(
        [math.sin(two_theta) * np.cos(around), math.sin(two_theta) * np.sin(around), np.full(n, math.cos(two_theta))],
        axis=1,
    )
    normal = np.cross(g.fast, g.slow)
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = (g.origin @ normal) / (rays @ normal)
        at = np.where((reach > 0.0)[:, None], rays * reach[:, None], np.nan) - g.origin
    # The axes of a custom detector need not be at right angles.
    solve = np.linalg.pinv(np.array([g.fast, g.slow]).T)
    return at @ solve.T / [g.pitch_fast, g.pitch_slow] + [g.first_column, g.first_row]


def angle_of_ring(resolution_A: float, wavelength_A: float) -> float | None:
    """Scattering angle of a resolution, radians; None for what this wavelength does not reach."""
    sine = wavelength_A / (2.0 * resolution_A)
    return 2.0 * math.asin(sine) if sine < 1.0 else None
