"""The trace of a pixel is the pixel: bit for bit ours, tap by tap the reference's."""

import json
import math
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bragg_numba import Experiment, InputError, Simulator
from bragg_numba.cli.bragg import main
from bragg_numba.lab.parity.divergence import first_divergence, parse_trace
from bragg_numba.plan.plan import make_plan
from bragg_numba.trace.pixel import grating, trace_pixel
from bragg_numba.trace.taps import STEP_NAMES, UNITS

EPS = sys.float_info.epsilon
SMALL = "-cell 70 80 90 75 85 95 -default_F 100 -N 5 -lambda 1.5 -misset 10 20 30 -distance 40 -detpixels 48 -pixel 1"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Nobody's Fdump.bin: without -hkl it would be read, as nanoBragg does."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def golden(golden_folder, monkeypatch):
    """The golden file, opened beside its input files."""
    monkeypatch.chdir(golden_folder / "inputs")
    with h5py.File(golden_folder / "golden.h5") as file:
        yield file


def golden_traces():
    from pathlib import Path

    with h5py.File(Path(__file__).parents[1] / "golden" / "golden.h5") as file:
        return [(case, item) for case in file for item in file[case] if item.startswith("trace_")]


def plan_of(golden, case, more=()):
    return make_plan(Experiment.from_nanobragg([*json.loads(golden[case].attrs["argv"]), *more]))


def pixel_of(item):
    return tuple(int(word) for word in item.split("_")[1:])


# --- against the reference ----------------------------------------------------------------------


def reference_rounding(h, n, value):
    """What nanoBragg.c's own sin(pi n h) / sin(pi h) may be off by, for it does not reduce h first.

    Either phase carries two roundings, of pi and of the product: 2 eps |phase|. The quotient's derivative
    turns them into the sum below. At a peak it has no bound of use, but the quotient is flat there.
    """
    sine = abs(math.sin(math.pi * h))
    if sine < 1e-9:
        return 1e-10
    return min(1e-10, 2 * EPS * math.pi * abs(h) * (n + abs(value)) / sine)


def grating_tolerances(trace, i, counts):
    """Return tolerances of F_latt_a, _b, _c and F_latt of sub-step i."""
    values = [trace[f"F_latt_{axis}"][i] for axis in "abc"]
    parts = [
        1e-12 * abs(v) + reference_rounding(h, n, v)
        for v, h, n in zip(values, trace["hkl_frac"][i], counts, strict=True)
    ]
    product = sum(parts[k] * math.prod(abs(values[j]) for j in range(3) if j != k) for k in range(3))
    return dict(zip(("F_latt_a", "F_latt_b", "F_latt_c", "F_latt"), (*parts, product), strict=True))


@pytest.mark.parametrize(("case", "item"), golden_traces())
def test_every_tap_of_the_reference_is_ours_to_1e_12(golden, case, item):
    plan = plan_of(golden, case)
    trace = trace_pixel(plan, *pixel_of(item))

    theirs = parse_trace(golden[case][item][()].tobytes().decode())
    ours = parse_trace(trace.text())

    assert len(theirs) > 30
    assert [tap.name for tap in ours] == [tap.name for tap in theirs]
    steps = range(trace.kept)
    of_domain_0 = [i for i in steps if trace["mos_tic"][i] == 0]
    of_phi_0 = [i for i in of_domain_0 if trace["phi_tic"][i] == 0]
    for mine, other in zip(ours, theirs, strict=True):
        name = other.name.removeprefix("phi:")
        if isinstance(other.value, str):
            assert mine.value == other.value, name
            continue
        if name.startswith("F_latt"):
            step = (of_domain_0 if other.name != name else of_phi_0)[other.occurrence]
            tolerance = grating_tolerances(trace, step, plan.cell_counts)[name]
        else:
            tolerance = 1e-12 * math.hypot(*other.value)
        far = max(abs(a - b) for a, b in zip(mine.value, other.value, strict=True))
        assert far <= tolerance, (other.name, other.occurrence, mine.value, other.value)


@pytest.mark.parametrize("form", ["text", "every step", "json"])
def test_diverge_finds_nothing_between_our_trace_and_the_reference(golden, form):
    trace = trace_pixel(plan_of(golden, "everything"), 100, 120)
    theirs = golden["everything"]["trace_100_120"][()].tobytes().decode()

    ours = {"text": trace.text(), "every step": trace.text(every_step=True), "json": trace.json()}[form]

    assert first_divergence(ours, theirs) is None


# --- against what is rendered -------------------------------------------------------------------

