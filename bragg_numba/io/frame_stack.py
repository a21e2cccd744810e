"""The frames of a dataset, whichever files they lie in.

HDF5 reads what it cannot find of a virtual dataset as the fill value: a file that is missing, may not be read, is cut
short, or is one too many for the limit of open files. Here the files are opened one at a time, each is verified, and
what is wrong with one of them is an error that names it.
"""

from __future__ import annotations

import bisect
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.hdf5 import BROKEN, FOREIGN, BadFile, open_hdf5, reading

#: Attribute of a data file that says which frames of which series it holds.
DIGEST = "bragg_numba_digest"

#: Where a master keeps the digests of its data files, in their order.
DIGESTS = "/entry/process/data_digests"

#: First and last index along an axis, both included.
Bounds = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a dataset of another file has to be; None: anything."""

    dataset: str
    shape: tuple[int, ...] | None = None
    dtype: np.dtype | None = None
    digest: str | None = None  #: of the file, under ``DIGEST``


@contextmanager
def verified(path, wanted: Wanted) -> Iterator[Any]:
    """Open a file whose dataset is as wanted and whole.

    Yields
    ------
    h5py.File

    Raises
    ------
    BadFile
        If it is missing, may not be read, is broken, or is not the file that is wanted.
    """
    with open_verified(path, wanted) as file:
        yield file


def open_verified(path, wanted: Wanted):
    """Return the h5py.File that ``verified`` yields; it is the caller's to close."""
    file = open_hdf5(path)
    try:
        with reading(path):
            _verify(path, file, wanted)
    except BaseException:
        file.close()
        raise
    return file


def problem_of(path, wanted: Wanted) -> BadFile | None:
    """Return what is wrong with a file, if anything is."""
    try:
        with verified(path, wanted):
            return None
    except BadFile as problem:
        return problem


def _verify(path, file, wanted: Wanted) -> None:
    import h5py

    data = file.get(wanted.dataset)
    if not isinstance(data, h5py.Dataset):
        raise BadFile(path, f"has no {wanted.dataset}", FOREIGN)
    if (wanted.shape is not None and data.shape != wanted.shape) or (
        wanted.dtype is not None and data.dtype != wanted.dtype
    ):
        raise BadFile(path, f"holds {data.dtype} {data.shape}, not {wanted.dtype} {wanted.shape}", FOREIGN)
    if wanted.digest is not None and file.attrs.get(DIGEST) != wanted.digest:
        raise BadFile(path, "belongs to another series, to other frames of it, or to other output options", FOREIGN)
    problem = storage_problem(data)
    if problem:
        raise BadFile(path, problem, BROKEN)


def digests_of(file) -> tuple[str, ...]:
    """Return the digests of a master's data files, in their order; of any other HDF5 file none."""
    found = file.get(DIGESTS)
    return () if found is None else tuple(digest.decode("ascii") for digest in found[()])


def storage_problem(data) -> str:
    """What would make HDF5 invent pixels of a dataset that is not virtual, or an empty text."""
    if data.is_virtual or data.external:
        return "takes its frames from other files"
    if data.chunks is None:
        stored = data.id.get_storage_size() >= data.size * data.dtype.itemsize
    else:
        blocks = math.prod(-(-n // side) for n, side in zip(data.shape, data.chunks, strict=True))
        stored = data.id.get_num_chunks() == blocks
    return "" if stored else "lacks frames"


@dataclass(frozen=True, slots=True)
class _Piece:
    """A block of a virtual dataset and the block of another file that stands for it."""

    block: Bounds
    source: Bounds | None  #: None: the whole dataset
    paths: tuple[Path, ...]  #: where the file may lie; the first that is as wanted counts
    wanted: Wanted

    def read(self, path: Path, file, index: int, out: np.ndarray) -> None:
        """Read this piece's part of frame ``index`` into ``out`` (slow, fast)."""
        (first, *low), (last, *high) = self.block
        window = out[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))]
        data = file[self.wanted.dataset]
        start, stop = self.source or (tuple(0 for _ in data.shape), tuple(n - 1 for n in data.shape))
        lengths = tuple(b - a + 1 for a, b in zip(start, stop, strict=True))
        box = [slice(a, b + 1) for a, b in zip(start, stop, strict=True)]
        if lengths == (last - first + 1, *window.shape):
            box[0] = slice(start[0] + index - first, start[0] + index - first + 1)
        elif first != last or math.prod(lengths) != window.size:
            raise BadFile(path, f"holds {lengths} pixels where {window.shape} are wanted", FOREIGN)
        with reading(path):
            window[...] = data[tuple(box)].reshape(window.shape)


