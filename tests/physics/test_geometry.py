"""Where pixels stand: solid angles, conventions, pivots, beam centres, curved detectors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from bragg_numba.kernels import physics

from bragg_numba import Beam, Crystal, Detector, Experiment, InputError, Sampling, Simulator, StructureFactors
from bragg_numba.experiment.placing import place_detector
from bragg_numba.experiment.vectors import rotate_about
from bragg_numba.plan.plan import make_plan

EPS = float(np.finfo(np.float64).eps)
EPS32 = float(np.finfo(np.float32).eps)
CONVENTIONS = ("mosflm", "denzo", "adxv", "xds", "dials")


def detected(*, fidelity="nanobragg", beam=None, oversample=1, **detector) -> Experiment:
    """One unit cell with F = 1: its image is the solid angle of every pixel, without polarization."""
    return Experiment(
        crystal=Crystal(cell=(50.0,)),
        beam=beam or Beam(polarized=False),
        detector=Detector(**detector),
        sampling=Sampling(oversample=oversample, interpolate=False),
        structure_factors=StructureFactors(default_F=1.0),
        fidelity=fidelity,
    )


def placed(line: str):
    """Return the detector's geometry for a command line."""
    return place_detector(Experiment.from_nanobragg("-cell 50 -default_F 1 -detpixels 100 " + line))


def beam_spot_px(detector) -> tuple[float, float]:
    """Intersect the direct beam with the detector's plane: (fast, slow) in pixels from the outer corner."""
    beam, normal, origin = (np.array(v) for v in (detector.beam, detector.normal, detector.origin))
    from_corner = beam * (origin @ normal) / (beam @ normal) - origin
    return (
        from_corner @ np.array(detector.fast) / detector.pixel_size,
        from_corner @ np.array(detector.slow) / detector.pixel_size,
    )


def near_point_px(detector) -> tuple[float, float]:
    origin = np.array(detector.origin)
    return (
        -(origin @ np.array(detector.fast)) / detector.pixel_size,
        -(origin @ np.array(detector.slow)) / detector.pixel_size,
    )


# --- solid angle --------------------------------------------------------------------------------

FACES = [(0, 0, 0), (0, 90, 0), (0, 180, 0), (0, 270, 0), (0, 0, 90), (0, 0, -90)]


def face_of_a_cube(turn, pixels: int, **options) -> Experiment:
    return detected(
        n_fast=pixels,
        n_slow=pixels,
        pixel_mm=100.0 / pixels,
        close_distance_mm=50.0,
        pivot="sample",
        close_x_mm=50.0,
        close_y_mm=50.0,
        rotation_deg=turn,
        **options,
    )


def test_six_detectors_that_close_a_cube_subtend_the_whole_sphere():
    coarse, fine = (sum(Simulator(face_of_a_cube(turn, pixels)).solid_angle() for turn in FACES) for pixels in (40, 80))
    # The midpoint rule's error falls with the square of the pixel: Richardson removes it to fourth order.
    assert (4 * fine - coarse) / 3 == pytest.approx(4 * math.pi, rel=(1 / 40) ** 4 * 10)
    assert abs(fine - 4 * math.pi) == pytest.approx(abs(coarse - 4 * math.pi) / 4, rel=0.02)


def test_photons_of_an_isotropic_scatterer_on_a_closed_cube_are_its_strength_times_four_pi():
    totals = [
        sum(
            Simulator(face_of_a_cube(turn, 20, fidelity="physical", oversample=n)).render().sum(dtype=float)
            for turn in FACES
        )
        for n in (2, 4)
    ]
    # As above, with sub-pixels in the place of pixels; 2400 pixels are rounded to float32.
    assert (4 * totals[1] - totals[0]) / 3 == pytest.approx(4 * math.pi, rel=(1 / 40) ** 4 * 10 + EPS32)


def rectangle_solid_angle(x0, x1, y0, y1, d) -> float:
    """Solid angle of a rectangle in the plane z = d, by the four corners' arctangents."""

    def corner(x, y):
        return math.atan2(x * y, d * math.sqrt(x * x + y * y + d * d))

    return corner(x1, y1) - corner(x0, y1) - corner(x1, y0) + corner(x0, y0)


