"""What takes photons away before they reach the sensor, flattened; and how much of them passes (eq. 52, 53)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.experiment import Experiment
from bragg_numba.experiment.placing import PlacedDetector, PlacedPanel, curve_points, lab_axes
from bragg_numba.experiment.transmission import Absorption, AirPath, Beamstop, Obstacle, Shadow, Window
from bragg_numba.experiment.vectors import Vector, rotate_about
from bragg_numba.materials import attenuation_per_m

#: A ray that makes a smaller angle (sine) with a foil never leaves it.
GRAZING = 1e-9

#: Points of the sphere's integral along radius, polar angle and azimuth, and angles for which it is made.
SPHERE_POINTS, SPHERE_ANGLES = (32, 64, 24), 91


@dataclass(frozen=True, slots=True)
class Barrier:
    """One obstacle with its attenuation, 1/m: that of the beam's mean wavelength, 0 for what has none."""

    noun: Obstacle
    attenuation: float


@dataclass(frozen=True, slots=True)
class TransmissionPlan:
    """All obstacles of an experiment, and what they are measured against: unit vectors of the laboratory."""

    barriers: tuple[Barrier, ...]
    detector: PlacedDetector
    curved: bool
    beam: np.ndarray
    across: np.ndarray  #: at right angles to the beam, along the convention's fast axis
    down: np.ndarray  #: at right angles to both, along its slow axis
    spindle: np.ndarray
    angles: tuple[float, ...]  #: of the spindle's steps, radians
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """(slow, fast) pixels of the frame."""
        return self.detector.n_slow, self.detector.n_fast

    @property
    def moves(self) -> bool:
        """Whether something turns with the spindle."""
        return any(barrier.noun.moves for barrier in self.barriers)

    @property
    def splits(self) -> bool:
        """Whether amorphous backgrounds go through other things than the crystal's photons."""
        return not all(barrier.noun.backgrounds for barrier in self.barriers)

    def of(self, *, backgrounds: bool, moving: bool = True) -> tuple[Barrier, ...]:
        """Those that the crystal's photons go through, or what amorphous backgrounds scatter."""
        return tuple(
            barrier
            for barrier in self.barriers
            if (barrier.noun.backgrounds or not backgrounds) and (moving or not barrier.noun.moves)
        )

    def shares_image(self, other: TransmissionPlan) -> bool:
        """Whether the images of another one are the same."""
        same = self.detector.panels == other.detector.panels and self.curved == other.curved
        same = same and all(
            np.array_equal(a, b)
            for a, b in ((self.beam, other.beam), (self.across, other.across), (self.down, other.down))
        )
        same = same and len(self.barriers) == len(other.barriers)
        same = same and all(
            a.noun is b.noun and a.attenuation == b.attenuation
            for a, b in zip(self.barriers, other.barriers, strict=False)
        )
        alike = self.angles == other.angles and np.array_equal(self.spindle, other.spindle)
        return same and (not self.moves or alike)


def flatten_transmission(
    experiment: Experiment, detector: PlacedDetector, wavelength_A: float, angles: tuple[float, ...]
) -> TransmissionPlan | None:
    """Flatten what takes photons away; None without anything.

    Parameters
    ----------
    wavelength_A
        At which attenuations are.
    angles
        Of the spindle's steps, radians.

    Raises
    ------
    InputError
        If a material is not known at this wavelength, or something cannot be placed.
    """
    if not experiment.transmission:
        return None
    if experiment.detector.curved and any(
        isinstance(one, Shadow) and one.corners_mm is not None for one in experiment.transmission
    ):
        raise InputError("Shadow.corners_mm", "cannot fall on a curved detector", hint="corners_px can")
    axes = lab_axes(experiment)
    beam = np.array(axes["beam"])
    across = _at_right_angles(np.array(axes["fast"]), beam)
    down = _at_right_angles(np.array(axes["slow"]), beam, across)
    notes = [
        f"the beamstop at {one.distance_mm:g} mm lies behind the detector, where it casts no shadow"
        for one in experiment.transmission
        if isinstance(one, Beamstop) and one.distance_mm >= 1000.0 * _furthest(detector)
    ]
    return TransmissionPlan(
        barriers=tuple(Barrier(one, float(attenuation_of(one, wavelength_A))) for one in experiment.transmission),
        detector=detector,
        curved=experiment.detector.curved,
        beam=beam,
        across=across,
        down=down,
        spindle=np.array(detector.spindle),
        angles=angles,
        notes=tuple(notes),
    )


