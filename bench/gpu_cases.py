"""The GPU's cases, with the rates that others have published, and a table of them: ``python bench/gpu_cases.py``.

Without a GPU nothing runs, and the reason is printed. What a card must need at least is in
``bragg-numba cuda-report --frame 4096 --steps 1000``; --json keeps the figures beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import conftest  # noqa: F401  (the kernel cache, before numba)
import numpy as np
from cases import CASES
from pairs import seconds

from bragg_numba import Experiment, Simulator
from bragg_numba.render import devices

_PROTEIN = Path(__file__).parent.parent / "examples" / "2erl_P1.hkl"
_P1 = "-cell 53.91 23.1 23.1 90 110.4 90 -misset 12 -23 41"
_SPECTRUM = (
    f"-hkl {_PROTEIN} {_P1} -gauss_xtal -N 20 -lambda 1.1 -detpixels 3000 -pixel 0.1 -distance 200 "
    "-oversample 1 -mosaic 0.1 -mosaic_dom 25 -dispersion 1 -dispsteps 100"
)


@dataclass(frozen=True, slots=True)
class GpuCase:
    """A nanoBragg command line; ``peer`` is what somebody published, pixel-steps/s, and on what."""

    title: str
    line: str
    precision: str = "auto"
    engine: str = "auto"
    peer: float | None = None
    peer_on: str = ""


GPU_CASES = {
    "domains_1000": GpuCase(
        "1024^2, 1000 domains, N 5, no table, float32",
        "-cell 100 100 100 90 90 90 -default_F 100 -N 5 -lambda 1 -detpixels 1024 -pixel 0.1 -distance 100 "
        "-oversample 1 -mosaic 1 -mosaic_dom 1000",
        "tile",
        peer=1.5e11,
        peer_on="RTX 4090 (nanobrag_torch)",
    ),
    "spectrum": GpuCase(
        "3000^2, 100 energies, 25 domains, gauss, protein table",
        _SPECTRUM,
        peer=3.2e10,
        peer_on="A100 (diffBragg with Kokkos)",
    ),
    "spectrum_spots": GpuCase("the same, spot by spot", _SPECTRUM, engine="spots"),
    "benchmark_4096": GpuCase(CASES["benchmark_4096"][0], CASES["benchmark_4096"][1]),
    "mosaic": GpuCase(CASES["mosaic"][0], CASES["mosaic"][1]),
    "protein": GpuCase(CASES["protein"][0], CASES["protein"][1]),
    "float64": GpuCase("50 mosaic domains, 1024^2, N 20, float64", CASES["mosaic"][1], "float64"),
}

#: The whole way: rendered, noise drawn, written as NXmx.
FULL_PATH_FRAMES = 40
FULL_PATH = (
    f"-hkl {_PROTEIN} {_P1} -N 20 -lambda 1.1 -distance 250 -detpixels 4096 -pixel 0.075 -fluence 1e24 "
    "-oversample 1 -mosaic 0.05 -mosaic_dom 10"
)


def missing_gpu() -> str:
    """Why the GPU cases cannot run here; empty if they can."""
    device, reason = devices.find_device()
    return "" if device is not None else reason


def render_on_gpu(case: GpuCase):
    """A simulator of the case, warm, and a function that renders one frame and leaves it on the device."""
    experiment = Experiment.from_nanobragg(case.line)
    experiment = experiment.replace(sampling=experiment.sampling.replace(engine=case.engine))
    simulator = Simulator(experiment, backend="cuda", precision=case.precision)
    frame = simulator._renderer.new_frame()
    simulator.render(frame)
    return simulator, lambda: simulator.render(frame)


def write_series(folder: str, backend: str = "cuda") -> None:
    """The full path: frames with counts and photons in HDF5."""
    from bragg_numba.series import Series

    experiment = Experiment.from_nanobragg(FULL_PATH)
    series = Series(experiment, {"phi_deg": np.arange(FULL_PATH_FRAMES) * 0.1})
    series.write(Path(folder) / "s", counts="uint16", spots=False, backend=backend, overwrite=True)


def full_path_seconds() -> float:
    """Seconds a frame of the full path, warm."""
    with tempfile.TemporaryDirectory() as folder:
        write_series(folder)
        return seconds(lambda: write_series(folder)) / FULL_PATH_FRAMES


def measure(name: str, repeats: int = 7) -> dict:
    """Median seconds and pixel-steps/s of one case."""
    case = GPU_CASES[name]
    simulator, render = render_on_gpu(case)
    host = np.zeros(simulator.shape, np.float32)
    simulator.render(host)
    on_device = sorted(seconds(render) for _ in range(repeats))[repeats // 2]
    to_host = sorted(seconds(lambda: simulator.render(host)) for _ in range(repeats))[repeats // 2]
    rate = simulator.plan.pixel_steps / on_device
    return {
        "name": name,
        "title": case.title,
        "device": simulator.device,
        "precision": simulator.precision,
        "seconds_on_device": on_device,
        "seconds_to_host": to_host,
        "pixel_steps_per_s": rate,
        "peer": case.peer,
        "peer_on": case.peer_on,
        "over_peer": rate / case.peer if case.peer else None,
    }


def line_of(row: dict) -> str:
    """What ``measure`` found of a case, for people."""
    over = f", {row['over_peer']:.2f} times {row['peer_on']}" if row["peer"] else ""
    return (
        f"{row['title']}: {row['seconds_on_device'] * 1e3:.2f} ms on the device, "
        f"{row['seconds_to_host'] * 1e3:.2f} ms to the host, {row['pixel_steps_per_s']:.3g} pixel-steps/s "
        f"in {row['precision']}{over}"
    )


def main(argv=None) -> int:
    """Print the table, or why there is none."""
    parser = argparse.ArgumentParser(prog="bench/gpu_cases.py", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"cases: {', '.join(GPU_CASES)}; default all and the full path")
    parser.add_argument("--json", metavar="FILE", help="write the figures")
    options = parser.parse_args(argv)
    reason = missing_gpu()
    if reason:
        print(f"skipped: {reason}")
        return 0
    rows = [measure(name) for name in (options.names or GPU_CASES)]
    for row in rows:
        print(line_of(row))
    if not options.names:
        taken = full_path_seconds()
        rows.append({"name": "full_path", "seconds_a_frame": taken})
        print(f"4096^2 protein with noise, as NXmx: {taken * 1e3:.1f} ms a frame")
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
