"""Does DIALS know how much its intensities scatter? A hundred frames of one crystal, integrated, and compared.

    python examples/repeated_frames.py eiger2 jungfrau

A sweep of 4 frames is recorded 25 times with a detector's response, each time with another seed. DIALS (dials.import is
not needed: the crystal and the gain stand in the .expt beside the series) integrates all of them. Of every reflection
the variance of its 25 intensities is compared with the mean of the variances that DIALS gives: the root of the ratio is
1 where sigma(I) is right. docs/response.md has the figures.
"""

from __future__ import annotations

import copy
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import hdf5plugin
import numpy as np

from bragg_numba import Experiment, StructureFactors
from bragg_numba.series import rotation_series
from bragg_numba.series.source import write_counts

FRAMES, REPEATS = 4, 25
CELL = (40.0, 45.0, 50.0)

#: Reflections that were integrated without a bad pixel: experiment, h, k, l, whether it enters, intensity, variance.
_INTEGRATED = """
import sys
import numpy as np
from dials.array_family import flex
table = flex.reflection_table.from_file("integrated.refl")
flags = table.flags
good = table.get_flags(flags.integrated_sum)
for bad in (flags.foreground_includes_bad_pixels, flags.background_includes_bad_pixels, flags.overlapped_fg):
    good &= ~table.get_flags(bad)
table = table.select(good)
columns = [table["id"], *table["miller_index"].as_vec3_double().parts(), table["entering"]]
columns += [table["intensity.sum.value"], table["intensity.sum.variance"]]
np.save("integrated.npy", np.stack([np.array(column, dtype=float) for column in columns], axis=1))
"""


def experiment() -> Experiment:
    """A crystal of point group 222 with random amplitudes to 1.8 angstrom, in ten photons of water a pixel."""
    draw = np.random.default_rng(3)
    axes = [np.arange(-int(edge / 1.8), int(edge / 1.8) + 1) for edge in CELL]
    hkl = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    size = ((hkl / np.array(CELL)) ** 2).sum(axis=1)
    hkl = hkl[(size > 0) & (size < 1.8**-2)]
    amplitudes = 100.0 * np.sqrt(0.2 + draw.exponential(size=tuple(len(axis) // 2 + 1 for axis in axes)))
    words = (
        "-cell 40 45 50 90 90 90 -default_F 1 -misset 20 35 50 -N 10 -gauss_xtal -fidelity physical -nointerpolate "
        "-lambda 1 -distance 80 -pixel 0.2 -detpixels 420 -oversample 2 -phisteps 6 -fluence 4e28 -water 0.033"
    )
    factors = StructureFactors(indices=hkl, amplitudes=amplitudes[tuple(np.abs(hkl).T)])
    return Experiment.from_nanobragg(words).replace(structure_factors=factors)


def record(folder: Path, response: str) -> None:
    """Write the repeated sweeps into a folder, and ``many.expt``, which lists them for DIALS."""
    rotation_series(experiment(), 0.0, 0.5, FRAMES).write(folder / "s", response=response, seed=1, spots=False)
    with open(folder / "s.expt") as file:
        listed = json.load(file)
    imageset, one = listed["imageset"][0], listed["experiment"][0]
    listed["imageset"], listed["experiment"] = [], []
    # As wide as spots of ten cells are: no reflections are needed to find that out.
    listed["profile"] = [{"__id__": "gaussian_rs", "n_sigma": 3, "sigma_b": 0.07, "sigma_m": 0.07}]
    for repeat in range(REPEATS):
        name = f"c{repeat}.h5"
        write_counts(folder / "s_photons" / "s_master.h5", folder / name, seed=100 + repeat, response=response)
        listed["imageset"].append({**copy.deepcopy(imageset), "template": name})
        listed["experiment"].append({**one, "imageset": repeat, "identifier": str(repeat), "profile": 0})
    (folder / "many.expt").write_text(json.dumps(listed))


def integrate(folder: Path) -> np.ndarray:
    """Let DIALS integrate ``many.expt``; return what ``_INTEGRATED`` says."""
    environment = {**os.environ, "HDF5_PLUGIN_PATH": hdf5plugin.PLUGIN_PATH, "OMP_NUM_THREADS": "2"}
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):  # DIALS has a Python of its own
        environment.pop(name, None)
    python = shutil.which("dials.python") or "/usr/bin/python3"
    ways = ["nproc=1", "prediction.d_min=2", "profile.fitting=False"]
    for words in (["dials.integrate", "many.expt", *ways], [python, "-c", _INTEGRATED]):
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{words[0]} failed: {(done.stdout + done.stderr)[-2000:]}")
    return np.load(folder / "integrated.npy")


def scatter_over_sigma(found: np.ndarray) -> tuple[int, float, float]:
    """Return the reflections that every sweep has, the scatter of their intensities over sigma(I), and its error."""
    names, row = np.unique(found[:, 1:5], axis=0, return_inverse=True)
    intensity, variance = np.full((2, len(names), REPEATS), np.nan)
    sweep = found[:, 0].astype(int)
    intensity[row.ravel(), sweep], variance[row.ravel(), sweep] = found[:, 5], found[:, 6]
    kept = np.isfinite(intensity).all(axis=1)
    ratio = intensity[kept].var(axis=1, ddof=1) / variance[kept].mean(axis=1)
    # A variance of 25 numbers is known to sqrt(2 / 24) of itself; its root to half of that.
    error = math.sqrt(2.0 / (REPEATS - 1) / len(ratio)) / 2.0
    return len(ratio), math.sqrt(ratio.mean()), error


def main(names: list[str]) -> None:
    """Print a line for each detector."""
    for name in names or ["eiger2", "jungfrau"]:
        with tempfile.TemporaryDirectory() as folder:
            record(Path(folder), name)
            n, ratio, error = scatter_over_sigma(integrate(Path(folder)))
        print(f"{name}: {n} reflections, scatter over sigma(I) {ratio:.3f} +- {error:.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
