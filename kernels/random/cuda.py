"""Random numbers on a GPU: the twin of philox."""

from bragg_numba.kernels._jit_cuda import gpu_kernel, on_gpu
from bragg_numba.kernels.random import philox as cpu_philox
from numba import cuda, float64, uint32, uint64

philox = on_gpu(cpu_philox)

#: Threads in a block.
THREADS = 128


@gpu_kernel
def poisson_counts(photons, seed, frame, first_pixel, counts):
    """Draw a count for each pixel into ``counts``; twin of philox.poisson_counts."""
    n_fast = photons.shape[1]
    k0 = uint64(seed) & philox.LOW_WORD
    k1 = uint64(seed) >> philox.WORD_BITS
    frame_word = uint64(frame)
    for pixel in range(cuda.grid(1), photons.shape[0] * n_fast, cuda.gridsize(1)):
        row, column = pixel // n_fast, pixel % n_fast
        place = uint64(first_pixel) + uint64(pixel)
        counts[row, column] = uint32(philox.poisson_count(float64(photons[row, column]), place, frame_word, k0, k1))
