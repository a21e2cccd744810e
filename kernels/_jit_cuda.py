"""The only place where flags of the CUDA compiler are chosen; imported only where numba-cuda is."""

import math
from types import FunctionType, ModuleType

from numba import config, cuda

#: numba's simulator runs kernels in Python, and device functions as the CPU's.
SIMULATED = bool(config.ENABLE_CUDASIM)

# forceinline: LLVM inlines, after numba has typed each function once. numba's own inline="always" copies the
# source of every callee into every caller before it types them, which took eight times as long to compile.
# fastmath: a float32 division is the kernel's short one; in float64 it changes nothing.
if SIMULATED:
    gpu_function = cuda.jit(device=True, inline="always")
else:
    gpu_function = cuda.jit(device=True, forceinline=True, fastmath=True)

# Shared memory must be made in the kernel itself: its size is a constant only there.
gpu_inlined = cuda.jit(device=True, inline="always")

# Strict but for fused multiply-adds, which numba-cuda cannot switch off.
gpu_kernel = cuda.jit()


# numba-cuda's fastmath: a division is a reciprocal and a product, subnormal numbers are 0, a product and a
# sum are one fused operation. It allows no reordering of sums, on which the split phases rely.
# No launch bounds: asked for 64 registers ptxas spills a value here and there, left alone it takes as many.
gpu_fast_kernel = cuda.jit(fastmath=True)


def _register_ufuncs():
    """Teach numba-cuda np.rint and np.sqrt of scalars, which physics uses and its table of ufuncs lacks."""
    import numpy as np

    if SIMULATED:
        return
    from numba.core import cgutils
    from numba.cuda import mathimpl, ufuncs

    def rint(context, builder, sig, args):
        kind = args[0].type
        name = "__nv_rintf" if sig.args[0].bitwidth == 32 else "__nv_rint"  # libdevice's
        signature = cgutils.ir.FunctionType(kind, [kind])
        return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), args)

    def sqrt(context, builder, sig, args):
        return mathimpl.get_unary_impl_for_fn_and_ty(math.sqrt, sig.args[0])(context, builder, sig, args)

    known = ufuncs.ufunc_db()
    for ufunc, lower in ((np.rint, rint), (np.sqrt, sqrt)):
        known.setdefault(ufunc, {"f->f": lower, "d->d": lower})


_register_ufuncs()


def on_gpu(module, *, takes_arrays=False, **others):
    """A module of device functions (those of _jit) as one of GPU functions, from the same source.

    The functions see each other, and ``others`` in place of what has that name: modules of GPU functions, GPU
    functions, or device functions of the module itself. In the simulator the module serves as it is; if any of its
    functions ``takes_arrays``, in Python: those of the simulator are none that compiled functions take.
    """
    if SIMULATED and not takes_arrays:
        return module
    twin = ModuleType(f"{module.__name__}_on_gpu", module.__doc__)
    names = twin.__dict__
    names.update({name: value for name, value in vars(module).items() if not name.startswith("__")}, **others)
    for name, value in list(names.items()):
        function = getattr(value, "py_func", None)
        if function is not None and function.__module__ == module.__name__ and is_device_function(value):
            function = FunctionType(function.__code__, names, name, function.__defaults__)
            names[name] = function if SIMULATED else gpu_function(function)
    return twin


def is_device_function(dispatcher):
    """Tell whether a function of the CPU's becomes a part of its callers: _jit.device_function, shared_function."""
    options = dispatcher.targetoptions
    return options.get("inline") == "always" or bool(options.get("forceinline"))
