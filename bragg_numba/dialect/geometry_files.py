"""What CrystFEL's .geom and DIALS's .expt say of each noun: plain values by the names of the nouns' fields.

Both are in the frame of McStas, which is that of the convention adxv: z along the beam, y up, the crystal at the
origin. docs/physics.md, section 11, holds the conversions.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.io.expt_file import read_expt
from bragg_numba.io.expt_models import ExptBeam, ExptExperiment, ExptPanel, ExptScan, mcstas, place_panels
from bragg_numba.io.geom_file import parse_geom
from bragg_numba.io.geom_masks import mark_bad, read_masks
from bragg_numba.io.geometry import Geometry, Placement, Quantity
from bragg_numba.io.text_files import read_text
from bragg_numba.materials.attenuation import is_known
from bragg_numba.memory import require

#: Values of one noun's fields by name.
Fields = dict[str, Any]

#: The convention whose axes are those of McStas and CrystFEL.
CONVENTION = "adxv"

#: Relative standard deviation of wavelengths below which a beam has one: CrystFEL takes 1e-8 where nothing is said.
NARROWEST_BAND = 1e-6

#: Wavelengths that stand for a bandwidth, and for the range of a polychromatic beam.
BAND_STEPS, RANGE_STEPS = 5, 101

#: Rows and columns of an image at most.
MOST_PIXELS = 1_000_000

#: Standard deviation of the rotations about any one axis that nanoBragg draws for a mosaic spread of 1: the angle is
#: (1 - r^2)^(1/3) of the spread with r uniform, about axes of all directions.
SPREAD_DEVIATION = math.sqrt(0.5 * math.gamma(0.5) * math.gamma(5.0 / 3.0) / math.gamma(13.0 / 6.0) / 3.0)

#: How far clen_mm and wavelength_A may be from what a file says and be the same: constants of nature differ by 6e-7.
SAME = 1e-5


# --- .geom -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GeomOptions:
    """What may be said beside a .geom.

    ``data_file`` is an HDF5 file (its name, or an open one) and ``event`` one of its frames; ``values`` are numbers
    by the paths that the .geom names, in the units that it gives there, and come first. ``masks`` None: those that
    can be read; True: all must be; False: none.
    """

    data_file: Any = None
    event: int | str | None = None
    values: Mapping[str, float] | None = None
    clen_mm: float | None = None
    wavelength_A: float | None = None
    masks: bool | None = None
    mask_folder: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if self.values is not None and not isinstance(self.values, Mapping):
            raise InputError("values", "must be numbers by the paths of the .geom", self.values)
        for name, low, high in (("clen_mm", -1e9, 1e9), ("wavelength_A", 1e-3, 1e4)):
            value = getattr(self, name)
            object.__setattr__(self, name, check.optional(check.number, name, value, low=low, high=high))
        is_file = isinstance(self.data_file, (str, os.PathLike)) or hasattr(self.data_file, "filename")
        if self.data_file is not None and not is_file:
            raise InputError("data_file", "must be the name of an HDF5 file, or an open one", self.data_file)
        if self.mask_folder is not None:
            _require_name("mask_folder", self.mask_folder)
        if self.masks not in (None, True, False):
            raise InputError("masks", "must be None, True or False", self.masks)

    @property
    def places(self) -> list | None:
        """Where numbers that lie at paths are looked up, in this order."""
        found = [place for place in (self.values, self.data_file) if place is not None]
        return found or None


def detector_of_geom(path, options: GeomOptions) -> Fields:
    """Return fields of ``Detector`` that a .geom fixes.

    Raises
    ------
    InputError
        If the file breaks a rule, or needs a number that ``options`` do not give: which, and its path.
    """
    geometry, text = _read_geom(path)
    return detector_of_geometry(geometry, text, options)


def nouns_of_geom(path, options: GeomOptions) -> dict[str, Fields]:
    """Return fields of ``Detector`` and ``Beam`` by the names "detector" and "beam"; a beam without wavelength has {}.

    Raises
    ------
    InputError
        As ``detector_of_geom``.
    """
    geometry, text = _read_geom(path)
    return {"detector": detector_of_geometry(geometry, text, options), "beam": _geom_beam(geometry, options)}


def require_same(path, options: GeomOptions) -> None:
    """Refuse a camera length or a wavelength beside a .geom that states another one.

    Raises
    ------
    InputError
        Under the name ``clen_mm`` or ``wavelength_A``: what the file says, and in which line.
    """
    geometry, _ = _read_geom(path)
    lengths = {panel.clen or geometry.clen for panel in geometry.panels}
    for quantity in sorted((q for q in lengths if q is not None), key=lambda q: q.line):
        _require_same("clen_mm", options.clen_mm, quantity, quantity.number, 1e3, geometry.file)
    wavelength = geometry.wavelength
    if wavelength is not None and wavelength.number is not None:
        _require_same("wavelength_A", options.wavelength_A, wavelength, geometry.wavelength_A(), 1.0, geometry.file)


def _require_same(
    name: str, given: float | None, quantity: Quantity, stated: float | None, scale: float, file: str
) -> None:
    if given is None or stated is None:
        return
    if not math.isclose(given, stated * scale, rel_tol=SAME):
        rule = f"contradicts line {quantity.line} of {file}, whose {quantity.key} makes it {stated * scale:.7g}"
        raise InputError(name, rule, given, hint="leave it out, or change the file")


def _require_name(name: str, path) -> None:
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(name, "must be the name of a file", path)


def _read_geom(path) -> tuple[Geometry, str]:
    _require_name("path", path)
    text = read_text(path)
    return parse_geom(text, os.fspath(path)), text


def detector_of_geometry(
    geometry: Geometry, text: str, options: GeomOptions, placement: Placement | None = None
) -> Fields:
    """Return fields of ``Detector`` for a geometry that was read from ``text``; ``placement`` where it is known.

    Raises
    ------
    InputError
        As ``detector_of_geom``.
    """
    if placement is None:
        clen_m = None if options.clen_mm is None else options.clen_mm / 1000.0
        placement = geometry.place(options.places, options.event, clen_m=clen_m)
    _require_fitting(placement, geometry.file)
    bad = mark_bad(geometry, shift_m=_shift(geometry, placement))
    notes: tuple[str, ...] = ()
    if options.masks is not False:
        masked, left_out = read_masks(
            geometry if options.masks or options.data_file is not None else _without_own_masks(geometry),
            options.data_file,
            options.event,
            folder=options.mask_folder,
            required=options.masks is True,
        )
        bad |= masked
        notes = tuple(f"{sentence}: all its pixels count as good" for sentence in left_out)
    return {
        **_of_placement(placement),
        "mask": ~bad if bad.any() else None,
        "geometry_file": geometry.file,
        "geometry_text": text,
        "geometry_notes": notes,
    }


def _require_fitting(placement: Placement, file: str) -> None:
    """Refuse an image that could not be: before any memory is taken for it."""
    n_slow, n_fast = placement.n_slow, placement.n_fast
    if max(n_slow, n_fast) > MOST_PIXELS:
        rule = f"must fit into {MOST_PIXELS} rows and columns"
        raise InputError("the panels", rule, max(n_slow, n_fast), file=file)
    require("the panels' mask", 2 * n_slow * n_fast, None, f"{n_fast} x {n_slow} pixels")


def _shift(geometry: Geometry, placement: Placement) -> tuple[float, float]:
    """The detector's shift, metres: what a placed panel's corner has beyond that of the file."""
    panel, placed = geometry.panels[0], placement.panels[0]
    x, y = (placed.origin_m[axis] - panel.corner[axis] / panel.res for axis in (0, 1))
    return (x if geometry.shift_x else 0.0), (y if geometry.shift_y else 0.0)


def _without_own_masks(geometry: Geometry) -> Geometry:
    """A geometry without the masks that lie in the file of the data: what is simulated has none yet."""
    panels = tuple(
        dataclasses.replace(panel, masks=tuple(mask for mask in panel.masks if mask.file is not None))
        for panel in geometry.panels
    )
    return dataclasses.replace(geometry, panels=panels)


def _of_placement(placement: Placement) -> Fields:
    """The panels of a placement, in millimetres."""
    panels = []
    for placed in placement.panels:
        fast, slow = np.array(placed.fast_m), np.array(placed.slow_m)
        pitch = float(np.linalg.norm(fast)), float(np.linalg.norm(slow))
        panels.append(
            {
                "name": placed.name or None,
                "n_fast": placed.n_fast,
                "n_slow": placed.n_slow,
                "origin_mm": _scaled(placed.origin_m, 1000.0),
                "fast": _scaled(placed.fast_m, 1.0 / pitch[0]),
                "slow": _scaled(placed.slow_m, 1.0 / pitch[1]),
                "pixel_mm": (pitch[0] * 1000.0, pitch[1] * 1000.0),
                "first_row": placed.first_slow,
                "first_column": placed.first_fast,
            }
        )
    return {"panels": tuple(panels), "convention": CONVENTION, "n_fast": placement.n_fast, "n_slow": placement.n_slow}


def _scaled(vector: Iterable[float], factor: float) -> tuple[float, float, float]:
    x, y, z = (float(value) * factor + 0.0 for value in vector)
    return x, y, z


def _geom_beam(geometry: Geometry, options: GeomOptions) -> Fields:
    wavelength = options.wavelength_A
    if wavelength is None:
        wavelength = geometry.wavelength_A(options.places, options.event)
    fields: Fields = {} if wavelength is None else {"wavelength_A": wavelength}
    if geometry.bandwidth > NARROWEST_BAND:
        fields |= even_band(geometry.bandwidth)
    return fields


def even_band(deviation: float) -> Fields:
    """Evenly spaced wavelengths with a standard deviation, which is a fraction of the wavelength."""
    n = BAND_STEPS
    spread = deviation * math.sqrt(12.0 * (n - 1) / (n + 1))
    return {"dispersion_percent": 100.0 * spread, "dispersion_steps": n}


# --- .expt -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExptOptions:
    """Which part of an .expt is meant: the experiment, and the image of its scan (None: the first)."""

    index: int = 0
    image: int | None = None
    wavelength_A: float | None = None  #: where the beam is polychromatic and the file says no range

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "index", check.count("index", self.index, low=0, high=2**31 - 1))
        image = check.optional(check.count, "image", self.image, low=-(2**31) + 1, high=2**31 - 1)
        put(self, "image", image)
        put(self, "wavelength_A", check.optional(check.number, "wavelength_A", self.wavelength_A, low=1e-3, high=1e4))


def detector_of_expt(path, options: ExptOptions) -> Fields:
    """Return fields of ``Detector`` from one experiment of an .expt.

    Raises
    ------
    InputError
        If the file breaks a rule, has no such experiment, or this one no detector.
    """
    return _expt_detector(_chosen(path, options), os.fspath(path))


def nouns_of_expt(path, options: ExptOptions) -> dict[str, Fields]:
    """Return fields of ``Beam``, ``Detector``, ``Rotation`` and ``Crystal`` from one experiment of an .expt.

    They are by the names "beam", "detector", "rotation" and "crystal"; an experiment without crystal has none.

    Raises
    ------
    InputError
        As ``detector_of_expt``; for an image that the scan has not.
    """
    file, chosen = os.fspath(path), _chosen(path, options)
    detector = _expt_detector(chosen, file)
    if chosen.beam is None:
        raise InputError("beam", f"is missing from experiment {options.index}", file=file)
    place = _place_in_scan(chosen.scan, options, file)
    beam = _expt_beam(chosen.beam, chosen.scan, place, options, file)
    nouns = {"beam": beam, "detector": detector, "rotation": _expt_rotation(chosen, place)}
    if chosen.crystal is not None:
        nouns["crystal"] = _expt_crystal(chosen, place, beam["wavelength_A"], file)
    return nouns


def _chosen(path, options: ExptOptions) -> ExptExperiment:
    _require_name("path", path)
    experiments = read_expt(path)
    if options.index >= len(experiments):
        number = len(experiments)
        rule = (
            f"must be below {number}, the number of experiments" if number else "finds no experiment: the list is empty"
        )
        raise InputError("index", rule, options.index, file=os.fspath(path))
    return experiments[options.index]


def _expt_detector(chosen: ExptExperiment, file: str) -> Fields:
    if not chosen.detector:
        raise InputError("detector", "is missing from the experiment", file=file)
    placement = place_panels(chosen.detector)
    if max(placement.n_slow, placement.n_fast) > MOST_PIXELS:
        rule = f"must fit into {MOST_PIXELS} rows and columns"
        raise InputError("the panels", rule, max(placement.n_slow, placement.n_fast), file=file)
    fields = _of_placement(placement)
    names = _distinct([panel.name for panel in chosen.detector])
    for name, own, panel in zip(names, fields["panels"], chosen.detector, strict=True):
        own |= {"name": name, "bad": _bad_rectangles(panel), **_sensor(panel)}
    return {**fields, "geometry_file": file}


def _distinct(names: list[str]) -> list[str | None]:
    """Names of panels; numbers where they are missing or the same."""
    if all(name.strip() for name in names) and len(set(names)) == len(names):
        return list(names)
    return [None] * len(names)


def _bad_rectangles(panel: ExptPanel) -> tuple[tuple[int, int, int, int], ...]:
    """What is masked of a panel, with both ends inclusive; what lies outside of it counts for nothing."""
    found = []
    for x0, y0, x1, y1 in panel.mask:
        left, right = max(x0, 0), min(x1, panel.image_size[0]) - 1
        top, bottom = max(y0, 0), min(y1, panel.image_size[1]) - 1
        if left <= right and top <= bottom:
            found.append((left, right, top, bottom))
    return tuple(found)


def _sensor(panel: ExptPanel) -> Fields:
    """The sensor, where DIALS reckons with one; its material, where the file names one that is known here.

    The file's own mu wins; without one the material knows it.
    """
    material = {"sensor": panel.material} if is_known(panel.material) else {}
    if not (panel.parallax and panel.thickness_mm > 0.0 and (panel.mu_per_mm > 0.0 or material)):
        return {}
    depth = {"attenuation_depth_um": 1000.0 / panel.mu_per_mm} if panel.mu_per_mm > 0.0 else {}
    return {"thickness_um": panel.thickness_mm * 1000.0, **depth, **material}


def _place_in_scan(scan: ExptScan | None, options: ExptOptions, file: str) -> int:
    """Which image of a scan is meant, from 0."""
    first, last = (1, 1) if scan is None else scan.image_range
    image = first if options.image is None else options.image
    if not first <= image <= last:
        raise InputError("image", f"must lie in the scan, {first} to {last}", image, file=file)
    return image - first


def _expt_beam(beam: ExptBeam, scan: ExptScan | None, place: int, options: ExptOptions, file: str) -> Fields:
    direction, wavelength = -mcstas(beam.direction), beam.wavelength_A
    if len(beam.s0_at_scan_points) > place + 1:
        s0 = np.mean(np.array(beam.s0_at_scan_points[place : place + 2]), axis=0)
        if np.linalg.norm(s0) > 0.0:
            direction = mcstas(s0)
            wavelength = 1.0 / float(np.linalg.norm(s0)) if wavelength is not None else None
    fields: Fields = {}
    if wavelength is None and options.wavelength_A is None:
        if beam.wavelength_range_A is None or not beam.wavelength_range_A[0] > 0.0:
            rule = "is polychromatic and has no range of wavelengths"
            raise InputError("beam", rule, hint="give wavelength_A", file=file)
        low, high = sorted(beam.wavelength_range_A)
        wavelength = (low + high) / 2.0
        if high > low:
            fields = {"dispersion_percent": 100.0 * (high - low) / wavelength, "dispersion_steps": RANGE_STEPS}
    if options.wavelength_A is not None:
        if wavelength is not None and not math.isclose(wavelength, options.wavelength_A, rel_tol=SAME):
            raise InputError("wavelength_A", f"contradicts {file}, which has {wavelength:.7g}", options.wavelength_A)
        wavelength = options.wavelength_A
    along = np.cross(mcstas(beam.polarization_normal), direction)
    if not np.linalg.norm(along) > 1e-6:
        raise InputError("polarization_normal", "must not lie along the beam", beam.polarization_normal, file=file)
    exposure = scan.exposure_times[place] if scan is not None and len(scan.exposure_times) > place else 0.0
    if exposure > 0.0:
        fields["exposure_s"] = exposure
    return {
        "wavelength_A": wavelength,
        "direction": _scaled(direction, 1.0),
        "polarization": beam.kahn_factor,
        "polarization_axis": _scaled(along, 1.0 / float(np.linalg.norm(along))),
        **fields,
    }


def _is_still(chosen: ExptExperiment) -> bool:
    """Whether DIALS takes an experiment for a still, whose crystal stands as it is given."""
    return chosen.goniometer is None or chosen.scan is None or abs(chosen.scan.width_deg) < 1e-7


def _expt_rotation(chosen: ExptExperiment, place: int) -> Fields:
    """The sweep of one image: r = S R(axis, phi) F A h is R(S axis, phi) (S F A) h."""
    if _is_still(chosen):
        return {}
    assert chosen.goniometer is not None and chosen.scan is not None
    axis = _setting(chosen, place) @ np.array(chosen.goniometer.rotation_axis)
    start, width = chosen.scan.start_deg + place * chosen.scan.width_deg, chosen.scan.width_deg
    if width < 0.0:  # the other way round: from its end, about the opposite axis
        axis, start, width = -axis, -start, -width
    return {"phi_deg": start, "osc_deg": width, "axis": _scaled(mcstas(axis), 1.0)}


def _setting(chosen: ExptExperiment, place: int) -> np.ndarray:
    assert chosen.goniometer is not None
    points = chosen.goniometer.setting_rotation_at_scan_points
    return np.array(points[place] if len(points) > place else chosen.goniometer.setting_rotation)


def _expt_crystal(chosen: ExptExperiment, place: int, wavelength_A: float, file: str) -> Fields:
    crystal = chosen.crystal
    assert crystal is not None
    A = crystal.A
    if len(crystal.A_at_scan_points) > place + 1 and not _is_still(chosen):
        # Points are the edges of images: the crystal of an image is that of its middle.
        A = np.mean(np.array(crystal.A_at_scan_points[place : place + 2]), axis=0)
    if not _is_still(chosen):
        assert chosen.goniometer is not None
        A = _setting(chosen, place) @ np.array(chosen.goniometer.fixed_rotation) @ A
    A = mcstas(A.T).T
    if not np.isfinite(A).all() or not abs(np.linalg.det(A)) > 0.0:
        raise InputError("crystal", "must have three independent cell vectors", crystal.real_space, file=file)
    fields = oriented_cell(A, wavelength_A)
    spread = 0.0
    if crystal.half_mosaicity_deg is not None:
        spread = crystal.half_mosaicity_deg
    elif crystal.mosaicity_deg is not None:
        spread = crystal.mosaicity_deg / SPREAD_DEVIATION
    if spread > 0.0:
        fields["mosaic_spread_deg"] = spread
    if crystal.domain_size_A is not None and crystal.domain_size_A > 0.0:
        edges = np.linalg.norm(np.linalg.inv(A), axis=1)
        fields["cell_counts"] = tuple(int(n) for n in np.clip(np.rint(crystal.domain_size_A / edges), 1, 1_000_000))
    return fields


def oriented_cell(A: np.ndarray, wavelength_A: float) -> Fields:
    """Return fields of ``Crystal`` for a matrix with the columns a*, b*, c* (1/angstrom) in the laboratory.

    They are the matrix as MOSFLM writes it and the cell, which fixes the edges whatever becomes of the wavelength;
    of a left-handed cell, which angles and edges do not tell, the matrix alone. Not an orientation of the cell: the
    standard setting that nanoBragg makes of three oblique angles is not quite right.
    """
    matrix: Fields = {"mosflm_matrix": tuple(_scaled(row, wavelength_A) for row in A)}
    if np.linalg.det(A) < 0.0:
        return matrix
    real = np.linalg.inv(A)
    lengths = np.linalg.norm(real, axis=1)
    angles = [
        math.degrees(math.atan2(float(np.linalg.norm(np.cross(real[i], real[j]))), float(real[i] @ real[j])))
        for i, j in ((1, 2), (0, 2), (0, 1))
    ]
    return {**matrix, "cell": (*(float(edge) for edge in lengths), *angles)}
