"""Where reflections cross the Ewald sphere in a sweep, and where DIALS expects them: geometry alone, no intensities."""

from __future__ import annotations

import math

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.experiment import Experiment
from bragg_numba.experiment.placing import PlacedPanel, place_detector
from bragg_numba.plan.plan import make_plan

#: One crossing. ``slow`` and ``fast`` count pixels from the image's outer corner: pixel p spans p to p + 1.
CROSSING = np.dtype(
    [
        ("h", np.int32),
        ("k", np.int32),
        ("l", np.int32),
        ("phi_deg", np.float64),
        ("slow", np.float64),
        ("fast", np.float64),
        ("panel", np.int32),
    ]
)


def list_crossings(experiment: Experiment, indices) -> np.ndarray:
    """List where reflections of a sweep cross the Ewald sphere and meet the detector.

    The crystal is perfect and large, the beam has one direction and its central wavelength. A ray is read where DIALS
    has it: at the depth 1/mu - (t + 1/mu) exp(-mu t) along it, for a path t through a sensor that attenuates by mu,
    and on the surface where a panel has no sensor. This is not the mean depth of the photons that are absorbed,
    which images and the table of spots hold.

    Parameters
    ----------
    experiment
        Whose ``rotation`` has a range, which is searched: ``phi_deg`` and the ``osc_deg`` after it.
    indices
        (n, 3) Miller indices, whole numbers.

    Returns
    -------
    numpy.ndarray
        Of dtype ``CROSSING``, in the order of ``indices``, then of phi; a reflection has no, one or two in a turn.

    Raises
    ------
    InputError
        For indices of another shape, and an experiment without a sweep.
    """
    try:
        given = np.asarray(indices)
        hkl = given.astype(np.int64)
    except (TypeError, ValueError):
        raise InputError("indices", "must be rows of three whole numbers", indices) from None
    if hkl.ndim != 2 or hkl.shape[1] != 3 or not np.array_equal(hkl, given):
        raise InputError("indices", "must be rows of three whole numbers", indices)
    span = experiment.rotation.osc_deg or 0.0
    if not span > 0.0:
        raise InputError("Rotation.osc_deg", "must be greater than 0 for reflections to cross", span)
    plan, detector = make_plan(experiment), place_detector(experiment)
    stars = np.linalg.inv([plan.cell.a, plan.cell.b, plan.cell.c])
    s0 = np.array(detector.beam) / experiment.beam.wavelength_A
    at_zero = hkl @ stars.T
    rows = []
    for number, (index, r) in enumerate(zip(hkl.tolist(), at_zero, strict=True)):
        for phi in _angles(r, s0, np.array(detector.spindle), experiment.rotation.phi_deg, span):
            ray = s0 + _turned(r, np.array(detector.spindle), math.radians(phi))
            rows += [(number, phi, index, place) for place in _met(experiment, detector.panels, ray)]
    rows.sort(key=lambda row: row[:2])
    return np.array([(*index, phi, *place) for _, phi, index, place in rows], dtype=CROSSING)


def _angles(r: np.ndarray, s0: np.ndarray, axis: np.ndarray, start: float, span: float) -> list[float]:
    """Where in a sweep |s0 + r| = |s0|, degrees."""
    along = axis * float(axis @ r)
    a, b = float(s0 @ (r - along)), float(s0 @ np.cross(axis, r))
    size = math.hypot(a, b)
    wanted = -float(r @ r) / 2.0 - float(s0 @ along)
    if not 0.0 < abs(wanted) <= size:
        return []
    middle, half = math.degrees(math.atan2(b, a)), math.degrees(math.acos(wanted / size))
    found = []
    for angle in {middle - half, middle + half}:
        first = start + (angle - start) % 360.0
        found += [first + 360.0 * turn for turn in range(math.ceil(max(0.0, start + span - first) / 360.0))]
    return sorted(found)


def _turned(r: np.ndarray, axis: np.ndarray, angle: float) -> np.ndarray:
    along = axis * (axis @ r)
    turned: np.ndarray = along + (r - along) * math.cos(angle) + np.cross(axis, r) * math.sin(angle)
    return turned


def _met(experiment: Experiment, panels: tuple[PlacedPanel, ...], ray: np.ndarray) -> list[tuple[float, float, int]]:
    """Slow and fast coordinates and the number of the panel that reads a ray; none if it misses them all."""
    ray = ray / np.linalg.norm(ray)
    for number, (g, sensor) in enumerate(zip(panels, experiment.detector.sensors, strict=True)):
        across = float(ray @ g.normal)
        if across <= 0.0:
            continue
        at = ray * (g.close_distance / across) - np.array(g.origin)
        if sensor.absorbs:
            depth = 1.0 / float(sensor.attenuation_per_m(experiment.beam.wavelength_A))
            path = sensor.thickness_um * 1e-6 / across
            at = at + (depth - (path + depth) * math.exp(-path / depth)) * ray
        skew = float(np.dot(g.fast, g.slow))
        f, s = float(at @ g.fast), float(at @ g.slow)
        fast, slow = ((f - skew * s) / (1.0 - skew * skew), (s - skew * f) / (1.0 - skew * skew))
        fast, slow = fast / g.pitch_fast, slow / g.pitch_slow
        if 0.0 <= fast < g.n_fast and 0.0 <= slow < g.n_slow:
            return [(slow + g.first_row, fast + g.first_column, number)]
    return []
