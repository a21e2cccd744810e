"""The background of a series apart from its Bragg photons: water scatters the same whatever the crystal does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.hdf5 import reading

PATH = "/entry/background"

#: More images than this are not kept in a master: they are rendered again where they are wanted.
LIMIT = 64

#: Columns of the table of frames that change the background by more than a factor, or by a factor that is the
#: plan's business. The fluence is a factor; orientation, phi, wavelength and cell counts do not matter.
_COLUMNS = ("beam_x_mm", "beam_y_mm", "detector_shift_mm", "spectrum", "mosaic_spread_deg", "mosaic_domains")


@dataclass(frozen=True, slots=True)
class Backgrounds:
    """Which background every frame has: ``scale[i]`` times image ``index[i]``."""

    frames: np.ndarray  #: (m,) the frame that each image is rendered for
    index: np.ndarray  #: (n,)
    scale: np.ndarray  #: (n,)


def backgrounds(series) -> Backgrounds | None:
    """Sort the frames of a series by their background; None without water."""
    if series.experiment.crystal.water_um == 0.0:
        return None
    n, table = len(series), series.frames
    columns = [np.asarray(table[name]).reshape(n, -1) for name in _COLUMNS if name in table]
    spectrum = series.experiment.beam.spectrum
    fluence = table.columns.get("fluence_per_m2")
    if spectrum is not None and spectrum.varies:
        beams = [series.experiment_of(index).beam for index in range(n)]
        fluence = np.array([beam.photons_per_m2 for beam in beams])
        # nanoBragg's background depends on how many terms there are.
        columns.append(np.array([[len(beam.pulse.weight)] for beam in beams]))
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
        # nanoBragg multiplies the water's share by the fluence twice.
        scale = (fluence / base) ** (1 if series.experiment.fidelity == "physical" else 2)
    return Backgrounds(frames, index, scale)


def render_background(experiment) -> np.ndarray:
    """Render the background of one frame alone: (slow, fast) float32 photons.

    The frame is the sum of this and of its Bragg photons, to the error with which it was rendered itself; this is
    always computed in float64 on the CPU, so that it is the same whenever it is wanted.
    """
    from bragg_numba.experiment import StructureFactors
    from bragg_numba.plan.plan import make_plan
    from bragg_numba.render.simulator import Simulator

    nothing = StructureFactors(indices=np.zeros((1, 3), dtype=np.int32), amplitudes=np.zeros(1))
    empty = experiment.replace(structure_factors=nothing, lattices=None)
    rules = make_plan(empty).rules
    factor = 1.0
    if not rules.running:
        # Every step adds the same: one is enough. nanoBragg divides the background by the number of steps.
        crystal = empty.crystal.replace(mosaic_domains=1, mosaic_spread_deg=0.0)
        rotation = empty.rotation.replace(osc_deg=None, phi_step_deg=None, phi_steps=1)
        empty = empty.replace(crystal=crystal, rotation=rotation)
        few = make_plan(empty).rules
        factor = 1.0 if rules.per_term else rules.scale / few.scale
    image = Simulator(empty, backend="cpu", precision="float64").render()
    return image if factor == 1.0 else np.multiply(image, np.float32(factor), out=image)


def write_background(file, series, options) -> str | None:
    """Write the background of a series into its master; return a note if there are too many to keep."""
    from bragg_numba.io import nxmx
    from bragg_numba.io.attributes import set_attributes
    from bragg_numba.io.compression import Codec

    found = backgrounds(series)
    if found is None:
        return None
    if len(found.frames) > LIMIT:
        return f"the background differs between frames in {len(found.frames)} ways: the master does not hold it"
    # No NXdata: readers take the first or the last of those for the frames.
    group = nxmx.group(file["/entry"], PATH.rsplit("/", 1)[1], "NXcollection")
    codec, shape = Codec(options.compression), series.experiment.detector.shape
    images = group.create_dataset(
        "photons", (len(found.frames), *shape), np.float32, chunks=(1, *shape), **codec.dataset_options()
    )
    meaning = "expected photons a pixel of the background alone; that of frame i is scale[i] * photons[index[i]]"
    set_attributes(images, units="photons", long_name="photons (image, slow, fast)", meaning=meaning)
    group["index"], group["scale"] = found.index, found.scale
    for place, frame in enumerate(found.frames):
        images[place] = render_background(series.experiment_of(int(frame)))
    return None


class BackgroundReader:
    """The background of the frames of a file: what it holds, or else rendered again."""

    def __init__(self, file, series) -> None:
        found = backgrounds(series)
        if found is None:
            raise InputError("--background", "needs frames with a background: this series has no water")
        self._series, self._found, self._name = series, found, file.filename
        self._stored = file.get(f"{PATH}/photons")
        self._last: tuple[int, np.ndarray] | None = None

    def of(self, frame: int) -> np.ndarray:
        """The background of one frame, (slow, fast) float32 photons."""
        place = int(self._found.index[frame])
        if self._last is None or self._last[0] != place:
            stored = self._stored is not None and len(self._stored) == len(self._found.frames)
            source = int(self._found.frames[place])
            if stored:
                with reading(self._name):
                    image = self._stored[place]
            else:
                image = render_background(self._series.experiment_of(source))
            self._last = (place, image)
        scale = np.float32(self._found.scale[frame])
        return self._last[1] if scale == 1.0 else self._last[1] * scale
