"""What a comparison of two images sees, and what it must not overlook."""

import json
import math
import tracemalloc

import numpy as np
import pytest

from bragg_numba.errors import InputError
from bragg_numba.lab.parity.images import load_image, resample
from bragg_numba.lab.parity.metrics import compare_images

THRESHOLD = 0.9999


def spots(shape=(256, 320), count=60, seed=3, shift=(0.0, 0.0), background=0.0):
    """Gaussian spots of several heights on a flat background."""
    rng = np.random.default_rng(seed)
    image = np.full(shape, background, dtype=np.float64)
    for _ in range(count):
        s, f, height = rng.uniform(8, shape[0] - 8), rng.uniform(8, shape[1] - 8), rng.uniform(10, 1000)
        window = slice(int(s) - 8, int(s) + 8), slice(int(f) - 8, int(f) + 8)
        slow, fast = np.ogrid[window]
        square = (slow - s - shift[0]) ** 2 + (fast - f - shift[1]) ** 2
        image[window] += height * np.exp(-square / (2 * 1.5**2))
    return image.astype(np.float32)


def test_an_image_agrees_with_itself_in_every_measure():
    image = spots()

    found = compare_images(image, image)

    assert found.passes(1.0)
    assert (found.correlation, found.mse, found.sum_ratio, found.fraction_within) == (1.0, 0.0, 1.0, 1.0)
    assert found.worst_tile.correlation == 1.0
    assert (found.peaks.unmatched_reference, found.peaks.unmatched_ours, found.peaks.max_shift) == (0, 0, 0.0)


def test_the_measures_of_the_frame_are_those_of_numpy():
    rng = np.random.default_rng(1)
    a = 1e4 + rng.normal(size=(150, 203))
    b = a + 0.1 * rng.normal(size=a.shape)

    found = compare_images(a, b)

    # The moments are sums of 3e4 terms about means that are exact to 1e-12: 1e-10 holds with room.
    assert found.correlation == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1], rel=1e-10)
    assert found.mse == pytest.approx(np.mean((a - b) ** 2), rel=1e-10)
    assert found.sum_ratio == pytest.approx(b.sum() / a.sum(), rel=1e-12)
    place = np.unravel_index(np.argmax(np.abs(a - b)), a.shape)
    assert found.max_difference_at == tuple(int(i) for i in place)


@pytest.mark.parametrize("edge", ["zero", "noise", "shifted", "twice as bright"])
def test_a_perfect_centre_with_a_wrong_edge_fails(edge):
    reference = spots((512, 512), count=250, background=0.5)
    reference[240:272, 240:272] += 1e7  # a direct beam that outshines everything
    ours = reference.copy()
    strip = np.s_[:, 448:]
    ours[strip] = {
        "zero": 0.0,
        "noise": np.random.default_rng(0).uniform(0, 5, reference[strip].shape),
        "shifted": np.roll(reference, 3, axis=0)[strip],
        "twice as bright": 2 * reference[strip],
    }[edge]

    found = compare_images(reference, ours)

    assert found.correlation > 0.999999  # what a frame alone would say
    assert compare_images(reference[128:384, 128:384], ours[128:384, 128:384]).passes(1.0)
    assert not found.passes(THRESHOLD)
    assert found.worst_tile.fast == (448, 512)
    assert "though the frame correlates" in found.verdict(THRESHOLD)


def test_one_wrong_row_of_pixels_beside_a_bright_peak_fails():
    reference = spots(background=1.0)
    reference[16, 16] = 1e4
    ours = reference.copy()
    ours[0, :40] = 0.0

    assert not compare_images(reference, ours).passes(THRESHOLD)


def test_rounding_noise_on_a_flat_background_raises_no_alarm():
    rng = np.random.default_rng(5)
    reference = np.full((256, 256), 7.0)
    reference[100:140, 100:140] += spots((40, 40), count=3)
    ours = reference * (1 + 1e-6 * rng.normal(size=reference.shape))

    found = compare_images(reference, ours)

    assert min(tile.pearson for tile in found.tiles) < 0.5  # noise against no structure
    assert found.passes(0.9999999)


def test_empty_tiles_agree_with_empty_tiles():
    reference = np.zeros((256, 256), dtype=np.float32)
    reference[:60, :60] = spots((60, 60), count=4)

    assert compare_images(reference, reference.copy()).passes(1.0)
    ours = reference.copy()
    ours[200, 200] = 1e-3
    assert compare_images(reference, ours).worst_tile.slow == (192, 224)


def test_a_wrong_scale_fails_although_it_correlates():
    image = spots()

    found = compare_images(image, image * np.float32(1e9))

    assert found.correlation == pytest.approx(1.0, abs=1e-6)
    assert found.sum_ratio == pytest.approx(1e9, rel=1e-6)
    assert not found.passes(THRESHOLD)


@pytest.mark.parametrize(
    ("ours", "correlation"),
    [(5.0, 1.0), (6.0, 0.0)],
)
def test_constant_images_correlate_only_when_equal(ours, correlation):
    found = compare_images(np.full((40, 40), 5.0), np.full((40, 40), ours))

    assert found.correlation == correlation


def test_a_constant_image_does_not_correlate_with_a_structured_one():
    assert compare_images(spots(), np.ones((256, 320))).correlation == 0.0
    assert compare_images(np.zeros((256, 320)), spots()).correlation == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["reference", "ours", "both"])
