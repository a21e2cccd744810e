"""Trace one pixel: every intermediate quantity of its intensity, under the names of the reference.

The loops below are those of the float64 kernel, one pixel at a time; neither the equations (``kernels/physics.py``)
nor the decisions (``kernels/walk.py``) are written again, but called. So the traced value is the rendered one to the
last bit, and a test holds it there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from bragg_numba import checks as check
from bragg_numba.conventions import DEGREES
from bragg_numba.errors import InputError
from bragg_numba.experiment.vectors import as_vector, cross, dot, scale
from bragg_numba.kernels import physics, walk
from bragg_numba.kernels.parameters import SQUARE
from bragg_numba.plan.plan import Plan
from bragg_numba.trace.setup_taps import setup_lines, setup_taps
from bragg_numba.trace.taps import (
    FINAL_NAMES,
    OUR_STEP_NAMES,
    PLACE_NAMES,
    REFERENCE_STEP_NAMES,
    STEP_NAMES,
    UNITS,
    json_tap,
    number,
    tap_line,
)

__all__ = ["MAX_STEPS", "Trace", "trace_pixel"]

#: Sub-steps whose taps are kept unless told otherwise: about 30 MB.
MAX_STEPS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace(Mapping):
    """Every quantity of one pixel, by the reference's tap names.

    ``trace["I_pixel_final"]`` is a number, ``trace["hkl_frac"]`` a list with one entry per sub-step
    (layers outermost, then sub-pixels, sources, spindle steps, mosaic domains), ``trace["pix0_vector"]`` a
    vector of the set-up.
    """

    slow: int
    fast: int
    setup: dict = field(repr=False)  #: taps made once, while the detector is placed
    steps: dict[str, list] = field(repr=False)  #: tap -> one value per kept sub-step
    final: dict = field(repr=False)  #: taps made after all sub-steps
    step_count: int  #: sub-steps of the pixel, kept or not, sensor layers included
    last: dict = field(repr=False)  #: taps of the last sub-step within dmin, listed or not; empty if there is none
    notes: tuple[str, ...] = ()

    @property
    def value(self) -> np.float32:
        """The pixel as it is stored in the frame, photons."""
        return np.float32(self.final["floatimage_accumulated"])

    @property
    def kept(self) -> int:
        """Sub-steps whose taps are listed."""
        return len(self.steps["layer"])

    @staticmethod
    def unit(name: str) -> str:
        """Unit of a tap; empty for a pure number."""
        return UNITS.get(name, "")

    def __getitem__(self, name: str):
        for taps in (self.final, self.steps, self.setup):
            if name in taps:
                return taps[name]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        yield from self.setup
        yield from self.steps
        yield from self.final

    def __len__(self) -> int:
        return len(self.setup) + len(self.steps) + len(self.final)

    def as_dict(self) -> dict:
        """Return a form that JSON can hold, with a unit beside each value."""
        taps = {name: {"value": json_tap(name, self[name]), "unit": self.unit(name)} for name in self}
        return {
            "pixel": {"slow": self.slow, "fast": self.fast},
            "sub_steps": self.step_count,
            "sub_steps_listed": self.kept,
            "notes": list(self.notes),
            "taps": taps,
        }

    def json(self) -> str:
        """Return the trace as JSON text."""
        return json.dumps(self.as_dict(), allow_nan=False)

    def text(self, *, every_step: bool = False) -> str:
        """Return ``TRACE_C: name value`` lines in the reference's form and order.

        Parameters
        ----------
        every_step
            Print every kept sub-step and our own taps; the reference prints, for each source, the first
            spindle step and domain, and a line for each further spindle step.
        """
        lines = setup_lines(self.setup)
        lines.append(f"TRACE_CONFIG: tracing pixel (spixel={self.slow}, fpixel={self.fast})")
        lines += self._every_step() if every_step else self._as_the_reference()
        lines += [tap_line(name, value) for name, value in self.final.items()]
        lines += [f"# {note}" for note in self.notes]
        return "\n".join(lines) + "\n"

    def _every_step(self) -> Iterator[str]:
        for i in range(self.kept):
            for name in (*PLACE_NAMES, *REFERENCE_STEP_NAMES, *OUR_STEP_NAMES):
                yield tap_line(name, self.steps[name][i])

    def _as_the_reference(self) -> Iterator[str]:
        for i in range(self.kept):
            phi, domain = self.steps["phi_tic"][i], self.steps["mos_tic"][i]
            if domain == 0 and phi == 0:
                for name in REFERENCE_STEP_NAMES[:-1]:
                    yield tap_line(name, self.steps[name][i])
            if domain == 0:
                yield self._phi_line(i)
            if domain == 0 and phi == 0:
                yield tap_line("F_cell", self.steps["F_cell"][i])

    def _phi_line(self, i: int) -> str:
        pairs = {
            "phi_tic": self.steps["phi_tic"][i],
            "phi_deg": self.steps["phi_deg"][i],
            "k_frac": self.steps["hkl_frac"][i][1],
            "F_latt_b": self.steps["F_latt_b"][i],
            "F_latt": self.steps["F_latt"][i],
        }
        return "TRACE_C_PHI " + " ".join(f"{name}={number(value)}" for name, value in pairs.items())


def trace_pixel(plan: Plan, slow: int, fast: int, max_steps: int = MAX_STEPS) -> Trace:
    """Trace one pixel of a plan in float64.

    Parameters
    ----------
    plan
        The plan that is rendered.
    slow, fast
        The pixel.
    max_steps
        Sub-steps whose taps are kept; the sums are over all of them whatever it is.

    Raises
    ------
    InputError
        If the pixel does not lie on the detector, or the frame has lattices or sizes of blocks: each is traced alone.
    """
    if plan.lattices is not None:
        hint = "trace Experiment.of_lattice(i) for each"
        raise InputError("Experiment.lattices", "cannot be traced together", f"{len(plan.lattices)} lattices", hint)
    if plan.sizes is not None:
        hint = "trace Experiment.of_size(i) for each"
        raise InputError("Crystal.block_sizes", "cannot be traced together", f"{len(plan.sizes)} sizes", hint)
    n_slow, n_fast = plan.shape
    slow = check.count("slow", slow, high=n_slow - 1, hint=f"the detector has {n_slow} x {n_fast} pixels, slow x fast")
    fast = check.count("fast", fast, high=n_fast - 1, hint=f"the detector has {n_slow} x {n_fast} pixels, slow x fast")
    max_steps = check.count("max_steps", max_steps)
    return _Walk(plan, slow, fast, max_steps).trace()


def _why_not_rendered(plan: Plan, slow: int, fast: int) -> str | None:
    fast_min, fast_max, slow_min, slow_max = plan.roi
    if not (fast_min <= fast <= fast_max and slow_min <= slow <= slow_max):
        return (
            f"the pixel lies outside the region of interest (fast {fast_min}..{fast_max}, slow {slow_min}..{slow_max})"
        )
    if plan.panel_of(slow, fast) is None:
        return "the pixel lies on no panel"
    if plan.mask.size and not plan.mask[slow, fast]:
        return "the pixel is masked"
    return None


class _Walk:
    """The loops of one pixel; its attributes are what the kernel keeps for a pixel between steps."""

    def __init__(self, plan: Plan, slow: int, fast: int, max_steps: int) -> None:
        self.plan, self.slow, self.fast, self.max_steps = plan, slow, fast, max_steps
        # A pixel of no panel has no sub-steps: any panel will do.
        self.number = plan.panel_of(slow, fast)
        self.panel = plan.panels[self.number or 0]
        self.steps: dict[str, list] = {name: [] for name in STEP_NAMES}
        self.count = 0
        self.dropped = 0  #: beyond dmin
        self.missed = 0  #: interpolations that left the table
        self.latest: tuple | None = None  #: what the taps of the last sub-step within dmin are made from
        self.total = float(plan.rules.background)
        self.flat = 0.0  #: the flat background's share
        self.capture = self.omega = 1.0
        self.polar = walk.first_polarization(self.panel)
        self.ray = self.incident = (math.nan,) * 3
        lattice = plan.lattice
        self.volume_squared = (lattice.n_a * lattice.n_b * lattice.n_c) ** 2
        self.cells = [tuple(map(float, cell)) for cell in plan.cells]
        self.shares = [float(share) for share in plan.shares]
        self.reciprocal = (plan.cell.a_star, plan.cell.b_star, plan.cell.c_star)

    def trace(self) -> Trace:
        why_not = _why_not_rendered(self.plan, self.slow, self.fast)
        if why_not is None:
            self._walk_layers()
        return Trace(
            slow=self.slow,
            fast=self.fast,
            setup=setup_taps(self.plan, self.number),
            steps=self.steps,
            final=self._final(rendered=why_not is None),
            step_count=self.count,
            last={} if self.latest is None else self._taps(*self.latest),
            notes=tuple(self._notes(why_not)),
        )

    def _walk_layers(self) -> None:
        g, rules = self.panel, self.plan.rules
        for layer in range(g.layers):
            depth = layer * g.layer_step
            for sub in range(g.oversample * g.oversample):
                place = (layer, sub // g.oversample, sub % g.oversample)
                position, airpath = self._aim(place, depth)
                if walk.needs_capture(rules, sub):
                    self.capture = walk.capture(g.curved, g, rules, layer, *self.ray)
                if walk.needs_solid_angle(rules, layer, sub):
                    near = walk.near_plane(g, rules, depth)
                    self.omega = physics.solid_angle(airpath, g.pitch_fast, g.height, near, g.point_pixel)
                for source in range(len(self.plan.sources.wavelength)):
                    self._walk_source((*place, source), position, airpath)

    def _aim(self, place, depth: float):
        g = self.panel
        _, sub_slow, sub_fast = place
        fast, slow = walk.subpixel_place(g, self.slow - g.first_row, self.fast - g.first_column, sub_slow, sub_fast)
        position = physics.pixel_position(g.curved, g, fast, slow, depth)
        *ray, airpath = walk.direction(*position)
        self.ray = tuple(ray)
        return position, airpath

    def _walk_source(self, place, position, airpath: float) -> None:
        plan, g, rules = self.plan, self.panel, self.plan.rules
        source = place[-1]
        self.incident = as_vector(plan.sources.incident[source])
        wavelength, weight = float(plan.sources.wavelength[source]), float(plan.sources.weight[source])
        q = physics.scattering_vector(*self.ray, *self.incident, wavelength)
        keep = walk.keep_within_dmin(g, *q)
        if walk.needs_polarization(g, rules, keep, self.polar):
            self.polar = walk.polarization(g, *self.incident, *self.ray)
        self.dropped += (keep == 0.0) * len(self.cells)
        if rules.per_term:
            share = walk.share_of_term(self.omega, self.polar, self.capture, weight)
            self.flat += share
            keep *= share
        else:
            keep *= weight
        ray = {
            "pix0_vector_meters": (g.origin_x, g.origin_y, g.origin_z),
            "fdet_vec": (g.fast_x, g.fast_y, g.fast_z),
            "sdet_vec": (g.slow_x, g.slow_y, g.slow_z),
            "pixel_pos_meters": position,
            "R_distance_meters": airpath,
            "omega_pixel_sr": self.omega,
            "close_distance_meters": g.close_distance,
            "obliquity_factor": g.close_distance / airpath,
            "diffracted_vec": self.ray,
            "incident_vec": self.incident,
            "lambda_meters": wavelength,
            "lambda_angstroms": wavelength * 1e10,
            "scattering_vec_A_inv": q,
            "source_weight": weight,
            "capture_step": self.capture,
            "polar_step": self.polar,
            "kept": keep,
        }
        for step, (cell, share) in enumerate(zip(self.cells, self.shares, strict=True)):
            ray["domain_share"] = share
            self._add_step((*place, step // plan.domains, step % plan.domains), dict(ray), cell, q, keep)

    def _add_step(self, place, ray: dict, cell, q, keep: float) -> None:
        lattice, lookup = self.plan.lattice, self.plan.lookup
        hkl = walk.indices(*cell, *q)
        square = walk.lattice_factor(lattice.shape, lattice, *hkl)
        if self.plan.dispersion is not None:
            source = place[PLACE_NAMES.index("source")]
            f_cell, missed = walk.dispersed_factor(lookup, self.plan.dispersion.kernels, source, *hkl)
        else:
            f_cell, missed = walk.structure_factor(lookup.has_table, lookup.interpolate, lookup, self.plan.table, *hkl)
        self.missed += missed
        term = f_cell * f_cell * (self.volume_squared * ray["domain_share"] * square)
        if self.plan.rules.running:
            factors = (keep, self.capture, self.polar, self.omega)
            self.total = walk.add_running(self.plan.rules, self.total, term, square, *factors)
        else:
            self.total += keep * term
        made = (place, ray, cell, hkl, square, f_cell, term, self.total)
        if self.count < self.max_steps:
            for name, value in self._taps(*made).items():
                self.steps[name].append(value)
        if keep != 0.0:
            self.latest = made
        self.count += 1

    def _taps(self, place, ray: dict, cell, hkl, square: float, f_cell: float, term: float, total: float) -> dict:
        """Every tap of one sub-step."""
        taps = dict(zip(PLACE_NAMES, place, strict=True)) | ray
        a, b, c = (scale(cell[i : i + 3], 1e10) for i in (0, 3, 6))
        taps |= {"rot_a_angstroms": a, "rot_b_angstroms": b, "rot_c_angstroms": c}
        # The reference prints the reciprocal cell before phi and mosaic under these names.
        names = ("rot_a_star_A_inv", "rot_b_star_A_inv", "rot_c_star_A_inv")
        taps |= dict(zip(names, self.reciprocal, strict=True))
        per_volume = 1.0 / dot(a, cross(b, c))
        taps |= {
            "turned_a_star_A_inv": scale(cross(b, c), per_volume),
            "turned_b_star_A_inv": scale(cross(c, a), per_volume),
            "turned_c_star_A_inv": scale(cross(a, b), per_volume),
        }
        phi = self.plan.experiment.rotation.phi_deg / DEGREES + self.plan.phi.step * place[-2]
        taps |= {"phi_deg": phi * DEGREES, "hkl_frac": hkl}
        taps["hkl_rounded"] = tuple(float(physics.nearest_index(x)) for x in hkl)
        taps |= self._lattice_amplitudes(hkl, square)
        return taps | {"F_cell": float(f_cell), "term": term, "I_running": total}

    def _lattice_amplitudes(self, hkl, square: float) -> dict[str, float]:
        """Amplitudes, for people: the kernels need only their squares."""
        lattice = self.plan.lattice
        counts = (lattice.n_a, lattice.n_b, lattice.n_c)
        names = ("F_latt_a", "F_latt_b", "F_latt_c")
        if lattice.shape != SQUARE:
            # No product of three gratings: the whole stands in F_latt alone.
            return {**dict.fromkeys(names, math.nan), "F_latt": math.sqrt(self.volume_squared * square)}
        parts = [grating(x, n) for x, n in zip(hkl, counts, strict=True)]
        return {**dict(zip(names, parts, strict=True)), "F_latt": parts[0] * parts[1] * parts[2]}

    def _final(self, *, rendered: bool) -> dict:
        plan, rules = self.plan, self.plan.rules
        sampling = plan.experiment.sampling
        value = self._scaled() if rendered else 0.0
        taps = {
            "I_before_scaling": self.total if rendered else 0.0,
            "r_e_meters": math.sqrt(physics.R_E_SQUARED),
            "r_e_sqr": physics.R_E_SQUARED,
            # From the factor that the kernels apply, so that a wrong one shows here.
            "fluence_photons_per_m2": rules.scale
            * plan.steps
            / physics.R_E_SQUARED
            / self.plan.experiment.crystal.scale,
            "steps": plan.steps,
            "oversample_thick": int(sampling.oversample_thick),
            "oversample_polar": int(sampling.oversample_polar),
            "oversample_omega": int(sampling.oversample_omega),
        }
        if rendered:
            # The factors in use at the last sub-step; the running and the physical rules apply them before.
            taps |= {"capture_fraction": self.capture, "polar": self.polar, "omega_pixel": self.omega}
            taps["cos_2theta"] = dot(self.incident, self.ray)
        with np.errstate(over="ignore"):
            stored = float(np.float32(value))
        taps |= {"I_pixel_final": value, "floatimage_accumulated": stored}
        return {name: taps[name] for name in FINAL_NAMES if name in taps}

    def _scaled(self) -> float:
        n_sources = len(self.plan.sources.wavelength)
        factors = (self.capture, self.polar, self.omega, self.flat)
        return walk.finish(self.panel, self.plan.rules, n_sources, self.total, *factors)

    def _notes(self, why_not: str | None) -> Iterator[str]:
        if why_not is not None:
            yield f"{why_not}: it is 0 and has no sub-steps"
        if self.count > self.max_steps:
            yield f"the taps of the first {self.max_steps} of {self.count} sub-steps are listed; the sums hold all"
        if self.dropped:
            yield f"{self.dropped} of {self.count} sub-steps lie beyond dmin and add nothing"
        if self.missed:
            yield f"{self.missed} interpolations reached beyond the structure factor table and took the nearest entry"
        if (blocks := self.plan.experiment.crystal.scale) != 1.0:
            yield f"I_pixel_final is that of {blocks:g} blocks (eq. 50): I_before_scaling is that of one"
        if self.plan.rules.running:
            yield "factors that the running rules apply after every sub-step are not applied again at the end"
        if self.plan.rules.per_term:
            yield (
                "fidelity physical: every term carries its own solid angle, polarization and capture; "
                "capture_fraction, polar and omega_pixel are those of the last sub-step and not applied again"
            )


def grating(h: float, n: float) -> float:
    """Amplitude sin(pi n h) / sin(pi h) of n cells in a row, with its sign, from the kernels' square."""
    size = n * math.sqrt(physics.grating_squared(h, n))
    delta = physics.fraction(h)
    if delta == 0.0:
        return size
    # Reducing h by m turns the sign m (n - 1) times, reducing n delta by p turns it p times.
    turns = (h - delta) * (n - 1.0) + (n * delta - physics.fraction(n * delta))
    sign = math.copysign(1.0, delta) * math.copysign(1.0, physics.fraction(n * delta))
    return -sign * size if math.fmod(turns, 2.0) != 0.0 else sign * size
