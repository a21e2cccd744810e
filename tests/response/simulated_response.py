"""What a detector makes of photons on a GPU against what it makes of those on the host.

tests/simulated_gpu.py runs the cases in numba's simulator, which runs a Python thread for each thread of a block, so
that frames are tiny; and on a device where there is one. On a device a logarithm may round otherwise: a count would
differ where a deviate lies within 1e-12 of a step.
"""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

if importlib.util.find_spec("numba_cuda") is None:
    pytest.skip("needs numba-cuda", allow_module_level=True)

from numba import cuda

from bragg_numba import InputError, Response
from bragg_numba.render import devices
from bragg_numba.response import cuda_recording, cuda_spread
from bragg_numba.response.counter import poisson

GPUS = ("simulator", "device")
pytestmark = pytest.mark.usefixtures("gpu")


def on_host(array) -> np.ndarray:
    """Return what lies on the device: an array of the simulator's, or CuPy's."""
    return array.copy_to_host() if hasattr(array, "copy_to_host") else array.get()


def test_counts_drawn_on_the_device_are_those_of_the_cpu():
    photons = np.random.default_rng(5).gamma(0.3, 200.0, (7, 9)).astype(np.float32)
    drawn = poisson(cuda.to_device(photons), seed=2**40 + 3, frame=6, first_row=11)

    assert devices.is_device_array(drawn)
    np.testing.assert_array_equal(on_host(drawn), poisson(photons, seed=2**40 + 3, frame=6, first_row=11))


CHIPS = {"chip_pixels": (5, 4), "module_pixels": (12, 10)}
DETECTORS = {
    "ideal": {},
    "eiger2": {"virtual_pixels": "split", "dead_pixels": 0.1, "hot_pixels": 0.1, **CHIPS},
    "pilatus3": {"virtual_pixels": "split", "point_spread": "gauss", "point_spread_um": 150.0, **CHIPS},
    "jungfrau": {"flicker": 0.1, "virtual_pixels": "split", **CHIPS},
    "agipd": {"virtual_pixels": "mask", **CHIPS},
    "epix10k": {"dead_pixels": 0.2},
    "rayonix": {"hot_pixels": 0.1},
    "noisify": {},
}


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_says_of_photons_on_the_device_what_it_says_of_those_on_the_host(name):
    response = Response.preset(name, photon_keV=9.5, **DETECTORS[name])
    photons = np.random.default_rng(5).gamma(0.3, 3e3, (11, 14)).astype(np.float32)
    photons[2, 3], photons[6] = 3e6, 0.02
    mask = np.arange(154).reshape(photons.shape) % 7 != 3
    where = {"exposure_s": 1e-3, "pixel_um": 100.0, "scale": 1.5, "mask": mask}
    seen = response.record(cuda.to_device(photons), 2**40 + 3, 6, **where)
    expected = response.record(photons, 2**40 + 3, 6, **where)

    assert devices.is_device_array(seen.counts)
    assert seen.counts.dtype == np.uint32
    assert (seen.photons, seen.most) == (expected.photons, expected.most)
    assert seen.spread_away == pytest.approx(expected.spread_away, rel=1e-9, abs=0.1)
    other_transform = response.point_spread is not None and cuda_spread.is_possible()
    # CuPy's rounds otherwise, which moves a count or a digit here and there.
    off = np.abs(on_host(seen.counts).astype(float) - expected.counts)
    assert (off > 0).sum() <= 2 * other_transform
    assert off.max() <= 2.0 * other_transform
    assert seen.overloads == expected.overloads
    on_the_host = response.point_spread is not None and not other_transform
    assert seen.notes == (cuda_recording.ON_HOST,) * on_the_host


def test_a_tile_of_a_frame_on_the_device_is_that_of_the_frame():
    photons = np.random.default_rng(6).gamma(0.3, 300.0, (9, 14)).astype(np.float32)
    response = Response.preset("jungfrau", dead_pixels=0.1)
    tile = response.apply(cuda.to_device(photons[4:]), 3, first_row=4, mask=cuda.to_device(photons[4:] > 1))
    np.testing.assert_array_equal(on_host(tile), response.apply(photons, 3, mask=photons > 1)[4:])


def test_what_a_response_cannot_take_on_the_device_is_refused():
    photons = cuda.to_device(np.ones((3, 4), dtype=np.float32))
    with pytest.raises(InputError, match="out must be left out for photons on a device"):
        Response().apply(photons, 1, out=np.empty((3, 4), np.uint32))
    with pytest.raises(InputError, match="photons must be C-contiguous float32 of two dimensions"):
        Response().apply(cuda.to_device(np.ones((3, 4))), 1)
    with pytest.raises(InputError, match="photons must be finite and not negative"):
        Response().apply(cuda.to_device(np.full((3, 4), 1e30, np.float32)), 1, scale=1e20)
    with pytest.raises(InputError, match="mask must have the shape of photons"):
        Response().apply(photons, 1, mask=np.ones((4, 3), dtype=bool))


@pytest.mark.parametrize("bad", [np.nan, -1.0, np.inf])
def test_noise_on_the_device_refuses_what_is_no_number_of_photons(bad):
    photons = np.ones((3, 4), dtype=np.float32)
    photons[1, 2] = bad
    with pytest.raises(InputError, match="must be finite and not negative"):
        poisson(cuda.to_device(photons), seed=1)
