"""Files of frames for tests of the viewer: some rendered, some made up."""

from __future__ import annotations

import numpy as np
from sample_panels import crooked, lit

from bragg_numba import Background, Experiment, Sampling, rotation_series
from bragg_numba.io.frame_file import write_frame

#: As in tests/series/test_background.py, whose kernels it shares: little water, a tilted detector, a region.
WET = (
    "-cell 50 60 70 80 95 105 -default_F 100 -N 5 -fluence 1e28 -lambda 1.1 -detpixels_x 50 -detpixels_y 40 "
    "-pixel 0.5 -distance 120 -detector_roty 8 -oversample 2 -roi 2 49 0 39 -water 0.3 "
)


def write_wet_series(folder) -> None:
    """Four frames with water and glass, photons and counts: ``s_photons/s_master.h5`` and ``s_counts_master.h5``."""
    experiment = Experiment.from_nanobragg(WET)
    stol, amplitudes = np.array([0.0, 0.1, 0.25, 0.5]), np.array([2.0, 5.0, 8.0, 3.0])
    glass = Background(stol_per_A=stol, F=amplitudes, molecules=1e5, name="<glass>")
    series = rotation_series(experiment.replace(backgrounds=(glass,)), 10.0, 0.5, 4)
    series.write(folder / "s", counts="uint16", seed=7, precision="float64", spot_threshold=1e-3)


def made_up(shape: tuple[int, int], seed: int = 1) -> np.ndarray:
    """An image of photons whose pixels all differ, some of them 0, (slow, fast) float32."""
    rng = np.random.default_rng(seed)
    image = rng.exponential(3.0, shape).astype(np.float32)
    image[rng.random(shape) < 0.2] = 0.0
    return image


def flat(n_fast: int, n_slow: int, words: str = "") -> Experiment:
    """A crystal before a flat detector."""
    line = f"-cell 50 60 70 80 95 105 -default_F 100 -N 5 -lambda 1.1 -pixel 0.2 -distance 80 {words}"
    return Experiment.from_nanobragg(f"{line} -detpixels_x {n_fast} -detpixels_y {n_slow}")


def of_panels() -> Experiment:
    """Four crooked panels with gaps between them."""
    return lit(crooked(), sampling=Sampling(oversample=1))


def write(path, image: np.ndarray, experiment: Experiment):
    """Write a frame file and return its path as text."""
    write_frame(path, image, experiment.to_json())
    return str(path)
