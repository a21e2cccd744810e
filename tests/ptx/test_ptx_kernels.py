"""Every CUDA kernel as NVIDIA's compiler emitted it, executed without a GPU, against the image of the CPU.

It is the nearest thing to a device: what the compiler made of the source is run, instruction by instruction, with
memory that knows its owners (ptx_machine). It shares kernels/physics.py with the CPU, and knows nothing of the
assembler, of the driver and of time.
"""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import pytest

if importlib.util.find_spec("numba_cuda") is None:
    pytest.skip("needs numba-cuda", allow_module_level=True)

from pathlib import Path

from bragg_numba.kernels.random import cuda as random
from ptx_device import Gpu
from sample_panels import crooked, lit

from bragg_numba import Crystal, Experiment, Response, Sampling, Simulator
from bragg_numba.lab.machine_code.kernel_report import variants
from bragg_numba.plan.arithmetic import cuda as arithmetic
from bragg_numba.render import devices
from bragg_numba.response.counter import draw_counts
from bragg_numba.tolerances import allowed

if devices.simulated():
    pytest.skip("numba's simulator stands in for the compiler", allow_module_level=True)

PROTEIN = Path(__file__).parents[2] / "examples" / "2erl_P1.hkl"
CRYSTAL = "-misset 10 20 30 -lambda 1 -distance 100 -fluence 1e28 -oversample 1 -Na 7 -Nb 9 -Nc 12"
TABLE = f"-cell 53.91 23.1 23.1 90 110.4 90 -hkl {PROTEIN} -nointerpolate -default_F 30 {CRYSTAL}"
DEFAULT_F = f"-cell 60 45 38 95 85 100 -default_F 100 {CRYSTAL}"
#: Tiles at the edges are not full.
FRAME = "-detpixels_x 37 -detpixels_y 29 -pixel 0.3"
SHAPES = {
    "square": "-square_xtal",
    "round": "-round_xtal",
    "gauss": "-gauss_xtal -fudge 0.01",
    "tophat": "-tophat_spots -fudge 5e-3",
}
#: Spots end: what never does takes the machine a minute.
SPOTS = {**SHAPES, "gauss": "-gauss_xtal", "tophat": "-tophat_spots -fudge 0.05"}
FEW_SPOTS = f"-detpixels_x 18 -detpixels_y 12 -pixel 0.4 -mosaic 8 -mosaic_dom 2 {TABLE} -Na 4"
CHOICES = {
    "weighted": "-fidelity physical -polar 0.9 -water 100 -detector_thick 300 -detector_abs 500 -dispersion 1 "
    "-dispsteps 2",
    "curved": "-curved_det",
    "tricubic": "-interpolate",
}
OPTIONS = {
    "sub-pixels": "-oversample 2",
    "layers": "-detector_thick 300 -detector_abs 500 -detector_thicksteps 2",
    "thin layers": "-detector_thick 10 -detector_abs 2000 -detector_thicksteps 2",
    "unpolarized": "-nopolar",
    "polarized": "-polar 0.9",
    "water": "-water 100",
    "dmin": "-dmin 5",
    "energies": "-dispersion 1 -dispsteps 3",
    "divergence": "-hdivrange 1 -hdivstep 0.5",
    "domains": "-mosaic 1 -mosaic_dom 70",
    "rotation": "-osc 1 -phisteps 3",
    "tilted": "-twotheta 20 -detector_rotx 3 -detector_roty 5 -detector_rotz 7",
    "point pixel": "-point_pixel",
    "region": "-roi 3 24 2 20",
    "wide": "-pixel 1",
    "running products": "-oversample_thick -oversample_polar -oversample_omega -oversample 2 -detector_thick 300 "
    "-detector_abs 500",
}

_CHIPS = {"virtual_pixels": "split", "chip_pixels": (5, 4), "module_pixels": (12, 10)}
#: Detectors that need the kernels of a response, by the end of the kernel's name.
DETECTORS = {
    "statistics": {"name": "ideal"},
    "photons": {"name": "eiger2", "calibration": 0.1},
    "losses": {"name": "eiger2", "paralyzable": True},
    "copy": {"name": "rayonix"},
    "charge": {"name": "jungfrau", "excess_variance": 0.1},
    "gather": {"name": "pilatus3", **_CHIPS},
    "divide": {"name": "agipd", **_CHIPS},
    "marks": {"name": "epix10k", "dead_pixels": 0.2, "hot_pixels": 0.1},
}

#: Those that everybody runs; the others belong to the long profile.
QUICK = ("square-table tile", "square-table-settle float64", "gauss-spots mixed", "poisson-counts float64")
QUICK += tuple(f"response-{name} float64" for name in DETECTORS)


@pytest.fixture
def gpu(monkeypatch) -> Gpu:
    made_up = Gpu()
    made_up.install(monkeypatch)
    return made_up


def experiment_of(kernel: str, precision: str) -> Experiment:
    """What a kernel that ``cuda-report`` lists is there for."""
    shape, *parts = kernel.split("-")
    if "panels" in parts:
        detector = crooked(thickness_um=300, attenuation_depth_um=400)
        if "spots" not in parts:  # so far away that patches may be large
            panels = tuple(one.replace(origin_mm=(*one.origin_mm[:2], 400.0)) for one in detector.panels)
            experiment = Experiment.from_nanobragg(f"{TABLE} {SHAPES[shape]}")
            return experiment.replace(detector=detector.replace(panels=panels))
        panels = tuple(panel.replace(n_fast=9, n_slow=7, mask=None) for panel in detector.panels)
        crystal = Crystal(cell=(70, 80, 90, 90, 95, 90), misset_deg=(10, 20, 30), cell_counts=(3, 4, 5), shape=shape)
        return lit(detector.replace(panels=panels), crystal=crystal, sampling=Sampling(oversample=1, engine="spots"))
    if "spots" in parts:
        return Experiment.from_nanobragg(f"{FEW_SPOTS} {SPOTS[shape]} -engine spots")
    choices = " ".join(CHOICES.get(one, "") for one in parts)
    return Experiment.from_nanobragg(f"{DEFAULT_F if 'default' in parts else TABLE} {SHAPES[shape]} {FRAME} {choices}")


