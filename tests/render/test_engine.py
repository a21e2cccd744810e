"""Two engines, one frame: what spots bring, what a cutoff may cost, and which engine ``auto`` takes."""

from __future__ import annotations

import contextlib
import copy
import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bragg_numba import Beam, Crystal, Detector, Experiment, InputError, Rotation, Sampling, Simulator, StructureFactors
from bragg_numba.cli.nanobragg import main
from bragg_numba.plan.arithmetic import spots as arithmetic
from bragg_numba.plan.plan import make_plan
from bragg_numba.predict import lit
from bragg_numba.render import costs, devices, engine
from bragg_numba.tolerances import allowed

GOLDEN = Path(__file__).resolve().parent.parent / "golden"

#: What the cutoff is where fringes have no end, photons; the brightest pixels of these frames have hundreds.
CUTOFF = {"gauss": 0.0, "tophat": 0.0, "square": 1e-3, "round": 1e-3}


def crystal(shape: str = "gauss", fidelity: str = "nanobragg", cells: int = 8, **changes) -> Experiment:
    """Steps of every kind on a tilted detector of a few tiles; photons by the hundred."""
    indices = np.mgrid[-30:31, -12:13, -30:31].reshape(3, -1).T.astype(np.int32)
    amplitudes = 40.0 * np.random.default_rng(4).rayleigh(1.0, len(indices))
    parts = {
        "beam": Beam(fluence_per_m2=1e27, polarization=0.9, dispersion_percent=1.0, dispersion_steps=3),
        "crystal": Crystal(
            cell=(50.0, 41.0, 52.0, 88.0, 103.0, 95.0),
            misset_deg=(5, 17, 40),
            cell_counts=(cells, cells + 1, cells - 1),
            shape=shape,
            mosaic_spread_deg=0.5,
            mosaic_domains=3,
        ),
        "detector": Detector(n_fast=163, n_slow=91, pixel_mm=0.35, distance_mm=80.0, twotheta_deg=10.0),
        "rotation": Rotation(osc_deg=0.3, phi_steps=2),
        "structure_factors": StructureFactors(default_F=0.0, indices=indices, amplitudes=amplitudes),
    }
    base = Experiment(**parts, fidelity=fidelity, sampling=Sampling(oversample=1, interpolate=False))
    if fidelity == "nanobragg" and shape in ("gauss", "tophat"):
        # There the radius goes with the number of all cells, in units of their own.
        base = base.replace(crystal=base.crystal.replace(cell_counts=(12, 13, 11)))
    return base.replace(**changes)


def with_sampling(experiment: Experiment, **changes) -> Experiment:
    return experiment.replace(sampling=experiment.sampling.replace(**changes))


def by_spots(experiment: Experiment, cutoff: float | None = None, **options) -> Simulator:
    cutoff = CUTOFF[experiment.crystal.shape] if cutoff is None else cutoff
    return Simulator(with_sampling(experiment, engine="spots", cutoff_photons=cutoff), backend="cpu", **options)


def exact_photons(experiment: Experiment) -> np.ndarray:
    dense = with_sampling(experiment, engine="pixels", cutoff_photons=0.0)
    return Simulator(dense, backend="cpu", precision="float64").render().astype(np.float64)


#: Those that are rendered in float64, too, in the short profile.
EXACT = {("physical", "gauss"), ("nanobragg", "square")}

SHAPES = [pytest.param(f, s, id=f"{f}-{s}") for f in ("nanobragg", "physical") for s in CUTOFF]


# --- the same photons


# Every pair is a kernel of its own to compile: float64 for one shape of each kind, all in the long profile.
IN_FLOAT64 = [
    pytest.param(f, s, "float64", id=f"{f}-{s}-float64", marks=() if (f, s) in EXACT else pytest.mark.slow)
    for f in ("nanobragg", "physical")
    for s in CUTOFF
]


