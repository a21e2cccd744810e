"""Bragg photons, background and noise can be told apart again."""

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest

from bragg_numba import Background, Experiment, InputError, OutputOptions, Simulator
from bragg_numba.cli.bragg import main
from bragg_numba.series import Series, rotation_series, still_series
from bragg_numba.series.background import LIMIT, backgrounds, list_backgrounds, render_background

EPS = float(np.finfo(np.float32).eps)
DRY = (
    "-cell 50 60 70 80 95 105 -default_F 100 -N 5 -fluence 1e28 -lambda 1.1 -detpixels_x 50 -detpixels_y 40 "
    "-pixel 0.5 -distance 120 -detector_roty 8 -oversample 2 -roi 2 49 0 39 "
)
# So little that float32 holds Bragg photons and background side by side.
WET = DRY + "-water 0.3 "


def _dry(experiment):
    return experiment.replace(crystal=experiment.crystal.replace(water_um=0.0))


@pytest.mark.parametrize("fidelity", ["nanobragg", "physical"])
@pytest.mark.parametrize(
    "words",
    [
        "",
        "-mosaic_spread 0.5 -mosaic_domains 7 -phi 3 -osc 1 -phisteps 5",
        "-dispersion 3 -dispsteps 4 -hdivrange 2 -hdivsteps 3",
        "-detector_thick 400 -detector_abs 300 -thicksteps 4",
        "-curved_det",
        "-oversample_polar -phi 3 -osc 1 -phisteps 3",
        "-oversample_thick -detector_thick 400 -detector_abs 300",
        "-oversample_omega -mosaic_spread 0.5 -mosaic_domains 4",
        "-polar 0.9",
    ],
)
def test_a_frame_is_its_bragg_photons_and_its_background(words, fidelity):
    experiment = Experiment.from_nanobragg(WET + words).replace(fidelity=fidelity)
    total = Simulator(experiment, precision="float64").render().astype(np.float64)
    bragg = Simulator(_dry(experiment), precision="float64").render().astype(np.float64)
    background = render_background(experiment).astype(np.float64)
    # Three numbers that are rounded to float32, one of them after a product: half an eps each, and one for that.
    assert (np.abs(total - bragg - background) <= 2.5 * EPS * total).all()
    assert (bragg > 100 * EPS * total).mean() > 0.1  # float32 lets them be seen
    # Where nanoBragg multiplies by the solid angle after each term, as small as it is, the first ones vanish.
    assert (background[:, 2:] > 0).all() == ("omega" not in words or fidelity == "physical")
    assert not background[:, :2].any()


def test_a_sweep_has_one_background_and_the_master_holds_it(tmp_path):
    series = rotation_series(Experiment.from_nanobragg(WET), 0.0, 0.5, 4)
    series.write(tmp_path / "s", counts="uint32", seed=7, frames_per_file=3, precision="float64")
    master = tmp_path / "s_photons" / "s_master.h5"
    with h5py.File(master) as file, h5py.File(tmp_path / "s_counts_master.h5") as counts:
        group = file["/entry/background"]
        # The first or the last NXdata is what readers take for the frames.
        assert group.attrs["NX_class"] == "NXcollection"
        assert group["photons"].shape == (1, 40, 50)
        assert group["index"][()].tolist() == [0, 0, 0, 0]
        assert "Bragg reflections and background together" in file["/entry/data/data"].attrs["meaning"]
        assert "background" not in counts["/entry"]
        for index in range(4):
            bragg = Simulator(_dry(series.experiment_of(index)), precision="float64").render()
            total = file["/entry/data/data"][index]
            assert (np.abs(total - group["photons"][0] - bragg) <= 2.5 * EPS * total).all()


