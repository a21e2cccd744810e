"""Experiment lists of DIALS: where panels are, what is refused, DIALS's own predictions, and the way back."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bragg_numba.errors import InputError
from bragg_numba.io.expt_file import imageset, parse_expt, read_expt, several_axes, write_expt
from bragg_numba.io.expt_models import (
    ExptBeam,
    ExptCrystal,
    ExptExperiment,
    ExptGoniometer,
    ExptPanel,
    ExptScan,
    axis_rotation,
    crystal_of_matrix,
    mcstas,
    place_panels,
    read_at,
    reciprocal_vectors,
    square_axes,
)
from bragg_numba.io.geometry import pixel_positions

SHARED = Path(__file__).resolve().parents[3] / "shared" / "geometries"
FILES = {path.name: path for path in sorted(SHARED.glob("*.expt"))}

needs_shared = pytest.mark.skipif(not FILES, reason="the collection of geometries is not beside the checkout")


@pytest.fixture(scope="module")
def dxtbx_python():
    """A Python that has dxtbx."""
    for candidate in (shutil.which("dials.python"), shutil.which("python3", path="/usr/bin:/usr/local/bin")):
        if candidate and subprocess.run([candidate, "-c", "import dxtbx"], capture_output=True).returncode == 0:
            return candidate
    pytest.skip("dxtbx is not installed")


# --- the smallest file ----------------------------------------------------------------------------


def document() -> dict:
    """A detector of two panels in a group that is turned by 90 degrees about z, a beam and a crystal."""
    panel = {
        "name": "p0",
        "fast_axis": [2, 0, 0],
        "slow_axis": [0, -3, 0],
        "origin": [1, 2, 3],
        "pixel_size": [0.1, 0.2],
        "image_size": [4, 5],
    }
    group = {"name": "turned", "fast_axis": [0, 1, 0], "slow_axis": [-1, 0, 0], "origin": [10, 0, -100]}
    root = {"fast_axis": [1, 0, 0], "slow_axis": [0, 1, 0], "origin": [0, 0, -50]}
    children = [{"panel": 1}, group | {"children": [{"panel": 0}]}]
    return {
        "__id__": "ExperimentList",
        "experiment": [{"identifier": "one", "beam": 0, "detector": 0, "crystal": 0}],
        "beam": [{"direction": [0, 0, 2], "wavelength": 1.25}],
        "detector": [{"panels": [panel, panel | {"name": "p1"}], "hierarchy": root | {"children": children}}],
        "crystal": [
            {
                "real_space_a": [50, 0, 0],
                "real_space_b": [0, 60, 0],
                "real_space_c": [0, 0, 70],
                "space_group_hall_symbol": " P 1",
            }
        ],
    }


def changed(path: str, value) -> dict:
    """The document with one value replaced: a path of keys and indices with dots between; ... removes it."""
    found = document()
    *way, last = (int(part) if part.isdigit() else part for part in path.split("."))
    place = found
    for part in way:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return found


def parsed(found: dict) -> tuple[ExptExperiment, ...]:
    return parse_expt(json.dumps(found), "some.expt")


def test_frames_are_composed_from_the_root_to_the_panel():
    first, second = parsed(document())[0].detector
    # R' = R [f s f x s], t' = t + R o: the group turns x to y.
    assert first.origin_mm == pytest.approx((10 - 2, 1, -50 - 100 + 3), abs=1e-12)
    assert first.fast == pytest.approx((0, 1, 0)) and first.slow == pytest.approx((1, 0, 0))
    assert second.origin_mm == pytest.approx((1, 2, -47))
    assert (first.groups, second.groups) == (("turned",), ())
    assert first.lab_mm(3, 2.5) == pytest.approx((8 + 0.5, 1 + 0.3, -147))
    assert first.lab_mm(np.zeros((2, 7)), 0.0).shape == (2, 7, 3)


def test_defaults_are_those_of_dxtbx():
    (experiment,) = parsed(document())
    beam, panel = experiment.beam, experiment.detector[0]
    assert (beam.polarization_normal, beam.polarization_fraction) == ((0, 1, 0), 0.999)
    assert beam.direction == (0, 0, 1) and beam.kahn_factor == pytest.approx(0.998)
    assert beam.s0 == pytest.approx((0, 0, -0.8))
    assert (panel.thickness_mm, panel.mu_per_mm, panel.parallax, panel.gain) == (0, 0, False, 1)
    assert experiment.goniometer is experiment.scan is experiment.imageset is None
    assert np.diag([1 / 50, 1 / 60, 1 / 70]) == pytest.approx(experiment.crystal.A)


def test_a_detector_may_be_a_bare_list_of_panels():
    (experiment,) = parsed(changed("detector.0", document()["detector"][0]["panels"]))
    assert experiment.detector[0].origin_mm == (1, 2, 3)
    (experiment,) = parsed(changed("detector.0.hierarchy", None))
    assert experiment.detector[1].origin_mm == (1, 2, 3)


def test_a_polychromatic_beam_has_a_range_and_no_wavelength():
    beam = {"__id__": "polychromatic", "direction": [0, 0, 1], "wavelength_range": [1, 1.1]}
    (experiment,) = parsed(changed("beam.0", beam))
    assert experiment.beam.wavelength_A is None and experiment.beam.wavelength_range_A == (1, 1.1)
    with pytest.raises(InputError, match="has no one wavelength"):
        _ = experiment.beam.s0


@pytest.mark.parametrize(
    ("mosaicity", "expected"),
    [
        ({}, (None, None, None)),
        ({"ML_half_mosaicity_deg": 0.05, "ML_domain_size_ang": 2000}, (0.05, 2000, None)),
        ({"ML_half_mosaicity_deg": None, "ML_domain_size_ang": None}, (None, None, None)),
        ({"mosaicity": 0.1}, (None, None, 0.1)),
    ],
)
def test_mosaicity_of_every_kind(mosaicity, expected):
    crystal = parsed(changed("crystal.0", document()["crystal"][0] | mosaicity))[0].crystal
    assert (crystal.half_mosaicity_deg, crystal.domain_size_A, crystal.mosaicity_deg) == expected


@pytest.mark.parametrize(
    ("scan", "start", "width"),
    [
        ({"oscillation": [10, 0.5], "exposure_time": [0.1, 0.1, 0.1], "epochs": [0, 1, 2]}, 10, 0.5),
        ({"oscillation": [10, 0.5], "exposure_time": 0.1}, 10, 0.5),
        ({"properties": {"oscillation": [10, 10.5, 11]}}, 10, 0.5),
        ({"properties": {"oscillation": [10, 10.5, 11, 11.5], "epochs": [1, 2, 3]}}, 10, 0.5),
        ({"properties": {"exposure_time": [0.1, 0.1, 0.1]}}, 0, 0),
    ],
)
def test_scans_of_old_and_of_new_files(scan, start, width):
    found = document() | {"scan": [{"image_range": [4, 6], "batch_offset": 0, **scan}]}
    found["experiment"][0]["scan"] = 0
    scan = parsed(found)[0].scan
    assert (scan.image_range, scan.start_deg, scan.width_deg) == ((4, 6), start, pytest.approx(width))
    # DIALS counts z from the beginning of image 1.
    assert scan.angle_deg(3.0) == start and scan.angle_deg(4.0) == pytest.approx(start + width)


def test_a_scan_of_one_image_tells_its_width():
    for properties in ({"oscillation": [3.0], "oscillation_width": [0.2]}, {"oscillation": [3.0, 3.2]}):
        found = document() | {"scan": [{"image_range": [1, 1], "properties": properties}]}
        found["experiment"][0]["scan"] = 0
        assert parsed(found)[0].scan.width_deg == pytest.approx(0.2)


def test_models_are_shared_and_an_imageset_is_kept_as_it_stands():
    found = document() | {"imageset": [{"__id__": "ImageSet", "images": ["a.h5"]}]}
    found["experiment"] = [{"beam": 0, "detector": 0, "imageset": 0}, {"beam": 0, "imageset": "old.json"}, {}]
    first, second, third = parsed(found)
    assert first.beam is second.beam and first.imageset == {"__id__": "ImageSet", "images": ["a.h5"]}
    assert second.imageset == {"file": "old.json"}
    assert third == ExptExperiment()


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        ("__id__", "Reflections", "__id__ must be ExperimentList, got 'Reflections'"),
        ("experiment", {}, "experiment must be a list, got {}"),
        ("experiment.0", [], "experiment[0] must be an object, got []"),
        ("experiment.0.beam", 1, "experiment[0].beam must be the number of a beam, of which there are 1, got 1"),
        ("experiment.0.beam", -1, "experiment[0].beam must be a whole number"),
        ("experiment.0.beam", True, "experiment[0].beam must be a finite number, got True"),
        ("experiment.0.beam", "beam.json", "experiment[0].beam lies in a file of its own"),
        ("experiment.0.identifier", 3, "experiment[0].identifier must be text, got 3"),
        ("beam.0.wavelength", 0, "beam[0].wavelength must be above 0, got 0"),
        ("beam.0.wavelength", "1.0", "beam[0].wavelength must be a finite number, got '1.0'"),
        ("beam.0.wavelength", ..., "beam[0].wavelength is missing"),
        ("beam.0.wavelength", 10**400, "beam[0].wavelength must be a finite number"),
        ("beam.0.wavelength", 1e-300, "beam[0].wavelength must not be below 1e-09"),
        ("detector.0.panels.0.origin", [0, 1e300, 0], "detector[0].panels[0].origin[1] must not be beyond 1e+15"),
        ("beam.0.direction", [0, 0, 0], "beam[0].direction must not be zero"),
        ("beam.0.direction", [0, 1], "beam[0].direction must be 3 numbers"),
        ("beam.0.direction", [0, None, 1], "beam[0].direction[1] must be a finite number, got None"),
        ("beam.0.polarization_fraction", 1.5, "beam[0].polarization_fraction must lie between 0 and 1"),
        ("detector.0", 3, "detector[0] must be an object"),
        ("detector.0.panels", [], "detector[0] must have a panel"),
        ("detector.0.panels.1.image_size", [0, 5], "detector[0].panels[1].image_size must be above 0"),
        ("detector.0.panels.1.image_size", [4.5, 5], "detector[0].panels[1].image_size[0] must be a whole number"),
        ("detector.0.panels.1.pixel_size", [0.1, -0.1], "detector[0].panels[1].pixel_size[1] must be above 0"),
        ("detector.0.panels.0.fast_axis", [0, 2, 0], "detector[0].panels[0].slow_axis must not be along fast_axis"),
        ("detector.0.panels.0.origin", ..., "detector[0].panels[0].origin is missing"),
        ("detector.0.panels.0.mu", -1, "detector[0].panels[0].mu must not be below 0"),
        ("detector.0.panels.0.mask", [[1, 2, 3]], "detector[0].panels[0].mask[0] must be 4 whole numbers"),
        ("detector.0.panels.0.px_mm_strategy", {}, "detector[0].panels[0].px_mm_strategy.type is missing"),
        ("detector.0.hierarchy.children", [{"panel": 0}], "detector[0].hierarchy must hold every panel, but has none"),
        (
            "detector.0.hierarchy.children.0.panel",
            2,
            "children[0].panel must be the number of a panel, got 2",
        ),
        ("detector.0.hierarchy.children.0.panel", 0, "panel must not be there twice, got 0"),
        ("detector.0.hierarchy", {"panel": 0}, "detector[0].hierarchy must be a group, not a panel"),
        ("detector.0.hierarchy.children.1.children", ..., "hierarchy.children[1].children is missing"),
        ("crystal.0.real_space_c", [50, 60, 0], "crystal[0].real_space_a must not lie in a plane with b and c"),
        ("crystal.0.space_group_hall_symbol", ..., "crystal[0].space_group_hall_symbol is missing"),
        ("crystal.0.A_at_scan_points", [[1, 2]], "crystal[0].A_at_scan_points[0] must be 9 numbers"),
        ("crystal.0.mosaicity", -1, "crystal[0].mosaicity must not be below 0"),
        ("scan", [{"image_range": [3, 1]}], "scan[0].image_range must not end before it begins"),
        ("scan", [{"image_range": [1, 2000000000]}], "scan[0].image_range must not hold more than 10000000 images"),
        (
            "scan",
            [{"image_range": [1, 3], "properties": {"oscillation": [1]}}],
            "scan[0].properties.oscillation must be a number for each of 3 images, got 1",
        ),
        (
            "scan",
            [{"image_range": [1, 3], "properties": {"oscillation": [1, 2, 9]}}],
            "scan[0].properties.oscillation must be evenly spaced",
        ),
        ("goniometer", [{}], "goniometer[0].rotation_axis is missing"),
        (
            "goniometer",
            [{"rotation_axis": [1, 0, 0], "fixed_rotation": [1, 0, 0, 0, 1, 0, 0, 0, 2]}],
            "goniometer[0].fixed_rotation must be a rotation",
        ),
        (
            "goniometer",
            [{"axes": [[1, 0, 0]], "angles": [0], "scan_axis": 1}],
            "goniometer[0].scan_axis must be the number of one of the axes",
        ),
        ("goniometer", [{"axes": [[1, 0, 0]], "angles": [], "scan_axis": 0}], "goniometer[0].angles must be 1 numbers"),
    ],
)
def test_a_value_that_breaks_a_rule_is_named_with_its_place(path, value, rule):
    with pytest.raises(InputError, match=re.escape("some.expt: ") + ".*" + re.escape(rule)):
        parsed(changed(path, value))


def test_what_is_no_experiment_list_is_refused(tmp_path):
    (tmp_path / "a.expt").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(InputError, match="is an HDF5 file"):
        read_expt(tmp_path / "a.expt")
    for text in ("", "[]", "3", "{", "[" * 100000, '{"__id__": "ExperimentList", "experiment": [NaN]}'):
        with pytest.raises(InputError):
            parse_expt(text)
    nested = {"panel": 0}
    for _ in range(60):
        nested = {"children": [nested]}
    with pytest.raises(InputError, match="must not lie below more than 50 others"):
        parsed(changed("detector.0.hierarchy.children.1", nested))


PIECES = [None, True, 0, -1, 1e308, 2.5, "", "x", [], {}, [[]], [0, 0, 0], [1, 2, 3], {"panel": 0}, 10**400]


@given(st.data())
def test_values_that_are_replaced_removed_or_doubled_are_read_or_refused(data):
    found = document() | {
        "goniometer": [{"axes": [[1, 0, 0], [0, 1, 0]], "angles": [1, 2], "names": ["a", "b"], "scan_axis": 1}],
        "scan": [{"image_range": [1, 2], "properties": {"oscillation": [0, 1]}}],
    }
    found["experiment"][0] |= {"goniometer": 0, "scan": 0}
    for _ in range(data.draw(st.integers(1, 3))):
        place = found
        for _ in range(data.draw(st.integers(0, 6))):
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            inner = [key for key in keys if isinstance(place[key], (dict, list)) and place[key]]
            if not inner:
                break
            place = place[data.draw(st.sampled_from(inner))]
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys)) if keys else None
        what = data.draw(st.sampled_from(["replace", "remove", "double"]))
        if key is None or (what == "double" and isinstance(place, dict)):
            continue
        if what == "remove":
            del place[key]
        elif what == "double":
            place.insert(key, place[key])
        else:
            place[key] = data.draw(st.sampled_from(PIECES))
    try:
        experiments = parsed(found)
        again = parse_expt(write_expt(experiments))
    except InputError:
        return
    assert [e.beam for e in again] == [e.beam for e in experiments]


@given(st.text(max_size=100))
def test_noise_is_refused(text):
    with pytest.raises(InputError):
        parse_expt(text)


# --- rotations and predictions --------------------------------------------------------------------


def test_several_axes_turn_the_crystal_from_the_inside_out():
    axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
    goniometer = several_axes(axes, (10, 20, 99, 40), tuple("abcd"), 2)
    crystal = ExptCrystal(real_space=((50, 0, 0), (0, 60, 0), (0, 0, 70)))
    # By hand: the vector is turned by each axis in turn, the scan's with its own angle.
    r = np.array([1 / 50, 2 / 60, 3 / 70])
    for axis, angle in zip(axes, (10, 20, 33, 40), strict=True):
        r = axis_rotation(axis, angle) @ r
    assert reciprocal_vectors((1, 2, 3), crystal, goniometer, 33) == pytest.approx(r, abs=1e-15)
    assert reciprocal_vectors([[1, 2, 3]], crystal, None, 33) == pytest.approx(
        np.array([[1 / 50, 2 / 60, 3 / 70]]), abs=1e-15
    )
    # A quarter turn about z leads x to y.
    assert axis_rotation((0, 0, 5), 90) @ [1, 0, 0] == pytest.approx([0, 1, 0], abs=1e-15)


#: What DIALS itself predicts for i03_thau_single_ffs.expt: x and y in pixels, z in images.
PREDICTIONS = {
    (-28, 14, 93): (3937.314, 91.352, 0.649),
    (-26, 14, 90): (3769.996, 214.530, 0.341),
    (-14, -30, -11): (2979.930, 3628.805, 0.877),
}


@needs_shared
@pytest.mark.parametrize("indices", PREDICTIONS)
def test_dials_predictions_are_met_with_parallax(indices):
    (experiment,) = read_expt(FILES["i03_thau_single_ffs.expt"])
    (panel,), s0 = experiment.detector, experiment.beam.s0

    def ray(z: float) -> np.ndarray:
        phi = experiment.scan.angle_deg(z)
        return s0 + reciprocal_vectors(indices, experiment.crystal, experiment.goniometer, phi)

    def excess(z: float) -> float:
        return float(ray(z) @ ray(z) - s0 @ s0)

    low, high = 0.0, 1.0
    assert excess(low) * excess(high) < 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(low) * excess(middle) > 0.0 else (low, middle)
    x, y, z = PREDICTIONS[indices]
    assert panel.parallax
    assert abs(low - z) < 0.001
    assert np.abs(np.array(read_at(panel, ray(low))) - (x, y)).max() < 0.001
    # Without parallax they would be elsewhere: it is the correction that is asked for.
    plain = dataclasses.replace(panel, parallax=False)
    assert np.abs(np.array(read_at(plain, ray(low))) - (x, y)).max() > 0.5


def test_a_ray_is_read_where_it_meets_the_panel_whatever_its_axes():
    slow = np.array([0.01, -1.0, 0.02]) / np.linalg.norm([0.01, -1.0, 0.02])
    panel = ExptPanel(
        name="p",
        origin_mm=(-10.0, 12.0, -100.0),
        fast=(1.0, 0.0, 0.0),
        slow=tuple(slow),
        pixel_mm=(0.1, 0.2),
        image_size=(200, 100),
    )
    assert read_at(panel, panel.lab_mm(33.25, 44.5)) == pytest.approx((33.25, 44.5), abs=1e-10)
    assert read_at(panel, -panel.lab_mm(33.25, 44.5)) is None
    assert read_at(panel, (1.0, 0.0, 0.0)) is None


# --- frames ---------------------------------------------------------------------------------------


def test_the_mcstas_frame_is_the_files_turned_about_y():
    assert mcstas([[1, 2, 3]]).tolist() == [[-1, 2, -3]]
    assert mcstas(mcstas([1, 2, 3])).tolist() == [1, 2, 3]


def test_panels_are_placed_in_the_mcstas_frame_and_below_each_other():
    panels = parsed(document())[0].detector
    placed = place_panels(panels)
    assert (placed.n_slow, placed.n_fast) == (10, 4)
    positions = pixel_positions(placed)
    for index, panel in enumerate(panels):
        slow, fast = np.mgrid[0:5, 0:4] + 0.5
        expected = mcstas(panel.lab_mm(fast, slow)) / 1000
        assert np.abs(positions[5 * index : 5 * index + 5] - expected).max() < 1e-15
    beside = tuple(dataclasses.replace(p, raw_image_offset=(7 + 5 * i, 3)) for i, p in enumerate(panels))
    placed = place_panels(beside)
    assert [(p.first_fast, p.first_slow) for p in placed.panels] == [(0, 0), (5, 0)]
    assert (placed.n_slow, placed.n_fast) == (5, 9)


@needs_shared
def test_jungfrau_16m_is_where_its_beamline_has_it():
    panels = read_expt(FILES["jf16m_exafel_kpp.expt"])[0].detector
    centres = np.array([panel.lab_mm(127, 127) for panel in panels])
    assert len(panels) == 256
    assert -centres[:, 2].max() > 118.47 and -centres[:, 2].min() < 120.0
    assert np.abs(centres[:, :2]).max() < 156.0
    assert max(abs(axis[2]) for panel in panels for axis in (panel.fast, panel.slow)) < 0.0057


# --- writing --------------------------------------------------------------------------------------


@needs_shared
@pytest.mark.parametrize("name", sorted(FILES) or ["none"])
def test_every_file_of_the_collection_comes_back(name):
    experiments = read_expt(FILES[name])
    again = parse_expt(write_expt(experiments))
    assert len(again) == len(experiments)
    for first, second in zip(experiments, again, strict=True):
        assert first.scan == second.scan and first.imageset == second.imageset
        assert first.crystal == second.crystal and first.identifier == second.identifier
        for one, other in zip(first.detector, second.detector, strict=True):
            for key in ("origin_mm", "fast", "slow"):
                assert np.abs(np.subtract(getattr(one, key), getattr(other, key))).max() < 1e-12
            moved = {key: getattr(other, key) for key in ("origin_mm", "fast", "slow")}
            assert dataclasses.replace(one, **moved) == other
    assert len({id(e.detector) for e in again}) == len({e.detector for e in experiments})


def made_up() -> ExptExperiment:
    """An experiment with something in every field that is written."""
    a, b = (math.radians(value) for value in (3.0, 12.0))
    turn = axis_rotation((1, 2, 3), 7.0)
    panels = tuple(
        ExptPanel(
            name=f"module {place}",
            origin_mm=(-20.0 + 15 * place, 11.0, -90.0 - place),
            fast=tuple(turn @ [math.cos(a), math.sin(a), 0.0]),
            slow=tuple(turn @ [math.sin(a), -math.cos(a), 0.0]),
            pixel_mm=(0.1, 0.125),
            image_size=(120, 70),
            raw_image_offset=(0, 70 * place),
            trusted_range=(-1.0, 65000.0),
            thickness_mm=0.45,
            material="Si",
            mu_per_mm=3.9,
            gain=1.5,
            pedestal=0.5,
            mask=((1, 2, 3, 4),),
            parallax=True,
            strategy="ParallaxCorrectedPxMmStrategy",
            type="SENSOR_PAD",
            identifier="abc",
            groups=(("left", "upper"), ("left", "lower"), ("right",), ())[place],
        )
        for place in range(4)
    )
    cell = np.array([[50.0, 1, 2], [3, 60, 4], [5, 6, 70]])
    points = tuple(tuple(map(tuple, np.linalg.inv(cell + 0.01 * i).tolist())) for i in range(4))
    return ExptExperiment(
        identifier="made up",
        beam=ExptBeam(
            direction=(0.0, math.sin(b / 10), math.cos(b / 10)),
            wavelength_A=1.1,
            polarization_normal=(0.0, 1.0, 0.0),
            polarization_fraction=0.75,
            flux=1e12,
            transmission=0.5,
            divergence_deg=0.01,
            sigma_divergence_deg=0.02,
        ),
        detector=panels,
        goniometer=several_axes(
            ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)), (10.0, 20.0, 30.0), tuple("abc"), 1
        ),
        scan=ExptScan(
            image_range=(1, 3), start_deg=5.0, width_deg=0.5, exposure_times=(0.1,) * 3, epochs=(0.0, 1.0, 2.0)
        ),
        crystal=ExptCrystal(
            real_space=tuple(map(tuple, cell.tolist())),
            hall_symbol=" P 2ac 2ab",
            A_at_scan_points=points,
            half_mosaicity_deg=0.05,
            domain_size_A=2000.0,
        ),
        imageset=imageset("s_master.h5", [0, 1, 2], sequence=True),
    )


def test_everything_that_is_written_comes_back():
    experiment = made_up()
    (again,) = parse_expt(write_expt([experiment]))
    for one, other in zip(experiment.detector, again.detector, strict=True):
        assert np.abs(np.subtract(one.origin_mm, other.origin_mm)).max() < 1e-12
        assert dataclasses.replace(other, origin_mm=one.origin_mm, fast=one.fast, slow=one.slow) == one
    near = {"detector": experiment.detector, "beam": again.beam}
    assert dataclasses.replace(again, **near) == dataclasses.replace(experiment, **near)
    assert dataclasses.replace(again.beam, direction=experiment.beam.direction) == experiment.beam
    assert np.abs(np.subtract(again.beam.direction, experiment.beam.direction)).max() < 1e-15


def test_equal_models_are_written_once():
    experiment = made_up()
    copies = [
        dataclasses.replace(experiment, identifier=str(i), crystal=dataclasses.replace(experiment.crystal))
        for i in range(3)
    ]
    written = json.loads(write_expt(copies))
    assert [len(written[key]) for key in ("experiment", "beam", "detector", "crystal", "imageset")] == [3, 1, 1, 1, 1]


def test_a_crystal_is_made_of_its_matrix():
    A = np.linalg.inv(np.array([[50.0, 1, 2], [3, 60, 4], [5, 6, 70]]))
    crystal = crystal_of_matrix(A)
    assert np.abs(crystal.A - A).max() < 1e-16 and crystal.hall_symbol == " P 1"
    with pytest.raises(InputError, match="must be a 3 x 3 matrix with an inverse"):
        crystal_of_matrix(np.zeros((3, 3)))


def test_skewed_panels_are_squared_about_their_centre_or_refused():
    skewed = dataclasses.replace(made_up().detector[0], fast=(1.0, 0.0, 0.0), slow=(0.003, -math.sqrt(1 - 9e-6), 0.0))
    with pytest.raises(InputError, match="panel module 0 must have its axes at right angles to 1e-07"):
        write_expt([ExptExperiment(detector=(skewed,))])
    squared, shift = square_axes(skewed)
    write_expt([ExptExperiment(detector=(squared,))])
    assert abs(np.dot(squared.fast, squared.slow)) < 1e-15
    off = squared.lab_mm(*(np.mgrid[0:121:120, 0:71:70])) - skewed.lab_mm(*(np.mgrid[0:121:120, 0:71:70]))
    assert np.abs(squared.lab_mm(60, 35) - skewed.lab_mm(60, 35)).max() < 1e-13
    farthest = np.linalg.norm(off, axis=-1).max() / 0.1
    assert shift == pytest.approx(farthest, rel=1e-6) and 0.05 < shift < 0.2


# --- DIALS itself ---------------------------------------------------------------------------------

SCRIPT = """
import json, sys
from dxtbx.model.experiment_list import ExperimentListFactory
told = []
for experiment in list(ExperimentListFactory.from_json_file(sys.argv[1], check_format=False))[:3]:
    panels = []
    for panel in experiment.detector:
        mm = [(0.0, 0.0), (3.0, 0.5), tuple(panel.get_image_size_mm())]
        panels.append({
            "name": panel.get_name(),
            "lab": [list(panel.get_lab_coord(xy)) for xy in mm],
            "pixels": [list(panel.millimeter_to_pixel(xy)) for xy in mm],
            "mu": panel.get_mu(), "trusted": list(panel.get_trusted_range()),
        })
    crystal, gonio, scan, beam = experiment.crystal, experiment.goniometer, experiment.scan, experiment.beam
    told.append({
        "panels": panels,
        "s0": list(beam.get_s0()), "fraction": beam.get_polarization_fraction(),
        "A": list(crystal.get_A()), "points": crystal.num_scan_points,
        "group": str(crystal.get_space_group().info()),
        "F": list(gonio.get_fixed_rotation()) if gonio else None,
        "S": list(gonio.get_setting_rotation()) if gonio else None,
        "axis": list(gonio.get_rotation_axis_datum()) if gonio else None,
        "scan": [list(scan.get_image_range()), list(scan.get_oscillation())] if scan else None,
    })
