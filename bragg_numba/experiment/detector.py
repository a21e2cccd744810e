"""The detector: pixels, place, tilt, sensor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from bragg_numba import checks as check
from bragg_numba.conventions import FRAMES
from bragg_numba.errors import InputError
from bragg_numba.experiment.noun import Noun
from bragg_numba.experiment.panel import MOST_PIXELS, Panel, attenuation_depth, check_mask, check_sensor, sensor_length
from bragg_numba.materials import attenuation_per_m, find_material

CONVENTIONS = tuple(FRAMES)
PIVOTS = ("beam", "sample")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Detector(Noun):
    """A flat (or cylindrically curved) array of square pixels; or several flat panels.

    The convention fixes the laboratory frame (beam, fast, slow, normal, two-theta and spindle axes),
    the meaning of the beam centre and the default pivot. Every ``None`` follows from the convention.

    Each of ``panels`` has a place of its own in the laboratory and is a rectangle of the image; what lies between the
    rectangles belongs to no panel and stays 0. Of the other fields panels leave room for ``pixel_mm``, the sensor,
    ``point_pixel``, ``convention`` (which fixes the directions of beam, polarization and spindle) and ``mask``.
    """

    pixel_mm: float = 0.1
    n_fast: int | None = None  #: pixels along the fast axis; None: from size_fast_mm, or what panels need
    n_slow: int | None = None
    size_fast_mm: float = 102.4  #: used where n_fast is not given
    size_slow_mm: float = 102.4
    distance_mm: float = 100.0  #: along the beam
    close_distance_mm: float | None = None  #: along the detector's normal; wins over distance_mm
    convention: str = "mosflm"
    beam_x_mm: float | None = None  #: direct beam, in the convention's own sense of x and y
    beam_y_mm: float | None = None
    close_x_mm: float | None = None  #: point nearest to the crystal, along fast
    close_y_mm: float | None = None  #: the same along slow
    org_x_px: float | None = None  #: the same in XDS's pixels (first pixel's centre is 1)
    org_y_px: float | None = None
    origin_mm: tuple | None = None  #: outer corner of pixel (0, 0), lab frame, as it finally stands
    pivot: str | None = None  #: "beam" or "sample": what a rotation keeps in place
    rotation_deg: tuple = (0.0, 0.0, 0.0)  #: about lab x, y, z in this order
    twotheta_deg: float = 0.0
    fast_axis: tuple | None = None
    slow_axis: tuple | None = None
    normal_axis: tuple | None = None  #: away from the crystal
    twotheta_axis: tuple | None = None
    curved: bool = False  #: every pixel at ``distance`` from the crystal
    point_pixel: bool = False  #: solid angle 1/R^2, without pixel area and obliquity
    attenuation_depth_um: float | None = None  #: of the sensor; None: its material's, else its thickness; 0, inf: none
    thickness_um: float = 0.0
    sensor: str | None = None  #: its material, which knows a depth at every wavelength (docs/transmission.md)
    sensor_density_g_per_cm3: float | None = None  #: None: that of the built-in material
    thickness_steps: int | None = None
    mask: np.ndarray | None = None  #: bool (n_slow, n_fast); False pixels are skipped and stay 0
    panels: tuple | None = None  #: of Panel; None: one, placed by the fields above
    geometry_file: str | None = None  #: name of the .geom or .expt that all this was read from
    geometry_text: str | None = None  #: the whole .geom, for files in its layout
    geometry_notes: tuple = ()  #: sentences about what of it was not read

    def __post_init__(self) -> None:
        put, pre = self._set, "Detector."
        if self.panels is not None:
            put("panels", _numbered(self.panels))
        put("pixel_mm", check.number(pre + "pixel_mm", self.pixel_mm, low=1e-6, high=1e4))
        for field in ("n_fast", "n_slow"):
            put(field, check.optional(check.count, pre + field, getattr(self, field), low=1, high=1_000_000))
        for field in ("size_fast_mm", "size_slow_mm", "distance_mm"):
            put(field, check.number(pre + field, getattr(self, field), low=1e-9, high=1e7))
        close = check.optional(check.number, pre + "close_distance_mm", self.close_distance_mm, low=1e-9, high=1e7)
        put("close_distance_mm", close)
        put("convention", check.choice(pre + "convention", self.convention, CONVENTIONS))
        put("pivot", check.optional(check.choice, pre + "pivot", self.pivot, allowed=PIVOTS))
        for field in ("beam_x_mm", "beam_y_mm", "close_x_mm", "close_y_mm", "org_x_px", "org_y_px"):
            put(field, check.optional(check.number, pre + field, getattr(self, field), low=-1e9, high=1e9))
        put("origin_mm", check.optional(check.vector, pre + "origin_mm", self.origin_mm, low=-1e9, high=1e9))
        put("rotation_deg", check.vector(pre + "rotation_deg", self.rotation_deg))
        put("twotheta_deg", check.number(pre + "twotheta_deg", self.twotheta_deg))
        for field in ("fast_axis", "slow_axis", "normal_axis", "twotheta_axis"):
            put(field, check.optional(check.vector, pre + field, getattr(self, field), nonzero=True))
        for field in ("curved", "point_pixel"):
            put(field, check.flag(pre + field, getattr(self, field)))
        depth = check.optional(attenuation_depth, pre + "attenuation_depth_um", self.attenuation_depth_um)
        put("attenuation_depth_um", depth)
        put("thickness_um", sensor_length(pre + "thickness_um", self.thickness_um, high=1e9))
        check_sensor(self, pre)
        steps = check.optional(check.count, pre + "thickness_steps", self.thickness_steps, low=1, high=1_000_000)
        put("thickness_steps", steps)
        if self.panels is not None:
            self._fit_panels(self.panels)
        for n, name in ((self.shape[0], "slow"), (self.shape[1], "fast")):
            if not 1 <= n <= MOST_PIXELS:
                raise InputError(f"Detector.size_{name}_mm", f"must hold 1 to {MOST_PIXELS} pixels", n)
        put("mask", check_mask(pre + "mask", self.mask, self.shape))
        for field in ("geometry_file", "geometry_text"):
            put(field, check.optional(check.text, pre + field, getattr(self, field)))
        notes = self.geometry_notes
        if not isinstance(notes, (tuple, list)) or not all(isinstance(note, str) for note in notes):
            raise InputError(pre + "geometry_notes", "must be a list of sentences", notes)
        put("geometry_notes", tuple(notes))

    def _fit_panels(self, given: tuple[Panel, ...]) -> None:
        """Put the panels into the image, and refuse fields that place a single one."""
        for field in _OF_ONE_PANEL:
            if getattr(self, field) != type(self).__dataclass_fields__[field].default:
                hint = "each panel has origin_mm, fast and slow of its own"
                raise InputError(f"Detector.{field}", "has no meaning beside panels", getattr(self, field), hint)
        panels = _stacked(given)
        self._set("panels", panels)
        _refuse_overlaps(panels)
        for field, needed in zip(("n_slow", "n_fast"), _extent(panels), strict=True):
            wanted = getattr(self, field)
            if needed > MOST_PIXELS:
                raise InputError("Detector.panels", f"must fit into {MOST_PIXELS} rows and columns", needed)
            if wanted is not None and wanted < needed:
                raise InputError(f"Detector.{field}", f"must hold all panels, {needed} pixels", wanted)

    @classmethod
    def from_geom(
        cls,
        path,
        *,
        data_file=None,
        event: int | str | None = None,
        values: Mapping[str, float] | None = None,
        clen_mm: float | None = None,
        masks: bool | None = None,
        mask_folder=None,
    ) -> Self:
        """Read a CrystFEL geometry (.geom): its panels, where they lie in the image, and what of them is bad.

        Wavelength and bandwidth are the beam's: ``Experiment.from_geom`` reads them too. The convention is adxv, whose
        frame is CrystFEL's.

        Parameters
        ----------
        path
            The file; docs/geometry.md tells what is read of it.
        data_file
            An HDF5 file that holds what the .geom names by a path, and its masks: its name, or an open ``h5py.File``.
        event
            Which of its frames: a number, or as CrystFEL writes it ("//7", "run3/a//0/7").
        values
            Numbers by such a path, in the unit that the .geom gives there (mm for a clen without one); they win over
            ``data_file``.
        clen_mm
            The camera length, instead of that of the file.
        masks
            None: masks in files of their own are read where these are there (else ``geometry_notes`` says so), those
            in the file of the data where ``data_file`` is given. True: all must be there. False: none is read. Bad
            regions, edge pixels and panels that are not to be indexed are bad in any case.
        mask_folder
            Where mask files with relative names are; None: beside the .geom.

        Raises
        ------
        InputError
            If the file breaks a rule (which line, which rule, which value), or a number that it needs is not given:
            which, and the path where it lies.

        Examples
        --------
        >>> detector = Detector.from_geom("tests/data/jungfrau2m_extrageom.geom")
        >>> detector.shape, len(detector.panels)
        ((2048, 1024), 32)
        """
        from bragg_numba.dialect.geometry_files import GeomOptions, detector_of_geom

        options = GeomOptions(
            data_file=data_file,
            event=event,
            values=values,
            clen_mm=clen_mm,
            masks=masks,
            mask_folder=mask_folder,
        )
        return cls.from_dict(detector_of_geom(path, options))

    @classmethod
    def from_expt(cls, path, index: int = 0) -> Self:
        """Read the detector of one experiment of a DIALS experiment list (.expt).

        The panels' hierarchy is reckoned in; vectors are turned from the frame of imgCIF into that of McStas, whose
        convention is adxv. ``Experiment.from_expt`` reads the rest.

        Parameters
        ----------
        path
            The file; docs/geometry.md tells what is read of it.
        index
            Which of its experiments, from 0.

        Raises
        ------
        InputError
            If the file breaks a rule: the place in it, the rule and the value.
        """
        from bragg_numba.dialect.geometry_files import ExptOptions, detector_of_expt

        return cls.from_dict(detector_of_expt(path, ExptOptions(index=index)))

    @classmethod
    def from_dict(cls, values: dict) -> Self:
        """Build from what ``to_dict`` returned; an unknown field is an error that names the nearest."""
        if isinstance(values, dict) and isinstance(values.get("panels"), (list, tuple)):
            panels = tuple(panel if isinstance(panel, Panel) else Panel.from_dict(panel) for panel in values["panels"])
            values = {**values, "panels": panels}
        # Named: inside a dataclass with slots, super() without arguments means the class without them.
        return super(Detector, cls).from_dict(values)

    @property
    def detector_size_m(self) -> tuple[float, float]:
        """(slow, fast) size of a single panel in metres: pixels times pitch where pixels are given."""
        pixel = self.pixel_mm / 1000.0
        slow = pixel * self.n_slow if self.n_slow else self.size_slow_mm / 1000.0
        fast = pixel * self.n_fast if self.n_fast else self.size_fast_mm / 1000.0
        return slow, fast

    @property
    def shape(self) -> tuple[int, int]:
        """(slow, fast) number of pixels of the image."""
        if self.panels is not None:
            n_slow, n_fast = _extent(self.panels)
            return max(n_slow, self.n_slow or 0), max(n_fast, self.n_fast or 0)
        pixel = self.pixel_mm / 1000.0
        slow, fast = self.detector_size_m
        return math.ceil(slow / pixel - 0.5), math.ceil(fast / pixel - 0.5)

    def sensor_depths_um(self, wavelength_A: float) -> tuple[float, ...]:
        """Attenuation depth of every panel's sensor at a wavelength, micrometres; inf where there is no sensor.

        Examples
        --------
        >>> round(Detector(sensor="Si", thickness_um=450).sensor_depths_um(1.0)[0])
        246
        """
        per_m = [float(sensor.attenuation_per_m(wavelength_A)) for sensor in self.sensors]
        return tuple(1e6 / mu if mu > 0.0 else math.inf for mu in per_m)

    @property
    def sensors(self) -> list[Sensor]:
        """Every panel's sensor."""
        own = Sensor(self.thickness_um, self.attenuation_depth_um, self.sensor, self.sensor_density_g_per_cm3)
        return [own] if self.panels is None else [_sensor_of(panel, own) for panel in self.panels]