@pytest.mark.parametrize(
    ("fidelity", "shape", "precision"),
    [pytest.param(*case.values, "auto", id=f"{case.id}-auto") for case in SHAPES] + IN_FLOAT64,
)
def test_spots_bring_the_photons_of_pixels(fidelity, shape, precision):
    experiment = crystal(shape, fidelity)
    exact = exact_photons(experiment)

    sim = by_spots(experiment, precision=precision)
    image = sim.render()

    assert sim.engine == "spots" and sim.engine_reason == "asked for"
    assert exact.max() > 10.0
    assert (np.abs(image - exact) <= allowed(exact, exact.max()) + CUTOFF[shape]).all()


VARIANTS = {
    "oversampled": lambda e: with_sampling(e, oversample=2),
    "a sensor": lambda e: e.replace(
        detector=e.detector.replace(thickness_um=300, attenuation_depth_um=400, thickness_steps=3)
    ),
    "divergence": lambda e: e.replace(
        beam=e.beam.replace(
            horizontal_divergence_mrad=2,
            horizontal_divergence_steps=2,
            vertical_divergence_mrad=2,
            vertical_divergence_steps=2,
        )
    ),
    "a resolution limit": lambda e: with_sampling(e, dmin_A=2.2),
    "one F": lambda e: e.replace(structure_factors=StructureFactors(default_F=50.0)),
    "point pixels": lambda e: e.replace(detector=e.detector.replace(point_pixel=True)),
    "water": lambda e: e.replace(crystal=e.crystal.replace(water_um=2.0)),
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("fidelity", ["nanobragg", "physical"])
@pytest.mark.parametrize("shape", ["gauss", "square"])
def test_spots_know_what_pixels_know(shape, fidelity, name):
    experiment = VARIANTS[name](crystal(shape, fidelity))
    exact = exact_photons(experiment)

    image = by_spots(experiment).render()

    assert exact.max() > 0.0
    assert (np.abs(image - exact) <= allowed(exact, exact.max()) + CUTOFF[shape]).all()


def golden_words() -> dict[str, list[str]]:
    with h5py.File(GOLDEN / "golden.h5") as file:
        return {name: json.loads(file[name].attrs["argv"]) for name in file}


#: One other case, of a fudge of 1e-7, has spots of six million reflections in every pixel.
SPOTS_OF_C = [
    name
    for name, words in golden_words().items()
    if {"-gauss_xtal", "-tophat_spots"} & set(words) and "-fudge" not in words
]


@pytest.mark.parametrize("name", SPOTS_OF_C)
def test_golden_cases_whose_spots_end_pass_by_spots(name, tmp_path, capsys):
    with h5py.File(GOLDEN / "golden.h5") as file:
        group = file[name]
        words, shape = json.loads(group.attrs["argv"]), tuple(int(n) for n in group.attrs["shape"])
        places, values = (
            (group[key][()] for key in ("sample_index", "sample_value")) if "image" not in group else ([], [])
        )
        whole = group["image"][()] if "image" in group else None
        brightest = float(group.attrs["max"])
    for source in (GOLDEN / "inputs").iterdir():
        shutil.copy(source, tmp_path)
    with contextlib.chdir(tmp_path):
        assert main([*words, "-engine", "spots", "-floatfile", "f.bin", "-nonoise", "-nopgm"]) == 0
    assert "engine spots: asked for" in capsys.readouterr().out
    image = np.fromfile(tmp_path / "f.bin", "<f4").reshape(shape).astype(np.float64)

    theirs, ours = (whole, image) if whole is not None else (values, image.ravel()[places])

    assert (np.abs(ours - theirs) <= allowed(np.asarray(theirs, dtype=np.float64), brightest)).all()


def test_golden_cases_whose_spots_end_are_there():
    assert len(SPOTS_OF_C) >= 2


# --- a cutoff


@st.composite
def fringed(draw) -> tuple[Experiment, float]:
    """Random square and round crystals, and a cutoff between nothing at all and most of the photons."""
    shape, fidelity = draw(st.sampled_from(["square", "round"])), draw(st.sampled_from(["nanobragg", "physical"]))
    number = st.floats(0.0, 1.0)
    experiment = crystal(shape, fidelity)
    cells = tuple(draw(st.integers(1, 30)) for _ in range(3))
    experiment = experiment.replace(
        crystal=experiment.crystal.replace(
            cell_counts=cells,
            misset_deg=tuple(360.0 * draw(number) for _ in range(3)),
            mosaic_spread_deg=draw(st.sampled_from([0.0, 0.2, 3.0])),
            mosaic_domains=draw(st.integers(1, 4)),
        ),
        beam=experiment.beam.replace(dispersion_percent=10.0 * draw(number), wavelength_A=0.7 + draw(number)),
        detector=experiment.detector.replace(distance_mm=65.0 + 100.0 * draw(number), twotheta_deg=30.0 * draw(number)),
    )
    return experiment, 10.0 ** draw(st.floats(-6.0, 2.0))


@settings(max_examples=40)
@given(fringed())
def test_no_pixel_is_off_by_more_than_the_cutoff(case):
    experiment, cutoff = case
    exact = exact_photons(experiment)

    sim = by_spots(experiment, cutoff)
    image = sim.render()
    dense = Simulator(with_sampling(experiment, engine="pixels", cutoff_photons=cutoff), backend="cpu")

    room = allowed(exact, exact.max()) + cutoff
    assert (np.abs(image - exact) <= room).all()
    assert (np.abs(dense.render() - exact) <= room).all()
    assert sim.cut_photons == cutoff
    assert 0.0 <= sim.left_out() <= cutoff * image.size


@pytest.mark.parametrize("chosen", ["pixels", "spots"])
def test_a_cutoff_of_more_than_all_leaves_water_alone(chosen):
    base = crystal("square")
    wet = base.replace(crystal=base.crystal.replace(water_um=2.0))
    water = exact_photons(wet.replace(structure_factors=StructureFactors(indices=[(0, 0, 1)], amplitudes=[0.0])))

    image = Simulator(with_sampling(wet, engine=chosen, cutoff_photons=1e20), backend="cpu").render()

    assert (water > 0.0).all()
    # Pixels on a peak, which float32 cannot decide, are rendered whole.
    assert (image >= (1.0 - 1e-5) * water).all()
    assert np.mean(np.abs(image / water - 1.0) < 1e-5) > 0.99


def test_without_a_cutoff_pixels_keep_their_bits():
    experiment = with_sampling(crystal("square"), engine="pixels")
    small = Simulator(with_sampling(experiment, cutoff_photons=1e-30), backend="cpu")

    np.testing.assert_array_equal(small.render(), Simulator(experiment, backend="cpu").render())


def test_pixels_pass_over_what_is_below_the_cutoff():
    experiment = with_sampling(crystal("square"), engine="pixels", cutoff_photons=1e3)
    cut, all_of_it = (Simulator(e, backend="cpu") for e in (experiment, with_sampling(experiment, cutoff_photons=0.0)))

    kept, whole = (np.count_nonzero(sim._renderer._squared) for sim in (cut, all_of_it))

    assert 0 < kept < whole
    assert cut.cut_photons == 1e3 and all_of_it.cut_photons == 0.0


def test_a_cutoff_without_effect_is_said():
    experiment = with_sampling(crystal("square"), engine="pixels", cutoff_photons=1.0)

    sim = Simulator(experiment, backend="cpu", precision="float64")

    assert sim.cut_photons == 0.0
    assert any("cutoff of 1 photons has no effect" in note for note in sim.notes)
    assert not any("cutoff" in note for note in Simulator(experiment, backend="cpu").notes)


# --- however the work is cut


@pytest.mark.parametrize(("fidelity", "shape"), [case for case in SHAPES if case.values[1] in ("gauss", "square")])
def test_threads_rows_calls_and_copies_make_the_same_bits(fidelity, shape, monkeypatch):
    from bragg_numba.render import spots

    experiment = crystal(shape, fidelity)
    sim = by_spots(experiment, threads=2)
    image = sim.render()

    assert image.any()
    one = by_spots(experiment, threads=1)
    np.testing.assert_array_equal(one.render(), image)
    for rows in (37, 1000):
        np.testing.assert_array_equal(np.concatenate([tile.copy() for _, tile in one.tiles(rows=rows)]), image)
    for send in (copy.deepcopy, lambda simulator: pickle.loads(pickle.dumps(simulator))):
        np.testing.assert_array_equal(send(sim).render(), image)
    monkeypatch.setattr(spots, "SECONDS_IN_CALL", 0.0)
    monkeypatch.setattr(spots, "LEAST_TILES_OF_THREAD", 1)
    done = []
    np.testing.assert_array_equal(by_spots(experiment, threads=1).render(progress=done.append), image)
    assert len(done) > 2 and done == sorted(done) and done[-1] == 1.0


def test_an_array_of_the_caller_is_cleared_first():
    sim = by_spots(crystal())
    out = np.full(sim.shape, 7.0, np.float32)

    assert sim.render(out=out) is out
    np.testing.assert_array_equal(out, sim.render())
    assert (out == 0.0).any()


def test_large_arrays_are_cleared_by_several_threads():
    from bragg_numba.render.cpu import LEAST_CLEARED, clear

    image = np.ones((3, LEAST_CLEARED + 5), np.float32)
    clear(image[1:])

    assert (image[0] == 1.0).all() and not image[1:].any()


def test_threads_may_share_a_simulator_of_spots():
    sim = by_spots(crystal())
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda _: sim.render(), range(8)))

    for image in images[1:]:
        np.testing.assert_array_equal(image, images[0])


