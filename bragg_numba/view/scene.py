"""What there is to see of a file of frames: layers, mask, geometry, predicted spots and facts."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bragg_numba.errors import BraggError, InputError
from bragg_numba.experiment.placing import curve_of, place_detector
from bragg_numba.io.hdf5 import reading
from bragg_numba.io.nxmx import DEAD, NOISY
from bragg_numba.plan.plan import make_plan
from bragg_numba.predict.spots import SPOT, spot_table
from bragg_numba.series.background import BackgroundReader, list_backgrounds
from bragg_numba.series.mcstas import mcstas_geometry
from bragg_numba.series.noise import Noise
from bragg_numba.series.opened import Source
from bragg_numba.series.options import OutputOptions
from bragg_numba.series.recorder import rendered_pixels
from bragg_numba.series.source import open_source
from bragg_numba.series.truth import mean_wavelength
from bragg_numba.view.sight import Sight

#: What the mask of the viewer says of a pixel; everything else is good.
NO_PIXEL, DEAD_PIXEL, HOT_PIXEL = 1, 2, 3

#: Bragg photons are frame minus backgrounds; what is less than this of the frame is rounding of that difference.
ROUNDING = 2e-6

_MASKS = ("/entry/instrument/detector/pixel_mask", "/entry/instrument/detector/detectorSpecific/pixel_mask")


@dataclass(frozen=True, slots=True)
class Layer:
    """One kind of image that every frame has."""

    name: str  #: in addresses: letters, digits, hyphens
    label: str
    unit: str
    dtype: np.dtype
    read: Callable[[int], np.ndarray]  #: image (slow, fast) of a frame


class Scene:
    """An open source, with the layers that its frames have.

    Parameters
    ----------
    source
        The file that is looked at.
    sister
        The other product of the same series, where it lies in its place: counts beside photons, or photons beside
        counts.
    """

    def __init__(self, source: Source, sister: Source | None = None) -> None:
        self.source, self._sister = source, sister
        self.title = source.path.name
        self.shape: tuple[int, int] = source.frames.shape[1:]
        self._photons = next((one for one in (source, sister) if one is not None and one.dtype == "float32"), None)
        self.layers = self._list_layers()
        self.mask = _mask(source)

    def __len__(self) -> int:
        return len(self.source.series)

    def layer(self, name: str, asked_by: str = "layer") -> Layer:
        """Return a layer by its name; one that is not there is an ``InputError`` about ``asked_by``."""
        for one in self.layers:
            if one.name == name:
                return one
        raise InputError(asked_by, f"must be one of {', '.join(one.name for one in self.layers)}", name)

    def sight(self, index: int) -> Sight:
        """Return where the pixels of a frame lie, and the wavelength that its resolutions are of."""
        experiment = self.source.series.experiment_of(index)
        row, _ = self.source.truth(index)
        wavelength = mean_wavelength(make_plan(experiment)) if row is None else float(row["wavelength_A"])
        placed = place_detector(experiment)
        curve = curve_of(placed) if experiment.detector.curved else None
        return Sight(mcstas_geometry(experiment, placed), wavelength, curve)

    def spots(self, index: int) -> tuple[np.ndarray, str]:
        """Return the spots of a frame, brightest first, dtype ``SPOT``, and what they are or why there are none."""
        _, table = self.source.truth(index)
        said = "of the truth in the file"
        if table is None:
            try:
                table, said = spot_table(make_plan(self.source.series.experiment_of(index))), "predicted now"
            except BraggError as error:
                table, said = np.zeros(0, dtype=SPOT), str(error)
        return table[np.argsort(-table["photons"], kind="stable")], said

    def facts(self, index: int) -> list[tuple[str, object]]:
        """Return what is known of a frame, name and value; names end in their units as those of fields do."""
        row, spots = self.source.truth(index)
        if row is None:
            experiment = self.source.series.experiment_of(index)
            return [("phi_deg", experiment.rotation.phi_deg), ("wavelength_A", experiment.beam.wavelength_A)]
        known = row.dtype.names or ()
        wanted = ("phi_deg", "osc_deg", "wavelength_A", "fluence_per_m2", "cell", "cell_counts", "beam_center_px")
        found: list[tuple[str, object]] = [(name, row[name].tolist()) for name in wanted if name in known]
        if self.source.dtype != "float32":
            found += [("sum_photons", float(row["sum_photons"])), ("max_photons", float(row["max_photons"]))]
            found += [("overloads", int(row["overloads"])), ("noise_seed", int(row["noise_seed"]))]
        found += [(name, row[name].decode("ascii", "replace")) for name in ("engine", "truth") if name in known]
        lattices = self.source.lattices(index)
        if lattices is not None:
            found.append(("lattices", len(lattices)))
        if spots is not None:
            found.append(("spots", len(spots)))
            if len(spots):
                found.append(("spots_photons", float(spots["photons"].sum())))
                found.append(("finest_spot_A", float(spots["resolution_A"].min())))
        return [(name, tuple(value) if isinstance(value, list) else value) for name, value in found]

    def _list_layers(self) -> list[Layer]:
        photons, series = self._photons, self.source.series
        own = self.source
        unit = "photons" if own.dtype == "float32" else "counts"
        label = "expected photons" if own.dtype == "float32" else "counts, as recorded"
        layers = [Layer("frame", label, unit, own.frames.dtype, own.frame)]
        if self._sister is not None:
            other = self._sister
            if other is photons:
                layers.append(Layer("photons", "expected photons", "photons", other.frames.dtype, other.frame))
            else:
                layers.append(Layer("counts", "counts, as recorded", "counts", other.frames.dtype, other.frame))
        found = list_backgrounds(series)
        if photons is not None and found:
            everything = BackgroundReader(photons.file, series)
            layers.append(
                Layer(
                    "bragg",
                    "Bragg photons alone",
                    "photons",
                    np.dtype(np.float32),
                    lambda index: _without(photons.frame(index), everything.of(index)),
                )
            )
        first = own if photons is None else photons
        for number, one in enumerate(found):
            name = "water" if one.layer is None else series.experiment.backgrounds[one.layer].label or "table"
            reader = BackgroundReader(first.file, series, one)
            layers.append(
                Layer(f"background-{number}", f"background: {name}", "photons", np.dtype(np.float32), reader.of)
            )
        if self._sister is None and photons is not None:
            layers.append(Layer("noise", "counts, drawn now", "counts", np.dtype(np.uint32), self._draw))
        return layers

    def _draw(self, index: int) -> np.ndarray:
        """Draw the counts of a frame, as ``bragg-numba noise`` would."""
        assert self._photons is not None
        known = {name: value for name, value in self.source.output.items() if name in ("seed", "scale", "response")}
        noise = Noise(self.source.series, OutputOptions(counts="uint32", **known))
        photons = self._photons.frame(index)
        counts = np.zeros(photons.shape, dtype=np.uint32)
        noise.draw(photons, counts, index)
        return counts


def _without(frame: np.ndarray, background: np.ndarray) -> np.ndarray:
    """What is left of a frame without its background, rounding left out."""
    left = frame - background
    left[np.abs(left) <= np.float32(ROUNDING) * frame] = 0.0
    return left


def _mask(source: Source) -> np.ndarray:
    """Return what is wrong with each pixel, uint8 (slow, fast): 0, ``NO_PIXEL``, ``DEAD_PIXEL`` or ``HOT_PIXEL``."""
    bits = None
    with reading(source.path):
        for name in _MASKS:
            stored = source.file.get(name)
            # XDS has a mask of its own under the second name, of bytes.
            if stored is not None and stored.shape == source.frames.shape[1:] and stored.dtype == np.uint32:
                bits = stored[()]
                break
    if bits is None:
        return np.where(rendered_pixels(make_plan(source.series.experiment_of(0))), 0, NO_PIXEL).astype(np.uint8)
    mask = np.where(bits != 0, NO_PIXEL, 0).astype(np.uint8)
    mask[bits == DEAD] = DEAD_PIXEL
    mask[bits == NOISY] = HOT_PIXEL
    return mask


@contextmanager
def open_scene(path) -> Iterator[Scene]:
    """Open what is to be seen of a master or frame that this package wrote; a ``Scene``.

    Raises
    ------
    InputError
        As ``open_source`` does. What lies in the place of the other product and is not that is left alone.
    """
    with ExitStack() as stack:
        source = stack.enter_context(open_source(path))
        yield Scene(source, _sister(source, stack))


def _sister(source: Source, stack: ExitStack) -> Source | None:
    """Open the other product of a series, where it was written beside this one."""
    place = _sister_path(source.path)
    if place is None or not place.is_file():
        return None
    try:
        other = stack.enter_context(open_source(place))
    except BraggError:
        return None
    same = (
        (other.dtype == "float32") != (source.dtype == "float32")
        and other.frames.shape == source.frames.shape
        and other.series.experiment == source.series.experiment
        and other.series.frames.digest(0, len(other.series)) == source.series.frames.digest(0, len(source.series))
    )
    return other if same else None


def _sister_path(path: Path) -> Path | None:
    """Where ``Series.write`` puts the counts of photons, or the photons of counts; None for names of other kinds."""
    at = Path(os.path.realpath(path))
    named = re.fullmatch(r"(.*?)(_counts)?((?:_run\d{4,})?_master\.h5|_index\.h5)", at.name, re.DOTALL)
    if named is None:
        return None
    prefix, counts, end = named.groups()
    if counts:
        return at.parent / f"{prefix}_photons" / f"{prefix}{end}"
    if at.parent.name == f"{prefix}_photons":
        return at.parent.parent / f"{prefix}_counts{end}"
    return None
