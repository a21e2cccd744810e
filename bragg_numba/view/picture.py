"""Pictures of frames as PNG: beam centre, resolution rings, spots."""

from __future__ import annotations

import math

import numpy as np

from bragg_numba.io.nxmx import McStasGeometry
from bragg_numba.io.png import brightness, palette
from bragg_numba.view.sight import RINGS_A, Sight, angle_of_ring, ring_points

_RING, _CENTRE, _SPOT = (90, 160, 220), (80, 230, 120), (120, 255, 255)

#: Picture elements between two rings, at least.
_APART = 60.0


def pooled(frame: np.ndarray, side: int) -> tuple[np.ndarray, int]:
    """Reduce a frame to at most ``side`` elements, each the brightest of its pixels; return it and the factor."""
    factor = max(1, -(-max(frame.shape) // side))
    n_slow, n_fast = (-(-n // factor) for n in frame.shape)
    padded = np.zeros((n_slow * factor, n_fast * factor), dtype=np.float32)
    padded[: frame.shape[0], : frame.shape[1]] = frame
    return padded.reshape(n_slow, factor, n_fast, factor).max(axis=(1, 3)), factor


def picture(frame: np.ndarray, *, side: int = 1024, sight: Sight | None = None, spots: np.ndarray | None = None):
    """Draw one frame in logarithmic colours; return a PIL image, fast to the right and slow downwards.

    Parameters
    ----------
    frame
        (slow, fast) pixels.
    side
        Longest side of the picture, at most.
    sight
        Draw beam centre and rings as seen so; None: neither.
    spots
        Draw these, a table with ``fast`` and ``slow``; None: none.
    """
    from PIL import Image, ImageDraw

    small, factor = pooled(frame, side)
    image = Image.fromarray(brightness(small, True, 99.9))
    image.putpalette(palette().tobytes())
    image = image.convert("RGB")
    draw = ImageDraw.Draw(image)
    if sight is not None:
        _draw_rings(draw, sight.geometry, sight.wavelength_A, factor, image.size)
    for spot in spots if spots is not None else ():
        x, y, r = spot["fast"] / factor, spot["slow"] / factor, 5
        draw.ellipse((x - r, y - r, x + r, y + r), outline=_SPOT)
    return image


def _draw_rings(draw, g: McStasGeometry, wavelength: float, factor: int, size) -> None:
    if not g.is_single:
        _draw_rings_on_panels(draw, g, wavelength, factor)
        return
    x, y = (value / factor for value in g.beam_center_px)
    draw.line((x - 8, y, x + 8, y), fill=_CENTRE)
    draw.line((x, y - 8, x, y + 8), fill=_CENTRE)
    last = 0.0
    for resolution in RINGS_A:
        two_theta = angle_of_ring(resolution, wavelength)
        if two_theta is None:
            break
        points = ring_points(g.panels[0], two_theta) / factor
        inside = np.isfinite(points).all(axis=1) & (points > 0).all(axis=1) & (points < np.array(size)).all(axis=1)
        radius = float(np.nanmax(np.abs(points - np.array([x, y])))) if np.isfinite(points).any() else 0.0
        if not inside.any() or radius - last < _APART:
            continue  # too near the last one to be told apart
        last = radius
        for a, b in zip(points[:-1], points[1:], strict=True):
            if np.isfinite(a).all() and np.isfinite(b).all():
                draw.line((*a, *b), fill=_RING)
        label = points[np.flatnonzero(inside)[-1]]
        draw.text((min(label[0] + 3, size[0] - 40), max(label[1] - 12, 0)), f"{resolution:g} A", fill=_RING)


def _draw_rings_on_panels(draw, g: McStasGeometry, wavelength: float, factor: int) -> None:
    """Draw what of the rings falls on each panel; how far apart they are is that on the panel nearest to the beam."""
    last = 0.0
    for resolution in RINGS_A:
        two_theta = angle_of_ring(resolution, wavelength)
        if two_theta is None:
            break
        radius = abs(math.tan(two_theta)) * g.distance / g.pixel_size / factor
        if radius - last < _APART:
            continue  # too near the last one to be told apart
        last, labelled = radius, False
        for panel in g.panels:
            points = ring_points(panel, two_theta, 3601)
            low = np.array([panel.first_column, panel.first_row])
            high = low + [panel.n_fast, panel.n_slow]
            inside = np.all((points >= low) & (points <= high), axis=1)
            for at in np.flatnonzero(inside[:-1] & inside[1:]):
                draw.line((*(points[at] / factor), *(points[at + 1] / factor)), fill=_RING)
            if inside.any() and not labelled:
                label, labelled = points[np.flatnonzero(inside)[-1]] / factor, True
                draw.text((label[0] + 3, max(label[1] - 12, 0)), f"{resolution:g} A", fill=_RING)
