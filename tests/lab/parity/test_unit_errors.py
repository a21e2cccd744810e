"""One wrong unit anywhere in the chain: the lab must name it.

The project before this one lost weeks to three of them (1e7, 1e9, 1e10) that a good-looking region hid.
The golden traces of nanoBragg.c are the truth; ours comes from a plan in which one number was changed.
"""

import dataclasses
import json
import math

import h5py
import pytest

from bragg_numba import Experiment, Simulator
from bragg_numba.lab.parity.divergence import first_divergence
from bragg_numba.lab.parity.metrics import compare_images
from bragg_numba.plan.plan import make_plan
from bragg_numba.trace.pixel import trace_pixel


@pytest.fixture
def absorption(golden_folder):
    """Plan, pixel and the reference's trace of a case that has every factor: sensor, polarization, misset."""
    with h5py.File(golden_folder / "golden.h5") as file:
        group = file["absorption"]
        plan = make_plan(Experiment.from_nanobragg(json.loads(group.attrs["argv"])))
        return plan, (10, 80), group["trace_10_80"][()].tobytes().decode()


def geometry(plan, **changes):
    return dataclasses.replace(plan, panels=(plan.panels[0]._replace(**changes),))


def with_cells(plan, factor):
    return dataclasses.replace(plan, cells=plan.cells * factor)


def with_wavelength(plan, factor):
    sources = dataclasses.replace(plan.sources, wavelength=plan.sources.wavelength * factor)
    return dataclasses.replace(plan, sources=sources)


def with_scale(plan, factor):
    return dataclasses.replace(plan, rules=plan.rules._replace(scale=plan.rules.scale * factor))


def with_origin(plan, factor):
    g = plan.panels[0]
    return geometry(plan, origin_x=g.origin_x * factor, origin_y=g.origin_y * factor, origin_z=g.origin_z * factor)


def with_close_distance(plan, factor):
    return geometry(plan, close_distance=plan.panels[0].close_distance * factor)


def with_pixel_area(plan, factor):
    return geometry(plan, height=plan.panels[0].height * factor)


def with_structure_factors(plan, factor):
    lookup = plan.lookup._replace(default_F=plan.lookup.default_F * factor)
    return dataclasses.replace(plan, table=plan.table * factor, lookup=lookup)


#: Where the factor goes -> the tap that must be named.
PLACES = [
    (with_origin, "pix0_vector_meters"),
    (with_pixel_area, "omega_pixel_sr"),
    (with_close_distance, "omega_pixel_sr"),
    (with_wavelength, "lambda_meters"),
    (with_cells, "rot_a_angstroms"),
    (with_structure_factors, "F_cell"),
    (with_scale, "fluence_photons_per_m2"),
]


@pytest.mark.parametrize("factor", [1e-10, 1e-3, 1e7, 1e9, 1e10])
@pytest.mark.parametrize(("change", "tap"), PLACES, ids=lambda value: getattr(value, "__name__", value))
def test_a_wrong_unit_is_named_with_its_factor(absorption, change, tap, factor):
    plan, pixel, theirs = absorption

    found = first_divergence(trace_pixel(change(plan, factor), *pixel).text(), theirs)

    assert found.name == tap
    assert found.ratio == pytest.approx(factor, rel=1e-12)
    power = f"1e{round(math.log10(factor))}"
    assert any("unit" in text and f"ours is {power} times" in text for text in found.explanations)
    assert found.equation


@pytest.mark.parametrize("factor", [1e-10, 1e-3, 1e7, 1e9])
def test_a_wrong_pixel_pitch_is_found_at_the_pixel_position(absorption, factor):
    plan, pixel, theirs = absorption

    pitch = plan.panels[0].subpixel_fast * factor
    wrong = geometry(plan, subpixel_fast=pitch, half_fast=pitch / 2, subpixel_slow=pitch, half_slow=pitch / 2)
    found = first_divergence(trace_pixel(wrong, *pixel).text(), theirs)

    # The pixel lies elsewhere by the steps that are missing or too many.
    assert found.name == "pixel_pos_meters"
    expected = {"fast": (factor - 1) * 80.5, "slow": (factor - 1) * 10.5}
    assert any(
        f"{expected['fast']:+.4g} pixels along fast" in text and f"{expected['slow']:+.4g} along slow" in text
        for text in found.explanations
    )


@pytest.mark.parametrize("factor", [1e-3, 1e7])
def test_a_wrong_attenuation_is_found_at_the_capture_fraction(absorption, factor):
    plan, pixel, theirs = absorption

    wrong = geometry(plan, attenuation=plan.panels[0].attenuation * factor)

    assert first_divergence(trace_pixel(wrong, *pixel).text(), theirs).name == "capture_fraction"


def test_an_unchanged_plan_has_no_divergence(absorption):
    plan, pixel, theirs = absorption

    assert first_divergence(trace_pixel(plan, *pixel).text(), theirs) is None


@pytest.mark.parametrize(("change", "tap"), PLACES, ids=lambda value: getattr(value, "__name__", value))
def test_the_images_do_not_pass_either(absorption, change, tap):
    plan = absorption[0]
    good = Simulator(plan.experiment, plan=plan, precision="float64").render()
    wrong = change(plan, 1e7)
    bad = Simulator(plan.experiment, plan=wrong, precision="float64").render()

    assert compare_images(good, good).passes(0.9999)
    assert not compare_images(good, bad).passes(0.9999)
