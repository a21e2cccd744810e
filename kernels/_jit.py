"""The only place where compiler flags are chosen."""

from numba import njit

# inline="always": one source serves the CPU and the GPU target.
# error_model="numpy": a division by zero gives inf or NaN instead of a branch that stops vectorisation.
device_function = njit(inline="always", error_model="numpy")

# A serial function that a kernel calls; strict IEEE arithmetic.
serial_kernel = njit(cache=True, error_model="numpy", nogil=True)

# A kernel whose outermost loop is a prange; strict IEEE arithmetic.
cpu_kernel = njit(parallel=True, cache=True, error_model="numpy", nogil=True)

# "contract" alone lets a product and a sum become one fused multiply-add: it only ever removes a rounding.
# The tile kernels live on it: half of their operations are such pairs.
fused_kernel = njit(cache=True, error_model="numpy", nogil=True, fastmath={"contract"})