def test_solid_angle_per_sub_pixel_converges_to_the_exact_one_of_a_rectangle():
    options = {"n_fast": 3, "n_slow": 3, "pixel_mm": 20.0, "distance_mm": 15.0, "convention": "xds"}
    exact = np.array(
        [
            [rectangle_solid_angle(20 * f - 30, 20 * f - 10, 20 * s - 30, 20 * s - 10, 15.0) for f in range(3)]
            for s in range(3)
        ]
    )
    errors = [
        np.abs(Simulator(detected(fidelity="physical", oversample=n, **options)).render() / exact - 1).max()
        for n in (8, 16, 32)
    ]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)  # second order in the sub-pixel
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)
    assert errors[2] < 1e-3
    first_sub_pixel = Simulator(detected(oversample=32, **options)).render()
    assert np.abs(first_sub_pixel / exact - 1).max() > 0.3  # what fidelity nanobragg keeps


# --- pivots and beam centres --------------------------------------------------------------------


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_an_unrotated_detector_does_not_change_with_the_pivot(convention):
    for centre in ("", "-Xbeam 3 -Ybeam 4", "-ORGX 20 -ORGY 31.5", "-Xclose 2 -Yclose 6"):
        by_beam, by_sample = (placed(f"-{convention} {centre} -pivot {pivot}") for pivot in ("beam", "sample"))
        assert np.allclose(by_beam.origin, by_sample.origin, rtol=0, atol=8 * EPS)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_pivot_beam_keeps_the_direct_beam_in_place(convention):
    still = placed(f"-{convention} -Xbeam 3 -Ybeam 4")
    turned = placed(f"-{convention} -Xbeam 3 -Ybeam 4 -pivot beam -twotheta 20 -detector_roty 7")
    assert beam_spot_px(turned) == pytest.approx(beam_spot_px(still), abs=1e-9)
    assert turned.true_distance == pytest.approx(0.1, rel=8 * EPS)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_pivot_sample_keeps_the_near_point_and_its_distance(convention):
    still = placed(f"-{convention} -ORGX 20 -ORGY 31.5")
    turned = placed(f"-{convention} -ORGX 20 -ORGY 31.5 -pivot sample -twotheta 20")
    assert near_point_px(turned) == pytest.approx(near_point_px(still), abs=1e-9)
    assert turned.close_distance == pytest.approx(0.1, rel=8 * EPS)


@pytest.mark.parametrize("convention", ["xds", "dials"])
def test_beam_centre_under_xds_and_dials_moves_the_direct_beam(convention):
    detector = placed(f"-{convention} -Xbeam 3 -Ybeam 4 -twotheta 10")
    assert detector.pivot == "beam"
    assert beam_spot_px(detector) == pytest.approx((30, 40), abs=1e-9)


@pytest.mark.parametrize("convention", ["mosflm", "denzo", "adxv"])
def test_xds_origin_under_other_conventions_moves_the_near_point(convention):
    detector = placed(f"-{convention} -ORGX 20 -ORGY 31.5 -twotheta 10")
    assert detector.pivot == "sample"
    assert near_point_px(detector) == pytest.approx((19.5, 31), abs=1e-9)
    assert detector.org_px == pytest.approx((20, 31.5), abs=1e-9)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_close_point_moves_the_near_point(convention):
    detector = placed(f"-{convention} -Xclose 2 -Yclose 6 -twotheta 10")
    assert detector.pivot == "sample"
    assert near_point_px(detector) == pytest.approx((20, 60), abs=1e-9)


@pytest.mark.parametrize("pivot", ["beam", "sample"])
def test_pivot_flag_wins_over_what_the_centre_implies(pivot):
    assert placed(f"-xds -Xbeam 3 -Ybeam 4 -pivot {pivot}").pivot == pivot
    assert placed(f"-mosflm -ORGX 30 -ORGY 40 -pivot {pivot}").pivot == pivot


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_distance_and_swing_do_not_change_the_pivot(convention):
    usual = placed(f"-{convention}").pivot
    assert placed(f"-{convention} -distance 90 -twotheta 5").pivot == usual
    assert placed(f"-{convention} -close_distance 90").pivot == usual


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_pix0_vector_puts_the_corner_of_the_first_pixel_there(convention):
    metres = {"xds": (-0.004, -0.003, 0.08), "dials": (-0.004, -0.003, 0.08), "adxv": (-0.004, 0.003, 0.08)}
    x, y, z = metres.get(convention, (0.08, 0.003, -0.004))
    detector = placed(f"-{convention} -pix0_vector {x} {y} {z}")
    plain = placed(f"-{convention}")
    assert detector.origin == (x, y, z)
    assert (detector.fast, detector.slow, detector.beam) == (plain.fast, plain.slow, plain.beam)
    assert detector.close_distance == pytest.approx(0.08, rel=4 * EPS)
    in_mm = placed(f"-{convention} -pix0_vector_mm {x * 1000} {y * 1000} {z * 1000}")
    assert in_mm.origin == pytest.approx(detector.origin, rel=4 * EPS)


