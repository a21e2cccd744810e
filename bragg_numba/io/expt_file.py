"""Experiment lists of DIALS (.expt): read, with the detector's hierarchy reckoned in, and written."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.expt_models import (
    IDENTITY,
    MOST_SKEW,
    ExptBeam,
    ExptCrystal,
    ExptExperiment,
    ExptGoniometer,
    ExptPanel,
    ExptScan,
    Matrix,
    axis_rotation,
    rows_of,
)
from bragg_numba.io.geometry import Vector
from bragg_numba.io.text_files import json_text

__all__ = ["imageset", "parse_expt", "read_expt", "write_expt"]

_WHOLE_MOST = 2**31 - 1
#: Nodes below nodes of a detector; real ones have three or four.
_DEEPEST = 50
_MOST_IMAGES = 10_000_000
#: Far beyond anything real, and near enough to reckon with: any number but a flux; a pixel, a wavelength, a cell.
_LARGEST, _SMALLEST = 1e15, 1e-9


def read_expt(path: str | os.PathLike[str]) -> tuple[ExptExperiment, ...]:
    """Read an experiment list of DIALS.

    Panels come with their place in the laboratory, goniometers of several axes with their constant rotations.
    Models that experiments share are the same objects. Profile and scaling models are left.

    Raises
    ------
    InputError
        If the file cannot be read or is no such list; with the place in it (``detector[0].panels[3].pixel_size``),
        the rule and the value for what breaks a rule.
    """
    text = json_text(path)
    if text is None:
        raise InputError(os.fspath(path), "is an HDF5 file, not an experiment list")
    return parse_expt(text, os.fspath(path))


def parse_expt(text: str, file: str = "") -> tuple[ExptExperiment, ...]:
    """Return the experiments that a text describes, as ``read_expt`` does; ``file`` is what errors call it."""
    try:
        document = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise InputError("the text", f"must be JSON: {error}", file=file) from None
    node = _Node(document, "", file)
    if not isinstance(document, dict) or document.get("__id__") != "ExperimentList":
        found = document.get("__id__") if isinstance(document, dict) else type(document).__name__
        raise InputError("__id__", "must be ExperimentList", found, file=file)
    models: dict[str, list[Any]] = {
        "beam": [_beam(item) for item in node.items("beam")],
        "detector": [_detector(item) for item in node.items("detector")],
        "goniometer": [_goniometer(item) for item in node.items("goniometer")],
        "scan": [_scan(item) for item in node.items("scan")],
        "crystal": [_crystal(item) for item in node.items("crystal")],
        "imageset": [item.table() for item in node.items("imageset")],
    }
    return tuple(_experiment(item, models) for item in node.items("experiment"))


class _Node:
    """A value of the document, and where it stands."""

    def __init__(self, value: Any, where: str, file: str) -> None:
        self.value, self.where, self.file = value, where, file

    def refuse(self, rule: str, value: object = InputError._NO_VALUE, hint: str = "") -> NoReturn:
        raise InputError(self.where or "the text", rule, value, hint, file=self.file)

    def table(self) -> dict[str, Any]:
        if not isinstance(self.value, dict):
            self.refuse("must be an object", self.value)
        return self.value

    def has(self, key: str) -> bool:
        """Whether a key is there and not null."""
        return self.table().get(key) is not None

    def __getitem__(self, key: str) -> _Node:
        where = f"{self.where}.{key}" if self.where else key
        if not self.has(key):
            raise InputError(where, "is missing", file=self.file)
        return _Node(self.value[key], where, self.file)

    def parts(self) -> list[_Node]:
        if not isinstance(self.value, list):
            self.refuse("must be a list", self.value)
        return [_Node(item, f"{self.where}[{index}]", self.file) for index, item in enumerate(self.value)]

    def items(self, key: str) -> list[_Node]:
        """The members of a list that may be missing."""
        return self[key].parts() if self.has(key) else []

    def number(self, *, low: float = -math.inf, above: float = -math.inf, most: float = _LARGEST) -> float:
        try:
            value = float(self.value) if isinstance(self.value, (int, float)) else math.nan
        except OverflowError:
            value = math.nan
        if isinstance(self.value, bool) or not math.isfinite(value):
            self.refuse("must be a finite number", self.value)
        if value <= above:
            self.refuse(f"must be above {above:g}", self.value)
        if value < low:
            self.refuse(f"must not be below {low:g}", self.value)
        if abs(value) > most:
            self.refuse(f"must not be beyond {most:g}", self.value)
        return value

    def whole(self, low: int = 0, high: int = _WHOLE_MOST) -> int:
        value = self.number()
        if value != int(value) or not low <= value <= high:
            self.refuse(f"must be a whole number from {low} to {high}", self.value)
        return int(value)

    def text(self) -> str:
        if not isinstance(self.value, str):
            self.refuse("must be text", self.value)
        return self.value

    def numbers(self, length: int, **limits: float) -> tuple[float, ...]:
        parts = self.parts()
        if len(parts) != length:
            self.refuse(f"must be {length} numbers", self.value)
        return tuple(part.number(**limits) for part in parts)

    def wholes(self, length: int, low: int = 0) -> tuple[int, ...]:
        parts = self.parts()
        if len(parts) != length:
            self.refuse(f"must be {length} whole numbers", self.value)
        return tuple(part.whole(low) for part in parts)

    def vector(self) -> Vector:
        x, y, z = self.numbers(3)
        return x, y, z

    def direction(self) -> Vector:
        """A vector, made one of length one."""
        vector = self.vector()
        length = math.hypot(*vector)
        if not 0.0 < length < math.inf:
            self.refuse("must not be zero", self.value)
        x, y, z = (value / length for value in vector)
        return x, y, z

    def matrix(self) -> Matrix:
        return rows_of(np.array(self.numbers(9)).reshape(3, 3))

    def rotation(self) -> Matrix:
        rows = self.matrix()
        # No better than DIALS writes them in old files.
        if not np.abs(np.array(rows) @ np.array(rows).T - np.eye(3)).max() < 1e-4:
            self.refuse("must be a rotation, nine numbers row by row", self.value)
        return rows


# --- models


def _beam(node: _Node) -> ExptBeam:
    def optional(key: str, default: float, **limits: float) -> float:
        return node[key].number(**limits) if node.has(key) else default

    polychromatic = node.has("__id__") and node["__id__"].text() == "polychromatic"
    wavelength = spread = None
    if not polychromatic:
        wavelength = node["wavelength"].number(above=0.0, low=_SMALLEST)
    elif node.has("wavelength_range"):
        first, last = node["wavelength_range"].numbers(2, low=0.0)
        spread = (first, last)
    fraction = optional("polarization_fraction", 0.999)
    if not 0.0 <= fraction <= 1.0:
        node["polarization_fraction"].refuse("must lie between 0 and 1", fraction)
    return ExptBeam(
        direction=node["direction"].direction(),
        wavelength_A=wavelength,
        wavelength_range_A=spread,
        polarization_normal=(
            node["polarization_normal"].direction() if node.has("polarization_normal") else (0.0, 1.0, 0.0)
        ),
        polarization_fraction=fraction,
        flux=optional("flux", 0.0, most=math.inf),
        transmission=optional("transmission", 1.0),
        divergence_deg=optional("divergence", 0.0),
        sigma_divergence_deg=optional("sigma_divergence", 0.0),
        probe=node["probe"].text() if node.has("probe") else "x-ray",
        s0_at_scan_points=tuple(item.vector() for item in node.items("s0_at_scan_points")),
    )


#: Rotation and translation of a frame in the laboratory.
_Frame = tuple[np.ndarray, np.ndarray]

_ROOT: _Frame = (np.eye(3), np.zeros(3))


def _inside(frame: _Frame, node: _Node) -> _Frame:
    """Return the laboratory frame of a node that is given in another's: R [f s f x s], t + R o."""
    fast, slow = node["fast_axis"].direction(), node["slow_axis"].direction()
    normal = np.cross(fast, slow)
    if not np.linalg.norm(normal) > 1e-6:
        node["slow_axis"].refuse("must not be along fast_axis", node["slow_axis"].value)
    rotation, translation = frame
    own = np.column_stack([fast, slow, normal])
    return rotation @ own, translation + rotation @ np.array(node["origin"].vector())


