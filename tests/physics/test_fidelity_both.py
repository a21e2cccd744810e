"""What is done properly under both fidelities, where the reference ignores, misreads or mis-threads its input."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
from bragg_numba.kernels import physics

from bragg_numba import Crystal, Detector, Experiment, InputError, Rotation, Sampling, Simulator, StructureFactors
from bragg_numba.cli.nanobragg import main
from bragg_numba.io.text_files import read_sources

EPS32 = float(np.finfo(np.float32).eps)
SMALL = ["-cell", "50", "-default_F", "1", "-N", "5", "-detpixels", "16", "-pixel", "1", "-noprogress"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rendered(argv: list[str]) -> np.ndarray:
    """Run the command and return its raw image."""
    assert main([*argv, "-floatfile", "f.bin"]) == 0
    return np.fromfile("f.bin", np.float32)


def refusal(argv: list[str], capsys) -> str:
    """Run a command that must fail cleanly; return what it said."""
    before = sorted(os.listdir())
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert sorted(os.listdir()) == before
    return error


# --- rotation and interpolation -----------------------------------------------------------------


def swept(**rotation) -> Experiment:
    return Experiment(
        crystal=Crystal(cell=(40.0,), misset_deg=(10, 20, 30), cell_counts=(6, 6, 6)),
        detector=Detector(n_fast=32, n_slow=32, pixel_mm=1.5, distance_mm=60.0),
        sampling=Sampling(oversample=1, interpolate=False),
        structure_factors=StructureFactors(default_F=3.0),
        rotation=Rotation(**rotation),
    )


def photons(experiment: Experiment) -> np.ndarray:
    return Simulator(experiment, precision="float64").render().astype(float)


def test_a_step_at_phi_exactly_zero_is_rotated_freshly():
    sweep = photons(swept(phi_deg=-2.0, osc_deg=3.0, phi_step_deg=1.0))
    still = [photons(swept(phi_deg=phi)) for phi in (-2.0, -1.0, 0.0)]
    assert not np.allclose(still[1], still[2])
    np.testing.assert_allclose(sweep, np.mean(still, axis=0), rtol=8 * EPS32)


def test_interpolation_is_decided_for_each_point_and_counted():
    rng = np.random.default_rng(4)
    indices = np.array([(h, k, n) for h in range(-5, 6) for k in range(-5, 6) for n in range(-5, 6)])
    table = StructureFactors(indices=indices, amplitudes=rng.uniform(1, 5, len(indices)), default_F=0.5)
    base = swept().replace(structure_factors=table)
    images = {}
    for wanted in (True, False):
        sim = Simulator(base.replace(sampling=Sampling(oversample=1, interpolate=wanted)), precision="float64")
        images[wanted] = sim.render().astype(float)
        counted = [note for note in sim.notes if "interpolation" in note]
        assert len(counted) == (1 if wanted else 0)
        if wanted:
            missed = int(counted[0].split()[0])
    same = np.isclose(images[True], images[False], rtol=4 * EPS32)
    # Those that left the table, and no others, have the nearest entry's F: with one step a point is a pixel.
    assert 0 < missed < same.size
    assert same.sum() == missed
    last_missed = np.flatnonzero(same.ravel())[0]
    assert not same.ravel()[last_missed:].all(), "interpolation must come back after a miss"


# --- flags --------------------------------------------------------------------------------------


def test_misset_seed_does_not_read_as_misset_angles(folder):
    plain = rendered(SMALL)
    np.testing.assert_array_equal(rendered([*SMALL, "-misset_seed", "7", "-phi", "0"]), plain)
    assert not np.array_equal(rendered([*SMALL, "-misset", "7", "0", "1"]), plain)


@pytest.mark.parametrize(
    ("flag", "near"),
    [("-lamda", "-lambda"), ("-detpixel", "-detpixels"), ("-Nd", "-Nc"), ("-mosaik", "-mosaic")],
)
def test_an_unknown_flag_is_an_error_that_names_near_ones(folder, capsys, flag, near):
    error = refusal([*SMALL, flag, "1"], capsys)
    assert f"{flag} is not a known flag" in error
    assert near in re.findall(r"-\w+", error.split("did you mean")[1])


@pytest.mark.parametrize("flag", ["-lambda", "-distance", "-detpixels", "-phi"])
@pytest.mark.parametrize("value", [[], ["abc"], ["nan"]])
def test_a_missing_or_non_numeric_value_is_an_error(folder, capsys, flag, value):
    assert flag in refusal([*SMALL, flag, *value], capsys)


@pytest.mark.parametrize("flag", ["-stol", "-4stol", "-Q", "-coherent"])
def test_flags_without_meaning_are_refused_with_advice(folder, capsys, flag):
    error = refusal([*SMALL, flag, "x.stol"], capsys)
    assert flag in error
    assert len(error.split()) > 8


def test_no_output_flag_writes_the_four_default_files(folder):
    assert main(SMALL) == 0
    assert sorted(os.listdir()) == ["floatimage.bin", "image.pgm", "intimage.img", "noiseimage.img"]


def test_naming_an_output_writes_only_that(folder):
    assert main([*SMALL, "-intfile", "mine.img"]) == 0
    assert os.listdir() == ["mine.img"]


def test_default_seeds_are_fixed_so_that_a_run_can_be_repeated(folder):
    line = [*SMALL, "-misset", "random", "-mosaic", "1", "-mosaic_domains", "3", "-noisefile"]
    assert main([*line, "a.img"]) == 0
    assert main([*line, "b.img"]) == 0
    assert (folder / "a.img").read_bytes() == (folder / "b.img").read_bytes()
    assert main([*line, "c.img", "-seed", "5"]) == 0
    assert (folder / "a.img").read_bytes() != (folder / "c.img").read_bytes()


# --- files --------------------------------------------------------------------------------------


def test_comments_and_blank_lines_of_a_source_file_are_skipped(folder):
    (folder / "s.src").write_text("# x y z weight metres\n\n-10 0 0 1 1e-10\n  # more\n-10 0.1 0 1 1.1e-10\n")
    assert len(read_sources("s.src")) == 2
    image = rendered([*SMALL, "-sourcefile", "s.src"])
    assert np.isfinite(image).all()
    assert image.any()


def test_a_bad_line_of_a_source_file_is_an_error_with_its_number(folder, capsys):
    (folder / "s.src").write_text("-10 0 0 1 1e-10\n-10 0 oops 1 1e-10\n")
    assert "s.src line 2 " in refusal([*SMALL, "-sourcefile", "s.src"], capsys)


def hkl_command(path: str) -> list[str]:
    return [
        *["-cell", "50", "-N", "5", "-detpixels", "16", "-pixel", "1", "-noprogress", "-nointerpolate"],
        "-hkl",
        path,
    ]


def test_whole_numbers_written_as_reals_are_indices(folder):
    (folder / "real.hkl").write_text("0.0 0 0 50\n1.0 0 -1.0 20\n")
    (folder / "whole.hkl").write_text("0 0 0 50\n1 0 -1 20\n")
    image = rendered(hkl_command("real.hkl"))
    assert image.any()
    np.testing.assert_array_equal(image, rendered(hkl_command("whole.hkl")))


def test_an_index_that_is_no_whole_number_is_an_error_with_its_line(folder, capsys):
    (folder / "bad.hkl").write_text("0 0 0 50\n1 0 0 20\n1.5 0 0 20\n")
    assert "bad.hkl line 3 " in refusal(hkl_command("bad.hkl"), capsys)


def test_indices_that_need_a_huge_table_are_refused_with_the_bytes(folder, capsys):
    (folder / "huge.hkl").write_text("0 0 0 50\n900000 800000 700000 20\n")
    error = refusal(hkl_command("huge.hkl"), capsys)
    assert "bytes" in error


def test_a_cache_that_begins_with_white_space_bytes_is_read_by_position(folder):
    # The lowest byte of this F is 0x20, a blank, which C's scanner would eat.
    amplitude = float(np.frombuffer(bytes.fromhex("2000000000004940"), "<f8")[0])
    (folder / "blank.hkl").write_text("".join(f"{h} 0 0 {amplitude!r}\n" for h in (0, 1, 2)))
    fresh = rendered(hkl_command("blank.hkl"))
    assert fresh.any()
    without_hkl = ["-cell", "50", "-N", "5", "-detpixels", "16", "-pixel", "1", "-noprogress", "-nointerpolate"]
    np.testing.assert_array_equal(rendered(without_hkl), fresh)


def test_a_truncated_cache_is_refused(folder, capsys):
    (folder / "Fdump.bin").write_bytes(b"0 2 0 0 0 0\n\f" + b"\0" * 8)
    without_hkl = ["-cell", "50", "-N", "5", "-detpixels", "16", "-noprogress"]
    assert "Fdump.bin" in refusal(without_hkl, capsys)


def test_mosaic_domains_of_a_seed_are_always_the_same():
    def cells(seed):
        crystal = Crystal(cell=(40.0,), mosaic_spread_deg=1.0, mosaic_domains=6, mosaic_seed=seed)
        return Simulator(swept().replace(crystal=crystal)).plan.cells

    np.testing.assert_array_equal(cells(99), cells(99))
    np.testing.assert_array_equal(cells(99)[0], cells(100)[0])  # the first domain is the aligned one
    assert (cells(99)[1:] != cells(100)[1:]).any(axis=1).all()


def test_an_experiment_says_what_it_refuses_in_one_sentence():
    with pytest.raises(InputError) as error:
        Experiment.from_nanobragg("-cell 50 -default_F 1 -fidelity exact")
    assert str(error.value).count("\n") == 0
    assert "physical" in str(error.value)


# --- what C computes or writes wrongly ------------------------------------------------------------


def test_a_round_crystal_exactly_on_a_peak_has_the_peak():
    """C's 3 (sin x / x - cos x) / x^2 cancels beside x = 0: to 0 below 1e-8, and wrong by percents at 1e-7."""

    def of_c(x: float) -> float:
        return 3.0 * (np.sin(x) / x - np.cos(x)) / (x * x)

    for radius in (1e-9, 1e-8, 1e-7, 1e-3, 0.1):
        x = np.pi * radius
        expected = np.pi / 6.0 * (1.0 - x**2 / 10.0 + x**4 / 280.0) ** 2  # a ball holds pi / 6 of its cube
        assert physics.sphere_squared(radius**2) == pytest.approx(expected, rel=1e-6)
    assert of_c(np.pi * 1e-9) == 0.0
    # The pixel that the direct beam meets is one, to the last bits of h, k, l.
    words = "-cell 100 -default_F 1 -N 5 -round_xtal -detpixels 9 -pixel 0.01 -oversample 1 -nopolar -point_pixel"
    image = Simulator(Experiment.from_nanobragg(f"{words} -Xbeam 0.04 -Ybeam 0.04")).render()
    assert image.max() == image[4, 4] > 0.99 * image[4, 5] > 0.0


