"""Frames for training: the same bits whoever takes them, new noise in every epoch, labels that tell the truth."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest

from bragg_numba import Background, Experiment, InputError, Series, poisson, still_series
from bragg_numba.cli.bragg import main
from bragg_numba.series.source import open_source

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

#: PyTorch warns of parts of its own as it loads them; forking is what is asked for here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*pin_memory.*"),
]

#: As in tests/series/test_labels.py, whose kernels these share.
WORDS = (
    "-cell 50 60 70 80 95 105 -default_F 100 -lambda 1 -distance 100 -misset 10 20 30 -fluence 1e27 "
    "-pixel 0.2 -detpixels_x 163 -detpixels_y 91 -N 12 -oversample 1 -gauss_xtal"
)
N = 5


def stills(n: int = N, **changes) -> Series:
    experiment = Experiment.from_nanobragg(WORDS).replace(fidelity="physical", **changes)
    return still_series(experiment.replace(sampling=experiment.sampling.replace(engine="spots")), n, seed=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photons with labels (``l``), three files of two frames."""
    folder = tmp_path_factory.mktemp("training")
    stills().write(folder / "l", frames_per_file=2, labels=True, seed=7, spot_threshold=0.1, exports=False)
    return folder


@pytest.fixture(scope="module")
def master(folder):
    return folder / "l_master.h5"


def frames(*arguments, **options):
    from bragg_numba.torch import Frames

    return Frames(*arguments, **options)


def photons_of(master) -> np.ndarray:
    with h5py.File(master) as file:
        return file["/entry/data/data"][()]


def bits_of(samples) -> dict[int, bytes]:
    """The bits of each sample, by its frame."""
    found = {}
    for sample in samples:
        flat = [sample["frame"], sample["labels"], *sample["spots"].values(), sample["corner"]]
        found[int(sample["index"])] = b"".join(one.numpy().tobytes() for one in flat)
    return found


EVERYTHING = ("spots", "labels", "hkl", "wavelength", "photons", "crystal")


def test_a_sample_is_the_frame_and_its_truth(master):
    data = frames(master, truth=EVERYTHING)
    assert len(data) == N and "163 x 91" in repr(data)
    with open_source(master) as source:
        for index in (0, 3):
            sample, photons = data[index], source.frame(index)
            row, spots = source.truth(index)
            labels = source.labels(index, ("spot", "k", "wavelength_A"))
            assert sample["frame"].dtype == torch.float32
            assert np.array_equal(sample["frame"], poisson(photons, 7, index))
            assert np.array_equal(sample["photons"], photons)
            table = sample["spots"]
            assert len(spots) > 3 and table["hkl"].tolist() == [[s["h"], s["k"], s["l"]] for s in spots]
            assert np.allclose(table["position"], np.stack([spots["slow"], spots["fast"]], axis=1))
            for name in ("photons", "partiality", "resolution_A", "excitation_error_per_A", "panel", "lattice"):
                assert np.allclose(table[name], spots[name])
            assert np.array_equal(sample["labels"], labels["spot"]) and int(sample["labels"].max()) > 0
            assert np.array_equal(sample["hkl"][1], labels["k"], equal_nan=True)
            assert np.array_equal(sample["wavelength"], labels["wavelength_A"], equal_nan=True)
            assert np.allclose(sample["crystal"]["orientation"], row["orientation"])
            assert float(sample["crystal"]["wavelength_A"]) == pytest.approx(1.0)
            assert int(sample["index"]) == index and int(sample["epoch"]) == 0


def test_labels_are_of_the_spots_under_them(master):
    sample = frames(master, truth=("spots", "labels", "photons"))[1]
    bright = int(sample["spots"]["photons"].argmax())
    slow, fast = sample["spots"]["position"][bright].tolist()
    assert int(sample["labels"][int(slow), int(fast)]) == bright
    own = sample["labels"] == bright
    assert float(sample["photons"][own].sum()) == pytest.approx(float(sample["spots"]["photons"][bright]), rel=0.05)


def test_rendered_and_read_frames_are_the_same(master):
    options = {"truth": ("spots", "labels"), "seed": 7, "threshold": 0.1}
    assert bits_of(frames(master, **options)) == bits_of(frames(stills(), **options))


