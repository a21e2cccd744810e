"""What the command says about a run: the quantities that nanoBragg prints, in its own words."""

from __future__ import annotations

import math

import numpy as np

from bragg_numba.conventions import AVOGADRO, DEGREES
from bragg_numba.experiment.placing import PlacedDetector
from bragg_numba.plan.plan import Plan
from bragg_numba.plan.transmission import TransmissionPlan, list_passed

#: Photons in the brightest pixel below which counts are next to none.
FEWEST_PHOTONS = 1e-3

#: What nanoBragg calls the shapes that it has.
_SHAPE_WORDS = {"square": "parallelpiped", "round": "ellipsoidal", "gauss": "gaussian", "tophat": "tophat-spot"}


def plan_report(plan: Plan) -> dict:
    """Derived quantities by name: SI units, degrees and angstrom as the names say."""
    d, cell, s = plan.detector, plan.cell, plan.sources
    n_panels = len(d.panels)
    sampling, crystal = plan.experiment.sampling, plan.experiment.crystal
    edges_m = [n * edge for n, edge in zip(plan.cell_counts, cell.edges_m, strict=True)]
    mass = math.prod(edges_m) * 1.2e6 * AVOGADRO / math.prod(plan.cell_counts)
    return {
        "convention": plan.experiment.detector.convention,
        "pivot": d.pivot,
        "fidelity": plan.experiment.fidelity,
        "unit_cell": [*cell.lengths_A, *cell.angles_deg],
        "reciprocal_cell": [*cell.reciprocal_lengths, *cell.reciprocal_angles_deg],
        "volume_A3": cell.volume_A3,
        "real_space_A": [cell.a, cell.b, cell.c],
        "reciprocal_space_per_A": [cell.a_star, cell.b_star, cell.c_star],
        "misset_deg": None if cell.misset_rad is None else [x * DEGREES for x in cell.misset_rad],
        "crystal_m": edges_m,
        "approximate_molecular_weight": mass,
        "cell_counts": plan.cell_counts,
        "shape": crystal.shape,
        "interpolate": plan.lookup.interpolate,
        "oversample": plan.oversample,
        "recommended_oversample": plan.recommended_oversample,
        "sources": len(s.wavelength),
        "divergence_points": s.divergence_points,
        "hdivrange_rad": s.horizontal.range,
        "hdivstep_rad": s.horizontal.step,
        "vdivrange_rad": s.vertical.range,
        "vdivstep_rad": s.vertical.step,
        "dispersion": s.dispersion.range,
        "dispsteps": s.dispersion.n,
        "wavelength_m": plan.experiment.beam.wavelength_A / 1.0e10,
        "mosaic_domains": plan.domains,
        "mosaic_spread_deg": plan.mosaic_spread * DEGREES,
        "mosaic_spreads_deg": crystal.mosaic_spread_deg if isinstance(crystal.mosaic_spread_deg, tuple) else None,
        "mosaic_model": crystal.mosaic_model if crystal.mosaic_rotations is None else "given",
        "cell_count_matrix": crystal.cell_count_matrix,
        "block_sizes": crystal.sizes,
        "blocks": crystal.scale,
        "phi_steps": plan.phi.n,
        "phi_start_deg": plan.experiment.rotation.phi_deg,
        "phi_end_deg": plan.experiment.rotation.phi_deg + plan.phi.range * DEGREES,
        "phi_step_deg": plan.phi.step * DEGREES,
        "layers": plan.layers.n,
        "layer_step_m": plan.layers.step,
        "thickness_m": plan.layers.range,
        "attenuation_per_m": plan.panels[0].attenuation if plan.layers.range else -1.0,
        "hkls": 0
        if plan.experiment.structure_factors.indices is None
        else len(plan.experiment.structure_factors.indices),
        "default_F": plan.experiment.structure_factors.default_F,
        "polarized": plan.experiment.beam.polarized,
        "polarization": plan.experiment.beam.polarization,
        "fluence_per_m2": plan.experiment.beam.photons_per_m2,
        "distance_m": d.distance,
        "close_distance_m": d.close_distance,
        "detector_size_m": [d.size_fast, d.size_slow] if d.is_single else None,
        "pixel_m": d.pixel_size,
        "pixels_fast_slow": [d.n_fast, d.n_slow],
        "Xbeam_m": _known(d.beam_x),
        "Ybeam_m": _known(d.beam_y),
        "Fbeam_m": _known(d.beam_fast),
        "Sbeam_m": _known(d.beam_slow),
        "Xclose_m": _known(d.close_x),
        "Yclose_m": _known(d.close_y),
        "Fclose_m": _known(d.close_fast),
        "Sclose_m": _known(d.close_slow),
        "origin_m": d.origin,
        "fast_axis": d.fast,
        "slow_axis": d.slow,
        "normal_axis": d.normal,
        "beam_axis": d.beam,
        "polarization_axis": d.polarization,
        "spindle_axis": d.spindle,
        "dials_origin_mm": d.dials_origin_mm,
        "xds_org_px": d.org_px if d.is_single else None,
        "geometry_file": plan.experiment.detector.geometry_file,
        "panels": None if n_panels == 1 else [panel.name for panel in d.panels],
        "roi": plan.roi,
        "oversample_flags": [name for name in ("thick", "polar", "omega") if getattr(sampling, f"oversample_{name}")],
        "lattices": None if plan.lattices is None else len(plan.lattices),
        "steps": plan.steps,
        "pixel_steps": plan.pixel_steps,
        "backgrounds": [] if plan.amorphous is None else plan.amorphous.molecules,
        "sensor": plan.experiment.detector.sensors[0].material,
        "transmission": [] if plan.transmission is None else _passed(plan.transmission),
        "dose_MGy": 0.0 if plan.experiment.damage is None else plan.experiment.damage.dose_MGy,
    }


