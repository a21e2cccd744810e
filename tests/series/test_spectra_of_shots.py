"""A spectrum a shot: every frame has its own, whoever renders it, and the files say which."""

import json

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest

from bragg_numba import Experiment, InputError, Series, Spectrum, load_plan, simulate, still_series
from bragg_numba.cli import nanobragg
from bragg_numba.cli.bragg import main
from bragg_numba.plan.plan import make_plan
from bragg_numba.series.options import OutputOptions
from bragg_numba.series.pipeline import Job
from bragg_numba.series.workers import read_part, write_parts
from bragg_numba.trace.pixel import trace_pixel

WORDS = "-cell 100 -default_F 100 -N 5 -detpixels 64 -pixel 0.8 -lambda 1.3 -oversample 1"
SASE = {"shape": "sase", "bandwidth_percent": 0.4, "pulse_fs": 20, "channels": 6, "centre_jitter_percent": 0.1}
N = 5


def write_plan(path, spectrum, words=WORDS, **more):
    plan = {
        "format": "bragg_numba series",
        "version": 1,
        "nanobragg": words,
        "spectrum": spectrum,
        "stills": {"n": N, "orientations": "same"},
        "output": {"frames_per_file": 2, "spots": False},
    }
    path.write_text(json.dumps(plan | more))
    return path


def test_every_frame_is_the_shot_of_its_number(tmp_path):
    series, _ = load_plan(write_plan(tmp_path / "p.json", SASE))
    spectrum = Spectrum.from_dict(SASE)
    for index in range(N):
        beam = series.experiment_of(index).beam
        assert beam.spectrum is series.experiment.beam.spectrum and beam.shot == index
        assert (beam.pulse.weight == spectrum.pulse(1.3, index).weight).all()
    (part,) = write_parts(tmp_path / "plan", series, OutputOptions(), [Job(2, range(2, 5), "")])
    told, _ = read_part(str(tmp_path / "plan"), part)  # by a worker
    assert len(told) == 3
    assert (told.experiment_of(1).beam.pulse.weight == spectrum.pulse(1.3, 3).weight).all()
    # The first frames of a longer series are those of a shorter one; a column says otherwise.
    assert Series(series.experiment, {"shot": [3, 3]}).experiment_of(0).beam.shot == 3


@pytest.mark.parametrize(
    "workers",
    [[], pytest.param(["--workers", "2"], marks=pytest.mark.slow)],
    ids=["threads", "processes"],
)
def test_the_files_have_each_shot_whoever_renders_it(tmp_path, workers):
    if workers:
        pytest.importorskip("distributed")
    plan = write_plan(tmp_path / "p.json", SASE)
    assert main(["series", str(plan), "-o", str(tmp_path / "out"), "--quiet", *workers]) == 0
    series, _ = load_plan(plan)
    with h5py.File(tmp_path / "out_master.h5") as file:
        truth, beam = file["/entry/truth/frames"][()], file["/entry/instrument/beam"]
        lines = beam["incident_wavelength_spectrum"][()]
        weights = beam["incident_wavelength_spectrum_weights"][()]
        assert lines.shape == weights.shape == (N, 6)
        for index in range(N):
            experiment = series.experiment_of(index)
            pulse = experiment.beam.pulse
            assert lines[index] == pytest.approx(pulse.wavelength_m * 1e10, rel=1e-12)
            assert weights[index] == pytest.approx(pulse.weight / pulse.weight.sum(), rel=1e-12)
            assert truth["wavelength_A"][index] == pytest.approx(pulse.mean_A, rel=1e-12)
            assert beam["incident_wavelength"][index] == pytest.approx(pulse.mean_A, rel=1e-12)
            assert truth["fluence_per_m2"][index] == pytest.approx(
                experiment.beam.mean_photons_per_m2 * pulse.energy, rel=1e-12
            )
            image = simulate(experiment)
            assert truth["max_photons"][index] == pytest.approx(float(image.max()), rel=1e-6)
        assert len(set(truth["wavelength_A"])) == N


def test_a_stack_gives_each_frame_its_spectrum_and_its_photons(tmp_path):
    weights = np.arange(1.0, 1.0 + 3 * N).reshape(N, 3)
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["energies_eV"], file["weights"] = [9500.0, 9510.0, 9520.0], weights
    series, _ = load_plan(write_plan(tmp_path / "p.json", "s.h5"))
    for index in range(N):
        beam = series.experiment_of(index).beam
        assert beam.pulse.weight.tolist() == weights[index].tolist()
        share = weights[index].sum() / weights.sum(axis=1).mean()
        assert beam.photons_per_m2 == pytest.approx(beam.mean_photons_per_m2 * share, rel=1e-12)
    few = write_plan(tmp_path / "few.json", "s.h5", stills={"n": N + 1})
    with pytest.raises(InputError, match=f"below {N}, the number of spectra"):
        load_plan(few)


