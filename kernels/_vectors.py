"""How long the vectors of our kernels are, whatever the compiler prefers for what else runs in the process.

For Intel's processors with AVX-512, LLVM makes vectors of 256 bits (it calls this ``prefer-256-bit``): a few long ones
between much else would lower the clock for all of it. Our kernels are long vectors from the first pixel of a frame to
the last, and with 512 bits they take 0.69 to 0.79 of the time on a Rocket Lake. So each function that numba compiles
for us asks for them, with an attribute that LLVM has for this (``prefer-vector-width``); what numba compiles for
others stays as it is. Where LLVM makes vectors of that length anyway (AMD's AVX-512), or has none (AVX2, Arm), there
is no attribute, and our kernels stay as they are, too.
"""

import os
from copy import copy
from functools import cache

from bragg_numba.kernels._settings import VECTOR_BITS
from llvmlite import binding
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.registry import cpu_target

#: What our kernels are to have where the processor has it. With the processor it settles their code (KernelCache).
# No list of processors: LLVM knows which it would rather give 256 bits, and all of them get 512. That includes the
# first, though none was measured (skylake-avx512, cascadelake, cooperlake): their clock falls most, but where two
# units multiply 512 bits, as in most servers, they do twice as much in a clock, and our kernels do little else. LLVM's
# names do not tell models with one unit from those (Xeon Silver, Bronze), which may gain nothing: hence the variable.
# What is no length is refused where users come in (bragg_numba.checks.environment).
WANTED_BITS = 256 if os.environ.get(VECTOR_BITS, "").strip() == "256" else 512

_REGISTERS = {"zmm": 512, "ymm": 256, "xmm": 128}

# As many numbers as the longest register holds. The first attribute says that shorter registers will do, as it is for
# the vectors that LLVM makes of a loop.
_PROBE = """
target triple = "{triple}"

define <16 x float> @probe(<16 x float> %x) "min-legal-vector-width"="0" {attribute} {{
  %y = fadd <16 x float> %x, %x
  ret <16 x float> %y
}}
"""


@cache
def _bits(machine, attribute):
    """Bits of the vectors that LLVM chooses in functions of this attribute; None where it does not compile for x86."""
    code = machine.emit_assembly(binding.parse_assembly(_PROBE.format(triple=machine.triple, attribute=attribute)))
    return next((bits for name, bits in _REGISTERS.items() if name in code), None)


def _attribute(codegen):
    """The attribute of our functions as LLVM reads it; empty where it would change nothing."""
    wanted = f'"prefer-vector-width"="{WANTED_BITS}"'
    usual = _bits(codegen._tm, "")
    return "" if usual == WANTED_BITS or usual == _bits(codegen._tm, wanted) else wanted


def vector_bits():
    """Length of the vectors in our kernels, in bits; None where LLVM does not compile for x86."""
    codegen = cpu_target.target_context.codegen()
    return _bits(codegen._tm, _attribute(codegen))


class _Library(JITCodeLibrary):
    """Machine code of functions that have our attribute, each of them."""

    def add_ir_module(self, ir_module):
        for function in ir_module.functions:
            if not function.is_declaration:
                # Not by its own add, which takes no attributes that have values.
                set.add(function.attributes, _attribute(self.codegen))
        super().add_ir_module(ir_module)


@cache
def _ours(codegen):
    """Numba's codegen, with libraries of ours; and what numba has compiled with it for all functions that need it."""
    ours = copy(codegen)  # for the same processor, into the same memory
    ours._library_class = _Library
    return ours, {}


class KernelCompiler(Compiler):
    """Numba's compiler for our functions and for all that it makes of them: wrappers, and the body of a prange."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        context = self.state.targetctx
        if _attribute(context.codegen()):
            codegen, shared = _ours(context.codegen())
            self.state.targetctx = context.subtarget(_internal_codegen=codegen)
            # What others call, too: neither do they get our long vectors, nor we their short ones.
            self.state.targetctx.cached_internal_func = shared
