"""What the CUDA kernels compile to: registers, memory, occupancy and the instructions of the innermost step."""

from __future__ import annotations

import functools
import os
import tempfile
from dataclasses import dataclass

from bragg_numba.lab.machine_code import sass, toolchain
from bragg_numba.lab.machine_code.toolchain import Resources

#: Bytes of a cell in float64, which the float64 kernels read from global memory at every step.
_CELL_BYTES = 72


@dataclass(frozen=True, slots=True)
class KernelReport:
    """One kernel on one architecture; what no tool could say is None."""

    kernel: str
    precision: str
    arch: str
    threads: int
    resources: Resources | None
    occupancy: float | None
    step: sass.Step | None
    ptx: str
    listing: str | None

    def as_dict(self) -> dict:
        """The fields of ``bragg-numba cuda-report --json``."""
        found = self.resources
        return {
            "kernel": self.kernel,
            "precision": self.precision,
            "arch": self.arch,
            "registers": found.registers if found else None,
            "stack": found.stack if found else None,
            "spill_bytes": found.spill_bytes if found else None,
            "shared_bytes": found.shared if found else None,
            "threads": self.threads,
            "occupancy": None if self.occupancy is None else round(self.occupancy, 3),
            "sass_innermost": self.step.as_dict() if self.step else None,
        }


def variants() -> list:
    """Every kernel that cuda-report knows, as the ``cuda_variants`` of the rooms of ``kernels`` list them.

    Raises
    ------
    InputError
        If numba-cuda is missing.
    """
    from bragg_numba.render.devices import require_numba_cuda

    require_numba_cuda()
    from bragg_numba.kernels.pixels import cuda_variants as pixels
    from bragg_numba.kernels.response import cuda_variants as response
    from bragg_numba.kernels.spots import cuda_variants as spots

    return [*_variants(pixels), *_variants(spots), *_variants(response)]


@functools.cache
def _variants(module) -> list:
    return list(module.variants())


def missing_tools() -> list[str]:
    """A sentence for each tool that is not there, and what its absence costs."""
    found = []
    if toolchain.find_tool("ptxas") is None:
        found.append(
            "no ptxas: compiled to PTX only, registers and machine code are unknown "
            f"({toolchain.PTXAS_HINT}, of the same release as nvidia-nvvm)"
        )
    elif toolchain.find_tool("nvdisasm") is None:
        found.append(f"no nvdisasm: the instructions of the innermost step are unknown ({toolchain.NVDISASM_HINT})")
    return found


@functools.cache
def examine(variant, arch: str, *, machine_code: bool = True) -> KernelReport:
    """Compile one kernel for one architecture and read what came out; the answer is kept.

    Without ``machine_code`` only to PTX, in a third of the time.
    """
    options = {"fastmath": variant.fastmath, "launch_bounds": getattr(variant, "launch_bounds", None)}
    ptx = toolchain.make_ptx(variant.function, variant.signature, arch, **options)
    resources = step = listing = None
    if machine_code and toolchain.find_tool("ptxas") is not None:
        with tempfile.TemporaryDirectory() as folder:
            cubin = os.path.join(folder, "kernel.cubin")
            resources = toolchain.assemble(ptx, arch, cubin)
            listing = toolchain.disassemble(cubin)
    if listing is not None:
        step = innermost_step(listing, variant.precision, variant.pixels)
    fill = toolchain.occupancy(resources, variant.threads, arch) if resources else None
    return KernelReport(variant.kernel, variant.precision, arch, variant.threads, resources, fill, step, ptx, listing)


def examine_many(
    chosen: list, archs: list[str], *, ptx_only: tuple[str, ...] = (), processes: int | None = None
) -> list[KernelReport]:
    """Examine kernels for architectures, each kernel in one of several processes; by architecture, then kernel.

    For the architectures ``ptx_only`` no machine code is made.
    """
    tasks = [(arch, arch not in ptx_only) for arch in archs]
    processes = min(len(chosen), processes or os.cpu_count() or 1)
    if processes < 2:
        return [examine(one, arch, machine_code=code) for arch, code in tasks for one in chosen]
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # Spawned: a fork of a process whose numba threads run may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        jobs = [pool.submit(_examine_named, one.kernel, one.precision, tasks) for one in chosen]
        columns = [job.result() for job in jobs]
    return [column[i] for i in range(len(tasks)) for column in columns]


def _examine_named(kernel: str, precision: str, tasks: list[tuple[str, bool]]) -> list[KernelReport]:
    """In a process of its own: functions do not travel, names do."""
    variant = next(one for one in variants() if (one.kernel, one.precision) == (kernel, precision))
    return [examine(variant, arch, machine_code=code) for arch, code in tasks]


def innermost_step(listing: str, precision: str, pixels: int) -> sass.Step | None:
    """The innermost step of the one kernel in a listing."""
    from bragg_numba.kernels.pixels.cuda_steps import STEP_SIZE

    bodies = list(sass.functions(listing).values())
    if not bodies:
        return None
    if precision == "tile":
        return sass.innermost_step(bodies[0], ("LDS", 4 * STEP_SIZE), pixels)
    if precision == "mixed":
        return _step_of_spot(bodies[0], pixels)
    # Too large to be unrolled. Where interpolation loops inside a step, its loop is the innermost.
    step = sass.innermost_step(bodies[0], ("LDG", _CELL_BYTES), pixels, unrolls=False)
    return step or sass.innermost_step(bodies[0], None, pixels)


def _step_of_spot(body: list[str], pixels: int) -> sass.Step | None:
    """A pixel's step in a kernel that goes spot by spot: its outline, and all else if the outline holds the pixel."""
    from bragg_numba.kernels.spots.cuda_tile import OUTLINE_SIZE, RECORD_SIZE

    of_outline = 4 * OUTLINE_SIZE
    loop = sass.innermost_step(body, ("LDS", of_outline), pixels, unrolls=False)
    # What a step reads lies in two arrays: how many steps the body holds is told by all that it reads.
    of_step = of_outline + 8 * RECORD_SIZE
    return loop and loop.shared_by(max(1, round(loop.bytes_loaded("LDS") / of_step)))


def reference_loop(report: KernelReport) -> dict[str, float] | None:
    """Instructions by class of the loop in which a tile kernel makes one step's reference phases in float64."""
    bodies = list(sass.functions(report.listing).values()) if report.listing else []
    return sass.densest_loop(bodies[0], "fp64") if bodies else None
