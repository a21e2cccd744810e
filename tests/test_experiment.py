"""Experiments: what they refuse, that they cannot change, and that every way to one gives the same pixels."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bragg_numba import (
    Beam,
    Crystal,
    Detector,
    Experiment,
    InputError,
    Rotation,
    Sampling,
    Simulator,
    StructureFactors,
    simulate,
)
from bragg_numba.cli import bragg, nanobragg
from bragg_numba.io.structure_factor_files import write_dump

CELL = (70, 80, 90, 75, 85, 95)


def rich_experiment() -> Experiment:
    """Something in every part, arrays and a mask included."""
    rng = np.random.default_rng(5)
    mask = rng.random((20, 24)) > 0.2
    return Experiment(
        beam=Beam(wavelength_A=1.5, fluence_per_m2=1e26, polarization=0.9, dispersion_percent=1, dispersion_steps=2),
        crystal=Crystal(
            cell=CELL, misset_deg=(10, 20, 30), cell_counts=(4, 5, 6), mosaic_spread_deg=0.3, mosaic_domains=2
        ),
        detector=Detector(
            n_fast=24, n_slow=20, pixel_mm=2, distance_mm=90, convention="xds", twotheta_deg=5, mask=mask
        ),
        rotation=Rotation(phi_deg=1, osc_deg=0.5, phi_steps=2),
        sampling=Sampling(oversample=2, roi=(1, 22, 2, 18), dmin_A=1.6),
        structure_factors=StructureFactors(
            default_F=3, indices=rng.integers(-9, 9, (200, 3)), amplitudes=rng.random(200) * 100
        ),
    )


# --- JSON


def test_an_experiment_comes_back_from_its_json_and_renders_the_same_bits(tmp_path):
    experiment = rich_experiment()
    again = Experiment.from_json(experiment.to_json())
    assert again == experiment and hash(again) == hash(experiment)
    assert (simulate(again) == simulate(experiment)).all()
    experiment.save(tmp_path / "e.json")
    assert Experiment.load(tmp_path / "e.json") == experiment


def test_json_holds_every_field_of_every_part():
    experiment = rich_experiment()
    values = json.loads(experiment.to_json())
    for part in ("beam", "crystal", "detector", "rotation", "sampling", "structure_factors"):
        fields = {field.name for field in dataclasses.fields(getattr(experiment, part))}
        assert set(values[part]) == fields


def test_parts_that_are_left_out_of_the_json_take_their_defaults():
    parts = {"crystal": {"cell": [50]}, "structure_factors": {"default_F": 9}}
    text = json.dumps({"format": "bragg_numba experiment", "version": 1, **parts})
    experiment = Experiment.from_json(text)
    assert experiment.beam == Beam() and experiment.detector == Detector()
    assert experiment.crystal.cell == (50, 50, 50, 90, 90, 90)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[]", "must be a JSON object"),
        ('{"format": "other"}', '"format"'),
        ('{"format": "bragg_numba experiment", "version": 99}', "newer"),
        ('{"format": "bragg_numba experiment", "version": 1}', "crystal must be given"),
        ('{"format": "bragg_numba experiment", "version": 1, "cristal": {}}', "cristal"),
        (
            '{"format": "bragg_numba experiment", "version": 1, "crystal": {"cel": [1]}, "structure_factors": {}}',
            "cell",
        ),
        ('{"format": "bragg_numba experiment", "version": 1, "crystal": 3, "structure_factors": {}}', "JSON object"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_json_that_is_no_experiment_is_refused(text, complaint):
    with pytest.raises(InputError, match=complaint):
        Experiment.from_json(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    part=st.sampled_from(["beam", "crystal", "detector", "rotation", "sampling", "structure_factors"]), data=st.data()
)
def test_any_value_in_any_field_is_either_taken_or_refused(part, data):
    values = json.loads(rich_experiment().to_json())
    field = data.draw(st.sampled_from(sorted(values[part])))
    values[part][field] = data.draw(JSON)
    try:
        taken = Experiment.from_json(json.dumps(values))
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
    else:
        assert Experiment.from_json(taken.to_json()) == taken


# --- refusals


@pytest.mark.parametrize(
    ("make", "name", "rule", "value", "hint"),
    [
        (lambda: Beam(wavelength_A=0), "Beam.wavelength_A", "between", "0", "angstrom"),
        (lambda: Beam(wavelength_A="1.0"), "Beam.wavelength_A", "must be a number", "'1.0'", ""),
        (lambda: Beam(wavelength_A=float("nan")), "Beam.wavelength_A", "finite", "nan", ""),
        (lambda: Beam(polarization=2), "Beam.polarization", "between -1 and 1", "2", ""),
        (lambda: Beam(sources=[(0, 0, 0, 1, 1e-10)]), "Beam.sources[0]", "must not lie at the crystal", "", ""),
        (lambda: Crystal(), "Crystal.cell", "must be given", "", "mosflm_matrix"),
        (lambda: Crystal(cell=(10, 10, 10, 30, 30, 90)), "Crystal.cell", "enclose a volume", "30", "angles"),
        (lambda: Crystal(cell=CELL, shape="cube"), "Crystal.shape", "must be one of square, round", "'cube'", ""),
        (lambda: Crystal(cell=CELL, shape="squar"), "Crystal.shape", "must be one of", "'squar'", "'square'"),
        (lambda: Crystal(cell=CELL, cell_counts=(1, 2.5, 3)), "Crystal.cell_counts", "whole number", "2.5", ""),
        (lambda: Crystal(cell=CELL, orientation=np.ones((3, 3))), "Crystal.orientation", "rotation matrix", "", ""),
        (lambda: Detector(n_fast=0), "Detector.n_fast", "between 1 and 1e+06", "0", ""),
        (lambda: Detector(pixel_mm=-1), "Detector.pixel_mm", "between", "-1", ""),
        (lambda: Detector(n_fast=4, n_slow=4, mask=np.ones((4, 5))), "Detector.mask", "shape (4, 4)", "(4, 5)", ""),
        (lambda: Sampling(roi=(5, 2, 0, 0)), "Sampling.roi", "min <= max", "(5, 2, 0, 0)", "fast_min"),
        (lambda: StructureFactors(), "StructureFactors", "at least one amplitude", "", "default_F"),
        (lambda: Rotation(phi_steps=-1), "Rotation.phi_steps", "between", "-1", ""),
    ],
)
def test_a_refusal_names_the_field_the_rule_the_value_and_a_hint(make, name, rule, value, hint):
    with pytest.raises(InputError) as caught:
        make()
    text = str(caught.value)
    assert text.startswith(name)
    assert rule in text and value in text and hint in text


def test_a_refusal_is_a_value_error_too():
    with pytest.raises(ValueError, match="wavelength_A"):
        Beam(wavelength_A=-1)


def test_a_region_off_the_detector_is_refused():
    with pytest.raises(InputError, match="must touch the detector"):
        rich_experiment().replace(sampling=Sampling(roi=(30, 40, 0, 5)))


# --- frozen


@pytest.mark.parametrize("part", ["beam", "crystal", "detector", "rotation", "sampling", "structure_factors"])
def test_a_part_cannot_be_changed_or_given_by_position(part):
    noun = getattr(rich_experiment(), part)
    name = dataclasses.fields(noun)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(noun, name, 1)
    with pytest.raises(TypeError):
        type(noun)(1)


def test_arrays_of_an_experiment_are_its_own_and_read_only():
    indices, amplitudes = np.array([[1, 0, 0]]), np.array([5.0])
    factors = StructureFactors(indices=indices, amplitudes=amplitudes)
    amplitudes[0] = 7.0
    assert factors.amplitudes[0] == 5.0
    with pytest.raises(ValueError, match="read-only"):
        factors.amplitudes[0] = 9.0


def test_a_changed_copy_is_validated_anew():
    beam = Beam().replace(wavelength_A=2.0)
    assert beam.wavelength_A == 2.0
    with pytest.raises(InputError):
        beam.replace(wavelength_A=-2.0)


def test_the_package_imports_without_numba():
    code = "import sys, bragg_numba; bragg_numba.Beam; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# --- every way to the same pixels


LINE = (
    "-cell 70 80 90 75 85 95 -default_F 100 -Na 4 -Nb 5 -Nc 6 -lambda 1.5 -misset 10 20 30 -distance 90 "
    "-detpixels_f 24 -detpixels_s 20 -pixel 2 -xds -mosaic 0.3 -mosaic_dom 3 -phi 1 -osc 0.5 -phisteps 2 -polar 0.9 "
    "-oversample 2 -dispersion 1 -dispsteps 2 -fluence 1e26 -detector_rotx 4"
)


def same_in_python() -> Experiment:
    return Experiment(
        beam=Beam(wavelength_A=1.5, polarization=0.9, fluence_per_m2=1e26, dispersion_percent=1, dispersion_steps=2),
        crystal=Crystal(
            cell=CELL, misset_deg=(10, 20, 30), cell_counts=(4, 5, 6), mosaic_spread_deg=0.3, mosaic_domains=3
        ),
        detector=Detector(n_fast=24, n_slow=20, pixel_mm=2, distance_mm=90, convention="xds", rotation_deg=(4, 0, 0)),
        rotation=Rotation(phi_deg=1, osc_deg=0.5, phi_steps=2),
        sampling=Sampling(oversample=2),
        structure_factors=StructureFactors(default_F=100),
    )


def test_python_objects_and_the_command_line_are_the_same_experiment():
    assert Experiment.from_nanobragg(LINE) == same_in_python()
    assert Experiment.from_nanobragg(LINE.split()) == same_in_python()


def test_python_and_the_command_render_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert nanobragg.main([*LINE.split(), "-floatfile", "a.bin"]) == 0
    command = np.fromfile("a.bin", dtype="<f4").reshape(20, 24)
    assert command.max() > 0
    assert (simulate(same_in_python()) == command).all()
    simulator = Simulator(same_in_python())
    out = np.full((20, 24), 7, dtype=np.float32)
    assert simulator.render(out=out) is out
    assert (out == command).all()


WIDE = np.zeros((20, 48), np.float32)


@pytest.mark.parametrize("bad", [np.zeros((24, 20), np.float32), np.zeros((20, 24)), WIDE[:, ::2]])
def test_an_array_that_cannot_take_the_frame_is_refused(bad):
    with pytest.raises(InputError, match="out must be"):
        Simulator(same_in_python()).render(out=bad)


def test_a_saved_experiment_and_a_frame_render_again_as_they_were(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    experiment = rich_experiment()
    experiment.save("e.json")
    assert bragg.main(["render", "e.json", "-o", "one.h5", "--float", "one.bin", "--png", "one.png"]) == 0
    capsys.readouterr()
    assert bragg.main(["render", "one.h5", "-o", "two.h5", "--json", "--threads", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["output"]["files"] == ["two.h5"]
    from bragg_numba.io.frame import read_frame

    expected = simulate(experiment)
    assert (read_frame("one.h5") == expected).all()
    assert (read_frame("two.h5") == expected).all()
    assert (np.fromfile("one.bin", dtype="<f4") == expected.ravel()).all()


def test_a_frame_written_by_tiles_is_the_frame_written_whole(tmp_path, monkeypatch):
    from bragg_numba.io.frame import read_frame
    from bragg_numba.render import streaming

    monkeypatch.chdir(tmp_path)
    rich_experiment().save("e.json")
    outputs = ["-o", "{}.h5", "--float", "{}.bin", "--png", "{}.png"]
    assert bragg.main(["render", "e.json", *(word.format("whole") for word in outputs)]) == 0
    monkeypatch.setattr(streaming, "WHOLE_BYTES", 0)
    monkeypatch.setattr(streaming, "TILE_BYTES", 3 * 24 * 4)  # three rows
    assert bragg.main(["render", "e.json", *(word.format("tiled") for word in outputs)]) == 0
    assert (read_frame("tiled.h5") == read_frame("whole.h5")).all()
    for kind in ("bin", "png"):
        assert (tmp_path / f"tiled.{kind}").read_bytes() == (tmp_path / f"whole.{kind}").read_bytes()


# --- bragg-numba around it


def test_the_commands_are_listed_with_a_line_each_and_each_has_help(capsys):
    assert bragg.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, (_, line) in bragg.commands().items():
        assert name in text and line in text
        assert bragg.main([name, "--help"]) == 0
        assert f"bragg-numba {name}" in capsys.readouterr().out


def test_a_command_that_this_installation_lacks_is_not_listed(monkeypatch, capsys):
    monkeypatch.setitem(bragg.COMMANDS, "brew", ("bragg_numba.cli.no_such_module", "make tea"))
    assert bragg.main(["--help"]) == 0
    assert "brew" not in capsys.readouterr().out
    assert bragg.main(["brew"]) == 2


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["render"],
        ["render", "e.json"],
        ["render", "absent.json", "-o", "f.h5"],
        ["render", "junk", "-o", "f.h5"],
        ["render", "e.json", "-o", "f.h5", "--threads", "many"],
        ["render", "e.json", "-o", "f.h5", "--precision", "half"],
        ["render", "e.json", "-o", "f.h5", "--backend", "tpu"],
        ["render", "e.json", "-o", "f.h5", "--max-memory", "1"],
        ["render", "e.json", "-o", "nowhere/f.h5"],
        ["render", "e.json", "-o", "f.h5", "extra"],
        ["render", "e.json", "--outp", "f.h5"],
        ["info"],
        ["info", "absent"],
        ["info", "junk"],
        ["info", "."],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_one_sentence_and_status_2(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    same_in_python().save("e.json")
    (tmp_path / "junk").write_bytes(bytes(range(256)))
    before = sorted(path.name for path in tmp_path.iterdir())
    assert bragg.main(words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_info_tells_what_a_frame_and_an_experiment_hold(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    same_in_python().save("e.json")
    assert bragg.main(["render", "e.json", "-o", "f.h5"]) == 0
    capsys.readouterr()
    assert bragg.main(["info", "f.h5", "--json"]) == 0
    frame = json.loads(capsys.readouterr().out)
    assert frame["kind"] == "frame" and frame["pixels_slow_fast"] == [20, 24]
    assert frame["experiment"]["beam"]["wavelength_A"] == 1.5
    assert frame["statistics"]["sum"] == pytest.approx(simulate(same_in_python()).sum(dtype=float), rel=1e-12)
    for name in ("e.json", "f.h5"):
        assert bragg.main(["info", name]) == 0
        text = capsys.readouterr().out
        assert "wavelength_A" in text and "1.5" in text and "20 24" in text


def test_traces_that_diverge_have_status_1_and_equal_ones_0(tmp_path, capsys):
    (tmp_path / "a").write_text("TRACE_C: hkl 1.5 2 3\nTRACE_C: F_latt 5\n")
    (tmp_path / "b").write_text("TRACE_C: hkl 1.5 2 3\nTRACE_C: F_latt 6\n")
    paths = [str(tmp_path / name) for name in "ab"]
    assert bragg.main(["diverge", *paths]) == 1
    assert "F_latt" in capsys.readouterr().out
    assert bragg.main(["diverge", paths[0], paths[0]]) == 0
    assert bragg.main(["diverge", paths[0], "absent"]) == 5
    assert bragg.main(["diverge", *paths, "--rtol", "x"]) == 2


@pytest.mark.slow
def test_a_frame_of_a_gigabyte_is_written_in_less_memory_than_it_takes(tmp_path):
    words = "-cell 100 -default_F 100 -N 5 -detpixels 16384 -pixel 0.02 -oversample 1"
    Experiment.from_nanobragg(words).save(tmp_path / "e.json")
    code = (
        "import resource, sys; from bragg_numba.cli.bragg import main; "
        "status = main(sys.argv[1:]); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(status)"
    )
    command = [sys.executable, "-c", code, "render", str(tmp_path / "e.json"), "-o", str(tmp_path / "f.h5")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    kilobytes = int(done.stdout.split()[-1])
    assert (tmp_path / "f.h5").stat().st_size > 4 * 16384**2
    # The compiler alone takes up to 350 MB; the frame is 1074 MB.
    assert kilobytes < 700_000


def test_python_warns_of_what_the_command_prints_a_warning_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dump(tmp_path / "Fdump.bin", np.array([-1, -1, -1]), np.full((3, 3, 3), 7.0))

    with pytest.warns(UserWarning, match="reading structure factors from Fdump.bin"):
        experiment = Experiment.from_nanobragg("-cell 50 -default_F 100 -detpixels 16")

    assert experiment.structure_factors.amplitudes.max() == 7.0
