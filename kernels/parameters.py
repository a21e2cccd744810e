"""What a kernel is told about the experiment: flat tuples of scalars, metres and radians.

Flat, because numba's prange cannot carry a tuple inside a tuple; scalars, so that a GPU gets them as
kernel arguments.
"""

from typing import NamedTuple

import numpy as np

SQUARE, ROUND, GAUSS, TOPHAT = 0, 1, 2, 3

#: Names of the lattice shapes, indexed by the constants above.
SHAPE_NAMES = ("square", "round", "gauss", "tophat")


class Panel(NamedTuple):
    """One panel of the detector, its sensor, and the beam as it meets it; lab frame.

    ``origin`` is the outer corner of the panel's pixel (0, 0), which is pixel (first_row, first_column) of the frame.
    ``fast``, ``slow`` and ``normal`` are unit vectors; ``fast`` and ``slow`` need not be at right angles.
    """

    origin_x: float
    origin_y: float
    origin_z: float
    fast_x: float
    fast_y: float
    fast_z: float
    slow_x: float
    slow_y: float
    slow_z: float
    normal_x: float
    normal_y: float
    normal_z: float
    beam_x: float
    beam_y: float
    beam_z: float
    polar_x: float
    polar_y: float
    polar_z: float
    pitch_fast: float  #: from a pixel to the next
    pitch_slow: float
    height: float  #: area of a pixel over pitch_fast: pitch_slow, unless the axes are skewed (eq. 5)
    subpixel_fast: float
    subpixel_slow: float
    half_fast: float  #: half of a sub-pixel
    half_slow: float
    close_distance: float
    attenuation: float  #: 1/m
    layer_step: float
    curve_radius: float
    curve_fast_sign: float
    curve_slow_sign: float
    beam_fast: float
    beam_slow: float
    kahn: float
    dmin: float
    n_fast: int
    n_slow: int
    first_row: int
    first_column: int
    oversample: int
    layers: int
    curved: bool
    point_pixel: bool
    polarized: bool
    has_sensor: bool


#: A Panel as an element of an array: kernels that render several panels get them so. Aligned, or a GPU would read it
#: byte by byte.
PANEL_RECORD = np.dtype([(name, kind) for name, kind in Panel.__annotations__.items()], align=True)


def panel_array(panels) -> np.ndarray:
    """Panels as one array of PANEL_RECORD."""
    return np.array([tuple(panel) for panel in panels], dtype=PANEL_RECORD)


class Lattice(NamedTuple):
    """Shape and size of the crystal; the metric belongs to round, gauss and tophat (eq. 14)."""

    shape: int
    n_a: float
    n_b: float
    n_c: float
    metric_hh: float
    metric_kk: float
    metric_ll: float
    metric_hk: float
    metric_hl: float
    metric_kl: float


class Table(NamedTuple):
    """Where the structure factor table lies: its first index and size per axis, border included.

    The table carries a border of one cell that holds ``default_F``: an index outside is clamped into it.
    """

    h_first: int
    k_first: int
    l_first: int
    h_count: int
    k_count: int
    l_count: int
    has_table: bool
    interpolate: bool
    default_F: float


class Dispersion(NamedTuple):
    """F that depends on the wavelength (eq. 46): what kernels get in the place of a table of F.

    ``parts`` holds tables of the shape that a Table says, one behind the other: real and imaginary part of F without
    what depends on the wavelength, then of each element's partial sum; behind them is room for OVERHANG more values.
    """

    parts: np.ndarray  #: float64 ((2 + 2 elements) h_count k_count l_count + OVERHANG,), electrons
    factors: np.ndarray  #: float64 (sources, 2 elements): f' and f'' at each source's wavelength, electrons
    faintest: float  #: F^2 up to which a reflection counts as none, where terms are float32


#: Values that are looked up together.
OVERHANG = 8


class Rules(NamedTuple):
    """How terms are put together, resolved from ``fidelity`` when the plan is made."""

    per_term: bool  #: factors inside the sum (physical), not cached (nanobragg)
    running_thick: bool  #: nanoBragg's running products
    running_polar: bool
    running_omega: bool
    running: bool  #: any of the three
    weighted: (
        bool  #: terms carry factors of their own: physical, a spectrum's weights, or some are left out beyond dmin
    )
    skip_zero: bool  #: no water: a zero lattice factor skips nanoBragg's running products
    background: float  #: in units of F^2 per step sum, before scaling
    scale: float  #: r_e^2 fluence / steps
    flat_background: float  #: photons per steradian, added once (physical)


class Sources(NamedTuple):
    """Where the beam comes from: arrays of one entry a source, which the image is a mean over."""

    incident: np.ndarray  #: float64 (n, 3), unit vectors downstream
    wavelength: np.ndarray  #: float64 (n,), metres
    weight: np.ndarray  #: float64 (n,), their mean is 1


#: Columns of a list of cells, float64, one row for each spindle step and mosaic domain: a, b, c in metres, and the
#: share of the photons, whose mean is 1.
SHARE_OF_CELL, N_CELL = 9, 10