@dataclass(frozen=True, slots=True)
class Sensor:
    """A panel's sensor as its fields say it. A depth wins over a material's."""

    thickness_um: float
    depth_um: float | None  #: None: of the material, else the thickness
    material: str | None
    density_g_per_cm3: float | None

    @property
    def formula(self) -> str | None:
        """Its material as files have it, None where none is named: "Si", whoever wrote it how."""
        if self.material is None:
            return None
        return find_material("Detector.sensor", self.material, self.density_g_per_cm3).formula

    @property
    def depends_on_wavelength(self) -> bool:
        """Whether its attenuation is its material's."""
        return self.material is not None and self.depth_um is None and self.thickness_um > 0.0

    @property
    def absorbs(self) -> bool:
        """Whether there is a sensor at all."""
        return self.thickness_um > 0.0 and self.depth_um != 0.0

    def attenuation_per_m(self, wavelength_A) -> np.ndarray:
        """Photoelectric absorption (eq. 51) at wavelengths (angstrom), 1/m; 0 without a sensor."""
        shape = np.shape(wavelength_A)
        if not self.absorbs:
            return np.zeros(shape)
        if not self.depends_on_wavelength:
            # In this order of operations, which fixes the last bit.
            return np.full(shape, 1.0 / ((self.thickness_um if self.depth_um is None else self.depth_um) * 1e-6))
        material = find_material("Detector.sensor", self.material or "", self.density_g_per_cm3)
        return attenuation_per_m("Detector.sensor", material, wavelength_A, absorbed=True)


