"""Errors injected into golden traces are found where they are, and called by name."""

import json
import math
import re
from pathlib import Path

import pytest

from bragg_numba.errors import InputError
from bragg_numba.lab.parity.divergence import diverge, first_divergence, parse_trace
from bragg_numba.trace.equations import TAP_EQUATIONS

GOLDEN = Path(__file__).parents[2] / "golden" / "golden.h5"
TRACES = [
    ("simple_cubic", "trace_400_600"),
    ("everything", "trace_100_120"),
    ("protein_still", "trace_300_120"),
    ("absorption", "trace_10_80"),
]


def golden_trace(case="simple_cubic", name="trace_400_600"):
    import h5py

    with h5py.File(GOLDEN, "r") as file:
        return bytes(file[case][name][()]).decode()


def with_tap(text, name, change, only=None):
    """Change the values of a tap (of one occurrence of it) in a trace."""
    count = -1

    def swap(found):
        nonlocal count
        count += 1
        if only is not None and count != only:
            return found[0]
        return found[1] + " ".join(f"{x:.15g}" for x in change([float(x) for x in found[2].split()]))

    changed = re.sub(rf"(?m)^(TRACE_C: {name} )(.*)$", swap, text)
    assert changed != text
    return changed


def scaled(factor):
    return lambda values: [factor * value for value in values]


@pytest.mark.parametrize(("case", "name"), TRACES)
def test_a_trace_does_not_diverge_from_itself(case, name):
    text = golden_trace(case, name)

    assert first_divergence(text, text) is None


def test_repeated_taps_are_counted_sub_step_after_sub_step():
    taps = [tap for tap in parse_trace(golden_trace("absorption", "trace_10_80")) if tap.name == "hkl_frac"]

    assert [tap.occurrence for tap in taps] == [0, 1, 2, 3, 4]
    assert taps[1].value == (-8.46521233068556, 39.4349428218178, 18.7646311378045)


def test_set_up_lines_with_an_equals_sign_are_taps_too():
    taps = {tap.name: tap.value for tap in parse_trace(golden_trace())}

    assert taps["pix0_vector"] == (0.1, 0.0513, -0.0513)
    assert taps["Rx"] == (1, 0, 0, 0, 1, -0.0, 0, 0, 1)
    assert taps["angles_rad"] == (0, 0, 0, 0)
    assert taps["detector_convention"] == "MOSFLM"


@pytest.mark.parametrize(("case", "name"), TRACES)
@pytest.mark.parametrize(
    ("tap", "factor", "said"),
    [
        ("scattering_vec_A_inv", 1e7, "1/angstrom and 1/mm"),
        ("scattering_vec_A_inv", 1e-10, "angstroms and metres"),
        ("fluence_photons_per_m2", 1e9, "nanometres and metres"),
        ("fluence_photons_per_m2", 1e-4, "square centimetres and square metres"),
        ("rot_a_angstroms", 1e-10, "angstroms and metres"),
        ("pixel_pos_meters", 1e3, "millimetres and metres"),
        ("R_distance_meters", 1e6, "micrometres and metres"),
        ("cos_2theta", math.pi / 180, "degrees and radians"),
        ("I_before_scaling", 1e-17, "a power of ten"),
    ],
)
def test_a_wrong_unit_is_found_where_it_is_and_called_by_name(case, name, tap, factor, said):
    text = golden_trace(case, name)

    found = first_divergence(with_tap(text, tap, scaled(factor)), text)

    assert (found.name, found.occurrence) == (tap, 0)
    assert found.ratio == pytest.approx(factor, rel=1e-6)
    assert any(said in explanation for explanation in found.explanations)
    assert TAP_EQUATIONS[tap][0] in found.equation


def test_only_the_first_of_several_spoilt_taps_is_reported():
    text = golden_trace()
    spoilt = with_tap(text, "I_pixel_final", scaled(3.7))
    spoilt = with_tap(spoilt, "hkl_frac", scaled(1e7))
    spoilt = with_tap(spoilt, "scattering_vec_A_inv", scaled(1e7))

    assert first_divergence(spoilt, text).name == "scattering_vec_A_inv"


def test_a_late_sub_step_is_named():
    text = golden_trace("absorption", "trace_10_80")

    found = first_divergence(with_tap(text, "F_latt_b", scaled(-1.0), only=3), text)

    assert (found.name, found.occurrence) == ("F_latt_b", 3)
    assert found.explanations == ("the sign is turned",)


@pytest.mark.parametrize(
    ("tap", "factor", "said"),
    [
        ("I_before_scaling", 2.0, "a factor 2 "),
        ("F_cell", 0.25, "a factor 4 "),
        ("I_pixel_final", 1 / 7.94079248018965e-30, "classical electron radius squared"),
        ("I_pixel_final", 45.0, "the number of steps"),
        ("scattering_vec_A_inv", 2 * math.pi, "2 pi"),
        ("scattering_vec_A_inv", -1.0, "the sign is turned"),
    ],
)
def test_usual_factors_are_named(tap, factor, said):
    text = golden_trace("everything", "trace_100_120")

    found = first_divergence(with_tap(text, tap, scaled(factor)), text)

    assert found.name == tap
    assert any(said in explanation for explanation in found.explanations)


