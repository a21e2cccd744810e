"""The only place where flags of the CUDA compiler are chosen; imported only where numba-cuda is."""

import math

from numba import config, cuda

#: numba's simulator runs kernels in Python, and device functions as the CPU's.
SIMULATED = bool(config.ENABLE_CUDASIM)

# inline="always": a kernel can be compiled without a driver, and loops stay visible to the compiler.
gpu_function = cuda.jit(device=True, inline="always")

# Strict but for fused multiply-adds, which numba-cuda cannot switch off.
gpu_kernel = cuda.jit()

# numba-cuda's fastmath: a division is a reciprocal and a product, subnormal numbers are 0, a product and a
# sum are one fused operation. It allows no reordering of sums, on which the split phases rely.
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