def test_a_pixel_that_is_not_finite_is_reported_and_never_forgiven(bad, side):
    reference, ours = spots(), spots()
    if side != "ours":
        reference[200, 17] = bad
    if side != "reference":
        ours[200, 17] = bad

    found = compare_images(reference, ours)

    assert found.not_finite_reference == (side != "ours")
    assert found.not_finite_ours == (side != "reference")
    assert found.not_finite_at == (200, 17)
    assert found.correlation == 0.0
    assert found.worst_tile.not_finite >= 1
    assert not found.passes(-1.0)
    assert "not finite" in found.verdict(0.5)
    json.dumps(found.as_dict(), allow_nan=False)


def test_images_of_nothing_but_nan_are_reported():
    found = compare_images(np.full((20, 20), np.nan), np.full((20, 20), np.nan))

    assert found.not_finite_ours == 400
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_shift_of_the_spots_is_measured_in_pixels():
    found = compare_images(spots(), spots(shift=(0.4, -0.3)))

    # Within a 5 x 5 window the centroid of a Gaussian follows its shift to a tenth or two of it.
    assert found.peaks.matched > 40
    assert found.peaks.median_shift == pytest.approx(0.5, abs=0.1)
    assert found.peaks.median_shift_slow_fast == pytest.approx((0.4, -0.3), abs=0.08)


def test_a_lost_spot_and_a_new_spot_are_counted():
    reference, ours = np.zeros((2, 200, 200))
    for image, places in ((reference, [(20, 20), (90, 90)]), (ours, [(20, 22), (150, 60)])):
        for place in places:
            image[place] = 100.0

    peaks = compare_images(reference, ours).peaks

    assert (peaks.matched, peaks.unmatched_reference, peaks.unmatched_ours) == (1, 1, 1)
    assert peaks.max_shift == pytest.approx(2.0)


def test_a_plateau_is_one_peak():
    image = np.zeros((100, 100))
    image[50:52, 50:53] = 9.0

    assert compare_images(image, image).peaks.matched == 1


def test_places_of_a_region_are_places_in_the_frame():
    reference = spots()
    ours = reference.copy()
    ours[100, 201] += 50.0

    found = compare_images(reference[80:, 150:], ours[80:, 150:], origin=(80, 150))

    assert found.max_difference_at == (100, 201)
    assert found.worst_tile.slow[0] <= 100 < found.worst_tile.slow[1]
    assert found.worst_tile.fast[0] <= 201 < found.worst_tile.fast[1]


def test_tiles_cover_every_pixel_once():
    found = compare_images(np.zeros((131, 77)), np.zeros((131, 77)))

    area = sum((t.slow[1] - t.slow[0]) * (t.fast[1] - t.fast[0]) for t in found.tiles)
    assert area == 131 * 77
    assert found.tile_grid == (8, 4)
    assert compare_images(np.zeros((1, 1)), np.zeros((1, 1))).tile_grid == (1, 1)


def test_a_comparison_is_json():
    reference = np.zeros((32, 32))

    text = json.dumps(compare_images(reference, reference + np.eye(32)).as_dict(), allow_nan=False)

    assert json.loads(text)["sum_ratio"] is None  # infinite


def test_a_comparison_makes_no_float64_copy_of_a_frame():
    image = np.random.default_rng(0).random((2048, 2048), dtype=np.float32)
    tracemalloc.start()

    compare_images(image, image)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * image.size  # one float64 copy


def test_images_of_different_shapes_are_refused():
    with pytest.raises(InputError, match="shape"):
        compare_images(np.zeros((4, 5)), np.zeros((5, 4)))
    with pytest.raises(InputError, match="two dimensions"):
        compare_images(np.zeros(4), np.zeros(4))


def test_resampling_loses_no_photon():
    image = spots((60, 90))

    for shape in ((30, 45), (60, 90), (77, 31), (120, 180)):
        result = resample(image, shape)
        assert result.shape == shape
        assert result.sum() == pytest.approx(image.sum(dtype=float), rel=1e-12)
    halves = image.astype(float).reshape(30, 2, 45, 2).sum(axis=(1, 3))
    np.testing.assert_allclose(resample(image, (30, 45)), halves, atol=1e-9 * halves.max())


def smv_bytes(image):
    header = f"{{\nHEADER_BYTES=512;\nBYTE_ORDER=little_endian;\nTYPE=unsigned_short;\nSIZE1={image.shape[1]};\n"
    header += f"SIZE2={image.shape[0]};\n}}\f"
    return header.ljust(512).encode() + image.astype("<u2").tobytes()


def test_every_kind_of_file_gives_the_same_image(tmp_path):
    import h5py

    image = np.arange(600, dtype=np.float32).reshape(20, 30)
    image.tofile(tmp_path / "a.bin")
    np.save(tmp_path / "a.npy", image)
    (tmp_path / "a.img").write_bytes(smv_bytes(image))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["/entry/data/data"] = image[None]
        file["/elsewhere/flat"] = image

    np.testing.assert_array_equal(load_image(tmp_path / "a.bin", (20, 30)), image)
    for name in ("a.npy", "a.img", "a.h5", "a.h5::/elsewhere/flat"):
        np.testing.assert_array_equal(load_image(f"{tmp_path}/{name}"), image)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.bin", b"\0" * 24),
        ("a.bin", b"\0" * 13),
        ("a.bin", b""),
        ("a.img", smv_bytes(np.zeros((4, 4)))[:-2]),
        ("a.img", b"{\nHEADER_BYTES=abc;SIZE1=2;SIZE2=2;}" + b" " * 600),
        ("a.img", b"{\nHEADER_BYTES=512;\n}" + b" " * 600),
        ("a.npy", b"\x93NUMPY garbage"),
        ("a.h5", b"\x89HDF\r\n\x1a\n garbage"),
    ],
)
def test_a_file_that_holds_no_image_is_refused_in_a_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(InputError, match=name):
        load_image(tmp_path / name)
    with pytest.raises(InputError, match="could not be read"):
        load_image(tmp_path / "absent.bin")
