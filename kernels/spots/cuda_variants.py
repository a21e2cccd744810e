"""The kernels of spots to be compiled without a device, with the types of their arguments."""

from bragg_numba.kernels.parameters import SHAPE_NAMES, SQUARE, Lattice, Panel, Rules
from bragg_numba.kernels.pixels.cuda_variants import CELLS, FRAME, TILES, Variant, array_type, tuple_type
from bragg_numba.kernels.spots.cuda import spots_kernel
from bragg_numba.kernels.spots.cuda_terms import SpotKind
from bragg_numba.kernels.spots.cuda_tile import THREADS
from bragg_numba.kernels.spots.rows import Beams, Forms, Lists
from numba import types


def variants():
    """Every shape with places in float64 and the shape in float32 (``mixed``), and one with all in float64."""
    found = [_variant(name, "mixed", SpotKind(shape, False)) for shape, name in enumerate(SHAPE_NAMES)]
    return [*found, _variant(SHAPE_NAMES[SQUARE], "float64", SpotKind(SQUARE, True))]


def _variant(shape, precision, kind):
    return Variant(f"{shape}-spots", precision, spots_kernel(kind).py_func, spots_types(), True, THREADS, 1)


def spots_types():
    """Types of the arguments of add_spots."""
    floats, places = array_type(types.float64, 1), array_type(types.int64, 1)
    beams = types.NamedTuple([CELLS, places, floats, floats, floats, floats], Beams)
    nouns = (*(tuple_type(noun) for noun in (Panel, Lattice, Rules)), beams, types.NamedTuple([CELLS, CELLS], Forms))
    return *nouns, CELLS, TILES, types.NamedTuple([places, places], Lists), FRAME
