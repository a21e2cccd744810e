"""Sensors by their material: a depth at every wavelength, of every panel."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bragg_numba import Background, Beam, Detector, Experiment, InputError, Panel, Simulator, Spectrum, simulate
from bragg_numba.experiment.placing import pixel_positions, place_detector
from bragg_numba.materials import attenuation_per_m, find_material

LINE = "-cell 60 -default_F 100 -N 3 -detpixels 48 -pixel 0.5 -distance 40 -oversample 1 -fluence 1e26 -nopolar "


def experiment(more: str = "", **parts) -> Experiment:
    return Experiment.from_nanobragg(LINE + more).replace(**parts)


def per_m(material: str, wavelength_A: float) -> float:
    return float(attenuation_per_m("x", find_material("x", material), wavelength_A, absorbed=True))


def cosines(one: Experiment) -> np.ndarray:
    at = pixel_positions(place_detector(one), curved=False)
    return at @ np.array(place_detector(one).normal) / np.linalg.norm(at, axis=-1)


@pytest.mark.parametrize(("material", "wavelength_A"), [("Si", 1.0), ("CdTe", 0.4), ("GaAs", 1.3)])
@pytest.mark.parametrize("fidelity", ["nanobragg", "physical"])
def test_a_material_is_its_depth_at_the_wavelength(material, wavelength_A, fidelity):
    line = f"-lambda {wavelength_A} -fidelity {fidelity} -detector_thick 300 "
    depth_um = 1e6 / per_m(material, wavelength_A)
    known = simulate(experiment(f"{line} -detector_abs {depth_um!r}"))
    np.testing.assert_allclose(simulate(experiment(f"{line} -sensor {material}")), known, rtol=1e-6)


def test_a_sensor_captures_what_its_material_absorbs():
    water = (Background(material="water", thickness_mm=0.1),)
    # Far away, so that deeper layers look as large as the front.
    far = "-default_F 1e-9 -distance 400 -pixel 5"
    pair = [experiment(far + sensor, backgrounds=water) for sensor in ("", " -sensor Si -detector_thick 200")]
    bare, captured = map(simulate, pair)
    expected = -np.expm1(-per_m("Si", 1.0) * 200e-6 / cosines(pair[0]))
    np.testing.assert_allclose(captured / bare, expected, rtol=1e-3)


def test_detectors_say_the_material_in_python():
    detector = Detector(sensor="Si", thickness_um=450)
    assert detector.sensors[0].attenuation_per_m(1.0) == pytest.approx(per_m("Si", 1.0))
    assert detector.sensors[0].attenuation_per_m([0.5, 1.0])[0] == pytest.approx(per_m("Si", 0.5))
    assert detector.sensor_depths_um(0.5) == pytest.approx([1e6 / per_m("Si", 0.5)])
    assert Detector().sensor_depths_um(0.5) == (np.inf,)
    assert Detector.from_dict(json.loads(json.dumps(detector.to_dict()))) == detector
    assert "sensor='Si'" in repr(detector)


def test_a_depth_that_is_given_wins_over_the_material():
    detector = Detector(sensor="Si", thickness_um=450, attenuation_depth_um=100)
    assert detector.sensors[0].attenuation_per_m([0.5, 1.0]) == pytest.approx([1e4, 1e4])


def test_every_panel_has_a_material_of_its_own():
    size = {"n_fast": 16, "n_slow": 16, "pixel_mm": 0.5, "fast": (1, 0, 0), "slow": (0, -1, 0)}
    panels = [
        Panel(origin_mm=(-9, 4, 40), **size),
        Panel(origin_mm=(1, 4, 40), sensor="CdTe", thickness_um=100, first_row=0, first_column=16, **size),
    ]
    detector = Detector(panels=panels, convention="adxv", sensor="Si", thickness_um=300)
    found = [sensor.attenuation_per_m(1.0) for sensor in detector.sensors]
    assert found == pytest.approx([per_m("Si", 1.0), per_m("CdTe", 1.0)])
    plan = Simulator(experiment().replace(detector=detector)).plan
    assert [panel.attenuation for panel in plan.panels] == pytest.approx(found)
    assert [sensor.thickness_um for sensor in detector.sensors] == [300, 100]


@pytest.mark.parametrize("extra", ["", "-fidelity physical"])
def test_each_line_of_a_spectrum_has_its_own_depth(extra):
    # Two lines far apart, on pixels that see the sensor at nearly one angle.
    waves = (0.6, 1.2)
    small = "-pixel 0.1 -distance 100 -sensor Si -detector_thick 300 " + extra
    two = experiment(small)
    spectrum = Spectrum.table([0.25, 0.75], wavelengths_A=waves)
    both = simulate(two.replace(beam=two.beam.replace(spectrum=spectrum)))
    alone = [simulate(experiment(f"{small} -lambda {wave}")) for wave in waves]
    expected = spectrum.pulse(1.0, 0).weight
    expected = expected / expected.sum()
    # The reference's angle is 1.2 degrees off at most: 1 / cos is 1.0004.
    np.testing.assert_allclose(both, expected[0] * alone[0] + expected[1] * alone[1], rtol=2e-3, atol=2e-4 * both.max())


def test_backgrounds_know_each_wavelengths_depth_too():
    waves, water = (0.6, 1.2), (Background(material="water", thickness_mm=0.1),)
    one = experiment("-pixel 0.1 -distance 100 -sensor Si -detector_thick 300 -default_F 1e-9", backgrounds=water)
    spectrum = Spectrum.table([0.5, 0.5], wavelengths_A=waves, equal_energy=True)
    both = simulate(one.replace(beam=one.beam.replace(spectrum=spectrum)))
    share = spectrum.pulse(1.0, 0).weight / spectrum.pulse(1.0, 0).weight.sum()
    alone = [simulate(one.replace(beam=one.beam.replace(wavelength_A=wave))) for wave in waves]
    np.testing.assert_allclose(both, share[0] * alone[0] + share[1] * alone[1], rtol=2e-3)


def test_where_angles_matter_the_error_is_said():
    wide = experiment("-distance 12 -sensor Si -detector_thick 300")
    spectrum = Spectrum.table([0.5, 0.5], wavelengths_A=(0.6, 1.2))
    notes = Simulator(wide.replace(beam=wide.beam.replace(spectrum=spectrum))).notes
    assert any("in places one is off by up to" in note for note in notes)
    narrow = Spectrum(shape="gaussian", bandwidth_percent=0.5, channels=5)
    notes = Simulator(wide.replace(beam=wide.beam.replace(spectrum=narrow))).notes
    assert not any("in places" in note for note in notes)


def test_the_beams_own_weights_are_what_the_truth_says():
    one = experiment("-sensor Si -detector_thick 300")
    spectrum = Spectrum.table([0.25, 0.75], wavelengths_A=(0.6, 1.2))
    bare = one.replace(detector=one.detector.replace(sensor=None, thickness_um=0.0))
    pair = [Simulator(e.replace(beam=e.beam.replace(spectrum=spectrum))).plan.sources for e in (one, bare)]
    np.testing.assert_allclose(pair[0].incident_weight, pair[1].weight, rtol=1e-12)
    assert pair[0].mean_wavelength_A == pytest.approx(pair[1].mean_wavelength_A)
    assert pair[1].efficiency is None


def test_a_material_without_a_thickness_is_no_sensor_and_said():
    one = Simulator(experiment("-sensor Si"))
    assert any("without a thickness" in note for note in one.notes)
    assert np.array_equal(one.render(), simulate(experiment()))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sensor": "Sj"}, "Detector.sensor must be"),
        ({"sensor": "ZnS"}, "Detector.sensor needs a density"),
        ({"sensor": "Si", "sensor_density_g_per_cm3": 0}, "must be greater than 0"),
        ({"sensor_density_g_per_cm3": 2}, "no meaning without a sensor"),
        ({"sensor": 14}, "name or a formula"),
    ],
)
def test_a_sensor_that_cannot_be_is_refused(fields, said):
    with pytest.raises(InputError, match=said):
        Detector(thickness_um=100, **fields)


def test_a_wavelength_beyond_the_table_is_refused():
    one = experiment("-sensor Si -detector_thick 100").replace(beam=Beam(wavelength_A=30.0))
    with pytest.raises(InputError, match="1 to 200 keV"):
        Simulator(one)


PANEL = {
    **{"name": "p", "type": "", "identifier": "", "fast_axis": [1, 0, 0], "slow_axis": [0, -1, 0]},
    **{"origin": [-12, 12, -100], "pixel_size": [0.5, 0.5], "image_size": [48, 48], "trusted_range": [0, 65535]},
    **{"raw_image_offset": [0, 0], "gain": 1, "pedestal": 0, "mask": [], "thickness": 0.5, "material": "CdTe", "mu": 0},
    "px_mm_strategy": {"type": "ParallaxCorrectedPxMmStrategy"},
}


@pytest.mark.parametrize(("fields", "per_mm"), [({}, None), ({"mu": 5.0}, 5.0), ({"material": "Kryptonite"}, 0.0)])
def test_an_expt_names_a_material_and_its_mu_wins(tmp_path, fields, per_mm):
    beam = {"direction": [0, 0, 1], "wavelength": 0.8, "polarization_normal": [0, 1, 0], "polarization_fraction": 0.99}
    experiment_ = {"__id__": "Experiment", "identifier": "", "beam": 0, "detector": 0}
    listed = {
        **{"__id__": "ExperimentList", "experiment": [experiment_], "imageset": [], "beam": [beam]},
        **{"detector": [{"panels": [{**PANEL, **fields}]}], "goniometer": [], "scan": [], "crystal": [], "profile": []},
        "scaling_model": [],
    }
    (tmp_path / "one.expt").write_text(json.dumps(listed))
    detector = Detector.from_expt(tmp_path / "one.expt")
    wanted = per_m("CdTe", 0.8) if per_mm is None else per_mm * 1000.0
    assert float(detector.sensors[0].attenuation_per_m(0.8)) == pytest.approx(wanted)
