"""Images as differentiable functions in PyTorch (docs/refine.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from bragg_numba.experiment import Experiment
from bragg_numba.slopes.function import ImageFunction


class _Photons(torch.autograd.Function):
    """Photons of pixels from values of parameters; slopes come from the package's own kernels."""

    @staticmethod
    def forward(values: torch.Tensor, function: ImageFunction) -> torch.Tensor:
        return _like(values, function.image(_array(values)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
        values, ctx.function = inputs
        ctx.save_for_backward(values)
        ctx.save_for_forward(values)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, weights: torch.Tensor) -> tuple[torch.Tensor, None]:
        (values,) = ctx.saved_tensors
        return _like(values, ctx.function.pull(_array(values), _array(weights))), None

    @staticmethod
    def jvp(ctx: Any, direction: torch.Tensor, _: None) -> torch.Tensor:
        (values,) = ctx.saved_tensors
        return _like(values, ctx.function.push(_array(values), _array(direction)))


def _array(tensor: torch.Tensor):
    return tensor.detach().cpu().double().numpy()


def _like(values: torch.Tensor, array) -> torch.Tensor:
    return torch.from_numpy(array).to(dtype=values.dtype, device=values.device)


class Image:
    """Photons (slow, fast) of an experiment as a function of parameters; ``names`` and ``start`` say which.

    Parameters
    ----------
    experiment, parameters, options
        As ``slopes.function.ImageFunction`` takes them.

    Examples
    --------
    >>> from bragg_numba.torch import Image  # doctest: +SKIP
    >>> image = Image(experiment, "orientation,scale")  # doctest: +SKIP
    >>> values = image.start.requires_grad_()  # doctest: +SKIP
    >>> image(values).sum().backward()  # doctest: +SKIP
    """

    def __init__(self, experiment: Experiment, parameters: str | Iterable[str], **options: Any) -> None:
        self._function = ImageFunction(experiment, parameters, **options)
        self.names, self.shape = self._function.names, self._function.shape

    @property
    def start(self) -> torch.Tensor:
        """The experiment's own values, float64."""
        return torch.from_numpy(self._function.start)

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Photons where the parameters have these values, in the tensor's type and on its device."""
        return _Photons.apply(values, self._function)