@pytest.mark.parametrize("shape", ["gauss", "square"])
def test_a_region_and_a_mask_leave_the_other_pixels_dark(shape):
    base = crystal(shape)
    mask = np.random.default_rng(1).random(base.detector.shape) > 0.4
    part = with_sampling(base.replace(detector=base.detector.replace(mask=mask)), roi=(20, 130, 7, 60))
    exact = exact_photons(part)

    image = by_spots(part).render()

    inside = np.zeros(image.shape, bool)
    inside[7:61, 20:131] = mask[7:61, 20:131]
    assert not image[~inside].any() and image[inside].any()
    assert (np.abs(image - exact) <= allowed(exact, exact.max()) + CUTOFF[shape]).all()


def test_tiles_are_shared_out_evenly_and_each_once():
    rng = np.random.default_rng(0)
    seconds = rng.exponential(1.0, 501)

    order, starts = costs.share_out(seconds, 4)

    assert sorted(order) == list(range(501))
    loads = np.add.reduceat(seconds[order], starts[:-1])
    assert loads.max() - loads.min() <= seconds.max()


def test_calls_cover_a_list_without_gaps():
    seconds = np.array([5.0, 0.1, 0.1, 0.1, 9.0, 0.1, 0.1])

    assert costs.cut_evenly(seconds, 1.0, 2) == [0, 2, 4, 6, 7]
    assert costs.cut_evenly(seconds, 100.0, 2) == [0, 7]
    assert costs.cut_evenly(seconds[:0], 1.0, 2) == [0]


