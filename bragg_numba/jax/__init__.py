"""Images as differentiable functions in JAX (docs/refine.md); ``pip install bragg_numba[jax]``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.experiment import Experiment
from bragg_numba.slopes.function import ImageFunction

try:
    import jax
except ImportError as error:
    raise InputError("bragg_numba.jax", "needs JAX, which is not installed", hint="pip install jax") from error

__all__ = ["Image"]


class Image:
    """Photons (slow, fast) of an experiment as a function of parameters; ``names`` and ``start`` say which.

    It may stand in ``jax.grad``, ``jax.jit`` and, one after the other, ``jax.vmap``: the kernels run on the host. With
    ``jax_enable_x64`` values and photons are float64, else float32.

    Parameters
    ----------
    experiment, parameters, options
        As ``slopes.function.ImageFunction`` takes them.
    """

    def __init__(self, experiment: Experiment, parameters: str | Iterable[str], **options: Any) -> None:
        self._function = ImageFunction(experiment, parameters, **options)
        self.names, self.shape = self._function.names, self._function.shape
        self._photons = _differentiable(self._function)

    @property
    def start(self) -> jax.Array:
        """The experiment's own values."""
        return jax.numpy.asarray(self._function.start)

    def __call__(self, values: jax.Array) -> jax.Array:
        """Photons where the parameters have these values."""
        return self._photons(jax.numpy.asarray(values, dtype=float))


def _differentiable(function: ImageFunction) -> Callable[[jax.Array], jax.Array]:
    """The image of values with the gradient of the package's own kernels."""

    def on_host(compute: Callable[..., np.ndarray], shape: tuple[int, ...], *given: jax.Array) -> jax.Array:
        kind = jax.ShapeDtypeStruct(shape, given[0].dtype)

        def call(*arrays: Any) -> np.ndarray:
            return np.asarray(compute(*map(np.asarray, arrays)), dtype=kind.dtype)

        return jax.pure_callback(call, kind, *given, vmap_method="sequential")

    @jax.custom_vjp
    def photons(values: jax.Array) -> jax.Array:
        return on_host(function.image, function.shape, values)

    def forward(values: jax.Array) -> tuple[jax.Array, jax.Array]:
        return photons(values), values

    def backward(values: jax.Array, weights: jax.Array) -> tuple[jax.Array]:
        return (on_host(function.pull, values.shape, values, weights),)

    photons.defvjp(forward, backward)
    return photons
