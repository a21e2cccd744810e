"""nanoBragg's generator of orientations and mosaic domains against its own output."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from bragg_numba.kernels.random import classic as classic_random

from bragg_numba.errors import InputError
from bragg_numba.plan.classic_stream import ClassicStream, missetting_angles

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "golden.h5"


def test_random_orientation_has_the_angles_that_nanobragg_printed():
    with h5py.File(GOLDEN) as file:
        stdout = bytes(file["misset_random/stdout"][()]).decode()

    x, y, z = np.degrees(ClassicStream().misset_angles(54321))

    assert f"random orientation misset angles: {x:f} {y:f} {z:f} deg" in stdout


def test_generator_passes_the_check_of_park_and_miller():
    # From 1, the ten-thousandth state of the minimal standard is 1043618065.
    state = 1
    for _ in range(10_000):
        state = classic_random._advance(state)

    assert state == 1043618065


def test_missetting_angles_rebuild_the_rotation():
    stream = ClassicStream()
    for seed in range(1, 20):
        umat = stream.misset_umat(seed)
        (cx, cy, cz), (sx, sy, sz) = np.cos(missetting_angles(umat)), np.sin(missetting_angles(umat))
        about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])

        np.testing.assert_allclose(about_z @ about_y @ about_x, umat, rtol=0, atol=32 * np.finfo(float).eps)


def test_missetting_angles_of_a_right_angle_about_y_follow_the_convention_of_c():
    umat = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])

    assert missetting_angles(umat)[:2] == (np.pi, np.pi / 2)


def test_mosaic_domains_are_rotations_within_the_cap_and_the_first_is_aligned():
    spread = np.radians(1.5)
    umats = ClassicStream().mosaic_umats(spread, 500, 777)
    angles = np.arccos(np.clip((np.trace(umats, axis1=1, axis2=2) - 1) / 2, -1, 1))

    assert np.array_equal(umats[0], np.eye(3))
    np.testing.assert_allclose(umats @ umats.swapaxes(1, 2), np.broadcast_to(np.eye(3), umats.shape), atol=1e-14)
    assert angles.max() <= spread * (1 + 2 * np.finfo(np.float32).eps)
    assert angles.max() > 0.99 * spread


def test_aligned_first_domain_still_uses_up_its_deviates():
    two, three = (ClassicStream().mosaic_umats(0.01, domains, 5) for domains in (2, 3))

    assert np.array_equal(two[1], three[1])
    assert not np.array_equal(two[1], ClassicStream().mosaic_umats(0.01, 1, 5)[0])


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1, -(2**31) + 1])
def test_extreme_seeds_give_deviates_in_the_unit_interval(seed):
    state = classic_random.classic_state()
    classic_random.start_stream(state, seed)

    assert all(0 <= classic_random.uniform(state) < 1 for _ in range(1000))


def test_spare_normal_deviate_is_handed_out_next():
    state = classic_random.classic_state()
    classic_random.start_stream(state, 1)
    deviates = np.array([classic_random.gaussian(state) for _ in range(4000)])

    # 4 standard errors of the mean and of the variance of 4000 normal deviates.
    assert abs(deviates.mean()) < 4 / np.sqrt(4000)
    assert abs(deviates.var() - 1) < 4 * np.sqrt(2 / 4000)


@pytest.mark.parametrize("seed", [2**31, -(2**31), 1.5, "one", np.nan])
def test_seeds_that_c_cannot_hold_are_refused(seed):
    with pytest.raises(InputError, match="seed"):
        ClassicStream().misset_umat(seed)