# --- the choice

BUSY = {
    "detector": Detector(n_fast=700, n_slow=700, pixel_mm=0.1, distance_mm=80.0),
    "rotation": Rotation(osc_deg=0.5, phi_steps=20),
}


def auto(experiment: Experiment, **options) -> Simulator:
    assert experiment.sampling.engine == "auto"
    return Simulator(experiment, backend="cpu", **options)


def test_auto_takes_spots_where_they_are_predicted_to_be_quicker():
    sim = auto(crystal("gauss", "physical", cells=20, **BUSY))

    assert sim.engine == "spots"
    assert sim.engine_seconds["spots"] < sim.engine_seconds["pixels"]
    assert sim.engine_reason.startswith("predicted to take ") and "the other engine" in sim.engine_reason
    exact = exact_photons(sim.experiment)
    assert (np.abs(sim.render() - exact) <= allowed(exact, exact.max())).all()


def test_auto_takes_pixels_where_they_are_predicted_to_be_quicker():
    # Crowded: hardly a pixel sees no spot.
    experiment = with_sampling(crystal("square", "physical", cells=4, **BUSY), cutoff_photons=1e-6)

    sim = auto(experiment)

    assert sim.engine == "pixels"
    assert sim.engine_seconds["pixels"] < sim.engine_seconds["spots"]