def test_a_sensor_that_absorbs_nothing_is_none_wherever_its_flags_stand(folder):
    """C forgets the thickness of an earlier flag, and captures nothing with that of a later one: a black image."""
    plain = rendered(SMALL)
    for words in (["-detector_abs", "inf", "-detector_thick", "100"], ["-detector_thick", "100", "-detector_abs", "0"]):
        np.testing.assert_array_equal(rendered([*SMALL, *words]), plain)


def test_the_solid_angle_that_is_printed_is_that_of_the_pixels(folder, capsys):
    """C divides what it added once for each source, sub-pixel and layer by its steps, which count other loops."""

    def printed(*words: str) -> float:
        assert main([*SMALL, *words, "-floatfile", "f.bin"]) == 0
        line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("solid angle"))
        return float(line.split("=")[1].split()[0])

    once = printed()
    assert once == pytest.approx(16 * 16 * 1e-6 / 0.1**2, rel=0.02)
    for words in (["-dispersion", "1", "-dispsteps", "3"], ["-mosaic", "1"], ["-detector_thick", "100"], ["-osc", "1"]):
        assert printed(*words) == once


@pytest.mark.parametrize("cell", ["100 100 100 30 30 90", "100 100 100 120 120 120", "50 50 50 170 10 90"])
def test_a_cell_that_does_not_close_is_refused(folder, capsys, cell):
    """C says "impossible unit cell" and goes on with a volume of 1e-308, or with the angles' sines clipped."""
    assert "enclose a volume" in refusal([*SMALL, "-cell", *cell.split()], capsys)


def test_a_cache_that_is_named_and_missing_is_refused(folder, capsys):
    """With -default_F C renders without it and says nothing; only a default name may be missing."""
    assert "none.bin" in refusal([*SMALL, "-dump", "none.bin"], capsys)
    assert main([*SMALL, "-floatfile", "f.bin"]) == 0
