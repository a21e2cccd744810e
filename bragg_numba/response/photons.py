"""What a response takes: an image of expected photons, and what is noted of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bragg_numba.errors import InputError


class Drawn(NamedTuple):
    """What is known of a frame after its counts were drawn."""

    photons: float  #: expected ones, in all pixels together, before ``scale``
    most: float  #: expected in one pixel
    overloads: int  #: pixels whose count was above ``top``


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


def is_on_device(photons) -> bool:
    """Tell whether photons lie in the memory of a GPU."""
    if isinstance(photons, np.ndarray):
        return False
    from bragg_numba.render.devices import is_device_array

    return is_device_array(photons)
