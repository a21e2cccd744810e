"""The float32 tile kernels against float64, and the bound that chooses between them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numba
import numpy as np
import pytest
from bragg_numba.kernels import physics

from bragg_numba import Experiment, Simulator
from bragg_numba.plan.arithmetic.cpu import PHASE_BUDGET, choose, phase_error
from bragg_numba.tolerances import allowed

PROTEIN = Path(__file__).parents[2] / "examples" / "2erl_P1.hkl"


def random_line(rng) -> str:
    counts = rng.choice([1, 2, 3, 5, 8, 12, 20, 40, 100, 300, 1000], 3)
    cell = [*rng.uniform(20, 250, 3), *rng.uniform(75, 105, 3)]
    shape = rng.choice(["-square_xtal", "-square_xtal", "-round_xtal", "-tophat_spots", "-gauss_xtal"])
    words = [
        "-cell",
        *cell,
        "-misset",
        *rng.uniform(-180, 180, 3),
        "-Na",
        counts[0],
        "-Nb",
        counts[1],
        "-Nc",
        counts[2],
        "-lambda",
        rng.uniform(0.6, 6),
        "-distance",
        rng.uniform(40, 600),
        "-pixel",
        rng.choice([0.05, 0.075, 0.1, 0.172, 0.3]),
        "-detpixels",
        128,
        shape,
        "-oversample",
        rng.integers(1, 3),
        "-polar",
        rng.uniform(-1, 1),
        "-Xbeam",
        rng.uniform(-20, 20),
        "-twotheta",
        rng.uniform(0, 40),
    ]
    if rng.random() < 0.5:
        words += ["-hkl", PROTEIN, "-nointerpolate"]
    else:
        words += ["-default_F", 100]
    if rng.random() < 0.3:
        words += ["-mosaic", 1, "-mosaic_dom", 5]
    if rng.random() < 0.3:
        words += ["-detector_thick", 300, "-detector_abs", 500]
    if rng.random() < 0.3:
        words += ["-fidelity", "physical"]
    return " ".join(str(word) for word in words)


@pytest.mark.parametrize("seed", range(60))
def test_wherever_auto_takes_float32_every_pixel_agrees_with_float64(seed):
    rng = np.random.default_rng(seed)
    lit = False
    while not lit:  # three in four are rendered in float32 and show a spot
        experiment = Experiment.from_nanobragg(random_line(rng))
        auto = Simulator(experiment)
        if auto.precision != "tile":
            continue
        exact = Simulator(experiment, precision="float64").render().astype(float)
        ours = auto.render().astype(float)
        lit = exact.max() >= 1e-30
        # Black: beyond the table, or between spots of a shape that ends; gauss ends at 2^-126 of its height in float32.
        assert lit or ours.max() < 1e-30

    # The agreement that the golden data ask for.
    assert (np.abs(ours - exact) <= allowed(exact, exact.max())).all()


def test_auto_takes_float32_where_the_bound_allows_it_and_float64_elsewhere():
    narrow = "-cell 100 -default_F 1 -N 5 -lambda 6 -detpixels 64 -oversample 1"
    wide = "-cell 300 -default_F 1 -N 1000 -lambda 0.5 -detpixels 64 -distance 50 -oversample 1"

    assert Simulator(Experiment.from_nanobragg(narrow)).precision == "tile"
    assert Simulator(Experiment.from_nanobragg(wide)).precision == "float64"


def test_the_bound_grows_with_cell_count_cell_and_pixel_and_falls_with_distance():
    def bound(**changes) -> float:
        flags = {"-cell": 100, "-N": 20, "-distance": 100, "-pixel": 0.1, **changes}
        line = " ".join(f"{k} {v}" for k, v in flags.items())
        return phase_error(Simulator(Experiment.from_nanobragg(f"{line} -default_F 1 -detpixels 16")).plan, split=False)

    here = bound()

    assert bound(**{"-N": 40}) == pytest.approx(2 * here, rel=1e-9)
    # the fine part's 2^-13 does not scale: 3.5e-4 of the span here
    assert bound(**{"-cell": 200}) == pytest.approx(2 * here, rel=1e-3)
    assert bound(**{"-pixel": 0.2}) == pytest.approx(2 * here, rel=1e-3)
    assert bound(**{"-distance": 200}) == pytest.approx(here / 2, rel=1e-3)


@pytest.mark.parametrize("n", [1, 2, 5, 20, 100, 1000])
def test_split_phases_carry_n_h_to_a_ten_millionth_of_a_turn_up_to_h_1000(n):
    rng = np.random.default_rng(n)
    span = min(0.5, PHASE_BUDGET * 2**24 / n)  # what the bound accepts
    for h, step in zip(rng.uniform(-1000, 1000, 400), rng.uniform(-span, span, 400), strict=True):
        small = np.float32(step)
        _, coarse, fine = physics.split_phase(h)
        turns = physics.fraction(n * coarse)
        exact_fine = np.float32(np.float32(fine) + small)
        exact = n * (h + float(small))

        found = float(turns) + n * float(exact_fine)

        error = found - exact
        # the sum of fine part and step is rounded once, to 2^-24 of itself; h itself has 2^-43
        allowed = n * (2.0**-24 * abs(float(exact_fine)) + 2.0**-13 * 2.0**-24 + 2.0**-42)
        assert abs(error - round(error)) <= allowed + 1e-12
        assert abs(error - round(error)) < PHASE_BUDGET
        assert abs(coarse * 4096 - round(coarse * 4096)) == 0.0


def test_a_pixel_exactly_on_a_peak_is_settled_in_float64():
    # The beam centre at a pixel's centre: h = k = l = 0 there, 0/0 in float32.
    line = "-cell 100 -default_F 10 -N 7 -lambda 1 -detpixels 64 -oversample 1 -adxv -Xbeam 3.25 -Ybeam 3.25"
    sim = Simulator(Experiment.from_nanobragg(line))

    image = sim.render()

    assert sim.precision == "tile"
    assert np.isfinite(image).all()
    assert np.array_equal(image[31, 32], Simulator(sim.experiment, precision="float64").render()[31, 32])


def test_a_pixel_beside_a_peak_does_not_underflow():
    # h, k, l of about 1e-11, 1e-24, 1e-8: the product of their sines is below the smallest normal float32.
    line = (
        "-lambda 6.2 -cell 100 100 100 90 90 90 -default_F 100 -N 7 -distance 100 -pixel 0.1 -detpixels 256 "
        "-oversample 1 -Xbeam 12.8 -Ybeam 12.8"
    )
    sim = Simulator(Experiment.from_nanobragg(line), precision="tile")

    # 100^2 * 7^6 * pixel area / distance^2
    assert sim.render()[128, 128] == pytest.approx(1176.49, rel=1e-6)


def test_dark_tiles_are_skipped_without_changing_a_pixel():
    factors = Experiment.from_nanobragg(f"-cell 54 23 23 90 110 90 -hkl {PROTEIN}").structure_factors
    cell = (53.91, 23.1, 23.1, 90, 110.4, 90)
    lengths = np.array(cell[:3])
    near = (np.abs(factors.indices) / lengths).max(axis=1) < 1 / 3.0
    cut = factors.replace(indices=factors.indices[near], amplitudes=factors.amplitudes[near])
    line = f"-hkl {PROTEIN} -cell 53.91 23.1 23.1 90 110.4 90 -misset 12 -23 41 -lambda 1.1 -N 12 -distance 80"
    experiment = Experiment.from_nanobragg(f"{line} -detpixels 512 -pixel 0.3 -oversample 1")
    sim = Simulator(experiment.replace(structure_factors=cut))
    # A default_F that is not 0 but vanishes beside the others forbids skipping.
    searched = cut.replace(default_F=1e-12)

    skipped = sim.render()
    whole = Simulator(experiment.replace(structure_factors=searched)).render()

    assert (skipped == 0).mean() > 0.2, "the cut must leave dark tiles"
    lit = skipped > 0
    assert np.array_equal(skipped[lit], whole[lit])
    assert whole[~lit].max() < 1e-20


SPOTS = (
    "-cell 60 70 80 85 95 100 -misset 12 -23 41 -lambda 1.3 -Na 9 -Nb 12 -Nc 15 -distance 120 -detpixels 320 "
    "-pixel 0.4 -oversample 1 -mosaic 0.7 -mosaic_dom 6"
)


@pytest.mark.parametrize("factors", ["-default_F 100", f"-hkl {PROTEIN} -nointerpolate"])
@pytest.mark.parametrize("fidelity", ["nanobragg", "physical -dispersion 1 -dispsteps 2"])
@pytest.mark.parametrize("shape", ["-gauss_xtal", "-tophat_spots"])
def test_passing_over_groups_that_see_no_spot_changes_no_pixel(shape, fidelity, factors):
    sim = Simulator(Experiment.from_nanobragg(f"{SPOTS} {shape} {factors} -fidelity {fidelity}"), precision="tile")
    renderer = sim._renderer
    renderer.use(dataclasses.replace(renderer.choice, seeks_lit=True))
    # Every index is within 1 of a whole number.
    renderer._phases = renderer._phases._replace(lit_h=1.0, lit_k=1.0, lit_l=1.0)
    all_groups = sim.render().copy()
    renderer.use(renderer.choice)

    some = sim.render()

    exact = Simulator(sim.experiment, precision="float64").render().astype(float)
    assert (some == 0.0).mean() > 0.1
    np.testing.assert_array_equal(some, all_groups)
    assert (np.abs(some - exact) <= allowed(exact, exact.max())).all()


def test_spots_are_sought_where_few_pixels_see_one():
    sparse = Simulator(Experiment.from_nanobragg(f"{SPOTS} -pixel 0.1 -tophat_spots -default_F 1"))
    crowded = Simulator(Experiment.from_nanobragg("-cell 300 -N 2 -gauss_xtal -default_F 1 -fidelity physical"))

    assert sparse._renderer.choice.seeks_lit
    assert not crowded._renderer.choice.seeks_lit


def test_a_round_crystal_with_a_fudge_factor_is_left_to_float64():
    line = "-cell 100 -N 7 -round_xtal -default_F 1 -detpixels 32 -oversample 1"
    assert Simulator(Experiment.from_nanobragg(line)).precision == "tile"
    assert Simulator(Experiment.from_nanobragg(f"{line} -fudge 1.5")).precision == "float64"


def test_pixels_beyond_dmin_are_passed_over_without_changing_the_others():
    line = "-cell 50 60 70 80 95 100 -default_F 10 -N 8 -lambda 1 -distance 60 -detpixels 320 -pixel 0.3 -oversample 2"
    whole = Simulator(Experiment.from_nanobragg(line)).render()
    cut = Simulator(Experiment.from_nanobragg(f"{line} -dmin 2.5"))

    image = cut.render()

    exact = Simulator(cut.experiment, precision="float64").render()
    assert cut.precision == "tile"
    assert 0.2 < (image == 0.0).mean() < 0.9
    np.testing.assert_array_equal(image == 0.0, exact == 0.0)
    middle = (slice(120, 200), slice(120, 200))  # every sub-pixel within dmin
    np.testing.assert_allclose(
        image[middle], whole[middle], rtol=2.0**-20
    )  # two roundings to float32 more, here and there


@pytest.mark.parametrize("default_F", [0.0, 7.0])
@pytest.mark.parametrize("cell, reach", [("30 40 50 80 95 110", 1), ("300 260 280 80 95 110", 6)])
def test_indices_around_the_edge_of_the_table_find_their_structure_factors(cell, reach, default_F):
    # Groups straddle the table's edges, lie outside of it, and where cells are large reach over several indices.
    rng = np.random.default_rng(reach)
    indices = np.array([(h, k, l) for h in range(-2, 3) for k in range(-3, 2) for l in range(-2, 2)])  # noqa: E741
    line = f"-cell {cell} -N 3 -lambda 1 -distance 40 -detpixels 200 -pixel 0.1 -misset 20 30 40"
    experiment = Experiment.from_nanobragg(f"{line} -oversample 1 -default_F 1")
    factors = experiment.structure_factors.replace(
        indices=indices, amplitudes=rng.uniform(10, 90, len(indices)), default_F=default_F
    )
    sim = Simulator(experiment.replace(structure_factors=factors), precision="tile")

    image = sim.render().astype(float)

    exact = Simulator(sim.experiment, precision="float64").render().astype(float)
    assert sim.precision == "tile"
    assert sim._renderer._phases.reach == reach
    assert (np.abs(image - exact) <= allowed(exact, exact.max())).all()


@pytest.mark.parametrize("fidelity", ["nanobragg", "physical"])
def test_water_beyond_dmin_is_what_float64_makes_of_it(fidelity):
    line = "-cell 50 -default_F 10 -N 8 -lambda 1 -distance 60 -detpixels 320 -pixel 0.3 -oversample 1 -dmin 2.5"
    line += f" -water 0.1 -fluence 1e28 -dispersion 1 -dispsteps 2 -fidelity {fidelity}"
    sim = Simulator(Experiment.from_nanobragg(line))

    image = sim.render().astype(float)

    exact = Simulator(sim.experiment, precision="float64").render().astype(float)
    assert sim.precision == "tile"
    assert (np.abs(image - exact) <= allowed(exact, exact.max())).all()
    # Outermost tiles lie wholly beyond dmin; nanoBragg leaves them dark, water or no.
    assert (exact[:16, :64] > 0.0).all() == (fidelity == "physical")


def test_a_frame_of_many_steps_is_cut_into_calls_that_make_the_same_bits(monkeypatch):
    from bragg_numba.render import cpu

    line = "-cell 70 -default_F 10 -N 7 -detpixels_f 320 -detpixels_s 48 -roi 3 310 2 45 -oversample 1 "
    line += "-mosaic 1 -mosaic_dom 3"
    whole = Simulator(Experiment.from_nanobragg(line), backend="cpu").render()
    monkeypatch.setattr(cpu, "PIXEL_STEPS_IN_CALL", 64 * 16 * 3 * 4)
    cut = Simulator(Experiment.from_nanobragg(line), backend="cpu")
    calls = []
    render = cut._renderer._render_tile
    monkeypatch.setattr(
        cut._renderer, "_render_tile", lambda work, *rest: (calls.append(len(work)), render(work, *rest))
    )
    done = []

    np.testing.assert_array_equal(cut.render(progress=done.append), whole)
    # 5 x 3 tiles, four a call and as many as threads can share at least.
    tiles = max(4, cpu.LEAST_TILES_OF_THREAD * numba.get_num_threads())
    assert calls == [tiles] * (15 // tiles) + [15 % tiles] * (15 % tiles > 0)
    assert done == pytest.approx([min(1.0, tiles * (i + 1) / 15) for i in range(len(calls))])


def test_squares_of_a_table_are_made_once_and_forgotten_with_it():
    from bragg_numba.plan.arithmetic import squares

    table = np.arange(27.0).reshape(3, 3, 3)
    first = squares.padded_squares(table, 2)

    assert squares.padded_squares(table, 2) is first
    assert squares.padded_squares(table.copy(), 2) is not first
    assert squares.strongest_square(table) == 26.0**2
    assert first.shape == (7, 7, 7) and first[0, 0, 0] == 0.0 and first[-1, -1, -1] == 26.0**2
    key = id(table)
    assert key in squares._MADE
    del table
    assert key not in squares._MADE


def test_choice_says_why():
    sim = Simulator(Experiment.from_nanobragg("-cell 100 -default_F 1 -N 5 -detpixels 32"))
    plan = dataclasses.replace(sim.plan, lookup=sim.plan.lookup._replace(interpolate=True))

    assert choose(plan, "auto").reason == "tricubic interpolation"
    assert choose(sim.plan, "float64").reason == "asked for"
    near = Simulator(Experiment.from_nanobragg("-cell 100 -default_F 1 -N 5 -detpixels 32 -distance 5 -oversample 1"))
    assert near._renderer.choice.reason == "pixels that are large for their distance"


@pytest.mark.parametrize("pixel", [0.05, 0.1])
@pytest.mark.parametrize("n", range(1, 7))
def test_frames_between_peaks_keep_the_promised_tolerance(n, pixel):
    # No peak is on the frame: its brightest pixel may be a faint fringe, and an error has nothing to hide behind.
    line = f"-lambda 6.2 -cell 100 100 100 90 90 90 -default_F 100 -N {n} -distance 100 -pixel {pixel} -detpixels 256 "
    sim = Simulator(Experiment.from_nanobragg(line + "-oversample 1 -Xbeam 25.6 -Ybeam 25.6"))

    image = sim.render().astype(float)

    exact = Simulator(sim.experiment, precision="float64").render().astype(float)
    assert sim.precision == "tile"
    assert (np.abs(image - exact) <= allowed(exact, exact.max())).all()


def test_a_curved_detector_is_left_to_float64():
    line = "-cell 100 -default_F 10 -N 7 -lambda 1 -detpixels 64 -oversample 1 -curved_det"
    assert Simulator(Experiment.from_nanobragg(line)).precision == "float64"
