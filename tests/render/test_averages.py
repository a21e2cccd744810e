"""Spots integrated over pixels: the photons are those of the spot, however large the crystal is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bragg_numba import Beam, Crystal, Detector, Experiment, InputError, Rotation, Sampling, Simulator, StructureFactors
from bragg_numba.plan.plan import make_plan
from bragg_numba.predict.spots import spot_table
from bragg_numba.render import engine

#: r_e^2, m^2, as the C program has it.
THOMSON = 7.94079248018965e-30

#: Photons up to which fringes that have no end count, of crystals of 300 cells an edge, whose peaks have 10^9.
FAINT = {"gauss": 0.0, "tophat": 0.0, "square": 1e3, "round": 1e3}


def still(shape: str, cells: int, **sampling) -> Experiment:
    """Two domains of one crystal whose (0, 0, 0) is on the sphere, and whose other spots are nearly so."""
    return Experiment(
        beam=Beam(wavelength_A=1.0),
        crystal=Crystal(
            cell=(50, 60, 70, 90, 95, 90),
            cell_counts=(cells, cells, cells),
            shape=shape,
            misset_deg=(10, 20, 30),
            mosaic_spread_deg=0.2,
            mosaic_domains=2,
        ),
        detector=Detector(distance_mm=100, n_fast=512, n_slow=512, pixel_mm=0.1),
        structure_factors=StructureFactors(default_F=100.0),
        fidelity="physical",
        sampling=Sampling(**{"cutoff_photons": FAINT[shape], **sampling}),
    )


@pytest.mark.parametrize("cells", [20, 1000, 100_000])
@pytest.mark.parametrize("shape", ["gauss", "tophat"])
def test_the_photons_of_a_spot_do_not_depend_on_how_narrow_it_is(shape, cells):
    experiment = still(shape, cells, pixel_average=True)
    sim = Simulator(experiment, backend="cpu")
    image = sim.render().astype(np.float64)

    assert sim.engine == "spots" and sim.engine_reason == "spots are integrated over pixels"
    spots = spot_table(make_plan(experiment))
    far = 12 if cells == 20 else 2
    checked = 0
    for spot in spots[np.argsort(-spots["photons"])][:8]:
        row, column = int(spot["slow"]), int(spot["fast"])
        around = image[
            max(row - far, 0) : row + far + 1,
            max(column - far, 0) : column + far + 1,
        ].sum()
        if 20 < row < 492 and 20 < column < 492:
            # The table integrates over the tangent plane: the sphere bends by the spot's size, 1 / N.
            assert around == pytest.approx(spot["photons"], rel=1e-3)
            checked += 1
    assert checked
    assert image.sum() == pytest.approx(spots["photons"].sum(), rel=1e-3)


@pytest.mark.parametrize("shape", ["gauss", "tophat", "square", "round"])
def test_averages_are_those_of_many_sub_pixels(shape):
    spots = spot_table(make_plan(still(shape, 300)))
    inside = (np.abs(spots["slow"] - 256) < 230) & (np.abs(spots["fast"] - 256) < 230) & (spots["resolution_A"] < 100)
    spot = spots[inside][np.argmax(spots["photons"][inside])]
    row, column = int(spot["slow"]), int(spot["fast"])
    roi = (column - 12, column + 12, row - 12, row + 12)

    averaged = Simulator(still(shape, 300, roi=roi, pixel_average=True), backend="cpu").render()
    many = still(shape, 300, roi=roi, engine="pixels", oversample=100, cutoff_photons=0.0)
    sampled = Simulator(many, backend="cpu", precision="float64").render()

    # A pixel holds some 15 fringes: sub-pixels see each six times, and the edges of a top hat a little less well.
    assert sampled.max() > 1e6
    assert np.abs(averaged - sampled).max() <= (2e-2 if shape == "tophat" else 2e-3) * sampled.max()


@pytest.mark.parametrize(("shape", "cells"), [("gauss", 1000), ("square", 1000), ("gauss", 20_000)])
def test_a_reflection_that_turns_through_the_sphere_brings_darwins_photons(shape, cells):
    """All of a reflection, swept: r_e^2 P F^2 lambda^2 N / (V |(u x q) . s| sweep).

    N is the integral of the lattice factor over a reciprocal cell: of a parallelepiped the number of its cells.
    """
    index = (3, 5, 2)
    beam = Beam(wavelength_A=1.0, fluence_per_m2=1e24)
    crystal = Crystal(cell=(50, 60, 70, 90, 95, 90), cell_counts=(cells,) * 3, shape=shape, misset_deg=(10, 20, 30))
    base = Experiment(
        beam=beam,
        crystal=crystal,
        detector=Detector(distance_mm=100, n_fast=512, n_slow=512, pixel_mm=0.1),
        structure_factors=StructureFactors(indices=np.array([index], np.int32), amplitudes=np.array([100.0])),
        fidelity="physical",
        sampling=Sampling(pixel_average=True, cutoff_photons=1e-3 if shape == "gauss" else 1e4),
    )
    plan = make_plan(base)
    spindle = np.array(plan.detector.spindle)
    cell = plan.cells[0].reshape(3, 3)
    q = np.linalg.inv(cell) @ index
    s_0 = np.array(plan.sources.incident[0]) / plan.sources.wavelength[0]

    # Turn until the reflection lies on the sphere.
    angles = np.linspace(0.0, 2.0 * math.pi, 200_001)
    along, across = np.dot(spindle, q) * spindle, np.cross(spindle, q)
    turned = along + np.cos(angles)[:, None] * (q - along) + np.sin(angles)[:, None] * across
    off = np.linalg.norm(turned + s_0, axis=1) - np.linalg.norm(s_0)
    crossings = np.flatnonzero(off[:-1] * off[1:] < 0.0)
    sim = None
    for crossing in crossings:
        middle = np.interp(0.0, np.sort(off[crossing : crossing + 2]), angles[crossing : crossing + 2])
        q_there = turned[crossing]
        scattered = (q_there + s_0) / np.linalg.norm(q_there + s_0)
        speed = abs(np.dot(np.cross(spindle, q_there), scattered))  # 1/m a radian
        # To 60 fringes or 6 radii to either side, two steps a fringe at least: sums over steps are then integrals.
        fringe = 1.0 / (cells * float(np.linalg.norm(cell, axis=1).min())) / speed
        half = (60.0 if shape == "square" else 3.0) * fringe
        rotation = Rotation(
            phi_deg=math.degrees(middle - half),
            osc_deg=math.degrees(2.0 * half),
            phi_steps=480 if shape == "square" else 60,
        )
        sim = Simulator(base.replace(rotation=rotation), backend="cpu")
        image = sim.render().astype(np.float64)
        if image.sum() == 0.0:
            continue  # beside the detector
        volume = abs(np.linalg.det(cell))
        held = cells**3 * ((math.pi * 0.315) ** 1.5 if shape == "gauss" else 1.0)
        cosine = float(np.dot(scattered, plan.sources.incident[0]))
        polarization = 0.5 * (1.0 + cosine * cosine)
        expected = (
            beam.fluence_per_m2
            * THOMSON
            * polarization
            * 100.0**2
            * plan.sources.wavelength[0] ** 2
            * held
            / (volume * speed * 2.0 * half)
        )
        # Fringes beyond the sweep hold 1 / (pi^2 60) of a parallelepiped's photons at most.
        assert image.sum() == pytest.approx(expected, rel=1e-3 if shape == "gauss" else 3e-3)
        return
    pytest.fail("the reflection never falls on the detector")


def test_threads_rows_and_engines_that_are_asked_for_make_the_same_bits():
    experiment = still("gauss", 1000, pixel_average=True)
    image = Simulator(experiment, backend="cpu", threads=1).render()
    asked = Simulator(
        experiment.replace(sampling=experiment.sampling.replace(engine="spots")), backend="cpu", threads=2
    )
    assert np.array_equal(image, asked.render())
    assert all(np.array_equal(part, image[start : start + len(part)]) for start, part in asked.tiles(100))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"engine": "pixels"}, "the engine of pixels looks at points"),
        ({"oversample": 2}, "must be 1 or left out"),
    ],
)
def test_what_cannot_be_averaged_is_refused(changes, said):
    with pytest.raises(InputError, match=said):
        Simulator(still("gauss", 10, pixel_average=True, **changes), backend="cpu").render()


def test_fringes_without_end_and_curved_detectors_are_refused():
    for shape in ("square", "round"):
        with pytest.raises(InputError, match="never end"):
            Simulator(still(shape, 10, pixel_average=True, cutoff_photons=0.0), backend="cpu")
    experiment = still("gauss", 10, pixel_average=True)
    with pytest.raises(InputError, match="curved"):
        Simulator(experiment.replace(detector=experiment.detector.replace(curved=True)), backend="cpu")
    with pytest.raises(InputError, match="GPU"):
        engine.choose_gpu_engine(make_plan(experiment), "auto", None)


def test_the_flag_and_the_file_of_an_experiment_know_it():
    words = "-cell 50 60 70 90 95 90 -N 10 -gauss_xtal -default_F 10 -lambda 1 -pixel_average"
    assert Experiment.from_nanobragg(words).sampling.pixel_average
    assert not Experiment.from_nanobragg(words.removesuffix(" -pixel_average")).sampling.pixel_average
