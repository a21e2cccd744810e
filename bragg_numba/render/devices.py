"""Which GPU renders, or in one sentence why none can.

Whether there is a GPU at all is asked of the driver itself: that takes a millisecond, where importing
numba's CUDA target takes half a second that a machine without a GPU should not pay.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
from dataclasses import dataclass

from bragg_numba.errors import InputError

#: Oldest GPU that the CUDA 13 compiler still serves.
LOWEST_CAPABILITY = (7, 5)

# CUresult values of cuda.h that people meet.
_NO_DEVICE = 100
_MEANINGS = {
    _NO_DEVICE: "it finds no GPU",
    34: "only its stub library is installed",
    803: "it is older than the CUDA library beside it: reboot, or reinstall the driver",
    804: "this GPU does not support it",
}
# CUdevice_attribute: compute capability.
_MAJOR, _MINOR = 75, 76
# DLDeviceType of dlpack.h.
_DLPACK_CUDA = 2


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU as the driver lists it."""

    index: int
    name: str
    capability: tuple[int, int]
    memory: int  #: bytes

    def __str__(self) -> str:
        major, minor = self.capability
        return f"{self.name}, compute capability {major}.{minor}, {self.memory / 1e9:.0f} GB"


class DriverFault(Exception):
    """Why the driver is of no use, as a clause."""


def simulated() -> bool:
    """Whether numba's CUDA simulator stands in for a GPU (NUMBA_ENABLE_CUDASIM=1 before numba is imported)."""
    if "numba" in sys.modules:
        return bool(sys.modules["numba"].config.ENABLE_CUDASIM)
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0").strip() not in ("", "0")


def _load_driver():
    """The driver's library; a seam for tests."""
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        raise DriverFault("there is no NVIDIA driver on this machine") from None


def list_devices() -> tuple[list[Device], tuple[int, int]]:
    """The GPUs of this machine and the newest CUDA version that the driver speaks.

    Raises
    ------
    DriverFault
        If there is no driver, or it does not start, or it finds no GPU.
    """
    driver = _load_driver()
    status = driver.cuInit(0)
    if status:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        meaning = _MEANINGS.get(status, f"it fails with error {status}")
        if status == _NO_DEVICE and hidden is not None:
            meaning += f" (CUDA_VISIBLE_DEVICES is {hidden!r})"
        raise DriverFault(f"the NVIDIA driver is installed, but {meaning}")
    version = ctypes.c_int(0)
    driver.cuDriverGetVersion(ctypes.byref(version))
    count = ctypes.c_int(0)
    driver.cuDeviceGetCount(ctypes.byref(count))
    if count.value == 0:
        raise DriverFault("the NVIDIA driver is installed, but it finds no GPU")
    devices = [_describe(driver, index) for index in range(count.value)]
    return devices, (version.value // 1000, version.value % 1000 // 10)


def _describe(driver, index: int) -> Device:
    handle, major, minor = ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(0)
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t(0)
    driver.cuDeviceGet(ctypes.byref(handle), index)
    driver.cuDeviceGetName(name, 256, handle)
    driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, handle)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, handle)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), handle)
    return Device(index, name.value.decode("utf-8", "replace"), (major.value, minor.value), memory.value)


def require_numba_cuda(cuda_major: int = 13) -> None:
    """Raise InputError if numba-cuda is not installed, or cannot work with the NumPy that is."""
    if importlib.util.find_spec("numba_cuda") is None:
        raise InputError("backend cuda", "needs numba-cuda, which is not installed", hint=install_hint(cuda_major))
    if simulated():
        return
    try:
        # What the first kernel would import: 0.30.4 asks NumPy for names that 2.5 dropped.
        importlib.import_module("numba.cuda.np.npyimpl")
    except ModuleNotFoundError:
        pass  # a version that keeps it elsewhere
    except Exception as fault:
        versions = [f"{name} {importlib.metadata.version(name)}" for name in ("numba-cuda", "numpy")]
        rule = f"cannot be used: {' does not work with '.join(versions)} ({fault})"
        raise InputError("backend cuda", rule, hint=install_hint(cuda_major)) from None


def install_hint(cuda_major: int = 13) -> str:
    """The command that installs what a GPU needs."""
    return f'pip install "bragg-numba[cuda{12 if cuda_major <= 12 else 13}]"'


def parse_backend(backend: str) -> int | None:
    """The number of the GPU that ``cuda`` or ``cuda:N`` names; None for any other backend."""
    match = re.fullmatch(r"cuda(?::(\d{1,4}))?", backend)
    return int(match.group(1) or 0) if match else None


def require_device(index: int) -> Device:
    """The GPU of this number, ready for use.

    Raises
    ------
    InputError
        If numba-cuda, the driver or the GPU is missing, or the GPU is too old.
    """
    name = "backend cuda" if index == 0 else f"backend cuda:{index}"
    if simulated():
        require_numba_cuda()
        if index:
            raise InputError(name, "does not exist: the CUDA simulator has one device", hint="use cuda")
        return Device(0, "the CUDA simulator (no GPU)", (0, 0), 0)
    try:
        devices, version = list_devices()
    except DriverFault as fault:
        raise InputError(name, f"cannot be used: {fault}", hint="use backend cpu") from None
    require_numba_cuda(version[0])
    if index >= len(devices):
        numbers = "cuda:0" if len(devices) == 1 else f"cuda:0 to cuda:{len(devices) - 1}"
        raise InputError(name, f"does not exist: this machine has {numbers}")
    _require_recent(name, devices[index], version)
    return devices[index]


def _require_recent(name: str, device: Device, version: tuple[int, int]) -> None:
    if version[0] < 12:
        raise InputError(
            name, f"needs a driver that speaks CUDA 12 or newer; this one speaks {version[0]}.{version[1]}"
        )
    if device.capability < LOWEST_CAPABILITY:
        lowest = ".".join(map(str, LOWEST_CAPABILITY))
        raise InputError(name, f"needs compute capability {lowest} or newer; this is {device}", hint="use backend cpu")


def find_device() -> tuple[Device | None, str]:
    """The GPU that ``auto`` takes, or None; and in a clause why."""
    if simulated():
        return None, "the CUDA simulator is no GPU"
    try:
        devices, version = list_devices()
    except DriverFault as fault:
        return None, str(fault)
    try:
        require_numba_cuda(version[0])
        _require_recent("backend cuda", devices[0], version)
    except InputError as error:
        return None, f"{devices[0].name} is not used: {error}"
    return devices[0], f"found {devices[0]}"


def is_device_array(array) -> bool:
    """Whether an object is an array in the memory of a GPU (CuPy, PyTorch, JAX, numba and its simulator)."""
    if hasattr(array, "__array_interface__") and not hasattr(array, "__cuda_ndarray__"):
        return False
    if hasattr(array, "__cuda_array_interface__") or hasattr(array, "__cuda_ndarray__"):
        return True
    return hasattr(array, "__dlpack_device__") and int(array.__dlpack_device__()[0]) == _DLPACK_CUDA


def index_of(array) -> int:
    """The number of the GPU that holds a device array."""
    if hasattr(array, "__dlpack_device__"):
        return int(array.__dlpack_device__()[1])
    if simulated():
        return 0
    from numba import cuda

    return int(cuda.get_current_device().id)
