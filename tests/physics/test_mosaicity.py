"""Mosaic domains and blocks: sums over domains in numpy, moments of what is drawn, sums of separate frames."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bragg_numba import Beam, Crystal, Detector, Experiment, Lattice, Rotation, Sampling, Simulator, StructureFactors
from bragg_numba.cli.nanobragg import main
from bragg_numba.errors import InputError
from bragg_numba.plan.orientations import normal_vectors, rotations_of_vectors
from bragg_numba.plan.plan import make_plan
from bragg_numba.render.devices import Device
from bragg_numba.render.engine import choose_gpu_engine

#: What two float32 frames of the same photons may differ by, part of the brightest pixel.
SAME = 1e-6

CELL = (60.0, 70.0, 80.0, 85.0, 95.0, 100.0)


def experiment(
    fidelity: str = "nanobragg", engine: str = "pixels", rotation=None, water_um=0.0, **crystal
) -> Experiment:
    crystal = {"cell_counts": (7, 8, 9), "shape": "gauss", "misset_deg": (11, 22, 33), "water_um": water_um, **crystal}
    return Experiment(
        crystal=Crystal(cell=CELL, **crystal),
        beam=Beam(wavelength_A=1.2, fluence_per_m2=1e26),
        detector=Detector(n_fast=48, n_slow=40, pixel_mm=0.5, distance_mm=60.0),
        sampling=Sampling(oversample=1, engine=engine),
        rotation=rotation or Rotation(),
        structure_factors=StructureFactors(default_F=10.0),
        fidelity=fidelity,
    )


def photons(one: Experiment, precision: str = "float64") -> np.ndarray:
    return Simulator(one, backend="cpu", precision=precision).render().astype(np.float64)


def off(image: np.ndarray, truth: np.ndarray) -> float:
    """Largest difference, part of the brightest pixel."""
    return float(np.abs(image - truth).max() / truth.max())


def rotations(n: int, seed: int = 3, size: float = 0.01) -> np.ndarray:
    return rotations_of_vectors(size * np.random.default_rng(seed).normal(size=(n, 3)))


def one_by_one(one: Experiment, cells: np.ndarray, weights: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The sum of eq. 13 to 21 over domains, a gauss crystal of radius |matrix dh|, fidelity physical."""
    plan = make_plan(one)
    place = one.pixel_positions_m()
    distance = np.linalg.norm(place, axis=-1)
    ray, beam = place / distance[..., None], np.array(plan.detector.beam)
    q = (ray - beam) / plan.sources.wavelength[0]
    total = np.zeros(plan.shape)
    for cell, weight in zip(cells, weights / weights.sum(), strict=True):
        h = q @ cell.reshape(3, 3).T
        radius_squared = (((h - np.rint(h)) @ matrix.T) ** 2).sum(axis=-1)
        total += weight * np.linalg.det(matrix) ** 2 * np.exp(-2.0 * radius_squared / 0.63)
    pixel = one.detector.pixel_mm / 1000.0
    solid_angle = pixel**2 * plan.panels[0].close_distance / distance**3
    cosine = ray @ beam
    along = ray @ np.array(plan.detector.polarization)
    polar = 1.0 - along**2 if one.beam.polarization == 1.0 else 0.5 * (1.0 + cosine**2)
    return 7.94079248e-30 * one.beam.photons_per_m2 * 100.0 * total * solid_angle * polar


# --- domains as they are -------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["pixels", "spots"])
@pytest.mark.parametrize("precision", ["tile", "float64"])
def test_given_domains_are_summed_with_their_weights(engine, precision):
    domains, weights = rotations(4), np.array([2.0, 1.0, 0.0, 0.3])
    one = experiment("physical", engine, mosaic_rotations=domains, mosaic_weights=weights)
    aligned = make_plan(one.replace(crystal=one.crystal.replace(mosaic_rotations=None, mosaic_weights=None))).cells[0]
    cells = np.einsum("nij,vj->nvi", domains, aligned.reshape(3, 3)).reshape(-1, 9)

    truth = one_by_one(one, cells, weights, np.diag([7.0, 8.0, 9.0]))
    assert off(photons(one, precision), truth) < 2 * SAME