def _detector(node: _Node) -> tuple[ExptPanel, ...]:
    alone = isinstance(node.value, list)  # as it was before there were hierarchies
    panels = node.parts() if alone else node["panels"].parts()
    if not panels:
        node.refuse("must have a panel")
    if alone or not node.has("hierarchy"):
        return tuple(_panel(panel, _ROOT, ()) for panel in panels)
    found: dict[int, ExptPanel] = {}
    root = node["hierarchy"]
    if "panel" in root.table():
        root.refuse("must be a group, not a panel")
    todo: list[tuple[_Node, _Frame, tuple[str, ...]]] = [(root, _ROOT, ())]
    while todo:
        group, outer, names = todo.pop()
        frame = _inside(outer, group) if group.has("origin") or group.has("fast_axis") else outer
        for place, child in enumerate(group["children"].parts()):
            if child.has("panel"):
                index = child["panel"].whole(0)
                if index >= len(panels) or index in found:
                    rule = "must be the number of a panel" if index >= len(panels) else "must not be there twice"
                    child["panel"].refuse(rule, index)
                found[index] = _panel(panels[index], frame, names)
            else:
                if len(names) >= _DEEPEST:
                    child.refuse(f"must not lie below more than {_DEEPEST} others")
                name = child["name"].text() if child.has("name") else ""
                todo.append((child, frame, (*names, name or f"group{place}")))
    if len(found) < len(panels):
        missing = next(index for index in range(len(panels)) if index not in found)
        root.refuse(f"must hold every panel, but has none with the number {missing}")
    return tuple(found[index] for index in range(len(panels)))


