"""The point spread of frames on a GPU, its transforms made by NumPy in CuPy's place, against that of the host."""

from __future__ import annotations

import numpy as np
import pytest

from bragg_numba.response import cuda_spread, spread


@pytest.mark.parametrize("shape", [(40, 57), (1, 9), (33, 1)])
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("kind", ["gauss", "wide gauss", "fibre", "kernel"])
def test_frames_are_spread_as_on_the_host(kind, exact, shape):
    image = np.random.default_rng(2).gamma(0.3, 30.0, shape).astype(np.float32)
    kernel = np.random.default_rng(3).uniform(0.0, 0.1, (3, 5))
    width = {"gauss": 1.3, "wide gauss": 60.0, "fibre": 1.1}.get(kind, 0.0)
    if kind == "kernel":
        padded, transform = cuda_spread.kernel_transform(kernel, shape, np)
    else:
        made = cuda_spread.fibre_transform if kind == "fibre" else cuda_spread.gauss_transform
        padded, transform = made(width, shape, exact, np)
    found = cuda_spread.convolved(image, transform, padded, exact, np)
    expected = spread.spreader(kind.split()[-1], width, kernel, exact=exact)(image)
    assert (found.dtype, found.flags.c_contiguous) == (np.float32, True)
    # Both are right to the rounding of float32; unless exact, the transform is made in it, in some ten passes.
    limit = np.finfo(np.float32).eps * image.max() * (1 if exact else 10)
    np.testing.assert_allclose(found, expected, rtol=2e-7 if exact else 0, atol=limit)
    assert found.min() >= (0.0 if exact else -limit)