@pytest.mark.parametrize("fidelity", ["nanobragg", "physical"])
@pytest.mark.parametrize("shape", ["square", "gauss"])
@pytest.mark.parametrize("engine", ["pixels", "spots"])
def test_a_domain_of_weight_two_is_a_domain_twice(fidelity, shape, engine):
    domains = rotations(2)
    weighed = experiment(fidelity, engine, shape=shape, mosaic_rotations=domains, mosaic_weights=(2.0, 1.0))
    doubled = experiment(fidelity, engine, shape=shape, mosaic_rotations=domains[[0, 0, 1]])

    for precision in ("auto", "float64"):
        assert off(photons(weighed, precision), photons(doubled, precision)) < SAME


def test_many_domains_with_runs_of_equal_weights_in_float32():
    """More than a chunk of float32 terms with one weight, and domains that no reflection of a table reaches."""
    domains = rotations(150)
    weights = np.repeat([3.0, 0.5, 1.0], [100, 20, 30])
    one = experiment("physical", shape="square", mosaic_rotations=domains, mosaic_weights=weights)
    rng = np.random.default_rng(2)
    factors = StructureFactors(indices=rng.integers(-12, 12, (300, 3)), amplitudes=rng.random(300) * 50)
    one = one.replace(structure_factors=factors)

    assert Simulator(one, backend="cpu").precision == "tile"
    assert off(photons(one, "auto"), photons(one)) < 1e-5


def test_weights_that_are_alike_change_no_bit():
    domains = rotations(3)
    plain = experiment(mosaic_rotations=domains)
    weighed = experiment(mosaic_rotations=domains, mosaic_weights=(0.1, 0.1, 0.1))

    assert np.array_equal(photons(plain, "auto"), photons(weighed, "auto"))


def test_drawn_domains_that_are_handed_over_again_are_the_same_frame():
    """The classic cap, as simtbx's get_mosaic_blocks has it, comes back through set_mosaic_blocks' convention."""
    from bragg_numba.plan.classic_stream import ClassicStream

    sweep = Rotation(phi_deg=20.0, osc_deg=1.0, phi_steps=2)
    drawn = experiment(mosaic_spread_deg=0.8, mosaic_domains=5, rotation=sweep)
    umats = ClassicStream().mosaic_umats(np.radians(0.8), 5, drawn.crystal.mosaic_seed)

    given = experiment(mosaic_rotations=umats.reshape(5, 9), rotation=sweep)
    assert off(photons(given), photons(drawn)) < SAME


def test_given_domains_turn_with_their_crystal_in_physical_fidelity():
    """At 40 degrees a domain of a crystal is a crystal that was turned before the spindle turned it."""
    (domain,) = rotations(1, size=0.1)
    sweep = Rotation(phi_deg=40.0)
    as_domain = experiment("physical", mosaic_rotations=domain[None], misset_deg=None, rotation=sweep)
    as_crystal = experiment("physical", orientation=domain, misset_deg=None, rotation=sweep)

    assert off(photons(as_domain), photons(as_crystal)) < SAME


def test_domains_of_several_weights_are_for_the_cpu():
    one = experiment(mosaic_rotations=rotations(2), mosaic_weights=(2.0, 1.0))
    with pytest.raises(InputError, match="not rendered by GPUs"):
        choose_gpu_engine(make_plan(one), "auto", Device(0, "a GPU", (9, 0), 0))


def test_the_trace_of_weighted_domains_is_the_pixel():
    one = experiment("physical", mosaic_rotations=rotations(3), mosaic_weights=(1.0, 4.0, 0.25))
    sim = Simulator(one, backend="cpu", precision="float64")
    image = sim.render()
    slow, fast = np.unravel_index(image.argmax(), image.shape)

    trace = sim.trace(int(slow), int(fast))
    assert trace.value == image[slow, fast]
    assert np.allclose(trace["domain_share"], np.array([1.0, 4.0, 0.25]) * 3 / 5.25)


