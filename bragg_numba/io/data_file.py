"""Files of frames that grow one frame at a time and take their own name when they are whole."""

from __future__ import annotations

import os
import re
import secrets
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.atomic import keep_mode, require_replaceable
from bragg_numba.io.attributes import set_attributes
from bragg_numba.io.compression import Codec
from bragg_numba.io.locks import lock_hint

DATA = "/entry/data/data"

#: End of the names of files that are not whole.
PART = ".part"


class PartFile:
    """A file under a temporary name in its own folder, until ``publish``.

    The name holds process and chance, so that two workers that were given the same job cannot meet.

    Raises
    ------
    InputError
        If ``path`` exists and must not be replaced: a folder, a device, a file that is write-protected.
    """

    def __init__(self, path) -> None:
        self.path = Path(path)
        require_replaceable(self.path)
        self.part = self.path.with_name(f"{self.path.name}.{os.getpid()}-{secrets.token_hex(4)}{PART}")

    def publish(self) -> None:
        """Wait until the contents are on the disk, then rename."""
        sync(self.part)
        keep_mode(self.part, self.path)
        os.replace(self.part, self.path)
        sync(self.path.parent)

    def discard(self) -> None:
        """Remove the temporary file if it is there."""
        with suppress(OSError):
            os.unlink(self.part)


def sync(path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; on Windows files alone, and by a writer."""
    is_folder = os.path.isdir(path)
    if is_folder and sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def photons_folder(prefix) -> Path:
    """Where the photons of a series are that has counts, too."""
    prefix = Path(prefix)
    return prefix.with_name(f"{prefix.name}_photons")


def files_of(prefix) -> list[Path]:
    """Everything whose name begins with a series' prefix, in its folder and in that of its photons."""
    prefix = Path(prefix)
    folders = [folder for folder in (prefix.parent, photons_folder(prefix)) if folder.is_dir()]
    return [path for folder in folders for path in folder.iterdir() if path.name.startswith(prefix.name)]


def leftovers(prefix) -> list[Path]:
    """Temporary files of data files and masters that nobody finished, under this prefix."""
    prefix = Path(prefix)
    starts = ("_data_", "_master", "_counts_", ".geom", ".expt", ".phil", ".poni", "_XDS.INP", "_layout", "_index")
    found = [path for path in files_of(prefix) if path.name.endswith(PART)]
    # Those of a run have its number after the prefix; another series may begin so, but for its data files.
    rests = {path: re.sub(r"^_run\d{4,}(?=_master|_XDS|\.)", "", path.name[len(prefix.name) :]) for path in found}
    return sorted(path for path, rest in rests.items() if rest.startswith(starts))


@contextmanager
def create_hdf5(path, target, mode: str = "x"):
    """Create an HDF5 file that is closed without harm even after the system refused to write.

    HDF5 keeps what it could not write, tries again when the file is closed and once more when the process ends,
    and may crash there. After an error the file's handle is therefore led to nowhere, where everything fits.

    Yields
    ------
    h5py.File
        Open for writing.

    Raises
    ------
    InputError
        If the system refuses to write; it names ``target``.
    """
    import h5py

    try:
        file = h5py.File(path, mode)
    except OSError as error:
        raise refusal(target, error) from error
    try:
        yield file
        file.flush()
    except BaseException as error:
        _lead_nowhere(file)
        with suppress(Exception):
            file.close()
        if isinstance(error, OSError) or (isinstance(error, RuntimeError) and "errno = " in str(error)):
            raise refusal(target, error) from error
        raise
    file.close()


def _lead_nowhere(file) -> None:
    with suppress(Exception):
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, file.id.get_vfd_handle())
        os.close(nowhere)


def pixel_meaning(dtype: str, recorded: bool = False) -> dict[str, str]:
    """Attributes that say what the pixels of photons (float32) or counts are."""
    if dtype == "float32":
        meaning = "expected photons a pixel: Bragg reflections and background together, no noise"
        return {"units": "photons", "long_name": "photons (frame, slow, fast)", "meaning": meaning}
    if recorded:
        meaning = "what a detector says of the expected photons times the scale: /entry/process/response"
        return {"units": "counts", "long_name": "counts (frame, slow, fast)", "meaning": meaning}
    meaning = "Poisson counts of the expected photons times the scale, cut at one more than saturation_value"
    return {"units": "counts", "long_name": "counts (frame, slow, fast)", "meaning": meaning}


def filler(dtype) -> np.generic:
    """What a pixel is that nobody wrote or nobody can read: no count, no photons, and not the 0 that HDF5 would take.

    The largest number of unsigned integers, which DIALS masks (it lies above saturation_value), and not-a-number.
    """
    dtype = np.dtype(dtype)
    return dtype.type(np.nan if dtype.kind == "f" else np.iinfo(dtype).max)


class FrameWriter:
    """Appends packed frames to one dataset, one chunk a frame."""

    def __init__(
        self, file, frames: int, shape: tuple[int, int], dtype: str, codec: Codec, recorded: bool = False
    ) -> None:
        self._file, self._codec = file, codec
        entry = file.require_group("entry")
        set_attributes(entry, NX_class="NXentry")
        data = entry.require_group("data")
        set_attributes(data, NX_class="NXdata", signal="data")
        self._data = data.create_dataset(
            "data",
            (frames, *shape),
            np.dtype(dtype),
            chunks=(1, *shape),
            fillvalue=filler(dtype),
            **codec.dataset_options(),
        )
        set_attributes(self._data, **pixel_meaning(dtype, recorded))

    def write(self, index: int, frame: np.ndarray, packed) -> None:
        """Write frame ``index`` of this file; ``packed`` is what ``Codec.pack`` made of it."""
        if packed is None:
            self._data[index] = frame
        else:
            self._data.id.write_direct_chunk((index, 0, 0), packed)


def refusal(path, error: Exception) -> InputError:
    """The sentence for a file that the system or HDF5 would not write."""
    text = str(error)
    number = getattr(error, "errno", None)
    if number:
        text = os.strerror(number)
    elif "errno = " in text:
        # HDF5 hides the reason in its stack of messages.
        text = os.strerror(int(text.split("errno = ")[1].split(",")[0]))
    elif "No space left" in text:
        text = "No space left on device"
    return InputError(os.fspath(path), f"cannot be written: {text}", hint=lock_hint(error))
