"""Photon images as nanoBragg's 16-bit and 8-bit integers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

__all__ = ["pgm_bytes", "scaled_integers"]

Roi = tuple[int, int, int, int]

# Pixels in float64 at a time, so that a large frame does not need several float64 copies of itself.
_CHUNK_PIXELS = 1 << 18


def scaled_integers(
    photons: np.ndarray, scale: float, adc: float, roi: Roi | None, max_photons: float
) -> tuple[np.ndarray, float]:
    """Return photons * scale + adc, rounded to 16 bits as nanoBragg rounds.

    Parameters
    ----------
    photons
        (slow, fast) float32.
    scale
        Integer units per photon; 0 or less chooses 55000 / ``max_photons``.
    adc
        Offset of every pixel inside the region.
    roi
        (xmin, xmax, ymin, ymax) in pixels, both ends included, x along fast; pixels outside are 0. None: all.
    max_photons
        Largest pixel that was rendered; used for the automatic scale only.

    Returns
    -------
    tuple
        (slow, fast) uint16 image and the scale that was used.
    """
    if scale <= 0.0:
        scale = 55000.0 / max_photons if max_photons > 0.0 else 1.0
    image = np.zeros(photons.shape, dtype=np.uint16)
    for part in _parts(photons.shape, roi):
        values = photons[part].astype(np.float64)
        values *= scale
        values += adc
        _clip(values, 65535.0)
        values += 0.5
        # C rounds the sum to float32 before it takes the floor: values next to a whole number may go up.
        image[part] = np.floor(values.astype(np.float32))
    return image, scale


def pgm_bytes(
    photons: np.ndarray, pgm_scale: float, int_scale: float, rmsd: float, roi: Roi | None
) -> tuple[bytes, float]:
    """Return an 8-bit PGM file and the scale that was used.

    Parameters
    ----------
    photons
        (slow, fast) float32.
    pgm_scale
        Grey levels per photon; 0 or less chooses 250 / (5 ``rmsd``), or ``int_scale`` where ``rmsd`` is 0.
    int_scale
        The scale of the 16-bit image.
    rmsd
        Root-mean-square deviation from the mean, photons.
    roi
        (xmin, xmax, ymin, ymax) in pixels, both ends included; pixels outside are 0. None: all.
    """
    if pgm_scale <= 0.0:
        pgm_scale = 250.0 / (5.0 * rmsd) if rmsd > 0.0 else int_scale
    image = np.zeros(photons.shape, dtype=np.uint8)
    for part in _parts(photons.shape, roi):
        values = photons[part].astype(np.float64)
        values *= pgm_scale
        _clip(values, 255.0)
        image[part] = values  # the assignment truncates, as C's conversion does
    n_slow, n_fast = photons.shape
    header = f"P5\n{n_fast} {n_slow}\n# pixels scaled by {pgm_scale:g}\n255\n"
    return header.encode("ascii") + image.tobytes(), pgm_scale


def _parts(shape: tuple[int, ...], roi: Roi | None) -> Iterator[tuple[slice, slice]]:
    """Yield the region of interest as blocks of whole rows."""
    n_slow, n_fast = shape
    xmin, xmax, ymin, ymax = (0, n_fast - 1, 0, n_slow - 1) if roi is None else roi
    columns = slice(max(xmin, 0), max(min(xmax + 1, n_fast), 0))
    stop = min(ymax + 1, n_slow)
    rows = max(1, _CHUNK_PIXELS // max(n_fast, 1))
    for first in range(max(ymin, 0), stop, rows):
        yield slice(first, min(first + rows, stop)), columns


def _clip(values: np.ndarray, largest: float) -> None:
    """Clip to 0..largest in place; a NaN becomes 0, as it must become something."""
    np.fmax(values, 0.0, out=values)
    np.fmin(values, largest, out=values)
