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
from sample_experiments import CELL, LINE, rich_experiment, same_in_python

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
from bragg_numba.cli import nanobragg
from bragg_numba.io.structure_factor_files import write_dump

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
        (
            '{"format": "bragg_numba experiment", "version": 1, "crystal": {"cell": [50]}, '
            '"structure_factors": {"anomalous": {}}}',
            "Anomalous.normal must be given",
        ),
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


def test_python_warns_of_what_the_command_prints_a_warning_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dump(tmp_path / "Fdump.bin", np.array([-1, -1, -1]), np.full((3, 3, 3), 7.0))

    with pytest.warns(UserWarning, match="reading structure factors from Fdump.bin"):
        experiment = Experiment.from_nanobragg("-cell 50 -default_F 100 -detpixels 16")

    assert experiment.structure_factors.amplitudes.max() == 7.0


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("-pixel 0 -hkl absent -lambda -1", "-pixel"),
        ("-hkl absent -lambda 0 -cell 1 1 1 30 30 90", "absent"),
        ("-default_F 0 -lambda 0", "StructureFactors"),
        ("-lambda 0 -cell 1 1 1 30 30 90 -phi 1e400", "-phi"),
        ("-cell 1 1 1 30 30 90 -osc -1 -default_F 1", "-cell"),
        ("-cell 9 -osc -1 -oversample -1 -default_F 1", "-oversample"),
        ("-cell 9 -osc -1 -dmin -1 -default_F 1 -fidelity none", "-osc"),
        ("-cell 9 -dmin -1 -default_F 1 -fidelity none -noise none", "-dmin"),
        ("-cell 9 -default_F 1 -fidelity none -noise none", "-fidelity"),
    ],
)
def test_of_several_mistakes_the_one_that_is_met_first_is_named(words, first, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        Experiment.from_nanobragg(words)
    assert caught.value.name == first