def _panel(node: _Node, outer: _Frame, groups: tuple[str, ...]) -> ExptPanel:
    def number(key: str, default: float, **limits: float) -> float:
        return node[key].number(**limits) if node.has(key) else default

    def text(key: str) -> str:
        return node[key].text() if node.has(key) else ""

    rotation, origin = _inside(outer, node)
    fast, slow = (rotation[:, axis] / np.linalg.norm(rotation[:, axis]) for axis in (0, 1))
    size = node["image_size"].wholes(2)
    if not all(size):
        node["image_size"].refuse("must be above 0", list(size))
    pixel = node["pixel_size"].numbers(2, above=0.0, low=_SMALLEST)
    offset = node["raw_image_offset"].wholes(2, -_WHOLE_MOST) if node.has("raw_image_offset") else (0, 0)
    trusted = node["trusted_range"].numbers(2, most=math.inf) if node.has("trusted_range") else (0.0, 0.0)
    strategy = ""
    if node.has("px_mm_strategy"):
        strategy = node["px_mm_strategy"]["type"].text()
    rectangles = []
    for item in node.items("mask"):
        x0, y0, x1, y1 = item.wholes(4, -_WHOLE_MOST)
        rectangles.append((x0, y0, x1, y1))
    return ExptPanel(
        name=text("name"),
        origin_mm=_tuple(origin),
        fast=_tuple(fast),
        slow=_tuple(slow),
        pixel_mm=(pixel[0], pixel[1]),
        image_size=(size[0], size[1]),
        raw_image_offset=(offset[0], offset[1]),
        trusted_range=(trusted[0], trusted[1]),
        thickness_mm=number("thickness", 0.0, low=0.0),
        material=text("material"),
        mu_per_mm=number("mu", 0.0, low=0.0),
        gain=number("gain", 1.0),
        pedestal=number("pedestal", 0.0),
        mask=tuple(rectangles),
        parallax="ParallaxCorrected" in strategy,
        strategy=strategy or "SimplePxMmStrategy",
        type=text("type"),
        identifier=text("identifier"),
        groups=groups,
    )


def _goniometer(node: _Node) -> ExptGoniometer:
    at_points = tuple(item.rotation() for item in node.items("setting_rotation_at_scan_points"))
    if not all(node.has(key) for key in ("axes", "angles", "scan_axis")):
        return ExptGoniometer(
            rotation_axis=node["rotation_axis"].direction(),
            fixed_rotation=node["fixed_rotation"].rotation() if node.has("fixed_rotation") else IDENTITY,
            setting_rotation=node["setting_rotation"].rotation() if node.has("setting_rotation") else IDENTITY,
            setting_rotation_at_scan_points=at_points,
        )
    axes = tuple(item.direction() for item in node["axes"].parts())
    angles = node["angles"].numbers(len(axes))
    names = tuple(item.text() for item in node.items("names"))
    if names and len(names) != len(axes):
        node["names"].refuse(f"must be {len(axes)} names", list(names))
    scan_axis = node["scan_axis"].whole(0)
    if scan_axis >= len(axes):
        node["scan_axis"].refuse("must be the number of one of the axes", scan_axis)
    return several_axes(axes, angles, names, scan_axis, at_points)