@pytest.mark.parametrize(
    ("words", "axis", "normal"),
    [
        ("-pix0_vector_mm 80 3 -4", (0, 1, 0), (1, 0, 0)),
        ("-pix0_vector 0.08 0.003 -0.004", (0, 1, 0), (1, 0, 0)),
        ("-mosflm -pix0_vector_mm 80 3 -4", (0, 0, -1), (1, 0, 0)),
        ("-pix0_vector_mm 80 3 -4 -mosflm", (0, 0, -1), (1, 0, 0)),
        ("-xds -pix0_vector_mm -4 -3 80", (1, 0, 0), (0, 0, 1)),
    ],
)
def test_pix0_vector_takes_the_twotheta_axis_of_custom_vectors_unless_a_convention_is_named(words, axis, normal):
    """As the other vector flags, and as C, whose custom frame is MOSFLM's but for this axis."""
    detector = placed(f"-twotheta 5 {words}")
    assert detector.twotheta_axis == axis
    assert detector.normal == pytest.approx(rotate_about(axis, normal, math.radians(5)), abs=4 * EPS)


def test_first_pixel_stands_half_a_pixel_from_its_corner():
    plan = make_plan(
        Experiment.from_nanobragg("-cell 50 -default_F 1 -detpixels 8 -oversample 1 -pix0_vector 0.08 0 0")
    )
    half = plan.detector.pixel_size / 2
    centre = physics.flat_position(plan.panels[0], half, half, 0.0)
    # MOSFLM: fast is z, slow is -y.
    assert centre == pytest.approx((0.08, -half, half), abs=EPS)


def test_a_vector_flag_keeps_the_other_vectors_of_its_convention():
    plain, one = placed("-xds"), placed("-xds -spindle_axis 0 1 0")
    assert one.spindle == (0, 1, 0)
    for name in ("fast", "slow", "normal", "beam", "polarization", "twotheta_axis"):
        assert getattr(one, name) == getattr(plain, name)


def test_twotheta_axis_sets_only_the_axis_and_is_normalised():
    assert placed("-twotheta_axis 0 3 4").twotheta_axis == pytest.approx((0, 0.6, 0.8), rel=4 * EPS)
    unswung, plain = placed("-twotheta_axis 1 0 0"), placed("")
    assert (unswung.fast, unswung.slow) == (plain.fast, plain.slow)
    either_order = [placed(line) for line in ("-twotheta 10 -twotheta_axis 0 0 5", "-twotheta_axis 0 0 5 -twotheta 10")]
    assert either_order[0].origin == either_order[1].origin
    swung = math.degrees(math.acos(either_order[0].normal[0]))
    assert swung == pytest.approx(10, rel=1e-12)


