"""The files that a command line asks for."""

from __future__ import annotations

import numpy as np

from bragg_numba.conventions import DEGREES
from bragg_numba.errors import InputError
from bragg_numba.plan.plan import Plan


def write_outputs(request, sim, image: np.ndarray, command: str, structure_factors: dict) -> dict:
    """Write every file of a request; return their names, the scales and the overloads.

    Parameters
    ----------
    request
        The dialect's Request.
    sim
        The Simulator that rendered ``image``, (slow, fast) float32 photons.
    command
        The command line, for the files that keep it.
    structure_factors
        What their list holds and lacks, likewise.
    """
    plan: Plan = sim.plan
    written: dict = {"files": []}
    if request.dump_file:
        write_dump_of(request, plan, written)
    if request.float_file:
        from bragg_numba.io.raw import write_raw

        write_raw(request.float_file, image)
        written["files"].append(request.float_file)
    if request.int_file or request.pgm_file:
        _write_integers(request, sim, image, written)
    if request.noise_file:
        _write_noise(request, plan, image, written)
    if request.h5_file:
        from bragg_numba.io.frame_file import write_frame

        write_frame(
            request.h5_file,
            image,
            plan.experiment.to_json(),
            command=command,
            seeds=used_seeds(request, plan),
            statistics=sim.statistics.as_dict(),
            rendering=sim.describe_rendering(),
            structure_factors=structure_factors,
        )
        written["files"].append(request.h5_file)
    if request.png_file:
        from bragg_numba.io.png import write_png

        write_png(request.png_file, image)
        written["files"].append(request.png_file)
    return written


def used_seeds(request, plan: Plan) -> dict[str, int]:
    """Every seed of a run by name, given or by default."""
    crystal = plan.experiment.crystal
    return {"noise": request.seed, "mosaic": crystal.mosaic_seed, "misset": crystal.misset_seed}


def smv_header(plan: Plan):
    """The SMV header that nanoBragg writes for this plan."""
    from bragg_numba.io.smv import SmvHeader

    d = plan.detector
    d.require_single("an SMV header")
    pixel = d.pixel_size
    half = 0.5 * pixel
    phi_deg = plan.experiment.rotation.phi_deg / DEGREES * DEGREES
    return SmvHeader(
        size1=d.n_fast,
        size2=d.n_slow,
        pixel_size_mm=pixel * 1000.0,
        distance_mm=d.distance * 1000.0,
        wavelength_A=plan.experiment.beam.wavelength_A / 1.0e10 * 1e10,
        beam_center_x_mm=d.beam_x * 1000.0,
        beam_center_y_mm=d.beam_y * 1000.0,
        adxv_center_x_mm=d.beam_fast * 1000.0,
        adxv_center_y_mm=(d.size_slow - d.beam_slow) * 1000.0,
        mosflm_center_x_mm=(d.beam_slow - half) * 1000.0,
        mosflm_center_y_mm=(d.beam_fast - half) * 1000.0,
        denzo_x_beam_mm=d.beam_slow * 1000.0,
        denzo_y_beam_mm=d.beam_fast * 1000.0,
        dials_origin_mm=d.dials_origin_mm,
        xds_orgx=d.org_px[0],
        xds_orgy=d.org_px[1],
        close_distance_mm=d.close_distance * 1000.0,
        phi_deg=phi_deg,
        osc_start_deg=phi_deg,
        osc_range_deg=plan.phi.range * DEGREES,
        twotheta_deg=plan.experiment.detector.twotheta_deg / DEGREES * DEGREES,
    )


def write_dump_of(request, plan: Plan, written: dict) -> None:
    """Write the cache of -hkl; where that fails the run goes on, as in nanoBragg."""
    from bragg_numba.io.structure_factor_files import write_dump

    first = (plan.lookup.h_first + 1, plan.lookup.k_first + 1, plan.lookup.l_first + 1)
    try:
        write_dump(request.dump_file, np.array(first), plan.table[1:-1, 1:-1, 1:-1])
    except InputError as error:
        request.notes.append(f"no cache of the structure factors: {error}")
        from bragg_numba.cli.console import say_notes

        say_notes(request.notes[-1:])
        return
    written["files"].append(request.dump_file)


def _write_integers(request, sim, image, written: dict) -> None:
    from bragg_numba.io.atomic import write_bytes
    from bragg_numba.io.integers import pgm_bytes, scaled_integers
    from bragg_numba.io.smv import smv_bytes

    plan, statistics = sim.plan, sim.statistics
    scale = request.int_scale
    if request.int_file:
        integers, scale = scaled_integers(image, scale, request.adc, plan.roi, statistics.max)
        write_bytes(request.int_file, smv_bytes(smv_header(plan), integers))
        written["intfile_scale"] = scale
        written["int_overloads"] = int(np.count_nonzero(integers == 65535))
        written["files"].append(request.int_file)
    elif scale <= 0.0:
        scale = 55000.0 / statistics.max if statistics.max > 0.0 else 1.0
    if request.pgm_file:
        data, pgm_scale = pgm_bytes(image, request.pgm_scale, scale, statistics.rmsd, plan.roi)
        write_bytes(request.pgm_file, data)
        written["pgm_scale"] = pgm_scale
        written["files"].append(request.pgm_file)


def _write_noise(request, plan: Plan, image, written: dict) -> None:
    from bragg_numba.io.atomic import write_bytes
    from bragg_numba.io.smv import smv_bytes

    if request.noise == "philox":
        counts, photons, overloads = _philox_counts(request, plan, image)
    else:
        from bragg_numba.plan.orientations import stream_after_crystal
        from bragg_numba.response.classic import noise_image

        # A negative seed goes on with what the crystal's random numbers left behind, as in C.
        stream = stream_after_crystal(plan.experiment.crystal) if request.seed < 0 else None
        counts, photons, overloads = noise_image(image, request.seed, request.adc, plan.roi, stream)
    write_bytes(request.noise_file, smv_bytes(smv_header(plan), counts))
    written["noise_photons"], written["overloads"] = photons, overloads
    written["files"].append(request.noise_file)


def _philox_counts(request, plan: Plan, image) -> tuple[np.ndarray, float, int]:
    """Poisson counts plus offset, saturating at 16 bits; outside the region 0."""
    from bragg_numba.response.counter import poisson

    drawn = poisson(image, request.seed)
    fast_min, fast_max, slow_min, slow_max = plan.roi
    inside = (slice(slow_min, slow_max + 1), slice(fast_min, fast_max + 1))
    region = drawn[inside]
    photons = float(region.sum(dtype=np.uint64))
    shifted = region + np.float64(request.adc)
    overloads = int(np.count_nonzero(shifted > 65535.0))
    counts = np.zeros(image.shape, dtype=np.uint16)
    counts[inside] = np.clip(shifted, 0.0, 65535.0).astype(np.uint16)
    return counts, photons, overloads
