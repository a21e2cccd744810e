"""The only place where compiler flags are chosen, and where compiled kernels are fetched from their cache."""

from numba import njit
from numba.core.caching import FunctionCache
from numba.core.runtime import rtsys


class _QuickCache(FunctionCache):
    """A kernel cache that does not get the whole compiler ready before it looks.

    Numba imports and registers all it can compile (and SciPy, where installed) before it reads a compiled
    kernel: half of the time from a program's start to its first pixel. Running a compiled kernel needs the
    runtime alone; whoever has to compile one gets the rest ready then, as always.
    """

    def load_overload(self, sig, target_context):
        """Return the compiled kernel of a signature, or None; as in numba, without the refresh."""
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


def _quickly_loaded(decorate):
    def decorate_and_cache(function):
        dispatcher = decorate(function)
        # With NUMBA_DISABLE_JIT there is no dispatcher. A numba that keeps its cache elsewhere keeps its own.
        if isinstance(getattr(dispatcher, "_cache", None), FunctionCache):
            dispatcher._cache = _QuickCache(function)
        return dispatcher

    return decorate_and_cache


# inline="always": one source serves the CPU and the GPU target.
# error_model="numpy": a division by zero gives inf or NaN instead of a branch that stops vectorisation.
device_function = njit(inline="always", error_model="numpy")

# A serial function that a kernel calls; strict IEEE arithmetic.
serial_kernel = _quickly_loaded(njit(cache=True, error_model="numpy", nogil=True))

# A kernel whose outermost loop is a prange; strict IEEE arithmetic.
cpu_kernel = _quickly_loaded(njit(parallel=True, cache=True, error_model="numpy", nogil=True))

# "contract" alone lets a product and a sum become one fused multiply-add: it only ever removes a rounding.
# The tile kernels live on it: half of their operations are such pairs.
fused_kernel = _quickly_loaded(njit(cache=True, error_model="numpy", nogil=True, fastmath={"contract"}))
