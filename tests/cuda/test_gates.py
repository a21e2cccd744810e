"""Limits that the machine code of the CUDA kernels must keep; compiled and read without a GPU.

Every kernel is compiled once a session for all architectures, kernels side by side in several processes.
"""

from __future__ import annotations

import importlib.util

import pytest

from bragg_numba.render import devices, toolchain

if importlib.util.find_spec("numba_cuda") is None or devices.simulated():
    pytest.skip("needs numba-cuda with its compiler", allow_module_level=True)

from bragg_numba.render import kernel_report

VARIANTS = {f"{one.kernel}-{one.precision}": one for one in kernel_report.variants()}
TILE = [name for name, one in VARIANTS.items() if one.precision == "tile"]

#: Instructions of the innermost step of a square crystal with a table, on sm_90: what was reached.
SQUARE_TABLE_STEP = 110

#: Registers a thread of a square crystal's tile kernels: half of the warps that a multiprocessor holds.
SQUARE_REGISTERS = 64

needs_ptxas = pytest.mark.skipif(toolchain.find_tool("ptxas") is None, reason=f"no ptxas: {toolchain.PTXAS_HINT}")
needs_nvdisasm = pytest.mark.skipif(
    toolchain.find_tool("ptxas") is None or toolchain.find_tool("nvdisasm") is None,
    reason=f"no nvdisasm: {toolchain.NVDISASM_HINT}",
)


@pytest.fixture(scope="session")
def reports() -> dict:
    """Every kernel on every architecture: (name, arch) -> KernelReport."""
    found = kernel_report.examine_many(list(VARIANTS.values()), list(toolchain.ARCHITECTURES))
    return {(f"{one.kernel}-{one.precision}", one.arch): one for one in found}


@pytest.mark.parametrize("arch", toolchain.ARCHITECTURES)
@pytest.mark.parametrize("name", VARIANTS)
def test_every_kernel_compiles_to_ptx(reports, name, arch):
    ptx = reports[name, arch].ptx
    assert f".target {arch}" in ptx
    assert ptx.count(".entry") == 1


@needs_ptxas
@pytest.mark.parametrize("arch", toolchain.ARCHITECTURES)
@pytest.mark.parametrize("name", VARIANTS)
def test_no_kernel_spills_or_needs_a_stack(reports, name, arch):
    resources = reports[name, arch].resources
    assert (resources.spill_bytes, resources.stack) == (0, 0), resources


@needs_ptxas
@pytest.mark.parametrize("arch", toolchain.ARCHITECTURES)
@pytest.mark.parametrize("name", VARIANTS)
def test_every_kernel_can_be_launched(reports, name, arch):
    assert reports[name, arch].occupancy > 0.0


@needs_ptxas
@pytest.mark.parametrize("arch", toolchain.ARCHITECTURES)
@pytest.mark.parametrize("name", [name for name in TILE if name.startswith("square")])
def test_square_crystals_need_at_most_64_registers(reports, name, arch):
    assert reports[name, arch].resources.registers <= SQUARE_REGISTERS


@needs_nvdisasm
@pytest.mark.parametrize("arch", toolchain.ARCHITECTURES)
@pytest.mark.parametrize("name", TILE)
def test_the_innermost_step_of_tile_kernels_holds_no_float64(reports, name, arch):
    step = reports[name, arch].step
    assert step.counts["fp32"] > 20, "this is not the step loop"
    assert step.counts["fp64"] == 0


@needs_nvdisasm
@pytest.mark.parametrize("arch", toolchain.ARCHITECTURES)
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
def test_the_step_of_a_square_crystal_with_a_table_is_as_short_as_it_was(reports):
    steps = {name: reports[name, "sm_90"].step for name in TILE if name.startswith("square-table")}
    shortest = min(step.total for step in steps.values())
    assert shortest <= SQUARE_TABLE_STEP, {name: step.as_dict() for name, step in steps.items()}
