"""What a simulator takes and refuses."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sample_experiments import same_in_python

from bragg_numba import Experiment, InputError, Simulator, StructureFactors

WIDE = np.zeros((20, 48), np.float32)


@pytest.mark.parametrize("bad", [np.zeros((24, 20), np.float32), np.zeros((20, 24)), WIDE[:, ::2]])
def test_an_array_that_cannot_take_the_frame_is_refused(bad):
    with pytest.raises(InputError, match="out must be"):
        Simulator(same_in_python()).render(out=bad)


# --- several threads, one simulator ---------------------------------------------------------------


def small(interpolate: bool = False) -> Experiment:
    words = "-cell 60 70 80 90 90 90 -default_F 100 -N 4 -detpixels_f 48 -detpixels_s 20 -pixel 0.4 -distance 50"
    words += " -oversample 1 -mosaic 1 -mosaic_dom 3"
    experiment = Experiment.from_nanobragg(f"{words} -interpolate" if interpolate else words)
    indices = np.mgrid[-4:5, -4:5, -4:5].reshape(3, -1).T.astype(np.int32)
    return experiment.replace(
        structure_factors=StructureFactors(indices=indices, amplitudes=1.0 + np.arange(len(indices)), default_F=0.5)
    )


@pytest.mark.parametrize("interpolate", [False, True])
def test_threads_that_share_a_simulator_get_their_own_frames_and_statistics(interpolate):
    alone, shared = (Simulator(small(interpolate), backend="cpu") for _ in range(2))
    whole, wanted = alone.render(), alone.statistics
    assert any("interpolations" in note for note in alone.notes) == interpolate
    begin = threading.Barrier(8)

    def use(number):
        if number < 8:
            begin.wait()  # the first kernels of a simulator are fetched when it renders
        out = np.full(shared.shape, number, np.float32) if number % 2 else None
        return out, shared.render(out=out), shared.statistics, shared.notes

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(use, range(64)))

    for out, image, statistics, notes in found:
        assert out is None or image is out
        np.testing.assert_array_equal(image, whole)
        assert statistics == wanted
        assert notes == alone.notes


def test_statistics_are_those_of_the_thread_that_asks():
    simulator = Simulator(small(), backend="cpu")
    photons = simulator.render()
    changed = simulator.statistics.sum

    def other():
        out = simulator.render()
        out *= np.float32(3)  # not yet looked at: statistics are made of the frame when they are asked for
        return simulator.statistics.sum

    with ThreadPoolExecutor(1) as pool:
        tripled = pool.submit(other).result()

    assert tripled == pytest.approx(3 * photons.sum(dtype=float), rel=1e-6)
    assert simulator.statistics.sum == changed


def test_a_thread_that_rendered_nothing_sees_the_last_frame_of_any():
    simulator = Simulator(small(), backend="cpu")
    with pytest.raises(InputError, match="needs a rendered frame"):
        _ = simulator.statistics
    with ThreadPoolExecutor(1) as pool:
        image = pool.submit(simulator.render).result()

    assert simulator.statistics.max == image.max()