def faults_of(gpu: Gpu) -> dict:
    """What the kernels did wrong.

    But for what tile kernels do on purpose: of a chunk of steps that is not full they place the rest, too, from words
    that nobody wrote, where no step reads it (cuda_patches.fill_phases). Asking first takes four registers more.
    """
    unread = ("shared memory read before it is written", "add_bragg_tile", "ld.shared.u32")
    return {fault: times for fault, times in gpu.faults.items() if not all(word in " ".join(fault) for word in unread)}


def assert_same(experiment: Experiment, gpu: Gpu, precision: str = "auto") -> None:
    """Render with both; float64 to the last bit."""
    simulator = Simulator(experiment, backend="cuda", precision=precision)
    image = simulator.render()
    expected = Simulator(experiment, backend="cpu", precision="float64").render()
    assert expected.max() > 0
    assert faults_of(gpu) == {}
    if (simulator.engine, simulator.precision) == ("pixels", "float64"):
        np.testing.assert_array_equal(image, expected)
    worst = np.abs(image - expected.astype(float)) / allowed(expected, float(expected.max()))
    assert worst.max() <= 1.0


def _cases() -> list:
    found = []
    for variant in variants():
        name = f"{variant.kernel} {variant.precision}"
        found.append(pytest.param(variant, id=name, marks=() if name in QUICK else pytest.mark.slow))
    return found


@pytest.mark.parametrize("variant", _cases())
def test_every_kernel_renders_what_the_cpu_does(variant, gpu, monkeypatch):
    parts = variant.kernel.split("-")
    if variant.kernel == "poisson-counts":
        assert_counts_are_those_of_the_cpu(gpu)
        return
    if parts[0] == "response":
        assert_a_detector_says_what_it_says_on_the_cpu(gpu, DETECTORS[parts[1]])
        assert gpu.has_launched(variant.function)
        return
    with monkeypatch.context() as patch:
        if parts[-1][:1].isdigit():  # patches of so many pixels
            patch.setattr(arithmetic, "choose", _with_side(int(parts[-1].split("x")[0])))
        if "settle" in parts:  # as if float32 could not tell the nearest index from a third on
            patch.setattr(arithmetic, "single", _doubtful)
        precision = "tile" if "settle" in parts else {"mixed": "auto"}.get(variant.precision, variant.precision)
        assert_same(experiment_of(variant.kernel, variant.precision), gpu, precision)
    assert gpu.has_launched(variant.function)


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("precision", ["tile", "float64"])
def test_every_option_is_served(option, precision, gpu):
    assert_same(Experiment.from_nanobragg(f"{TABLE} {FRAME} {OPTIONS[option]}"), gpu, precision)


@pytest.mark.parametrize("edge", [-1, 1])
@pytest.mark.parametrize("kernel", ["square-table", pytest.param("gauss-spots", marks=pytest.mark.slow)])
def test_approximations_may_be_as_wrong_as_the_manual_says(kernel, edge, gpu):
    gpu.edge = edge
    assert_same(experiment_of(kernel, "tile"), gpu)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["sm_75", "sm_100"])
def test_other_architectures_get_the_same(arch, gpu):
    gpu.arch = arch
    assert_same(experiment_of("square-table", "tile"), gpu)


def assert_counts_are_those_of_the_cpu(gpu) -> None:
    means = [0.0, 1e-3, 0.1, 1.0, 5.0, 9.99, 10.0, 11.0, 50.0, 1e3, 1e6, 4.2e9, 1e10]
    photons = np.resize(np.array(means, np.float32), (12, 16))
    seed, frame, first = np.uint64(2**63 + 12345), np.uint32(7), np.uint64(2**33)
    expected = np.zeros(photons.shape, np.uint32)
    draw_counts(photons, int(seed), int(frame), expected, top=2**32 - 1, first_pixel=int(first))
    on_device, counts = gpu.send(photons), gpu.send(np.full(photons.shape, 5, np.uint32))
    random.poisson_counts[2, random.THREADS](on_device, seed, frame, first, counts)
    assert faults_of(gpu) == {}
    np.testing.assert_array_equal(counts.copy_to_host(), expected)


def assert_a_detector_says_what_it_says_on_the_cpu(gpu, fields: dict) -> None:
    response = Response.preset(**fields)
    photons = np.random.default_rng(5).gamma(0.3, 300.0, (11, 14)).astype(np.float32)
    photons[2, 3], photons[6] = 3e6, 0.02
    where = {"exposure_s": 1e-4, "scale": 1.5, "mask": np.arange(154).reshape(photons.shape) % 7 != 3}
    seen = response.record(gpu.send(photons), 2**63 + 12345, 7, **where)
    expected = response.record(photons, 2**63 + 12345, 7, **where)
    assert faults_of(gpu) == {}
    np.testing.assert_array_equal(seen.counts.copy_to_host(), expected.counts)
    assert (seen.photons, seen.most, seen.overloads) == (expected.photons, expected.most, expected.overloads)


_choose, _single = arithmetic.choose, arithmetic.single


def _with_side(side: int):
    return lambda plan, precision: dataclasses.replace(_choose(plan, precision), side=side)


def _doubtful(plan, choice):
    return _single(plan, choice)._replace(near_half=np.float32(0.35))
