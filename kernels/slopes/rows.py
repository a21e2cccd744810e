"""Where the kernels of slopes keep what they know of a block of pixels: rows of flat arrays at fixed offsets.

A block is BLOCK pixels of one panel, wherever they lie. Rows at constant offsets, and loops of constant length, tell
the compiler that rows do not overlap, so that the loops become vectors (pixels/rows.py says more). A block's values
fit the first-level cache.
"""

BLOCK = 64

#: Rows and columns of a piece of a panel whose pixels make a block.
PIECE = 8

#: Steps that are prepared together, and whose sums are float32 before they are added to float64.
CHUNK = BLOCK

# Rows begin a cache line further than a whole number of 256 bytes: see pixels/rows.py.
_ROW = BLOCK + 16

# --- float32 or float64: what a step makes, then the sums of a chunk of steps --------------------------

D_H, D_K, D_L = (n * _ROW for n in range(3))  # h less its nearest whole number
T_H, T_K, T_L = (n * _ROW for n in range(3, 6))  # n times that, less its own; of radial shapes the radius
H, K, L = (n * _ROW for n in range(6, 9))
TERM = 9 * _ROW  # the lattice factor, times |F|^2
Y_H, Y_K, Y_L = (n * _ROW for n in range(10, 13))  # its slopes in h, k, l
SHAPE = 13 * _ROW  # its slopes in the cell counts, or in the six numbers of the metric: six rows
SUM_TERM = 19 * _ROW
SUM_STRAIN = 20 * _ROW  # slopes times indices: nine rows
SUM_AIM = 29 * _ROW  # slopes in the direction of the ray: three rows
SUM_SHAPE = 32 * _ROW  # six rows
SUM_SPREAD = 38 * _ROW
SUMS = 20  # rows of sums, from SUM_TERM on
WAVES_H, WAVES_K, WAVES_L = (n * _ROW for n in range(39, 42))  # n D less T, whole numbers (chunk.py)
AMPLITUDE = 42 * _ROW  # |F|^2 times the step's weight
ACROSS, DOWN = (n * _ROW for n in range(43, 45))  # columns and rows from the block's middle
BEND_X, BEND_Y, BEND_Z = (n * _ROW for n in range(45, 48))  # what a direction is besides
# Then a chunk of steps, a place each: of h, k, l seven rows (chunk.prepare_axis); a, b, c over the wavelength: nine;
# what the mosaic spread multiplies: nine.
STEP_H, STEP_K, STEP_L = (n * _ROW for n in (48, 55, 62))
STEP_CELL, SPIN = (n * _ROW for n in (69, 78))
SIZE_STEP = 87 * _ROW

# --- float64: the sums of a beam in the same order, then geometry and factors --------------------------

TOTAL_TERM, TOTAL_STRAIN, TOTAL_AIM, TOTAL_SHAPE, TOTAL_SPREAD = (n * _ROW for n in (0, 1, 10, 13, 19))
AIM_X, AIM_Y, AIM_Z, FAR, FAST, SLOW = (n * _ROW for n in range(20, 26))
AT_ROW, AT_COLUMN = (n * _ROW for n in range(26, 28))
OMEGA, POLAR, CAPTURE, KEEP = (n * _ROW for n in range(28, 32))
HEAD = 32 * _ROW  # what sums of terms are multiplied by
PHOTONS = 33 * _ROW  # what the product of solid angle, polarization and captured fraction is multiplied by
FIRST = 34 * _ROW  # nanoBragg's first term within dmin: its number, or -1
PUSH_X, PUSH_Y, PUSH_Z = (n * _ROW for n in range(35, 38))  # slopes in a pixel's place
RADIUS = 38 * _ROW  # squared, of round crystals
CELL, SHARE = (n * _ROW for n in (39, 48))  # of a chunk of steps: a, b, c over the wavelength, and the weight
SIZE_EXACT = 49 * _ROW

# --- int32: places of the pixels in the table, and the steps that some pixel sees -----------------------

LIVE = _ROW
SIZE_PLACES = 2 * _ROW

# --- float64: what slopes are linear in, a row each (eq. 60); then a row for each set of moves of the sources ---

VALUE = 0  #: photons
BRAGG = 1  #: those of the crystal
STRAIN = 2  #: nine: slopes in h, k, l times h, k, l
TURN = 11  #: three: in a rotation of the crystal about x, y, z
PLACE = 14  #: three: in the pixel's place; then the same times its coordinates along fast and along slow
PLACE_FAST, PLACE_SLOW = 17, 20
NORMAL = 23  #: three: in the panel's normal
NEAR = 26  #: in its distance
DEPTH = 27  #: in the thickness of a layer
DECAY = 28  #: in the attenuation
KAHN = 29  #: in Kahn's factor
OF_SHAPE = 30  #: six: in the cell counts, or in the numbers of the metric
SPREAD = 36  #: in the mosaic spread
N_ROWS = 37


def row_of(number):
    """Offset of a row of the last kind."""
    return number * _ROW


STRIDE = _ROW