@pytest.mark.parametrize("fidelity", ["nanobragg", "physical"])
def test_fluence_is_a_factor_and_the_beam_centre_is_not(tmp_path, fidelity):
    rows = [
        {"phi_deg": 0.0, "fluence_per_m2": 1e28, "beam_x_mm": 12.0},
        {"phi_deg": 5.0, "fluence_per_m2": 3e28, "beam_x_mm": 12.0},
        {"phi_deg": 9.0, "fluence_per_m2": 2e28, "beam_x_mm": 13.0},
    ]
    series = Series(Experiment.from_nanobragg(WET).replace(fidelity=fidelity), rows)
    series.write(tmp_path / "s")
    with h5py.File(tmp_path / "s_master.h5") as file:
        group = file["/entry/background"]
        assert group["index"][()].tolist() == [0, 0, 1]
        # nanoBragg counts the fluence twice.
        assert group["scale"][()].tolist() == [1.0, 9.0 if fidelity == "nanobragg" else 3.0, 1.0]
        for index in range(3):
            stored = group["photons"][group["index"][index]] * group["scale"][index]
            own = render_background(series.experiment_of(index))
            assert np.allclose(stored, own, rtol=2 * EPS, atol=0.0)


def test_what_turns_the_crystal_or_tunes_the_beam_changes_no_background():
    ways = {"wavelength_A": {"normal": [1.1, 0.02]}, "fluence_per_m2": {"lognormal": [1e28, 0.5]}}
    series = still_series(Experiment.from_nanobragg(WET), 5, seed=2, distributions=ways)
    found = backgrounds(series)
    assert found.frames.tolist() == [0]
    first = render_background(series.experiment_of(0))
    for index in range(5):
        own = render_background(series.experiment_of(index))
        assert np.allclose(own, first * found.scale[index], rtol=4 * EPS, atol=0.0)


def test_dry_series_have_no_background_and_too_many_are_not_kept(tmp_path):
    assert backgrounds(rotation_series(Experiment.from_nanobragg(DRY), 0.0, 0.5, 2)) is None
    n = LIMIT + 1
    columns = {"beam_x_mm": 12.0 + 0.01 * np.arange(n), "phi_deg": np.zeros(n)}
    series = Series(Experiment.from_nanobragg(WET), columns)
    assert len(backgrounds(series).frames) == n
    result = series.write(tmp_path / "s", spots=False)
    assert any("the background differs" in note for note in result.notes)
    with h5py.File(tmp_path / "s_master.h5") as file:
        assert "background" not in file["/entry"]


def test_noise_can_leave_the_background_out(tmp_path, capsys):
    series = rotation_series(Experiment.from_nanobragg(WET), 0.0, 0.5, 3)
    series.write(tmp_path / "s", counts="uint32", seed=7, precision="float64")
    dry = rotation_series(_dry(series.experiment), 0.0, 0.5, 3)
    dry.write(tmp_path / "dry", precision="float64")
    master, out = str(tmp_path / "s_photons" / "s_master.h5"), tmp_path / "c.h5"
    assert main(["noise", master, "-o", str(out), "--seed", "7", "--counts", "uint32"]) == 0
    with h5py.File(tmp_path / "s_counts_master.h5") as a, h5py.File(out) as b:
        assert np.array_equal(a["/entry/data/data"], b["/entry/data/data"])
    words = ["--seed", "7", "--counts", "uint32", "--background", "0"]
    assert main(["noise", master, "-o", str(out), *words]) == 0
    with h5py.File(out) as file, h5py.File(tmp_path / "dry_master.h5") as photons:
        counts, expected = file["/entry/data/data"][()].astype(float), photons["/entry/data/data"][()].astype(float)
        assert file["/entry/data/data"].attrs["background_scale"] == 0.0
        # Poisson: sums of all pixels within six standard deviations, beside the rounding of the total.
        with h5py.File(master) as total:
            rounding = 2.5 * EPS * total["/entry/data/data"][()].sum(dtype=np.float64)
        assert abs(counts.sum() - expected.sum()) < 6 * np.sqrt(expected.sum()) + rounding
    capsys.readouterr()
    assert main(["noise", str(tmp_path / "dry_master.h5"), "-o", str(out), "--background", "2"]) == 2
    assert "no water" in capsys.readouterr().err