@pytest.mark.parametrize("engine", ["pixels", "spots"])
def test_the_table_of_spots_counts_the_weights(engine):
    domains = rotations(2, size=0.02)
    weighed = experiment("physical", engine, mosaic_rotations=domains, mosaic_weights=(2.0, 1.0))
    doubled = experiment("physical", engine, mosaic_rotations=domains[[0, 0, 1]])
    tables = []
    for one in (weighed, doubled):
        sim = Simulator(one, backend="cpu")
        sim.render()
        tables.append(sim.spot_table(1e-3))

    assert len(tables[0]) == len(tables[1]) > 10
    for name in ("photons", "slow", "fast", "partiality", "excitation_error_per_A"):
        assert np.allclose(tables[0][name], tables[1][name], rtol=1e-5, atol=1e-9), name


# --- domains that are drawn ----------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 9, 50, 1000])
def test_normal_angles_have_the_second_moment_of_the_distribution(n):
    squares = (normal_vectors(n, 5) ** 2).sum(axis=1)

    assert np.isclose(squares.mean(), 1.0, rtol=1e-12)
    assert np.allclose(normal_vectors(n, 5).mean(axis=0), 0.0, atol=1e-12)


def test_many_normal_angles_are_normal_and_alike_about_every_axis():
    vectors = normal_vectors(4000, 7)
    angles = np.linalg.norm(vectors, axis=1)

    assert np.allclose(vectors.T @ vectors / len(vectors), np.eye(3) / 3.0, atol=1e-12)
    assert np.isclose((angles**4).mean(), 3.0, rtol=0.05)
    assert np.isclose(np.quantile(angles, 0.6827), 1.0, rtol=0.05)
    assert not np.array_equal(vectors, normal_vectors(4000, 8))


@pytest.mark.parametrize("model", ["cap", "gauss"])
def test_three_spreads_stretch_the_rotations_of_one(model):
    def turns(spread) -> np.ndarray:
        plan = make_plan(experiment(mosaic_model=model, mosaic_spread_deg=spread, mosaic_domains=60, misset_deg=None))
        aligned = make_plan(experiment(misset_deg=None)).cells[0].reshape(3, 3)
        u = np.swapaxes(np.linalg.solve(aligned, plan.cells.reshape(-1, 3, 3)), 1, 2)
        skew = u - np.swapaxes(u, 1, 2)
        return np.degrees(0.5 * np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], axis=1))

    one = turns(0.01)
    assert np.array_equal(turns((0.01, 0.01, 0.01)), one)
    assert np.allclose(turns((0.01, 0.02, 0.0)), one * [1.0, 2.0, 0.0], atol=1e-7)
    deviation = np.sqrt((one**2).mean(axis=0))
    expected = 0.01 / np.sqrt(3.0) if model == "gauss" else 0.0049
    assert np.allclose(deviation, expected, rtol=1e-3 if model == "gauss" else 0.3)


def test_a_spread_about_the_beam_alone_leaves_resolution_rings():
    """The beam is lab x: rotations about it smear spots along circles about the centre, and add none elsewhere."""
    sharp = experiment("physical", misset_deg=None, shape="tophat")
    smeared = experiment(
        "physical", misset_deg=None, shape="tophat", mosaic_spread_deg=(2.0, 0.0, 0.0), mosaic_domains=40
    )
    q = np.unique(np.round(Simulator(sharp, backend="cpu").spot_table(1e-9)["resolution_A"], 3))
    others = np.unique(np.round(Simulator(smeared, backend="cpu").spot_table(1e-9)["resolution_A"], 3))

    assert set(others) <= set(q)


# --- blocks ---------------------------------------------------------------------------------------


