"""Amorphous backgrounds: what nonBragg renders, in experiments and in command lines of that program."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from bragg_numba.kernels import physics

from bragg_numba import (
    Background,
    Beam,
    Crystal,
    Detector,
    Experiment,
    InputError,
    Panel,
    Sampling,
    Simulator,
    StructureFactors,
    background_of_frame,
)
from bragg_numba.cli.bragg import main
from bragg_numba.experiment.materials import MATERIALS
from bragg_numba.io.smv import read_smv
from bragg_numba.plan.amorphous import cut_table
from bragg_numba.plan.plan import make_plan
from bragg_numba.render.amorphous import render_layers

EPS = float(np.finfo(np.float32).eps)
ROOT = Path(__file__).resolve().parents[2]
OURS = ROOT / "tests" / "golden" / "backgrounds.h5"
SHARED = ROOT.parent / "shared" / "golden" / "background.h5"
#: Nothing but background: a crystal that scatters 1e-12 of it.
FAINT = {"crystal": Crystal(cell=(50,), cell_counts=(1, 1, 1)), "structure_factors": StructureFactors(default_F=1e-9)}
RAMP = {"stol_per_A": np.array([0.0, 0.1, 0.25, 0.5]), "F": np.array([2.0, 5.0, 8.0, 3.0])}


def _cases(path):
    if not path.exists():
        return []
    with h5py.File(path) as file:
        return [name for name in file if name != "inputs"]


def _render_command(words, folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["background", "--", *words, "-floatfile", "out.bin"]) == 0
    return np.fromfile("out.bin", "<f4")


def _golden(path, name, folder, monkeypatch):
    with h5py.File(path) as file:
        for table, text in file["inputs"].items():
            (folder / table).write_bytes(text[()])
        words, theirs = file[name].attrs["command"].split(), file[name]["image"][()]
    ours = _render_command(words, folder, monkeypatch).reshape(theirs.shape)
    assert (np.abs(ours - theirs) <= 1e-5 * np.abs(theirs) + 2e-7 * theirs.max()).all()


@pytest.mark.parametrize("name", _cases(OURS))
def test_a_command_of_nonbragg_gives_its_image(name, tmp_path, monkeypatch):
    _golden(OURS, name, tmp_path, monkeypatch)


@pytest.mark.skipif(not SHARED.exists(), reason="the shared golden images are not beside this checkout")
def test_all_shared_commands_of_nonbragg_give_its_images(tmp_path, monkeypatch):
    names = _cases(SHARED)
    assert len(names) >= 4
    for name in names:
        _golden(SHARED, name, tmp_path, monkeypatch)


def _experiment(**parts):
    parts = {"backgrounds": (Background(**RAMP),), **FAINT, **parts}
    parts.setdefault("beam", Beam(wavelength_A=1.1, fluence_per_m2=1e22, polarization=0.7))
    parts.setdefault("detector", Detector(n_fast=30, n_slow=20, pixel_mm=2.0, distance_mm=90, rotation_deg=(2, -5, 3)))
    return Experiment(**parts)


def _background(experiment):
    return render_layers(make_plan(experiment).amorphous)


def _lagrange(x, y, at):
    """nonBragg's interpolation, point by point, with its two points far beyond either end."""
    far_x = np.concatenate([[-1e99, -1e98], x, [1e98, 1e99]])
    far_y = np.concatenate([[y[0]] * 2, y, [y[-1]] * 2])
    k = np.searchsorted(far_x, at, side="right") - 1
    return sum(
        far_y[k - 1 + i]
        * np.prod([(at - far_x[k - 1 + j]) / (far_x[k - 1 + i] - far_x[k - 1 + j]) for j in range(4) if j != i])
        for i in range(4)
    )


@pytest.mark.parametrize("points", [1, 2, 3, 4, 7])
def test_cubics_are_those_through_four_points_and_lines_outside(points):
    random = np.random.default_rng(points)
    x, y = np.cumsum(random.uniform(0.01, 0.2, points)), random.normal(size=points)
    table = cut_table(x, y)
    for at in np.concatenate([random.uniform(0.0, x[-1] * 1.3, 200), x]):
        place = int(np.searchsorted(table.ends, at, side="right"))
        ours = physics.cubic.py_func(table.cubics, place, at)
        assert ours == pytest.approx(_lagrange(x, y, at), rel=1e-9, abs=1e-9 * np.abs(y).max())