def _sensor_of(panel: Panel, own: Sensor) -> Sensor:
    """A panel's sensor; what it leaves open is the detector's."""
    thickness = own.thickness_um if panel.thickness_um is None else panel.thickness_um
    material, density = panel.sensor, panel.sensor_density_g_per_cm3
    if material is None:
        depth = own.depth_um if panel.attenuation_depth_um is None else panel.attenuation_depth_um
        return Sensor(thickness, depth, own.material, own.density_g_per_cm3)
    return Sensor(thickness, panel.attenuation_depth_um, material, density)


#: What places a detector of one panel.
_OF_ONE_PANEL = (
    *("size_fast_mm", "size_slow_mm", "distance_mm", "close_distance_mm", "beam_x_mm", "beam_y_mm", "close_x_mm"),
    *("close_y_mm", "org_x_px", "org_y_px", "origin_mm", "pivot", "rotation_deg", "twotheta_deg", "fast_axis"),
    *("slow_axis", "normal_axis", "curved"),
)

#: More panels than this are a slip of the pen: the largest detectors have some hundreds.
MOST_PANELS = 10_000


def _numbered(panels) -> tuple[Panel, ...]:
    """Panels as a tuple, each with a name of its own."""
    if isinstance(panels, (Panel, str, bytes)) or not hasattr(panels, "__iter__"):
        raise InputError("Detector.panels", "must be a list of Panel", panels)
    listed = tuple(panels)
    if not 1 <= len(listed) <= MOST_PANELS:
        raise InputError("Detector.panels", f"must be 1 to {MOST_PANELS} panels", len(listed))
    for index, panel in enumerate(listed):
        if not isinstance(panel, Panel):
            raise InputError(f"Detector.panels[{index}]", "must be a Panel", panel)
    named = tuple(p if p.name is not None else p.replace(name=f"p{i}") for i, p in enumerate(listed))
    seen: set[str | None] = set()
    for panel in named:
        if panel.name in seen:
            raise InputError("Detector.panels", "must have different names", panel.name)
        seen.add(panel.name)
    return named