def test_a_diagonal_matrix_of_whole_numbers_is_the_counts():
    matrix = experiment(cell_count_matrix=np.diag([7, 8, 9]), cell_counts=(1, 1, 1))

    assert matrix == experiment()
    assert matrix.crystal.cell_counts == (7, 8, 9)


MATRIX = ((7.0, 2.0, -1.0), (2.0, 8.0, 0.5), (-1.0, 0.5, 9.0))


@pytest.mark.parametrize("engine", ["pixels", "spots"])
def test_cells_across_the_axes_shape_the_spots_of_a_gauss_crystal(engine):
    one = experiment("physical", engine, cell_count_matrix=MATRIX)

    truth = one_by_one(one, make_plan(one).cells, np.ones(1), np.array(MATRIX))
    assert off(photons(one), truth) < SAME
    assert off(photons(one, "auto"), truth) < 1e-5
    assert off(photons(one.replace(fidelity="nanobragg")), truth) < 0.02  # solid angle and polarization of one pixel


def test_cells_across_the_axes_shape_a_round_crystal_whose_radius_is_that_of_the_matrix():
    """Along any line through a reflection the first dark ring lies where pi |N dh| is the first root of tan x = x."""
    one = experiment("physical", shape="round", cell_count_matrix=MATRIX)
    plan = make_plan(one)

    assert np.allclose(plan.metric, np.array(MATRIX).T @ np.array(MATRIX))
    assert np.isclose(plan.lattice.n_a * plan.lattice.n_b * plan.lattice.n_c, np.linalg.det(np.array(MATRIX)))
    gauss = one_by_one(one, plan.cells, np.ones(1), np.array(MATRIX))
    image = photons(one)
    assert np.corrcoef(image.ravel(), gauss.ravel())[0, 1] > 0.9
    for cutoff in (0.0, 1e-5 * image.max()):
        by_spots = one.replace(sampling=one.sampling.replace(engine="spots", cutoff_photons=cutoff))
        assert np.abs(photons(by_spots) - image).max() < 1.1 * max(cutoff, SAME * image.max())
    averaged = one.sampling.replace(engine="auto", pixel_average=True, cutoff_photons=1.0)
    with pytest.raises(InputError, match="round crystal lie across"):
        Simulator(one.replace(sampling=averaged), backend="cpu")


@pytest.mark.parametrize("fidelity", ["nanobragg", "physical"])
@pytest.mark.parametrize("engine", ["pixels", "spots"])
def test_blocks_of_several_sizes_are_the_weighted_sum_of_separate_frames(fidelity, engine):
    sizes = ((3, 4, 5, 2.0), (7, 8, 9, 1.0), (6, 6, 6, 0.0), (12, 3, 4, 0.5))
    one = experiment(fidelity, engine, block_sizes=sizes, water_um=2.0)
    frames = [photons(experiment(fidelity, engine, cell_counts=n, water_um=2.0)) for *n, _ in sizes]

    truth = np.average(frames, axis=0, weights=[row[3] for row in sizes])
    assert off(photons(one), truth) < SAME
    bands = np.concatenate([tile.copy() for _, tile in Simulator(one, backend="cpu").tiles(20)])
    assert off(bands, truth) < 1e-5


def test_the_spots_of_several_sizes_are_one_table():
    sizes = ((5, 5, 5, 1.0), (9, 9, 9, 1.0))
    one = experiment("physical", "spots", block_sizes=sizes)
    sim = Simulator(one, backend="cpu")
    image = sim.render()

    table = sim.spot_table(0.0)
    keys = np.stack([table[name] for name in ("panel", "h", "k", "l")], axis=1)
    assert len(np.unique(keys, axis=0)) == len(table) > 10
    assert np.isclose(table["photons"].sum(), image.sum(dtype=np.float64), rtol=1e-4)
    assert (table["partiality"] > 0.0).all()
    for tool in (lambda: sim.trace(0, 0), sim.labels):
        with pytest.raises(InputError, match="sizes"):
            tool()
    assert sum(part.crystal.scale for part in (one.of_size(0), one.of_size(1))) == 1.0


