"""Frames per second of a whole series: render, noise, pack and write one-step frames of 4096 x 4096 pixels."""

from __future__ import annotations

import argparse
import os
import tempfile

import conftest  # noqa: F401  (the kernel cache, before numba)
from cases import CASES


def write_series(frames: int = 12, folder: str | None = None, name: str = "benchmark_4096", **output):
    """Write a series of stills twice, short and whole; return the second one's ``SeriesResult``.

    The first one loads the kernels. Without a folder the files go to a temporary one and are removed.
    """
    from bragg_numba import Experiment
    from bragg_numba.series import still_series

    experiment = Experiment.from_nanobragg(CASES[name][1])
    output = {"photons": False, "counts": "uint16", **output}
    with tempfile.TemporaryDirectory(dir=folder) as place:
        still_series(experiment, 2, seed=1).write(os.path.join(place, "warm"), **output)
        return still_series(experiment, frames, seed=1).write(os.path.join(place, "s"), **output)


def main(argv=None) -> int:
    """Print the table of stages; its last line holds the frames per second."""
    parser = argparse.ArgumentParser(prog="bench/series.py", description=__doc__)
    parser.add_argument("-n", "--frames", type=int, default=12)
    parser.add_argument("--folder", help="where the files are written; default: the system's temporary folder")
    parser.add_argument("--photons", action="store_true", help="write the expected photons too")
    parser.add_argument("--no-spots", action="store_true", help="write no table of spots")
    parser.add_argument("--workers", help="local:N processes instead of threads")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args(argv)
    output = {"photons": given.photons, "spots": not given.no_spots}
    result = write_series(given.frames, given.folder, workers=given.workers, threads=given.threads, **output)
    print(result.table())
    return 0


if __name__ == "__main__":
    # Before numba starts its threads: waiting ones should leave the cores to others.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    raise SystemExit(main())
