"""What a response takes: an image of expected photons."""

from __future__ import annotations

import numpy as np

from bragg_numba.errors import InputError


def check_photons(photons: np.ndarray) -> np.ndarray:
    """Return ``photons`` as a C-contiguous (slow, fast) float32 array of finite, non-negative numbers."""
    image = as_image(photons)
    if image.size and not (image.min() >= 0 and image.max() < np.inf):  # a NaN fails both
        bad = np.flatnonzero(~((image >= 0) & (image < np.inf)).ravel())[0]
        slow, fast = divmod(int(bad), image.shape[1])
        raise InputError(
            "photons",
            f"must be finite and not negative at slow {slow}, fast {fast}",
            float(image[slow, fast]),
        )
    return image


def as_image(photons) -> np.ndarray:
    """Return ``photons`` as a C-contiguous (slow, fast) float32 array, whatever its numbers are."""
    try:
        with np.errstate(over="ignore"):
            image = np.ascontiguousarray(photons, dtype=np.float32)
    except (TypeError, ValueError):
        raise InputError("photons", "must be an array of numbers", type(photons).__name__) from None
    if np.ndim(photons) != 2:
        raise InputError("photons", "must have two dimensions (slow, fast)", np.shape(photons))
    return image