def _by_hand(experiment, photons_of_square):
    """Eq. 42 for a flat detector, one source and one sub-pixel, in numpy."""
    at = experiment.pixel_positions_m()
    far = np.linalg.norm(at, axis=-1)
    d = at / far[..., None]
    plan = make_plan(experiment)
    i, axis, g = np.array(plan.detector.beam), np.array(plan.detector.polarization), plan.detector.panels[0]
    stol = 0.5 * np.linalg.norm(d - i, axis=-1) / experiment.beam.wavelength_A
    b = np.cross(axis, i)
    e = np.cross(i, b)
    cos = d @ i
    psi = np.arctan2(d @ b, d @ e)
    polar = 0.5 * (1 + cos**2 - experiment.beam.polarization * np.cos(2 * psi) * (1 - cos**2))
    omega = g.pitch_fast * g.height * g.close_distance / far**3
    table = experiment.backgrounds[0].table
    F = np.vectorize(lambda s: _lagrange(*table, s))(stol)
    return photons_of_square * F * np.abs(F) * polar * omega


def test_photons_are_those_of_the_equation():
    experiment = _experiment(
        backgrounds=(Background(**RAMP, thickness_mm=0.3, density_g_per_cm3=0.9, molar_mass_g_per_mol=20.0),)
    )
    # 0.1 mm x 0.1 mm of beam, 0.3 mm of material.
    molecules = 3e-4 * 1e-4 * 1e-4 * 0.9e6 * 6.02214179e23 / 20.0
    expected = _by_hand(experiment, physics.R_E_SQUARED * 1e22 * molecules)
    assert np.allclose(_background(experiment), expected, rtol=4 * EPS, atol=0.0)


def test_the_size_of_the_beam_cancels_where_it_clips_the_sample():
    images = [
        _background(_experiment(beam=Beam(flux_per_s=1e12, beam_size_mm=size), backgrounds=Background(**RAMP)))
        for size in (0.01, 0.3)
    ]
    assert np.allclose(*images, rtol=4 * EPS)
    clipped = make_plan(_experiment(beam=Beam(beam_size_mm=0.05), backgrounds=Background(**RAMP, width_mm=0.2)))
    assert any("clipped in width from 0.2 to 0.05 mm" in note for note in clipped.notes)


def test_a_frame_is_bragg_photons_and_all_backgrounds():
    two = (Background(material="water"), Background(material="air", thickness_mm=10.0))
    parts = {
        "crystal": Crystal(cell=(30, 40, 50), cell_counts=(5, 5, 5)),
        "structure_factors": StructureFactors(default_F=1e6),
    }
    dry = Simulator(_experiment(**parts, backgrounds=())).render()
    both = Simulator(_experiment(**parts, backgrounds=two)).render()
    alone = [_background(_experiment(**parts, backgrounds=one)) for one in two]
    assert np.allclose(both, dry + alone[0] + alone[1], rtol=4 * EPS)
    assert all(image.min() > 0.0 for image in alone)
    simulator = Simulator(_experiment(**parts, backgrounds=two))
    tiles = np.concatenate([tile.copy() for _, tile in simulator.tiles(rows=7)])
    assert np.array_equal(tiles, both)


def test_region_and_mask_leave_the_rest_dark():
    mask = np.ones((20, 30), dtype=bool)
    mask[5:8, 10:20] = False
    whole = _background(_experiment())
    detector = _experiment().detector.replace(mask=mask)
    part = _background(_experiment(detector=detector, sampling=Sampling(roi=(3, 25, 2, 17))))
    wanted = np.zeros_like(mask)
    wanted[2:18, 3:26] = True
    wanted &= mask
    assert np.array_equal(part, np.where(wanted, whole, 0.0))


def test_panels_see_what_one_detector_sees():
    size = {"n_fast": 16, "pixel_mm": 2.0, "fast": (1, 0, 0), "slow": (0, -1, 0)}
    one = Panel(n_slow=20, origin_mm=(-16, 20, 90), **size)
    parts = [Panel(n_slow=10, origin_mm=(-16, y, 90), first_row=row, **size) for y, row in ((20, 0), (0, 12))]
    whole, split = (_background(_experiment(detector=Detector(panels=p, convention="adxv"))) for p in ([one], parts))
    assert np.array_equal(whole[:10], split[:10])
    assert np.allclose(whole[10:], split[12:], rtol=4 * EPS)
    assert not split[10:12].any()


