"""What the kernels of slopes are told: beside the plan's nouns (parameters.py) what is summed, and in which steps."""

from typing import NamedTuple

import numpy as np


class Wanted(NamedTuple):
    """Which rows are summed."""

    strain: bool
    turn: bool
    detector: bool
    shape: bool
    spread: bool


class Beams(NamedTuple):
    """How sources and orientations are summed: sources of a beam have their direction in common."""

    first: np.ndarray  #: int64 (beams + 1,): the first source of each
    weights: np.ndarray  #: float64 (sources, moves): changes of their weights
    waves: np.ndarray  #: float64 (sources, moves): relative changes of their wavelengths
    spins: np.ndarray  #: float64 (orientations, 9): changes of h, k, l with the mosaic spread, times h, k, l (eq. 60)
    axes: np.ndarray  #: float64 (N_CELL, orientations): the cells transposed
    turning: np.ndarray  #: float64 (9, orientations): the spins transposed
    margin_h: float  #: distance of h from whole numbers beyond which no spot is; 2: everywhere
    margin_k: float
    margin_l: float
    bend: float  #: curvature of a block's directions up to which float32 holds its phases (eq. 70)


class Nouns(NamedTuple):
    """All that a block's photons depend on, in the order in which cpu.walk_blocks takes it.

    A parallel loop cannot carry a tuple of tuples (parameters.py): walk_blocks gets the parts, and makes one of them
    for each block.
    """

    panels: np.ndarray  #: PANEL_RECORD
    lattice: tuple  #: parameters.Lattice, with real numbers of cells
    lookup: tuple  #: parameters.Table
    rules: tuple  #: parameters.Rules
    sources: tuple  #: parameters.Sources
    cells: np.ndarray  #: float64 (orientations, N_CELL)
    table: np.ndarray  #: float64, F: to be interpolated in
    squares: np.ndarray  #: F^2 of the table, flat, of the type of a step's values
    wanted: tuple
    beams: tuple


class Pixels(NamedTuple):
    """Pixels block by block."""

    blocks: np.ndarray  #: int32 (n, 3): panel, first pixel in the lists, number of pixels
    rows: np.ndarray  #: int32 (pixels,), in the panel
    columns: np.ndarray


class Scratch(NamedTuple):
    """The arrays of one thread, or a row for each."""

    step: np.ndarray  #: float32 or float64 (SIZE_STEP,)
    exact: np.ndarray  #: float64 (SIZE_EXACT,)
    sums: np.ndarray  #: float64 ((N_ROWS + moves) * STRIDE,)
    places: np.ndarray  #: int32 (SIZE_PLACES,): places in the table, and a list of steps
    weights: np.ndarray  #: float64 (3, 8): of an interpolation
    slopes: np.ndarray  #: float64 (parameters, BLOCK): those of a block's pixels
    judged: np.ndarray  #: float64 (3, BLOCK): what a likelihood makes of them


class Images(NamedTuple):
    """What each parameter's slope is made of, and the images that photons and slopes are stored in.

    Slopes are sparse rows of a matrix for each panel, padded to four entries: those of a parameter are the entries from
    its start to the next.
    """

    starts: np.ndarray  #: int64 (parameters + 1,)
    places: np.ndarray  #: int64 (entries,): rows of a block's sums
    factors: np.ndarray  #: float64 (panels, entries)
    rows: np.ndarray  #: int32 (pixels,), in the frame
    columns: np.ndarray
    n_fast: int
    value: np.ndarray  #: (slow * fast,), filled where pixels are listed
    slopes: np.ndarray  #: (parameters, slow * fast)


class Pulls(NamedTuple):
    """Sums over a block's pixels of what slopes are linear in, times their weights."""

    weights: np.ndarray  #: float64 (pixels,)
    weighed: np.ndarray  #: float64 (blocks, rows), filled


class Normals(NamedTuple):
    """What each parameter's slope is made of, as in Images; data, and the normal equations that they make."""

    starts: np.ndarray
    places: np.ndarray
    factors: np.ndarray
    likelihood: int
    data: np.ndarray  #: float64 (pixels,); NaN does not count
    variance: np.ndarray  #: float64 (pixels,)
    background: np.ndarray  #: float64 (pixels,)
    found: np.ndarray  #: float64 (blocks, 1 + n + n (n + 1) / 2), filled by cpu.weigh_slopes