def _stacked(panels: tuple[Panel, ...]) -> tuple[Panel, ...]:
    """Panels with a place in the image each: those without a row lie below the ones before them."""
    placed, below = [], 0
    for panel in panels:
        row = below if panel.first_row is None else panel.first_row
        column = 0 if panel.first_column is None else panel.first_column
        if (panel.first_row, panel.first_column) != (row, column):
            panel = panel.replace(first_row=row, first_column=column)
        placed.append(panel)
        below = max(below, row + panel.n_slow)
    return tuple(placed)


def _extent(panels: tuple[Panel, ...]) -> tuple[int, int]:
    """(slow, fast) pixels of the smallest image that holds all panels."""
    rows = max((panel.first_row or 0) + panel.n_slow for panel in panels)
    return rows, max((panel.first_column or 0) + panel.n_fast for panel in panels)


def _refuse_overlaps(panels: tuple[Panel, ...]) -> None:
    """Raise InputError if two panels share a pixel of the image."""
    top, left = (np.array([getattr(p, field) for p in panels]) for field in ("first_row", "first_column"))
    bottom, right = top + [p.n_slow for p in panels], left + [p.n_fast for p in panels]
    for i in range(len(panels) - 1):
        later = slice(i + 1, None)
        rows = (top[later] < bottom[i]) & (bottom[later] > top[i])
        shared = np.flatnonzero(rows & (left[later] < right[i]) & (right[later] > left[i]))
        if len(shared):
            one, other = panels[i], panels[i + 1 + int(shared[0])]
            raise InputError(
                "Detector.panels",
                f"must not share pixels of the image, but {one.name!r} and {other.name!r} do",
                (other.first_row, other.first_column),
                "first_row and first_column say where a panel lies",
            )
