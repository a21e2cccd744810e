"""nanoBragg's photon noise against its own files."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from bragg_numba.errors import InputError
from bragg_numba.plan.classic_stream import ClassicStream
from bragg_numba.response.classic import noise_image

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "golden.h5"
NOISY = [
    "noise",
    "noise_strong",
    "water",
    "roi",
    "rectangular",
    "protein_sweep",
    "xds_org_rot",
    "adxv_beam_rot",
]


def option(argv: list[str], flag: str, count: int, default: list[float]) -> list[float]:
    """Return the numbers after ``flag``."""
    if flag not in argv:
        return default
    place = argv.index(flag)
    return [float(value) for value in argv[place + 1 : place + 1 + count]]


@pytest.mark.parametrize("case", NOISY)
def test_noise_image_has_the_bytes_that_nanobragg_wrote(case):
    with h5py.File(GOLDEN) as file:
        group = file[case]
        argv = json.loads(group.attrs["argv"])
        photons = group["image"][()]
        written = bytes(group["smv_noise"][()])
        stdout = bytes(group["stdout"][()]).decode()
    roi = option(argv, "-roi", 4, [])

    image, photon_sum, overloads = noise_image(
        photons,
        seed=int(option(argv, "-seed", 1, [1])[0]),
        adc=option(argv, "-adc", 1, [40.0])[0],
        roi=tuple(int(edge) for edge in roi) or None,
    )

    assert image.astype("<u2").tobytes() == written[512:]
    assert f"{photon_sum:.0f} photons on noise image ({overloads} overloads)" in stdout


def test_positive_seed_restarts_whatever_came_before():
    photons = np.full((4, 5), 30.0, dtype=np.float32)
    used = ClassicStream()
    used.misset_umat(3)
    used.mosaic_umats(0.1, 7, 4)

    assert np.array_equal(noise_image(photons, 9, stream=used)[0], noise_image(photons, 9)[0])


def test_negative_seed_goes_on_with_the_shared_table():
    photons = np.full((4, 5), 30.0, dtype=np.float32)
    used = ClassicStream()
    used.misset_umat(3)

    assert not np.array_equal(noise_image(photons, -9, stream=used)[0], noise_image(photons, -9)[0])


def test_photon_sum_leaves_the_offset_out_and_the_outside_of_the_region_stays_zero():
    photons = np.full((6, 8), 100.0, dtype=np.float32)
    image, photon_sum, overloads = noise_image(photons, 1, adc=10.0, roi=(2, 4, 1, 3))
    inside = np.zeros((6, 8), dtype=bool)
    inside[1:4, 2:5] = True

    assert photon_sum == image[inside].sum(dtype=float) - 10 * 9
    assert overloads == 0
    assert not image[~inside].any()


def test_overloads_are_counted_and_set_to_full_scale():
    image, _, overloads = noise_image(np.full((3, 3), 2e6, dtype=np.float32), 1)

    assert overloads == 9
    assert (image == 65535).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_photons_that_are_no_photons_are_refused(bad):
    photons = np.zeros((2, 3), dtype=np.float32)
    photons[1, 2] = bad
    with pytest.raises(InputError, match="slow 1, fast 2"):
        noise_image(photons, 1)


#: First 16 digits of the SHA-256 of nanoBragg.c's noise pixels, for means below 12 photons, which its compiler's
#: contraction of multiply-adds does not touch.
NOISE_OF_NEGATIVE_SEEDS = {-1: "af8c49d4b6bd5f15", -2: "0ec131c2e8207fb9", -77: "8680ff60f3d8628c"}


@pytest.mark.parametrize(("seed", "digest"), NOISE_OF_NEGATIVE_SEEDS.items())
def test_a_negative_seed_goes_on_with_what_the_mosaic_domains_left_as_in_the_c_program(seed, digest, tmp_path):
    import hashlib

    from bragg_numba.cli.nanobragg import main

    words = "-cell 100 100 100 90 90 90 -default_F 100 -N 5 -detpixels 64 -pixel 0.4 -fluence 4e26 -oversample 1"
    words += f" -mosaic 0.5 -mosaic_domains 7 -seed {seed} -noprogress -noisefile {tmp_path / 'noise.img'}"
    assert main(words.split()) == 0

    pixels = (tmp_path / "noise.img").read_bytes()[512:]
    assert hashlib.sha256(pixels).hexdigest()[:16] == digest


def test_a_negative_offset_leaves_no_count_below_0():
    photons = np.full((4, 4), 3.0, dtype=np.float32)
    image, photon_sum, _ = noise_image(photons, seed=1, adc=-5.0)
    plain, plain_sum, _ = noise_image(photons, seed=1, adc=0.0)

    assert np.array_equal(image, np.maximum(plain.astype(int) - 5, 0))  # C's conversion wraps round to 65534
    assert photon_sum == plain_sum