def test_a_frame_of_the_command_line_has_a_background_too(tmp_path):
    from bragg_numba.io.frame_file import write_frame
    from bragg_numba.series.source import write_counts

    experiment = Experiment.from_nanobragg(WET)
    write_frame(tmp_path / "f.h5", Simulator(experiment).render(), experiment.to_json())
    with_it = write_counts(tmp_path / "f.h5", tmp_path / "a.h5", counts="uint32")
    without = write_counts(tmp_path / "f.h5", tmp_path / "b.h5", counts="uint32", background=0.0)
    background = render_background(experiment).sum(dtype=np.float64)
    spread = np.sqrt(with_it["photons"] + without["photons"])
    assert abs(with_it["photons"] - without["photons"] - background) < 6 * spread + 8 * EPS * with_it["photons"]
    with pytest.raises(InputError, match="--background"):
        write_counts(tmp_path / "f.h5", tmp_path / "c.h5", background=-1.0)


def test_each_background_of_a_series_is_a_layer_that_is_rendered_once_and_scaled(tmp_path, monkeypatch):
    from bragg_numba.kernels import amorphous

    from bragg_numba.series.pipeline import Renderer
    from bragg_numba.series.source import write_counts

    calls = []
    kernel = amorphous.add_amorphous
    monkeypatch.setattr(amorphous, "add_amorphous", lambda *a: calls.append(a[4]) or kernel(*a))
    air, oil = Background(material="air", thickness_mm=10.0), Background(material="paratone", name="oil")
    experiment = Experiment.from_nanobragg(WET.replace("1e28", "1e24")).replace(backgrounds=(air, oil, air))
    rows = [{"phi_deg": 3.0 * i, "fluence_per_m2": 1e24 * (1 + i)} for i in range(4)]
    series = Series(experiment, rows)
    renderer, out = Renderer(series, OutputOptions()), np.zeros((40, 50), dtype=np.float32)
    for index in range(4):
        renderer.render(renderer.plan(index), out)
    assert len(calls) == 3
    series.write(tmp_path / "s", counts="uint32", seed=7)
    master = tmp_path / "s_photons" / "s_master.h5"
    with h5py.File(master) as file:
        group = file["/entry/background"]
        assert {"photons", "air", "oil", "air_2"} <= set(group)
        assert group["oil"].attrs["long_name"] == "oil"
        for index in range(4):
            total = file["/entry/data/data"][index]
            bragg = Simulator(_dry(series.experiment_of(index)).replace(backgrounds=())).render()
            layers = [group, group["air"], group["oil"], group["air_2"]]
            rest = sum(layer["scale"][index] * layer["photons"][layer["index"][index]] for layer in layers)
            assert (np.abs(total - bragg - rest) <= 2e-5 * total).all()
        assert group["oil/scale"][()].tolist() == [1.0, 2.0, 3.0, 4.0]
    alone = write_counts(master, tmp_path / "c.h5", background=0.0, counts="uint32")
    both = write_counts(master, tmp_path / "d.h5", counts="uint32")
    assert 0.0 <= alone["photons"] < 0.5 * both["photons"]


def test_wavelengths_have_backgrounds_of_their_own():
    experiment = Experiment.from_nanobragg(DRY).replace(backgrounds=(Background(material="water"),))
    found = list_backgrounds(Series(experiment, {"wavelength_A": [1.0, 1.1, 1.0], "phi_deg": [0.0, 1.0, 2.0]}))
    assert [layer.index.tolist() for layer in found] == [[0, 1, 0]]
    first, second = (
        found[0].render(experiment.replace(beam=experiment.beam.replace(wavelength_A=w))) for w in (1.0, 1.1)
    )
    assert not np.allclose(first, second, rtol=1e-3)
