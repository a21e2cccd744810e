"""What the master of a series says about its frames, and the text files beside it."""

from __future__ import annotations

import json
import os

import numpy as np

from bragg_numba.experiment import Detector
from bragg_numba.experiment.placing import place_detector
from bragg_numba.io.exports import crystfel_geom, dials_import, is_upright, pyfai_poni, xds_input
from bragg_numba.io.geom_file import parse_geom
from bragg_numba.io.geometry import Geometry
from bragg_numba.io.nxmx import DEAD, GAP, NOISY, SENSORS, USER, VIRTUAL, Description, McStasGeometry, RecordedBy
from bragg_numba.plan.doubts import coarse_channels
from bragg_numba.plan.plan import Plan, make_plan
from bragg_numba.predict.holes import report_holes
from bragg_numba.render.transmission import transmission_image
from bragg_numba.series.mcstas import mcstas_geometry, mcstas_rotation
from bragg_numba.series.recorder import response_of
from bragg_numba.versions import versions


def describe(series, dtype: str, frames: int, output: dict) -> tuple[Description, list[str]]:
    """What the master of a series says, and notes on what NXmx cannot say."""
    notes: list[str] = list(series.experiment.detector.geometry_notes)
    table = series.frames
    experiment, shift = series.experiment_of(0), None
    plan = make_plan(experiment)
    centres = [table[name] for name in ("beam_x_mm", "beam_y_mm") if name in table]
    moves = table["detector_shift_mm"] if "detector_shift_mm" in table else np.zeros((1, 3))
    if any(np.ptp(values) > 0.0 for values in centres) or np.ptp(moves, axis=0).any():
        turn = mcstas_rotation(plan.experiment, plan.detector)
        shift = _shifts(series, plan) if centres else (moves - moves[0]) @ turn.T / 1000.0
        what = "beam centre" if centres else "place of the detector"
        notes.append(
            f"the {what} varies: detector/shift has every frame's, and CrystFEL follows it; DIALS, XDS and pyFAI "
            "know one geometry a file, that of the first frame"
        )
    if experiment.detector.curved:
        notes.append("NXmx knows no curved detectors: the master describes the plane that touches at the beam centre")
    geometry = mcstas_geometry(experiment, plan.detector)
    if not geometry.is_single:
        notes += _panel_notes(geometry, experiment.detector)
    material = experiment.detector.sensors[0].formula
    if material is not None and material not in SENSORS:
        notes.append(
            f"DIALS knows sensors of {', '.join(SENSORS)} alone: the master says {SENSORS[0]}, and {material} beside it"
        )
    coarse = coarse_channels(experiment, plan.detector, plan.cell, plan.cell_counts, plan.sources)
    if coarse:
        notes.append(coarse)
    omega = _omega(series, plan, notes)
    wavelength, spectra = _wavelengths(series, plan)
    beam, detector, cell = experiment.beam, plan.detector, plan.cell
    return Description(
        dtype=dtype,
        frames=frames,
        geometry=geometry,
        pixel_mask=_pixel_mask(plan),
        sensor_um=experiment.detector.sensors[0].thickness_um if plan.panels[0].has_sensor else None,
        sensor_material=experiment.detector.sensors[0].formula,
        shift_m=shift,
        omega_deg=omega,
        cell=(*cell.lengths_A, *cell.angles_deg),
        wavelength_A=wavelength,
        spectra=spectra,
        flux_per_s=beam.flux_per_s,
        beam_size_mm=beam.beam_size_mm,
        exposure_s=beam.exposure_s,
        polarization=beam.polarization if beam.polarized else None,
        polarization_normal=geometry.rotation @ _unit_normal(detector.beam, detector.polarization),
        stokes=_stokes(plan),
        process={
            "versions": json.dumps(versions()),
            "experiment": series.experiment.to_json(),
            "series": series.to_json(output),
            "structure_factors": json.dumps(report_holes(plan)),
        },
        layout=_layout(experiment.detector),
        recorded=_recorded(series, plan, dtype, output.get("response")),
    ), notes