class FrameStack:
    """Frames (frame, slow, fast) of an open file, read one at a time; a dataset of two dimensions is one frame.

    Parameters
    ----------
    path
        The file's name, for the search of other files, and for errors.
    file
        The h5py.File.
    dataset
        Name of the dataset. In a master that knows the digests of its data files, these must hold whole frames of
        this shape and type and have those digests; in another file a virtual dataset is taken that is made of boxes.

    Raises
    ------
    InputError
        If there is no such dataset, or one that is pieced together in another way.
    """

    def __init__(self, path, file, dataset: str) -> None:
        import h5py

        self.path = Path(path)
        data = file.get(dataset)
        if not isinstance(data, h5py.Dataset):
            raise InputError(os.fspath(path), f"has no dataset {dataset}")
        if data.ndim not in (2, 3) or 0 in data.shape:
            raise InputError(f"{os.fspath(path)}::{dataset}", "must have two or three dimensions", data.shape)
        self._data = data
        self._flat = data.ndim == 2
        self.shape: tuple[int, int, int] = (1, *data.shape) if self._flat else data.shape
        self.dtype: np.dtype = data.dtype
        self.digests: tuple[str, ...] = ()
        self._open: tuple[Path, Any] | None = None
        self._pieces: list[_Piece] = []
        self._starts: list[int] = []  # first frame of each piece, where one after the other has all of some frames
        self._find(file)

    def _find(self, file) -> None:
        """Find out where the frames are."""
        if self._data.is_virtual:
            with reading(self.path):
                self.digests = digests_of(file)
                self._pieces = self._list_pieces()
                self._starts = [piece.block[0][0] for piece in self._pieces] if self.digests else []
        elif problem := storage_problem(self._data):
            raise BadFile(self.path, problem, BROKEN)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        return self.read(index)

    @property
    def names(self) -> list[str]:
        """Names of the other files that the frames lie in, in their order; where there are none, nothing."""
        return list(dict.fromkeys(piece.paths[0].name for piece in self._pieces))

    @property
    def paths(self) -> list[Path]:
        """Every place where a file of the frames may lie; the file itself comes first."""
        return [self.path, *dict.fromkeys(path for piece in self._pieces for path in piece.paths)]

    def read(self, index: int, out: np.ndarray | None = None) -> np.ndarray:
        """Read one frame, (slow, fast), into ``out`` or a new array.

        Raises
        ------
        BadFile
            If a file that holds a part of it is not as it should be.
        """
        out = np.empty(self.shape[1:], self.dtype) if out is None else out
        if not self._pieces:
            with reading(self.path):
                self._data.read_direct(out, () if self._flat else np.s_[index])
            return out
        here = self._holding(index)
        if sum(_size(piece.block) // (piece.block[1][0] - piece.block[0][0] + 1) for piece in here) < out.size:
            out[...] = self._data.fillvalue  # what is between modules
        for piece in here:
            path, file = self._opened(piece)
            piece.read(path, file, index, out)
        return out

    def beside(self, index: int, name: str) -> tuple[Path, Any]:
        """Return the file that holds frame ``index``, and a dataset of it; None where it has none of this name."""
        path, file = self.path, self._data.file
        for piece in self._holding(index):
            path, file = self._opened(piece)
        with reading(path):
            return path, file.get(name)

    def problems(self) -> list[BadFile]:
        """Return what is wrong with the other files, one problem a file that has one."""
        found: dict[str, BadFile] = {}
        for piece in self._pieces:
            try:
                self._opened(piece)
            except BadFile as problem:
                found.setdefault(problem.name, problem)
        return list(found.values())

    def check(self) -> None:
        """Raise the first problem; say how many there are."""
        problems = self.problems()
        if problems:
            first, more = problems[0], len(problems) - 1
            others = f"; {more} more data files are missing or bad" if more else ""
            raise BadFile(first.name, first.rule, first.kind, hint=f"a data file of {self.path}{others}")

    def close(self) -> None:
        """Close the other file that is open, if one is."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _holding(self, index: int) -> list[_Piece]:
        """The pieces that hold parts of a frame."""
        if self._starts:  # of thousands of data files each has whole frames
            place = bisect.bisect_right(self._starts, index) - 1
            return self._pieces[max(place, 0) : place + 1]
        return [piece for piece in self._pieces if piece.block[0][0] <= index <= piece.block[1][0]]

    def _opened(self, piece: _Piece) -> tuple[Path, Any]:
        """Return the verified file of a piece; one is open at a time."""
        if self._open is not None and self._open[0] in piece.paths:
            return self._open
        self.close()
        problems = []
        for path in piece.paths:
            try:
                self._open = (path, open_verified(path, piece.wanted))
                return self._open
            except BadFile as problem:
                problems.append(problem)
        # That a file is not in the second place either says less than what is wrong with the one in the first.
        raise next((one for one in problems if os.path.lexists(one.name)), problems[0])

    def _list_pieces(self) -> list[_Piece]:
        folders = folders_of(self.path)
        pieces = []
        for mapping in self._data.virtual_sources():
            block = self._bounds(mapping.vspace)
            if block is None:
                block = ((0, 0, 0), (self.shape[0] - 1, self.shape[1] - 1, self.shape[2] - 1))
            elif self._flat:
                block = ((0, *block[0]), (0, *block[1]))
            name = mapping.file_name.replace("%%", "%")
            paths = (self.path,) if name == "." else tuple(folder / name for folder in folders)
            pieces.append(_Piece(block, self._bounds(mapping.src_space), paths, Wanted(mapping.dset_name)))
        pieces.sort(key=lambda piece: piece.block)
        return self._data_files(pieces) if self.digests else pieces

    def _data_files(self, pieces: list[_Piece]) -> list[_Piece]:
        """Check that pieces are whole frames one after another; say what every file has to be."""
        n, n_slow, n_fast = self.shape
        found, start = [], 0
        for piece, digest in zip(pieces, self.digests, strict=False):
            (first, *low), (last, *high) = piece.block
            if (first, low, high) != (start, [0, 0], [n_slow - 1, n_fast - 1]):
                raise self._strange()
            start = last + 1
            shape = (start - first, n_slow, n_fast)
            if piece.source not in (None, ((0, 0, 0), tuple(side - 1 for side in shape))):
                raise self._strange()
            wanted = Wanted(piece.wanted.dataset, shape, self.dtype, digest)
            found.append(_Piece(piece.block, None, piece.paths, wanted))
        if start != n or not len(found) == len(pieces) == len(self.digests):
            raise self._strange()
        return found

    def _bounds(self, space) -> Bounds | None:
        """Return the corners of a selection that is a box; None for everything."""
        import h5py

        if space.get_select_type() == h5py.h5s.SEL_ALL:
            return None
        try:
            low, high = space.get_select_bounds()
            points = space.get_select_npoints()
        except (ValueError, RuntimeError):  # a selection without end
            raise self._strange() from None
        if points != _size((low, high)):
            raise self._strange()
        return low, high

    def _strange(self) -> InputError:
        return InputError(
            os.fspath(self.path), "pieces its frames together in a way that is not understood", hint=self._data.name
        )


def _size(bounds: Bounds) -> int:
    return math.prod(b - a + 1 for a, b in zip(*bounds, strict=True))


def escaped(name: str) -> str:
    """Return a file's name as virtual datasets have it: to HDF5 a single % there begins a pattern."""
    return name.replace("%", "%%")


def folders_of(path) -> list[Path]:
    """Folders in which the files beside ``path`` may lie: that of the file itself, then those of links to it."""
    at = Path(os.path.abspath(path))
    found = []
    while at.is_symlink():
        found.append(at.parent)
        at = at.parent / os.readlink(at)
    found.append(Path(os.path.realpath(at)).parent)
    return list(dict.fromkeys(reversed(found)))