def test_a_column_of_spectra_weighs_with_either_fidelity_and_a_divergence():
    lines = [[(1.3, 1.0), (1.31, 3.0)], [(1.305, 2.0)]]
    for fidelity in ("nanobragg", "physical"):
        base = Experiment.from_nanobragg(f"{WORDS} -hdivrange 5 -hdivsteps 2").replace(fidelity=fidelity)
        series = Series(base, {"spectrum": lines})
        image = simulate(series.experiment_of(0)).astype(float)
        parts = [simulate(Series(base, {"wavelength_A": [length]}).experiment_of(0)) for length in (1.3, 1.31)]
        expected = 0.25 * parts[0].astype(float) + 0.75 * parts[1]
        assert np.abs(image - expected).max() < 1e-6 * expected.max()
        # The experiment of a frame holds its own spectrum, not all of them.
        assert series.experiment_of(1).beam.spectrum.weights.tolist() == [2.0]


def test_lattices_share_the_photons_of_a_pulse():
    experiment = Experiment.from_nanobragg(WORDS)
    spectrum = Spectrum.sase(0.4, 20.0, channels=6, energy_jitter_percent=50.0)
    experiment = experiment.replace(beam=experiment.beam.replace(spectrum=spectrum, shot=2))
    alone = simulate(experiment)
    both = simulate(experiment.replace(lattices=[(experiment.crystal, 0.25), (experiment.crystal, 0.75)]))
    assert np.abs(both - alone).max() < 1e-6 * alone.max()


def test_water_has_the_photons_of_each_pulse():
    from bragg_numba.series.background import backgrounds, render_background

    spectrum = Spectrum.sase(0.4, 20.0, channels=6, energy_jitter_percent=50.0)
    for fidelity in ("nanobragg", "physical"):
        base = Experiment.from_nanobragg(f"{WORDS} -water 0.3 -fluence 1e28").replace(fidelity=fidelity)
        series = still_series(base.replace(beam=base.beam.replace(spectrum=spectrum)), 3, orientations="same")
        found = backgrounds(series)
        for index in range(3):
            one = series.experiment_of(index)
            scaled = found.scale[index] * render_background(series.experiment_of(int(found.frames[found.index[index]])))
            dry = one.replace(crystal=one.crystal.replace(water_um=0.0))
            bragg = simulate(dry).astype(float)
            assert scaled.max() > 0.0
            assert np.abs(simulate(one) - bragg - scaled).max() < 1e-5 * max(bragg.max(), scaled.max())


@pytest.mark.parametrize(
    ("spectrum", "words"),
    [
        ("missing.txt", "cannot be read"),
        ({"shape": "sase"}, "bandwidth_percent"),
        ({"shap": "sase"}, "did you mean shape"),
        ({"file": "missing.txt", "units": "eV"}, "did you mean unit"),
        ({"file": 3}, "texts"),
        (3, "must be a JSON object"),
    ],
)
def test_a_plan_with_a_bad_spectrum_is_one_sentence(tmp_path, capsys, spectrum, words):
    plan = write_plan(tmp_path / "p.json", spectrum)
    assert main(["series", str(plan), "-o", str(tmp_path / "out"), "--quiet"]) == 2
    said = capsys.readouterr().err.strip()
    assert words in said and said.count("\n") == 0 and not list(tmp_path.glob("out*"))


def test_what_would_have_no_effect_is_refused():
    experiment = Experiment.from_nanobragg(WORDS)
    table = Spectrum.table([1.0, 2.0], wavelengths_A=[1.3, 1.31])
    fixed = experiment.replace(beam=experiment.beam.replace(spectrum=table))
    with pytest.raises(InputError, match="fixes the wavelengths"):
        Series(fixed, {"wavelength_A": [1.2]})
    with pytest.raises(InputError, match=r"Beam\.spectrum"):
        Series(fixed, {"spectrum": [[(1.3, 1.0)]]})
    with pytest.raises(InputError, match="shot"):
        Series(fixed, {"shot": [1]})


def test_thousands_of_frames_check_their_spectra_once(monkeypatch):
    checks = []
    original = Spectrum.__post_init__
    monkeypatch.setattr(Spectrum, "__post_init__", lambda self: (checks.append(1), original(self))[1])
    lines = np.ones((2000, 100, 2)) * np.linspace(1.29, 1.31, 100)[None, :, None]
    series = Series(Experiment.from_nanobragg(WORDS).replace(fidelity="physical"), {"spectrum": lines})
    for index in range(len(series)):
        series.experiment_of(index)
    assert len(checks) == 1


def test_info_render_and_trace_know_the_spectrum_of_a_frame(tmp_path, capsys):
    frame, again = str(tmp_path / "f.h5"), str(tmp_path / "g.h5")
    words = f"{WORDS} -spectrum pink -bandwidth 2 -channels 4"
    assert nanobragg.main([*words.split(), "-o", frame]) == 0
    capsys.readouterr()
    assert main(["info", frame]) == 0
    said = capsys.readouterr().out
    assert "pink" in said and "bandwidth_percent" in said
    assert main(["render", frame, "-o", again]) == 0
    with h5py.File(frame) as one, h5py.File(again) as other:
        assert (one["/entry/data/data"][()] == other["/entry/data/data"][()]).all()
    experiment = Experiment.load(frame)
    for fidelity in ("nanobragg", "physical"):
        told = experiment.replace(fidelity=fidelity)
        image = simulate(told, precision="float64")
        slow, fast = np.unravel_index(image.argmax(), image.shape)
        value = trace_pixel(make_plan(told), slow, fast, max_steps=0).final["I_pixel_final"]
        assert np.float32(value) == image[slow, fast]