def _recorded(series, plan: Plan, dtype: str, response: str | dict | None) -> RecordedBy | None:
    """What a master of counts says of the detector that recorded them; None for photons and Poisson counts."""
    if response is None or dtype == "float32":
        return None
    if series.reference is not None:  # the frame by which the detector of all of them is chosen
        plan = make_plan(series.reference_experiment())
    found = response_of(plan, response)
    dead, hot = found.bad_pixels(plan.shape)
    bits = dead * np.uint32(DEAD) + hot * np.uint32(NOISY)
    if found.virtual_pixels == "mask":
        bits = bits + found.virtual_mask(plan.shape) * np.uint32(VIRTUAL)
    return RecordedBy(
        text=json.dumps(found.to_dict()),
        adu_per_photon=found.adu_of_photon,
        pedestal_adu=found.offset,
        saturation=found.saturation(plan.experiment.beam.exposure_s),
        rate_corrected=found.rate_correction and found.dead_time_ns > 0.0,
        bad_bits=bits if bits.any() else None,
        divided=found.virtual_pixels == "split",
    )


def _layout(detector: Detector) -> Geometry | None:
    """The .geom that a detector was read from, where it keeps one."""
    if detector.geometry_text is None:
        return None
    return parse_geom(detector.geometry_text, detector.geometry_file or "")


#: Pixels by which NXmx may have a panel's corner elsewhere before it is worth a word.
_TURNED_PX = 1e-6


def _panel_notes(geometry: McStasGeometry, detector: Detector) -> list[str]:
    """What NXmx cannot say of panels."""
    notes = []
    moved = [(panel.upright()[1], panel.name) for panel in geometry.panels]
    far, name = max(moved)
    turned = sum(distance > _TURNED_PX for distance, _ in moved)
    if turned:
        notes.append(
            f"NXmx wants axes at right angles: those of {turned} of {len(moved)} panels were turned there, which moves "
            f"a corner by up to {far:.2g} pixels (panel {name}); the images and the .geom have them as they are"
        )
    if len(set(detector.sensors)) > 1:
        notes.append("NXmx knows one sensor a detector: the master has the first panel's")
    return notes


def _shifts(series, plan: Plan) -> np.ndarray:
    """How far each frame's detector lies from the plan's, (n, 3), metres in the McStas frame.

    A beam centre moves the detector and never turns it. Along the beam it moves where it is tilted.
    """
    turn = mcstas_rotation(plan.experiment, plan.detector)
    origins = [place_detector(series.experiment_of(index)).origin for index in range(len(series))]
    shifts: np.ndarray = (np.array(origins) - np.array(plan.detector.origin)) @ turn.T
    return np.where(np.abs(shifts) < 1e-12, 0.0, shifts)  # rounding is no shift


def _omega(series, plan, notes: list[str]) -> np.ndarray | None:
    """Start of every frame and end of the last, for an even sweep; else None."""
    table = series.frames
    if "phi_deg" not in table or "orientation" in table or table.has_lattices:
        return None
    starts, width = table["phi_deg"], float(np.degrees(plan.phi.range))
    if width <= 0.0 or not np.allclose(np.diff(starts), width, rtol=0.0, atol=1e-6 * width):
        notes.append("phi_deg is no even sweep: the master calls the frames stills, the table of frames has each phi")
        return None
    return np.append(starts, starts[-1] + width)