def test_a_sensor_captures_what_its_thickness_absorbs():
    bare = _experiment()
    sensor = bare.detector.replace(thickness_um=320.0, attenuation_depth_um=400.0, thickness_steps=2000)
    d = bare.pixel_positions_m()
    d /= np.linalg.norm(d, axis=-1, keepdims=True)
    captured = -np.expm1(-320.0 / 400.0 / (d @ np.array(make_plan(bare).detector.normal)))
    ratio = _background(bare.replace(detector=sensor, fidelity="physical")) / _background(bare)
    # The layers lie deeper than the front, by a few ten-thousandths of a millimetre of 90.
    assert np.allclose(ratio, captured, rtol=1e-2)
    assert np.allclose((ratio / captured)[:, ::29], (ratio / captured).mean(), rtol=5e-3)


def test_curved_pixels_at_one_distance_have_one_solid_angle():
    flat = {"n_fast": 21, "n_slow": 21, "pixel_mm": 4.0, "distance_mm": 60.0}
    table = Background(stol_per_A=np.array([0.0]), F=np.array([3.0]))
    image = _background(
        _experiment(detector=Detector(curved=True, **flat), beam=Beam(polarized=False), backgrounds=table)
    )
    assert image.max() / image.min() - 1.0 < 4 * EPS


def test_weights_of_sources_say_how_the_fluence_is_shared():
    rows = [(None, None, None, 1.0, 1.0e-10), (None, None, None, 3.0, 1.2e-10)]
    mixed = _background(_experiment(beam=Beam(fluence_per_m2=1e22, sources=rows)))
    first, second = (_background(_experiment(beam=Beam(fluence_per_m2=1e22, wavelength_A=w))) for w in (1.0, 1.2))
    assert np.allclose(mixed, 0.25 * first + 0.75 * second, rtol=4 * EPS)


def test_weights_that_make_no_mean_are_refused():
    rows = [(None, None, None, 0.0, None)]
    _experiment(beam=Beam(sources=rows), backgrounds=())
    with pytest.raises(InputError, match="beside backgrounds"):
        _experiment(beam=Beam(sources=rows))


@pytest.mark.parametrize(
    ("material", "thickness_mm", "photons"), [("water", 0.1, 425.0), ("water", 0.005, 21.0), ("air", 10.0, 41.0)]
)
def test_magnitudes_of_water_and_air(material, thickness_mm, photons):
    # 1e12 photons, 75 um pixels that face the sample at 150 mm, at sin(theta)/lambda = 0.16; no polarization.
    turn = 2.0 * np.arcsin(0.16)
    place = (-0.0375, 150 * np.sin(turn) - 0.0375, 150 * np.cos(turn))
    facing = {"fast": (1, 0, 0), "slow": (0, np.cos(turn), -np.sin(turn))}
    pixel = Panel(n_fast=1, n_slow=1, pixel_mm=0.075, origin_mm=place, **facing)
    image = _background(
        _experiment(
            beam=Beam(wavelength_A=1.0, flux_per_s=1e12, polarized=False),
            detector=Detector(panels=[pixel], convention="xds"),
            backgrounds=Background(material=material, thickness_mm=thickness_mm),
        )
    )
    assert image[0, 0] == pytest.approx(photons, rel=0.06)


def test_materials_are_positive_have_their_rings_and_add_up_to_their_electrons():
    assert set(MATERIALS) == {"water", "air", "n2", "he", "ice_ih", "ice_ic", "ice_isd", "kapton", "paratone"}
    for material in MATERIALS.values():
        assert (np.diff(material.stol_per_A) > 0.0).all()
        assert (material.F >= 0.0).all()
        assert material.stol_per_A[-1] >= 1.5
    assert Background(material="Paratone-N").material == "paratone"
    assert MATERIALS["n2"].F[0] == pytest.approx(14.0, rel=1e-3)
    assert MATERIALS["he"].F[0] == pytest.approx(2.0, rel=1e-3)
    # Rings of hexagonal ice, and the three of cubic ice (Thorn et al. 2017), angstrom.
    for name, spacings in (("ice_ih", (3.90, 3.67, 3.44, 2.67, 2.25, 2.07)), ("ice_ic", (3.67, 2.25, 1.92))):
        s, F = MATERIALS[name].stol_per_A, MATERIALS[name].F
        peaks = s[1:-1][(F[1:-1] >= F[:-2]) & (F[1:-1] >= F[2:])]
        for d in spacings:
            assert np.abs(1.0 / (2.0 * peaks) - d).min() < 0.02, (name, d)


def test_experiments_with_backgrounds_are_saved_and_said(tmp_path, capsys):
    experiment = _experiment(
        backgrounds=(Background(material="Ice Ih", thickness_mm=0.01), Background(**RAMP, name="oil"))
    )
    experiment.save(tmp_path / "e.json")
    again = Experiment.load(tmp_path / "e.json")
    assert again == experiment
    assert np.array_equal(_background(again), _background(experiment))
    assert "ice_ih" in str(experiment) and "0.01 mm" in str(experiment)
    assert "backgrounds" in experiment._repr_html_()
    assert main(["info", str(tmp_path / "e.json")]) == 0
    said = capsys.readouterr().out
    assert "0 ice_ih" in said and "1 oil" in said
    assert "backgrounds" not in _experiment(backgrounds=()).to_json()


