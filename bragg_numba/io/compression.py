"""Frames packed for HDF5 before they are written, so that several threads can share the work.

HDF5 runs its filters under one lock. Here a frame is packed outside of it, in the bytes that the filter itself
would have made, and handed over as a finished chunk.
"""

from __future__ import annotations

import functools
import os
import struct
import threading
import zlib

import numpy as np

from bragg_numba import checks as check
from bragg_numba.io.hdf5 import bring_filters

#: What ``compression`` may be. Only "bslz4" and "none" are read by DECTRIS's plugin for XDS.
COMPRESSIONS = ("bslz4", "none", "gzip", "zstd")

GZIP_LEVEL = 4

_TRYING = threading.Lock()


class Codec:
    """How the chunks of one dataset are packed.

    Parameters
    ----------
    name
        One of ``COMPRESSIONS``; "zstd" is bitshuffle with zstd.
    """

    def __init__(self, name: str = "bslz4") -> None:
        self.name = check.choice("compression", name, COMPRESSIONS)
        self._fast = self.name == "bslz4" and fast_bitshuffle()

    def dataset_options(self) -> dict:
        """Return the arguments of ``h5py.Group.create_dataset`` that name the filter."""
        if self.name == "none":
            return {}
        if self.name == "gzip":
            return {"compression": "gzip", "compression_opts": GZIP_LEVEL}
        import hdf5plugin

        bring_filters()
        if self.name == "bslz4":
            return dict(hdf5plugin.Bitshuffle(nelems=0, cname="lz4"))
        return dict(hdf5plugin.Bitshuffle(nelems=0, cname="zstd", clevel=1))

    def room(self, frame: np.ndarray) -> int:
        """Return how many bytes ``pack`` may want to be given for frames like this one."""
        if not self._fast:
            return 0
        _, bound, block_size = _compressor()
        width = frame.dtype.itemsize
        return _HEADER + bound(frame.size, width, block_size(width))

    def pack(self, frame: np.ndarray, out: np.ndarray | None = None) -> bytes | memoryview | None:
        """Return the finished chunk of one frame, or None where HDF5's own filter has to make it.

        Parameters
        ----------
        frame
            (slow, fast), C-contiguous. Other threads run meanwhile.
        out
            uint8 (``room(frame)``,), where the chunk may be put; None: in new memory.
        """
        if self.name == "none":
            return frame.data.cast("B")
        if self.name == "gzip":
            return zlib.compress(frame.data, GZIP_LEVEL)
        if self._fast:
            return _packed(frame, out, *_compressor())
        return None


def fast_bitshuffle() -> bool:
    """Tell whether frames can be packed outside of HDF5; tried once, by reading a packed frame back."""
    with _TRYING:
        return _compressor() is not None


#: Bytes before the blocks of a packed frame: its size and the size of a block.
_HEADER = 12


def _packed(frame, out, compress, bound, block_size) -> memoryview:
    width = frame.dtype.itemsize
    # The filter writes its block in elements; the header holds bytes (HDF5 filter 32008).
    block = block_size(width)
    if out is None:
        out = np.empty(_HEADER + bound(frame.size, width, block), dtype=np.uint8)
    out[:_HEADER] = np.frombuffer(struct.pack(">QI", frame.nbytes, block * width), dtype=np.uint8)
    used = compress(frame.ctypes.data, out.ctypes.data + _HEADER, frame.size, width, block)
    if used < 0:
        raise MemoryError(f"bitshuffle could not pack a frame (error {used})")
    return memoryview(out)[: _HEADER + used]


@functools.lru_cache(maxsize=1)
def _compressor():
    """The three C functions of bitshuffle in hdf5plugin's library, or None.

    That library is no public interface of hdf5plugin: where it is missing, or its frames do not read back,
    HDF5 packs them by itself, more slowly.
    """
    try:
        functions = _load_functions()
        return functions if functions is not None and _reads_back(functions) else None
    except (OSError, AttributeError, ImportError, ValueError, RuntimeError):
        return None


def _load_functions():
    import ctypes

    import hdf5plugin

    path = os.path.join(hdf5plugin.PLUGIN_PATH, "libh5bshuf.so")
    if not os.path.exists(path):
        return None
    library = ctypes.CDLL(path)
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    compress = library.bshuf_compress_lz4
    compress.argtypes, compress.restype = [pointer, pointer, size, size, size], ctypes.c_int64
    bound = library.bshuf_compress_lz4_bound
    bound.argtypes, bound.restype = [size, size, size], size
    block_size = library.bshuf_default_block_size
    block_size.argtypes, block_size.restype = [size], size
    return compress, bound, block_size


def _reads_back(functions) -> bool:
    import h5py
    import hdf5plugin

    bring_filters()
    for dtype in (np.uint16, np.uint32, np.float32):
        frame = (np.arange(71 * 113) % 251).reshape(71, 113).astype(dtype)  # no whole number of blocks
        with h5py.File("probe", "w", driver="core", backing_store=False) as file:
            options = hdf5plugin.Bitshuffle(nelems=0, cname="lz4")
            data = file.create_dataset("d", (1, *frame.shape), dtype, chunks=(1, *frame.shape), **options)
            data.id.write_direct_chunk((0, 0, 0), _packed(frame, None, *functions))
            if not np.array_equal(data[0], frame):
                return False
    return True
