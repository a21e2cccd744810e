"""A protein nanocrystal in a focused beam: one 4096 x 4096 frame, as an HDF5 file and as a picture.

Structure factors come from PDB entry 2ERL (a small signalling protein, C 2). The crystal is a tenth of a micron long,
has mosaic domains and stands in a droplet of water; the beam has a divergence and a spectrum, and holds 1e12
photons in a spot of 100 nm. Photons are absolute: they are what a perfect detector would count on average.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def make_experiment(pixels: int):
    """Return the demo's experiment; fewer pixels are larger, so that the picture stays the same."""
    from bragg_numba import Beam, Crystal, Detector, Experiment, Rotation, Sampling, StructureFactors
    from bragg_numba.io.structure_factor_files import read_hkl

    indices, amplitudes = read_hkl(HERE / "2erl_P1.hkl")
    return Experiment(
        beam=Beam(
            wavelength_A=1.1,
            flux_per_s=1e12,
            exposure_s=1.0,
            beam_size_mm=1e-4,
            dispersion_percent=0.4,
            dispersion_steps=3,
        ),
        crystal=Crystal(
            cell=(53.91, 23.1, 23.1, 90, 110.4, 90),
            misset_deg=(12, -23, 41),
            cell_counts=(16, 32, 32),
            mosaic_spread_deg=0.4,
            mosaic_domains=12,
            water_um=0.12,
        ),
        detector=Detector(n_fast=pixels, n_slow=pixels, pixel_mm=0.075 * 4096 / pixels, distance_mm=150),
        rotation=Rotation(phi_deg=0, osc_deg=2.0, phi_steps=8),
        sampling=Sampling(oversample=1),
        structure_factors=StructureFactors(indices=indices, amplitudes=amplitudes),
        fidelity="physical",
    )


def main() -> int:
    """Render, write, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pixels", type=int, default=4096, metavar="N", help="pixels along each edge")
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="FOLDER", help="where the files go")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    frame, picture = arguments.out / "frame.h5", arguments.out / "frame.png"

    clock = Clock()
    import numpy as np

    from bragg_numba import Simulator

    experiment = make_experiment(arguments.pixels)
    sim = Simulator(experiment)
    clock.stop("plan: structure factors, orientations, geometry")
    print("loading the kernels; the first run compiles them, which takes half a minute or more", file=sys.stderr)
    next(sim.tiles(rows=4))
    Simulator(make_experiment(16), precision="float64").render()  # the kernel for what float32 leaves in doubt
    clock.stop("compile, or load the compiled kernels")
    image = render_with_progress(sim)
    seconds = clock.stop("render")
    statistics = sim.statistics
    clock.stop("statistics")
    write(frame, picture, image, experiment, statistics)
    clock.stop("write frame.h5 and frame.png")
    assert np.isfinite(image).all()
    print_table(sim, statistics, seconds, clock.stages, (frame, picture))
    return 0


class Clock:
    """Wall time of one stage after another."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, float]] = []
        self._last = time.perf_counter()

    def stop(self, name: str) -> float:
        """End a stage; return its seconds."""
        now = time.perf_counter()
        self.stages.append((name, now - self._last))
        self._last = now
        return self.stages[-1][1]


def render_with_progress(sim):
    """Render; a bar on a terminal, a line elsewhere."""
    from bragg_numba.cli.console import progress_bar

    if not sys.stderr.isatty():
        print(f"rendering {sim.plan.pixel_steps:.3g} pixel-steps on {sim.backend}", file=sys.stderr)
    with progress_bar("rendering") as progress:
        return sim.render(progress=progress)


def write(frame: Path, picture: Path, image, experiment, statistics) -> None:
    """Write the HDF5 frame and its picture."""
    from bragg_numba.io.frame_file import write_frame
    from bragg_numba.io.png import write_png

    write_frame(frame, image, experiment.to_json(), command="examples/demo.py", statistics=statistics.as_dict())
    write_png(picture, image)


def print_table(sim, statistics, seconds: float, stages, files) -> None:
    """Print what was made and how long each stage took."""
    from rich.console import Console
    from rich.table import Table

    n_slow, n_fast = sim.shape
    plan = sim.plan
    table = Table(title="A 2ERL nanocrystal, simulated", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(justify="right")
    cells = " x ".join(map(str, plan.cell_counts))
    table.add_row("frame", f"{n_fast} x {n_slow} pixels, {plan.phi.n} phi steps x {plan.domains} domains")
    table.add_row(
        "crystal", f"{cells} unit cells, {len(plan.experiment.structure_factors.indices):,} structure factors"
    )
    table.add_row("photons on the frame", f"{statistics.sum:,.0f}")
    table.add_row(
        "brightest pixel",
        f"{statistics.max:,.1f} photons at fast {statistics.max_fast}, slow {statistics.max_slow}",
    )
    table.add_section()
    for name, taken in stages:
        table.add_row(name, f"{taken:.2f} s")
    table.add_section()
    table.add_row("pixel-steps", f"{plan.pixel_steps:,}")
    table.add_row("pixel-steps per second", f"{plan.pixel_steps / seconds:,.0f} ({sim.backend}, {sim.precision})")
    table.add_section()
    for file in files:
        table.add_row(str(file), f"{file.stat().st_size / 1e6:,.1f} MB")
    Console(width=100).print(table)


if __name__ == "__main__":
    sys.exit(main())
