"""The kernels of a detector's response to be compiled without a device, with the types of their arguments."""

from bragg_numba.kernels.pixels.cuda_variants import Variant, array_type
from bragg_numba.kernels.random.cuda import photon_statistics
from bragg_numba.kernels.response import cuda as kernels
from numba import types

_FLOATS, _COUNTS = array_type(types.float32, 2), array_type(types.uint32, 2)
_LINES, _MASK, _PLACES = array_type(types.int32, 2), array_type(types.boolean, 2), array_type(types.boolean, 1)
_SHOT = (types.uint64, types.uint32)  # seed and frame
_GAINS = (types.float32, types.uint64)  # sigma and the detector's seed

#: Kernels by the name that ``cuda-report`` gives them, with the types of their arguments.
TYPES = {
    "response-statistics": (photon_statistics, (_FLOATS, array_type(types.float64, 2))),
    "response-photons": (kernels.scale_photons, (_FLOATS, types.float32, *_GAINS, types.uint64, _FLOATS, _FLOATS)),
    "response-losses": (
        kernels.lose_counts,
        (_COUNTS, types.float64, types.boolean, types.boolean, types.float64, types.float64, *_SHOT, types.uint64),
    ),
    "response-copy": (kernels.to_charge, (_COUNTS, _FLOATS)),
    "response-charge": (
        kernels.record_charge,
        (
            *(_FLOATS, *_GAINS, types.float32, _FLOATS, types.float32, types.float32, types.uint32),
            *(*_SHOT, types.uint64, _FLOATS, _COUNTS),
        ),
    ),
    "response-gather": (kernels.gather_wide, (_FLOATS, _LINES, types.float32, types.int64)),
    "response-divide": (
        kernels.divide_wide,
        (_COUNTS, _LINES, types.float64, types.int64, types.int64, types.int64, *_SHOT),
    ),
    "response-marks": (
        kernels.mark_pixels,
        (
            *(_MASK, _PLACES, _PLACES, types.float64, types.float64, types.uint64, types.uint64, types.uint32),
            *(_COUNTS, array_type(types.uint32, 1)),
        ),
    ),
}


def variants():
    """Every kernel of the response; that of plain counts is with the pixels'."""
    return [
        Variant(name, "float64", function.py_func, signature, False, kernels.THREADS, 1)
        for name, (function, signature) in TYPES.items()
    ]
