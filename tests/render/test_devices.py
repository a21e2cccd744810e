"""Which device renders, and what is said where none can: against a driver that the tests make up."""

from __future__ import annotations

import importlib.util
import os

import pytest

from bragg_numba import Experiment, InputError, Simulator
from bragg_numba.render import devices

WORDS = "-cell 100 -default_F 100 -N 5 -detpixels 8 -oversample 1"


class FakeDriver:
    """libcuda as far as devices.py asks it."""

    def __init__(self, names=("H100",), *, capability=(9, 0), version=13000, status=0, memory=80 * 10**9) -> None:
        self.names, self.capability, self.version, self.status, self.memory = names, capability, version, status, memory

    def cuInit(self, flags):
        return self.status

    def cuDriverGetVersion(self, version):
        version._obj.value = self.version

    def cuDeviceGetCount(self, count):
        count._obj.value = len(self.names)

    def cuDeviceGet(self, handle, index):
        handle._obj.value = index

    def cuDeviceGetName(self, name, size, handle):
        name.value = self.names[handle.value].encode()

    def cuDeviceGetAttribute(self, value, attribute, handle):
        value._obj.value = self.capability[{75: 0, 76: 1}[attribute]]

    def cuDeviceTotalMem_v2(self, memory, handle):
        memory._obj.value = self.memory


@pytest.fixture
def driver(monkeypatch):
    """Put a made-up driver in place; without a word the real one stays."""

    def use(made: FakeDriver | None) -> None:
        def load():
            if made is None:
                raise devices.DriverFault("there is no NVIDIA driver on this machine")
            return made

        monkeypatch.setattr(devices, "_load_driver", load)

    monkeypatch.setattr(devices, "simulated", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return use


def _without_numba_cuda(monkeypatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "numba_cuda" else real(name, *a))


def test_auto_renders_on_the_cpu_where_there_is_no_driver_and_says_so(driver):
    driver(None)
    simulator = Simulator(Experiment.from_nanobragg(WORDS), backend="auto")
    assert (simulator.backend, simulator.backend_reason) == ("cpu", "there is no NVIDIA driver on this machine")


def test_asking_for_the_cpu_is_reason_enough(driver):
    driver(FakeDriver())
    assert Simulator(Experiment.from_nanobragg(WORDS), backend="cpu").backend_reason == "asked for"


@pytest.mark.parametrize(
    "made, said",
    [
        (None, "there is no NVIDIA driver on this machine"),
        (FakeDriver(status=100), "it finds no GPU"),
        (FakeDriver(names=()), "it finds no GPU"),
        (FakeDriver(status=803), "older than the CUDA library"),
        (FakeDriver(status=999), "it fails with error 999"),
    ],
)
def test_asking_for_a_gpu_that_cannot_be_used_is_an_error_in_one_sentence(driver, made, said):
    driver(made)
    with pytest.raises(InputError, match=said) as caught:
        Simulator(Experiment.from_nanobragg(WORDS), backend="cuda")
    assert "\n" not in str(caught.value)
    assert "use backend cpu" in str(caught.value)


def test_hidden_gpus_are_called_hidden(driver, monkeypatch):
    driver(FakeDriver(status=100))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InputError, match="CUDA_VISIBLE_DEVICES is ''"):
        devices.require_device(0)


@pytest.mark.parametrize("version, extra", [(13000, "cuda13"), (12040, "cuda12")])
def test_a_gpu_without_numba_cuda_is_an_error_that_says_what_to_install(driver, monkeypatch, version, extra):
    driver(FakeDriver(version=version))
    _without_numba_cuda(monkeypatch)
    with pytest.raises(InputError, match=r"numba-cuda, which is not installed") as caught:
        devices.require_device(0)
    assert f'pip install "bragg-numba[{extra}]"' in str(caught.value)


def _with_a_numpy_too_new(monkeypatch) -> None:
    def refuse(name):
        raise AttributeError("module 'numpy' has no attribute 'row_stack'")

    monkeypatch.setattr(importlib, "import_module", refuse)


def test_a_numba_cuda_that_does_not_work_with_numpy_is_an_error_that_says_so(driver, monkeypatch):
    driver(FakeDriver())
    _with_a_numpy_too_new(monkeypatch)
    with pytest.raises(InputError, match=r"numba-cuda \S+ does not work with numpy \S+ \(module 'numpy' has no"):
        devices.require_device(0)