def test_the_profile_of_a_frame_is_its_background_whatever_spots_it_has():
    detector = Detector(n_fast=200, n_slow=180, pixel_mm=0.5, distance_mm=100)
    experiment = _experiment(detector=detector, beam=Beam(wavelength_A=1.0, fluence_per_m2=1e22, polarization=0.9))
    clean = _background(experiment)
    random = np.random.default_rng(5)
    image = random.poisson(clean).astype(np.float32)
    spots = random.integers(0, (180, 200), (400, 2))
    image[spots[:, 0], spots[:, 1]] += 30.0 * clean.max()
    image[:, 17] = np.nan
    found = background_of_frame(2.0 * image + 10.0, experiment, bins=60, offset=10.0, gain=2.0, thickness_mm=0.1)
    again = _background(experiment.replace(backgrounds=found))
    # Photons of a bin: a good 500 pixels.
    assert np.median(np.abs(again / clean - 1.0)) < 6.0 / np.sqrt(500.0 * np.median(clean))
    assert np.abs(again - clean).max() < 0.1 * clean.max()


def test_profile_command_writes_a_table_that_background_takes(tmp_path, capsys, monkeypatch):
    experiment = _experiment(detector=Detector(n_fast=100, n_slow=100, pixel_mm=1.0, distance_mm=100))
    experiment.save(tmp_path / "e.json")
    _background(experiment).tofile(tmp_path / "i.bin")
    words = [
        "profile",
        str(tmp_path / "i.bin"),
        "--experiment",
        str(tmp_path / "e.json"),
        "-o",
        str(tmp_path / "t.stol"),
    ]
    assert main([*words, "--bins", "40"]) == 0
    stol, F = np.loadtxt(tmp_path / "t.stol").T
    expected = np.vectorize(lambda s: _lagrange(RAMP["stol_per_A"], RAMP["F"], s))(stol)
    assert np.allclose(F, expected, rtol=0.01)
    _render_command(f"-stol {tmp_path / 't.stol'} -detpixels 20 -pixel 4".split(), tmp_path, monkeypatch)
    assert main([*words, "--bins", "100000"]) == 2
    assert "bins" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "material or a table"),
        ({"material": "wter"}, "did you mean 'water'"),
        ({"material": "water", **RAMP}, "must not come together"),
        ({"stol_per_A": [0.1, 0.1], "F": [1, 2]}, "must rise"),
        ({"stol_per_A": [0.1, 0.2], "F": [1]}, "2 values"),
        ({"stol_per_A": [0.1, 0.2], "F": [1, np.nan]}, "finite"),
        ({"stol_per_A": [], "F": []}, "points"),
        ({"stol_per_A": "ab", "F": [1]}, "array of numbers"),
        ({"material": "water", "thickness_mm": 0.0}, "thickness_mm"),
        ({"material": "water", "density_g_per_cm3": -1}, "density"),
    ],
)
def test_bad_backgrounds_are_refused_in_a_sentence(fields, said):
    with pytest.raises(InputError, match=said):
        Background(**fields)
    with pytest.raises(InputError, match="backgrounds"):
        _experiment(backgrounds="water")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-stol t.stol", "-floatfile"),
        ("-detpixels 20 -floatfile o", "-stol"),
        ("-stol none.stol -floatfile o", "none.stol"),
        ("-stol empty.stol -floatfile o", "at least one line"),
        ("-stol back.stol -floatfile o", "must rise"),
        ("-stol words.stol -floatfile o", "line 2"),
        ("-stol t.stol -img x.img -floatfile o", "profile"),
        ("-stol t.stol -floatfile o -pix0_vector 1 2 3", "-pix0_vector"),
        ("-stol t.stol -floatfile o -cell 50", "not a flag of nonBragg"),
        ("-stol t.stol -floatfile o -lambda x", "-lambda"),
        ("-stol t.stol -floatfile o -roi 1 2 3", "-roi"),
        ("-stol t.stol -floatfile o -detpixels 3.5", "whole number"),
        ("-stol t.stol -floatfile o -fdet_vector 0 0 -1", "in front"),
        ("-stol t.stol -floatfile o -pixel 0", "-pixel"),
        ("-stol t.stol -floatfile o -oversample 1e9", "-oversample"),
        ("-stol t.stol -floatfile no/where/o", "no/where"),
        ("-stol t.stol -floatfile o 5", "belongs to no flag"),
    ],
)
def test_bad_commands_are_refused_in_a_sentence(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, text in (
        ("t", "0 2\n0.3 4\n"),
        ("empty", "\n# nothing\n"),
        ("back", "0.2 1\n0.1 2\n"),
        ("words", "0 1\n0.2 many\n"),
    ):
        (tmp_path / f"{name}.stol").write_text(text)
    assert main(["background", "--", *words.split()]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_later_flags_win_and_short_names_count_as_in_c(tmp_path, monkeypatch, capsys):
    (tmp_path / "t.stol").write_text("0.1, 2; 9\n0.3;4\n0.4\n")
    base = ["-detpixels", "20", "-pixel", "4", "-stol", "t.stol"]
    one = _render_command([*base, "-thick", "0.5", "-wavelength", "1.2"], tmp_path, monkeypatch)
    two = _render_command(
        [*base, "-sample_x", "3", "-thickness", "0.5", "-energy", "9000", "-lambda", "1.2"], tmp_path, monkeypatch
    )
    assert np.array_equal(one, two)
    capsys.readouterr()
    _render_command([*base, "-twotheta", "10", "-twotheta_axis", "0", "0", "1"], tmp_path, monkeypatch)
    assert "sets -twotheta to its first number" in capsys.readouterr().err


def test_images_of_integers_have_the_header_of_nonbragg(tmp_path, monkeypatch):
    (tmp_path / "t.stol").write_text("0 2\n0.3 4\n0.6 1\n")
    words = [
        "-stol",
        "t.stol",
        "-detpixels",
        "20",
        "-pixel",
        "4",
        "-flux",
        "1e11",
        "-Xbeam",
        "30",
        "-osc",
        "2",
        "-phi",
        "5",
        "-adc",
        "7",
        "-scale",
        "2",
        "-seed",
        "3",
    ]
    photons = _render_command([*words, "-intfile", "i.img", "-noisefile", "n.img"], tmp_path, monkeypatch)
    header = (tmp_path / "i.img").read_bytes()[:512].decode("ascii")
    for entry in ("SIZE1=20;", "PIXEL_SIZE=4;", "BEAM_CENTER_X=30;", "OSC_START=5;", "OSC_RANGE=2;", "DISTANCE=100;"):
        assert f"\n{entry}\n" in header
    assert "ORGX=7.5;" in header  # 30 mm of 4 mm pixels
    integers, noise = (read_smv(tmp_path / name).pixels.ravel() for name in ("i.img", "n.img"))
    assert np.array_equal(integers, np.minimum(np.floor(2.0 * photons + 7.5), 65535))
    assert np.abs(noise - 7.0 - photons).max() < 6.0 * np.sqrt(photons.max())


def test_noise_of_negative_photons_is_refused_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.stol").write_text("0 -2\n0.3 4\n")
    words = ["-stol", "t.stol", "-detpixels", "8", "-pixel", "4", "-floatfile", "o", "-noisefile", "n"]
    assert main(["background", "--", *words]) == 2
    assert not (tmp_path / "o").exists() and not (tmp_path / "n").exists()


# --- spectra


@pytest.mark.parametrize("fidelity", ["nanobragg", "physical"])
def test_a_background_sees_the_spectrum_as_the_crystal_does(fidelity):
    from bragg_numba import Spectrum, simulate

    water = Background(material="water", thickness_mm=0.1)
    crystal = Crystal(cell=(50.0,), cell_counts=(2, 2, 2))
    base = Experiment(
        crystal=crystal,
        detector=Detector(n_fast=40, n_slow=30, pixel_mm=1.0),
        backgrounds=(water,),
        structure_factors=StructureFactors(indices=np.zeros((1, 3), np.int32), amplitudes=np.zeros(1)),
        fidelity=fidelity,
    )
    wavelengths, weights = (0.9, 1.0, 1.3), (1.0, 3.0, 2.0)
    spectrum = Spectrum.table(weights, wavelengths_A=wavelengths)
    image = simulate(base.replace(beam=base.beam.replace(spectrum=spectrum)), backend="cpu").astype(np.float64)
    alone = [
        simulate(base.replace(beam=base.beam.replace(wavelength_A=one)), backend="cpu").astype(np.float64)
        for one in wavelengths
    ]
    expected = np.average(alone, axis=0, weights=weights)

    assert image.max() > 0.0
    assert np.abs(image - expected).max() <= 1e-6 * image.max()