def test_log_normal_sizes_have_the_median_and_the_spread_that_were_asked_for():
    crystal = Crystal(cell=(50.0,), cell_counts=(1000, 2000, 500), block_spread=0.3, block_spread_sizes=201)
    rows = np.array(crystal.sizes)
    logs = np.log(rows[:, :3] / crystal.cell_counts)

    assert np.isclose(rows[:, 3].sum(), 1.0)
    assert np.allclose(np.median(logs, axis=0), 0.0, atol=2e-3)
    assert np.allclose(np.sqrt(np.average(logs**2, axis=0, weights=rows[:, 3])), 0.3, rtol=0.02)
    assert len(Crystal(cell=(50.0,), cell_counts=2, block_spread=0.1).sizes) == 1  # which are then all alike
    assert Crystal(cell=(50.0,)).sizes is None


@pytest.mark.parametrize("fidelity", ["nanobragg", "physical"])
@pytest.mark.parametrize("engine", ["pixels", "spots"])
def test_blocks_multiply_bragg_photons_and_leave_the_water(fidelity, engine):
    bragg = photons(experiment(fidelity, engine))
    wet = photons(experiment(fidelity, engine, water_um=20.0))

    many = photons(experiment(fidelity, engine, water_um=20.0, scale=12.5))
    assert off(many, wet + 11.5 * bragg) < SAME


def test_lattices_may_have_sizes_and_blocks_of_their_own():
    small, large = Crystal(cell=CELL, cell_counts=5, shape="gauss"), Crystal(cell=CELL, cell_counts=8, shape="gauss")
    mixed = small.replace(block_sizes=((5, 5, 5, 3.0), (8, 8, 8, 1.0)), scale=4.0)
    one = experiment("physical")
    parts = [photons(one.replace(crystal=crystal)) for crystal in (small, large)]

    image = photons(one.replace(lattices=(Lattice(crystal=mixed), Lattice(crystal=large, weight=0.5))))
    assert off(image, 3.0 * parts[0] + 1.0 * parts[1] + 0.5 * parts[1]) < SAME