def test_the_same_bits_whatever_workers_and_order(master):
    data = frames(master, truth=("spots", "labels"), crop=(40, 50))
    data.set_epoch(2)
    wanted = bits_of(data[index] for index in (4, 1, 0, 3, 2))
    assert len(set(wanted.values())) == N
    for workers, context in ((0, None), (2, "fork"), (1, "spawn")):
        loader = torch.utils.data.DataLoader(
            data, batch_size=None, num_workers=workers, multiprocessing_context=context
        )
        assert bits_of(loader) == wanted, context
    rendered = frames(stills(), truth=("spots", "labels"), crop=(40, 50), seed=7, threshold=0.1)
    loader = rendered.loader(None, num_workers=2, multiprocessing_context="fork")
    loader.sampler.set_epoch(2)
    assert bits_of(loader) == wanted


def test_workers_that_live_on_get_the_epoch_too(master):
    data = frames(master, truth="labels")
    options = {"num_workers": 1, "persistent_workers": True, "multiprocessing_context": "fork"}
    loader = torch.utils.data.DataLoader(data, batch_size=N, **options)
    seen = []
    for epoch in (0, 1, 0):
        data.set_epoch(epoch)
        (batch,) = loader
        assert batch["epoch"].tolist() == [epoch] * N
        seen.append(batch["frame"])
    assert torch.equal(seen[0], seen[2]) and not torch.equal(seen[0], seen[1])


def test_a_loader_counts_epochs_by_itself(master):
    data = frames(master)
    loader = data.loader(2, num_workers=1, persistent_workers=True, indices=[0, 2, 3])
    passes = [list(loader) for _ in range(2)]
    for epoch, batches in enumerate(passes):
        assert sorted(int(i) for batch in batches for i in batch["index"]) == [0, 2, 3]
        for batch in batches:
            for frame, index in zip(batch["frame"], batch["index"].tolist(), strict=True):
                assert torch.equal(frame, data[epoch, index]["frame"])
    orders = {tuple(int(i) for batch in data.loader(1) for i in batch["index"]) for _ in range(2)}
    assert len(orders) == 1  # by seed and epoch
    loader = data.loader(1)
    assert len({tuple(int(batch["index"]) for batch in loader) for _ in range(6)}) > 1


def test_new_noise_in_every_epoch_has_the_mean_and_variance_of_poisson(master):
    data, photons = frames(master, truth=None, threads=1), photons_of(master)[0]
    epochs = 200
    drawn = np.stack([data[epoch, 0]["frame"].numpy() for epoch in range(epochs)])
    lit = photons > 0.5
    assert lit.sum() > 100
    mean, variance = drawn.mean(0)[lit], drawn.var(0, ddof=1)[lit]
    expected = photons[lit].astype(np.float64)
    # Standardised means are normal; of the variances, sums over pixels: both within five standard deviations.
    assert (abs(mean - expected) / np.sqrt(expected / epochs)).max() < 5.5
    spread = np.sqrt((expected + 2 * expected**2) / epochs)  # of one pixel's variance: fourth moment of Poisson
    assert abs((variance - expected).sum()) < 5 * np.sqrt((spread**2).sum())
    # Neither neighbouring epochs nor neighbouring frames are alike.
    residual = (drawn[:, lit] - expected) / np.sqrt(expected)
    assert abs((residual[1:] * residual[:-1]).mean()) < 5 / np.sqrt(residual[1:].size)


def test_epoch_0_is_what_the_noise_command_draws(master, tmp_path, capsys):
    words = [
        "noise",
        str(master),
        "-o",
        str(tmp_path / "c.h5"),
        "--response",
        "jungfrau",
        "--seed",
        "9",
        "--scale",
        "3",
    ]
    assert main(words) == 0
    capsys.readouterr()
    data = frames(master, truth="photons", response="jungfrau", seed=9, scale=3, dtype=torch.int64)
    wanted = photons_of(tmp_path / "c.h5")
    assert all(np.array_equal(data[index]["frame"], wanted[index]) for index in range(N))
    assert np.allclose(data[1]["photons"], 3 * photons_of(master)[1])
    other = data[1, 1]["frame"]
    assert not np.array_equal(other, wanted[1])
    assert np.array_equal(other, frames(master, response={"preset": "jungfrau"}, seed=9, scale=3)[1, 1]["frame"])


def test_photons_without_noise(master):
    data = frames(master, counts="none", truth=None, dtype=torch.float64, scale=0.5)
    assert np.array_equal(data[2]["frame"], photons_of(master)[2] * np.float32(0.5))
    assert torch.equal(data[2]["frame"], data[1, 2]["frame"])


