"""What an .expt of DIALS holds, as plain values: beam, detector, goniometer, scan and crystals of experiments.

Everything is in the file's frame and units: that of imgCIF (z against the beam, y up, the sample at the origin),
millimetres, angstrom, degrees. ``mcstas`` turns vectors into the frame of McStas and CrystFEL and back.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.geometry import PlacedPanel, Placement, Vector

__all__ = [
    "ExptBeam",
    "ExptCrystal",
    "ExptExperiment",
    "ExptGoniometer",
    "ExptPanel",
    "ExptScan",
    "Matrix",
    "axis_rotation",
    "crystal_of_matrix",
    "mcstas",
    "place_panels",
    "read_at",
    "reciprocal_vectors",
    "square_axes",
]

Matrix = tuple[Vector, Vector, Vector]

IDENTITY: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

#: The largest scalar product of the axes of a panel that DIALS reads.
MOST_SKEW = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class ExptPanel:
    """A panel in the laboratory: its place in the hierarchy of the file is already reckoned in."""

    name: str
    origin_mm: Vector  #: outer corner of the first pixel
    fast: Vector  #: unit vector
    slow: Vector  #: unit vector
    pixel_mm: tuple[float, float]  #: along fast and slow
    image_size: tuple[int, int]  #: pixels along fast and slow
    raw_image_offset: tuple[int, int] = (0, 0)
    trusted_range: tuple[float, float] = (0.0, 0.0)
    thickness_mm: float = 0.0
    material: str = ""
    mu_per_mm: float = 0.0
    gain: float = 1.0
    pedestal: float = 0.0
    mask: tuple[tuple[int, int, int, int], ...] = ()  #: first fast, first slow, end fast, end slow; ends exclusive
    parallax: bool = False  #: whether pixels are where a ray is absorbed in the sensor, not where it enters
    strategy: str = "SimplePxMmStrategy"
    type: str = ""
    identifier: str = ""
    groups: tuple[str, ...] = ()  #: names of the groups that it is in, from the outermost

    def lab_mm(self, fast_px, slow_px) -> np.ndarray:
        """Return where pixel coordinates are, (..., 3) float64 in mm; 0 is the outer edge of the first pixel."""
        fast = np.asarray(fast_px, dtype=np.float64)[..., None] * self.pixel_mm[0] * np.array(self.fast)
        slow = np.asarray(slow_px, dtype=np.float64)[..., None] * self.pixel_mm[1] * np.array(self.slow)
        return np.array(self.origin_mm) + fast + slow


@dataclass(frozen=True, slots=True, kw_only=True)
class ExptBeam:
    """The beam; ``direction`` leads from the sample to the source."""

    direction: Vector
    wavelength_A: float | None = None  #: None for a polychromatic beam
    wavelength_range_A: tuple[float, float] | None = None
    polarization_normal: Vector = (0.0, 1.0, 0.0)
    polarization_fraction: float = 0.999  #: of the intensity with its E-vector along normal x beam
    flux: float = 0.0  #: photons/s
    transmission: float = 1.0
    divergence_deg: float = 0.0
    sigma_divergence_deg: float = 0.0
    probe: str = "x-ray"
    s0_at_scan_points: tuple[Vector, ...] = ()

    @property
    def s0(self) -> np.ndarray:
        """The wave vector of the beam, 1/angstrom."""
        if self.wavelength_A is None:
            raise InputError("the beam", "has no one wavelength: it is polychromatic", self.wavelength_range_A)
        return -np.array(self.direction) / self.wavelength_A

    @property
    def kahn_factor(self) -> float:
        """The polarization as Kahn has it: 1 for E along normal x beam, 0 for none, -1 for E along the normal."""
        return 2.0 * self.polarization_fraction - 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExptCrystal:
    """A crystal at the goniometer's zero; ``real_space`` are the vectors a, b, c in angstrom, in rows."""

    real_space: Matrix
    hall_symbol: str = " P 1"
    A_at_scan_points: tuple[Matrix, ...] = ()  #: columns a*, b*, c*, 1/angstrom, at every edge of the scan's images
    half_mosaicity_deg: float | None = None  #: half of the full width of the orientations' distribution
    domain_size_A: float | None = None
    mosaicity_deg: float | None = None  #: of XDS: standard deviation

    @property
    def A(self) -> np.ndarray:
        """(3, 3) float64 with columns a*, b*, c*, 1/angstrom."""
        return np.linalg.inv(np.array(self.real_space))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExptGoniometer:
    """A goniometer: ``setting @ rotation(rotation_axis, phi) @ fixed`` turns the crystal.

    One of several axes has all of them in ``axes``, the one next to the crystal first, at ``angles_deg``; the
    two constant rotations follow from those.
    """

    rotation_axis: Vector
    fixed_rotation: Matrix = IDENTITY
    setting_rotation: Matrix = IDENTITY
    setting_rotation_at_scan_points: tuple[Matrix, ...] = ()
    axes: tuple[Vector, ...] = ()
    angles_deg: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    scan_axis: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExptScan:
    """Images ``image_range[0]`` to ``image_range[1]``, ``width_deg`` each, the first beginning at ``start_deg``."""

    image_range: tuple[int, int]
    start_deg: float = 0.0
    width_deg: float = 0.0
    batch_offset: int = 0
    exposure_times: tuple[float, ...] = ()  #: seconds, one for each image
    epochs: tuple[float, ...] = ()  #: seconds

    def angle_deg(self, position: float) -> float:
        """Return the angle at a position along the scan, in images from number 1's beginning, as DIALS counts z."""
        return self.start_deg + (position + 1 - self.image_range[0]) * self.width_deg


