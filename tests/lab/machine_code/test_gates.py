"""Limits that the machine code of the CUDA kernels must keep; compiled and read without a GPU.

Every kernel is compiled to PTX for all architectures and to machine code for the oldest and for sm_90, the long
profile for all; kernels side by side in several processes. What came out is kept in .cache until a kernel, the
reader or the compiler changes: compiling takes minutes.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pickle
from importlib.metadata import distributions
from pathlib import Path

import pytest

from bragg_numba.lab.machine_code import toolchain
from bragg_numba.render import devices

if importlib.util.find_spec("numba_cuda") is None or devices.simulated():
    pytest.skip("needs numba-cuda with its compiler", allow_module_level=True)

from bragg_numba.lab.machine_code import kernel_report

ROOT = Path(__file__).resolve().parents[3]
VARIANTS = {f"{one.kernel}-{one.precision}": one for one in kernel_report.variants()}
TILE = [name for name, one in VARIANTS.items() if one.precision == "tile"]
SLOPES = [name for name, one in VARIANTS.items() if name.split("-")[1] == "slopes"]
SPOTS = [name for name, one in VARIANTS.items() if name.split("-")[1] == "spots"]

#: Whose machine code is looked at, and whose only in the long profile.
ARCHS = ("sm_75", "sm_90")
OTHERS = tuple(arch for arch in toolchain.ARCHITECTURES if arch not in ARCHS)
ALL = [*ARCHS, *(pytest.param(arch, marks=pytest.mark.slow) for arch in OTHERS)]

#: Most instructions of a pixel's innermost step, square crystal with a table: what was reached, on every
#: architecture; 110 were asked for.
SQUARE_TABLE_STEP = 104.0

#: Most registers a thread of a square crystal's tile kernels, flat detector, no weights. 64 let eight blocks, half of
#: a multiprocessor's warps, be resident, and 56 nine. Holding the assembler back with launch bounds made it spill.
SQUARE_REGISTERS = {"sm_75": 64, "sm_80": 64, "sm_86": 56, "sm_90": 56, "sm_100": 64}
SQUARE = ("square-default-F-tile", "square-table-tile", "square-table-8x8-tile", "square-table-4x4-tile")

#: The same of the kernels that go spot by spot: blocks of 256 threads, of which 128 registers let two be resident.
SPOT_REGISTERS = {"sm_75": 128, "sm_80": 128, "sm_86": 128, "sm_90": 152, "sm_100": 168}

#: Most instructions of a pixel's step where a spot ends at a radius, and how many of them in float64.
SPOT_STEP, SPOT_STEP_FLOAT64 = 84.0, 20.0

#: The same of the kernels of slopes, blocks of 64 threads; and of those with terms in float64.
SLOPE_REGISTERS, SLOPE_REGISTERS_FLOAT64 = 168, 255

#: Most instructions of a step of slopes with a table, and how many of them in float64: phases, and places in the table.
SLOPE_STEP = {"square": (376.0, 54.0), "round": (306.0, 60.0), "gauss": (250.0, 40.0)}

needs_ptxas = pytest.mark.skipif(toolchain.find_tool("ptxas") is None, reason=f"no ptxas: {toolchain.PTXAS_HINT}")
needs_nvdisasm = pytest.mark.skipif(
    toolchain.find_tool("ptxas") is None or toolchain.find_tool("nvdisasm") is None,
    reason=f"no nvdisasm: {toolchain.NVDISASM_HINT}",
)


def _digest(ptx_only: tuple[str, ...]) -> str:
    """What the reports depend on: kernels, the reader, the tools and their releases."""
    digest = hashlib.sha256(repr(ptx_only).encode())
    reader = Path(kernel_report.__file__).parent
    for path in sorted([*(ROOT / "kernels").rglob("*.py"), *reader.rglob("*.py")]):
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    releases = {
        f"{one.metadata['Name']} {one.version}"
        for one in distributions()
        if (one.metadata["Name"] or "").startswith(("numba", "nvidia", "llvmlite"))
    }
    tools = [str(toolchain.find_tool(name)) for name in ("ptxas", "nvdisasm")]
    digest.update(repr((sorted(releases), tools)).encode())
    return digest.hexdigest()[:20]


@pytest.fixture(scope="session")
def reports(request) -> dict:
    """Every kernel on every architecture: (name, arch) -> KernelReport."""
    ptx_only = () if request.config.getoption("--long") else OTHERS
    kept = ROOT / ".cache" / f"cuda_reports_{_digest(ptx_only)}.pickle"
    if not kept.exists():
        made = kernel_report.examine_many(list(VARIANTS.values()), list(toolchain.ARCHITECTURES), ptx_only=ptx_only)
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_bytes(pickle.dumps(made))
        part.replace(kept)
    found = pickle.loads(kept.read_bytes())
    return {(f"{one.kernel}-{one.precision}", one.arch): one for one in found}


@pytest.mark.parametrize("arch", toolchain.ARCHITECTURES)
@pytest.mark.parametrize("name", VARIANTS)
def test_every_kernel_compiles_to_ptx(reports, name, arch):
    ptx = reports[name, arch].ptx
    assert f".target {arch}" in ptx
    assert ptx.count(".entry") == 1


@needs_ptxas
@pytest.mark.parametrize("arch", ALL)
@pytest.mark.parametrize("name", VARIANTS)
def test_no_kernel_spills_or_needs_a_stack(reports, name, arch):
    resources = reports[name, arch].resources
    assert (resources.spill_bytes, resources.stack) == (0, 0), resources


@needs_ptxas
@pytest.mark.parametrize("arch", ALL)
@pytest.mark.parametrize("name", VARIANTS)
def test_every_kernel_can_be_launched(reports, name, arch):
    assert reports[name, arch].occupancy > 0.0


@needs_ptxas
@pytest.mark.parametrize("arch", ALL)
@pytest.mark.parametrize("name", SQUARE)
def test_square_crystals_need_few_registers(reports, name, arch):
    assert reports[name, arch].resources.registers <= SQUARE_REGISTERS[arch]


@needs_nvdisasm
@pytest.mark.parametrize("arch", ALL)
@pytest.mark.parametrize("name", TILE)
def test_the_innermost_step_of_tile_kernels_holds_no_float64(reports, name, arch):
    step = reports[name, arch].step
    assert step.counts["fp32"] > 20, "this is not the step loop"
    assert step.counts["fp64"] == 0


@needs_nvdisasm
@pytest.mark.parametrize("arch", ALL)
@pytest.mark.parametrize("name", TILE)
def test_the_innermost_step_of_tile_kernels_calls_nothing(reports, name, arch):
    """A call would be a slow path: a division of denormal numbers, a large argument of the sine."""
    opcodes = reports[name, arch].step.opcodes
    assert not [one for one in opcodes if one.startswith(("CALL", "RET"))]


@pytest.mark.parametrize("name", VARIANTS)
def test_no_kernel_holds_the_slow_path_of_the_sine(reports, name):
    """Its range reduction reads a table of 2 / pi and keeps digits in local memory."""
    ptx = reports[name, "sm_90"].ptx
    assert "__cudart_i2opi" not in ptx
    assert "__local_depot" not in ptx


@needs_nvdisasm
@pytest.mark.parametrize("arch", ALL)
@pytest.mark.parametrize("name", [name for name in SQUARE if "table" in name])
def test_the_step_of_a_square_crystal_with_a_table_is_as_short_as_it_was(reports, name, arch):
    step = reports[name, arch].step
    assert step.total <= SQUARE_TABLE_STEP, step.as_dict()


@needs_ptxas
@pytest.mark.parametrize("arch", ALL)
@pytest.mark.parametrize("name", SPOTS)
def test_kernels_of_spots_need_few_registers(reports, name, arch):
    assert reports[name, arch].resources.registers <= SPOT_REGISTERS[arch]


@needs_nvdisasm
@pytest.mark.parametrize("arch", ALL)
@pytest.mark.parametrize("name", ["gauss-spots-mixed", "tophat-spots-mixed"])
def test_a_step_of_a_spot_that_ends_is_as_short_as_it_was(reports, name, arch):
    step = reports[name, arch].step
    assert 14 < step.counts["fp64"] <= SPOT_STEP_FLOAT64, step.as_dict()
    assert step.total <= SPOT_STEP, step.as_dict()


@needs_ptxas
@pytest.mark.parametrize("arch", ALL)
@pytest.mark.parametrize("name", SLOPES)
def test_kernels_of_slopes_need_few_registers(reports, name, arch):
    limit = SLOPE_REGISTERS_FLOAT64 if name.endswith("float64") else SLOPE_REGISTERS
    assert reports[name, arch].resources.registers <= limit


@needs_nvdisasm
@pytest.mark.parametrize("shape", SLOPE_STEP)
def test_a_step_of_slopes_is_as_short_as_it_was(reports, shape):
    step = reports[f"{shape}-slopes-mixed", "sm_90"].step
    most, in_float64 = SLOPE_STEP[shape]
    assert 30 < step.counts["fp64"] <= in_float64, step.as_dict()
    assert step.total <= most, step.as_dict()
