"""From a CUDA kernel to PTX, to machine code and back to text, without a driver and without a GPU."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bragg_numba.errors import InputError

#: Compute capabilities that every kernel must compile for: Turing, Ampere, Ampere (desktop), Hopper, Blackwell.
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100")

#: Wheels that hold the tools; they must be of one release with the compiler's (libnvvm's) PTX or later.
PTXAS_HINT = "pip install nvidia-cuda-nvcc"
NVDISASM_HINT = "pip install nvidia-cuda-nvdisasm"


@dataclass(frozen=True, slots=True)
class Resources:
    """What the assembler says that a kernel takes."""

    registers: int
    stack: int  #: bytes a thread
    spill_bytes: int  #: stores and loads
    shared: int  #: bytes a block


def capability(arch: str) -> tuple[int, int]:
    """``sm_90`` -> (9, 0)."""
    match = re.fullmatch(r"(?:sm_)?(\d{2,3})|(\d{1,2})\.(\d)", arch)
    if match is None:
        raise InputError("arch", "must be a compute capability", arch, "sm_90 or 9.0")
    digits = match.group(1) or match.group(2) + match.group(3)
    return int(digits[:-1]), int(digits[-1])


def find_tool(name: str) -> str | None:
    """Path of ``ptxas`` or ``nvdisasm``: that of the wheels before that on the PATH, or None.

    The wheels are of one release with the compiler; an assembler on the PATH may be too old for its PTX.
    """
    for folder in _wheel_folders():
        path = folder / name
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    return shutil.which(name)


def _wheel_folders() -> list[Path]:
    root = Path(sysconfig.get_path("purelib")) / "nvidia"
    # cu13 wheels share one folder; those of CUDA 12 have one each.
    newest_first = sorted(root.glob("cu[0-9]*/bin"), reverse=True)
    return [*newest_first, root / "cuda_nvcc" / "bin", root / "cuda_nvdisasm" / "bin"]


def make_ptx(function, signature, arch: str, *, fastmath: bool = False, launch_bounds=None) -> str:
    """Compile a kernel, an undecorated function, to PTX.

    Raises
    ------
    InputError
        If numba-cuda is missing, or its simulator stands in for the compiler.
    """
    from bragg_numba.render.devices import require_numba_cuda, simulated

    require_numba_cuda()
    if simulated():
        raise InputError("the CUDA simulator", "compiles nothing", hint="unset NUMBA_ENABLE_CUDASIM")
    with _stand_in_device():
        library = _lowered(function, signature, fastmath, launch_bounds)
        if library is not None:
            return library.get_asm_strs(cc=capability(arch))[0]
        from numba import cuda

        options = {"fastmath": fastmath, "launch_bounds": launch_bounds}
        return cuda.compile_ptx(function, signature, cc=capability(arch), **options)[0]


class _NoDevice:
    """What numba-cuda asks of a device while it compiles the functions that a kernel calls."""

    compute_capability = capability(ARCHITECTURES[0])


@contextmanager
def _stand_in_device():
    """Let functions that kernels call be compiled where there is no driver: numba-cuda asks the GPU what it is.

    A kernel is told its architecture; the functions that it calls ask the current device, for nothing but
    their intermediate language, which is the same for all.
    """
    from numba.cuda import dispatcher

    real = dispatcher.get_current_device
    dispatcher.get_current_device = _NoDevice
    try:
        yield
    finally:
        dispatcher.get_current_device = real


@functools.cache
def _lowered(function, signature, fastmath: bool, launch_bounds):
    """A kernel as LLVM's language, which is the same for all architectures and takes most of the time to make.

    numba-cuda has no public name for it; None where a release has moved it, and every architecture is then
    compiled from the start.
    """
    from numba.cuda import compiler

    lower = getattr(compiler, "_compile_pyfunc_with_fixup", None)
    if lower is None:
        return None
    try:
        library, _ = lower(
            function,
            signature,
            debug=None,
            lineinfo=False,
            device=False,
            fastmath=fastmath,
            cc=capability(ARCHITECTURES[0]),
            opt=None,
            abi="numba",
            abi_info=None,
            forceinline=False,
            launch_bounds=launch_bounds,
            lto=False,
        )
    except TypeError:  # other arguments in another release; what is wrong with the kernel shows there too
        return None
    return library


def assemble(ptx: str, arch: str, cubin: str) -> Resources:
    """Run ``ptxas`` over PTX of one kernel; the machine code goes to the file ``cubin``.

    Raises
    ------
    InputError
        If there is no ptxas, or it refuses the PTX.
    """
    ptxas = find_tool("ptxas")
    if ptxas is None:
        raise InputError("ptxas", "is not on this machine", hint=PTXAS_HINT)
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, "kernel.ptx")
        Path(source).write_text(ptx)
        done = subprocess.run(
            [ptxas, f"-arch={arch}", "-v", source, "-o", cubin], capture_output=True, text=True, check=False
        )
    if done.returncode:
        first = (done.stderr.strip() or "no message").splitlines()[0]
        raise InputError("ptxas", f"refused the PTX for {arch}: {first}", hint=PTXAS_HINT)
    return read_resources(done.stderr + done.stdout)


def read_resources(text: str) -> Resources:
    """Read what ``ptxas -v`` prints about one kernel."""

    def number(pattern: str) -> int:
        return sum(int(found) for found in re.findall(pattern, text))

    return Resources(
        registers=number(r"Used (\d+) registers"),
        stack=number(r"(\d+) bytes stack frame"),
        spill_bytes=number(r"(\d+) bytes spill (?:stores|loads)"),
        shared=number(r"(\d+) bytes smem"),
    )


def disassemble(cubin: str) -> str | None:
    """The machine code of a cubin as text, or None where there is no nvdisasm."""
    nvdisasm = find_tool("nvdisasm")
    if nvdisasm is None:
        return None
    done = subprocess.run([nvdisasm, "-c", cubin], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


# --- occupancy ------------------------------------------------------------------------------------

#: Per multiprocessor (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"):
#: warps, blocks, bytes of shared memory. All have 65,536 registers, given out 256 to a warp.
_LIMITS = {
    (7, 5): (32, 16, 65536),
    (8, 0): (64, 32, 167936),
    (8, 6): (48, 16, 102400),
    (8, 7): (48, 16, 167936),
    (8, 9): (48, 24, 102400),
    (9, 0): (64, 32, 233472),
    (10, 0): (64, 32, 233472),
    (12, 0): (48, 24, 102400),
}
_REGISTERS, _REGISTER_UNIT, _WARP = 65536, 256, 32

#: Bytes of shared memory that the system takes of every block since compute capability 8.0.
_SYSTEM_SHARED = 1024


def occupancy(resources: Resources, threads: int, arch: str, dynamic_shared: int = 0) -> float:
    """Resident warps over the most that a multiprocessor holds, 0 to 1, by registers, shared memory and blocks.

    Parameters
    ----------
    threads
        Threads of a block.
    dynamic_shared
        Bytes of shared memory that the launch adds.
    """
    cc = capability(arch)
    known = [one for one in _LIMITS if one <= cc] or [min(_LIMITS)]
    warps, blocks, shared = _LIMITS[max(known)]
    warps_of_block = -(-threads // _WARP)
    registers_of_warp = -(-max(resources.registers, 1) * _WARP // _REGISTER_UNIT) * _REGISTER_UNIT
    fits = min(blocks, warps // warps_of_block, _REGISTERS // registers_of_warp // warps_of_block)
    used = resources.shared + dynamic_shared
    if used:
        fits = min(fits, shared // (used + (_SYSTEM_SHARED if cc >= (8, 0) else 0)))
    return fits * warps_of_block / warps
