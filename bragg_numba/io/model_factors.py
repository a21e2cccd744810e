"""Structure factors of a model's atoms: by direct summation, or by gemmi's density on a grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.models import Model
from bragg_numba.io.reflections import inverse_squares, metric_of
from bragg_numba.io.space_groups import PARTS
from bragg_numba.memory import require

__all__ = ["METHODS", "ModelFactors", "model_factors"]

METHODS = ("auto", "direct", "density")

#: Waves, atoms of the asymmetric unit times reflections of half the sphere, from which on ``auto`` takes the density:
#: about four seconds of one core.
MOST_WAVES = 1_000_000_000

#: Of gemmi's density: points along an edge per half of ``dmin_A``, and where an atom's density is cut, electrons per
#: cubic angstrom.
_RATE, _CUTOFF = 2.0, 1e-6

#: Spacing of the solvent mask, angstrom, or the fourth part of ``dmin_A`` where that is less.
_MASK_A = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFactors:
    """Structure factors of the whole sphere of P1 but 0 0 0, in the order of h, k, l, in partial sums.

    With f' and f'' of each element at a wavelength, F is ``normal + sum((f' + 1j f'') partial[element])``. What the
    space group extinguishes is exactly 0.
    """

    indices: np.ndarray  #: int32 (n, 3)
    normal: np.ndarray  #: complex128 (n,), electrons: with the form factors of no wavelength, and the solvent
    partial: dict[str, np.ndarray]  #: of each anomalous element that the model has: complex128 (n,), with f = 1
    method: str

    def at(self, anomalous: Mapping[str, tuple[float, float]]) -> np.ndarray:
        """Return F, complex128 (n,), electrons, with f' and f'' of the elements."""
        total = self.normal.copy()
        for element, wave in self.partial.items():
            if element in anomalous:
                total += complex(*anomalous[element]) * wave
        return total


def model_factors(
    model: Model,
    dmin_A: float,
    *,
    method: str = "auto",
    elements: tuple[str, ...] = (),
    k_sol: float = 0.0,
    B_sol: float = 0.0,
    max_memory: int | None = None,
) -> ModelFactors:
    """Return the structure factors of a model to a resolution, with form factors of the International Tables of 1992.

    Parameters
    ----------
    dmin_A
        Smallest spacing, angstrom.
    method
        ``"direct"`` sums the waves of all atoms; ``"density"`` puts them on a grid; ``"auto"`` is the latter from
        ``MOST_WAVES`` waves on.
    elements
        Those whose partial sums are kept.
    k_sol, B_sol
        Of a flat bulk solvent: electrons per cubic angstrom and square angstrom; none where k_sol is 0.

    Raises
    ------
    InputError
        If there is no reflection, an atom has no form factor, or the memory does not suffice.
    """
    sphere = _sphere(model, dmin_A, max_memory)
    if method == "auto":
        method = "density" if len(model.elements) * len(sphere.half) > MOST_WAVES else "direct"
    chosen = np.ones(len(model.elements), dtype=bool)
    if method == "direct":
        normal = _transform(model, sphere, chosen, ordinary=True)
    else:
        normal = _by_density(model, sphere, dmin_A)
    if k_sol > 0.0:
        normal += _solvent(model, sphere, dmin_A, k_sol, B_sol)
    partial = {}
    for element in elements:
        chosen = np.array([one == element for one in model.elements])
        if chosen.any():
            partial[element] = sphere.whole(_transform(model, sphere, chosen, ordinary=False))
    indices, normal = sphere.whole_indices, sphere.whole(normal)
    extinct = model.group.extinct(indices)
    for waves in (normal, *partial.values()):
        waves[extinct] = 0.0  # exactly
    return ModelFactors(indices=indices.astype(np.int32), normal=normal, partial=partial, method=method)


@dataclass(frozen=True, slots=True)
class _Sphere:
    """Half of the reflections of a sphere, those before 0 0 0 in the order of h, k, l; the others are their mates."""

    half: np.ndarray  #: int64 (n, 3)

    @property
    def whole_indices(self) -> np.ndarray:
        return np.concatenate([self.half, -self.half[::-1]])

    def whole(self, half: np.ndarray) -> np.ndarray:
        """Values of the whole sphere for those of half of it, of a sum with real factors."""
        return np.concatenate([half, np.conj(half[::-1])])


