"""Frames of a series for whoever learns from them: any of them, in any order and process, with noise of each epoch."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.experiment import Experiment
from bragg_numba.io.text_files import json_text
from bragg_numba.plan.plan import make_plan
from bragg_numba.render.labels import require_labels
from bragg_numba.series import truth
from bragg_numba.series.background import BackgroundReader
from bragg_numba.series.noise import Noise, scale_background
from bragg_numba.series.opened import Source, opened
from bragg_numba.series.options import OutputOptions, type_of_counts
from bragg_numba.series.pipeline import Renderer, Slot
from bragg_numba.series.series import Series, load_plan
from bragg_numba.series.series_plan import SeriesPlan
from bragg_numba.series.source import open_source
from bragg_numba.threads import threads


@dataclass(frozen=True, slots=True)
class Sample:
    """One frame of a series in one epoch, and the truth about it; images are (slow, fast)."""

    photons: np.ndarray  #: float32: expected photons, without the scale
    counts: np.ndarray | None  #: uint16 or uint32: what was drawn from them; None where no counts are wanted
    record: np.ndarray  #: its row of the table of frames, ``truth.FRAME``
    spots: np.ndarray | None  #: (n,) ``predict.spots.SPOT``
    labels: dict[str, np.ndarray]  #: label images by name, ``truth.LABELS``; ``spot`` is a row of ``spots``


#: A frame's row of the table of frames, its spots and its label images.
_Truth = tuple[np.ndarray, np.ndarray | None, dict[str, np.ndarray]]


class Samples:
    """Frames of a series one at a time: read from its file, or rendered where there is none.

    What a sample is follows from seed, epoch and frame, whichever process takes it and in whatever order. A copy, or
    what another process gets, opens files of its own; none is open while a process forks.

    Parameters
    ----------
    source
        A master or frame of photons, a plan of JSON, a ``Series`` or an ``Experiment``, which is a series of one frame.
    seed
        Of the noise; None: that of the series.
    counts, response, scale
        As ``bragg-numba noise`` takes them; counts ``"none"``: expected photons alone.
    background
        The part of the photons that is not Bragg scattering is multiplied by it.
    spots
        Whether samples have the table of spots; from the file where it has one of this threshold, else from rendering.
    labels
        Names of the label images that samples have; likewise. They need the spots.
    threshold
        Photons below which a spot is left out; None: that of the file, or of the plan, else 1.
    backend, precision
        Of what is rendered; precision None: that of the file or of the plan.
    name
        What errors call the object whose arguments these are.

    Raises
    ------
    InputError
        If the file is none of photons, or an argument cannot be honoured.
    """

    _source: Source | None
    _layers: BackgroundReader | None
    _renderer: Renderer | None

    def __init__(
        self,
        source,
        *,
        seed: int | None = None,
        counts: str | None = None,
        response=None,
        scale: float = 1.0,
        background: float = 1.0,
        spots: bool = True,
        labels: tuple[str, ...] = (),
        threshold: float | None = None,
        backend: str = "cpu",
        precision: str | None = None,
        name: str = "Samples",
    ) -> None:
        self._path, self.series, written = _found(name, source)
        self._seed = None if seed is None else check.whole_number(f"{name}.seed", seed, 0, 2**64 - 1)
        self._background = check.number(f"{name}.background", background, low=0.0, high=1e30)
        self._draws = counts != "none"
        counts = type_of_counts(counts, response)
        least = check.number(f"{name}.threshold", threshold, low=1e-30, high=1e30) if threshold is not None else None
        given: dict[str, Any] = {"precision": precision, "spot_threshold": least}
        kept = {key: written[key] for key in (*given, "seed") if key in written}
        kept |= {key: value for key, value in given.items() if value is not None}
        options = OutputOptions(counts=counts, response=response, scale=scale, backend=backend, **kept)
        self._options = options
        self._spots, self._labels = spots or bool(labels), tuple(labels)
        self._lock = threading.RLock()
        self._noise = Noise(self.series, options, self._seed) if self._draws else None
        self._least_in_file = float(written.get("spot_threshold", 1.0))
        self._renders_truth = False
        self._begin()
        if self._path is not None:
            with self._lock:
                self._renders_truth = self._has_less_than_wanted(self._opened())
        if self._labels and (self._path is None or self._renders_truth):
            require_labels(f"{name}.truth", make_plan(self.series.experiment_of(0)))
        if self._background != 1.0:
            with self._lock:
                self._reader(f"{name}.background")

    def __len__(self) -> int:
        return len(self.series)

    @property
    def shape(self) -> tuple[int, int]:
        """(slow, fast) pixels of every frame."""
        return self.series.experiment.detector.shape

    @property
    def seed(self) -> int:
        """The seed of frames that have none of their own."""
        return self._options.seed if self._seed is None else self._seed

    def take(self, index: int, epoch: int = 0, thread_count: int | None = None) -> Sample:
        """Make a sample of one frame, 0 to ``len`` - 1; ``thread_count``: CPU threads, None: as numba has it.

        Raises
        ------
        InputError
            If the file cannot be read any more, or is not what its truth was written for.
        """
        with self._lock, threads(thread_count):
            slot = Slot(self.shape, self._options.products)
            record, spots, labels = self._fill(index, slot)
            if self._background != 1.0:
                scale_background(slot.photons, self._reader().of(index), self._background)
            if self._noise is not None:
                drawn = self._noise.draw(slot.photons, slot.counts, index, epoch)
                record["noise_seed"], record["overloads"] = self._noise.seed(index, epoch), drawn.overloads
            return Sample(slot.photons, slot.counts if self._draws else None, record, spots, labels)

    def _fill(self, index: int, slot: Slot) -> _Truth:
        """Put the expected photons of a frame into a slot; return its row, its spots and its label images."""
        if self._path is None or self._renders_truth:
            record, spots, labels = self._render(index, slot)
            if self._path is not None:
                self._opened().frame(index, slot.photons)
            return record, spots, labels
        source = self._opened()
        source.frame(index, slot.photons)
        row, spots = source.truth(index)
        if row is None:
            record = truth.frame_record(make_plan(self.series.experiment_of(index)), self.series.number_of(index))
        else:
            record = np.array(row)
        found = source.labels(index, self._labels) if self._labels else {}
        if found is None:
            raise InputError(os.fspath(source.path), f"lacks label images of frame {index}")
        if spots is None or self._options.spot_threshold == self._least_in_file:
            return record, spots, found
        return record, *keep_spots(spots, found, spots["photons"] >= self._options.spot_threshold)

    def _render(self, index: int, slot: Slot) -> _Truth:
        renderer = self._renderer = self._renderer or Renderer(self.series, replace(self._options, response=None))
        plan = renderer.plan(index)
        record = truth.frame_record(plan, self.series.number_of(index))
        simulator = renderer.render(plan, slot.photons)
        found = renderer.sum_photons(slot)
        record["engine"], record["truth"] = simulator.engine, simulator.truth
        record["max_photons"], record["sum_photons"] = found.most, found.photons
        threshold, spots, labels = self._options.spot_threshold, None, {}
        if self._spots:
            spots = simulator.spot_table(threshold)
            record["spots"] = len(spots)
        if self._labels:
            images = renderer.label(simulator, threshold)
            labels = {name: images[name] for name in self._labels}
        return record, spots, labels

    def _has_less_than_wanted(self, source: Source) -> bool:
        if source.dtype != "float32":
            hint = "photons that were written besides lie in PREFIX_photons; Series.load(master) is rendered again"
            raise InputError(os.fspath(source.path), f"holds {source.dtype}, not float32 photons", hint=hint)
        lacks = not source.has_spots or self._options.spot_threshold < self._least_in_file
        return (self._spots and lacks) or (bool(self._labels) and source.labels(0, ("spot",)) is None)

    # --- what is of one process

    def _begin(self) -> None:
        self._files = ExitStack()
        self._source = self._layers = self._renderer = None
        _OPEN.add(self)

    def _opened(self) -> Source:
        if self._source is None:
            assert self._path is not None
            self._source = self._files.enter_context(opened(self._path, self.series, {}))
        return self._source

    def _reader(self, name: str = "background") -> BackgroundReader:
        if self._layers is None:
            file = None if self._path is None else self._opened().file
            self._layers = BackgroundReader(file, self.series, name=name)
        return self._layers

    def close(self) -> None:
        """Close what files are open; they are opened again where they are wanted."""
        with self._lock:
            self._files.close()
            self._source = self._layers = None

    def __getstate__(self) -> dict[str, Any]:
        of_process = ("_lock", "_files", "_source", "_layers", "_renderer")
        return {name: value for name, value in self.__dict__.items() if name not in of_process}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()
        self._begin()


def keep_spots(
    spots: np.ndarray, labels: dict[str, np.ndarray], kept: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return some rows of a table of spots, and the label images whose ``spot`` counts these; -1: one of the others."""
    if "spot" not in labels:
        return spots[kept], labels
    new = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1).astype(np.int32)  # the last is that of -1
    return spots[kept], {**labels, "spot": new[labels["spot"]]}


def _found(name: str, source) -> tuple[Path | None, SeriesPlan, dict]:
    """The file that holds the photons, if one does; its series; the options that are known of it."""
    if isinstance(source, SeriesPlan):
        return None, source, {}
    if isinstance(source, Experiment):
        return None, Series(source, {"phi_deg": [source.rotation.phi_deg]}), {}
    if not isinstance(source, (str, os.PathLike)):
        rule = "must be a Series, an Experiment, or the name of a master or a plan"
        raise InputError(f"{name}.series", rule, type(source).__name__)
    path = Path(source)
    if json_text(path) is not None:
        return None, *load_plan(path)
    with open_source(path) as found:
        return path.absolute(), found.series, found.output


#: All that may have files open.
_OPEN: WeakSet[Samples] = WeakSet()
_HELD: list[Samples] = []


def _begin_fork() -> None:
    # A descriptor that two processes share has one position, and HDF5 opens no file anew that it believes to be open.
    for one in list(_OPEN):
        one._lock.acquire()
        one.close()
        _HELD.append(one)


def _end_fork() -> None:
    while _HELD:
        _HELD.pop()._lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_begin_fork, after_in_parent=_end_fork, after_in_child=_end_fork)
