"""Images in PyTorch: their gradients are those of differences."""

from __future__ import annotations

import numpy as np
import pytest

from bragg_numba import Crystal, Detector, Experiment, Simulator, StructureFactors

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

#: PyTorch warns of parts of its own as it loads them.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

NAMES = "crystal.cell[0],orientation,distance,scale"


def experiment() -> Experiment:
    return Experiment(
        crystal=Crystal(cell=(50, 60, 70, 90, 95, 90), cell_counts=(3, 4, 5), misset_deg=(5, 9, 2)),
        detector=Detector(n_fast=12, n_slow=11, pixel_mm=1, distance_mm=60),
        structure_factors=StructureFactors(default_F=10),
        fidelity="physical",
    )


def test_gradcheck_passes():
    from bragg_numba.torch import Image

    image = Image(experiment(), NAMES)
    values = image.start.requires_grad_()
    found = image(values)
    assert found.dtype == torch.float64 and found.shape == (11, 12) and float(found.detach().max()) > 0
    assert torch.autograd.gradcheck(image, (values,), eps=1e-5, rtol=1e-5, atol=1e-6 * float(found.detach().max()))


def test_forward_mode_is_the_slope_along_a_direction():
    from bragg_numba.torch import Image

    image = Image(experiment(), NAMES)
    direction = torch.arange(1.0, 1.0 + len(image.names), dtype=torch.float64)
    with torch.autograd.forward_ad.dual_level():
        pushed = torch.autograd.forward_ad.unpack_dual(
            image(torch.autograd.forward_ad.make_dual(image.start, direction))
        ).tangent
    jacobian = torch.autograd.functional.jacobian(lambda v: image(v).sum(), image.start)
    assert float(pushed.sum()) == pytest.approx(float(jacobian @ direction), rel=1e-9)


def test_photons_are_the_simulators():
    from bragg_numba.torch import Image

    image = Image(experiment(), "scale")
    rendered = Simulator(experiment(), backend="cpu", precision="float64").render()
    assert np.allclose(image(image.start.float()).numpy(), rendered, rtol=1e-5)