json.dump(told, sys.stdout)
"""


def told_by_dxtbx(python: str, path: Path) -> list[dict]:
    done = subprocess.run([python, "-c", SCRIPT, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def compare(told: list[dict], experiments: tuple[ExptExperiment, ...]) -> None:
    assert len(told) == len(experiments)
    for theirs, ours in zip(told, experiments, strict=True):
        assert len(theirs["panels"]) == len(ours.detector)
        for other, panel in zip(theirs["panels"], ours.detector, strict=True):
            size = np.array(panel.image_size) * panel.pixel_mm
            for xy, lab, pixels in zip([(0.0, 0.0), (3.0, 0.5), size], other["lab"], other["pixels"], strict=True):
                at = panel.lab_mm(*(np.array(xy) / panel.pixel_mm))
                assert np.abs(at - lab).max() < 1e-9
                assert np.abs(np.subtract(read_at(panel, at), pixels)).max() < 1e-6
            assert (other["name"], other["mu"], tuple(other["trusted"])) == (
                panel.name,
                panel.mu_per_mm,
                panel.trusted_range,
            )
        assert np.abs(ours.beam.s0 - theirs["s0"]).max() < 1e-14
        assert ours.beam.polarization_fraction == theirs["fraction"]
        assert np.abs(ours.crystal.A.ravel() - theirs["A"]).max() < 1e-12
        assert len(ours.crystal.A_at_scan_points) == theirs["points"]
        if ours.goniometer is not None:
            for key, own in (("F", ours.goniometer.fixed_rotation), ("S", ours.goniometer.setting_rotation)):
                assert np.abs(np.ravel(own) - theirs[key]).max() < 1e-12
            assert np.abs(np.subtract(ours.goniometer.rotation_axis, theirs["axis"])).max() < 1e-12
        if ours.scan is not None:
            assert theirs["scan"][0] == list(ours.scan.image_range)
            assert theirs["scan"][1] == pytest.approx([ours.scan.start_deg, ours.scan.width_deg])


def test_dxtbx_reads_what_is_written_as_we_do(tmp_path, dxtbx_python):
    experiment = dataclasses.replace(made_up(), imageset=None)
    single = ExptGoniometer(rotation_axis=(0.6, 0.8, 0.0), fixed_rotation=experiment.goniometer.fixed_rotation)
    kabsch = dataclasses.replace(
        experiment.crystal, half_mosaicity_deg=None, domain_size_A=None, mosaicity_deg=0.1, A_at_scan_points=()
    )
    still = dataclasses.replace(experiment, goniometer=None, scan=None, crystal=kabsch, identifier="still")
    turned = dataclasses.replace(experiment, goniometer=single, identifier="turned")
    (tmp_path / "a.expt").write_text(write_expt([experiment, still, turned]))
    told = told_by_dxtbx(dxtbx_python, tmp_path / "a.expt")
    compare(told, (experiment, still, turned))
    assert told[0]["group"] == "P 21 21 21"


@needs_shared
@pytest.mark.parametrize("name", sorted(FILES) or ["none"])
def test_dxtbx_agrees_about_the_collection_and_reads_it_from_our_hand(tmp_path, dxtbx_python, name):
    experiments = read_expt(FILES[name])
    if name != "i03_thau_single_ffs.expt":  # whose scan is of a later dxtbx than some have
        compare(told_by_dxtbx(dxtbx_python, FILES[name]), experiments[:3])
    bare = [dataclasses.replace(experiment, imageset=None) for experiment in experiments[:3]]
    (tmp_path / "a.expt").write_text(write_expt(bare))
    compare(told_by_dxtbx(dxtbx_python, tmp_path / "a.expt"), experiments[:3])