def _passed(plan: TransmissionPlan) -> list[tuple[str, float | None]]:
    """What stands in the way, with its transmission at the middle of the first panel; None of what is nowhere alike."""
    return [(label, _known(part)) for label, part in list_passed(plan)]


def _known(value: float) -> float | None:
    """A length in the frame of one plane, which several panels have not."""
    return None if math.isnan(value) else value


#: Sub-steps of a pixel beyond which -printout_pixel prints its value alone: seconds of Python.
MOST_PRINTED_STEPS = 100_000


def pixel_lines(plan: Plan, fast: int, slow: int, photons: float) -> list[str]:
    """What nanoBragg prints of one pixel: of its last sub-step, its factors and its value (``photons``).

    Computed in float64. A pixel without sub-steps, or with very many, gets the line of its value alone.
    """
    value = "pixel   %15.10g" % photons
    if plan.steps * plan.layers.n > MOST_PRINTED_STEPS:
        return [f"{fast:4d} {slow:4d} : {plan.steps * plan.layers.n} sub-steps; bragg-numba trace lists them", value]
    from bragg_numba.trace.pixel import trace_pixel

    trace = trace_pixel(plan, slow, fast, max_steps=0)
    last, final = trace.last, trace.final
    if not last:
        return [f"{fast:4d} {slow:4d} : no sub-step", value]
    x, y, z = last["pixel_pos_meters"]
    # C takes two theta from lab x, whatever the beam's direction.
    from_x = math.sin(math.atan2(math.hypot(y, z), x) / 2.0) / plan.experiment.beam.wavelength_A
    names = ("rot_a_angstroms", "rot_b_angstroms", "rot_c_angstroms")
    return [
        f"{fast:4d} {slow:4d} : stol = {0.5 * math.hypot(*last['scattering_vec_A_inv']):g} or {from_x:g}",
        f"at {x:g} {y:g} {z:g}",
        "hkl= %f %f %f  hkl0= %d %d %d" % (*last["hkl_frac"], *last["hkl_rounded"]),
        " F_cell=%g  F_latt=%g   I = %g" % (last["F_cell"], last["F_latt"], final["I_before_scaling"]),
        "I/steps %15.10g" % (final["I_before_scaling"] / plan.steps),
        "polar   %15.10g" % final["polar"],
        "omega   %15.10g" % final["omega_pixel"],
        "capfrac %15.10g" % final["capture_fraction"],
        value,
        "real-space cell vectors (Angstrom):",
        *_matrix_lines([last[name] for name in names], ("a", "b", "c")),
    ]