@dataclass(frozen=True, slots=True, kw_only=True)
class ExptExperiment:
    """One experiment: what is there of the models."""

    identifier: str = ""
    beam: ExptBeam | None = None
    detector: tuple[ExptPanel, ...] = ()
    goniometer: ExptGoniometer | None = None
    scan: ExptScan | None = None
    crystal: ExptCrystal | None = None
    imageset: dict[str, Any] | None = None  #: as it stands in the file


def mcstas(vectors) -> np.ndarray:
    """Return vectors (..., 3) of the imgCIF frame in that of McStas and CrystFEL (z along the beam), or the reverse."""
    return np.asarray(vectors, dtype=np.float64) * np.array([-1.0, 1.0, -1.0])


def axis_rotation(axis, degrees: float) -> np.ndarray:
    """Return the matrix (3, 3) of a right-handed rotation about an axis of any length."""
    x, y, z = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    across = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = math.radians(degrees)
    return np.eye(3) + math.sin(angle) * across + (1.0 - math.cos(angle)) * (across @ across)


def reciprocal_vectors(indices, crystal: ExptCrystal, goniometer: ExptGoniometer | None, phi_deg: float) -> np.ndarray:
    """Return where reciprocal lattice points are at an angle of the scan: r = S R(axis, phi) F A h.

    Parameters
    ----------
    indices
        (..., 3) Miller indices.
    crystal, goniometer
        Of an experiment; without a goniometer r = A h.
    phi_deg
        Angle of the scan axis.

    Returns
    -------
    numpy.ndarray
        (..., 3) float64, 1/angstrom, in the frame of the file.
    """
    turn = np.eye(3)
    if goniometer is not None:
        turn = axis_rotation(goniometer.rotation_axis, phi_deg) @ np.array(goniometer.fixed_rotation)
        turn = np.array(goniometer.setting_rotation) @ turn
    return np.asarray(indices, dtype=np.float64) @ (turn @ crystal.A).T


def read_at(panel: ExptPanel, ray) -> tuple[float, float] | None:
    """Return the pixel coordinates (fast, slow) at which a ray from the sample is read; None if it never gets there.

    With ``panel.parallax`` that is, as DIALS has it, the mean depth of absorption along the ray.
    """
    ray = np.asarray(ray, dtype=np.float64) / np.linalg.norm(ray)
    fast, slow, origin = (np.array(v) for v in (panel.fast, panel.slow, panel.origin_mm))
    normal = np.cross(fast, slow)
    across, distance = float(ray @ normal), float(origin @ normal)
    if across * distance <= 0.0:
        return None
    on_panel = ray * (distance / across) - origin
    # Axes need not be at right angles to each other to the last digit.
    skew, gram = float(fast @ slow), 1.0 - float(fast @ slow) ** 2
    x = (on_panel @ fast - skew * (on_panel @ slow)) / gram
    y = (on_panel @ slow - skew * (on_panel @ fast)) / gram
    if panel.parallax and panel.mu_per_mm > 0.0 and panel.thickness_mm > 0.0:
        path = panel.thickness_mm / (abs(across) / float(np.linalg.norm(normal)))
        depth = 1.0 / panel.mu_per_mm
        length = depth - (path + depth) * math.exp(-panel.mu_per_mm * path)
        x, y = x + length * float(ray @ fast), y + length * float(ray @ slow)
    return float(x / panel.pixel_mm[0]), float(y / panel.pixel_mm[1])


