"""A made-up GPU that executes compiled kernels: what the renderers ask of numba.cuda, upon ptx_machine.

Memory, streams and launches are numba's as far as bragg_numba uses them; a launch runs to its end at once. A kernel is
compiled for the types that ``cuda-report`` lists, and what it is called with must have them.
"""

from __future__ import annotations

import contextlib
import functools
import math
from dataclasses import dataclass, field
from types import SimpleNamespace

import numba
import numpy as np
from bragg_numba.kernels.parameters import SHAPE_NAMES
from bragg_numba.kernels.pixels import cuda as pixels
from bragg_numba.kernels.pixels import cuda_variants as pixel_variants
from bragg_numba.kernels.random import cuda as random
from bragg_numba.kernels.response import cuda as response
from bragg_numba.kernels.response import cuda_variants as response_variants
from bragg_numba.kernels.spots import cuda as spots
from bragg_numba.kernels.spots import cuda_variants as spot_variants
from numba import cuda, types
from ptx_machine import Launch, Program, translate
from ptx_memory import DeviceMemory, Faults

from bragg_numba.lab.machine_code.toolchain import capability, make_ptx
from bragg_numba.render import cuda as render
from bragg_numba.render import devices


class DeviceArray:
    """An array in the made-up GPU's memory, C-contiguous."""

    #: How callers tell device arrays from others.
    __cuda_ndarray__ = True
    __cuda_array_interface__: dict = {}

    def __init__(self, memory: DeviceMemory, shape, dtype, address: int | None = None) -> None:
        self.shape = (int(shape),) if np.ndim(shape) == 0 else tuple(int(n) for n in shape)
        self.memory, self.dtype, self.ndim = memory, np.dtype(dtype), len(self.shape)
        self.size = math.prod(self.shape)
        self.nbytes = self.size * self.dtype.itemsize
        self.address = memory.allocate(max(self.nbytes, 1)) if address is None else address

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(math.prod(self.shape[axis + 1 :]) * self.dtype.itemsize for axis in range(self.ndim))

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> DeviceArray:
        start, stop, _ = rows.indices(self.shape[0])
        shape = (max(stop - start, 0), *self.shape[1:])
        return DeviceArray(self.memory, shape, self.dtype, self.address + start * self.strides[0])

    def is_c_contiguous(self) -> bool:
        return True

    def copy_to_device(self, source, stream=None) -> None:
        values = source.copy_to_host() if isinstance(source, DeviceArray) else np.asarray(source)
        assert (values.shape, values.dtype) == (self.shape, self.dtype)
        self.memory.write(self.address, values)

    def copy_to_host(self, out: np.ndarray | None = None, stream=None) -> np.ndarray:
        values = self.memory.read(self.address, self.shape, self.dtype)
        if out is None:
            return values
        out[...] = values
        return out


