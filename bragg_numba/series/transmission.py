"""The transmission of a series in its master: what frames were multiplied by."""

from __future__ import annotations

import numpy as np

from bragg_numba.io import nxmx
from bragg_numba.io.attributes import set_attributes
from bragg_numba.io.compression import Codec
from bragg_numba.plan.plan import make_plan
from bragg_numba.render.transmission import transmission_image

PATH = "/entry/transmission"


def write_transmission(file, series, options) -> None:
    """Write the transmission of a series' first frame into its master; nothing where nothing stands in the way."""
    plan = make_plan(series.experiment_of(0)).transmission
    if plan is None:
        return
    group = nxmx.group(file["/entry"], PATH.rsplit("/", 1)[1], "NXcollection")
    codec = Codec(options.compression)
    kinds = {"crystal": "the crystal's photons", "backgrounds": "what amorphous backgrounds scatter"}
    for name, what in kinds.items():
        if name == "backgrounds" and not plan.splits:
            continue
        image = transmission_image(plan, backgrounds=name == "backgrounds", moving=False)
        data = group.create_dataset(name, image.shape, np.float32, chunks=image.shape, **codec.dataset_options())
        data[...] = image
        meaning = f"part of {what} that arrives; in the first frame, where wavelengths or places differ"
        meaning += "; without what turns with the spindle" if plan.moves else ""
        set_attributes(data, long_name="transmission (slow, fast)", meaning=meaning)
    group["obstacles"] = [one.noun.label for one in plan.barriers]