class Scattering(NamedTuple):
    """F of sin(theta)/lambda as piecewise cubics (eq. 44), with a grid of cells in which to look for the piece.

    ``cubics[i]`` holds below ``ends[i]``; the last end is infinite. ``starts[c]`` is the piece in which cell c begins.
    """

    single: bool  #: no cell holds more than one end
    cells_per_stol: float  #: m
    starts: np.ndarray  #: int32 (cells,)
    ends: np.ndarray  #: float64 (n,), 1/m
    cubics: np.ndarray  #: float64 (n, 5): four coefficients, and where the piece's x is 0 (physics.cubic)


class Motion(NamedTuple):
    """Motions as in a liquid (eq. 45)."""

    correlation: float  #: length over which displacements are alike
    displacement: float  #: root mean square along an axis
    reach: int  #: reflections to each side that a pixel sees


class Frame(NamedTuple):
    """Where a kernel stores pixels."""

    image: np.ndarray  #: float32 (rows, n_fast), photons: rows ``row_start`` and on of the frame
    mask: np.ndarray  #: bool (n_slow, n_fast) of the whole frame, True where a pixel is wanted; (0, 0): everywhere
    row_start: int


#: Kinds of code of the CPU's tile kernels: square crystals; round ones; shapes of the squared radius alone; the same,
#: where only groups that a spot may touch are summed (pixels/lit.py).
GRATINGS, FRINGES, RADII, LIT_RADII = range(4)


class Code(NamedTuple):
    """Which code of the CPU's tile kernels renders a plan: what it does not need is not compiled.

    All but ``kind`` and ``dispersed`` are None or YES: where a function is compiled on its own, their type says it.
    """

    kind: int  #: one of the four above
    placed: object  #: structure factors come from a table
    split: object  #: the change per pixel is split as well (eq. 33)
    factors: object  #: terms carry factors of their own, or a sensor absorbs
    shares: object  #: mosaic domains differ in their share of the photons
    dispersed: object  #: F depends on the wavelength: as many YES as elements have sums of their own, in a tuple


#: What a part of Code is where its code is wanted.
YES = ()


class Phases(NamedTuple):
    """What the CPU's tile kernel is told beyond the plan: float32 down to ``near_half``.

    ``same_a`` equals ``n_a`` and so on: physics.turns_single says why. A phase further than ``near_half`` from a
    whole number is settled in float64. ``reach`` is how many cells of the table a group's pixels may lie from its
    own. Where spots are sought, only groups within ``lit_h`` and so on of a reflection are summed (pixels/lit).
    """

    n_a: np.float32
    n_b: np.float32
    n_c: np.float32
    same_a: np.float32
    same_b: np.float32
    same_c: np.float32
    metric_hh: np.float32
    metric_kk: np.float32
    metric_ll: np.float32
    metric_hk: np.float32
    metric_hl: np.float32
    metric_kl: np.float32
    near_half: np.float32
    reach: float
    lit_h: float
    lit_k: float
    lit_l: float


class Single(NamedTuple):
    """What a GPU tile kernel needs beyond the plan, worked out beforehand so that no thread has to.

    float32 down to ``kahn``. ``h_size`` and ``k_size`` are the strides of h and k in the padded table,
    whose every side has twice ``reach`` more cells of border, ``h_shift`` the place of index 0 there, ``h_last``
    the last place from which ``reach`` steps on stay inside.
    """

    n_a: np.float32
    n_b: np.float32
    n_c: np.float32
    h_size: np.float32
    k_size: np.float32
    near_half: np.float32
    metric_hh: np.float32
    metric_kk: np.float32
    metric_ll: np.float32
    metric_hk: np.float32
    metric_hl: np.float32
    metric_kl: np.float32
    polar_x: np.float32
    polar_y: np.float32
    polar_z: np.float32
    kahn: np.float32
    reach: float
    h_shift: float
    k_shift: float
    l_shift: float
    h_last: float
    k_last: float
    l_last: float
    h_stride: int
    k_stride: int
    run_steps: int  #: steps of a run: all of them, or a source's where terms have weights
    part_rounds: int  #: rounds of steps that share a bit of Doubts.parts
    scale: float  #: photons of a term 1
    background: float  #: photons before the factors of a pixel
    flat: float  #: photons of a share 1 (physical fidelity)


class SinglePanel(NamedTuple):
    """What a GPU tile kernel needs of a panel in float32; names as in Panel."""

    fast_x: np.float32
    fast_y: np.float32
    fast_z: np.float32
    slow_x: np.float32
    slow_y: np.float32
    slow_z: np.float32
    normal_x: np.float32
    normal_y: np.float32
    normal_z: np.float32
    pitch_fast: np.float32
    pitch_slow: np.float32
    height: np.float32
    layer_depth: np.float32  #: a layer's thickness over the attenuation depth


#: A SinglePanel as an element of an array.
SINGLE_PANEL_RECORD = np.dtype([(name, kind) for name, kind in SinglePanel.__annotations__.items()], align=True)


def single_panel_array(panels) -> np.ndarray:
    """The SinglePanel of every Panel, as one array of SINGLE_PANEL_RECORD."""
    found = np.empty(len(panels), SINGLE_PANEL_RECORD)
    for name in SinglePanel._fields[:-1]:
        found[name] = [getattr(panel, name) for panel in panels]
    found["layer_depth"] = [panel.layer_step * panel.attenuation for panel in panels]
    return found