def attenuation_of(noun: Obstacle, wavelength_A) -> np.ndarray:
    """Attenuation of an obstacle's material at a wavelength, or at an array of them, 1/m; 0 where it has none."""
    if noun.matter is None:
        return np.zeros(np.shape(wavelength_A))
    field = "gas" if isinstance(noun, AirPath) else "material"
    name = f"{type(noun).__name__}.{field}"
    return attenuation_per_m(name, noun.matter, wavelength_A, absorbed=False)


def list_passed(plan: TransmissionPlan) -> list[tuple[str, float]]:
    """What stands in the way: each obstacle's label, and what of a ray to the middle of the first panel passes it."""
    corners = corners_of(plan.detector.panels[0])
    middle = corners.mean(axis=0)[None]
    found = []
    for barrier in plan.barriers:
        shadow = isinstance(barrier.noun, Shadow)
        found.append((barrier.noun.label, math.nan if shadow else float(passed(plan, barrier, middle)[0])))
    return found


def _at_right_angles(vector: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """The unit vector nearest to one, at right angles to others that are at right angles; any where there is none."""
    for candidate in (vector, *np.eye(3)):
        for other in others:
            candidate = candidate - (candidate @ other) * other
        size = float(np.linalg.norm(candidate))
        if size > 1e-3:
            return candidate / size
    raise AssertionError("three axes cannot all lie in a plane")


def _furthest(detector: PlacedDetector) -> float:
    """How far along the beam the furthest corner of a panel is, metres."""
    beam = np.array(detector.beam)
    return max(float((corners_of(panel) @ beam).max()) for panel in detector.panels)


def corners_of(panel: PlacedPanel) -> np.ndarray:
    """The corners of a panel, (4, 3), metres."""
    across = panel.n_fast * panel.pitch_fast * np.array(panel.fast)
    down = panel.n_slow * panel.pitch_slow * np.array(panel.slow)
    return np.array(panel.origin) + np.array([0.0 * down, across, down, across + down])


def points_of(plan: TransmissionPlan, panel: PlacedPanel, row: int, rows: int) -> np.ndarray:
    """Where the centres of a panel's pixels are, rows row ... row + rows - 1: (rows, n_fast, 3), metres."""
    fast = ((np.arange(panel.n_fast) + 0.5) * panel.pitch_fast)[None, :]
    slow = ((np.arange(row, row + rows) + 0.5) * panel.pitch_slow)[:, None]
    if plan.curved:
        return curve_points(plan.detector, fast, slow)
    return fast[..., None] * np.array(panel.fast) + slow[..., None] * np.array(panel.slow) + np.array(panel.origin)


def passed(plan: TransmissionPlan, barrier: Barrier, points: np.ndarray) -> np.ndarray:
    """How much of what the crystal scatters to some points (..., 3), metres, passes what is no Shadow: (...).

    The mean over the spindle's steps of what turns.
    """
    noun = barrier.noun
    if isinstance(noun, AirPath):
        return _gas(plan, noun, barrier.attenuation, points)
    if isinstance(noun, Window):
        return _foil(plan, noun, barrier.attenuation, points)
    if isinstance(noun, Beamstop):
        return _stopped(plan, noun, points)
    if isinstance(noun, Absorption):
        depth = barrier.attenuation * noun.thickness_mm / 1000.0
        size = np.linalg.norm(points, axis=-1)
        if noun.shape == "sphere":
            return sphere_transmission(depth / 2.0, np.arccos(np.clip(points @ plan.beam / size, -1.0, 1.0)))
        rays = points / size[..., None]
        normal = tuple(plan.beam.tolist()) if noun.normal is None else noun.normal
        angles = plan.angles if noun.turns else (0.0,)
        normals = (rotate_about(tuple(plan.spindle.tolist()), normal, angle) for angle in angles)
        return np.mean([_plate(plan, depth, np.array(one), rays) for one in normals], axis=0)
    raise TypeError(type(noun).__name__)


def _gas(plan: TransmissionPlan, noun: AirPath, attenuation: float, points: np.ndarray) -> np.ndarray:
    """Gas between two planes across the beam, or up to the pixel (eq. 52)."""
    depth, far = points @ plan.beam, np.linalg.norm(points, axis=-1)
    start, end = noun.start_mm / 1000.0, math.inf if noun.end_mm is None else noun.end_mm / 1000.0
    ahead = depth > 0.0
    secant = far / np.where(ahead, depth, 1.0)
    inside = np.clip(np.minimum(depth, end) - start, 0.0, None)
    # A ray that goes back crosses no plane ahead, but all of the gas that has no end.
    behind = far if start == 0.0 and math.isinf(end) else 0.0
    length = np.where(ahead, inside * secant, behind)
    return np.exp(-attenuation * (length + noun.before_mm / 1000.0))


def _foil(plan: TransmissionPlan, noun: Window, attenuation: float, points: np.ndarray) -> np.ndarray:
    """A foil at an angle (eq. 52); rays that go away from it do not cross it."""
    normal = plan.beam if noun.normal is None else np.array(noun.normal) / np.linalg.norm(noun.normal)
    if normal @ plan.beam < 0.0:
        normal = -normal
    thickness = noun.thickness_um * 1e-6
    if noun.before:
        cosine = float(normal @ plan.beam)
        return np.full(points.shape[:-1], math.exp(-attenuation * thickness / max(cosine, GRAZING)))
    cosines = points @ normal / np.linalg.norm(points, axis=-1)
    return np.where(cosines > 0.0, np.exp(-attenuation * thickness / np.maximum(cosines, GRAZING)), 1.0)


def _plate(plan: TransmissionPlan, depth: float, normal: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """A plate's mean over where in its depth photons are scattered, of mu times its thickness (eq. 52)."""
    normal = normal / np.linalg.norm(normal)
    into = abs(float(normal @ plan.beam))
    outward = rays @ (normal if normal @ plan.beam >= 0.0 else -normal)
    entering = depth / max(into, GRAZING)
    leaving = depth / np.maximum(np.abs(outward), GRAZING)
    through = outward > 0.0
    # Ahead: exp(-mu (z / in + (t - z) / out)); back: exp(-mu z (1 / in + 1 / out)). The means are of one kind.
    first = np.where(through, np.minimum(entering, leaving), 0.0)
    difference = np.where(through, np.abs(entering - leaving), entering + leaving)
    return np.exp(-first) * _mean_of_exponential(difference)


def _mean_of_exponential(x: np.ndarray) -> np.ndarray:
    """(1 - exp(-x)) / x, 1 at 0."""
    safe = np.where(x > 1e-12, x, 1.0)
    return np.where(x > 1e-12, -np.expm1(-safe) / safe, 1.0)


def sphere_transmission(radius: float, twotheta: np.ndarray) -> np.ndarray:
    """A sphere's mean over where in it photons are scattered (eq. 52); ``radius`` is mu R, angles in radians."""
    if radius == 0.0:
        return np.ones(np.shape(twotheta))
    angles, values = _sphere_table(radius)
    return np.interp(twotheta, angles, values)


@lru_cache(maxsize=64)
def _sphere_table(radius: float) -> tuple[np.ndarray, np.ndarray]:
    """The sphere's transmission from two theta 0 to 180 degrees, by quadrature over its volume."""
    n_r, n_mu, n_phi = SPHERE_POINTS
    # r = 1 - u^2 brings points to the surface, where the way in begins and the way out ends.
    u, of_u = _legendre(n_r, 0.0, 1.0)
    mu, of_mu = _legendre(n_mu, -1.0, 1.0)
    phi = (np.arange(n_phi) + 0.5) * (math.pi / n_phi)  # the other half is its mirror image
    r = (1.0 - u * u)[:, None, None]
    z = r * mu[None, :, None] + np.zeros(n_phi)
    x = r * np.sqrt(1.0 - mu * mu)[None, :, None] * np.cos(phi)
    weight = (3.0 * (1.0 - u * u) ** 2 * 2.0 * u * of_u)[:, None, None] * (0.5 * of_mu)[None, :, None] / n_phi
    inside = 1.0 - r * r
    way_in = z + np.sqrt(z * z + inside)
    angles = np.linspace(0.0, math.pi, SPHERE_ANGLES)
    values = []
    for angle in angles:
        ahead = z * math.cos(angle) + x * math.sin(angle)
        way_out = -ahead + np.sqrt(ahead * ahead + inside)
        values.append(float((weight * np.exp(-radius * (way_in + way_out))).sum()))
    return angles, np.array(values)


def _legendre(n: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights of Gauss and Legendre between two numbers."""
    x, w = np.polynomial.legendre.leggauss(n)
    return low + (high - low) * (x + 1.0) / 2.0, w * (high - low) / 2.0


def _stopped(plan: TransmissionPlan, noun: Beamstop, points: np.ndarray) -> np.ndarray:
    """Disc and stem with their soft edge (eq. 53)."""
    depth, distance = points @ plan.beam, noun.distance_mm / 1000.0
    behind = depth > distance
    scale = 1000.0 * distance / np.where(behind, depth, 1.0)
    x = points @ plan.across * scale - noun.shift_mm[0]
    y = points @ plan.down * scale - noun.shift_mm[1]
    outside = np.hypot(x, y) - noun.diameter_mm / 2.0
    if noun.diameter_mm == 0.0:
        outside = np.full_like(outside, np.inf)
    if noun.stem_width_mm > 0.0:
        angle = math.radians(noun.stem_deg)
        along, aside = x * math.cos(angle) + y * math.sin(angle), np.abs(y * math.cos(angle) - x * math.sin(angle))
        beside = aside - noun.stem_width_mm / 2.0
        before = np.where(along >= 0.0, beside, np.hypot(along, np.maximum(beside, 0.0)))
        outside = np.minimum(outside, before)
    if noun.edge_mm > 0.0:
        clear = np.clip(outside / noun.edge_mm + 0.5, 0.0, 1.0)
    else:
        clear = (outside > 0.0).astype(np.float64)
    return np.where(behind, noun.transmission + (1.0 - noun.transmission) * clear, 1.0)


def polygons_of(plan: TransmissionPlan, noun: Shadow, panel: PlacedPanel, angle: float) -> list[np.ndarray]:
    """The polygons that a shadow is on a panel, each (n, 2) pixels along fast and slow from the panel's corner.

    ``angle``: of the spindle, radians. A body's is the union of several.
    """
    if noun.corners_px is not None:
        return [noun.corners_px - [panel.first_column, panel.first_row]]
    assert noun.corners_mm is not None
    corners = noun.corners_mm / 1000.0
    if noun.turns:
        spindle: Vector = tuple(plan.spindle.tolist())
        corners = np.array([rotate_about(spindle, tuple(corner), angle) for corner in corners.tolist()])
    faces = [corners]
    if noun.solid:
        from scipy.spatial import ConvexHull

        faces = [corners[face] for face in ConvexHull(corners).simplices]
    projected = (_project(panel, face) for face in faces)
    return [polygon for polygon in projected if len(polygon)]


#: Distances from the crystal at which what casts a shadow is cut off, as parts of the panel's.
NEAREST = 1e-6


def _project(panel: PlacedPanel, corners: np.ndarray) -> np.ndarray:
    """The shadow of a flat polygon on a panel's plane, of what of it lies between the crystal and that plane."""
    normal, distance = np.array(panel.normal), panel.close_distance
    inside = _cut(corners, normal, NEAREST * distance)
    inside = _cut(inside, -normal, -distance)
    if not len(inside):
        return np.zeros((0, 2))
    at = inside * (distance / (inside @ normal))[:, None] - np.array(panel.origin)
    fast, slow = np.array(panel.fast), np.array(panel.slow)
    skew = float(fast @ slow)
    f, s = at @ fast, at @ slow
    square = 1.0 - skew * skew
    return np.stack([(f - skew * s) / square / panel.pitch_fast, (s - skew * f) / square / panel.pitch_slow], axis=1)


def _cut(corners: np.ndarray, normal: np.ndarray, least: float) -> np.ndarray:
    """What of a polygon lies on one side of a plane, corner @ normal >= least (Sutherland and Hodgman)."""
    if not len(corners):
        return corners
    height = corners @ normal - least
    kept = []
    for this, (here, there) in enumerate(zip(height, np.roll(height, -1), strict=True)):
        corner, following = corners[this], corners[(this + 1) % len(corners)]
        if here >= 0.0:
            kept.append(corner)
        if (here >= 0.0) != (there >= 0.0):
            kept.append(corner + (following - corner) * (here / (here - there)))
    return np.array(kept).reshape(-1, 3)


def fill_polygon(polygon: np.ndarray, row: int, rows: int, columns: int) -> np.ndarray:
    """Which pixels have their centres inside a polygon, by the rule of even and odd.

    Parameters
    ----------
    polygon
        (n, 2): along fast and slow, pixels; the first pixel reaches from 0 to 1.
    row, rows, columns
        First row and how many; columns from 0.

    Returns
    -------
    numpy.ndarray
        bool (rows, columns).
    """
    toggles = np.zeros((rows, columns + 1), dtype=np.int32)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        low, high = min(y0, y1), max(y0, y1)
        first = math.ceil(min(max(low - 0.5 - row, 0.0), rows))
        last = math.ceil(min(max(high - 0.5 - row, 0.0), rows))
        if first >= last:
            continue
        middle = np.arange(first, last)
        x = x0 + (middle + row + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
        at = np.ceil(np.clip(x - 0.5, 0.0, columns)).astype(np.int64)
        np.add.at(toggles, (middle, at), 1)
    return np.cumsum(toggles, axis=1)[:, :columns] % 2 == 1
