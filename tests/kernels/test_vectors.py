"""How long the vectors of our kernels are. Each process compiles for a processor that it is told, not for its own."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest
from llvmlite import binding

#: Processors by LLVM's names, with the features that the name implies: the first prefer 256 bits of their 512.
INTEL = ("skylake-avx512", "rocketlake", "sapphirerapids")
AMD, AVX2 = ("znver4", "znver5"), ("znver3", "haswell")

#: The versions of LLVM that were the first to know a processor.
KNOWN_SINCE = {"znver4": 16, "znver5": 19}

of_x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="compiles for x86 processors")
runs_avx512 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or not binding.get_host_cpu_features().get("avx512vl"),
    reason="runs kernels with AVX-512, which this processor has not",
)


@pytest.fixture
def run(tmp_path):
    """A function that runs code, compiling for a processor, and returns what the code leaves in ``found``."""

    def run(processor: str, code: str, *words: str, **variables: str) -> dict:
        if binding.llvm_version_info[0] < KNOWN_SINCE.get(processor, 0):
            pytest.skip(f"LLVM {binding.llvm_version_info[0]} does not know the processor {processor}")
        script = tmp_path / "script.py"
        script.write_text(f"{COUNTING}\n{code}\nprint(json.dumps(found))")
        usual = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": "", "BRAGG_NUMBA_VECTOR_BITS": ""}
        env = {**os.environ, **usual, **variables}
        done = subprocess.run([sys.executable, str(script), *words], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


#: ``instructions``: those of a compiled function, or of one that was fetched, without the names of what they refer to.
COUNTING = """
import hashlib, json, re, sys


def instructions(library):
    code = library.codegen._tm.emit_assembly(library._get_module_for_linking())
    lines = [line for line in code.splitlines() if line.startswith("\\t") and not line.startswith("\\t.")]
    return [re.sub(r'".*"|[^ ,("]*(_Z|\\.L|const|\\.kernel)[^ ,(]*', "", line) for line in lines]


def count(library):
    lines = instructions(library)
    return {name: sum(f"%{name}" in line for line in lines) for name in ("zmm", "ymm")}
"""

#: A kernel of each kind and what numba makes of the same functions for others, compiled and not run.
KINDS = """
import numba
import numpy as np
from bragg_numba.kernels import _jit
from bragg_numba.kernels._vectors import vector_bits
from numba import types

row = types.Array(types.float32, 1, "C")


def scaled(x, n, y):
    for i in range(len(x)):
        y[i] += x[i] * x[i] + np.float32(n**3)  # a power: a function that numba compiles once, for all who call it


def in_parallel(x, n, y):
    for i in numba.prange(len(x)):
        for j in range(len(y)):
            y[j] += x[i] * x[j] + np.float32(n**3)


def library(dispatcher):
    dispatcher.compile((row, types.int64, row))
    (found,) = dispatcher.overloads.values()
    return found.library


