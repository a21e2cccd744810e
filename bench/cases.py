"""The cases whose speed is watched: nanoBragg command lines."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from bragg_numba import Detector, Panel, StructureFactors
from bragg_numba.cli.bench import CASES as SHORT

_PROTEIN = Path(__file__).parent.parent / "examples" / "2erl_P1.hkl"
_CUBIC = "-cell 100 100 100 90 90 90 -default_F 100"
_ONE_K = "-detpixels 1024 -pixel 0.1 -distance 100"

#: name: (title, command line, speed over the yardstick that is asked for or None, over the C program or None)
CASES = {
    "benchmark_4096": (*SHORT["benchmark_4096"], 26.0, 60.0),
    "mosaic": (*SHORT["mosaic"], 85.0, 100.0),
    "protein": (
        "protein table, 2048^2, N 20, 10 domains",
        f"-hkl {_PROTEIN} -cell 53.91 23.1 23.1 90 110.4 90 -misset 12 -23 41 -lambda 1.1 -N 20 -distance 250 "
        "-detpixels 2048 -pixel 0.15 -fluence 1e24 -oversample 1 -mosaic 0.05 -mosaic_dom 10",
        None,
        60.0,
    ),
    "sources": (*SHORT["sources"], None, 60.0),
    "oversample": (*SHORT["oversample"], None, 50.0),
    "round": (
        "round, 1024^2, 20 domains",
        f"-round_xtal {_CUBIC} -N 20 -lambda 1 {_ONE_K} -oversample 1 -mosaic 1 -mosaic_dom 20",
        30.0,
        None,
    ),
    "gauss": (
        "gauss, 1024^2, 20 domains",
        f"-gauss_xtal {_CUBIC} -N 20 -lambda 1 {_ONE_K} -oversample 1 -mosaic 1 -mosaic_dom 20",
        30.0,
        None,
    ),
    "tophat": (
        "tophat, 1024^2, 20 domains",
        f"-tophat_spots {_CUBIC} -N 20 -lambda 1 {_ONE_K} -oversample 1 -mosaic 1 -mosaic_dom 20",
        30.0,
        None,
    ),
}

_LAYERS = (
    f"{_CUBIC} -N 20 -lambda 1 -detpixels 512 -pixel 0.1 -distance 100 -oversample 2 -mosaic 1 -mosaic_dom 20 "
    "-detector_thick 300 -detector_abs 500 -thicksteps 3"
)

#: Rows of the frame that are compared with the yardstick, around its middle: the yardstick is slow.
ROWS = {
    "benchmark_4096": 2048,
    "mosaic": 256,
    "protein": 256,
    "sources": 64,
    "oversample": 512,
    "round": 256,
    "gauss": 256,
    "tophat": 256,
}

#: Cases with more than one step: on two threads they are to run 1.85 times as fast as on one.
TWO_THREADS = 1.85

#: The two fidelities of one experiment: 20 domains, oversample 2, 3 layers.
FIDELITIES = {"nanobragg": _LAYERS, "physical": f"{_LAYERS} -fidelity physical"}

#: Detectors of many panels, to compare with one plane, one step: columns, rows, pixels of a panel (fast, slow).
PANELS = {"32 modules of 1030 x 514": (4, 8, 1030, 514), "256 chips of 256 x 256": (16, 16, 256, 256)}

#: The rest of their experiment; ``{}`` is the size of the plane.
PANELS_LINE = f"{_CUBIC} -N 5 -lambda 1 -distance 120 -pixel 0.075 -oversample 1 -adxv {{}}"

#: A frame of a serial experiment: many wavelengths and domains, spots of gauss shape; ``{}`` is the size of the crystal
#: in cells. Its structure factors are those of wilson_factors.
SERIAL_LINE = (
    "-cell 67.2 59.8 47.2 90 110.3 90 -misset 10 20 30 -default_F 1 -lambda 1.74 -dispersion 1.5 -dispsteps 100 "
    "-mosaic 0.05 -mosaic_dom 25 -gauss_xtal -N {} -distance 141.7 -pixel 0.11 -detpixels 3000 -fluence 1e24 "
    "-oversample 1 -fidelity physical"
)

#: Cells of the crystal, and by how much spots are asked to be quicker than pixels.
SERIAL = {20: 30.0, 50: 80.0}


#: Shapes whose slopes are held against their value, and the most that value and slopes together are to cost.
SLOPES = {"square": 3.5, "gauss": 2.5}

#: Their experiments: 100 mosaic domains.
SLOPES_LINE = f"-{{}}_xtal {_CUBIC} -N 20 -lambda 1 -detpixels 512 -pixel 0.2 -distance 100 -oversample 1 -mosaic 1 "
SLOPES_LINE += "-mosaic_dom 100"

#: All that geometry and crystal have: 18 parameters.
GEOMETRY = (
    "crystal.cell, crystal.misset_deg, crystal.cell_counts, crystal.mosaic_spread_deg, beam.wavelength_A, "
    "detector.distance_mm, detector.beam_x_mm, detector.beam_y_mm, detector.twotheta_deg"
)


def wilson_factors(cell: tuple[float, ...], resolution_A: float) -> StructureFactors:
    """Every reflection to a resolution, with random amplitudes whose squares fall off with it (Wilson statistics).

    ``cell``: a, b, c in angstrom and beta in degrees of a monoclinic cell.
    """
    a, b, c, beta = (*cell[:3], math.radians(cell[3]))
    most = [math.floor(edge / resolution_A) for edge in (a, b, c)]
    h, k, l = (index.reshape(-1) for index in np.mgrid[tuple(slice(-n, n + 1) for n in most)])  # noqa: E741
    along = (h / a) ** 2 + (k * math.sin(beta) / b) ** 2 + (l / c) ** 2 - 2.0 * h * l * math.cos(beta) / (a * c)
    inverse_square = along / math.sin(beta) ** 2
    kept = (inverse_square > 0.0) & (inverse_square <= resolution_A**-2)
    mean = 300.0 * np.exp(-2.5 * inverse_square[kept])
    amplitudes = mean * np.sqrt(np.random.default_rng(1).exponential(size=int(kept.sum())))
    return StructureFactors(indices=np.stack([h, k, l], axis=1)[kept], amplitudes=amplitudes)


def tiled(columns: int, rows: int, n_fast: int, n_slow: int) -> Detector:
    """Panels side by side with gaps of 8 pixels between them, each turned a little, stacked along the rows."""
    panels = []
    for number in range(columns * rows):
        across, down = number % columns - columns / 2, number // columns - rows / 2
        turn = 1e-3 * (number % 7 - 3)
        corner = (0.075 * across * (n_fast + 8), -0.075 * down * (n_slow + 8), 120.0)
        panel = Panel(n_fast=n_fast, n_slow=n_slow, origin_mm=corner, fast=(1, turn, 0), slow=(turn, -1, turn))
        panels.append(panel)
    return Detector(panels=panels, pixel_mm=0.075, convention="adxv")