def crystal_of_matrix(A, **rest: Any) -> ExptCrystal:
    """Return the crystal with the columns a*, b*, c* (1/angstrom) of ``A``; ``rest`` are further fields of it.

    Raises
    ------
    InputError
        For a matrix that has no inverse.
    """
    matrix = np.asarray(A, dtype=np.float64)
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or not abs(np.linalg.det(matrix)) > 0.0:
        raise InputError("A", "must be a 3 x 3 matrix with an inverse", matrix.tolist())
    return ExptCrystal(real_space=rows_of(np.linalg.inv(matrix)), **rest)


def rows_of(matrix: np.ndarray) -> Matrix:
    """A 3 x 3 matrix as tuples of its rows."""
    first, second, third = (tuple(float(value) for value in row) for row in matrix)
    return first, second, third  # type: ignore[return-value]


def place_panels(panels: tuple[ExptPanel, ...]) -> Placement:
    """Return where panels are in the frame of McStas, in metres, and in one two-dimensional array.

    They lie at their offsets in the raw image; if these would make them share pixels, or for a lone panel, each lies
    below the one before it.
    """
    offsets = [panel.raw_image_offset for panel in panels]
    ends = [tuple(np.add(panel.raw_image_offset, panel.image_size)) for panel in panels]
    if len(panels) == 1 or _share_pixels(offsets, ends):
        rows = np.cumsum([0, *(panel.image_size[1] for panel in panels)]).tolist()
        offsets = [(0, row) for row in rows[:-1]]
    first = tuple(min(offset[axis] for offset in offsets) for axis in (0, 1))
    placed = tuple(
        PlacedPanel(
            name=panel.name,
            n_fast=panel.image_size[0],
            n_slow=panel.image_size[1],
            first_fast=offset[0] - first[0],
            first_slow=offset[1] - first[1],
            origin_m=_metres(panel.origin_mm, 1.0),
            fast_m=_metres(panel.fast, panel.pixel_mm[0]),
            slow_m=_metres(panel.slow, panel.pixel_mm[1]),
        )
        for panel, offset in zip(panels, offsets, strict=True)
    )
    n_slow = max(panel.first_slow + panel.n_slow for panel in placed)
    n_fast = max(panel.first_fast + panel.n_fast for panel in placed)
    return Placement(n_slow=n_slow, n_fast=n_fast, panels=placed)


def square_axes(panel: ExptPanel) -> tuple[ExptPanel, float]:
    """Return a panel with its axes at right angles, and how far that moves a pixel at most, in pixels.

    Both axes turn by half of what is missing, about the centre of the panel.
    """
    fast, slow = np.array(panel.fast), np.array(panel.slow)
    sum_, difference = fast + slow, fast - slow
    sum_, difference = sum_ / np.linalg.norm(sum_), difference / np.linalg.norm(difference)
    new_fast, new_slow = (sum_ + difference) / math.sqrt(2.0), (sum_ - difference) / math.sqrt(2.0)
    half = np.array(panel.image_size) * np.array(panel.pixel_mm) / 2.0
    origin = np.array(panel.origin_mm) + half[0] * (fast - new_fast) + half[1] * (slow - new_slow)
    along, down = half[0] * (fast - new_fast), half[1] * (slow - new_slow)
    shift = max(np.linalg.norm(along + down), np.linalg.norm(along - down))  # of a corner
    placed, across, down = rows_of(np.array([origin, new_fast, new_slow]))
    squared = dataclasses.replace(panel, origin_mm=placed, fast=across, slow=down)
    return squared, float(shift / min(panel.pixel_mm))


def _metres(vector: Vector, scale: float) -> Vector:
    x, y, z = (mcstas(vector) * (scale / 1000.0)).tolist()
    return x, y, z


def _share_pixels(first: list, end: list) -> bool:
    """Whether any two rectangles (fast, slow) to (fast, slow) overlap."""
    low, high = np.array(first), np.array(end)
    overlap = np.logical_and(low[:, None] < high[None], low[None] < high[:, None]).all(axis=-1)
    return bool(overlap.sum() > len(low))