usual = {"error_model": "numpy", "nogil": True}
fused = {**usual, "fastmath": {"contract"}, "_nrt": False}
ours = {
    "serial": library(_jit.serial_kernel(scaled)),
    "fused": library(_jit.fused_kernel(scaled)),
    "shared": library(_jit.shared_function(scaled)),
    "parallel": library(_jit.cpu_kernel(in_parallel)._kernel),
    "addressed": _jit.addressed_serial_kernel(types.void)(scaled).given(row, types.int64, row)._kernel._library,
}
users = {
    "serial": library(numba.njit(scaled, **usual)),
    "fused": library(numba.njit(scaled, **fused)),
    "shared": library(numba.njit(scaled, error_model="numpy", forceinline=True)),
    "parallel": library(numba.njit(in_parallel, parallel=True, **usual)),
}
found = {"bits": vector_bits()}
"""

SIDE_BY_SIDE = f"""{KINDS}
found["ours"] = {{name: count(library) for name, library in ours.items()}}
found["users"] = {{name: count(library) for name, library in users.items()}}
found["marked"] = [name for name, library in users.items() if "prefer-vector-width" in library.get_llvm_str()]
found["same"] = [name for name in users if instructions(ours[name]) == instructions(users[name])]
"""


@of_x86
@pytest.mark.parametrize("processor", INTEL)
def test_where_the_compiler_prefers_256_bits_our_kernels_have_512_and_those_of_others_stay(run, processor):
    found = run(processor, SIDE_BY_SIDE)

    assert found["bits"] == 512
    assert all(counts["zmm"] for counts in found["ours"].values()), found["ours"]
    assert not any(counts["zmm"] for counts in found["users"].values()), found["users"]
    assert all(counts["ymm"] for counts in found["users"].values())
    assert found["marked"] == []


@of_x86
@pytest.mark.parametrize(("processor", "bits"), [*((name, 512) for name in AMD), *((name, 256) for name in AVX2)])
def test_elsewhere_our_kernels_are_what_the_compiler_makes_of_them(run, processor, bits):
    found = run(processor, SIDE_BY_SIDE)

    assert found["bits"] == bits
    assert sorted(found["same"]) == sorted(found["users"])


@of_x86
@pytest.mark.parametrize("processor", ["rocketlake", "znver4"])
def test_the_variable_asks_for_256_bits_in_our_kernels_alone(run, processor):
    usual, asked = (run(processor, SIDE_BY_SIDE, BRAGG_NUMBA_VECTOR_BITS=bits) for bits in ("", "256"))

    assert (usual["bits"], asked["bits"]) == (512, 256)
    assert not any(counts["zmm"] for counts in asked["ours"].values())
    assert asked["users"] == usual["users"]


#: What a tile of several shapes looks like, and the kernels that made it.
RENDERING = """
from bragg_numba import Experiment, Simulator
from bragg_numba.kernels.pixels import cpu

found = {}
cell = "-cell 50 60 70 80 95 100 -default_F 100 -lambda 1.5 -N 5 -mosaic 1 -mosaic_dom 3"
for name in sys.argv[1:]:
    shape, precision = name.split("/")
    words = f"{cell} -{shape} -distance 100 -detpixels_x 130 -detpixels_y 40 -pixel 0.8 -oversample 2"
    simulator = Simulator(Experiment.from_nanobragg(words), backend="cpu", precision=precision)
    image = simulator.render()
    assert image.max() > 3 * image.mean() > 0
    kernel = simulator._renderer._kernels[precision]
    digest = hashlib.sha256(image.tobytes()).hexdigest()
    found[name] = {"image": digest, "kernel": count(kernel._kernel._library)}
for kernel in (cpu.add_bragg_tile, cpu.add_bragg_float64):
    for made in kernel._kernel.overloads.values():
        found[kernel.__name__] = {"kernel": count(made.library)}
"""

FIRST = ("square_xtal/tile", "square_xtal/float64")
OTHERS = ("round_xtal/tile", "gauss_xtal/tile", "tophat_spots/tile")


@runs_avx512
@pytest.mark.parametrize("shapes", [FIRST, pytest.param(OTHERS, marks=pytest.mark.slow)], ids=["square", "others"])
def test_the_kernels_of_a_tile_have_512_bits_and_the_image_is_that_of_256_bit_for_bit(run, shapes):
    # With the features of this processor, which is to run it: only the name prefers 256 bits.
    features = binding.get_host_cpu_features().flatten()
    wide, narrow = (
        run("rocketlake", RENDERING, *shapes, NUMBA_CPU_FEATURES=features, BRAGG_NUMBA_VECTOR_BITS=bits)
        for bits in ("", "256")
    )

    assert wide.keys() == narrow.keys() >= {*shapes}
    for name, of_name in wide.items():
        assert of_name.get("image") == narrow[name].get("image"), name
        # Short loops of some lengths are unrolled into whatever registers hold them: a few zmm are always there.
        assert of_name["kernel"]["zmm"] > 10 * narrow[name]["kernel"]["zmm"], name
        assert narrow[name]["kernel"]["ymm"] > of_name["kernel"]["ymm"], name
