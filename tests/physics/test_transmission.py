"""What photons go through, against formulas and rays followed one by one."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from bragg_numba import (
    Absorption,
    AirPath,
    Background,
    Beamstop,
    Detector,
    Experiment,
    InputError,
    Panel,
    Rotation,
    Shadow,
    Simulator,
    Spectrum,
    Window,
    background_of_frame,
    simulate,
)
from bragg_numba.experiment import Diffuse
from bragg_numba.experiment.placing import pixel_positions, place_detector
from bragg_numba.materials import attenuation_per_m, find_material
from bragg_numba.plan.transmission import fill_polygon, sphere_transmission

LINE = "-cell 60 -default_F 100 -N 3 -detpixels 48 -pixel 0.5 -distance 40 -oversample 1 -fluence 1e26 -lambda 1 "
#: The laboratory of -mosflm: the beam along x, fast along z, slow along -y.
BEAM, FAST, SLOW = np.eye(3)[0], np.eye(3)[2], -np.eye(3)[1]


def experiment(*ways, more: str = "", **parts) -> Experiment:
    return Experiment.from_nanobragg(LINE + more).replace(transmission=ways, **parts)


def passed(*ways, more: str = "", **parts) -> np.ndarray:
    found = Simulator(experiment(*ways, more=more, **parts)).transmission()
    assert found is not None and found.dtype == np.float32
    return found


def per_m(material: str, wavelength_A: float = 1.0) -> float:
    return float(attenuation_per_m("x", find_material("x", material), wavelength_A, absorbed=False))


def positions(one: Experiment) -> np.ndarray:
    return pixel_positions(place_detector(one), curved=one.detector.curved)


WHERE = positions(Experiment.from_nanobragg(LINE))
FAR = np.linalg.norm(WHERE, axis=-1)
COSINE = WHERE @ BEAM / FAR

# --- ways through matter


@pytest.mark.parametrize(
    ("fields", "metres"),
    [
        ({}, FAR),
        ({"before_mm": 30.0}, FAR + 0.030),
        ({"end_mm": 25.0}, 0.025 / COSINE),
        ({"start_mm": 10.0, "end_mm": 25.0}, 0.015 / COSINE),
        ({"start_mm": 10.0}, FAR - 0.010 / COSINE),
        ({"end_mm": 500.0}, FAR),  # which ends at the pixel
        ({"start_mm": 50.0}, 0.0 * FAR),
    ],
)
def test_air_attenuates_by_the_way_that_a_ray_has_in_it(fields, metres):
    np.testing.assert_allclose(passed(AirPath(**fields)), np.exp(-per_m("air") * metres), rtol=2e-7)


def test_200_mm_of_air_take_29_percent_at_7_1_keV_and_6_5_at_12_4():
    for keV, lost in ((7.1, 0.29), (8.0, 0.22), (12.4, 0.065)):
        beam = f"-energy {1000 * keV} -distance 200 -pixel 0.01"
        assert 1.0 - passed(AirPath(), more=beam).mean() == pytest.approx(lost, abs=0.01)


def test_gas_of_another_kind_and_density():
    helium = passed(AirPath(gas="helium", end_mm=30.0, density_g_per_cm3=1.0))
    mu = float(attenuation_per_m("x", find_material("x", "He", 1.0), 1.0, absorbed=False))
    np.testing.assert_allclose(helium, np.exp(-mu * 0.030 / COSINE), rtol=2e-7)


@pytest.mark.parametrize("normal", [None, (1, 0, 0), (-1, 0, 0), (1, 1, 0), (2, -1, 3)])
def test_a_window_is_as_thick_as_its_cosine_says(normal):
    n = BEAM if normal is None else np.array(normal) / np.linalg.norm(normal)
    n = n if n @ BEAM > 0 else -n
    cosine = WHERE @ n / FAR
    assert (cosine > 0.0).all()
    expected = np.exp(-per_m("kapton") * 100e-6 / cosine)
    np.testing.assert_allclose(passed(Window(material="kapton", thickness_um=100, normal=normal)), expected, rtol=2e-7)


def test_a_window_before_the_crystal_takes_the_same_everywhere():
    tilted = Window(material="be", thickness_um=500, normal=(1, 1, 0), before=True)
    np.testing.assert_allclose(passed(tilted), math.exp(-per_m("be") * 500e-6 * math.sqrt(2.0)), rtol=2e-7)


def test_rays_that_go_back_do_not_cross_a_window_ahead_but_all_of_the_air():
    back = positions(experiment(more="-beam_vector -1 0 0"))
    ahead = Window(material="al", thickness_um=100), AirPath(start_mm=10), AirPath(end_mm=20)
    assert (passed(*ahead, more="-beam_vector -1 0 0") == 1.0).all()
    expected = np.exp(-per_m("air") * np.linalg.norm(back, axis=-1))
    np.testing.assert_allclose(passed(AirPath(), more="-beam_vector -1 0 0"), expected, rtol=2e-7)


@pytest.mark.parametrize("normal", [None, (1, 0.4, 0), (0.2, 1, 0.3)])
def test_a_plate_absorbs_by_the_mean_over_its_depth(normal):
    n = BEAM if normal is None else np.array(normal) / np.linalg.norm(normal)
    t, mu = 0.8e-3, per_m("water")
    depth = (np.arange(4000) + 0.5) / 4000 * t
    into, out = float(n @ BEAM), WHERE @ n / FAR
    inner = np.where(out > 0, t - depth[:, None, None], depth[:, None, None])
    expected = np.exp(-mu * (depth[:, None, None] / into + inner / np.abs(out))).mean(axis=0)
    plate = Absorption(shape="plate", thickness_mm=0.8, normal=normal)
    np.testing.assert_allclose(passed(plate), expected, rtol=1e-5, atol=2e-6)  # of rays that graze it, few points


def test_a_sphere_absorbs_as_integrals_say_ahead_and_back():
    for radius in (0.01, 0.3, 1.0, 3.0):
        x, k = 2.0 * radius, 4.0 * radius
        ahead = 3.0 * (2.0 - math.exp(-x) * (x * x + 2.0 * x + 2.0)) / x**3
        back = 3.0 / (8.0 * radius) - 3.0 / (4.0 * radius) * (1.0 - math.exp(-k) * (1.0 + k)) / k**2
        found = sphere_transmission(radius, np.array([0.0, math.pi]))
        # Of small radii the formulas are differences of large numbers.
        np.testing.assert_allclose(found, [ahead, back], rtol=1e-3)


def test_a_sphere_absorbs_as_random_rays_through_it_do():
    generator = np.random.default_rng(5)
    points = generator.normal(size=(200_000, 3))
    points *= (generator.random(200_000) ** (1 / 3) / np.linalg.norm(points, axis=1))[:, None]
    for radius, angle in ((0.5, 0.6), (2.0, 1.4)):
        ray = np.array([math.sin(angle), 0.0, math.cos(angle)])
        way = points[:, 2] + np.sqrt(points[:, 2] ** 2 + 1 - (points**2).sum(axis=1))
        along = points @ ray
        way += -along + np.sqrt(along**2 + 1 - (points**2).sum(axis=1))
        values = np.exp(-radius * way)
        error = 5.0 * values.std() / math.sqrt(len(values))
        assert float(sphere_transmission(radius, np.array([angle]))[0]) == pytest.approx(values.mean(), abs=error)


def test_a_sphere_of_a_material_has_its_attenuation():
    twotheta = np.arccos(COSINE)
    expected = sphere_transmission(per_m("water") * 0.25e-3, twotheta)
    np.testing.assert_allclose(passed(Absorption(thickness_mm=0.5)), expected, rtol=2e-7)


def test_a_plate_that_turns_is_the_mean_over_its_steps():
    turning = Absorption(shape="plate", thickness_mm=1.0, normal=(1, 0, 0), turns=True)
    rotation = Rotation(phi_deg=20.0, osc_deg=20.0, phi_steps=2)
    steps = []
    for degrees in (20.0, 30.0):  # two steps of half the range
        a = math.radians(degrees)
        steps.append(passed(Absorption(shape="plate", thickness_mm=1.0, normal=(math.cos(a), math.sin(a), 0))))
    found = passed(turning, rotation=rotation)
    np.testing.assert_allclose(found, np.mean(steps, axis=0), rtol=1e-6)


def test_each_line_of_a_spectrum_has_its_own_attenuation():
    waves, ways = (0.6, 1.6), (AirPath(), Absorption(thickness_mm=0.3))
    small = "-pixel 0.05 -distance 150"
    spectrum = Spectrum.table([0.5, 0.5], wavelengths_A=waves, equal_energy=True)
    two = experiment(*ways, more=small)
    both = simulate(two.replace(beam=two.beam.replace(spectrum=spectrum)))
    share = spectrum.pulse(1.0, 0).weight / spectrum.pulse(1.0, 0).weight.sum()
    alone = [simulate(experiment(*ways, more=f"{small} -lambda {wave}")) for wave in waves]
    np.testing.assert_allclose(both, share[0] * alone[0] + share[1] * alone[1], rtol=2e-3, atol=2e-4 * both.max())


# --- shadows


def on_stop(one: Experiment, distance_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Where the rays to the pixels cross a plane, mm along fast and slow."""
    at = positions(one)
    at = at * (distance_mm / (at @ BEAM))[..., None]
    return at @ FAST, at @ SLOW


