"""Columns of DIALS's reflection tables as .npz files; runs under the Python that DIALS is installed for.

python3 reflections.py integrated.refl ...    # writes integrated.npz beside it
"""

import sys

import numpy as np
from dials.array_family import flex

for name in sys.argv[1:]:
    table = flex.reflection_table.from_file(name)
    columns = {
        "hkl": list(table["miller_index"]),
        "experiment": list(table["id"]),
        "place": list(table["xyzcal.px"]),  # fast, slow, frame
        "indexed": list(table.get_flags(table.flags.indexed)),
    }
    for key, column in (("found", "xyzobs.px.value"), ("I", "intensity.sum.value"), ("d", "d"), ("part", "partiality")):
        if column in table:
            columns[key] = list(table[column])
    if "intensity.sum.variance" in table:
        columns["variance"] = list(table["intensity.sum.variance"])
        columns["integrated"] = list(table.get_flags(table.flags.integrated_sum))
    np.savez(name.replace(".refl", ".npz"), **{key: np.array(values) for key, values in columns.items()})