def several_axes(
    axes: Sequence[Vector],
    angles_deg: Sequence[float],
    names: Sequence[str],
    scan_axis: int,
    setting_rotation_at_scan_points: tuple[Matrix, ...] = (),
) -> ExptGoniometer:
    """Return the goniometer of several axes, the one next to the crystal first."""
    turns = [axis_rotation(axis, angle) for axis, angle in zip(axes, angles_deg, strict=True)]
    fixed = setting = np.eye(3)
    for turn in turns[:scan_axis]:
        fixed = turn @ fixed
    for turn in turns[scan_axis + 1 :]:
        setting = turn @ setting
    return ExptGoniometer(
        rotation_axis=axes[scan_axis],
        fixed_rotation=rows_of(fixed),
        setting_rotation=rows_of(setting),
        setting_rotation_at_scan_points=setting_rotation_at_scan_points,
        axes=tuple(axes),
        angles_deg=tuple(angles_deg),
        names=tuple(names),
        scan_axis=scan_axis,
    )


def _scan(node: _Node) -> ExptScan:
    first, last = node["image_range"].wholes(2, -_WHOLE_MOST)
    if last < first:
        node["image_range"].refuse("must not end before it begins", [first, last])
    if last - first >= _MOST_IMAGES:
        node["image_range"].refuse(f"must not hold more than {_MOST_IMAGES} images", [first, last])
    properties = node["properties"] if node.has("properties") else node
    start = width = 0.0
    if properties.has("oscillation"):
        angles = properties["oscillation"]
        if properties is node:
            start, width = angles.numbers(2)
        else:
            # Where each image begins; where the last one ends may follow.
            starts = [item.number() for item in angles.parts()]
            if not last - first + 1 <= len(starts) <= last - first + 2:
                angles.refuse(f"must be a number for each of {last - first + 1} images", len(starts))
            start = starts[0]
            if len(starts) > 1:
                width = (starts[-1] - start) / (len(starts) - 1)
                even = start + width * np.arange(len(starts))
                if np.abs(even - starts).max() > 1e-3 * abs(width) + 1e-9:
                    angles.refuse("must be evenly spaced", starts)
            elif properties.has("oscillation_width"):
                width = _first(properties["oscillation_width"])
    exposure: tuple[float, ...] = ()
    if properties.has("exposure_time"):
        times = properties["exposure_time"]
        each = times.parts() if isinstance(times.value, list) else [times]
        exposure = tuple(item.number() for item in each)
    return ExptScan(
        image_range=(first, last),
        start_deg=start,
        width_deg=width,
        batch_offset=node["batch_offset"].whole(-_WHOLE_MOST) if node.has("batch_offset") else 0,
        exposure_times=exposure,
        epochs=tuple(item.number() for item in properties.items("epochs")),
    )


def _first(node: _Node) -> float:
    """A number, or the first of a list of them."""
    if not isinstance(node.value, list):
        return node.number()
    if not node.value:
        node.refuse("must hold a number", node.value)
    return node.parts()[0].number()


def _crystal(node: _Node) -> ExptCrystal:
    rows = tuple(node[f"real_space_{axis}"].vector() for axis in "abc")
    lengths = math.prod(math.hypot(*row) for row in rows)
    if not abs(np.linalg.det(np.array(rows))) > 1e-9 * lengths or lengths < _SMALLEST:
        node["real_space_a"].refuse("must not lie in a plane with b and c", rows[0])

    def optional(key: str) -> float | None:
        return node[key].number(low=0.0) if node.has(key) else None

    return ExptCrystal(
        real_space=(rows[0], rows[1], rows[2]),
        hall_symbol=node["space_group_hall_symbol"].text(),
        A_at_scan_points=tuple(item.matrix() for item in node.items("A_at_scan_points")),
        half_mosaicity_deg=optional("ML_half_mosaicity_deg"),
        domain_size_A=optional("ML_domain_size_ang"),
        mosaicity_deg=optional("mosaicity"),
    )


def _experiment(node: _Node, models: dict[str, list[Any]]) -> ExptExperiment:
    found: dict[str, Any] = {}
    for key, known in models.items():
        if not node.has(key):
            continue
        if isinstance(node[key].value, str):
            if key == "imageset":  # the name of a file with it
                found[key] = {"file": node[key].value}
                continue
            node[key].refuse("lies in a file of its own, which is not read", node[key].value)
        index = node[key].whole(0)
        if index >= len(known):
            node[key].refuse(f"must be the number of a {key}, of which there are {len(known)}", index)
        found[key] = known[index]
    identifier = node["identifier"].text() if node.has("identifier") else ""
    return ExptExperiment(identifier=identifier, **found)