def test_a_disc_casts_a_shadow_larger_by_the_ratio_of_the_distances():
    stop = Beamstop(diameter_mm=3, distance_mm=10)
    across, down = on_stop(experiment(), 10)
    assert np.array_equal(passed(stop) == 0.0, np.hypot(across, down) <= 1.5)
    # 6 mm on the detector, in pixels of half a millimetre.
    assert (passed(stop) == 0.0).sum() == pytest.approx(math.pi * 12**2, rel=0.03)


@pytest.mark.parametrize(("degrees", "towards"), [(0, (24, 47)), (90, (47, 24)), (180, (24, 0)), (270, (0, 24))])
def test_a_stem_leads_from_the_disc_to_the_edge_on_one_side(degrees, towards):
    found = passed(Beamstop(diameter_mm=1, distance_mm=20, stem_width_mm=0.6, stem_deg=degrees)) == 0.0
    across, down = on_stop(experiment(), 20)
    along = across * math.cos(math.radians(degrees)) + down * math.sin(math.radians(degrees))
    aside = down * math.cos(math.radians(degrees)) - across * math.sin(math.radians(degrees))
    stem = (along >= 0) & (np.abs(aside) <= 0.3)
    assert np.array_equal(found, stem | (np.hypot(across, down) <= 0.5))
    assert found[towards]