def test_the_wavelength_is_named_as_a_factor():
    text = golden_trace()

    found = first_divergence(with_tap(text, "scattering_vec_A_inv", scaled(6.2e-10)), text)

    assert any("the wavelength in metres" in explanation for explanation in found.explanations)


def test_a_factor_and_a_unit_at_once_are_named_both():
    text = golden_trace()

    found = first_divergence(with_tap(text, "scattering_vec_A_inv", scaled(2e-10 * math.pi)), text)

    assert any("2 pi" in explanation and "10^-10" in explanation for explanation in found.explanations)


def test_swapped_components_are_named():
    text = golden_trace()

    found = first_divergence(with_tap(text, "pixel_pos_meters", lambda v: [v[0], v[2], v[1]]), text)

    assert found.ratio is None
    assert found.explanations == ("components in another order: ours is their (x, z, y)",)


def test_a_turned_sign_of_one_component_is_named():
    text = golden_trace()

    found = first_divergence(with_tap(text, "diffracted_vec", lambda v: [v[0], -v[1], v[2]]), text)

    assert found.explanations == ("turned signs: ours is their (x, -y, z)",)


def test_half_a_pixel_is_named():
    text = golden_trace()  # fast is +z, slow is -y, the pixel is 0.1 mm

    found = first_divergence(with_tap(text, "pixel_pos_meters", lambda v: [v[0], v[1], v[2] + 5e-5]), text)

    assert found.explanations == ("a shift by +0.5 pixels along fast and +0 along slow",)


def test_the_last_printed_digit_is_no_divergence():
    text = golden_trace()

    assert first_divergence(with_tap(text, "hkl_frac", scaled(1 + 1e-12)), text) is None
    assert first_divergence(with_tap(text, "hkl_frac", scaled(1 + 1e-8)), text) is not None


def test_a_value_that_is_not_a_number_diverges():
    text = golden_trace()

    found = first_divergence(with_tap(text, "I_pixel_final", lambda v: [math.nan]), text)

    assert found.explanations == ("ours is not a finite number",)
    json.dumps(found.as_dict(), allow_nan=False)


def as_json(text, **more):
    columns = {}
    for tap in parse_trace(text):
        if isinstance(tap.value, tuple) and not tap.name.startswith("phi:"):
            columns.setdefault(tap.name, []).append(tap.value[0] if len(tap.value) == 1 else list(tap.value))
    return json.dumps({name: steps[0] if len(steps) == 1 else steps for name, steps in columns.items()} | more)


@pytest.mark.parametrize(("case", "name"), TRACES)
def test_a_json_trace_lines_up_with_a_text_trace(case, name):
    text = golden_trace(case, name)

    assert first_divergence(as_json(text), text) is None
    assert first_divergence(text, as_json(text)) is None
    found = first_divergence(as_json(with_tap(text, "R_distance_meters", scaled(1e3))), as_json(text))
    assert found.name == "R_distance_meters"


def test_a_json_trace_may_carry_units():
    ours = json.dumps({"taps": {"steps": {"value": 2, "unit": ""}, "polar": {"value": [0.5, 0.25], "unit": ""}}})

    assert [(tap.name, tap.occurrence, tap.value) for tap in parse_trace(ours)] == [
        ("steps", 0, (2.0,)),
        ("polar", 0, (0.5,)),
        ("polar", 1, (0.25,)),
    ]


def test_a_trace_of_every_domain_lines_up_with_one_of_the_first_domain():
    text = "TRACE_C: F_cell 3\nTRACE_C: F_cell 5\n"

    assert first_divergence(json.dumps({"F_cell": [3, 9, 5, 9]}), text) is None
    assert first_divergence(json.dumps({"F_cell": [3, 9, 6, 9]}), text).occurrence == 1


def test_our_names_can_be_mapped_to_theirs():
    ours, theirs = json.dumps({"airpath": 2.0}), "TRACE_C: R_distance_meters 1.0\n"

    assert first_divergence(ours, theirs, names={"airpath": "R_distance_meters"}).ratio == 2.0


def test_diverge_reports_a_status_and_a_text(tmp_path):
    text = golden_trace()
    theirs, ours, empty = (tmp_path / name for name in ("c.txt", "py.txt", "empty.txt"))
    theirs.write_text(text)
    ours.write_text(with_tap(text, "scattering_vec_A_inv", scaled(1e-7)))
    empty.write_text("no trace here\n")

    assert diverge(theirs, theirs)[0] == 0
    status, report = diverge(ours, theirs)
    assert status == 1
    assert "scattering_vec_A_inv" in report and "probable unit error" in report and "physics.md" in report
    assert diverge(empty, theirs)[0] == 5
    assert diverge(tmp_path / "absent.txt", theirs)[0] == 5


def test_traces_without_a_common_tap_are_refused():
    with pytest.raises(InputError, match="in common"):
        first_divergence("TRACE_C: one 1\n", "TRACE_C: two 2\n")


def test_a_broken_json_trace_is_refused():
    with pytest.raises(InputError, match="JSON"):
        parse_trace('{"steps": ')
