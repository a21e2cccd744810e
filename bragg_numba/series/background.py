"""Backgrounds of a series apart from its Bragg photons: water scatters the same whatever the crystal does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.hdf5 import reading

PATH = "/entry/background"

#: More images than this are not kept in a master: they are rendered again where they are wanted.
LIMIT = 64

#: Columns of the table of frames that change a background by more than a factor, or by a factor that is the
#: plan's business: of water; of what is amorphous. The fluence is a factor; orientation, phi and cell counts do not
#: matter.
_OF_WATER = ("beam_x_mm", "beam_y_mm", "detector_shift_mm", "spectrum", "mosaic_spread_deg", "mosaic_domains")
_OF_AMORPHOUS = ("beam_x_mm", "beam_y_mm", "detector_shift_mm", "spectrum", "wavelength_A")


@dataclass(frozen=True, slots=True)
class Backgrounds:
    """Which image of a background every frame has: ``scale[i]`` times image ``index[i]``."""

    frames: np.ndarray  #: (m,) the frame that each image is rendered for
    index: np.ndarray  #: (n,)
    scale: np.ndarray  #: (n,)
    path: str = PATH  #: of its group in a master
    layer: int | None = None  #: which of ``Experiment.backgrounds``; None: the crystal's water

    def render(self, experiment) -> np.ndarray:
        """Render this background of one frame alone: (slow, fast) float32 photons."""
        return render_background(experiment) if self.layer is None else render_amorphous(experiment, self.layer)


def backgrounds(series) -> Backgrounds | None:
    """Sort the frames of a series by their water; None without any."""
    if series.experiment.crystal.water_um == 0.0:
        return None
    # nanoBragg multiplies the water's share by the fluence twice.
    return _sort(series, _OF_WATER, 1 if series.experiment.fidelity == "physical" else 2)


def list_backgrounds(series) -> list[Backgrounds]:
    """The backgrounds of a series, each a layer of its own: water, then those of ``Experiment.backgrounds``."""
    water = backgrounds(series)
    found = [] if water is None else [water]
    nouns = series.experiment.backgrounds
    if not nouns:
        return found
    names: list[str] = []
    alike_in_all = _sort(series, _OF_AMORPHOUS, 1)
    for layer, noun in enumerate(nouns):
        label = noun.label.replace("/", "_").strip(". ") or "table"
        alike = sum(name == label or name.startswith(f"{label}_") for name in names)
        names.append(label if label not in (*names, "photons", "index", "scale") else f"{label}_{alike + 1}")
        found.append(replace(alike_in_all, path=f"{PATH}/{names[-1]}", layer=layer))
    return found


def _of_shots(beams, *, whole: bool) -> np.ndarray:
    """What a background depends on of each shot's spectrum, a row each: all of it, or how many channels there are."""
    pulses = [beam.pulse for beam in beams]
    if not whole:
        return np.array([[len(pulse.weight)] for pulse in pulses])
    most = max(len(pulse.weight) for pulse in pulses)
    rows = np.full((len(pulses), 2, most), np.nan)
    for row, pulse in zip(rows, pulses, strict=True):
        row[0, : len(pulse.weight)], row[1, : len(pulse.weight)] = pulse.wavelength_m, pulse.weight
    return rows.reshape(len(pulses), -1)


