"""Pictures of frames: beam centre, resolution rings, predicted spots; and a page that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
import math

import numpy as np

from bragg_numba.io.nxmx import McStasGeometry, McStasPanel
from bragg_numba.io.png import brightness, palette
from bragg_numba.series.mcstas import mcstas_geometry
from bragg_numba.series.opened import Source

#: Resolutions that rings may have, angstrom.
RINGS_A = (50.0, 20.0, 10.0, 7.0, 5.0, 4.0, 3.0, 2.5, 2.0, 1.7, 1.5, 1.3, 1.2, 1.1, 1.0, 0.9, 0.8)

_RING, _CENTRE, _SPOT = (90, 160, 220), (80, 230, 120), (120, 255, 255)


def pooled(frame: np.ndarray, side: int) -> tuple[np.ndarray, int]:
    """Reduce a frame to at most ``side`` elements, each the brightest of its pixels; return it and the factor."""
    factor = max(1, -(-max(frame.shape) // side))
    n_slow, n_fast = (-(-n // factor) for n in frame.shape)
    padded = np.zeros((n_slow * factor, n_fast * factor), dtype=np.float32)
    padded[: frame.shape[0], : frame.shape[1]] = frame
    return padded.reshape(n_slow, factor, n_fast, factor).max(axis=(1, 3)), factor


def ring_points(g: McStasPanel, wavelength_A: float, resolution_A: float, n: int = 361) -> np.ndarray:
    """Pixel coordinates (n, 2) fast, slow of a resolution ring on a panel's plane; NaN where it misses.

    Counted from the corner of the image.
    """
    sine = wavelength_A / (2.0 * resolution_A)
    if sine >= 1.0:
        return np.full((n, 2), np.nan)
    two_theta, around = 2.0 * math.asin(sine), np.linspace(0.0, 2.0 * np.pi, n)
    rays = np.stack(
        [
            math.sin(two_theta) * np.cos(around),
            math.sin(two_theta) * np.sin(around),
            np.full(n, math.cos(two_theta)),
        ],
        axis=1,
    )
    normal = np.cross(g.fast, g.slow)
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = (g.origin @ normal) / (rays @ normal)
        at = np.where((reach > 0.0)[:, None], rays * reach[:, None], np.nan) - g.origin
    # The axes of a custom detector need not be at right angles.
    solve = np.linalg.pinv(np.array([g.fast, g.slow]).T)
    return at @ solve.T / [g.pitch_fast, g.pitch_slow] + [g.first_column, g.first_row]


def picture(source: Source, index: int, *, side: int = 1024, rings: bool = True, spots: bool = False):
    """Draw one frame in logarithmic colours; return a PIL image, fast to the right and slow downwards."""
    from PIL import Image, ImageDraw

    small, factor = pooled(source.frame(index), side)
    image = Image.fromarray(brightness(small, True, 99.9))
    image.putpalette(palette().tobytes())
    image = image.convert("RGB")
    draw = ImageDraw.Draw(image)
    geometry, wavelength = _geometry(source, index)
    if rings:
        _draw_rings(draw, geometry, wavelength, factor, image.size)
    if spots:
        _, table = source.truth(index)
        for spot in table if table is not None else ():
            x, y, r = spot["fast"] / factor, spot["slow"] / factor, 5
            draw.ellipse((x - r, y - r, x + r, y + r), outline=_SPOT)
    return image


def _geometry(source: Source, index: int) -> tuple[McStasGeometry, float]:
    from bragg_numba.plan.plan import make_plan
    from bragg_numba.series.truth import mean_wavelength

    plan = make_plan(source.series.experiment_of(index))
    return mcstas_geometry(plan.experiment, plan.detector), mean_wavelength(plan)


def _draw_rings(draw, g: McStasGeometry, wavelength: float, factor: int, size) -> None:
    if not g.is_single:
        _draw_rings_on_panels(draw, g, wavelength, factor)
        return
    x, y = (value / factor for value in g.beam_center_px)
    draw.line((x - 8, y, x + 8, y), fill=_CENTRE)
    draw.line((x, y - 8, x, y + 8), fill=_CENTRE)
    last = 0.0
    for resolution in RINGS_A:
        points = ring_points(g.panels[0], wavelength, resolution) / factor
        inside = np.isfinite(points).all(axis=1) & (points > 0).all(axis=1) & (points < np.array(size)).all(axis=1)
        radius = float(np.nanmax(np.abs(points - np.array([x, y])))) if np.isfinite(points).any() else 0.0
        if not inside.any() or radius - last < 60.0:
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
        if wavelength >= 2.0 * resolution:
            continue
        two_theta = 2.0 * math.asin(wavelength / (2.0 * resolution))
        radius = abs(math.tan(two_theta)) * g.distance / g.pixel_size / factor
        if radius - last < 60.0:
            continue  # too near the last one to be told apart
        last, labelled = radius, False
        for panel in g.panels:
            points = ring_points(panel, wavelength, resolution, 3601)
            low = np.array([panel.first_column, panel.first_row])
            high = low + [panel.n_fast, panel.n_slow]
            inside = np.all((points >= low) & (points <= high), axis=1)
            for at in np.flatnonzero(inside[:-1] & inside[1:]):
                draw.line((*(points[at] / factor), *(points[at + 1] / factor)), fill=_RING)
            if inside.any() and not labelled:
                label, labelled = points[np.flatnonzero(inside)[-1]] / factor, True
                draw.text((label[0] + 3, max(label[1] - 12, 0)), f"{resolution:g} A", fill=_RING)


def radial_profile(frame: np.ndarray, g: McStasGeometry, bins: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Mean pixel value against the scattering angle in degrees, over bins of equal width that hold pixels."""
    step = max(1, max(frame.shape) // 1024)
    angles, parts = [], []
    for panel in g.panels:
        # Every step-th pixel of the image, as far as the panel has it.
        slow = np.arange(-(-panel.first_row // step) * step, panel.first_row + panel.n_slow, step)
        fast = np.arange(-(-panel.first_column // step) * step, panel.first_column + panel.n_fast, step)
        at = panel.place(fast[None, :] - panel.first_column + 0.5, slow[:, None] - panel.first_row + 0.5)
        angles.append(np.degrees(np.arctan2(np.hypot(at[..., 0], at[..., 1]), at[..., 2])).ravel())
        parts.append(frame[np.ix_(slow, fast)].astype(np.float64).ravel())
    angle, values = np.concatenate(angles), np.concatenate(parts)
    place = np.minimum((angle / max(angle.max(), 1e-12) * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    sums = np.bincount(place, weights=values, minlength=bins)
    filled = counts > 0
    centres = (np.arange(bins) + 0.5) * angle.max() / bins
    return centres[filled], sums[filled] / counts[filled]


def page(source: Source, *, thumbnails: int = 12, spots: bool = False) -> str:
    """Return a page with thumbnails, one frame's radial profile and histogram, and the truth in numbers."""
    n = len(source.series)
    shown = min(thumbnails, n)
    chosen = sorted({round(i * (n - 1) / max(shown - 1, 1)) for i in range(shown)})
    figures = []
    for index in chosen:
        data = io.BytesIO()
        picture(source, index, side=320, rings=False, spots=spots).save(data, "PNG")
        text = base64.b64encode(data.getvalue()).decode("ascii")
        figures.append(
            f'<figure><img alt="frame {index}" src="data:image/png;base64,{text}">'
            f"<figcaption>frame {index}</figcaption></figure>"
        )
    frame = source.frame(0)
    geometry, _ = _geometry(source, 0)
    angle, mean = radial_profile(frame, geometry)
    lit = frame[frame > 0].astype(np.float64)
    count, edges = np.histogram(np.log10(lit) if lit.size else np.zeros(1), bins=60)
    name = html.escape(source.path.name)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{name}</title><style>
body {{ font: 15px sans-serif; margin: 2em; background: #fff; color: #222; max-width: 75em }}
figure {{ display: inline-block; margin: 4px }} figcaption {{ font-size: 12px }} img {{ background: #000 }}
table {{ border-collapse: collapse }} td, th {{ padding: 2px 12px; text-align: right; border-bottom: 1px solid #ccc }}
svg {{ background: #f7f7f9; margin-right: 1em }}
</style></head><body>
<h1>{name}</h1>
<p>{n} frames of {frame.shape[1]} x {frame.shape[0]} pixels (fast x slow), {html.escape(source.dtype)}</p>
<div>{"".join(figures)}</div>
<h2>Frame 0</h2>
{_plot(angle, np.log10(np.maximum(mean, 1e-12)), "scattering angle, degrees", "log10 mean per pixel")}
{_plot((edges[:-1] + edges[1:]) / 2, np.log10(count + 1.0), "log10 pixel value", "log10 (pixels + 1)")}
<h2>Truth</h2>
{_truth_table(source, chosen)}
</body></html>
"""


def _plot(x: np.ndarray, y: np.ndarray, x_name: str, y_name: str) -> str:
    """A line as SVG."""
    width, height, left, low = 480, 260, 55, 40
    x_low, x_high, y_low, y_high = float(x.min()), float(x.max()), float(y.min()), float(y.max())
    across = left + (x - x_low) / max(x_high - x_low, 1e-30) * (width - left - 15)
    up = height - low - (y - y_low) / max(y_high - y_low, 1e-30) * (height - low - 15)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, up, strict=True))
    return (
        f'<svg width="{width}" height="{height}" font-size="11">'
        f'<polyline points="{points}" fill="none" stroke="#b0301e" stroke-width="1.5"/>'
        f'<text x="{width / 2}" y="{height - 6}" text-anchor="middle">{html.escape(x_name)}</text>'
        f'<text x="12" y="{height / 2}" transform="rotate(-90 12 {height / 2})" text-anchor="middle">'
        f"{html.escape(y_name)}</text>"
        f'<text x="{left}" y="{height - 24}">{x_low:.3g}</text>'
        f'<text x="{width - 15}" y="{height - 24}" text-anchor="end">{x_high:.3g}</text>'
        f'<text x="{left - 4}" y="{height - low}" text-anchor="end">{y_low:.3g}</text>'
        f'<text x="{left - 4}" y="22" text-anchor="end">{y_high:.3g}</text></svg>'
    )


def _truth_table(source: Source, chosen: list[int]) -> str:
    head = ("frame", "phi, deg", "wavelength, A", "sum of photons", "spots", "spots' photons", "best, A")
    rows = []
    for index in chosen:
        row, spots = source.truth(index)
        if row is None:
            return "<p>This file holds no truth.</p>"
        cells = [str(index), f"{row['phi_deg']:g}", f"{row['wavelength_A']:.6g}", f"{row['sum_photons']:.6g}"]
        if spots is None or not len(spots):
            cells += ["0" if spots is not None else "-", "-", "-"]
        else:
            cells += [str(len(spots)), f"{spots['photons'].sum():.6g}", f"{spots['resolution_A'].min():.2f}"]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return "<table><tr>" + "".join(f"<th>{name}</th>" for name in head) + "</tr>" + "".join(rows) + "</table>"