def result_doubts(plan: Plan, statistics, written: dict) -> list[str]:
    """Say in a sentence each what of an image is hardly what somebody wants: nothing on it, or nothing but overloads.

    ``statistics`` are those of the frame; ``written`` is what the outputs returned.
    """
    if statistics.max == 0.0:
        return [f"no pixel has a photon: {_why_dark(plan)}"]
    doubts = []
    if "noise_photons" in written and statistics.max < FEWEST_PHOTONS:
        doubts.append(
            f"the brightest pixel expects {statistics.max:.2g} photons, so that the noise image holds next to none: "
            f"the fluence is {plan.experiment.beam.photons_per_m2:.4g} photons/m^2"
        )
    for key, flag, remedy in (("overloads", "noise", "lower -fluence"), ("int_overloads", "integer", "lower -scale")):
        if 2 * written.get(key, 0) > statistics.pixels:
            shown = f"{written[key]} of {statistics.pixels} pixels"
            doubts.append(f"{shown} of the {flag} image are saturated at 65535: {remedy}")
    return doubts


def _why_dark(plan: Plan) -> str:
    """The likeliest reason why no pixel has a photon."""
    if plan.experiment.beam.photons_per_m2 == 0.0:
        return "the fluence is 0"
    if plan.lattices == ():
        return "the beam hits no crystal"
    if plan.mask.size and not plan.mask.any():
        return "the mask skips all of them (its pixels are 0)"
    factors = plan.experiment.structure_factors
    if factors.default_F == 0.0 and not plan.table.any():
        return "all structure factors are 0"
    if plan.transmission is not None:
        return "what meets one, if any does, is stopped on its way"
    if plan.experiment.sampling.dmin_A > 0.0:
        return f"none lies within -dmin {plan.experiment.sampling.dmin_A:g} A, or no reflection does"
    if plan.experiment.crystal.shape in ("gauss", "tophat"):
        return "no spot is wide enough to meet one"
    return "no reflection with a structure factor meets one"


def _g(values, form: str = "%g") -> str:
    return " ".join(form % value for value in values)


def plan_lines(plan: Plan) -> list[str]:
    """The plan as nanoBragg prints it."""
    r = plan_report(plan)
    d = plan.detector
    normal = _cross(d.beam, d.polarization)
    beam_on_detector = [sum(b * v for b, v in zip(d.beam, axis, strict=True)) for axis in (d.fast, d.slow, d.normal)]
    lines = [f"geometry of {r['geometry_file']}: {len(d.panels)} panels"] if r["geometry_file"] else []
    lines += [
        f"{r['convention']} convention selected.",
        "pivoting detector around " + ("direct beam spot" if r["pivot"] == "beam" else "sample"),
        f"XDS incident beam: {_g(beam_on_detector)}",
        ("" if r["interpolate"] else "no ") + "tricubic interpolation of structure factors",
    ]
    if r["misset_deg"] is not None:
        lines.append(f"misset angles: {_g(r['misset_deg'], '%f')} deg")
    lines += [
        f"Unit Cell: {_g(r['unit_cell'])}",
        f"Recp Cell: {_g(r['reciprocal_cell'])}",
        "volume = %g A^3" % r["volume_A3"],
        "real-space cell vectors (Angstrom):",
        *_matrix_lines(r["real_space_A"], ("a", "b", "c")),
        "reciprocal-space cell vectors (Angstrom^-1):",
        *_matrix_lines(r["reciprocal_space_per_A"], ("a_star", "b_star", "c_star")),
        "crystal is %g x %g x %g microns" % tuple(x * 1e6 for x in r["crystal_m"]),
        f"{r['oversample']}-fold oversampling (recommended: {r['recommended_oversample']})",
        "approximate MW = %g" % r["approximate_molecular_weight"],
        f"  created a total of {r['sources']} sources",
        f"  created a total of {r['mosaic_domains']} mosaic domains",
        "  %d initialized hkls (all others =%g)" % (r["hkls"], r["default_F"]),
        "  %s xtal: %dx%dx%d cells" % (_SHAPE_WORDS.get(r["shape"], r["shape"]), *r["cell_counts"]),
        "  wave=%g meters +/- %g%% in %d steps" % (r["wavelength_m"], r["dispersion"] * 100, r["dispsteps"]),
        "  Kahn polarization factor: %f" % r["polarization"] if r["polarized"] else "  polarization effect disabled",
        "  incident fluence: %g photons/m^2" % r["fluence_per_m2"],
        *_size_lines(r, d),
        "  sensor%s is %g m thick in %d layers with mu= %g"
        % (f" of {r['sensor']}" if r["sensor"] else "", r["thickness_m"], r["layers"], r["attenuation_per_m"]),
    ]
    lines += [
        *_centre_lines(r, d),
        f"  DIRECTION_OF_DETECTOR_X-AXIS= {_g(d.fast)}",
        f"  DIRECTION_OF_DETECTOR_Y-AXIS= {_g(d.slow)}",
        f"  DIRECTION_OF_DETECTOR_Z-AXIS= {_g(d.normal)}",
        f"  INCIDENT_BEAM_DIRECTION= {_g(d.beam)}",
        f"  spindle ROTATION_AXIS= {_g(d.spindle)}",
        f"  POLARIZATION_PLANE_NORMAL= {_g(normal)}",
        f"  dials origin= {_g(r['dials_origin_mm'])}",
        "  roi: %d < x < %d && %d < y < %d" % plan.roi,
        "  hdivrange=%g hdivstep=%g  radians" % (r["hdivrange_rad"], r["hdivstep_rad"]),
        "  vdivrange=%g vdivstep=%g  radians" % (r["vdivrange_rad"], r["vdivstep_rad"]),
        f"  {r['divergence_points']} divergence steps",
        f"  {r['sources']} sources",
        "  %d mosaic domains over mosaic spread of %g degrees" % (r["mosaic_domains"], r["mosaic_spread_deg"]),
        "  %d phi steps from %g to %g degrees" % (r["phi_steps"], r["phi_start_deg"], r["phi_end_deg"]),
        f"  {r['oversample']}x{r['oversample']} pixel oversample steps"
        + "".join(f" +{name}" for name in r["oversample_flags"]),
    ]
    lines += _block_lines(r)
    lines += [f"  background {label}: {molecules:g} molecules" for label, molecules in r["backgrounds"]]
    lines += [
        f"  {label}" + ("" if part is None else f": {part:.6g} of the photons to the middle of the detector pass")
        for label, part in r["transmission"]
    ]
    if plan.experiment.damage is not None:
        left = plan.experiment.damage.intensity_left(np.array(2.0))
        lines.append(f"  dose {r['dose_MGy']:g} MGy: {left:.4g} of the intensity is left at 2 A")
    return lines


