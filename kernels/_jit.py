"""The only place where compiler flags are chosen."""

from functools import partial

import numba.experimental.function_type  # noqa: F401 - registers what a kernel called by its address is passed as
import numpy as np
from bragg_numba.kernels._cache import KernelCache
from bragg_numba.kernels._launch import ParallelKernel
from bragg_numba.kernels._vectors import KernelCompiler
from numba import config, njit, typeof, types
from numba.core.ccallback import CFunc

# Whatever is compiled for us has vectors of our length.
_compiled = partial(njit, pipeline_class=KernelCompiler)


def _kept(compiler, variant=""):
    """A decorator whose functions, once compiled, are fetched from where an earlier process kept them."""

    def decorate(function):
        if config.DISABLE_JIT:
            return function
        dispatcher = compiler(function)
        dispatcher._cache = KernelCache(function, variant)
        return dispatcher

    return decorate


def _started_by_python(decorate, alone):
    def decorate_and_wrap(function):
        return function if config.DISABLE_JIT else ParallelKernel(decorate(function), partial(alone, function))

    return decorate_and_wrap


def uncompiled(function):
    """Return the Python function of a compiled one, for the few numbers of a set-up; with NUMBA_DISABLE_JIT itself."""
    return getattr(function, "py_func", function)


# inline="always": one source serves the CPU and the GPU target.
# error_model="numpy": a division by zero gives inf or NaN instead of a branch that stops vectorisation.
device_function = _compiled(inline="always", error_model="numpy")

# A device function that is typed once and inlined by LLVM: those whose source would be copied many times over.
shared_function = _compiled(forceinline=True, error_model="numpy")

_STRICT = {"error_model": "numpy", "nogil": True}

# A serial function that a kernel calls; strict IEEE arithmetic.
serial_kernel = _kept(_compiled(**_STRICT))

# A kernel whose outermost loop is a prange, to be called from Python; strict IEEE arithmetic. The same with a plain
# loop is for forks that have lost their threads, and compiled there alone.
cpu_kernel = _started_by_python(
    _kept(_compiled(parallel=True, **_STRICT)), alone=_kept(_compiled(**_STRICT), variant="alone")
)

# "contract" alone lets a product and a sum become one fused multiply-add: it only ever removes a rounding.
# The tile kernels live on it: half of their operations are such pairs.
# _nrt=False: they allocate nothing (numba would say so), and do not count references to arrays that their caller
# holds: locked additions, a dozen for each step of a tile.
_FUSED = {"error_model": "numpy", "fastmath": {"contract"}, "_nrt": False}
fused_kernel = _kept(_compiled(nogil=True, **_FUSED))

# "reassoc" lets a sum over a block's pixels be made in vectors: in an order of its own, but always in the same one.
summing_kernel = _kept(_compiled(error_model="numpy", fastmath={"contract", "reassoc"}, nogil=True))


class _Address:
    """What numba takes for a function of one signature at an address."""

    def __init__(self, kernel):
        self._kernel = kernel  # for as long as its code may be called
        self._numba_type_ = typeof(kernel)

    def __wrapper_address__(self):
        return self._kernel.address


def _kind(value):
    """A key that values of one numba type share; numba takes ten times as long to name the type."""
    if isinstance(value, tuple):
        kinds = tuple(map(type, value))
        return type(value), tuple(map(_kind, value)) if np.ndarray in kinds or tuple in kinds else kinds
    if isinstance(value, np.ndarray):
        f = value.flags
        layout = "C" if f.c_contiguous else "F" if f.f_contiguous else "A"  # as numba sees them
        return value.dtype, value.ndim, layout, f.writeable, f.aligned
    # By identity: numba hashes a type by its whole description. The kernel that is kept for it keeps it alive.
    return id(value) if isinstance(value, types.Type) else type(value)


class AddressedKernel:
    """A serial function that a parallel kernel gets as an argument and calls by its address.

    What it calls by name, numba makes a part of it and optimises again, in a parallel kernel three times: with the
    tiles' kernels, the compilation before a first frame took half as long again.
    """

    def __init__(self, function, returns, options):
        self._function, self._returns, self._options = function, returns, options
        self._compiled = {}

    def given(self, *arguments):
        """Return what to pass for calls with arguments of the types of these (values or numba types)."""
        if config.DISABLE_JIT:
            return self._function
        kinds = tuple(map(_kind, arguments))
        if kinds not in self._compiled:
            exact = tuple(a if isinstance(a, types.Type) else typeof(a) for a in arguments)
            kernel = CFunc(self._function, (exact, self._returns), {}, self._options, KernelCompiler)
            kernel._cache = KernelCache(self._function)
            kernel.compile()
            self._compiled[kinds] = _Address(kernel)
        return self._compiled[kinds]


def _addressed(options, returns):
    return partial(AddressedKernel, returns=returns, options=options)


# As serial_kernel and fused_kernel, for a cpu_kernel to call by its address; of the numba type of what they return.
addressed_serial_kernel = partial(_addressed, {"error_model": "numpy"})
addressed_fused_kernel = partial(_addressed, _FUSED)
