"""What -img and -mask say of an experiment: headers of other writers, swung detectors, what is missing."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from bragg_numba import Experiment, InputError
from bragg_numba.cli.nanobragg import main
from bragg_numba.dialect import CommandLine, parse

CRYSTAL = ["-cell", "70", "80", "90", "75", "85", "95", "-default_F", "100", "-N", "3", "-oversample", "1"]
COMPLETE = (
    "PIXEL_SIZE=0.8;\nDISTANCE=90;\nWAVELENGTH=1.1;\nBEAM_CENTER_X=6;\nBEAM_CENTER_Y=8;\nPHI=3;\nOSC_RANGE=0.5;\n"
    "TYPE=unsigned_short;\n"
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def header(lines: str, name: str = "given.img", pixels: bytes = b"", size: int = 512) -> str:
    """A file whose header has these lines and the size 20 x 16 (fast x slow)."""
    text = f"{{\nHEADER_BYTES={size};\nSIZE1=20;\nSIZE2=16;\n{lines}}}\f"
    Path(name).write_bytes(text.encode().ljust(size) + pixels)
    return name


def read(*words: str) -> tuple[Experiment, list[str]]:
    line = CommandLine(parse([*CRYSTAL, *words]))
    return Experiment.from_command_line(line), line.notes


def image_of(*words: str) -> np.ndarray:
    assert main([*CRYSTAL, "-precision", "float64", "-noprogress", *words, "-floatfile", "image.bin"]) == 0
    return np.fromfile("image.bin", dtype="<f4")


def test_a_complete_header_says_all_and_nothing_is_noted():
    experiment, notes = read("-img", header(COMPLETE))

    d, beam, rotation = experiment.detector, experiment.beam, experiment.rotation
    assert (d.shape, d.pixel_mm, d.distance_mm, d.beam_x_mm, d.beam_y_mm) == ((16, 20), 0.8, 90.0, 6.0, 8.0)
    assert (beam.wavelength_A, rotation.phi_deg, rotation.osc_deg) == (1.1, 3.0, 0.5)
    assert notes == []


def test_a_comment_sets_nothing():
    header(COMPLETE, "plain.img")
    header(COMPLETE + "COMMENT=old DISTANCE=999 WAVELENGTH=7;\nUSER_COMMENT=was; DISTANCE=999;\n", "noted.img")

    assert read("-img", "noted.img")[0] == read("-img", "plain.img")[0]


@pytest.mark.parametrize("flag", ["-img", "-mask"])
def test_a_header_of_dtrek_gives_wavelength_pixel_distance_and_rotation(flag):
    lines = (
        "Data_type=long int;\nBYTE_ORDER=little_endian;\nDETECTOR_NAMES=CCD_;\nCCD_GONIO_NAMES=RotZ TransZ/Dist;\n"
        "CCD_GONIO_UNITS=deg mm;\nCCD_GONIO_VALUES=0 -45;\nCCD_SPATIAL_DISTORTION_INFO=10 8 0.146 0.146;\n"
        "ROTATION=10 11 1 30;\nSOURCE_WAVELENGTH=1 1.5418;\n"
    )
    experiment, notes = read(flag, header(lines, pixels=np.ones(320, "<i4").tobytes(), size=1024))

    assert experiment.beam.wavelength_A == 1.5418
    assert (experiment.detector.pixel_mm, experiment.detector.distance_mm) == (0.146, 45.0)
    assert (experiment.rotation.phi_deg, experiment.rotation.osc_deg) == (10.0, 1.0)
    assert len(notes) == 1
    assert "BEAM_CENTER_X" in notes[0] and "WAVELENGTH" not in notes[0]


def test_a_swing_of_dtrek_that_is_not_applied_is_said():
    lines = COMPLETE + "DETECTOR_NAMES=A_;\nA_GONIO_NAMES=RotX/Swing;\nA_GONIO_UNITS=deg;\nA_GONIO_VALUES=-20;\n"
    assert ["RotX/Swing=-20" in note for note in read("-img", header(lines))[1]] == [True]


@pytest.mark.parametrize(
    ("stated", "dtype"), [("Data_type=long int", "<i4"), ("TYPE=float", "<f4"), ("TYPE=unsigned_char", "u1")]
)
def test_a_mask_of_another_type_masks_its_zeros(stated, dtype):
    mask = np.ones((16, 20), dtype)
    mask[3:7, 2:12] = 0
    lines = COMPLETE.replace("TYPE=unsigned_short", stated)
    experiment, notes = read("-mask", header(lines, pixels=mask.tobytes()))

    assert np.array_equal(experiment.detector.mask, mask != 0)
    assert notes == []


# --- what is missing, and what is no number


def test_what_no_header_states_is_said_with_its_default():
    experiment, notes = read("-img", header(""))

    assert len(notes) == 1
    for said in (
        "PIXEL_SIZE (0.1 mm)",
        "DISTANCE (100 mm)",
        "WAVELENGTH (1 A)",
        "PHI (0)",
        "OSC_RANGE",
        "BEAM_CENTER_X",
    ):
        assert said in notes[0]
    assert "given.img" in notes[0]
    assert (experiment.detector.pixel_mm, experiment.detector.distance_mm) == (0.1, 100.0)


def test_what_a_flag_or_the_other_header_states_is_not_missed():
    header("PIXEL_SIZE=0.8;\nPHI=0;\nOSC_RANGE=0;\n")
    header(COMPLETE, "mask.img", pixels=bytes(640))
    assert read("-img", "given.img", "-mask", "mask.img")[1] == []
    _, notes = read("-img", "given.img", "-close_distance", "80", "-energy", "12000")
    assert ["DISTANCE" in note or "WAVELENGTH" in note for note in notes] == [False]
    assert read("-img", "given.img", "-distance", "80", "-lambda", "1", "-Xbeam", "6")[1] == []


@pytest.mark.parametrize("convention", ["-xds", "-dials"])
def test_the_centre_that_is_missed_is_the_one_of_the_convention(convention):
    _, notes = read("-img", header(COMPLETE), convention)

    assert ["ORGX and ORGY" in note for note in notes] == [True]
    assert read("-img", header(COMPLETE + "XDS_ORGX=10;\nXDS_ORGY=9;\n"), convention)[1] == []


def test_an_entry_that_is_no_number_does_not_count_and_is_said():
    experiment, notes = read("-img", header(COMPLETE.replace("DISTANCE=90", "DISTANCE=long")))

    assert experiment.detector.distance_mm == 100.0
    assert any("DISTANCE=long" in note for note in notes)
    assert any("DISTANCE (100 mm)" in note for note in notes)


@pytest.mark.parametrize(
    ("entry", "said"), [("WAVELENGTH=0", "WAVELENGTH of given.img"), ("OSC_RANGE=-1", "OSC_RANGE of given.img")]
)
def test_an_impossible_number_of_a_header_is_refused_by_its_key_and_file(entry, said):
    with pytest.raises(InputError) as caught:
        read("-img", header(COMPLETE + entry + ";\n"))
    assert str(caught.value).startswith(said)


def test_a_flag_replaces_what_a_header_states_badly():
    lines = COMPLETE + "WAVELENGTH=2 1.54 1.39;\n"
    with pytest.raises(InputError, match="must be one number"):
        read("-img", header(lines))
    assert read("-img", "given.img", "-lambda", "1.54")[0].beam.wavelength_A == 1.54


def test_a_distance_that_loses_to_a_header_is_said():
    experiment, notes = read("-img", header(COMPLETE + "CLOSE_DISTANCE=85;\n"), "-distance", "120")

    assert experiment.detector.close_distance_mm == 85.0
    assert ["-distance has no effect" in note for note in notes] == [True]


# --- a body is not needed, a swing is applied


@pytest.mark.parametrize("pixels", [b"", bytes(13)], ids=["header alone", "truncated"])
def test_an_image_without_its_pixels_gives_its_geometry(pixels):
    header(COMPLETE, "whole.img", pixels=bytes(640))

    assert read("-img", header(COMPLETE, pixels=pixels))[0] == read("-img", "whole.img")[0]
    with pytest.raises(InputError, match="cut short"):
        read("-mask", "given.img")


def test_the_swing_of_a_header_is_applied_as_the_flag_is():
    header(COMPLETE + "TWOTHETA=10;\n", "swung.img")
    header(COMPLETE, "plain.img")
    experiment, notes = read("-img", "swung.img")

    assert experiment == read("-img", "plain.img", "-twotheta", "10")[0]
    assert ["TWOTHETA of swung.img" in note for note in notes] == [True]
    assert read("-img", "swung.img", "-twotheta", "0")[0] == read("-img", "plain.img")[0]
    assert read("-mask", header(COMPLETE + "TWOTHETA=10;\n", pixels=bytes(640)))[0].detector.twotheta_deg == 10.0


@pytest.mark.parametrize("convention", ["-mosflm", "-denzo", "-adxv", "-xds", "-dials"])
@pytest.mark.parametrize("fidelity", ["nanobragg", "physical"])
def test_our_own_header_puts_a_swung_and_tilted_detector_back(convention, fidelity):
    words = [convention, "-fidelity", fidelity, "-detector_rotx", "7", "-detector_rotz", "3"]
    place = ["-detpixels_f", "40", "-detpixels_s", "30", "-pixel", "0.8", "-lambda", "1.1", "-distance", "90"]
    swung = image_of(*words, *place, "-twotheta", "12", "-intfile", "own.img")
    again = image_of(*words, "-img", "own.img")

    # Headers hold six digits.
    np.testing.assert_allclose(again, swung, rtol=0, atol=3e-4 * swung.max())
    assert np.abs(image_of(*words, "-img", "own.img", "-twotheta", "0") - swung).max() > 0.1 * swung.max()


def test_the_beam_centre_of_a_header_counts_in_the_conventions_own_sense_only():
    """nanoBragg.c puts BEAM_CENTER under XDS into its own header and nowhere else, and ORGX under MOSFLM nowhere."""
    both = header(COMPLETE + "ORGX=11;\nORGY=9;\n")
    moved = COMPLETE.replace("BEAM_CENTER_X=6", "BEAM_CENTER_X=7") + "ORGX=11;\nORGY=9;\n"
    assert read("-img", both, "-xds")[0] == read("-img", header(moved, "moved.img"), "-xds")[0]
    assert read("-img", both)[0] == read("-img", header(COMPLETE + "ORGX=4;\nORGY=9;\n", "org.img"))[0]
    assert read("-img", both)[0] != read("-img", "moved.img")[0]


def test_warnings_of_the_library_are_the_notes():
    header("")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Experiment.from_nanobragg([*CRYSTAL, "-img", "given.img"])
    assert [str(one.message) for one in caught] == read("-img", "given.img")[1]


def test_the_report_for_machines_holds_the_notes(capsys):
    assert main([*CRYSTAL, "-img", header(""), "-floatfile", "f.bin", "-json"]) == 0
    assert any("states no PIXEL_SIZE" in note for note in json.loads(capsys.readouterr().out)["notes"])
