"""X-ray diffraction images of nanocrystals: nanoBragg's physics in hand-written Numba kernels.

The names below are loaded when they are first used, so that importing the package is quick.
"""

from __future__ import annotations

import importlib
import sys

from bragg_numba.versions import __version__ as __version__

_HOMES = {
    "Absorption": "experiment",
    "AirPath": "experiment",
    "Anomalous": "experiment",
    "Background": "experiment",
    "Beam": "experiment",
    "Beamstop": "experiment",
    "Crystal": "experiment",
    "Damage": "experiment",
    "Detector": "experiment",
    "Diffuse": "experiment",
    "Experiment": "experiment",
    "Frame": "view.frame",
    "Lattice": "experiment",
    "OutputOptions": "series",
    "Panel": "experiment",
    "Response": "response.response",
    "Rotation": "experiment",
    "Sampling": "experiment",
    "Series": "series",
    "Shadow": "experiment",
    "Simulator": "render",
    "Spectrum": "experiment",
    "Statistics": "render",
    "StructureFactors": "experiment",
    "Window": "experiment",
    "background_of_frame": "render.profile",
    "list_crossings": "predict.crossings",
    "load_plan": "series",
    "poisson": "response.counter",
    "rotation_series": "series",
    "simulate": "render",
    "still_series": "series",
    "stream_series": "series",
    "BraggError": "errors",
    "InputError": "errors",
}

#: Rooms that are functions, too: ``bragg_numba.refine(...)``.
_ROOMS = ("refine",)

__all__ = sorted([*_HOMES, *_ROOMS, "__version__"])

if sys.platform == "win32":
    import warnings

    warnings.warn(
        "bragg_numba is not supported on Windows: nobody has tested it there; the Windows Subsystem for Linux runs it",
        stacklevel=2,
    )


def __getattr__(name: str):
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, *_ROOMS])
