"""What a page may ask for of a scene, by name: the same for a file that holds it all and for a server."""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bragg_numba.experiment import faces
from bragg_numba.view.numbers import Radial, measure
from bragg_numba.view.pyramid import TILE, Pyramid, list_tiles, mask_pyramid, n_levels, pack
from bragg_numba.view.scene import Scene

#: Bytes of images that are kept for the next tile; of one image always.
KEPT_BYTES = 600_000_000

#: Spots that a page is given of a frame, the brightest.
MOST_SPOTS = 200_000

#: Columns of the spots, as the page has them.
SPOT_COLUMNS = ("h", "k", "l", "slow", "fast", "photons", "resolution_A", "partiality", "lattice")

#: Units as a person writes them.
_UNITS = {"angstrom": "Å", "1/angstrom": "1/Å", "angstrom, deg": "Å, deg", "1/m^2": "1/m²"}

_NAME = re.compile(
    r"scene|mask/(?P<mask_level>\d{1,9})/(?P<mask_row>\d{1,9})/(?P<mask_column>\d{1,9})|"
    r"(?P<what>frame|spots)/(?P<index>\d{1,9})|(?P<about>numbers|profile)/(?P<frame>\d{1,9})/(?P<layer>[a-z0-9-]+)|"
    r"tile/(?P<of>\d{1,9})/(?P<of_layer>[a-z0-9-]+)/(?P<level>\d{1,9})/(?P<row>\d{1,9})/(?P<column>\d{1,9})",
    re.ASCII,
)


class NotThere(KeyError):
    """A name of nothing that the gallery has."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a name stands for: JSON, or numbers as ``pack`` makes them."""

    data: bytes
    is_json: bool