# --- what is refused, and the command line -------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mosaic_rotations": np.eye(3)[None] * 2}, r"mosaic_rotations\[0\] must be a rotation"),
        ({"mosaic_rotations": -np.eye(3)}, "must be a rotation"),
        ({"mosaic_rotations": [[1, 2]]}, "must have the shape"),
        ({"mosaic_rotations": []}, "must have the shape"),
        ({"mosaic_rotations": "abc"}, "must be an array of numbers"),
        ({"mosaic_rotations": np.full((1, 3, 3), np.nan)}, "must be finite"),
        ({"mosaic_rotations": np.eye(3), "mosaic_weights": (1, 2)}, "must be 1 numbers"),
        ({"mosaic_rotations": np.eye(3), "mosaic_weights": (0,)}, "sum above 0"),
        ({"mosaic_rotations": np.eye(3), "mosaic_weights": (-1,)}, "at least 0"),
        ({"mosaic_weights": (1,)}, "needs mosaic_rotations"),
        ({"mosaic_rotations": np.eye(3), "mosaic_spread_deg": 1.0}, "must not come together"),
        ({"mosaic_rotations": np.eye(3), "mosaic_model": "gauss"}, "has no meaning"),
        ({"mosaic_rotations": np.eye(3), "mosaic_domains": 3}, "must be 1"),
        ({"mosaic_spread_deg": (1.0, 2.0)}, "one number or three"),
        ({"mosaic_spread_deg": (1.0, -2.0, 0.0)}, r"mosaic_spread_deg\[1\]"),
        ({"mosaic_model": "sphere"}, "must be one of cap, gauss"),
        ({"cell_count_matrix": MATRIX, "shape": "square"}, "must be diagonal"),
        ({"cell_count_matrix": ((1, 2), (3, 4))}, "3 rows of 3"),
        ({"cell_count_matrix": ((1, 1, 0), (1, 1, 0), (0, 0, 1))}, "positive determinant"),
        ({"cell_count_matrix": MATRIX, "block_spread": 0.1}, "must not come together with block_spread"),
        ({"cell_count_matrix": MATRIX, "size_mm": (1, None, None)}, "must not come together with size_mm"),
        ({"block_sizes": ()}, "1 to 1000 sizes"),
        ({"block_sizes": ((1, 2),)}, r"block_sizes\[0\] must be Na Nb Nc"),
        ({"block_sizes": ((1, 2, 0.5, 1),)}, "whole number"),
        ({"block_sizes": ((1, 2, 3, 0),)}, "sum above 0"),
        ({"scale": 0.0}, "scale must be greater than 0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(fields, said):
    with pytest.raises(InputError, match=said):
        experiment(**fields)


def test_the_command_line_says_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    domains, weights = rotations(3), np.array([1.0, 2.0, 0.5])
    rows = np.column_stack([domains.reshape(3, 9), weights])
    (tmp_path / "domains.txt").write_text(
        "# U, weight\n" + "\n".join(" ".join(map(repr, row)) for row in rows.tolist())
    )
    (tmp_path / "sizes.txt").write_text("5 5 5 1\n7 7 7 3 # the most\n")
    line = "-cell 60 70 80 85 95 100 -default_F 10 -gauss_xtal -misset 11 22 33 -lambda 1.2 -oversample 1"
    flags = {
        "-mosaic_file domains.txt": {"mosaic_rotations": domains, "mosaic_weights": weights},
        "-mosaic_xyz 0.1 0.2 0.3 -mosaic_model gauss": {
            "mosaic_spread_deg": (0.1, 0.2, 0.3),
            "mosaic_model": "gauss",
        },
        "-block_file sizes.txt -blocks 3": {"block_sizes": ((5, 5, 5, 1.0), (7, 7, 7, 3.0)), "scale": 3.0},
        "-N 20 -block_spread 0.2 -block_sizes 3": {
            "cell_counts": (20, 20, 20),
            "block_spread": 0.2,
            "block_spread_sizes": 3,
        },
        "-N_matrix 7 2 -1 2 8 0.5 -1 0.5 9": {"cell_count_matrix": MATRIX},
    }
    for words, fields in flags.items():
        crystal = Experiment.from_nanobragg(f"{line} {words}").crystal
        assert crystal == Crystal(cell=CELL, shape="gauss", misset_deg=(11.0, 22.0, 33.0), **fields)
        assert Crystal.from_dict(json.loads(json.dumps(crystal.to_dict()))) == crystal

    words = f"{line} -detpixels 16 -pixel 2 -floatfile o.bin -json".split()
    assert main([*words, "-mosaic_file", "domains.txt", "-blocks", "2"]) == 0
    report = json.loads(capsys.readouterr().out)["plan"]
    assert (report["mosaic_model"], report["mosaic_domains"], report["blocks"]) == ("given", 3, 2.0)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("mosaic", "1 0 0 0 1 0 0 0", "line 1 must have 9 or 10 numbers"),
        ("mosaic", "1 0 0 0 1 0 0 0 1\n1 0 0 0 1 0 0 0 1 2", "line 2 must have 9 numbers"),
        ("mosaic", "", "at least one line"),
        ("mosaic", "1 0 0 0 1 0 0 0 x", "finite numbers"),
        ("mosaic", "2 0 0 0 1 0 0 0 1", "-mosaic_file"),
        ("block", "5 5", "line 1 must have 3 or 4 numbers"),
        ("block", "5 5 0 1", "-block_file"),
    ],
)
def test_files_that_cannot_be_are_refused_in_one_sentence(name, text, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given.txt").write_text(text)

    assert main(f"-cell 50 -default_F 1 -detpixels 8 -floatfile o.bin -{name}_file given.txt".split()) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "o.bin").exists()