OPTIONS = (
    "",
    "-oversample 3 -mosaic 1 -mosaic_dom 4 -osc 2 -phisteps 3",
    "-dispersion 2 -dispsteps 3 -divergence 5 -divsteps 3",
    "-detector_abs 300 -detector_thick 400 -thicksteps 4 -detector_rotx 20 -twotheta 15",
    "-oversample 2 -oversample_omega -oversample_polar -dmin 2.5",
    "-oversample 2 -oversample_thick -detector_abs 300 -detector_thick 400 -oversample_polar",
    "-oversample_omega -water 0.1 -fluence 1e26",
    "-nopolar -point_pixel",
    "-round_xtal -oversample 2",
    "-gauss_xtal -fudge 0.8",
    "-tophat_spots -curved_det",
    "-curved_det -detector_abs 300 -detector_thick 400 -thicksteps 3",
    "-N 1 -dmin 2.5",
    "-water 0.1 -fluence 1e26 -polar 0.9 -Na 3 -Nb 7 -Nc 2",
)


@pytest.mark.parametrize("fidelity", ["nanobragg", "physical"])
@pytest.mark.parametrize("options", OPTIONS)
def test_the_traced_value_is_the_rendered_pixel_to_the_last_bit(options, fidelity):
    words = f"{SMALL} {options} -fidelity {fidelity}"
    sim = Simulator(Experiment.from_nanobragg(words), precision="float64")
    image = sim.render()

    for slow, fast in ((0, 0), (24, 24), (13, 37), (47, 5), (30, 31)):
        trace = sim.trace(slow, fast)
        assert trace.value == image[slow, fast]
        assert np.float32(trace["I_pixel_final"]) == image[slow, fast]


@pytest.mark.parametrize(
    "case", ["interpolate", "interpolate_auto", "protein_still", "sourcefile", "mat", "sparse_hkl"]
)
def test_tables_interpolation_and_sources_trace_as_they_render(golden, case):
    sim = Simulator(plan_of(golden, case).experiment, precision="float64")
    image = sim.render()
    bright = np.unravel_index(np.argmax(image), image.shape)

    for slow, fast in (bright, (3, 60), (40, 7)):
        assert sim.trace(slow, fast).value == image[slow, fast]


def test_pixels_that_are_not_rendered_are_0_and_say_why():
    sim = Simulator(Experiment.from_nanobragg(f"{SMALL} -roi 10 20 5 30"), precision="float64")
    image = sim.render()

    inside, outside = sim.trace(5, 10), sim.trace(4, 10)

    assert inside.value == image[5, 10] > 0
    assert outside.value == image[4, 10] == 0 and outside["I_pixel_final"] == 0
    assert outside.kept == outside.step_count == 0
    assert "region of interest (fast 10..20, slow 5..30)" in outside.notes[0]
    assert first_divergence(outside.text(), outside.text()) is None


def test_a_masked_pixel_is_0_and_says_so():
    import dataclasses

    experiment = Experiment.from_nanobragg(SMALL)
    mask = np.ones((48, 48), dtype=bool)
    mask[7, 9] = False
    detector = dataclasses.replace(experiment.detector, mask=mask)
    sim = Simulator(dataclasses.replace(experiment, detector=detector), precision="float64")

    assert sim.trace(7, 9).value == sim.render()[7, 9] == 0
    assert "masked" in sim.trace(7, 9).notes[0]
    assert sim.trace(7, 8).value > 0


# --- its form -----------------------------------------------------------------------------------


def test_every_loop_has_its_sub_steps_in_the_order_of_the_kernel():
    options = "-oversample 2 -dispersion 1 -dispsteps 2 -osc 1 -phisteps 3 -mosaic 1 -mosaic_dom 2"
    trace = trace_pixel(make_plan(Experiment.from_nanobragg(f"{SMALL} {options} -detector_thick 100")), 20, 20)

    assert trace.step_count == trace.kept == 2 * 4 * 2 * 3 * 2
    places = list(
        zip(
            *(trace[n] for n in ("layer", "subpixel_slow", "subpixel_fast", "source", "phi_tic", "mos_tic")),
            strict=True,
        )
    )
    assert places == sorted(places) and len(set(places)) == len(places)
    assert {len(trace[name]) for name in STEP_NAMES} == {trace.kept}
    assert trace["steps"] == 4 * 2 * 3 * 2  # layers do not count
    assert trace["I_running"][-1] == trace["I_before_scaling"]


def test_a_limit_on_the_sub_steps_keeps_the_sums_right():
    plan = make_plan(Experiment.from_nanobragg(f"{SMALL} -oversample 4 -mosaic 1 -mosaic_dom 5"))

    whole, short = trace_pixel(plan, 11, 12), trace_pixel(plan, 11, 12, max_steps=7)

    assert short.kept == 7 and short.step_count == whole.kept == 80
    assert dict(short.final) == dict(whole.final)
    assert any("first 7 of 80" in note for note in short.notes)


