"""The unit cell in the laboratory (behaviour of the reference, section 2.4; docs/physics.md, section 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from bragg_numba.conventions import DEGREES
from bragg_numba.experiment import Beam
from bragg_numba.experiment.vectors import Vector, as_vector, cross, dot, length, rotate_xyz, scale


class CrystalParts(Protocol):
    """What of a crystal its oriented cell is made of."""

    @property
    def cell(self) -> tuple | None: ...
    @property
    def mosflm_matrix(self) -> tuple | None: ...
    @property
    def orientation(self) -> tuple | None: ...


class CellParts(Protocol):
    """What of an experiment its oriented cell is made of."""

    @property
    def crystal(self) -> CrystalParts: ...
    @property
    def beam(self) -> Beam: ...
    @property
    def fidelity(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Cell:
    """Real cell vectors in angstrom, reciprocal ones in 1/angstrom, at phi = 0 without mosaicity."""

    a: Vector
    b: Vector
    c: Vector
    a_star: Vector
    b_star: Vector
    c_star: Vector
    volume_A3: float
    misset_rad: Vector | None

    @property
    def lengths_A(self) -> Vector:
        """Cell edges, angstrom."""
        return (length(self.a), length(self.b), length(self.c))

    @property
    def edges_m(self) -> Vector:
        """Cell edges in metres, rounded as the reference rounds them: cell counts are ceilings."""
        return as_vector(length(scale(v, 1e-10)) for v in (self.a, self.b, self.c))

    @property
    def angles_deg(self) -> Vector:
        """Cell angles alpha, beta, gamma."""
        return _angles(self.a, self.b, self.c)

    @property
    def reciprocal_lengths(self) -> Vector:
        """Reciprocal cell edges, 1/angstrom."""
        return (length(self.a_star), length(self.b_star), length(self.c_star))

    @property
    def reciprocal_angles_deg(self) -> Vector:
        """Reciprocal cell angles."""
        return _angles(self.a_star, self.b_star, self.c_star)


def _angles(a: Vector, b: Vector, c: Vector) -> Vector:
    def between(u: Vector, v: Vector) -> float:
        return math.degrees(math.atan2(length(cross(u, v)), dot(u, v)))

    return (between(b, c), between(a, c), between(a, b))


def _clip(x: float) -> float:
    return max(-1.0, min(1.0, x))


def _standard_setting(cell: tuple, *, physical: bool) -> tuple[Vector, Vector, Vector, float]:
    """Reciprocal vectors with a* along x and b* in the x-y plane, and the volume (eq. 26).

    C's c* leans wrongly unless sin gamma = sin gamma*: edges are right after it, angles of triclinic cells are not.
    """
    a, b, c = cell[:3]
    alpha, beta, gamma = (angle / DEGREES for angle in cell[3:])
    half = (alpha + beta + gamma) / 2
    skew = math.sin(half) * math.sin(half - alpha) * math.sin(half - beta) * math.sin(half - gamma)
    volume = 2.0 * a * b * c * math.sqrt(abs(skew))
    per_volume = 1.0 / volume
    a_star = b * c * math.sin(alpha) * per_volume
    b_star = c * a * math.sin(beta) * per_volume
    c_star = a * b * math.sin(gamma) * per_volume
    sin_gamma_star = _clip(c * per_volume / a_star / b_star)

    def cosine(x: float, y: float, z: float) -> float:
        value = (math.cos(x) * math.cos(y) - math.cos(z)) / (math.sin(x) * math.sin(y))
        return 1.0 if value * value > 1.0 else value

    cos_alpha_star = cosine(beta, gamma, alpha)
    cos_beta_star = cosine(gamma, alpha, beta)
    cos_gamma_star = cosine(alpha, beta, gamma)
    return (
        (a_star, 0.0, 0.0),
        (b_star * cos_gamma_star, b_star * sin_gamma_star, 0.0),
        (
            c_star * cos_beta_star,
            c_star * (cos_alpha_star - cos_beta_star * cos_gamma_star) / sin_gamma_star,
            1.0 / c if physical else c_star * volume / (a * b * c * sin_gamma_star),
        ),
        volume,
    )


def _rescale(v: Vector, size: float) -> Vector:
    return scale(v, size / length(v))


def orient_cell(experiment: CellParts, misset_rad: Vector | None) -> Cell:
    """Build the oriented cell; ``misset_rad`` are the angles to apply (given or drawn), or None."""
    crystal = experiment.crystal
    if crystal.cell is not None:
        a_star, b_star, c_star, given_volume = _standard_setting(
            crystal.cell, physical=experiment.fidelity == "physical"
        )
    if crystal.mosflm_matrix is not None:
        per_wavelength = 1e-10 / (experiment.beam.wavelength_A / 1.0e10)
        a_star, b_star, c_star = (
            scale(tuple(row[i] for row in crystal.mosflm_matrix), per_wavelength) for i in range(3)
        )
    if misset_rad is not None:
        a_star, b_star, c_star = (rotate_xyz(v, misset_rad) for v in (a_star, b_star, c_star))
    if crystal.orientation is not None:
        rows = crystal.orientation
        a_star, b_star, c_star = (as_vector(dot(row, v) for row in rows) for v in (a_star, b_star, c_star))

    a_b, b_c, c_a = cross(a_star, b_star), cross(b_star, c_star), cross(c_star, a_star)
    per_volume = dot(a_star, b_c)
    if crystal.cell is not None:
        # The given cell takes: its edges and volume win over rounding, and over the matrix.
        lengths = crystal.cell[:3]
        b_c, c_a, a_b = (_rescale(v, n / given_volume) for v, n in zip((b_c, c_a, a_b), lengths, strict=True))
        per_volume = 1.0 / given_volume
    volume = 1.0 / per_volume
    a, b, c = scale(b_c, volume), scale(c_a, volume), scale(a_b, volume)
    return Cell(
        a=a,
        b=b,
        c=c,
        a_star=scale(cross(b, c), per_volume),
        b_star=scale(cross(c, a), per_volume),
        c_star=scale(cross(a, b), per_volume),
        volume_A3=volume,
        misset_rad=misset_rad,
    )
