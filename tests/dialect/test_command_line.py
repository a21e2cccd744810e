"""What a command line says of each noun, before there are nouns: plain values, by the names of their fields."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

from bragg_numba import experiment as nouns
from bragg_numba.dialect import CommandLine, parse
from bragg_numba.dialect.command_line import FLAGS_OF_FIELD
from bragg_numba.dialect.flags import FLAGS
from bragg_numba.errors import InputError
from bragg_numba.io.structure_factor_files import write_dump


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def read(words: str) -> CommandLine:
    return CommandLine(parse(words))


def parts(line: CommandLine) -> dict[str, dict]:
    return {
        "Beam": line.beam,
        "Crystal": line.crystal,
        "Detector": line.detector,
        "Rotation": line.rotation,
        "Sampling": line.sampling_of((20, 30)),
        "StructureFactors": line.read_structure_factors(),
    }


EVERYTHING = (
    "-lambda 1.5 -flux 1e12 -exposure 2 -beamsize 0.2 -fluence 1e20 -polar 0.9 -dispersion 1 -dispsteps 3 "
    "-hdivrange 1 -hdivstep 0.5 -hdivsteps 2 -vdivrange 1 -vdivstep 0.5 -vdivsteps 2 -cell 50 60 70 80 90 100 "
    "-misset 1 2 3 -N 5 -xtalsize 0.01 -round_xtal -fudge 2 -mosaic 0.1 -mosaic_dom 3 -mosaic_seed 4 -water 5 "
    "-xds -pixel 0.2 -distance 90 -close_distance 80 -detpixels 30 -Xbeam 1 -Ybeam 2 -Xclose 3 -Yclose 4 -ORGX 5 "
    "-ORGY 6 -pivot beam -twotheta 5 -detector_rotx 1 -pix0_vector 0 0 0.1 -curved_det -point_pixel -detector_abs "
    "200 -detector_thick 300 -detector_thicksteps 3 -phi 1 -osc 2 -phistep 0.5 -phisteps 4 -oversample 2 "
    "-oversample_polar -roi 0 9 0 9 -dmin 2 -nointerpolate -default_F 7 -spindle_axis 0 0 1"
)


def test_every_value_has_the_name_of_a_field_of_its_noun():
    for noun, values in parts(read(EVERYTHING)).items():
        assert values.keys() <= {field.name for field in dataclasses.fields(getattr(nouns, noun))}, noun


def test_every_field_that_errors_are_renamed_for_exists_and_so_do_its_flags():
    keys = {flag.key for flag in FLAGS}
    for name, flags in FLAGS_OF_FIELD.items():
        noun, field = name.split(".")
        assert field in {one.name for one in dataclasses.fields(getattr(nouns, noun))}, name
        assert set(flags.split()) <= keys, name


def test_what_no_flag_says_is_left_to_the_nouns():
    found = parts(read("-cell 50"))
    assert found["Rotation"] == {"axis": None}
    assert found["StructureFactors"] == {"default_F": 0.0}
    assert not found["Beam"].keys() & {"wavelength_A", "fluence_per_m2", "exposure_s", "sources"}
    assert not found["Detector"].keys() & {"pixel_mm", "distance_mm", "n_fast", "beam_x_mm", "pivot"}


def test_the_last_of_several_flags_counts():
    line = read("-N 5 -Nb 7 -lambda 1 -energy 12398.42 -square_xtal -gauss_xtal -detpixels 9 -detpixels_f 8")
    assert line.crystal["cell_counts"] == (5, 7, 5) and line.crystal["shape"] == "gauss"
    assert line.beam["wavelength_A"] == 1.0
    assert (line.detector["n_fast"], line.detector["n_slow"]) == (8, 9)
    assert read("-Nb 7 -N 5").crystal["cell_counts"] == (5, 5, 5)
    assert read("-energy 6199.21 -lambda 1").beam["wavelength_A"] == 1.0


def test_vectors_keep_the_rest_of_their_convention_and_a_later_convention_drops_them():
    line = read("-xds -fdet_vector 0 1 0")
    assert (line.detector["convention"], line.detector["fast_axis"]) == ("custom", (0.0, 1.0, 0.0))
    assert line.beam["direction"] == (0.0, 0.0, 1.0)
    dropped = read("-fdet_vector 0 1 0 -xds")
    assert (dropped.detector["convention"], dropped.detector["fast_axis"]) == ("xds", None)
    assert dropped.notes == ["-xds comes after vector flags and replaces their vectors, as in nanoBragg"]


@pytest.mark.parametrize(
    ("words", "pivot"), [("-distance 9 -Xclose 1", "sample"), ("-Xclose 1 -distance 9", "beam"), ("", "beam")]
)
def test_under_vectors_alone_the_last_flag_that_has_one_sets_the_pivot(words, pivot):
    assert read(f"-odet_vector 1 0 0 {words}").detector["pivot"] == pivot


def test_an_open_end_of_the_region_is_the_detectors():
    assert read("-roi 3 -1 -1 7").sampling_of((20, 30))["roi"] == (3, 30, 0, 7)


def test_a_file_is_read_when_its_noun_is_asked_for():
    line = read("-hkl absent.hkl -sourcefile absent.txt -mat absent.mat -pixel 0.2")
    assert line.detector["pixel_mm"] == 0.2
    for ask in (line.read_structure_factors, lambda: line.beam, lambda: line.crystal):
        with pytest.raises(InputError, match="absent"):
            ask()


def test_a_note_is_made_once_however_often_its_noun_is_asked_for(tmp_path):
    write_dump("Fdump.bin", np.array([-1, -1, -1]), np.full((3, 3, 3), 7.0))
    line = read("-cell 50 -density 1 -misset_seed 3")
    for _ in range(2):
        parts(line)
    assert [note.split()[0] for note in line.notes] == ["-misset_seed", "-density", "reading"]


def test_an_error_about_a_field_names_the_last_flag_that_sets_it():
    line = read("-detpixels 30 -detpixels_f 40 -pixel 1")
    with pytest.raises(InputError) as caught, line.naming_flags():
        raise InputError("Detector.n_fast", "must be odd", 40, "or not")
    assert caught.value.name == "-detpixels_f"
    assert str(caught.value) == "-detpixels_f must be odd, got 40 (or not)"


@pytest.mark.parametrize("name", ["Detector.distance_mm", "Crystal", "some file"])
def test_an_error_about_anything_else_stays_as_it_is(name):
    error = InputError(name, "must be odd", 40)
    with pytest.raises(InputError) as caught, read("-pixel 1").naming_flags():
        raise error
    assert caught.value is error


def test_what_is_asked_for_beside_the_experiment():
    request = read("-hkl a.hkl -floatfile f.bin -seed 5 -scale 2 -threads 3 -max-memory 2G").request()
    assert (request.float_file, request.int_file, request.noise_file, request.pgm_file) == ("f.bin", None, None, None)
    assert (request.seed, request.int_scale, request.threads, request.max_memory) == (5, 2.0, 3, 2 * 10**9)
    assert request.dump_file == "Fdump.bin"
    silent = read("-nonoise").request()
    assert (silent.float_file, silent.int_file, silent.pgm_file) == ("floatimage.bin", "intimage.img", "image.pgm")
    assert silent.noise_file is None and silent.dump_file is None


def test_two_outputs_of_one_name_are_refused_unless_it_leads_nowhere():
    with pytest.raises(InputError, match="must have different names"):
        read("-floatfile a -intfile a").request()
    assert read(f"-floatfile {os.devnull} -intfile {os.devnull}").request().int_file == os.devnull


def test_the_dialect_loads_neither_nouns_nor_numba():
    code = "import sys, bragg_numba.dialect; print(*(name for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numba", "bragg_numba.experiment", "bragg_numba.plan"} & set(done.stdout.split())
