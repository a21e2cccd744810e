"""Every CUDA kernel of slopes as NVIDIA's compiler emitted it, executed without a GPU, against the CPU's slopes."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

if importlib.util.find_spec("numba_cuda") is None:
    pytest.skip("needs numba-cuda", allow_module_level=True)

from ptx_device import Gpu
from sample_slopes import NAMES, a_table, an_experiment, assert_near, curved_names

from bragg_numba import Experiment, Sampling, Simulator
from bragg_numba.lab.machine_code.kernel_report import variants
from bragg_numba.render import devices

if devices.simulated():
    pytest.skip("numba's simulator stands in for the compiler", allow_module_level=True)

VARIANTS = {f"{one.kernel} {one.precision}": one for one in variants() if "slopes" in one.kernel.split("-")}

#: Those that make the sums of a shape; the others make something of sums, in every case.
SUMS = [name for name, one in VARIANTS.items() if not one.kernel.startswith("slopes")]

#: Those that everybody runs; the others belong to the long profile.
QUICK = ("gauss-slopes mixed",)


@pytest.fixture
def gpu(monkeypatch) -> Gpu:
    made_up = Gpu()
    made_up.install(monkeypatch)
    return made_up


def experiment_of(kernel: str) -> Experiment:
    """What a kernel that ``cuda-report`` lists is there for; its last block of pixels is not full."""
    shape, _, *parts = kernel.split("-")
    of_tophat = {"cell_counts": (2, 2, 2), "fudge": 5e-3} if shape == "tophat" else {}
    return an_experiment(
        shape,
        "nanobragg" if of_tophat else "physical",
        crystal=of_tophat,
        detector={"n_fast": 11, "n_slow": 9, "beam_x_mm": 2.1, "beam_y_mm": 1.9, "curved": "curved" in parts},
        sampling=Sampling(oversample=1, interpolate="tricubic" in parts),
        **({} if "default" in parts else {"structure_factors": a_table()}),
    )


def names_of(kernel: str) -> str:
    """Parameters that have slopes there."""
    shape, _, *parts = kernel.split("-")
    return "scale, beam.fluence_per_m2" if shape == "tophat" else curved_names() if "curved" in parts else NAMES


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in SUMS])
def test_every_kernel_makes_the_slopes_of_the_cpu(name, gpu):
    variant = VARIANTS[name]
    precision = "tile" if variant.precision == "mixed" else "float64"
    experiment, names = experiment_of(variant.kernel), names_of(variant.kernel)
    slopes = Simulator(experiment, backend="cuda").slopes(names, precision=precision)
    exact = Simulator(experiment, backend="cpu").slopes(names, precision="float64")
    value, images = slopes.value_and_images()
    expected_value, expected = exact.value_and_images()
    assert_near(value, expected_value, precision)
    for image, slope in zip(images, expected, strict=True):
        assert_near(image, slope, precision)
    assert gpu.has_launched(variant.function)

    # What is made of the sums does not depend on how they came about: of the slopes themselves it is exact.
    weights = np.random.default_rng(4).normal(size=value.shape)
    pulled = np.array(list(slopes.pull(weights).values()))
    terms = np.tensordot(np.abs(expected), np.abs(weights), 2)
    assert (np.abs(pulled - np.tensordot(expected, weights, 2)) <= 3e-6 * terms).all()
    data = np.round(expected_value)
    found, wanted = (one.normal(data, likelihood="poisson", background=2.0) for one in (slopes, exact))
    root = np.sqrt(np.diag(wanted.matrix))
    assert found.value == pytest.approx(wanted.value, rel=1e-4)
    assert (np.abs(found.matrix - wanted.matrix) <= 1e-5 * np.outer(root, root)).all()
    for kernel in ("contract", "weigh-rows", "judge", "weigh"):
        assert gpu.has_launched(VARIANTS[f"slopes-{kernel} float64"].function)
    assert gpu.faults == {}