def _with_what_absorbs(experiment, columns: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    """The columns that count for a background, and whether all of a spectrum does.

    Materials absorb by the wavelength; what turns with the spindle throws its shadow by phi.
    """
    sensors = experiment.detector.sensors
    absorbs = any(one.matter is not None for one in experiment.transmission)
    absorbs = absorbs or any(sensor.depends_on_wavelength for sensor in sensors)
    more = ["wavelength_A"] if absorbs and "wavelength_A" not in columns else []
    more += ["phi_deg"] if any(one.moves for one in experiment.transmission) else []
    return (*columns, *more), columns is _OF_AMORPHOUS or absorbs


def _sort(series, columns_that_count, power: int) -> Backgrounds:
    """Sort the frames by the columns that count; the fluence is a factor, to this power."""
    n, table = len(series), series.frames
    columns_that_count, whole = _with_what_absorbs(series.experiment, columns_that_count)
    columns = [np.asarray(table[name]).reshape(n, -1) for name in columns_that_count if name in table]
    spectrum = series.experiment.beam.spectrum
    fluence = table.columns.get("fluence_per_m2")
    if spectrum is not None and spectrum.varies:
        beams = [series.experiment_of(index).beam for index in range(n)]
        fluence = np.array([beam.photons_per_m2 for beam in beams])
        # Of each shot what the background depends on: nanoBragg's water on how many terms there are, else the spectrum.
        columns.append(_of_shots(beams, whole=whole))
    if columns:
        # Padding is NaN, which is like no other number, not even itself.
        rows = np.nan_to_num(np.concatenate(columns, axis=1).astype(np.float64), nan=-1.0)
        _, first, index = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        order = np.argsort(first)  # by the first frame that has it
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        frames, index = first[order], place[index.reshape(-1)]
    else:
        frames, index = np.zeros(1, dtype=np.int64), np.zeros(n, dtype=np.int64)
    scale = np.ones(n)
    if fluence is not None:
        base = fluence[frames][index]
        # A frame without a beam has no background; one that is compared with it keeps an image of its own.
        if not (base > 0.0).all():
            return Backgrounds(np.arange(n), np.arange(n), scale)
        scale = (fluence / base) ** power
    return Backgrounds(frames, index, scale)


def render_background(experiment) -> np.ndarray:
    """Render the water of one frame alone: (slow, fast) float32 photons.

    The frame is the sum of this and of its Bragg photons, to the error with which it was rendered itself; this is
    always computed in float64 on the CPU, so that it is the same whenever it is wanted.
    """
    from bragg_numba.plan.plan import make_plan
    from bragg_numba.render.simulator import Simulator

    crystal = experiment.crystal.replace(block_sizes=None, block_spread=0.0)
    empty = experiment.replace(
        structure_factors=_no_reflections(), crystal=crystal, lattices=None, backgrounds=(), diffuse=None
    )
    whole = make_plan(empty)
    rules, factor = whole.rules, 1.0
    if not rules.running:
        # Every step adds the same: one is enough. nanoBragg divides the background by the number of steps.
        crystal = crystal.replace(
            mosaic_domains=1, mosaic_spread_deg=0.0, mosaic_model="cap", mosaic_rotations=None, mosaic_weights=None
        )
        rotation = empty.rotation.replace(osc_deg=None, phi_step_deg=None, phi_steps=1)
        empty = empty.replace(crystal=crystal, rotation=rotation)
        few = make_plan(empty).rules
        factor = 1.0 if rules.per_term else rules.scale / few.scale
    # What turns with the spindle turns by all steps of the frame.
    plan = replace(make_plan(empty), transmission=whole.transmission)
    image = Simulator(empty, backend="cpu", precision="float64", plan=plan).render()
    return image if factor == 1.0 else np.multiply(image, np.float32(factor), out=image)


def render_amorphous(experiment, layer: int) -> np.ndarray:
    """Render one of the amorphous backgrounds of a frame alone: (slow, fast) float32 photons."""
    from bragg_numba.plan.plan import make_plan
    from bragg_numba.render.amorphous import render_layer
    from bragg_numba.render.transmission import transmission_image

    whole = make_plan(experiment.replace(structure_factors=_no_reflections(), lattices=None, diffuse=None))
    plan = whole.amorphous
    assert plan is not None
    image = render_layer(plan, plan.layers[layer])
    return image if whole.transmission is None else image * transmission_image(whole.transmission, backgrounds=True)


def _no_reflections():
    from bragg_numba.experiment import StructureFactors

    return StructureFactors(indices=np.zeros((1, 3), dtype=np.int32), amplitudes=np.zeros(1))


def write_background(file, series, options) -> str | None:
    """Write the backgrounds of a series into its master; return a note if one has too many images to keep."""
    from bragg_numba.io import nxmx

    note = None
    for found in list_backgrounds(series):
        if len(found.frames) > LIMIT:
            note = f"the background differs between frames in {len(found.frames)} ways: the master does not hold it"
            continue
        if PATH not in file:
            # No NXdata: readers take the first or the last of those for the frames.
            nxmx.group(file["/entry"], PATH.rsplit("/", 1)[1], "NXcollection")
        _write_images(file, found, series, options)
    return note


def _write_images(file, found: Backgrounds, series, options) -> None:
    from bragg_numba.io import nxmx
    from bragg_numba.io.attributes import set_attributes
    from bragg_numba.io.compression import Codec

    group = file[PATH]
    if found.layer is not None:
        group = nxmx.group(group, found.path.rsplit("/", 1)[1], "NXcollection")
        noun = series.experiment.backgrounds[found.layer]
        set_attributes(group, long_name=noun.label, thickness_mm=noun.thickness_mm)
    codec, shape = Codec(options.compression), series.experiment.detector.shape
    images = group.create_dataset(
        "photons", (len(found.frames), *shape), np.float32, chunks=(1, *shape), **codec.dataset_options()
    )
    meaning = "expected photons a pixel of this background alone; that of frame i is scale[i] * photons[index[i]]"
    set_attributes(images, units="photons", long_name="photons (image, slow, fast)", meaning=meaning)
    group["index"], group["scale"] = found.index, found.scale
    for place, frame in enumerate(found.frames):
        images[place] = found.render(series.experiment_of(int(frame)))


class BackgroundReader:
    """The backgrounds of the frames of a file, or one of them: what it holds, or else rendered again.

    ``file``: the open h5py.File; None: there is none.
    """

    def __init__(self, file, series, only: Backgrounds | None = None, name: str = "--background") -> None:
        found = list_backgrounds(series) if only is None else [only]
        if not found:
            raise InputError(name, "needs frames with a background: this series has no water and no other")
        self._layers = [_LayerReader(file, series, one) for one in found]

    def of(self, frame: int) -> np.ndarray:
        """All that is no Bragg photon of one frame, (slow, fast) float32 photons."""
        first, *others = (layer.of(frame) for layer in self._layers)
        return sum(others, first)


class _LayerReader:
    """One background of the frames of a file."""

    def __init__(self, file, series, found: Backgrounds) -> None:
        self._series, self._found = series, found
        self._name = "" if file is None else file.filename
        self._stored: Any = None if file is None else file.get(f"{found.path}/photons")
        self._last: tuple[int, np.ndarray] | None = None

    def of(self, frame: int) -> np.ndarray:
        """This background of one frame."""
        place = int(self._found.index[frame])
        if self._last is None or self._last[0] != place:
            stored = self._stored is not None and len(self._stored) == len(self._found.frames)
            source = int(self._found.frames[place])
            if stored:
                with reading(self._name):
                    image = self._stored[place]
            else:
                image = self._found.render(self._series.experiment_of(source))
            self._last = (place, image)
        scale = np.float32(self._found.scale[frame])
        return self._last[1] if scale == 1.0 else self._last[1] * scale