def test_auto_leaves_a_gpu_alone_whose_numba_cuda_does_not_work_with_numpy(driver, monkeypatch):
    driver(FakeDriver())
    _with_a_numpy_too_new(monkeypatch)
    device, why = devices.find_device()
    assert device is None
    assert "does not work with numpy" in why


def test_auto_leaves_a_gpu_alone_that_numba_cuda_is_missing_for(driver, monkeypatch):
    driver(FakeDriver())
    _without_numba_cuda(monkeypatch)
    device, reason = devices.find_device()
    assert device is None
    assert reason.startswith("H100 is not used: ")
    assert "pip install" in reason


def test_a_gpu_beyond_the_last_one_does_not_exist(driver):
    driver(FakeDriver(names=("A", "B")))
    assert devices.require_device(1).name == "B"
    with pytest.raises(InputError, match=r"cuda:2 does not exist: this machine has cuda:0 to cuda:1"):
        devices.require_device(2)


def test_a_gpu_that_the_compiler_no_longer_serves_is_refused(driver):
    driver(FakeDriver(names=("GTX 1080",), capability=(6, 1)))
    with pytest.raises(InputError, match=r"needs compute capability 7.5 or newer; this is GTX 1080"):
        devices.require_device(0)
    assert devices.find_device()[0] is None


def test_a_driver_of_cuda_11_is_refused(driver):
    driver(FakeDriver(version=11080))
    with pytest.raises(InputError, match=r"CUDA 12 or newer; this one speaks 11.8"):
        devices.require_device(0)


def test_auto_takes_the_first_usable_gpu_and_describes_it(driver):
    driver(FakeDriver(names=("NVIDIA H100 80GB HBM3", "B")))
    device, reason = devices.find_device()
    assert device.index == 0
    assert reason == "found NVIDIA H100 80GB HBM3, compute capability 9.0, 80 GB"


def test_the_cuda_simulator_is_no_gpu_for_auto(monkeypatch):
    monkeypatch.setattr(devices, "simulated", lambda: True)
    assert devices.find_device() == (None, "the CUDA simulator is no GPU")


@pytest.mark.parametrize("backend", ["gpu", "cuda:", "cuda:x", "cuda:-1", "CUDA", ""])
def test_other_words_are_no_backend(backend):
    with pytest.raises(InputError, match="must be one of auto, cpu, cuda, cuda:N"):
        Simulator(Experiment.from_nanobragg(WORDS), backend=backend)


def test_device_arrays_need_a_cuda_backend():
    with pytest.raises(InputError, match="device_array needs a CUDA backend"):
        Simulator(Experiment.from_nanobragg(WORDS), backend="cpu").render(device_array=True)


def test_a_device_array_without_cupy_is_an_error_that_says_what_to_install(monkeypatch):
    from bragg_numba.render import cuda

    monkeypatch.setattr(devices, "simulated", lambda: False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None)
    with pytest.raises(InputError, match=r'needs CuPy, which is not installed \(pip install "bragg-numba'):
        cuda.require_cupy()


def test_arrays_on_a_device_are_told_from_arrays_on_the_host():
    import numpy as np

    class OnDevice:
        __cuda_array_interface__ = {}

    class ByDlpack:
        def __init__(self, kind):
            self.kind = kind

        def __dlpack_device__(self):
            return self.kind, 1

    assert devices.is_device_array(OnDevice())
    assert devices.is_device_array(ByDlpack(2))
    assert devices.index_of(ByDlpack(2)) == 1
    assert not devices.is_device_array(ByDlpack(1))
    assert not devices.is_device_array(np.zeros(2))
    assert not devices.is_device_array([1.0])


#: Whether the system shows a GPU to its programs: NVIDIA's own device, or that of Windows' Linux.
SHOWS_GPU = os.path.exists("/dev/nvidia0") or os.path.exists("/dev/dxg")


@pytest.mark.skipif(SHOWS_GPU, reason="this machine has a GPU")
def test_the_absence_of_a_driver_is_a_clause():
    with pytest.raises(devices.DriverFault, match="NVIDIA driver (on this machine|is installed, but )"):
        devices.list_devices()


@pytest.mark.skipif(not SHOWS_GPU, reason="this machine has no GPU")
def test_the_real_driver_lists_its_gpus(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found, version = devices.list_devices()

    assert [one.index for one in found] == list(range(len(found)))
    assert found[0].name
    assert found[0].memory > 2**30
    assert version >= (11, 0)
