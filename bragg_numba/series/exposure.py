"""Frames that no one can want, saturated or empty ones, as sentences."""

from __future__ import annotations

import numpy as np

from bragg_numba.io.nxmx import SATURATION, Description


def notes_of_series(
    series, description: Description, counts: str | None, overloads: np.ndarray, expected: np.ndarray
) -> list[str]:
    """``exposure_notes`` of a series, as its files describe their frames."""
    return exposure_notes(
        overloads=overloads,
        expected=expected,
        pixels=int(np.count_nonzero(description.pixel_mask == 0)),
        counts=counts,
        dark=dark_frames(series),
        most=None if description.recorded is None else description.largest_valid,
    )


def exposure_notes(
    *,
    overloads: np.ndarray,
    expected: np.ndarray,
    pixels: int,
    counts: str | None,
    dark: np.ndarray,
    most: int | None = None,
) -> list[str]:
    """Say how many frames of a series are mostly saturated, and how many are empty; a sentence each, or none.

    Parameters
    ----------
    overloads
        (n,) pixels of each frame whose count lies above the largest valid one.
    expected
        (n,) counts to be expected in all pixels of a frame together; photons where no counts are drawn.
    pixels
        Pixels of a frame that were rendered.
    counts
        "uint16" or "uint32"; None: photons alone, which do not saturate.
    dark
        (n,) bool: frames that are meant to be empty.
    most
        The largest valid value of a detector; None: where ``counts`` ends.
    """
    notes, n = [], len(expected)
    full = np.flatnonzero(2 * overloads > pixels)
    if counts is not None and len(full):
        first = int(full[0])
        ends = most is None or most == SATURATION[counts] - 1
        limit = f"{SATURATION[counts]}, where {counts} ends" if ends else f"{most}, where the detector ends"
        wider = ", or write uint32" if counts == "uint16" and ends else ""
        notes.append(
            f"{len(full)} of {n} frames are saturated in more than half of their pixels: the first is frame {first}, "
            f"where {overloads[first]} of {pixels} pixels have more counts than {limit}; "
            f"lower the fluence or the scale{wider}"
        )
    # Photons may be as few as one likes, but a frame without a single count says nothing.
    empty = np.flatnonzero(((expected < 1.0) if counts is not None else (expected == 0.0)) & ~dark)
    if len(empty):
        first = int(empty[0])
        what = "counts" if counts is not None else "photons"
        notes.append(
            f"{len(empty)} of {n} frames are empty: the first is frame {first}, where {expected[first]:.3g} {what} are "
            f"expected in all {pixels} pixels together; look at fluence, structure factors, resolution and geometry"
        )
    return notes


def dark_frames(series) -> np.ndarray:
    """Tell which frames of a series get no beam or hit no crystal, as its table says: (n,) bool."""
    table = series.frames
    dark: np.ndarray = table.lattices == 0
    if series.experiment.lattices == () and not table.has_lattices:
        dark = ~dark
    if "fluence_per_m2" in table:
        dark = dark | (table["fluence_per_m2"] == 0.0)
    return dark