@dataclass
class Gpu:
    """The made-up GPU: its architecture, the edge at which it approximates, and what was launched."""

    arch: str = "sm_90"
    edge: int = 0
    memory: DeviceMemory = field(default_factory=DeviceMemory)
    launches: list[tuple[Kernel, Launch]] = field(default_factory=list)

    @property
    def faults(self) -> Faults:
        """What the launches did wrong, by kernel."""
        found = Faults()
        for kernel, launch in self.launches:
            for (what, instruction), times in launch.faults.items():
                found.note(what, f"{kernel.name}: {instruction}", times)
        return found

    def has_launched(self, function) -> bool:
        """Whether a kernel, an undecorated function, has run."""
        return any(kernel.function.py_func is function for kernel, _ in self.launches)

    def install(self, monkeypatch) -> None:
        """Let it stand for GPU 0 of this process."""
        render.release()

        def put(to, **names) -> None:
            for name, value in names.items():
                monkeypatch.setattr(to, name, value)

        major, minor = capability(self.arch)
        device = devices.Device(0, "PTX machine", (major, minor), len(self.memory.data))
        here = SimpleNamespace(MULTIPROCESSOR_COUNT=1, get_memory_info=lambda: SimpleNamespace(free=2**33))
        put(
            cuda,
            to_device=self.send,
            device_array=lambda shape, dtype=np.float64: DeviceArray(self.memory, shape, dtype),
            # As on a device, nobody clears it.
            pinned_array=lambda shape, dtype=np.float64: np.full(shape, 77, dtype),
            stream=lambda: SimpleNamespace(synchronize=lambda: None),
            synchronize=lambda: None,
            gpus=[contextlib.nullcontext()],
            current_context=lambda: here,
            get_current_device=lambda: here,
            as_cuda_array=lambda array: array,
        )
        put(devices, require_device=lambda index: device)
        put(render, require_cupy=lambda: None, as_caller_array=lambda frame: frame)
        put(
            pixels,
            tile_kernel=functools.partial(self._made, pixels.tile_kernel, pixel_variants.tile_types),
            float64_kernel=functools.partial(self._made, pixels.float64_kernel, pixel_variants.float64_types),
            settle_kernel=functools.partial(self._made, pixels.settle_kernel, pixel_variants.settle_types),
        )
        put(spots, spots_kernel=functools.partial(self._made, spots.spots_kernel, spot_variants.spots_types))
        put(random, poisson_counts=Kernel(self, random.poisson_counts, pixel_variants.counts_types(), "counts"))
        for name, (function, types_of) in response_variants.TYPES.items():
            room = random if function is random.photon_statistics else response
            put(room, **{function.py_func.__name__: Kernel(self, function, types_of, name)})

    def send(self, values, stream=None) -> DeviceArray:
        """Copy an array to the device."""
        values = np.asarray(values)
        sent = DeviceArray(self.memory, values.shape, values.dtype)
        if values.size:
            sent.copy_to_device(values)
        return sent

    def _made(self, factory, signature, kind) -> Kernel:
        function = factory(kind)
        name = f"{function.py_func.__name__} {SHAPE_NAMES[kind.shape]} {tuple(kind[1:])}"
        return Kernel(self, function, signature(kind.several), name)


@dataclass(frozen=True)
class Kernel:
    """``kernel[blocks, threads, stream](*arguments)`` as numba's, on a made-up GPU."""

    gpu: Gpu
    function: object
    signature: tuple
    name: str

    def __getitem__(self, configuration):
        blocks, threads, *_ = configuration

        def launch(*arguments) -> None:
            assert tuple(_type_of(one) for one in arguments) == tuple(self.signature), "compiled for other types"
            flat = [word for one, kind in zip(arguments, self.signature, strict=True) for word in _words(one, kind)]
            fast = bool(self.function.targetoptions.get("fastmath"))
            program = _program(self.function.py_func, tuple(self.signature), fast, self.gpu.arch, self.gpu.edge)
            self.gpu.launches.append((self, Launch(program, self.gpu.memory, blocks, threads, flat).run()))

        return launch


@functools.cache
def _ptx(function, signature, fast: bool, arch: str) -> str:
    return make_ptx(function, signature, arch, fastmath=fast)


@functools.cache
def _program(function, signature, fast: bool, arch: str, edge: int) -> Program:
    return translate(_ptx(function, signature, fast, arch), edge)


def _type_of(value):
    if isinstance(value, DeviceArray):
        return types.Array(numba.from_dtype(value.dtype), value.ndim, "C")
    if isinstance(value, tuple):
        return types.NamedTuple([_type_of(one) for one in value], type(value))
    return numba.typeof(value)


def _words(value, kind):
    """An argument as the kernel's parameters: type and value. Arrays as numba hands them over, tuples one by one."""
    if isinstance(value, DeviceArray):
        owner_and_parent = [("u8", 0), ("u8", 0)]
        sizes = [("i8", value.size), ("i8", value.dtype.itemsize), ("u8", value.address)]
        return owner_and_parent + sizes + [("i8", n) for n in (*value.shape, *value.strides)]
    if isinstance(value, tuple):
        return [word for one, inner in zip(value, kind, strict=True) for word in _words(one, inner)]
    if kind == types.boolean:
        return [("u1", int(value))]
    return [(np.dtype(str(kind)).str[1:], value)]