def _wavelengths(series, plan: Plan) -> tuple[np.ndarray, np.ndarray | None]:
    """Wavelengths as ``Description`` wants them: ``wavelength_A`` and ``spectra``."""
    table, beam = series.frames, series.experiment.beam
    if "spectrum" in table:
        lines = table["spectrum"]
        mean = np.nansum(lines[..., 0] * lines[..., 1], axis=1) / np.nansum(lines[..., 1], axis=1)
        return mean, lines
    if beam.spectrum is not None and (beam.spectrum.varies or "wavelength_A" in table):
        return _pulses(series)
    weights = plan.sources.incident_weight
    wavelengths, place = np.unique(plan.sources.wavelength, return_inverse=True)
    if len(wavelengths) == 1:
        if "wavelength_A" in table:
            return table["wavelength_A"], None
        return np.array([wavelengths[0] * 1e10 if beam.sources is not None else beam.wavelength_A]), None
    lines = np.stack([wavelengths * 1e10, np.bincount(place, weights=weights) / weights.sum()], axis=1)[None]
    if "wavelength_A" in table:
        # A dispersion is a part of the central wavelength: every frame has the first one's lines, in proportion.
        ratio = table["wavelength_A"] / table["wavelength_A"][0]
        lines = np.repeat(lines, len(ratio), axis=0)
        lines[..., 0] *= ratio[:, None]
    return np.sum(lines[..., 0] * lines[..., 1], axis=1), lines


def _pulses(series) -> tuple[np.ndarray, np.ndarray | None]:
    """Mean wavelength and lines of every frame's shot; NaN fills up those that have fewer lines than others."""
    pulses = [series.experiment_of(index).beam.pulse for index in range(len(series))]
    lines = np.full((len(pulses), max(len(pulse.weight) for pulse in pulses), 2), np.nan)
    for row, pulse in zip(lines, pulses, strict=True):
        row[: len(pulse.weight), 0] = pulse.wavelength_m * 1e10
        row[: len(pulse.weight), 1] = pulse.weight / pulse.weight.sum()
    return np.array([pulse.mean_A for pulse in pulses]), lines if lines.shape[1] > 1 else None


def _pixel_mask(plan: Plan) -> np.ndarray:
    """Return the mask of a plan, uint32 (slow, fast): 0 is a pixel that was rendered."""
    mask = np.full(plan.shape, GAP | USER, dtype=np.uint32)
    fast_min, fast_max, slow_min, slow_max = plan.roi
    mask[slow_min : slow_max + 1, fast_min : fast_max + 1] = 0
    rendered = plan.rendered
    if rendered.size:
        mask[~rendered] |= GAP
    if plan.transmission is not None:
        # What always stands before a pixel; a shadow that turns leaves it to other frames.
        mask[transmission_image(plan.transmission, moving=False) == 0.0] |= USER
    return mask


def _stokes(plan: Plan) -> np.ndarray:
    """Stokes vector (1, 4) of the beam, I = 1, with Q along x and U along x = y of the McStas frame.

    The Kahn factor is the degree of linear polarization along the E-vector.
    """
    beam, detector = plan.experiment.beam, plan.detector
    e_vector = mcstas_rotation(plan.experiment, detector) @ np.array(detector.polarization)
    twice = 2.0 * np.arctan2(e_vector[1], e_vector[0])
    kahn = beam.polarization if beam.polarized else 0.0
    return np.array([[1.0, kahn * np.cos(twice), kahn * np.sin(twice), 0.0]]) + 0.0


def _unit_normal(u, v) -> np.ndarray:
    normal = np.cross(u, v)
    return normal / np.linalg.norm(normal)


def export_texts(description: Description, prefix, master_name: str) -> dict[str, str]:
    """Text files for other programs: name to contents.

    A PONI file is for one panel with axes at right angles, and so are lines of XDS.INP, which want an even sweep
    besides.
    """
    prefix = os.fspath(prefix)
    files = {
        f"{prefix}.geom": crystfel_geom(description),
        f"{prefix}.phil": dials_import(description, f"{os.path.basename(prefix)}.phil", master_name),
    }
    if not is_upright(description):
        return files
    files[f"{prefix}.poni"] = pyfai_poni(description)
    if description.omega_deg is not None:
        end = "_master.h5"
        template = master_name.removesuffix(end) + "_??????.h5" if master_name.endswith(end) else master_name
        files[f"{prefix}_XDS.INP"] = xds_input(description, template)
    return files