def _sphere(model: Model, dmin_A: float, max_memory: int | None) -> _Sphere:
    metric = metric_of(model.cell)
    real = np.linalg.inv(metric)
    most = (1.0 + 1e-9) / dmin_A**2
    limits = np.floor(np.sqrt(np.diag(real) * most)).astype(np.int64)
    cells = int(np.prod(2 * limits + 1))
    shown = f"{dmin_A:g} A makes {cells} reflections in this cell"
    require("structure factors of the model", 120 * cells, max_memory, shown)
    h, k, l = (np.arange(-limit, limit + 1) for limit in limits)  # noqa: E741
    planes = []
    for one in h[: limits[0] + 1]:
        inside = inverse_squares(metric, one, k[:, None], l[None, :]) <= most
        if one == 0:  # up to 0 0 0, which is left out
            inside.ravel()[inside.size // 2 :] = False
        there = np.nonzero(inside)
        planes.append(np.column_stack([np.full(len(there[0]), one), k[there[0]], l[there[1]]]))
    half = np.concatenate(planes)
    if not len(half):
        raise InputError("dmin_A", "must be less than the widest spacing of the cell", dmin_A)
    return _Sphere(half)


# --- direct summation


def _transform(model: Model, sphere: _Sphere, chosen: np.ndarray, *, ordinary: bool) -> np.ndarray:
    """F of half the sphere, complex128 (n,), of the atoms that are chosen; not ``ordinary``: with a form factor of 1.

    The asymmetric unit is summed alone, at every image of every reflection: an operation takes its transform at h @ R
    to the contribution of the image, turned by exp(2 pi i h t).
    """
    group = model.group
    images = [sphere.half @ rotation for rotation in group.rotations]
    # With a cell that is not quite as symmetric as its group, an image may lie outside of the sphere.
    limits = np.array([np.abs(image).max(axis=0) for image in images]).max(axis=0)
    rows, sums = _rows(images, limits)
    kinds, firsts, order = _kinds(model, chosen)
    factors = _form_factors(kinds) if ordinary else np.array([[0.0] * 8 + [1.0]] * len(kinds))
    _sum_waves(model, rows, firsts, factors, order, sums)
    roots = np.exp(2j * np.pi * np.arange(PARTS) / PARTS)
    total = np.zeros(len(sphere.half), dtype=np.complex128)
    width = 2 * limits[1] + 1
    first_of_row = np.zeros(((limits[0] + 1), width), dtype=np.int64)
    place_of_row = np.zeros_like(first_of_row)
    first_of_row[rows[:, 0], rows[:, 1] + limits[1]] = rows[:, 2]
    place_of_row[rows[:, 0], rows[:, 1] + limits[1]] = np.arange(len(rows))
    for image, shift in zip(images, group.shifts, strict=True):
        flipped = image[:, 0] < 0
        folded = np.where(flipped[:, None], -image, image)
        row = (folded[:, 0], folded[:, 1] + limits[1])
        wave = sums[place_of_row[row], folded[:, 2] - first_of_row[row]]
        total += np.where(flipped, np.conj(wave), wave) * roots[(sphere.half @ shift) % PARTS]
    return total * len(group.centrings)  # what the centring does not let be is extinct


def _rows(images: list[np.ndarray], limits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of reflections with h at or above 0 that hold all images or their mates, and room for their sums."""
    width, depth = 2 * limits[1] + 1, 2 * limits[2] + 1
    needed = np.zeros((limits[0] + 1, width, depth), dtype=bool)
    for image in images:
        folded = np.where(image[:, :1] < 0, -image, image)
        needed[folded[:, 0], folded[:, 1] + limits[1], folded[:, 2] + limits[2]] = True
    h, k = np.nonzero(needed.any(axis=2))
    there = needed[h, k]
    first = there.argmax(axis=1)
    last = depth - 1 - there[:, ::-1].argmax(axis=1)
    rows = np.column_stack([h, k - limits[1], first - limits[2], last - limits[2]]).astype(np.int64)
    return np.ascontiguousarray(rows), np.zeros((len(rows), int((last - first).max()) + 1), dtype=np.complex128)


def _kinds(model: Model, chosen: np.ndarray) -> tuple[list[tuple[str, int]], np.ndarray, np.ndarray]:
    """The kinds of atoms (element and charge), where each begins among the atoms in order, and that order."""
    places = np.flatnonzero(chosen)
    kind_of = [(model.elements[place], int(model.charges[place])) for place in places]
    kinds = sorted(set(kind_of))
    numbers = np.array([kinds.index(kind) for kind in kind_of])
    order = np.argsort(numbers, kind="stable")
    firsts = np.searchsorted(numbers[order], np.arange(len(kinds) + 1)).astype(np.int64)
    return kinds, firsts, places[order]


def _form_factors(kinds: list[tuple[str, int]]) -> np.ndarray:
    """Coefficients of the form factors of 1992 (n, 9); a charge that the tables lack counts as none."""
    import gemmi

    factors = np.empty((len(kinds), 9))
    with _charges_counted():
        for row, (element, charge) in zip(factors, kinds, strict=True):
            found = gemmi.IT92_get_exact(gemmi.Element(element), charge) or gemmi.Element(element).it92
            if found is None:
                raise InputError("the model", "must hold elements that have a form factor", element)
            row[0:8:2], row[1:8:2], row[8] = found.a, found.b, found.c
    return factors


class _charges_counted:
    """Let gemmi use the form factors of ions inside the block; it is told so for the whole process."""

    def __enter__(self) -> None:
        import gemmi

        self.before = gemmi.IT92_get_ignore_charge()
        gemmi.IT92_set_ignore_charge(False)

    def __exit__(self, *_: object) -> None:
        import gemmi

        gemmi.IT92_set_ignore_charge(self.before)


def _sum_waves(model: Model, rows, firsts, factors, order, sums) -> None:
    from bragg_numba.kernels.atoms import sum_waves

    def coefficients(matrix: np.ndarray) -> tuple:
        """Of hh, kk, ll, hk, hl, kl."""
        diagonal = matrix[..., 0, 0], matrix[..., 1, 1], matrix[..., 2, 2]
        return (*diagonal, 2.0 * matrix[..., 0, 1], 2.0 * matrix[..., 0, 2], 2.0 * matrix[..., 1, 2])

    atoms = np.column_stack([model.positions[order], model.occupancies[order], *coefficients(model.exponents[order])])
    metric = np.array(coefficients(metric_of(model.cell)))
    sum_waves(rows, metric, firsts, np.ascontiguousarray(factors), np.ascontiguousarray(atoms), sums)
    if not np.isfinite(sums).all():
        raise InputError("the model", "must have displacements (B, ANISOU) that make waves fade, not grow")


# --- by density


def _by_density(model: Model, sphere: _Sphere, dmin_A: float) -> np.ndarray:
    """F of half the sphere from gemmi's density of the model on a grid of the cell."""
    import gemmi

    _form_factors(sorted(set(zip(model.elements, model.charges.tolist(), strict=True))))  # each has one
    density = gemmi.DensityCalculatorX()
    density.d_min, density.rate, density.cutoff = dmin_A, _RATE, _CUTOFF
    density.grid.setup_from(model.structure)
    density.set_refmac_compatible_blur(model.structure[0])
    with _charges_counted():
        density.put_model_density_on_grid(model.structure[0])
    grid = gemmi.transform_map_to_f_phi(density.grid)
    return _from_grid(grid, sphere, density.blur)


def _solvent(model: Model, sphere: _Sphere, dmin_A: float, k_sol: float, B_sol: float) -> np.ndarray:
    """F of half the sphere of a flat solvent outside of the model."""
    import gemmi

    mask = gemmi.FloatGrid()
    mask.setup_from(model.structure, min(_MASK_A, 0.25 * dmin_A))
    gemmi.SolventMasker(gemmi.AtomicRadiiSet.Cctbx).put_mask_on_float_grid(mask, model.structure[0])
    waves = _from_grid(gemmi.transform_map_to_f_phi(mask), sphere, 0.0)
    return k_sol * np.exp(-0.25 * B_sol * inverse_squares(metric_of(model.cell), *sphere.half.T)) * waves


def _from_grid(grid: Any, sphere: _Sphere, blur: float) -> np.ndarray:
    return np.asarray(grid.get_value_by_hkl(sphere.half.astype(np.int32), unblur=blur)).astype(np.complex128)
