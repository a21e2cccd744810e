"""Many frames, many workers: series of an experiment in NXmx files."""

from bragg_numba.series.options import OutputOptions
from bragg_numba.series.series import Series, load_plan, rotation_series, still_series, stream_series
from bragg_numba.series.stages import Progress, SeriesResult

__all__ = [
    "OutputOptions",
    "Progress",
    "Series",
    "SeriesResult",
    "load_plan",
    "rotation_series",
    "still_series",
    "stream_series",
]
