"""What stands between crystal and detector, or before the crystal, and takes photons away (docs/transmission.md)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError, read_from
from bragg_numba.experiment.noun import Noun
from bragg_numba.materials import Material, find_material

#: Corners of a shadow: at least, and at most.
FEWEST_CORNERS, MOST_CORNERS = 3, 10_000

#: A polygon of the laboratory is flat if no corner is further from its plane than this part of its size.
FLAT = 1e-6


class Obstacle(Noun):
    """What the members of ``Experiment.transmission`` have in common."""

    __slots__ = ()
    KIND: ClassVar[str] = ""
    backgrounds: bool

    def to_dict(self) -> dict:
        """Return plain Python values that ``json`` can write, with ``kind``: which noun it is."""
        return {"kind": self.KIND, **super().to_dict()}

    @property
    def label(self) -> str:
        """What reports call it."""
        return self.KIND

    @property
    def matter(self) -> Material | None:
        """What it attenuates by (eq. 51); None for what has a transmission of its own."""
        return None

    @property
    def moves(self) -> bool:
        """Whether it turns with the spindle."""
        return False

    def _clean_backgrounds(self) -> None:
        name = f"{type(self).__name__}.backgrounds"
        self._set("backgrounds", check.flag(name, self.backgrounds))

    def _clean_density(self) -> None:
        name, density = f"{type(self).__name__}.density_g_per_cm3", getattr(self, "density_g_per_cm3", None)
        self._set("density_g_per_cm3", check.optional(check.number, name, density, above=0.0, high=100.0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class AirPath(Obstacle):
    """Gas along the way: from one plane across the beam to another, or to the pixel (eq. 52).

    A ray at two theta has length / cos(two theta) of it between two planes.
    """

    KIND: ClassVar[str] = "air"

    gas: str = "air"  #: a material's name, or a formula (docs/transmission.md)
    start_mm: float = 0.0  #: along the beam from the crystal
    end_mm: float | None = None  #: None: at the pixel
    before_mm: float = 0.0  #: that the incident beam goes through besides
    density_g_per_cm3: float | None = None  #: None: of the built-in gas at 15 C and 1 atm
    backgrounds: bool = True  #: whether what amorphous backgrounds scatter goes through it, too

    def __post_init__(self) -> None:
        put, pre = self._set, "AirPath."
        put("start_mm", check.number(pre + "start_mm", self.start_mm, low=0.0, high=1e7))
        put("end_mm", check.optional(check.number, pre + "end_mm", self.end_mm, above=self.start_mm, high=1e7))
        put("before_mm", check.number(pre + "before_mm", self.before_mm, low=0.0, high=1e7))
        self._clean_density()
        self._clean_backgrounds()
        find_material(pre + "gas", self.gas, self.density_g_per_cm3)

    @property
    def label(self) -> str:
        return self.gas

    @property
    def matter(self) -> Material | None:
        return find_material("AirPath.gas", self.gas, self.density_g_per_cm3)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Window(Obstacle):
    """A flat foil that every ray crosses: thickness / cos(angle to its normal) (eq. 52)."""

    KIND: ClassVar[str] = "window"

    material: str  #: a material's name, or a formula
    thickness_um: float
    normal: tuple | None = None  #: lab frame; None: along the beam
    before: bool = False  #: whether it stands in the incident beam instead
    density_g_per_cm3: float | None = None  #: None: of the built-in material
    backgrounds: bool = True  #: whether what amorphous backgrounds scatter goes through it, too

    def __post_init__(self) -> None:
        put, pre = self._set, "Window."
        put("thickness_um", check.number(pre + "thickness_um", self.thickness_um, low=0.0, high=1e9))
        put("normal", check.optional(check.vector, pre + "normal", self.normal, nonzero=True))
        put("before", check.flag(pre + "before", self.before))
        self._clean_density()
        self._clean_backgrounds()
        find_material(pre + "material", self.material, self.density_g_per_cm3)

    @property
    def label(self) -> str:
        return f"window of {self.material}"

    @property
    def matter(self) -> Material | None:
        return find_material("Window.material", self.material, self.density_g_per_cm3)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Absorption(Obstacle):
    """Absorption in the sample itself: the mean over where in it photons are scattered (eq. 52).

    A beam that is wider than the sample lights all of it alike.
    """

    KIND: ClassVar[str] = "absorption"
    SHAPES: ClassVar[tuple[str, ...]] = ("sphere", "plate")

    shape: str = "sphere"
    material: str = "water"  #: a material's name, or a formula
    thickness_mm: float = 0.1  #: the sphere's diameter, or the plate's thickness
    normal: tuple | None = None  #: of the plate, lab frame; None: along the beam
    turns: bool = False  #: whether the plate turns with the spindle; its normal is then that at phi = 0
    density_g_per_cm3: float | None = None  #: None: of the built-in material
    backgrounds: bool = False  #: whether amorphous backgrounds are in the sample, too

    def __post_init__(self) -> None:
        put, pre = self._set, "Absorption."
        put("shape", check.choice(pre + "shape", self.shape, self.SHAPES))
        put("thickness_mm", check.number(pre + "thickness_mm", self.thickness_mm, low=0.0, high=1e4))
        put("normal", check.optional(check.vector, pre + "normal", self.normal, nonzero=True))
        put("turns", check.flag(pre + "turns", self.turns))
        for field, given in (("normal", self.normal is not None), ("turns", self.turns)):
            if given and self.shape == "sphere":
                raise InputError(pre + field, "has no meaning for a sphere", getattr(self, field))
        self._clean_density()
        self._clean_backgrounds()
        find_material(pre + "material", self.material, self.density_g_per_cm3)

    @property
    def label(self) -> str:
        return f"{self.shape} of {self.material}"

    @property
    def matter(self) -> Material | None:
        return find_material("Absorption.material", self.material, self.density_g_per_cm3)

    @property
    def moves(self) -> bool:
        return self.turns


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Beamstop(Obstacle):
    """A disc across the beam on a stem, whose shadow falls on the detector as the crystal sees it (eq. 53).

    Places on its plane count along the convention's fast axis and slow axis, both at right angles to the beam: on an
    upright detector to the right and down, as on the image.
    """

    KIND: ClassVar[str] = "beamstop"

    diameter_mm: float
    distance_mm: float  #: from the crystal, along the beam
    shift_mm: tuple = (0.0, 0.0)  #: of its centre from the beam, along fast and slow
    stem_width_mm: float = 0.0  #: 0: no stem
    stem_deg: float = 90.0  #: where the stem goes to: 0 along fast, 90 along slow
    edge_mm: float = 0.0  #: width over which its edge goes from dark to clear, half of it to either side
    transmission: float = 0.0  #: of the disc and the stem
    backgrounds: bool = True  #: whether it stops what amorphous backgrounds scatter, too

    def __post_init__(self) -> None:
        put, pre = self._set, "Beamstop."
        put("diameter_mm", check.number(pre + "diameter_mm", self.diameter_mm, low=0.0, high=1e6))
        put("distance_mm", check.number(pre + "distance_mm", self.distance_mm, above=0.0, high=1e7))
        put("shift_mm", check.vector(pre + "shift_mm", self.shift_mm, length=2, low=-1e6, high=1e6))
        for field in ("stem_width_mm", "edge_mm"):
            put(field, check.number(pre + field, getattr(self, field), low=0.0, high=1e6))
        put("stem_deg", check.number(pre + "stem_deg", self.stem_deg, low=-1e6, high=1e6))
        put("transmission", check.number(pre + "transmission", self.transmission, low=0.0, high=1.0))
        self._clean_backgrounds()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Shadow(Obstacle):
    """What a polygon hides: pixels of the image, or what lies behind a thing of the laboratory (eq. 53).

    A goniometer's head turns with the spindle: of ``turns`` a frame has the mean over its spindle steps.
    """

    KIND: ClassVar[str] = "shadow"

    corners_mm: np.ndarray | None = None  #: float64 (n, 3), lab frame: a flat polygon
    corners_px: np.ndarray | None = None  #: float64 (n, 2), fast and slow: a polygon of the image; 0 is an outer edge
    solid: bool = False  #: whether corners_mm are those of a convex body instead of a polygon
    turns: bool = False  #: with the spindle; corners_mm are then those at phi = 0
    transmission: float = 0.0  #: of what is hidden
    name: str | None = None
    backgrounds: bool = True  #: whether it hides what amorphous backgrounds scatter, too

    def __post_init__(self) -> None:
        put, pre = self._set, "Shadow."
        if (self.corners_mm is None) == (self.corners_px is None):
            raise InputError("Shadow", "must have either corners_mm or corners_px")
        for field in ("solid", "turns"):
            put(field, check.flag(pre + field, getattr(self, field)))
            if getattr(self, field) and self.corners_mm is None:
                raise InputError(pre + field, "needs corners_mm", True)
        for field, columns in (("corners_mm", 3), ("corners_px", 2)):
            if getattr(self, field) is not None:
                put(field, _corners(pre + field, getattr(self, field), columns))
        if self.corners_mm is not None:
            _check_body(pre + "corners_mm", self.corners_mm, solid=self.solid)
        put("transmission", check.number(pre + "transmission", self.transmission, low=0.0, high=1.0))
        put("name", check.optional(check.text, pre + "name", self.name))
        self._clean_backgrounds()

    @property
    def label(self) -> str:
        return "shadow" if self.name is None else f"shadow {self.name}"

    @property
    def moves(self) -> bool:
        return self.turns

    @classmethod
    def list_from_file(cls, path: str | os.PathLike[str], **fields) -> tuple[Self, ...]:
        """Read shadows from a text: a corner a line, x y z in mm or fast and slow in pixels, empty lines between two.

        Raises
        ------
        InputError
            If the file cannot be read or breaks a rule.
        """
        from bragg_numba.io.text_files import read_polygons

        polygons = read_polygons(path)
        with read_from(path):
            return tuple(cls(**{_field_of(corners): corners, **fields}) for corners in polygons)


def _field_of(corners: np.ndarray) -> str:
    return "corners_mm" if corners.shape[1] == 3 else "corners_px"


def _corners(name: str, values, columns: int) -> np.ndarray:
    """Corners as a read-only float64 (n, columns)."""
    try:
        found = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(name, f"must be a list of corners, {columns} numbers each") from None
    if found.ndim != 2 or found.shape[1] != columns:
        raise InputError(name, f"must be a list of corners, {columns} numbers each", found.shape)
    if not FEWEST_CORNERS <= len(found) <= MOST_CORNERS:
        raise InputError(name, f"must be {FEWEST_CORNERS} to {MOST_CORNERS} corners", len(found))
    if not (np.abs(found) <= 1e7).all():
        raise InputError(name, "must be finite numbers of at most 1e7")
    found.flags.writeable = False
    return found


def _check_body(name: str, corners: np.ndarray, *, solid: bool) -> None:
    """Refuse a polygon that is not flat, and a body that is."""
    sizes = np.linalg.svd(corners - corners.mean(axis=0), compute_uv=False)
    if sizes[1] <= FLAT * sizes[0] or sizes[0] == 0.0:
        raise InputError(name, "must not lie on one line")
    flat = sizes[2] <= FLAT * sizes[0]
    if solid and flat:
        raise InputError(name, "must not be flat where they are those of a solid", hint="without solid: a polygon")
    if not solid and not flat:
        raise InputError(name, "must lie in one plane", hint="solid=True makes them the corners of a convex body")


#: The nouns of ``Experiment.transmission`` by the ``kind`` of their dictionaries.
KINDS: dict[str, type[Obstacle]] = {one.KIND: one for one in (AirPath, Window, Absorption, Beamstop, Shadow)}


def obstacle_of(name: str, values) -> Obstacle:
    """Build one of the nouns from what its ``to_dict`` returned, under this name in errors."""
    if not isinstance(values, dict):
        raise InputError(name, "must be a JSON object", values)
    kind = check.choice(f"{name}.kind", values.get("kind"), tuple(KINDS))
    fields = {key: value for key, value in values.items() if key != "kind"}
    try:
        return KINDS[kind].from_dict(fields)
    except TypeError as error:  # a field without a default is missing; Python names it
        raise InputError(name, f"does not fit: {str(error).split(') ')[-1]}") from None


def clean_transmission(name: str, given) -> tuple[Obstacle, ...]:
    """Return the obstacles as a tuple; one alone stands for itself, a dictionary for what it says."""
    if isinstance(given, Obstacle):
        return (given,)
    if not isinstance(given, (tuple, list)):
        raise InputError(name, "must be a tuple of AirPath, Window, Absorption, Beamstop or Shadow", given)
    for place, one in enumerate(given):
        if not isinstance(one, Obstacle):
            raise InputError(f"{name}[{place}]", "must be an AirPath, Window, Absorption, Beamstop or Shadow", one)
    return given if isinstance(given, tuple) else tuple(given)