def _block_lines(r: dict) -> list[str]:
    """What nanoBragg has no words for: how domains were drawn or given, and how large blocks are."""
    lines = []
    if r["mosaic_spreads_deg"] is not None:
        lines.append(f"  mosaic spreads about lab x y z: {_g(r['mosaic_spreads_deg'])} degrees")
    if r["mosaic_model"] != "cap":
        words = {"gauss": "drawn with normally distributed angles", "given": "as they are given"}
        lines.append(f"  mosaic domains {words[r['mosaic_model']]}")
    if r["cell_count_matrix"] is not None:
        lines.append("  cells along and across a, b, c: " + "; ".join(_g(row) for row in r["cell_count_matrix"]))
    if r["block_sizes"] is not None:
        total = math.fsum(row[3] for row in r["block_sizes"])
        lines += ["  %.4g of the blocks: %dx%dx%d cells" % (row[3] / total, *row[:3]) for row in r["block_sizes"]]
    if r["blocks"] != 1.0:
        lines.append("  %g blocks in the beam" % r["blocks"])
    return lines


def _size_lines(r: dict, d: PlacedDetector) -> list[str]:
    """Distance and size of the detector; of several panels how many there are, and which one stands for them below."""
    pixels = "%dx%d pixels" % tuple(r["pixels_fast_slow"])
    if not d.is_single:
        return [f"  {len(d.panels)} panels in {pixels}; distance and axes are those of the one nearest to the beam"]
    size = "%gx%g  pixel=%g meters" % (*r["detector_size_m"], r["pixel_m"])
    return [f"  distance={r['distance_m']:g} detsize={size} ({pixels})"]


def _centre_lines(r: dict, d: PlacedDetector) -> list[str]:
    if not d.is_single:
        return []
    pairs = (("Xbeam", "Ybeam"), ("Fbeam", "Sbeam"), ("Xclose", "Yclose"), ("Fclose", "Sclose"))
    return [f"  {x}={r[x + '_m']:g} {y}={r[y + '_m']:g}" for x, y in pairs]


def _matrix_lines(vectors, names) -> list[str]:
    head = "     %-10s  %-10s  %-10s" % names
    rows = [f"{axis}: " + " ".join("%11.8f" % v[i] for v in vectors) for i, axis in enumerate("XYZ")]
    return [head, *rows]


def _cross(u, v):
    return (u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0])