def _tuple(vector: np.ndarray) -> Vector:
    x, y, z = (float(value) for value in vector)
    return x, y, z


# --- writing


def write_expt(experiments: Iterable[ExptExperiment]) -> str:
    """Return the text of an experiment list that DIALS 3.12 and later read.

    Models that are equal are written once. A detector gets a hierarchy of its panels' ``groups``; a group's origin is
    the middle of its panels.

    Raises
    ------
    InputError
        For a panel whose axes are not at right angles to 1e-7, which DIALS refuses: ``square_axes`` makes them so.
    """
    listed: dict[str, list[Any]] = {
        key: [] for key in ("imageset", "beam", "detector", "goniometer", "scan", "crystal", "profile", "scaling_model")
    }
    numbers: dict[tuple[str, str], int] = {}
    written: dict[tuple[str, int], str] = {}  # an object is turned into text once
    entries = []
    kept = list(experiments)  # so that no two objects have one identity
    for experiment in kept:
        entry: dict[str, Any] = {"__id__": "Experiment", "identifier": experiment.identifier}
        for key, model in (
            ("beam", experiment.beam),
            ("detector", experiment.detector or None),
            ("goniometer", experiment.goniometer),
            ("scan", experiment.scan),
            ("crystal", experiment.crystal),
            ("imageset", experiment.imageset),
        ):
            if model is None:
                continue
            if (key, id(model)) not in written:
                written[key, id(model)] = json.dumps(_TABLES[key](model), sort_keys=False)
            text = written[key, id(model)]
            if (key, text) not in numbers:
                numbers[key, text] = len(listed[key])
                listed[key].append(json.loads(text))
            entry[key] = numbers[key, text]
        entries.append(entry)
    document = {"__id__": "ExperimentList", "experiment": entries, **listed}
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def imageset(path: str, indices: Sequence[int], *, sequence: bool) -> dict[str, Any]:
    """Return what says where the images of an experiment are.

    Parameters
    ----------
    path
        Of a file with many frames, such as an NXmx master.
    indices
        Which of its frames, from 0.
    sequence
        Whether they are the images of a scan; else they are stills.
    """
    lookups = dict.fromkeys(("mask", "gain", "pedestal", "dx", "dy"))
    where = {"template": path} if sequence else {"images": [path] * len(indices)}
    kind = "ImageSequence" if sequence else "ImageSet"
    return {"__id__": kind, **where, "single_file_indices": list(indices), **lookups, "params": {}}


def _beam_table(beam: ExptBeam) -> dict[str, Any]:
    table: dict[str, Any] = {"direction": beam.direction}
    if beam.wavelength_A is None:
        table["__id__"] = "polychromatic"
        if beam.wavelength_range_A is not None:
            table["wavelength_range"] = beam.wavelength_range_A
    else:
        table |= {"__id__": "monochromatic", "wavelength": beam.wavelength_A}
    table |= {
        "divergence": beam.divergence_deg,
        "sigma_divergence": beam.sigma_divergence_deg,
        "polarization_normal": beam.polarization_normal,
        "polarization_fraction": beam.polarization_fraction,
        "flux": beam.flux,
        "transmission": beam.transmission,
        "probe": beam.probe,
    }
    if beam.s0_at_scan_points:
        table["s0_at_scan_points"] = beam.s0_at_scan_points
    return table


def _frame_table(name: str, fast: Vector, slow: Vector, origin: np.ndarray) -> dict[str, Any]:
    return {
        "name": name,
        "type": "",
        "fast_axis": fast,
        "slow_axis": slow,
        "origin": _tuple(origin),
        "raw_image_offset": (0, 0),
        "image_size": (0, 0),
        "pixel_size": (0.0, 0.0),
        "trusted_range": (0.0, 0.0),
        "thickness": 0.0,
        "material": "",
        "mu": 0.0,
        "identifier": "",
        "mask": (),
        "gain": 1.0,
        "pedestal": 0.0,
        "px_mm_strategy": {"type": "SimplePxMmStrategy"},
    }