# --- curved -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tilt", ["", "-twotheta 15", "-detector_rotx 5 -detector_roty -8 -detector_rotz 11"])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_every_pixel_of_a_curved_detector_stands_at_the_distance(convention, tilt):
    plan = make_plan(
        Experiment.from_nanobragg(
            f"-cell 50 -default_F 1 -detpixels 100 -pixel 1 -{convention} {tilt} -curved_det -pivot beam -distance 70"
        )
    )
    for fast in np.linspace(0, 0.1, 7):
        for slow in np.linspace(0, 0.1, 7):
            place = physics.pixel_position(plan.panels[0].curved, plan.panels[0], fast, slow, 0.0)
            assert np.linalg.norm(place) == pytest.approx(0.07, rel=16 * EPS)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_curved_detector_equals_the_flat_one_near_the_beam_to_second_order(convention):
    line = f"-cell 50 -default_F 1 -detpixels 100 -pixel 1 -{convention} -distance 100 "
    geometry = make_plan(Experiment.from_nanobragg(line + "-curved_det")).panels[0]
    for reach in (1e-3, 1e-4):
        for fast, slow in ((1, 0), (0, 1), (-1, 1), (0.3, -1)):
            at = (geometry.beam_fast + fast * reach, geometry.beam_slow + slow * reach)
            flat = np.array(physics.flat_position(geometry, *at, 0.0))
            curved = np.array(physics.curved_position(geometry, *at, 0.0))
            # The sagitta is offset^2 / (2 distance).
            assert np.linalg.norm(curved - flat) < 1.01 * (fast**2 + slow**2) * reach**2 / (2 * 0.1) + 8 * EPS


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_pixels_of_a_curved_detector_keep_their_neighbours(convention):
    line = f"-cell 50 -default_F 1 -detpixels 100 -pixel 1 -{convention} -distance 100 -curved_det"
    geometry = make_plan(Experiment.from_nanobragg(line)).panels[0]
    fast_axis = np.array([geometry.fast_x, geometry.fast_y, geometry.fast_z])
    slow_axis = np.array([geometry.slow_x, geometry.slow_y, geometry.slow_z])
    along_fast = [fast_axis @ physics.curved_position(geometry, f, 0.03, 0.0) for f in np.linspace(0, 0.1, 20)]
    along_slow = [slow_axis @ physics.curved_position(geometry, 0.03, s, 0.0) for s in np.linspace(0, 0.1, 20)]
    assert (np.diff(along_fast) > 0).all()
    assert (np.diff(along_slow) > 0).all()


def test_pixels_of_a_curved_detector_all_subtend_the_same_solid_angle():
    image = Simulator(
        detected(n_fast=16, n_slow=16, pixel_mm=4.0, distance_mm=80.0, curved=True, fidelity="physical")
    ).render()
    assert image == pytest.approx(np.full((16, 16), (4.0 / 80.0) ** 2), rel=2 * EPS32)


# --- what cannot stand --------------------------------------------------------------------------


def sentence(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) > 20
    return text


def test_a_detector_behind_the_crystal_is_refused_in_a_sentence():
    with pytest.raises(InputError) as error:
        make_plan(detected(n_fast=8, n_slow=8, rotation_deg=(0.0, 180.0, 0.0), pivot="beam", origin_mm=(10.0, 0, 0)))
    assert "in front of the crystal" in sentence(error)


def test_a_detector_edge_on_to_the_beam_is_refused_for_pivot_beam_in_a_sentence():
    with pytest.raises(InputError) as error:
        make_plan(detected(n_fast=8, n_slow=8, twotheta_deg=90.0, pivot="beam"))
    sentence(error)


def test_a_curved_detector_that_the_beam_never_hits_is_refused():
    with pytest.raises(InputError) as error:
        make_plan(detected(n_fast=8, n_slow=8, twotheta_deg=120.0, pivot="sample", curved=True))
    assert "curved" in sentence(error)


def test_parallel_axes_are_refused():
    with pytest.raises(InputError) as error:
        make_plan(detected(n_fast=8, n_slow=8, convention="custom", fast_axis=(1, 1, 0), slow_axis=(-2, -2, 0)))
    assert "parallel" in sentence(error)


def test_a_polarization_axis_along_the_beam_is_refused():
    with pytest.raises(InputError) as error:
        make_plan(detected(n_fast=8, n_slow=8, beam=Beam(direction=(0, 0, 1), polarization_axis=(0, 0, 2))))
    assert "parallel to the beam" in sentence(error)


def test_a_flat_matrix_is_refused():
    with pytest.raises(InputError) as error:
        Crystal(mosflm_matrix=((1, 0, 0), (0, 1, 0), (1, 1, 0)))
    assert "independent" in sentence(error)


def test_a_left_handed_matrix_gives_a_left_handed_cell_of_the_same_size():
    right, left = (
        make_plan(
            detected(n_fast=8, n_slow=8).replace(
                crystal=Crystal(mosflm_matrix=((0.02, 0, 0), (0, 0.025, 0), (0, 0, sign * 0.01)))
            )
        ).cell
        for sign in (1, -1)
    )
    assert left.lengths_A == pytest.approx(right.lengths_A, rel=8 * EPS)
    assert left.volume_A3 == pytest.approx(-right.volume_A3, rel=8 * EPS)
    assert left.c == pytest.approx(tuple(-x for x in right.c), abs=1e-12)