REASONS = {
    "a detector is curved": lambda e: e.replace(detector=e.detector.replace(curved=True, twotheta_deg=0.0)),
    "interpolated": lambda e: with_sampling(e, interpolate=True),
    "multiply factors up": lambda e: with_sampling(e.replace(fidelity="nanobragg"), oversample_omega=True),
    "beyond the range of float32": lambda e: e.replace(beam=Beam(fluence_per_m2=1e-30)),
    "pixels are large for their distance": lambda e: e.replace(
        detector=Detector(n_fast=9, n_slow=9, pixel_mm=2.0, distance_mm=20.0)
    ),
}


@pytest.mark.parametrize("reason", REASONS)
def test_what_spots_cannot_serve_falls_to_pixels_or_is_refused(reason):
    experiment = REASONS[reason](crystal("square", "physical", **BUSY))

    sim = auto(experiment)

    assert sim.engine == "pixels" and reason in sim.engine_reason and not sim.engine_seconds
    with pytest.raises(InputError, match=f"^Sampling.engine cannot be spots: .*{reason}"):
        by_spots(experiment)


def test_auto_leaves_fringes_whole_without_a_cutoff():
    experiment = crystal("round", "physical", **BUSY)

    assert "fringes of a round crystal never end" in auto(experiment).engine_reason
    assert "fringes" not in auto(with_sampling(experiment, cutoff_photons=1e-3)).engine_reason


def test_auto_does_not_look_at_spots_of_frames_that_are_quick_anyway(monkeypatch):
    monkeypatch.setattr(engine, "_spots", None)

    assert auto(crystal("gauss", "physical")).engine_reason.startswith("they are predicted to take")


def test_auto_takes_pixels_where_every_digit_was_asked_for():
    experiment = crystal("gauss", "physical", cells=20, **BUSY)

    assert "float64 was asked for" in auto(experiment, precision="float64").engine_reason
    cut = auto(with_sampling(experiment, cutoff_photons=1e-3), precision="float64")
    assert (cut.engine, cut.precision) == ("spots", "float64")


def test_spots_that_touch_their_neighbours_are_left_to_pixels_and_right_if_asked_for(monkeypatch):
    experiment = crystal("gauss", "physical", cells=3)
    exact = exact_photons(experiment)
    monkeypatch.setattr(engine, "LEAST_SECONDS", 0.0)

    assert auto(experiment).engine_reason == "spots reach half-way to their neighbours"
    monkeypatch.setattr(engine, "_is_crowded", lambda plan: False)  # else seen at once, now when they are looked at
    assert auto(experiment).engine_reason == "spots reach half-way to their neighbours"
    image = by_spots(experiment).render()
    assert (np.abs(image - exact) <= allowed(exact, exact.max())).all()


def test_fringes_are_whole_where_spots_are_asked_for_without_a_cutoff():
    experiment = crystal("square")
    exact = exact_photons(experiment)

    sim = by_spots(experiment, 0.0)

    assert sim.cut_photons == 0.0
    assert (np.abs(sim.render() - exact) <= allowed(exact, exact.max())).all()


