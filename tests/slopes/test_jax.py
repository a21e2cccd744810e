"""Images in JAX: their gradients are those of differences."""

from __future__ import annotations

import numpy as np
import pytest

from bragg_numba import Crystal, Detector, Experiment, Simulator, StructureFactors

jax = pytest.importorskip("jax", reason="JAX is not installed")

NAMES = "crystal.cell[0],orientation,distance,scale"


@pytest.fixture(autouse=True)
def _in_float64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def experiment() -> Experiment:
    return Experiment(
        crystal=Crystal(cell=(50, 60, 70, 90, 95, 90), cell_counts=(3, 4, 5), misset_deg=(5, 9, 2)),
        detector=Detector(n_fast=12, n_slow=11, pixel_mm=1, distance_mm=60),
        structure_factors=StructureFactors(default_F=10),
        fidelity="physical",
    )


def test_gradients_are_those_of_differences_and_of_the_compiled_function():
    from bragg_numba.jax import Image

    image = Image(experiment(), NAMES)
    target = image(image.start) * 1.1

    def loss(values):
        return ((image(values) - target) ** 2).sum()

    found = np.asarray(jax.grad(loss)(image.start))
    assert found == pytest.approx(np.asarray(jax.jit(jax.grad(loss))(image.start)), rel=1e-12)
    for i, step in enumerate(np.full(len(found), 1e-4) * np.eye(len(found))):
        plain = (loss(image.start + step) - loss(image.start - step)) / 2e-4
        assert found[i] == pytest.approx(float(plain), rel=1e-5)


def test_photons_are_the_simulators_one_after_the_other_too():
    from bragg_numba.jax import Image

    image = Image(experiment(), "scale")
    rendered = Simulator(experiment(), backend="cpu", precision="float64").render()
    both = jax.vmap(image)(np.array([[1.0], [2.0]]))
    assert np.allclose(both[0], rendered, rtol=1e-5) and np.allclose(both[1], 2 * rendered, rtol=1e-5)
