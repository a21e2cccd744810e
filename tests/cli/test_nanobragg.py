"""``nanobragg-numba`` as a person meets it: exit statuses, refusals in one sentence, which files are written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from bragg_numba.cli.nanobragg import main
from bragg_numba.dialect.flags import FLAGS, GROUPS, REFUSED
from bragg_numba.io.smv import read_smv

CRYSTAL = ["-cell", "100", "100", "100", "90", "90", "90", "-default_F", "100", "-N", "3"]
BASE = [*CRYSTAL, "-detpixels", "16", "-pixel", "1", "-oversample", "1", "-floatfile", "out.bin"]
FOUR = {"floatimage.bin", "intimage.img", "noiseimage.img", "image.pgm"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder of its own for each test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def image_of(*words, name="out.bin", shape=(16, 16)) -> np.ndarray:
    assert main([*BASE, *words]) == 0
    return np.fromfile(name, dtype="<f4").reshape(shape)


def refusal(capsys, words) -> str:
    """Run what must be refused; return its sentence."""
    before = written(Path.cwd())
    status = main([str(word) for word in words])
    printed = capsys.readouterr()
    assert status == 2, printed
    assert "Traceback" not in printed.err + printed.out
    sentences = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert len(sentences) == 1 and len(sentences[0]) < 600
    assert written(Path.cwd()) == before  # no output, no half of one
    return sentences[0]


# --- help and usage


@pytest.mark.parametrize("word", ["-h", "--help", "-help"])
def test_help_lists_every_flag_under_its_subject(word, capsys):
    assert main([word]) == 0
    text = capsys.readouterr().out
    for title in GROUPS.values():
        assert f"{title}:" in text
    assert [flag.names[0] for flag in FLAGS if f"  {flag.names[0]}" not in text] == []


def test_the_version_is_printed(capsys):
    from bragg_numba import __version__

    assert main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        ([], "crystal"),
        (["-default_F", "100"], "crystal"),
        (["-cell", "100", "100", "100", "90", "90", "90"], "structure factors"),
    ],
)
def test_a_command_without_crystal_or_structure_factors_shows_the_usage(words, missing, capsys):
    assert main(words) == 2
    printed = capsys.readouterr()
    assert "usage: nanobragg-numba" in printed.out
    assert missing in printed.err


def test_an_installed_command_exits_with_the_status_of_main():
    command = [sys.executable, "-m", "bragg_numba.cli.nanobragg", "-wavelenght", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: -wavelenght") and "-wavelength" in done.stderr


def test_a_reader_that_goes_away_is_not_a_traceback():
    command = f"{sys.executable} -m bragg_numba.cli.nanobragg --help | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("usage")
    assert done.stderr == ""


# --- values that are missing, no numbers or impossible: every flag

NUMERIC = {"number", "count", "integer"}
TAKES_VALUES = [flag for flag in FLAGS if flag.values or flag.key in ("anomalous", "cell", "misset")]

#: What each flag refuses, one or more words each; every numeric flag stands here or in UNBOUNDED.
IMPOSSIBLE = {
    "default_F": ["1e20"],
    "labels": ["FP"],
    "anomalous": ["Fe -3.5 2.1", "auto", "Fe auto", "Fe nowhere.txt"],
    "solvent": ["0.35 46"],
    "cell": ["0", "-5", "100 100 100 0 90 90", "100 100 100 90 90 180", "100 100 100 30 30 90", "1e9"],
    "N": ["1.5", "2e6", "3e9", "-3e9"],
    "Na": ["1.5"],
    "Nb": ["1.5"],
    "Nc": ["1.5"],
    "xtalsize": ["-1", "1e9"],
    "xtal_thick": ["-1"],
    "xtal_width": ["-1"],
    "xtal_height": ["-1"],
    "fudge": ["-1"],
    "mosaic": ["-1", "400"],
    "mosaic_domains": ["-1", "1.5", "1e9"],
    "mosaic_xyz": ["-1 0 0", "0 400 0"],
    "mosaic_model": ["sphere"],
    "N_matrix": ["0 0 0 0 0 0 0 0 0", "5 1 0 1 5 0 0 0 5", "-5 0 0 0 5 0 0 0 5", "5.5 0 0 0 5 0 0 0 5"],
    "block_spread": ["-1", "4"],
    "block_sizes": ["-1", "1.5", "7"],
    "blocks": ["0", "-1"],
    "water": ["-1", "1e12"],
    "lambda": ["0", "-1", "1e9"],
    "energy": ["0", "-9000", "1e-9"],
    "dispersion": ["-1", "200"],
    "dispsteps": ["-1", "1.5", "1e9"],
    "divergence": ["-1", "1e6"],
    "hdivrange": ["-1", "1e6"],
    "vdivrange": ["-1", "1e6"],
    "hdivstep": ["-1"],
    "vdivstep": ["-1"],
    "hdivsteps": ["-1", "2.5", "1e9"],
    "vdivsteps": ["-1", "2.5", "1e9"],
    "divsteps": ["-1", "2.5", "1e9", "100000"],
    "polar": ["1.5", "-2"],
    "fluence": ["-1", "1e70"],
    "flux": ["-1"],
    "exposure": ["0", "-1"],
    "beamsize": ["0", "-1"],
    "distance": ["0", "-100"],
    "close_distance": ["0", "-100"],
    "detpixels": ["0", "-5", "1.5", "2000000"],
    "detpixels_f": ["0", "-5", "2000000"],
    "detpixels_s": ["0", "-5", "2000000"],
    "pixel": ["0", "-1"],
    "Xbeam": ["1e12"],
    "Ybeam": ["1e12"],
    "Xclose": ["1e12"],
    "Yclose": ["1e12"],
    "ORGX": ["1e12"],
    "ORGY": ["1e12"],
    "twotheta_axis": ["0 0 0"],
    "fdet_vector": ["0 0 0"],
    "sdet_vector": ["0 0 0"],
    "odet_vector": ["0 0 0"],
    "beam_vector": ["0 0 0"],
    "polar_vector": ["0 0 0"],
    "spindle_axis": ["0 0 0"],
    "pix0_vector": ["1e12 0 0"],
    "pix0_vector_mm": ["1e12 0 0"],
    "detector_abs": ["-1", "deep", "nan"],
    "detector_thick": ["-1"],
    "detector_thicksteps": ["-1", "1.5"],
    "oversample": ["-1", "1.5", "20000"],
    "roi": ["8 4 0 5", "0 5 9 3", "500 600 0 5", "1.5 2 3 4"],
    "dmin": ["-1"],
    "osc": ["-1"],
    "phistep": ["-1"],
    "phisteps": ["-1", "1.5", "1e8"],
    "scale": ["1e999"],
    "pgmscale": ["1e999"],
    "printout_pixel": ["-1 3", "16 0", "3 99"],
    "seed": ["1.5", "3e9"],
    "mosaic_seed": ["1.5", "3e9"],
    "misset_seed": ["1.5", "3e9"],
    "threads": ["-1", "1.5", "100000"],
    "pivot": ["middle"],
    "fidelity": ["exact"],
    "precision": ["half"],
    "engine": ["fast"],
    "cutoff": ["-1", "nan", "inf"],
    "noise": ["white"],
    "backend": ["tpu"],
    "max-memory": ["0", "-5", "lots", "1", "nan"],
    # Beside no -geom and no -expt.
    "geom_event": ["3"],
    "geom_value": ["/z=3"],
    "expt_index": ["-1", "1.5", "0"],
    "expt_image": ["1.5", "1"],
    "spectrum": ["no_such_file"],
    # Beside no -spectrum.
    "bandwidth": ["-1", "1"],
    "channels": ["0", "1.5", "10"],
    "pink_tail": ["-1", "1"],
    "pulse_fs": ["0", "10"],
    "second_colour": ["1 2", "1 0.5"],
    "self_seeded": ["1 2", "1 0.5"],
    "centre_jitter": ["-1", "1"],
    "energy_jitter": ["-1", "1"],
    "spectrum_unit": ["mile", "eV"],
    "spectrum_seed": ["1.5", "1"],
    "shot": ["1.5", "1"],
    "sensor": ["unobtainium", "Zn", "Xy2"],
    "air": ["-1", "far", "nan"],
    "air_before": ["-1"],
    "window": ["unobtainium 3", "kapton -1"],
    "beam_window": ["unobtainium 3", "kapton -1"],
    "sample_sphere": ["unobtainium 1", "water -1"],
    "sample_plate": ["unobtainium 1", "water -1"],
    "beamstop": ["-1 20", "3 0", "3 -20"],
    # Beside no -sensor, no -air, no -beamstop.
    "sensor_density": ["4", "-1"],
    "gas": ["he", "unobtainium"],
    "beamstop_shift": ["1 1"],
    "beamstop_stem": ["1 90"],
    "beamstop_edge": ["1"],
    "beamstop_transmission": ["0.5"],
    "dose": ["-1", "1e9"],
    "dose_per_frame": ["-1", "1e9"],
    "dose_photons": ["0", "-2000"],
    "damage_law": ["cubic"],
    "half_dose": ["0", "-1"],
    "damage_exponent": ["-1", "11"],
    "cell_drift": ["1000 0 0", "0 -1000 0"],
}
#: Any finite number is possible here.
UNBOUNDED = {
    "misset",
    "detector_rotx",
    "detector_roty",
    "detector_rotz",
    "twotheta",
    "phi",
    "adc",
    "density",
    "MW",
}
#: Used only without -detpixels, which BASE has.
SIZES = {"detsize": ["0", "-1", "1e7"], "detsize_f": ["0", "-1"], "detsize_s": ["0", "-1"]}


def test_every_flag_with_a_value_is_in_the_tables_of_this_file():
    known = {*IMPOSSIBLE, *UNBOUNDED, *SIZES}
    assert {flag.key for flag in TAKES_VALUES if all(kind != "file" for _, kind in flag.values)} == known


@pytest.mark.parametrize("flag", TAKES_VALUES, ids=lambda flag: flag.key)
def test_a_flag_without_its_value_is_refused_by_name(flag, capsys):
    for name in flag.names:
        assert name in refusal(capsys, [*BASE, name])
        assert name in refusal(capsys, [*BASE, name, "-nopolar"])
    if len(flag.values) > 1:
        assert flag.names[0] in refusal(capsys, [*BASE, flag.names[0], "1"])


@pytest.mark.parametrize(
    "flag",
    [flag for flag in TAKES_VALUES if not flag.values or flag.values[0][1] in NUMERIC],
    ids=lambda flag: flag.key,
)
@pytest.mark.parametrize("word", ["abc", "nan", "inf", "-inf", "1e999", "", "1,5", "0x10", "1_000", "12\0"])
def test_a_value_that_is_no_finite_number_is_refused(flag, word, capsys):
    rest = ["1"] * max(0, len(flag.values) - 1)
    sentence = refusal(capsys, [*BASE, flag.names[0], word, *rest])
    assert sentence.startswith(f"error: {flag.names[0]} ")


#: What is said where it is not the flag that is named, but what follows from it.
SAID = {
    ("backend", "tpu"): "backend must be one of",
    ("divsteps", "100000"): "the number of sources must not be more than",
    ("max-memory", "1"): "bytes of memory where 1 are allowed",
    ("threads", "100000"): "threads must lie between",
    ("spectrum", "no_such_file"): "no_such_file cannot be read",
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, values in IMPOSSIBLE.items() for v in values])
def test_an_impossible_value_is_refused(key, value, capsys):
    sentence = refusal(capsys, [*BASE, f"-{key}", *value.split()])
    assert SAID.get((key, value), f"-{key}") in sentence


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, values in SIZES.items() for v in values])
def test_an_impossible_detector_size_is_refused(key, value, capsys):
    assert f"-{key}" in refusal(capsys, [*CRYSTAL, "-pixel", "0.1", "-floatfile", "out.bin", f"-{key}", value])


@pytest.mark.parametrize("name", REFUSED)
def test_a_flag_that_the_c_program_reads_and_never_uses_is_refused_with_advice(name, capsys):
    assert REFUSED[name] in refusal(capsys, [*BASE, name, "x"])


@pytest.mark.parametrize("word", ["-foo", "--wavelenght", "stray", "-", "--", "-cel", "5", "-5", "é", "-" * 5000])
def test_an_unknown_word_is_refused_by_name(word, capsys):
    assert word[:20] in refusal(capsys, [*BASE, word])


def test_an_unknown_flag_names_the_nearest_known_ones(capsys):
    assert "-mosaic_domains" in refusal(capsys, [*BASE, "-mosiac_domains", "3"])


@pytest.mark.parametrize(
    ("short", "meant"),
    [
        ("-hdiv", "-hdivrange"),
        ("-vdiv", "-vdivrange"),
        ("-dispstep", "-dispsteps"),
        ("-detector_thickstep", "-detector_"),
    ],
)
def test_a_flag_that_is_cut_short_names_those_that_begin_with_it(short, meant, capsys):
    sentence = refusal(capsys, [*BASE, short, "3"])
    assert meant in sentence
    assert "-phi" not in sentence


@pytest.mark.parametrize("flag", ["-N", "-Na", "-Nb", "-Nc"])
def test_fewer_than_no_cells_are_one_as_in_the_c_program(flag, capsys):
    assert np.array_equal(image_of(flag, "-5"), image_of(flag, "1"))
    assert f"WARNING: {flag} -5 is taken as 1" in capsys.readouterr().err


def test_flags_that_a_source_file_replaces_are_said(folder, capsys):
    (folder / "one.src").write_text("-10 0 0 1 1e-10\n")
    image_of("-sourcefile", "one.src", "-hdivrange", "2", "-dispersion", "1")
    assert "WARNING: -dispersion, -hdivrange have no effect beside -sourcefile" in capsys.readouterr().err


# --- work that cannot be done


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-oversample 10000 -mosaic 1 -mosaic_domains 1000000", "would take 2.56e+16 pixel-steps"),
        ("-oversample 1 -mosaic 1 -mosaic_domains 4000000", "number of crystal orientations"),
        ("-osc 1e6 -phistep 1e-300", "steps must be large enough"),
        ("-hdivrange 6000 -hdivstep 1e-300", "steps must be large enough"),
        ("-hdivrange 100 -hdivsteps 100000 -vdivrange 100 -vdivsteps 100000", "number of sources"),
    ],
)
def test_absurd_amounts_of_work_are_refused_before_they_begin(words, said, capsys):
    assert said in refusal(capsys, [*BASE, *words.split()])


def test_a_frame_beyond_the_memory_allowed_is_refused_with_its_bytes(capsys):
    sentence = refusal(capsys, [*BASE, "-detpixels", "1000", "-intfile", "a.img", "-max-memory", "3M"])
    assert "4,000,000 bytes" in sentence


def test_a_structure_factor_table_beyond_the_memory_allowed_is_refused(folder, capsys):
    (folder / "far.hkl").write_text("0 0 0 1\n900000 900000 900000 5\n")
    sentence = refusal(capsys, [*BASE, "-hkl", "far.hkl"])
    assert "bytes" in sentence and "900001" in sentence


def test_more_photons_than_float32_can_count_are_refused(capsys):
    sentence = refusal(capsys, [*BASE, "-fluence", "1e59", "-default_F", "1e14"])
    assert "float32" in sentence


# --- files that cannot be read

BAD_FILES = {
    "absent": None,
    "empty": b"",
    "zeros": bytes(600),
    "binary": bytes(range(256)) * 9,
    "text": b"the quick brown fox\n",
    "html": b"<html><body>404</body></html>\n",
    "short lines": b"1 2\n3 4\n",
    "nan": b"nan nan nan nan\n" * 3,
    "smv without size": b"{\nHEADER_BYTES=512;\nDIM=2;\n}\f" + b" " * 480,
    "smv cut short": b"{\nHEADER_BYTES=512;\nSIZE1=16;\nSIZE2=16;\nTYPE=unsigned_short;\n}\f".ljust(512) + b"xx",
    "smv of a giant": b"{\nHEADER_BYTES=512;\nSIZE1=99999999;\nSIZE2=99999999;\nTYPE=unsigned_short;\n}\f".ljust(512),
    "dump cut short": b"0 5 0 5 0 5\n\f" + bytes(100),
    "dump of a giant": b"0 99999999 0 99999999 0 99999999\n\f",
}


@pytest.mark.parametrize("flag", ["-hkl", "-mtz", "-cif", "-mat", "-sourcefile", "-img", "-mask", "-dump"])
@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_file_that_cannot_be_read_is_refused_by_name(flag, kind, folder, capsys):
    if flag == "-img" and kind in ("smv cut short", "smv of a giant"):
        pytest.skip("the pixels of -img are not looked at")
    if BAD_FILES[kind] is not None:
        (folder / "bad.file").write_bytes(BAD_FILES[kind])
    sentence = refusal(capsys, [*BASE, flag, "bad.file"])
    # As a list of reflections the giant's limits are indices, of which there is no such.
    assert ("-hkl must be whole numbers" if (kind, flag) == ("dump of a giant", "-hkl") else "bad.file") in sentence


@pytest.mark.parametrize("flag", ["-hkl", "-mat", "-sourcefile", "-img", "-mask", "-dump"])
def test_a_folder_in_place_of_a_file_is_refused(flag, folder, capsys):
    (folder / "sub").mkdir()
    assert "sub" in refusal(capsys, [*BASE, flag, "sub"])


def test_a_line_that_is_no_reflection_is_named_by_its_number(folder, capsys):
    (folder / "odd.hkl").write_text("1 0 0 5\n0 1.5 0 5\n")
    assert "line 2" in refusal(capsys, [*BASE, "-hkl", "odd.hkl"])


# --- files that cannot be written


@pytest.mark.parametrize("flag", ["-floatfile", "-intfile", "-noisefile", "-pgmfile", "-o", "-pngfile"])
def test_an_output_that_cannot_be_written_is_refused(flag, folder, capsys):
    (folder / "sub").mkdir()
    for name in ("sub", "nowhere/a.file", "out.bin/a.file"):
        assert name in refusal(capsys, [*CRYSTAL, "-detpixels", "16", "-pixel", "1", flag, name])


def test_two_outputs_of_one_name_are_refused(capsys):
    assert "must have different names" in refusal(capsys, [*BASE, "-intfile", "./out.bin"])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_is_one_sentence(capsys):
    assert "No space left on device" in refusal(capsys, [*CRYSTAL, "-detpixels", "16", "-floatfile", "/dev/full"])


def test_an_older_output_survives_a_refused_run(folder, capsys):
    (folder / "out.bin").write_bytes(b"older")
    refusal(capsys, [*BASE, "-lambda", "0"])
    assert (folder / "out.bin").read_bytes() == b"older"


# --- which files are written


def test_a_command_that_names_no_output_writes_the_four_of_the_c_program(folder):
    assert main([*CRYSTAL, "-detpixels", "16"]) == 0
    assert written(folder) == FOUR


@pytest.mark.parametrize(("word", "left_out"), [("-nonoise", "noiseimage.img"), ("-nopgm", "image.pgm")])
def test_a_default_output_can_be_left_out(word, left_out, folder):
    assert main([*CRYSTAL, "-detpixels", "16", word]) == 0
    assert written(folder) == FOUR - {left_out}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-noisefile", "n.img", "-nonoise"], FOUR - {"noiseimage.img"}),  # every output taken back: as without any
        (["-pgmfile", "p.pgm", "-nopgm"], FOUR - {"image.pgm"}),
        (["-pgmfile", "p.pgm", "-noisefile", "n.img", "-nonoise"], {"p.pgm"}),
        (["-nonoise", "-noisefile", "n.img"], {"n.img"}),
        (["-nopgm", "-pgmscale", "2"], FOUR),  # a scale asks for the picture again
        (["-pgmscale", "2", "-nopgm"], FOUR - {"image.pgm"}),
        (["-pgmfile", "p.pgm", "-nopgm", "-pgmscale", "2"], {"p.pgm"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_last_word_on_an_output_counts_as_in_the_c_program(words, expected, folder):
    assert main([*CRYSTAL, "-detpixels", "16", *words]) == 0
    assert written(folder) == expected


def test_a_scale_of_a_picture_that_is_not_written_is_said(capsys):
    image_of("-pgmscale", "2")
    assert "WARNING: -pgmscale has no effect" in capsys.readouterr().err


def test_a_command_that_names_outputs_writes_those(folder):
    assert main([*BASE, "-o", "f.h5", "-noisefile", "n.img", "-pngfile", "p.png"]) == 0
    assert written(folder) == {"out.bin", "f.h5", "n.img", "p.png"}


def test_the_frame_file_holds_the_photons_the_command_and_the_experiment(folder):
    from bragg_numba import Experiment

    image = image_of("-o", "f.h5", "-seed", "7")
    with h5py.File("f.h5") as file:
        assert (file["/entry/data/data"][0] == image).all()
        assert "-seed 7" in file["/entry/process/command"][()].decode()
        assert file["/entry/process/seeds/noise"][()] == 7
        assert file["/entry/process/statistics/sum"][()] == pytest.approx(image.sum(dtype=float), rel=1e-12)
    assert Experiment.load("f.h5") == Experiment.from_nanobragg([*BASE, "-seed", "7"])


def test_json_is_the_whole_report_and_nothing_else(capsys):
    assert main([*BASE, "-json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["plan"]["pixels_fast_slow"] == [16, 16]
    assert report["output"]["files"] == ["out.bin"]
    image = np.fromfile("out.bin", dtype="<f4")
    assert report["statistics"]["max"] == image.max()


def test_one_command_after_another_gives_the_same_bytes(folder):
    words = [*CRYSTAL, "-detpixels", "24", "-fluence", "1e28", "-mosaic", "1", "-mosaic_domains", "3"]
    names = ("-intfile", "-noisefile", "-pgmfile", "-floatfile")
    runs = []
    for run in ("one", "two"):
        assert main([*words, *(word for name in names for word in (name, run + name))]) == 0
        assert main(["-nonsense"]) == 2  # a refusal in between leaves nothing behind
        runs.append([(folder / (run + name)).read_bytes() for name in names])
    assert runs[0] == runs[1]


def test_another_seed_gives_other_noise_and_the_same_photons(folder):
    for seed in ("1", "2"):
        words = [*BASE, "-fluence", "1e29", "-noisefile", f"{seed}.img", "-floatfile", f"{seed}.bin", "-seed", seed]
        assert main(words) == 0
    assert (folder / "1.img").read_bytes() != (folder / "2.img").read_bytes()
    assert (folder / "1.bin").read_bytes() == (folder / "2.bin").read_bytes()


def test_the_written_integers_are_the_scaled_photons_plus_the_offset():
    image = image_of("-intfile", "i.img", "-scale", "2", "-adc", "7")
    # C rounds half up after the offset, in float32, and saturates at 16 bits.
    expected = np.clip(np.floor((image.astype(float) * 2 + 7 + 0.5).astype(np.float32)), 0, 65535)
    assert (read_smv("i.img").pixels == expected).all()


def test_pixels_outside_the_region_stay_zero_and_those_inside_are_as_without_it():
    whole, part = image_of(), image_of("-roi", "3", "9", "4", "7")
    inside = np.zeros((16, 16), dtype=bool)
    inside[4:8, 3:10] = True
    assert (part[inside] == whole[inside]).all()
    assert (part[~inside] == 0).all()


def test_one_pixel_is_printed_as_the_c_program_prints_it(capsys):
    image = image_of("-printout_pixel", "5", "11")
    lines = capsys.readouterr().out.splitlines()
    (first,) = (number for number, line in enumerate(lines) if line.startswith("   5   11 : stol = "))
    printed = lines[first : first + 14]
    starts = ["   5", "at ", "hkl=", " F_cell=", "I/steps", "polar", "omega", "capfrac", "pixel"]
    starts += ["real-space cell", "     a", "X:", "Y:", "Z:"]
    assert all(line.startswith(start) for line, start in zip(printed, starts, strict=True))
    assert float(printed[8].split()[-1]) == pytest.approx(image[11, 5], rel=1e-9)
    scaled = [float(line.split()[-1]) for line in printed[4:8]]
    assert np.prod(scaled) == pytest.approx(image[11, 5], rel=1e-6)  # r_e^2 times the default fluence is 1


def test_a_pixel_without_sub_steps_is_printed_as_its_value(capsys):
    image_of("-printout_pixel", "5", "11", "-roi", "0", "3", "0", "3")
    assert "   5   11 : no sub-step\npixel                 0\n" in capsys.readouterr().out


# --- images as input


def make_image(folder, name="given.img", **changes) -> None:
    words = {"-distance": "150", "-lambda": "1.3", "-Xbeam": "9", "-Ybeam": "6", "-pixel": "0.8", **changes}
    line = [*CRYSTAL, "-detpixels_f", "20", "-detpixels_s", "12", *(w for pair in words.items() for w in pair)]
    assert main([*line, "-oversample", "1", "-intfile", name, "-floatfile", name + ".bin", "-adc", "0"]) == 0


def test_an_image_gives_its_geometry_wherever_it_stands_on_the_line(folder):
    make_image(folder)
    expected = np.fromfile("given.img.bin", dtype="<f4")
    for words in (["-img", "given.img", *CRYSTAL], [*CRYSTAL, "-img", "given.img"]):
        assert main([*words, "-oversample", "1", "-floatfile", "again.bin"]) == 0
        # Headers hold six digits: intensities of 16-pixel-wide spots follow them to about 1e-4.
        assert np.fromfile("again.bin", dtype="<f4") == pytest.approx(
            expected, rel=1e-3, abs=1e-3 * float(expected.max())
        )


def test_flags_win_over_the_image_and_the_image_over_the_mask(folder, capsys):
    make_image(folder, "given.img")
    make_image(folder, "mask.img", **{"-distance": "250", "-lambda": "1.9"})
    line = [*CRYSTAL, "-img", "given.img", "-mask", "mask.img", "-floatfile", "a.bin", "-json"]
    capsys.readouterr()
    for words, distance, wavelength in (([], 0.15, 1.3e-10), (["-lambda", "1.1"], 0.15, 1.1e-10)):
        assert main([*line, *words]) == 0
        plan = json.loads(capsys.readouterr().out)["plan"]
        assert plan["distance_m"] == pytest.approx(distance, rel=1e-6)
        assert plan["wavelength_m"] == pytest.approx(wavelength, rel=1e-6)
        assert plan["pixels_fast_slow"] == [20, 12]


def test_zero_pixels_of_a_mask_are_skipped(folder):
    words = ["-Xbeam", "8", "-Ybeam", "9", "-precision", "float64"]
    whole = image_of(*words, "-intfile", "mask.img")
    wanted = np.ones((16, 16), dtype="<u2")
    wanted[2:5, 3:9] = 0
    data = (folder / "mask.img").read_bytes()
    (folder / "mask.img").write_bytes(data[:512] + wanted.tobytes())
    masked = image_of(*words, "-mask", "mask.img")
    assert (masked[wanted == 0] == 0).all()
    assert (masked[wanted > 0] == whole[wanted > 0]).all()
    assert whole[wanted == 0].all()


# --- structure factors and their cache


def test_the_cache_of_the_structure_factors_renders_the_same_image(folder):
    (folder / "few.hkl").write_text("".join(f"{h} {k} {l} {10 + h * h + k}\n" for h, k, l in np.ndindex(5, 4, 3)))  # noqa: E741
    words = ["-cell", "40", "50", "60", "80", "90", "100", "-N", "3", "-detpixels", "16", "-pixel", "4", "-misset"]
    words += ["10", "20", "30"]
    assert main([*words, "-hkl", "few.hkl", "-floatfile", "a.bin"]) == 0
    assert "Fdump.bin" in written(folder)
    assert main([*words, "-floatfile", "b.bin"]) == 0
    assert (folder / "a.bin").read_bytes() == (folder / "b.bin").read_bytes()
    assert np.fromfile("a.bin", dtype="<f4").any()


def test_the_cache_has_the_name_that_dump_gives_it(folder):
    (folder / "few.hkl").write_text("0 0 1 5\n1 1 1 7\n")
    image_of("-hkl", "few.hkl", "-dump", "my.dump")
    assert written(folder) == {"few.hkl", "my.dump", "out.bin"}


# --- no flag fires another (fidelity.md, second table)


@pytest.mark.parametrize(
    ("longer", "shorter"),
    [
        (["-twotheta_axis", "0", "0", "-1"], "twotheta_deg"),
        (["-pix0_vector_mm", "100", "-8", "8"], "beam_x_mm"),
        (["-detector_thicksteps", "3"], "thickness_um"),
        (["-Xclose", "5"], "beam_x_mm"),
        (["-close_distance", "70"], "distance_mm"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
def test_a_detector_flag_leaves_the_one_whose_name_it_contains_alone(longer, shorter):
    from bragg_numba import Experiment

    plain, changed = (Experiment.from_nanobragg([*BASE, *words]).detector for words in ([], longer))
    assert getattr(changed, shorter) == getattr(plain, shorter)
    assert changed != plain


def test_a_misset_seed_is_no_misset(capsys):
    from bragg_numba import Experiment

    with pytest.warns(UserWarning, match="-misset_seed has no effect without -misset random"):
        crystal = Experiment.from_nanobragg([*BASE, "-misset_seed", "7", "-phi", "1"]).crystal
    assert (crystal.misset_deg, crystal.misset_seed) == (None, 7)
    for words in (["-misset", "random", "-misset_seed", "7"], ["-misset_seed", "7", "-misset", "random"]):
        crystal = Experiment.from_nanobragg([*BASE, *words]).crystal
        assert (crystal.misset_deg, crystal.misset_seed) == ("random", 7)


def test_oversampling_of_a_factor_is_not_the_number_of_sub_pixels():
    from bragg_numba import Experiment

    words = [*CRYSTAL, "-oversample_polar", "-oversample_thick", "-oversample_omega"]
    sampling = Experiment.from_nanobragg(words).sampling
    assert sampling.oversample is None
    assert sampling.oversample_polar and sampling.oversample_thick and sampling.oversample_omega


def test_mosaic_flags_are_told_apart():
    from bragg_numba import Experiment

    words = [*CRYSTAL, "-mosaic_dom", "5", "-mosaic_seed", "9", "-mosaicity", "0.5"]
    crystal = Experiment.from_nanobragg(words).crystal
    assert (crystal.mosaic_domains, crystal.mosaic_seed, crystal.mosaic_spread_deg) == (5, 9, 0.5)


@pytest.mark.parametrize("flag", [flag for flag in FLAGS if len(flag.names) > 1], ids=lambda flag: flag.key)
def test_synonyms_mean_the_same(flag):
    from bragg_numba.dialect.parse import parse

    values = ["3"] * len(flag.values)
    first, *others = (parse([name, *values])[0] for name in flag.names)
    assert all(other.flag is first.flag and other.values == first.values for other in others)


def test_a_curved_detector_may_be_the_last_word():
    assert not np.array_equal(image_of("-distance", "15"), image_of("-distance", "15", "-curved_det"))


def test_default_seeds_are_fixed(folder):
    words = [*CRYSTAL, "-detpixels", "16", "-misset", "random", "-fluence", "1e29"]
    for name in ("a.img", "b.img"):
        assert main([*words, "-noisefile", name]) == 0
    assert (folder / "a.img").read_bytes() == (folder / "b.img").read_bytes()
