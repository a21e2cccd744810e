"""pytest-benchmark suites of the GPU cases; skipped, with the reason, where no GPU is usable.

Not part of the gates: there is nothing recorded to hold them against yet.
"""

from __future__ import annotations

import pytest
from gpu_cases import FULL_PATH_FRAMES, GPU_CASES, missing_gpu, render_on_gpu, write_series

REASON = missing_gpu()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)


@pytest.mark.parametrize("name", GPU_CASES)
def test_warm_render_on_a_gpu(benchmark, name):
    simulator, render = render_on_gpu(GPU_CASES[name])

    benchmark(render)

    benchmark.extra_info["pixel_steps"] = simulator.plan.pixel_steps
    benchmark.extra_info["precision"] = simulator.precision
    benchmark.extra_info["device"] = simulator.device


def test_full_path_with_noise_and_hdf5(benchmark, tmp_path):
    write_series(str(tmp_path))

    benchmark(write_series, str(tmp_path))

    benchmark.extra_info["frames"] = FULL_PATH_FRAMES
