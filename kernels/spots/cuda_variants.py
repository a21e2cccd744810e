"""The kernels of spots to be compiled without a device, with the types of their arguments."""

from bragg_numba.kernels.parameters import SHAPE_NAMES, SQUARE, Lattice, Panel, Rules
from bragg_numba.kernels.pixels.cuda_variants import CELLS, FRAME, PANELS, TILES, Variant, array_type, tuple_type
from bragg_numba.kernels.spots.cuda import spots_kernel
from bragg_numba.kernels.spots.cuda_terms import SpotKind
from bragg_numba.kernels.spots.cuda_tile import THREADS
from bragg_numba.kernels.spots.rows import Beams, Forms, Lists
from numba import types


def variants():
    """Every shape with places in float64 and the shape in float32 (``mixed``), and one with all in float64.

    And what several panels change, once.
    """
    found = [_variant(f"{name}-spots", "mixed", SpotKind(shape, False)) for shape, name in enumerate(SHAPE_NAMES)]
    square = SHAPE_NAMES[SQUARE]
    found.append(_variant(f"{square}-spots", "float64", SpotKind(SQUARE, True)))
    found.append(_variant(f"{square}-spots-panels", "mixed", SpotKind(SQUARE, False, several=True)))
    return found


def _variant(name, precision, kind):
    return Variant(name, precision, spots_kernel(kind).py_func, spots_types(kind.several), True, THREADS, 1)


def spots_types(several=False):
    """Types of the arguments of add_spots."""
    floats, places = array_type(types.float64, 1), array_type(types.int64, 1)
    beams = types.NamedTuple([CELLS, places, floats, floats, floats, floats], Beams)
    panels, forms = PANELS if several else tuple_type(Panel), types.NamedTuple([CELLS, CELLS], Forms)
    nouns = (panels, tuple_type(Lattice), tuple_type(Rules), beams, forms)
    return *nouns, CELLS, TILES, types.NamedTuple([places, places], Lists), FRAME