def test_the_edge_fades_in_a_straight_line_to_the_transmission():
    stop = Beamstop(diameter_mm=4, distance_mm=20, shift_mm=(1.0, -0.5), edge_mm=1.0, transmission=0.1)
    across, down = on_stop(experiment(), 20)
    outside = np.hypot(across - 1.0, down + 0.5) - 2.0
    np.testing.assert_allclose(passed(stop), 0.1 + 0.9 * np.clip(outside + 0.5, 0, 1), atol=1e-6)


def test_a_stop_behind_the_detector_casts_no_shadow_and_is_said():
    simulator = Simulator(experiment(Beamstop(diameter_mm=5, distance_mm=60)))
    assert (simulator.transmission() == 1.0).all()
    assert any("behind the detector" in note for note in simulator.notes)


def in_polygon(x: np.ndarray, y: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Even-odd rule, one ray along x for each point."""
    inside = np.zeros(x.shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 != y1:
            straddles = (y0 <= y) != (y1 <= y)
            inside ^= straddles & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


@pytest.mark.parametrize(
    "corners",
    [
        [(2, 3), (20, 5), (9, 30)],
        [(5.5, 5.5), (5.5, 40.2), (40.7, 40.2), (20, 20), (40.7, 5.5)],  # not convex
        [(-10, -10), (60, -10), (60, 60), (-10, 60)],  # larger than the image
        [(10, 5), (40, 40), (40, 5), (10, 40)],  # crosses itself
    ],
)
def test_a_polygon_of_the_image_hides_the_pixels_whose_middles_it_holds(corners):
    slow, fast = np.mgrid[:48, :48] + 0.5
    expected = in_polygon(fast, slow, np.array(corners, dtype=float))
    assert np.array_equal(passed(Shadow(corners_px=corners)) == 0.0, expected)
    assert np.array_equal(fill_polygon(np.array(corners, dtype=float), 7, 20, 48), expected[7:27])


def hit(corners: np.ndarray, one: Experiment) -> np.ndarray:
    """Whether the ray to each pixel crosses a flat polygon on its way: followed in the polygon's own plane."""
    at = positions(one) * 1000.0
    origin = corners[0]
    u = corners[1] - origin
    normal = np.cross(u, corners[2] - origin)
    v = np.cross(normal, u)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (origin @ normal) / (at @ normal)
        where = at * t[..., None] - origin
        plane = np.stack([(corners - origin) @ u, (corners - origin) @ v], axis=1)
        return (t > 0) & (t < 1) & in_polygon(where @ u, where @ v, plane)


TILTED = "-detector_roty 20 -detector_rotz -10 -twotheta 15"


@pytest.mark.parametrize("more", ["", TILTED])
@pytest.mark.parametrize(
    "corners",
    [
        [(20, 5, 5), (20, 10, 5), (20, 10, 10), (20, 5, 10)],
        [(5.03, 1.07, -3.01), (30.1, 8.04, 4.07), (12.3, 9.05, 5.03)],  # leans, and reaches nearly to the detector
        [(-10, 2, 3), (25, 2, 3), (25, 2, -8), (-10, 2, -8)],  # from behind the crystal
        [(20, 4, 4.013), (80, 4, 4.013), (80, -9, 4.013), (20, -9, 4.013)],  # to behind the detector
        [(-20, 5, 5), (-20, 10, 5), (-20, 10, 10)],  # all behind the crystal
    ],
)
def test_a_thing_in_the_laboratory_hides_what_lies_behind_it(corners, more):
    found = passed(Shadow(corners_mm=corners), more=more) == 0.0
    expected = hit(np.array(corners, dtype=float), experiment(more=more))
    # A middle within rounding of an edge may fall to either side.
    assert (found != expected).sum() <= 2


def test_a_solid_hides_what_any_of_its_faces_does():
    cube = np.array([(x, y, z) for x in (10, 20) for y in (2, 6) for z in (-4, 1)], dtype=float)
    found = passed(Shadow(corners_mm=cube, solid=True)) == 0.0
    faces = ([0, 1, 3, 2], [4, 5, 7, 6], [0, 1, 5, 4], [2, 3, 7, 6], [0, 2, 6, 4], [1, 3, 7, 5])
    expected = np.any([hit(cube[face], experiment()) for face in faces], axis=0)
    assert (found != expected).sum() <= 2 and found.sum() > 100


def test_what_turns_with_the_spindle_is_the_mean_over_the_frames_steps():
    # The spindle is z in this laboratory.
    corners = np.array([(20, 5, 2), (20, 10, 2), (20, 10, 7), (20, 5, 7)], dtype=float)
    rotation = Rotation(phi_deg=-15.0, osc_deg=20.0, phi_steps=4)
    found = passed(Shadow(corners_mm=corners, turns=True, transmission=0.2), rotation=rotation)
    steps = []
    for degrees in (-15.0, -10.0, -5.0, 0.0):
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        turned = corners @ np.array([(c, s, 0), (-s, c, 0), (0, 0, 1)])
        steps.append(0.2 + 0.8 * ~hit(turned, experiment()))
    assert (np.abs(found - np.mean(steps, axis=0)) > 1e-6).sum() <= 4
    assert len(np.unique(found)) > 2
    still = passed(Shadow(corners_mm=corners, transmission=0.2), rotation=rotation)
    assert not np.array_equal(still, found)


def test_shadows_fall_on_each_of_several_panels():
    size = {"n_fast": 20, "n_slow": 24, "pixel_mm": (0.5, 0.4)}
    panels = [
        Panel(origin_mm=(-11, 5, 40), fast=(1, 0.05, 0), slow=(0.2, -1, 0.1), **size),
        Panel(origin_mm=(1, 5, 42), fast=(1, 0, 0.3), slow=(0, -1, 0), first_row=3, first_column=25, **size),
    ]
    one = experiment().replace(detector=Detector(panels=panels, convention="adxv"))
    corners = np.array([(-4, -2, 20), (4, -2, 20), (4, 1, 20), (-4, 1, 20)], dtype=float)
    air = AirPath()
    found = Simulator(one.replace(transmission=(Shadow(corners_mm=corners), air))).transmission()
    there = ~np.isnan(positions(one)[..., 0])
    with np.errstate(invalid="ignore"):
        expected = ~hit(corners, one) * np.exp(-per_m("air") * np.linalg.norm(positions(one), axis=-1))
    assert (found[~there] == 1.0).all()
    assert (np.abs(found - expected)[there] > 1e-5).sum() <= 2
    assert (found[:24, :20] == 0).any() and (found[3:27, 25:] == 0).any()


def test_air_counts_to_the_pixels_of_a_curved_detector():
    found = passed(AirPath(), Shadow(corners_px=[(0, 0), (9, 0), (0, 9)]), more="-curved_det")
    # Every pixel is as far as the detector's distance.
    assert found.max() == pytest.approx(math.exp(-per_m("air") * 0.040), rel=1e-6)
    with pytest.raises(InputError, match="curved"):
        Simulator(experiment(Shadow(corners_mm=[(9, 0, 0), (9, 1, 0), (9, 1, 1)]), more="-curved_det"))


# --- frames

#: Pixels small enough for the engine of spots; a disc of 3 mm at 10 mm would hide all of them.
SPOTS = "-gauss_xtal -engine spots -pixel 0.1 -distance 60 -cell 150 -fidelity physical"

STOP = Beamstop(diameter_mm=0.3, distance_mm=10)

WAYS = (
    AirPath(),
    Absorption(shape="plate", thickness_mm=1.0),
    Beamstop(diameter_mm=3, distance_mm=10, edge_mm=0.3),
    Shadow(corners_px=[(30, 30), (48, 30), (48, 48)], transmission=0.25),
)


@pytest.mark.parametrize("extra", ["", "-precision float64", SPOTS])
def test_a_frame_is_multiplied_once(extra):
    bare = simulate(experiment(more=extra))
    simulator = Simulator(experiment(*WAYS, more=extra))
    frame = simulator.render()
    assert np.array_equal(frame, bare * simulator.transmission())
    rows = [tile.copy() for _, tile in simulator.tiles(7)]
    assert np.array_equal(np.concatenate(rows), frame)
    assert simulator.statistics.sum == pytest.approx(float(frame.sum(dtype=float)))


def test_nothing_in_the_way_is_bitwise_nothing():
    assert Simulator(experiment()).transmission() is None
    assert "transmission" not in experiment().to_dict()
    assert experiment() == Experiment.from_nanobragg(LINE)


def test_backgrounds_go_through_what_says_so():
    water = (Background(material="water", thickness_mm=0.2),)
    layer = simulate(experiment(backgrounds=water)) - simulate(experiment())
    simulator = Simulator(experiment(*WAYS, backgrounds=water))
    of_crystal, of_background = simulator.transmission(), simulator.transmission(backgrounds=True)
    np.testing.assert_allclose(of_background * passed(WAYS[1]), of_crystal, rtol=1e-6)
    expected = simulate(experiment()) * of_crystal + layer * of_background
    np.testing.assert_allclose(simulator.render(), expected, rtol=1e-4, atol=1e-6 * expected.max())
    rows = [tile.copy() for _, tile in simulator.tiles(11)]
    assert np.array_equal(np.concatenate(rows), simulator.render())
    spared = Window(material="al", thickness_um=200, backgrounds=False)
    through = Simulator(experiment(spared, backgrounds=water))
    assert (through.transmission(backgrounds=True) == 1.0).all()


def test_diffuse_scattering_goes_through_all_that_the_crystals_photons_do():
    simulator = Simulator(experiment(*WAYS, diffuse=Diffuse()))
    bare = simulate(experiment(diffuse=Diffuse()))
    assert np.array_equal(simulator.render(), bare * simulator.transmission())


@pytest.mark.parametrize("extra", ["", SPOTS])
def test_photons_of_spots_are_those_that_arrive(extra):
    ways = (AirPath(), STOP)
    bare, simulator = Simulator(experiment(more=extra)), Simulator(experiment(*ways, more=extra))
    bare.render()
    simulator.render()
    before, after = bare.spot_table(0.0), simulator.spot_table(0.0)
    assert len(before) == len(after) > 20
    at = after["slow"].astype(int), after["fast"].astype(int)
    np.testing.assert_allclose(after["photons"], before["photons"] * simulator.transmission()[at])
    np.testing.assert_array_equal(after["partiality"], before["partiality"])
    threshold = float(np.median(before["photons"]))
    kept = simulator.spot_table(threshold)
    assert 0 < len(kept) < len(bare.spot_table(threshold)) and kept["photons"].min() >= threshold


def test_labels_have_no_spot_where_nothing_arrives():
    extra = SPOTS
    simulator = Simulator(experiment(STOP, more=extra))
    simulator.render()
    bare = Simulator(experiment(more=extra))
    bare.render()
    dark = simulator.transmission() == 0.0
    found, before = simulator.labels(), bare.labels()
    assert (found.spot[dark] == -1).all() and np.isnan(found.h[dark]).all()
    assert np.array_equal(found.wavelength_A[~dark], before.wavelength_A[~dark], equal_nan=True)


def test_a_background_of_a_frame_is_what_was_scattered_not_what_arrived():
    water = (Background(material="water", thickness_mm=0.2),)
    one = experiment(AirPath(), STOP, more="-default_F 1e-9", backgrounds=water)
    table = background_of_frame(simulate(one), one, bins=30, least_pixels=10, thickness_mm=0.2)
    stol, F = water[0].table
    middle = (table.stol_per_A > 0.1) & (table.stol_per_A < 0.2)
    np.testing.assert_allclose(
        table.F[middle] * math.sqrt(table.density / table.molar_mass),
        np.interp(table.stol_per_A[middle], stol, F) * math.sqrt(water[0].density / water[0].molar_mass),
        rtol=0.03,
    )


# --- what it is made of


def test_obstacles_are_kept_in_json():
    one = experiment(*WAYS, Window(material="ZnS", density_g_per_cm3=4.09, thickness_um=3))
    assert Experiment.from_json(one.to_json()) == one
    kinds = [each["kind"] for each in json.loads(one.to_json())["transmission"]]
    assert kinds == ["air", "absorption", "beamstop", "shadow", "window"]
    assert "transmission[2] beamstop" in str(one)


def test_flags_say_the_same(tmp_path):
    (tmp_path / "pin.txt").write_text("# a pin\n20 5 5\n20 10 5\n20 10 10\n\n1, 1\n9, 1\n9, 9\n")
    (tmp_path / "head.txt").write_text("20 5 5\n20 10 5\n# still the same\n20 10 10\n")
    words = (
        "-air all -gas he -air_before 12 -window kapton 25 -beam_window be 100 -sample_sphere water 0.2 "
        "-sample_plate protein 0.1 -beamstop 2 30 -beamstop_shift 0.1 -0.2 -beamstop_stem 0.5 45 -beamstop_edge 0.1 "
        "-beamstop_transmission 0.01 -shadow pin.txt -shadow_turning head.txt"
    )
    pin = [(20, 5, 5), (20, 10, 5), (20, 10, 10)]
    expected = (
        AirPath(gas="he", before_mm=12),
        Window(material="kapton", thickness_um=25),
        Window(material="be", thickness_um=100, before=True),
        Absorption(material="water", thickness_mm=0.2),
        Absorption(shape="plate", material="protein", thickness_mm=0.1),
        Shadow(corners_mm=pin),
        Shadow(corners_px=[(1, 1), (9, 1), (9, 9)]),
        Shadow(corners_mm=pin, turns=True),
        Beamstop(
            diameter_mm=2,
            distance_mm=30,
            shift_mm=(0.1, -0.2),
            stem_width_mm=0.5,
            stem_deg=45,
            edge_mm=0.1,
            transmission=0.01,
        ),
    )
    assert Experiment.from_nanobragg(LINE + words, tmp_path).transmission == expected
    assert Shadow.list_from_file(tmp_path / "head.txt", turns=True) == (expected[-2],)
    assert Experiment.from_nanobragg(LINE + "-air 30").transmission == (AirPath(end_mm=30),)
    (before,) = Experiment.from_nanobragg(LINE + "-air_before 30").transmission
    np.testing.assert_allclose(passed(before), math.exp(-per_m("air") * 0.030), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: AirPath(gas="smoke"), "AirPath.gas must be"),
        (lambda: AirPath(start_mm=5, end_mm=3), "AirPath.end_mm must be greater than 5"),
        (lambda: Window(material="kapton", thickness_um=-1), "Window.thickness_um must lie"),
        (lambda: Window(material="ZnS", thickness_um=1), "Window.material needs a density"),
        (lambda: Window(material="be", thickness_um=1, normal=(0, 0, 0)), "zero vector"),
        (lambda: Absorption(shape="cube"), "must be one of sphere, plate"),
        (lambda: Absorption(turns=True), "no meaning for a sphere"),
        (lambda: Beamstop(diameter_mm=1, distance_mm=0), "greater than 0"),
        (lambda: Beamstop(diameter_mm=1, distance_mm=9, transmission=1.5), "between 0 and 1"),
        (lambda: Shadow(), "either corners_mm or corners_px"),
        (lambda: Shadow(corners_px=[(0, 0), (1, 1)]), "3 to 10000 corners"),
        (lambda: Shadow(corners_px=[(0, 0), (1, 1), (np.nan, 2)]), "finite"),
        (lambda: Shadow(corners_px=[(0, 0, 0)] * 3), "2 numbers each"),
        (lambda: Shadow(corners_px="abc"), "2 numbers each"),
        (lambda: Shadow(corners_mm=[(0, 0, 0), (1, 1, 1), (2, 2, 2)]), "one line"),
        (lambda: Shadow(corners_mm=[(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 1)]), "one plane"),
        (lambda: Shadow(corners_mm=[(0, 0, 1), (1, 0, 1), (0, 1, 1)], solid=True), "must not be flat"),
        (lambda: Shadow(corners_px=[(0, 0), (1, 0), (0, 1)], turns=True), "needs corners_mm"),
        (lambda: experiment("air"), r"transmission\[0\] must be an AirPath"),
        (lambda: Experiment.from_nanobragg(LINE).replace(transmission=3), "must be a tuple of AirPath"),
        (lambda: Simulator(experiment(AirPath(), more="-lambda 20")), "1 to 200 keV"),
    ],
)
def test_what_cannot_be_is_refused(make, said):
    with pytest.raises(InputError, match=said):
        make()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "at least one polygon"),
        ("1 2\n3 4 5\n", "line 2"),
        ("1 2 x\n", "line 1"),
        ("1\n", "line 1"),
        ("1 1\n2 2\n", "3 to 10000 corners"),
    ],
)
def test_a_file_of_polygons_that_is_none_is_refused(tmp_path, text, said):
    (tmp_path / "bad.txt").write_text(text)
    with pytest.raises(InputError, match="bad.txt.*" + said):
        Shadow.list_from_file(tmp_path / "bad.txt")


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ([{"kind": "fog"}], "kind must be one of air"),
        ([{}], "kind must be one of air"),
        ([{"kind": "window"}], "Window.material must be given"),
        ([{"kind": "air", "gass": "he"}], "did you mean gas"),
        (["air"], "must be a JSON object"),
        ({"kind": "air"}, "must be a list"),
    ],
)
def test_json_that_says_no_obstacle_is_refused(listed, said):
    values = json.loads(experiment().to_json())
    values["transmission"] = listed
    with pytest.raises(InputError, match=said):
        Experiment.from_json(json.dumps(values))