def test_what_dmin_cuts_off_is_counted():
    plan = make_plan(Experiment.from_nanobragg(f"{SMALL} -dmin 20 -oversample 2"))

    trace = trace_pixel(plan, 0, 0)

    assert trace.value == 0 and "4 of 4 sub-steps lie beyond dmin" in trace.notes[0]


def test_every_tap_has_its_unit_in_json():
    trace = trace_pixel(make_plan(Experiment.from_nanobragg(f"{SMALL} -gauss_xtal")), 20, 20)

    content = json.loads(trace.json())

    assert set(UNITS) <= set(content["taps"])
    assert content["taps"]["scattering_vec_A_inv"]["unit"] == "1/m"
    assert content["taps"]["fluence_photons_per_m2"]["unit"] == "photon/m^2"
    assert content["taps"]["F_latt_a"]["value"][0] is None  # gaussian spots are no product of gratings
    assert content["taps"]["hkl_rounded"]["value"][0] == [int(x) for x in trace["hkl_rounded"][0]]
    q = np.array(trace["scattering_vec_A_inv"][0])
    expected = (np.array(trace["diffracted_vec"][0]) - trace["incident_vec"][0]) / 1.5e-10
    assert np.allclose(q, expected, rtol=4 * EPS, atol=0)


def test_a_trace_is_a_mapping_of_all_its_taps():
    trace = trace_pixel(make_plan(Experiment.from_nanobragg(SMALL)), 1, 2)

    assert len(trace) == len(list(trace)) == len(set(trace)) > 50
    assert all(trace[name] is not None for name in trace)
    with pytest.raises(KeyError):
        trace["no such tap"]


@pytest.mark.parametrize("pixel", [(48, 0), (0, 48), (-1, 0), (1.5, 0)])
def test_a_pixel_off_the_detector_is_refused(pixel):
    with pytest.raises(InputError, match="must"):
        trace_pixel(make_plan(Experiment.from_nanobragg(SMALL)), *pixel)


@given(st.floats(-60, 60), st.integers(1, 40))
def test_the_signed_grating_is_the_quotient_of_sines(h, n):
    # Away from the zeros of the denominator, where the plain quotient says nothing.
    if abs(h - round(h)) < 1e-3:
        return
    plain = math.sin(math.pi * n * h) / math.sin(math.pi * h)

    # The plain phases are off by up to 2 eps pi n |h|, the quotient by that over sin(pi h).
    tolerance = 4 * EPS * (math.pi * abs(h) * n + 1) * (n + 1) / abs(math.sin(math.pi * h))
    assert abs(grating(h, float(n)) - plain) <= tolerance


# --- the command --------------------------------------------------------------------------------

FLAGS = [
    "--",
    "-lambda",
    "1",
    "-cell",
    "100",
    "100",
    "100",
    "90",
    "90",
    "90",
    "-default_F",
    "100",
    "-N",
    "5",
    "-detpixels",
    "64",
    "-mosaic",
    "1",
    "-mosaic_dom",
    "3",
]


def test_the_command_prints_tables_lines_and_json(capsys, tmp_path):
    assert main(["trace", "40", "24", *FLAGS]) == 0
    table = capsys.readouterr().out
    assert "pixel slow 40, fast 24" in table and "strongest sub-steps" in table and "photon/m^2" in table

    assert main(["trace", "40", "24", "--text", *FLAGS]) == 0
    lines = capsys.readouterr().out
    assert "TRACE_C: I_pixel_final " in lines

    assert main(["trace", "40", "24", "--json", "-o", str(tmp_path / "ours.json"), *FLAGS]) == 0
    assert capsys.readouterr().out == ""
    (tmp_path / "theirs.txt").write_text(lines)
    assert main(["diverge", str(tmp_path / "ours.json"), str(tmp_path / "theirs.txt")]) == 0

    assert main(["trace", "40", "24", "-o", str(tmp_path / "table.txt"), *FLAGS]) == 0
    assert "strongest sub-steps" in (tmp_path / "table.txt").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["64", "0", *FLAGS], "slow must lie between 0 and 63"),
        (["1", "2"], "FLAGS"),
        (["1", "x", *FLAGS], "invalid int"),
        (["1", "2", "--max-steps", "-3", *FLAGS], "max_steps"),
        (["1", "2", "--", "-cell", "100"], "default_F"),
    ],
)
def test_the_command_refuses_in_one_sentence(words, said, capsys):
    assert main(["trace", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error
