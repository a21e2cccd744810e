"""Counts of the frames of a series from their expected photons: those of the series, or of one epoch of training."""

from __future__ import annotations

import numpy as np

from bragg_numba.io.nxmx import SATURATION
from bragg_numba.response.counter import Drawn, draw_counts
from bragg_numba.series.options import OutputOptions
from bragg_numba.series.recorder import recorder_of
from bragg_numba.series.series_plan import SeriesPlan

_WORD = 2**64 - 1


class Noise:
    """Draws the counts of a series, in one epoch or many; they follow from seed, epoch, frame and pixel alone.

    Parameters
    ----------
    series
        Whose frames they are; their column ``seed`` counts where no seed is given.
    options
        Scale, detector, and the seed of frames that have none.
    seed
        Of all frames; None: theirs.
    """

    def __init__(self, series: SeriesPlan, options: OutputOptions, seed: int | None = None) -> None:
        self._series, self._scale = series, options.scale
        self._seed = options.seed if seed is None else seed
        self._of_frames = series.frames["seed"] if "seed" in series.frames and seed is None else None
        self._recorder = recorder_of(series, options.response)

    def seed(self, index: int, epoch: int = 0) -> int:
        """The seed of a frame in an epoch; in epoch 0 that with which the series is written."""
        own = self._seed if self._of_frames is None else int(self._of_frames[index])
        return own ^ _scrambled(epoch)

    def draw(self, photons: np.ndarray, counts: np.ndarray, index: int, epoch: int = 0) -> Drawn:
        """Draw the counts of frame ``index``, (slow, fast) uint16 or uint32, from its expected photons, float32.

        They are what the detector says, where there is one, and are cut at their type's ``SATURATION``.
        """
        seed, number, top = self.seed(index, epoch), self._series.number_of(index), SATURATION[counts.dtype.name]
        if self._recorder is not None:
            return self._recorder.draw(photons, seed, number, counts, top=top, scale=self._scale)
        return draw_counts(photons, seed, number, counts, top=top, scale=self._scale)


def scale_background(photons: np.ndarray, background: np.ndarray, factor: float) -> None:
    """Multiply what of a frame's photons, (slow, fast) float32, is ``background`` by a factor, in place."""
    # Photons are Bragg + background; rounding may leave less than nothing of the Bragg part.
    photons += np.float32(factor - 1.0) * background
    np.maximum(photons, 0.0, out=photons)


def _scrambled(number: int) -> int:
    """A number of 64 bits all of whose bits depend on all of ``number``'s; 0 for 0, and no two alike.

    The finalizer of SplitMix64 (Steele, Lea and Flood, 2014): a bijection, so that a seed has different keys in all
    epochs.
    """
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _WORD
    return number ^ (number >> 31)