def test_without_a_gpu_the_cpu_renders_spots(monkeypatch):
    monkeypatch.setattr(devices, "find_device", lambda: (None, "no GPU here"))
    sim = Simulator(with_sampling(crystal(), engine="spots"))

    assert (sim.backend, sim.backend_reason, sim.engine) == ("cpu", "no GPU here", "spots")


def test_float32_is_taken_where_phases_of_a_patch_are_right():
    fine = {"detector": Detector(n_fast=40, n_slow=40, pixel_mm=0.1, distance_mm=80.0)}
    near = make_plan(crystal("square", cells=300))
    far = make_plan(crystal("square", cells=8, **fine))

    assert arithmetic.choose(far, "auto").precision == "tile"
    assert arithmetic.choose(near, "auto").precision == "float64"
    assert arithmetic.choose(near, "tile").precision == "tile"
    assert arithmetic.choose(make_plan(crystal("square", cells=5000)), "tile").precision == "float64"
    assert arithmetic.choose(make_plan(crystal("gauss", "physical", cells=5000)), "auto").precision == "tile"


# --- what is said

LINE = [
    *("-cell", "100", "-default_F", "100", "-N", "10", "-lambda", "1", "-detpixels", "64", "-distance", "100"),
    *("-fluence", "1e22", "-noprogress"),
]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-engine", "fast"], "-engine must be one of auto, pixels, spots, got 'fast'"),
        (["-cutoff", "-1"], "-cutoff must lie at or above 0"),
        (["-cutoff", "nan"], "-cutoff needs a finite number"),
        (["-cutoff", "inf"], "-cutoff needs a finite number"),
        (["-engine", "spots", "-curved_det"], "Sampling.engine cannot be spots: a detector is curved"),
    ],
)
def test_what_cannot_be_honoured_is_one_sentence(words, said, capsys, tmp_path):
    with contextlib.chdir(tmp_path):
        assert main([*LINE, *words, "-floatfile", "f.bin"]) == 2

    err = capsys.readouterr().err.strip().splitlines()
    assert len(err) == 1 and said in err[0]


@pytest.mark.parametrize("value", [-1e-9, np.nan, np.inf, "1"])
def test_a_cutoff_is_a_number_of_photons(value):
    with pytest.raises(InputError, match=r"Sampling\.cutoff_photons must"):
        Sampling(cutoff_photons=value)


def test_reports_and_files_say_which_engine_rendered_and_what_was_cut(capsys, tmp_path):
    path = str(tmp_path / "f.h5")
    assert main([*LINE, "-square_xtal", "-engine", "spots", "-cutoff", "0.5", "-o", path, "-json"]) == 0
    report = json.loads(capsys.readouterr().out)

    assert (report["engine"], report["engine_reason"], report["engine_seconds"]) == ("spots", "asked for", {})
    assert report["cutoff_photons"] == report["cut_photons"] == 0.5
    assert 0.0 <= report["left_out_photons"] <= 0.5 * 64 * 64
    with h5py.File(path) as file:
        kept = {name: item[()] for name, item in file["/entry/process/rendering"].items() if hasattr(item, "shape")}
    assert kept["engine"] == b"spots" and kept["engine_reason"] == b"asked for" and kept["cutoff_photons"] == 0.5
    assert Experiment.load(path).sampling.engine == "spots"

    assert main([*LINE, "-square_xtal", "-engine", "spots", "-cutoff", "0.5", "-o", path]) == 0
    out = capsys.readouterr().out
    assert "engine spots: asked for" in out and "cutoff: no pixel lacks more than 0.5 photons" in out