def _detector_table(panels: tuple[ExptPanel, ...]) -> dict[str, Any]:
    """Panels with a hierarchy, each in the frame of its group, which is shifted but not turned."""
    tables: list[dict[str, Any]] = []
    members: dict[tuple[str, ...], list[np.ndarray]] = {}
    for panel in panels:
        size = np.array(panel.image_size) / 2.0
        for depth in range(1, len(panel.groups) + 1):
            members.setdefault(panel.groups[:depth], []).append(panel.lab_mm(*size))
    origins = {path: np.mean(centres, axis=0) for path, centres in members.items()}
    origins[()] = np.zeros(3)
    x, y = IDENTITY[:2]
    nodes = {
        path: _frame_table(path[-1] if path else "", x, y, origin - origins[path[:-1]]) | {"children": []}
        for path, origin in origins.items()
    }
    placed: set[tuple[str, ...]] = {()}
    for index, panel in enumerate(panels):
        skew = float(np.dot(panel.fast, panel.slow))
        if not abs(skew) < MOST_SKEW:
            rule = f"must have its axes at right angles to {MOST_SKEW:g}, as DIALS asks"
            raise InputError(f"panel {panel.name}", rule, skew)
        for depth in range(1, len(panel.groups) + 1):
            path = panel.groups[:depth]
            if path not in placed:
                placed.add(path)
                nodes[path[:-1]]["children"].append(nodes[path])
        nodes[panel.groups]["children"].append({"panel": index})
        own = _frame_table(panel.name, panel.fast, panel.slow, np.array(panel.origin_mm) - origins[panel.groups])
        tables.append(
            own
            | {
                "type": panel.type,
                "raw_image_offset": panel.raw_image_offset,
                "image_size": panel.image_size,
                "pixel_size": panel.pixel_mm,
                "trusted_range": panel.trusted_range,
                "thickness": panel.thickness_mm,
                "material": panel.material,
                "mu": panel.mu_per_mm,
                "identifier": panel.identifier,
                "mask": panel.mask,
                "gain": panel.gain,
                "pedestal": panel.pedestal,
                "px_mm_strategy": {"type": panel.strategy},
            }
        )
    return {"panels": tables, "hierarchy": nodes[()]}


def _goniometer_table(goniometer: ExptGoniometer) -> dict[str, Any]:
    if goniometer.axes:
        names = goniometer.names or tuple(f"axis{place}" for place in range(len(goniometer.axes)))
        table: dict[str, Any] = {
            "axes": goniometer.axes,
            "angles": goniometer.angles_deg,
            "names": names,
            "scan_axis": goniometer.scan_axis,
        }
    else:
        table = {
            "rotation_axis": goniometer.rotation_axis,
            "fixed_rotation": _flat(goniometer.fixed_rotation),
            "setting_rotation": _flat(goniometer.setting_rotation),
        }
    if goniometer.setting_rotation_at_scan_points:
        table["setting_rotation_at_scan_points"] = [_flat(m) for m in goniometer.setting_rotation_at_scan_points]
    return table


def _scan_table(scan: ExptScan) -> dict[str, Any]:
    """As DIALS up to 3.17 has it: later versions read that, too."""
    images = scan.image_range[1] - scan.image_range[0] + 1

    def each(values: tuple[float, ...]) -> list[float]:
        return [*values, *([values[-1] if values else 0.0] * images)][:images]

    return {
        "image_range": scan.image_range,
        "batch_offset": scan.batch_offset,
        "oscillation": (scan.start_deg, scan.width_deg),
        "exposure_time": each(scan.exposure_times),
        "epochs": each(scan.epochs),
        "valid_image_ranges": {},
    }


def _crystal_table(crystal: ExptCrystal) -> dict[str, Any]:
    a, b, c = crystal.real_space
    table: dict[str, Any] = {
        "__id__": "crystal",
        "real_space_a": a,
        "real_space_b": b,
        "real_space_c": c,
        "space_group_hall_symbol": crystal.hall_symbol,
    }
    if crystal.A_at_scan_points:
        table["A_at_scan_points"] = [_flat(matrix) for matrix in crystal.A_at_scan_points]
    if crystal.half_mosaicity_deg is not None or crystal.domain_size_A is not None:
        # DIALS wants both or none.
        table["ML_half_mosaicity_deg"] = crystal.half_mosaicity_deg or 0.0
        table["ML_domain_size_ang"] = crystal.domain_size_A or 0.0
    elif crystal.mosaicity_deg is not None:
        table["mosaicity"] = crystal.mosaicity_deg
    return table


def _flat(matrix: Matrix) -> list[float]:
    return [value for row in matrix for value in row]


_TABLES: dict[str, Any] = {
    "beam": _beam_table,
    "detector": _detector_table,
    "goniometer": _goniometer_table,
    "scan": _scan_table,
    "crystal": _crystal_table,
    "imageset": dict,
}