def test_a_series_own_seeds_count(tmp_path):
    table = {"orientation": stills(2).frames["orientation"], "seed": [11, 12]}
    data = frames(Series(stills(2).experiment, table), truth="photons")
    for index, seed in enumerate((11, 12)):
        assert np.array_equal(data[index]["frame"], poisson(data[index]["photons"].numpy(), seed, index))
    assert np.array_equal(
        frames(data.series, truth="photons", seed=3)[1]["frame"], poisson(data[1]["photons"].numpy(), 3, 1)
    )


def test_a_background_is_scaled_from_file_and_rendered(tmp_path):
    series = stills(2, backgrounds=(Background(material="water", thickness_mm=0.5),))
    series.write(tmp_path / "s", exports=False)
    plain = photons_of(tmp_path / "s_master.h5")
    for source in (tmp_path / "s_master.h5", series):
        options = {"counts": "none", "truth": None}
        without = frames(source, background=0, **options)[1]["frame"].numpy()
        twice = frames(source, background=2, **options)[1]["frame"].numpy()
        water = twice - plain[1]
        assert water.min() > 0
        assert np.allclose(without, plain[1] - water, atol=1e-3 * plain[1].max())
    with pytest.raises(InputError, match="Frames.background needs frames with a background"):
        frames(stills(1), background=0.5)


def test_windows_are_cut_from_the_frame_with_its_truth(master):
    data, whole = frames(master, truth=("spots", "labels")), frames(master, truth=("spots", "labels"))
    fixed = frames(master, truth=("spots", "labels"), crop=(20, 119, 10, 69))[1]
    assert fixed["frame"].shape == (60, 100) and fixed["corner"].tolist() == [10, 20]
    assert torch.equal(fixed["frame"], whole[1]["frame"][10:70, 20:120])
    old, new = whole[1]["labels"][10:70, 20:120], fixed["labels"]
    assert torch.equal(old < 0, new < 0) and int(new.max()) >= 2
    lit = old >= 0
    assert torch.equal(whole[1]["spots"]["hkl"][old[lit]], fixed["spots"]["hkl"][new[lit]])
    shift = torch.tensor([10.0, 20.0])
    assert torch.allclose(whole[1]["spots"]["position"][old[lit]] - shift, fixed["spots"]["position"][new[lit]])
    windows = frames(master, truth="spots", crop=[30, 40])
    corners = {tuple(windows[epoch, 1]["corner"].tolist()) for epoch in range(4)}
    assert len(corners) > 1
    for epoch in range(4):
        sample = windows[epoch, 1]
        slow, fast = sample["corner"].tolist()
        assert torch.equal(sample["frame"], data[epoch, 1]["frame"][slow : slow + 30, fast : fast + 40])
        position = sample["spots"]["position"]
        assert ((position >= 0) & (position < torch.tensor([30.0, 40.0]))).all()


def test_batches_join_the_tables_of_spots(master):
    from bragg_numba.torch import collate

    data = frames(master, truth=("spots", "labels", "crystal"))
    batch = collate([data[index] for index in (3, 0)])
    assert batch["frame"].shape == (2, 91, 163) and batch["crystal"]["cell"].shape == (2, 6)
    first = batch["spots"]["first"].tolist()
    assert first[0] == 0 and first[2] == len(batch["spots"]["hkl"]) == len(batch["spots"]["sample"])
    for place, index in enumerate((3, 0)):
        rows = slice(first[place], first[place + 1])
        assert torch.equal(batch["spots"]["hkl"][rows], data[index]["spots"]["hkl"])
        assert (batch["spots"]["sample"][rows] == place).all()
    assert collate([torch.zeros(2), torch.ones(2)]).shape == (2, 2)  # what a transform made of samples


def test_a_transform_has_the_last_word(master):
    data = frames(
        master, truth="labels", transform=lambda sample: (sample["frame"].log1p()[None], sample["labels"] >= 0)
    )
    picture, mask = data[0]
    assert picture.shape == (1, 91, 163) and mask.any()
    pictures, _ = next(iter(data.loader(3)))
    assert pictures.shape == (3, 1, 91, 163)


