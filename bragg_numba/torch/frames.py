"""Frames of a series as a data set of PyTorch, with new noise in every epoch (docs/training.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate, get_worker_info

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.series.samples import Samples, keep_spots

#: What may be known of a frame, and which label images it takes.
TRUTHS: dict[str, tuple[str, ...]] = {
    "spots": (),
    "labels": ("spot",),
    "hkl": ("h", "k", "l"),
    "wavelength": ("wavelength_A",),
    "photons": (),
    "crystal": (),
}

#: Columns of the table of frames that ``crystal`` has.
_OF_CRYSTAL = (
    *("orientation", "reciprocal_per_A", "cell", "cell_counts", "phi_deg", "wavelength_A"),
    *("fluence_per_m2", "beam_center_px", "dose_MGy"),
)

#: Columns of the table of spots, one number a spot each.
_OF_SPOT = ("photons", "resolution_A", "partiality", "excitation_error_per_A", "panel", "lattice")

#: Types that hold what a detector says.
_DTYPES = {torch.float32: np.float32, torch.float64: np.float64, torch.int32: np.int32, torch.int64: np.int64}

#: Number of the stream that shuffles frames, and of that which places windows.
_SHUFFLE, _WINDOW = 1, 2


class NoSuchFrame(InputError, IndexError):
    """A frame beyond the last one: also what ends a loop over all."""


class Frames(Dataset):
    """Frames of a series, each with the noise of its epoch and with the truth about it.

    A sample is a dict of tensors: ``frame`` (slow, fast), ``index``, ``epoch``, ``corner`` (slow, fast: the frame's
    pixel that is the first of the window), and what ``truth`` asks for. It follows from seed, epoch and frame alone,
    whatever the number of workers and their order. In epoch 0 counts are those that ``bragg-numba noise`` draws.

    Parameters
    ----------
    series
        A master or frame of photons, a plan of JSON, a ``Series``, or an ``Experiment``. What is not in a file is
        rendered whenever it is wanted.
    truth
        One or several of ``"spots"``, the table of spots: a dict of ``hkl`` (n, 3), ``position`` (n, 2) along slow and
        fast, pixel p from p to p + 1, ``photons``, ``resolution_A``, ``partiality``, ``excitation_error_per_A``,
        ``panel`` and ``lattice``; ``"labels"``, int64 (slow, fast): the row of that table that brings a pixel most
        photons, -1: none; ``"hkl"`` (3, slow, fast) and ``"wavelength"`` (slow, fast): means over a pixel's Bragg
        photons, NaN where it has none; ``"photons"`` (slow, fast): those that were expected, times the scale;
        ``"crystal"``: a dict of the frame's orientation, reciprocal vectors, cell, wavelength and so on. None: nothing.
        Real numbers are float32, whole ones int64.
    seed
        Of the noise; None: that of the series.
    response
        The detector: a preset's name, fields or a ``Response`` (docs/response.md). None: Poisson counts.
    counts
        ``"uint16"`` or ``"uint32"``: where counts end. None: what the response needs, or uint16. ``"none"``: frames are
        expected photons, without noise.
    scale, background
        Photons are multiplied by these before noise: all of them, and those that are not Bragg scattering.
    threshold
        Photons below which a spot is no part of the truth; None: as the series was written.
    crop
        (slow, fast) pixels of a window that lies elsewhere in each epoch, or where it always lies: (fast_min, fast_max,
        slow_min, slow_max), inclusive. Spots are then those with their middle in the window, and with ``"labels"`` also
        those with a pixel there; positions count from its corner.
    transform
        Called with a sample; what it returns takes its place.
    dtype
        Of ``frame``: float32 (whole up to 2^24), float64, int32 or int64.
    backend
        Of what is rendered. The CPU's by default, for a worker that is forked cannot use a GPU that its parent uses.
    precision
        Of what is rendered; None: as the series was written.
    threads
        CPU threads; None: all, in a worker its share of them.

    Raises
    ------
    InputError
        If an argument cannot be honoured, or the file holds counts, in which the noise is for good.

    Examples
    --------
    >>> from bragg_numba.torch import Frames  # doctest: +SKIP
    >>> frames = Frames("run7/s_photons/s_master.h5", truth=("spots", "labels"))  # doctest: +SKIP
    >>> for batch in frames.loader(batch_size=8, num_workers=2):  # doctest: +SKIP
    ...     learn(batch["frame"], batch["labels"])
    """

    def __init__(
        self,
        series,
        *,
        truth: str | Iterable[str] | None = "spots",
        seed: int | None = None,
        response=None,
        counts: str | None = None,
        scale: float = 1.0,
        background: float = 1.0,
        threshold: float | None = None,
        crop: Sequence[int] | None = None,
        transform: Callable[[dict], Any] | None = None,
        dtype: torch.dtype = torch.float32,
        backend: str = "cpu",
        precision: str | None = None,
        threads: int | None = None,
    ) -> None:
        names = (truth,) if isinstance(truth, str) else tuple(truth or ())
        self.truth = tuple(check.choice("Frames.truth", one, tuple(TRUTHS)) for one in names)
        if dtype not in _DTYPES:
            raise InputError("Frames.dtype", f"must be one of {', '.join(map(str, _DTYPES))}", dtype)
        if counts == "none" and not dtype.is_floating_point:
            raise InputError("Frames.dtype", "must be float32 or float64 for photons without noise", dtype)
        if transform is not None and not callable(transform):
            raise InputError("Frames.transform", "must be a function of a sample", transform)
        self._dtype, self._transform = dtype, transform
        self._threads = check.optional(check.count, "Frames.threads", threads, low=1)
        self._samples = Samples(
            series,
            seed=seed,
            counts=counts,
            response=response,
            scale=scale,
            background=background,
            spots="spots" in self.truth or "labels" in self.truth,
            labels=tuple(label for one in self.truth for label in TRUTHS[one]),
            threshold=threshold,
            backend=backend,
            precision=precision,
            name="Frames",
        )
        self._scale = np.float32(scale)
        self._crop = None if crop is None else _checked_crop(crop, self._samples.shape)
        # Shared with workers, also with those that live on from one epoch to the next.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self._samples)

    def __repr__(self) -> str:
        n_slow, n_fast = self._samples.shape
        return f"<Frames: {len(self)} of {n_fast} x {n_slow} pixels (fast x slow), epoch {self.epoch}>"

    @property
    def series(self):
        """The series that the frames are of."""
        return self._samples.series

    @property
    def epoch(self) -> int:
        """Which noise ``frames[index]`` has."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Let ``frames[index]`` have the noise of this epoch, from 0, in workers too; not while a loader is at work."""
        self._epoch.fill_(check.whole_number("Frames.epoch", epoch, 0, 2**63 - 1))

    def __getitem__(self, key: int | tuple[int, int]) -> Any:
        """Return a sample: of a frame, in the epoch that was set, or of (epoch, frame)."""
        epoch, index = key if isinstance(key, tuple) and len(key) == 2 else (self.epoch, key)
        n = len(self)
        try:
            index = check.whole_number("Frames[index]", index, -(2**63), 2**63)
        except InputError as error:
            raise InputError("Frames[index]", "must be a frame's number, or (epoch, number)", key) from error
        if not -n <= index < n:
            raise NoSuchFrame("Frames[index]", f"must lie between 0 and {n - 1}", index)
        epoch = check.whole_number("Frames.epoch", epoch, 0, 2**63 - 1)
        sample = self._sample(index % n, epoch)
        return sample if self._transform is None else self._transform(sample)

    def _sample(self, index: int, epoch: int) -> dict[str, Any]:
        taken = self._samples.take(index, epoch, self._thread_count())
        window, corner = self._window(index, epoch)
        frame = (taken.photons if taken.counts is None else taken.counts)[window]
        if taken.counts is None:
            frame = frame * self._scale
        sample: dict[str, Any] = {
            "frame": torch.from_numpy(frame.astype(_DTYPES[self._dtype])),
            "index": torch.tensor(index),
            "epoch": torch.tensor(epoch),
            "corner": torch.tensor(corner),
        }
        spots, images = taken.spots, {name: image[window] for name, image in taken.labels.items()}
        if spots is not None:
            if self._crop is not None:
                kept = _within(spots, images.get("spot"), corner, frame.shape)
                spots, images = keep_spots(spots, images, kept)
            if "spots" in self.truth:
                sample["spots"] = _spot_tensors(spots, corner)
        if "labels" in self.truth:
            sample["labels"] = _tensor(images["spot"])
        if "hkl" in self.truth:
            sample["hkl"] = _tensor(np.stack([images[name] for name in TRUTHS["hkl"]]))
        if "wavelength" in self.truth:
            sample["wavelength"] = _tensor(images["wavelength_A"])
        if "photons" in self.truth:
            sample["photons"] = _tensor(taken.photons[window] * self._scale)
        if "crystal" in self.truth:
            known = taken.record.dtype.names or ()
            sample["crystal"] = {name: _tensor(taken.record[name]) for name in _OF_CRYSTAL if name in known}
        return sample

    def _window(self, index: int, epoch: int) -> tuple[tuple[slice, slice], tuple[int, int]]:
        """Where a sample is cut from its frame, and the (slow, fast) corner of that."""
        shape = self._samples.shape
        if self._crop is None:
            return (slice(None), slice(None)), (0, 0)
        if len(self._crop) == 4:
            fast_min, fast_max, slow_min, slow_max = self._crop
            return (slice(slow_min, slow_max + 1), slice(fast_min, fast_max + 1)), (slow_min, fast_min)
        generator = np.random.default_rng([_WINDOW, self._samples.seed, epoch, index])
        slow, fast = (int(generator.integers(n - m + 1)) for n, m in zip(shape, self._crop, strict=True))
        return (slice(slow, slow + self._crop[0]), slice(fast, fast + self._crop[1])), (slow, fast)

    def _thread_count(self) -> int | None:
        worker = get_worker_info()
        if self._threads is not None or worker is None:
            return self._threads
        import numba

        return max(1, numba.config.NUMBA_NUM_THREADS // worker.num_workers)

    def loader(
        self, batch_size: int | None = 1, *, shuffle: bool = True, indices: Iterable[int] | None = None, **options: Any
    ) -> DataLoader:
        """Return a loader whose every pass over the frames is an epoch of its own, the first that which is set.

        Parameters
        ----------
        batch_size, options
            As ``torch.utils.data.DataLoader`` takes them; samples are put together by ``collate``.
        shuffle
            Whether the order differs between epochs; it follows from seed and epoch.
        indices
            Which frames; None: all.
        """
        options = {"collate_fn": None if batch_size is None else collate, **options}
        return DataLoader(self, batch_size, sampler=EpochSampler(self, shuffle=shuffle, indices=indices), **options)


class EpochSampler(Sampler):
    """(epoch, frame) for each frame once a pass, in an order of the epoch; the next pass is the next epoch.

    The epoch goes along with each number, so that workers cannot mistake it however far ahead they are.

    Parameters
    ----------
    frames
        The ``Frames`` that are sampled; the first epoch is theirs.
    shuffle
        Whether frames come in an order that follows from seed and epoch, or one after another.
    indices
        Which frames; None: all.
    """

    def __init__(self, frames: Frames, *, shuffle: bool = True, indices: Iterable[int] | None = None) -> None:
        n = len(frames)
        chosen = range(n) if indices is None else indices
        self._indices = np.array([check.whole_number("indices", one, 0, n - 1) for one in chosen], dtype=np.int64)
        self._shuffle, self._seed = check.flag("shuffle", shuffle), frames._samples.seed
        self.epoch = frames.epoch

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, order = self.epoch, self._indices
        self.epoch += 1
        if self._shuffle:
            order = np.random.default_rng([_SHUFFLE, self._seed, epoch]).permutation(order)
        yield from ((epoch, index) for index in order.tolist())

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be this epoch, from 0: to go on where an earlier run ended."""
        self.epoch = check.whole_number("epoch", epoch, 0, 2**63 - 1)


def collate(samples: Sequence[Any]) -> Any:
    """Put samples together: tensors are stacked, tables of spots, which differ in length, joined.

    ``spots`` of a batch has all rows, frame after frame: column ``sample`` says which of the batch's frames a row is
    of, and ``first`` (samples + 1) where each frame's rows begin, so that row ``labels[i]`` of frame i is row
    ``first[i] + labels[i]`` here.
    """
    if not all(isinstance(one, Mapping) and isinstance(one.get("spots"), Mapping) for one in samples):
        return default_collate(samples)
    rest = default_collate([{name: value for name, value in one.items() if name != "spots"} for one in samples])
    tables = [one["spots"] for one in samples]
    joined = {name: torch.cat([table[name] for table in tables]) for name in tables[0]}
    lengths = torch.tensor([len(table["hkl"]) for table in tables])
    joined["sample"] = torch.repeat_interleave(torch.arange(len(tables)), lengths)
    joined["first"] = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    return {**rest, "spots": joined}


def _checked_crop(crop: Sequence[int], shape: tuple[int, int]) -> tuple[int, ...]:
    """A window's size (slow, fast), or its bounds (fast_min, fast_max, slow_min, slow_max), within a frame."""
    name, (n_slow, n_fast) = "Frames.crop", shape
    if isinstance(crop, (str, bytes)) or not isinstance(crop, Sequence) or len(crop) not in (2, 4):
        raise InputError(name, "must be (slow, fast) pixels or (fast_min, fast_max, slow_min, slow_max)", crop)
    if len(crop) == 2:
        return tuple(check.count(f"{name}[{axis}]", crop[axis], low=1, high=shape[axis]) for axis in range(2))
    sides = (n_fast, n_fast, n_slow, n_slow)
    bounds = tuple(check.count(f"{name}[{i}]", crop[i], low=0, high=sides[i] - 1) for i in range(4))
    if bounds[0] > bounds[1] or bounds[2] > bounds[3]:
        raise InputError(name, "must name its lowest pixels before its highest", crop)
    return bounds


def _within(spots: np.ndarray, owners: np.ndarray | None, corner: tuple[int, int], size: tuple[int, ...]) -> np.ndarray:
    """Which spots are of a window: whose middle lies there, or whom a label image of it names."""
    inside = np.ones(len(spots), dtype=bool)
    for axis, start, length in zip(("slow", "fast"), corner, size, strict=True):
        inside &= (spots[axis] >= start) & (spots[axis] < start + length)
    if owners is not None:
        inside[np.unique(owners[owners >= 0])] = True
    return inside


def _spot_tensors(spots: np.ndarray, corner: tuple[int, int]) -> dict[str, torch.Tensor]:
    middle = np.stack([spots["slow"] - corner[0], spots["fast"] - corner[1]], axis=1)
    indices = np.stack([spots[axis] for axis in "hkl"], axis=1)
    return {
        "hkl": _tensor(indices),
        "position": _tensor(middle),
        **{name: _tensor(spots[name]) for name in _OF_SPOT},
    }


def _tensor(values: np.ndarray) -> torch.Tensor:
    """Real numbers as float32, whole ones as int64."""
    values = np.asarray(values)
    return torch.from_numpy(np.array(values, dtype=np.float32 if values.dtype.kind == "f" else np.int64))
