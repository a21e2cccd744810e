"""The equations, a pixel's walk and a thread's steps as functions of the GPU, from the source that the CPU runs.

Two of them have forms of their own here: sin and cos, which would take a stack, and places in an array, which
without a sign take half the registers.
"""

from bragg_numba.kernels import physics as cpu_physics
from bragg_numba.kernels import walk as cpu_walk
from bragg_numba.kernels._jit_cuda import gpu_function, on_gpu
from bragg_numba.kernels.pixels import cuda_steps
from numba import uint32


@gpu_function
def as_place(x):
    """walk.as_place in 32 bits without a sign."""
    return uint32(x)


physics = on_gpu(cpu_physics, sine_and_cosine=cpu_physics.sine_and_cosine_of_turns)
walk = on_gpu(cpu_walk, takes_arrays=True, physics=physics, as_place=as_place)
steps = on_gpu(cuda_steps, physics=physics, walk=walk)