class Gallery:
    """Answers what pages ask of a scene, from any thread.

    Parameters
    ----------
    scene
        What is shown.
    frames
        The frames that a page offers; None: all.
    start
        The frame that is shown first.
    spots
        Whether spots are shown at first.
    """

    def __init__(
        self, scene: Scene, *, frames: Sequence[int] | None = None, start: int | None = None, spots: bool = False
    ) -> None:
        self.scene = scene
        self.frames = None if frames is None else list(frames)
        self._start = start if start is not None else (self.frames or [0])[0]
        self._spots = spots
        self._lock = threading.RLock()  # files, and what is kept
        self._pyramids: OrderedDict[tuple[int, str], Pyramid] = OrderedDict()
        self._masks = mask_pyramid(scene.mask)
        self._radial: tuple[str, Radial] | None = None

    def names(self, layers: Sequence[str] | None = None) -> list[str]:
        """List the names of everything that a page can ask for about its frames, what it needs first in front."""
        frames = range(len(self.scene)) if self.frames is None else self.frames
        chosen = [one.name for one in self.scene.layers] if layers is None else list(layers)
        tiles = list_tiles(self.scene.shape)
        found = ["scene"]
        for index in frames:
            found += [f"frame/{index}", *(f"numbers/{index}/{layer}" for layer in chosen)]
        if self.scene.mask.any():
            found += [f"mask/{level}/{row}/{column}" for level, row, column in tiles]
        for index in frames:
            for layer in chosen:
                found += [f"tile/{index}/{layer}/{level}/{row}/{column}" for level, row, column in tiles]
            found += [f"spots/{index}", *(f"profile/{index}/{layer}" for layer in chosen)]
        return found

    def answer(self, name: str, layers: Sequence[str] | None = None) -> Answer:
        """Return what a name stands for; ``layers`` are those that a scene offers, None: all.

        Raises
        ------
        NotThere
            If there is nothing of this name.
        InputError
            If a file cannot be read.
        """
        found = _NAME.fullmatch(name)
        if found is None:
            raise NotThere(name)
        if name == "scene":
            return _json(self._scene(layers))
        if found["mask_level"] is not None:
            return self._tile(name, self._mask_tile, *_whole(found, "mask_level", "mask_row", "mask_column"))
        index = int(found["index"] or found["frame"] or found["of"])
        if not 0 <= index < len(self.scene) or (self.frames is not None and index not in self.frames):
            raise NotThere(name)
        if found["what"] == "frame":
            return _json(self._frame(index))
        if found["what"] == "spots":
            return Answer(pack(self._spot_columns(index)), False)
        layer = found["layer"] or found["of_layer"]
        if layer not in {one.name for one in self.scene.layers}:
            raise NotThere(name)
        if found["of_layer"] is not None:
            wanted = _whole(found, "level", "row", "column")
            return self._tile(name, lambda *place: self._pyramid(index, layer).tile(*place), *wanted)
        with self._lock:
            image = self._pyramid(index, layer).image
            if found["about"] == "numbers":
                return _json(measure(image, self.scene.mask))
            return _json(self._radial_of(index).profile(image))

    def _tile(self, name: str, tile_of: Callable[..., np.ndarray], level: int, row: int, column: int) -> Answer:
        if level >= n_levels(self.scene.shape):
            raise NotThere(name)
        with self._lock:
            tile = tile_of(level, row, column)
        if not tile.size:
            raise NotThere(name)
        return Answer(pack(tile), False)

    def _mask_tile(self, level: int, row: int, column: int) -> np.ndarray:
        return np.uint8(255) - self._masks.tile(level, row, column)

    def _pyramid(self, index: int, layer: str) -> Pyramid:
        """The levels of a layer of a frame; those that were not asked for longest are given up."""
        with self._lock:
            key = (index, layer)
            if key not in self._pyramids:
                self._pyramids[key] = Pyramid(self.scene.layer(layer).read(index), self.scene.mask)
                while len(self._pyramids) > 1 and sum(one.bytes for one in self._pyramids.values()) > KEPT_BYTES:
                    self._pyramids.popitem(last=False)
            self._pyramids.move_to_end(key)
            return self._pyramids[key]

    def _radial_of(self, index: int) -> Radial:
        sight = self.scene.sight(index)
        key = json.dumps(sight.describe())
        if self._radial is None or self._radial[0] != key:
            self._radial = (key, Radial(sight, self.scene.mask))
        return self._radial[1]

    def _scene(self, layers: Sequence[str] | None) -> dict:
        scene = self.scene
        n_slow, n_fast = scene.shape
        return {
            "title": scene.title,
            "summary": f"{len(scene)} frame{'s' if len(scene) > 1 else ''} of {n_fast} × {n_slow} pixels (fast × slow)",
            "frames": self.frames,
            "total": len(scene),
            "start": self._start,
            "spots": self._spots,
            "width": n_fast,
            "height": n_slow,
            "tile": TILE,
            "levels": n_levels(scene.shape),
            "masked": bool(scene.mask.any()),
            "layers": [
                {"name": one.name, "label": one.label, "unit": one.unit, "type": one.dtype.name}
                for one in scene.layers
                if layers is None or one.name in layers
            ],
        }

    def _frame(self, index: int) -> dict:
        with self._lock:
            facts = self.scene.facts(index)
            return {**self.scene.sight(index).describe(), "facts": [_fact(name, value) for name, value in facts]}

    def _spot_columns(self, index: int) -> np.ndarray:
        """Columns ``SPOT_COLUMNS`` of the brightest spots, float32 (columns, n)."""
        with self._lock:
            table, _ = self.scene.spots(index)
        names = table.dtype.names or ()
        table = table[:MOST_SPOTS]
        zeros = np.zeros(len(table))
        return np.array([table[name] if name in names else zeros for name in SPOT_COLUMNS], dtype=np.float32)


def _fact(name: str, value) -> list[str]:
    """Name, value and unit of a fact, as they are shown."""
    unit = faces.unit_of(name)
    words = name
    for end in ("_A", "_deg", "_per_m2", "_px"):
        words = words.removesuffix(end)
    parts = value if isinstance(value, tuple) else (value,)
    shown = " ".join(part if isinstance(part, str) else f"{part:.7g}" for part in parts)
    return [words.replace("_", " ").replace("center", "centre"), shown, _UNITS.get(unit, unit)]


def _whole(found: re.Match, *names: str) -> list[int]:
    return [int(found[name]) for name in names]


def _json(value) -> Answer:
    # Not a number is no JSON: what has none is null.
    return Answer(json.dumps(_finite(value)).encode("ascii"), True)


def _finite(value):
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, (list, tuple)) else value