def test_a_higher_threshold_leaves_spots_out_and_a_lower_one_renders_them(master):
    high, file, low = (frames(master, truth=("spots", "labels"), threshold=t)[1] for t in (30.0, None, 0.05))
    n = [len(one["spots"]["photons"]) for one in (high, file, low)]
    assert n[0] < n[1] < n[2]
    assert float(high["spots"]["photons"].min()) >= 30.0 and int(high["labels"].max()) < n[0]
    assert torch.equal(high["frame"], low["frame"])
    both = (high["labels"] >= 0) & (file["labels"] >= 0)
    assert torch.equal(high["spots"]["hkl"][high["labels"][both]], file["spots"]["hkl"][file["labels"][both]])


def test_one_experiment_and_a_plan_are_series_too(tmp_path):
    series = stills(2)
    assert len(frames(series.experiment)) == 1
    series.save(tmp_path / "plan.json", {"prefix": "s", "seed": 5})
    data = frames(str(tmp_path / "plan.json"), truth="photons")
    assert np.array_equal(data[1]["frame"], poisson(data[1]["photons"].numpy(), 5, 1))


def test_copies_open_files_of_their_own(master):
    data = frames(master, truth=None)
    first = data[0]["frame"]
    for other in (copy.deepcopy(data), pickle.loads(pickle.dumps(data))):
        assert torch.equal(other[0]["frame"], first)


def test_every_frame_is_passed_by_a_loop_and_others_are_none(master):
    data = frames(master, truth=None)
    assert [int(sample["index"]) for sample in data] == list(range(N))
    assert int(data[-1]["index"]) == N - 1
    for beyond in (N, -N - 1):
        with pytest.raises(IndexError, match=f"must lie between 0 and {N - 1}"):
            data[beyond]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"truth": "spot"}, "Frames.truth must be one of .*did you mean 'spots'"),
        ({"seed": -1}, "Frames.seed must be a whole number from 0"),
        ({"response": "film"}, "rayonix"),
        ({"response": "jungfrau", "counts": "none"}, "needs counts"),
        ({"scale": -1}, "scale"),
        ({"background": "x"}, "Frames.background must be a number"),
        ({"crop": 5}, "Frames.crop must be"),
        ({"crop": (200, 10)}, r"Frames.crop\[0\] must lie between 1 and 91"),
        ({"crop": (5, 4, 0, 3)}, "lowest pixels before"),
        ({"crop": (0, 163, 0, 3)}, r"Frames.crop\[1\] must lie between 0 and 162"),
        ({"dtype": torch.float16}, "Frames.dtype must be one of"),
        ({"dtype": "float32"}, "Frames.dtype must be one of"),
        ({"dtype": torch.int32, "counts": "none"}, "float32 or float64"),
        ({"transform": 3}, "Frames.transform must be a function"),
        ({"threshold": 0}, "Frames.threshold must lie"),
        ({"threads": 0}, "Frames.threads must lie"),
        ({"counts": "uint8"}, "counts must be one of"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(master, options, said):
    with pytest.raises(InputError, match=said):
        frames(master, **options)


def test_other_things_than_photons_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match="must be a Series, an Experiment, or the name"):
        frames(3)
    with pytest.raises(InputError, match="missing.h5"):
        frames(tmp_path / "missing.h5")
    stills(1).write(tmp_path / "c", photons=False, counts="uint16", exports=False)
    with pytest.raises(InputError, match="holds uint16, not float32 photons"):
        frames(tmp_path / "c_master.h5")
    with pytest.raises(InputError, match="part of a series: name the master"):
        frames(folder / "l_data_000001.h5")
    with pytest.raises(InputError, match="Frames.epoch must be a whole number"):
        frames(stills(1)).set_epoch(-1)
    with pytest.raises(InputError, match="must be a frame's number"):
        frames(stills(1))["0"]
    with pytest.raises(InputError, match="indices must be a whole number from 0 to 0"):
        frames(stills(1)).loader(indices=[1])
    curved = Experiment.from_nanobragg(WORDS + " -curved_det")
    with pytest.raises(InputError, match="Frames.truth cannot be made: a detector is curved"):
        frames(curved, truth="labels")


def test_the_example_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    code = page.split("```python")[1].split("```")[0]
    exec(compile(code, "training.md", "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3 and "torch.Size([4, 128, 128])" in said[1]


def test_a_file_that_has_changed_is_an_error_not_zeros(tmp_path):
    stills(3).write(tmp_path / "s", frames_per_file=1, exports=False)
    data = frames(tmp_path / "s_master.h5", truth=None)
    data[0]
    (tmp_path / "s_data_000002.h5").unlink()
    with pytest.raises(InputError, match="s_data_000002.h5"):
        data[1]
