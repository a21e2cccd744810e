"""Images as differentiable functions in PyTorch (docs/refine.md), and frames to learn from (docs/training.md).

``pip install bragg_numba[torch]``.
"""

from __future__ import annotations

from bragg_numba.errors import InputError

try:
    import torch  # noqa: F401
except ImportError as error:
    hint = "pip install torch"
    raise InputError("bragg_numba.torch", "needs PyTorch, which is not installed", hint=hint) from error

from bragg_numba.torch.frames import EpochSampler, Frames, collate
from bragg_numba.torch.image import Image

__all__ = ["EpochSampler", "Frames", "Image", "collate"]