def test_info_tells_the_engine_and_render_can_change_it(capsys, tmp_path):
    from bragg_numba.cli.bragg import main as bragg

    frame, again = str(tmp_path / "f.h5"), str(tmp_path / "g.h5")
    assert main([*LINE, "-gauss_xtal", "-fidelity", "physical", "-engine", "spots", "-o", frame]) == 0
    assert bragg(["render", frame, "-o", again, "--engine", "pixels", "--cutoff", "0.25"]) == 0
    capsys.readouterr()
    told = []
    for path in (frame, again):
        assert bragg(["info", path, "--json"]) == 0
        told.append(json.loads(capsys.readouterr().out))

    assert [one["rendering"]["engine"] for one in told] == ["spots", "pixels"]
    assert told[1]["rendering"]["cutoff_photons"] == 0.25
    assert bragg(["render", frame, "-o", again, "--engine", "fast"]) == 2


def test_the_same_words_make_the_same_sampling():
    experiment = Experiment.from_nanobragg([*LINE, "-engine", "spots", "-cutoff", "1e-3"])

    assert experiment.sampling.engine == "spots" and experiment.sampling.cutoff_photons == 1e-3
    assert Experiment.from_json(experiment.to_json()) == experiment
    assert "engine='spots', cutoff_photons=0.001" in repr(experiment.sampling)
    assert experiment != Experiment.from_nanobragg(LINE)


# --- series


def test_a_series_renders_by_the_engine_and_tells_it_of_every_frame(tmp_path):
    from bragg_numba import rotation_series

    experiment = with_sampling(crystal("square"), engine="spots", cutoff_photons=1e-2)
    series = rotation_series(experiment, 0.0, 0.3, 3)
    result = series.write(tmp_path / "s", backend="cpu")

    with h5py.File(result.masters[0]) as file:
        assert list(file["/entry/truth/frames"]["engine"]) == [b"spots"] * 3
        rendering = json.loads(file["/entry/process/rendering"][()])
        images = file["/entry/data/data"][()]
    assert rendering["engine"] == "spots" and rendering["engine_reason"] == "asked for"
    assert rendering["cutoff_photons"] == rendering["cut_photons"] == 1e-2
    log = Path(result.log).read_text()
    assert "engine=spots" in log and "cutoff_photons=0.01" in log
    for index, image in enumerate(images):
        np.testing.assert_array_equal(image, Simulator(series.experiment_of(index), backend="cpu").render())


def test_plans_of_a_series_share_table_and_mask():
    base = crystal()
    base = base.replace(detector=base.detector.replace(mask=np.ones(base.detector.shape, bool)))
    first = make_plan(base)

    second = make_plan(base.replace(rotation=Rotation(phi_deg=1.0)), like=first)

    assert second.mask is first.mask and second.table is first.table
    other = base.replace(detector=base.detector.replace(mask=np.zeros(base.detector.shape, bool)))
    assert not make_plan(other, like=first).mask.any()


def test_candidates_that_come_near_in_no_step_make_no_difference(monkeypatch):
    # A shell as thick as the spectrum is wide holds many more reflections than those that any step meets.
    experiment = crystal("square", "physical")
    beam = experiment.beam.replace(dispersion_percent=6.0, dispersion_steps=7, horizontal_divergence_mrad=3.0)
    beam = beam.replace(horizontal_divergence_steps=2)
    plan = make_plan(with_sampling(experiment.replace(beam=beam), engine="spots", cutoff_photons=1e-3))
    listed = []
    real = lit.candidates.list_reflections
    monkeypatch.setattr(lit.candidates, "list_reflections", lambda *given: listed.append(real(*given)) or listed[-1])

    everything = lit.find_lit(plan, 1e-3, single=True)
    monkeypatch.setattr(lit, "MANY", 0)
    near = lit.find_lit(plan, 1e-3, single=True)

    assert len(listed[1][0]) < 0.8 * len(listed[0][0])
    assert len(near.indices) > 100
    for name in ("indices", "spots", "extents"):
        assert np.array_equal(getattr(near, name), getattr(everything, name))
