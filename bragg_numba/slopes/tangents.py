"""What one unit of a parameter changes of a flattened plan: all that the kernels of slopes ask of a parameter."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Tangent:
    """First derivatives of a Plan's numbers in one parameter; None where they do not change.

    A parameter of an experiment becomes an image by way of these numbers alone. Each is the change of what the plan
    holds for one unit of the parameter, in the unit of the plan (metres, radians), so that

        (numbers of the plan at p + e - numbers of the plan at p - e) / 2e

    is right where there is no closed form. Those of panels are arrays over ``Plan.panels`` of the fields of that name
    of ``kernels.parameters.Panel`` (the origin with what the layers of a sensor add to it); a rigid motion changes
    origin, axes and normal, and ``close_distance`` with them.
    """

    cell_vectors_m: np.ndarray | None = None  #: (3, 3), rows a, b, c, before spindle and mosaic domains turn them
    stars_per_A: np.ndarray | None = None  #: (3, 3), rows a*, b*, c* of Plan.cell; None: as reciprocals change
    turn_rad: np.ndarray | None = None  #: (3,), a rotation about lab x, y, z after spindle and mosaic domains
    mosaic_spread_rad: float | None = None  #: of Plan.mosaic_spread
    cell_counts: np.ndarray | None = None  #: (3,), of N_a, N_b, N_c, which are real here
    wavelengths_m: np.ndarray | None = None  #: (sources,), of Plan.sources.wavelength
    weights: np.ndarray | None = None  #: (sources,), of Plan.sources.weight, whose mean stays 1
    polarization: float | None = None  #: of Kahn's factor
    log_scale: float | None = None  #: relative change of all photons, the crystal's and its water's
    log_water: float | None = None  #: relative change of the water's photons beside that
    default_F: float | None = None  #: of Plan.lookup.default_F, and of the cells of the table that hold it

    origin_m: np.ndarray | None = None  #: (panels, 3)
    fast: np.ndarray | None = None  #: (panels, 3)
    slow: np.ndarray | None = None  #: (panels, 3)
    normal: np.ndarray | None = None  #: (panels, 3)
    close_distance_m: np.ndarray | None = None  #: (panels,)
    pitch_fast_m: np.ndarray | None = None  #: (panels,)
    pitch_slow_m: np.ndarray | None = None  #: (panels,)
    height_m: np.ndarray | None = None  #: (panels,)
    attenuation_per_m: np.ndarray | None = None  #: (panels,)
    layer_step_m: np.ndarray | None = None  #: (panels,)

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the fields that are not None."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) is not None)


#: Fields of a Tangent that belong to the detector's panels.
OF_PANELS = (
    *("origin_m", "fast", "slow", "normal", "close_distance_m"),
    *("pitch_fast_m", "pitch_slow_m", "height_m", "attenuation_per_m", "layer_step_m"),
)

#: The parameter that is not a number but one for each reflection of the table: |F|^2. It has no Tangent.
F2 = "structure_factors.F2"
