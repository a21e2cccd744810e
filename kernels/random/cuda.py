"""Random numbers on a GPU: the twin of philox and of effects."""

from bragg_numba.kernels._jit_cuda import SIMULATED, gpu_function, gpu_kernel, on_gpu
from bragg_numba.kernels.random import effects as cpu_effects
from bragg_numba.kernels.random import philox as cpu_philox
from bragg_numba.kernels.random import quantile as cpu_quantile
from numba import cuda, float32, float64, int32, uint32, uint64
from numba.cuda import libdevice

philox = on_gpu(cpu_philox)
quantile = on_gpu(cpu_quantile)

#: Threads in a block.
THREADS = 128

_0, _INFINITE = cpu_philox._0, cpu_philox.INFINITE
_CHUNK, _HALF = cpu_philox.CHUNK, cpu_philox.CHUNK // 2


if SIMULATED:
    product = cpu_effects.product
else:

    @gpu_function
    def product(a, b):
        """Return the product of two float32 as a multiplication of its own; twin of effects.product."""
        return libdevice.fmul_rn(a, b)


effects = on_gpu(
    cpu_effects,
    philox4x32=philox.philox4x32,
    unit_interval=philox.unit_interval,
    tail_deviate=quantile.tail_deviate,
    product=product,
)


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


@gpu_kernel
def photon_statistics(photons, statistics):
    """Fill ``statistics`` (chunks, N_STATISTICS) float64; a block sums a chunk, in the order of philox.sum_chunk."""
    # On lines of their own: the simulator knows them by these.
    sums = cuda.shared.array(_HALF, float64)
    most = cuda.shared.array(_HALF, float32)
    bad = cuda.shared.array(_HALF, int32)
    n_fast = photons.shape[1]
    n, thread = photons.shape[0] * n_fast, cuda.threadIdx.x
    for chunk in range(cuda.blockIdx.x, statistics.shape[0], cuda.gridDim.x):
        for i in range(thread, _HALF, THREADS):
            first = chunk * _CHUNK + i
            second = first + _HALF
            a = photons[first // n_fast, first % n_fast] if first < n else _0
            b = photons[second // n_fast, second % n_fast] if second < n else _0
            sums[i] = float64(a) + float64(b)
            most[i] = max(a, b)
            bad[i] = int32(not (_0 <= a < _INFINITE)) + int32(not (_0 <= b < _INFINITE))
        half = _HALF
        while half > 1:
            cuda.syncthreads()  # what is added was written by others
            half //= 2
            for i in range(thread, half, THREADS):
                sums[i] += sums[half + i]
                most[i] = max(most[i], most[half + i])
                bad[i] += bad[half + i]
        if thread == 0:
            statistics[chunk, cpu_philox.SUM] = sums[0]
            statistics[chunk, cpu_philox.MOST] = float64(most[0])
            statistics[chunk, cpu_philox.OVERLOADS] = 0.0
            statistics[chunk, cpu_philox.BAD] = float64(bad[0])
        cuda.syncthreads()  # the next chunk takes the same places
