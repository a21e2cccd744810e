"""The experiment list (.expt) of a series: DIALS's view of it, with the crystals as they truly are."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from bragg_numba.dialect.geometry_files import SPREAD_DEVIATION
from bragg_numba.experiment import Detector
from bragg_numba.io.expt_file import imageset, write_expt
from bragg_numba.io.expt_models import (
    ExptBeam,
    ExptCrystal,
    ExptExperiment,
    ExptGoniometer,
    ExptPanel,
    ExptScan,
    axis_rotation,
    crystal_of_matrix,
    mcstas,
)
from bragg_numba.io.geometry import Vector
from bragg_numba.io.nxmx import Description


def experiment_list(
    description: Description, series, rows: np.ndarray, master_name: str, lattices: np.ndarray | None = None
) -> str:
    """Return the text of an .expt for a master: an experiment for every still, or one for a sweep.

    Where frames have lattices each crystal is an experiment of its own, and a still that hit none is none.

    Parameters
    ----------
    description
        Of the master.
    series
        Whose frames they are.
    rows
        The truth's table of frames.
    master_name
        Of the master, beside which the list lies. A curved detector is the plane that the master describes.
    lattices
        The truth's table of lattices; None where the series has none.
    """
    detector = series.experiment.detector
    panels = _panels(description, detector)
    if description.omega_deg is not None:
        sweep = _sweep(description, series, panels, master_name)
        return write_expt(
            dataclasses.replace(sweep, identifier=name, crystal=_swept_crystal(description, series, row))
            for name, row in _crystals(0, rows[0], lattices)
        )
    beams: dict[float, ExptBeam] = {}
    found = []
    for place, row in enumerate(rows):
        wavelength = float(row["wavelength_A"])
        middle = float(row["phi_deg"] + row["osc_deg"] / 2.0)
        frame = ExptExperiment(
            beam=beams.setdefault(wavelength, _beam(description, wavelength)),
            detector=panels if description.shift_m is None else _shifted(panels, description.shift_m[place]),
            imageset=imageset(master_name, [place], sequence=False),
        )
        spread = series.experiment_of(place).crystal.typical_spread_deg
        for name, one in _crystals(place, row, lattices):
            crystal = _still_crystal(description, spread, one, middle)
            found.append(dataclasses.replace(frame, identifier=name, crystal=crystal))
    return write_expt(found)


def _crystals(place: int, row: np.void, lattices: np.ndarray | None) -> list[tuple[str, np.void]]:
    """The rows of a frame's crystals, each with an identifier of its own."""
    if lattices is None:
        return [(str(place), row)]
    first, last = np.searchsorted(lattices["frame"], [row["frame"], row["frame"] + 1])
    own = lattices[first:last]
    return [(str(place) if len(own) == 1 else f"{place}-{number}", one) for number, one in enumerate(own)]


def _sweep(description: Description, series, panels: tuple[ExptPanel, ...], master_name: str) -> ExptExperiment:
    """The experiment of a sweep, but for its crystal."""
    omega, n = description.omega_deg, description.frames
    assert omega is not None
    return ExptExperiment(
        beam=_beam(description, description.mean_wavelength_A),
        detector=panels,
        goniometer=ExptGoniometer(rotation_axis=_vector(mcstas(description.geometry.spindle))),
        scan=ExptScan(
            image_range=(1, n),
            start_deg=float(omega[0]),
            width_deg=float(omega[-1] - omega[0]) / n,
            exposure_times=(description.exposure_s,) * n,
        ),
        imageset=imageset(master_name, range(n), sequence=True),
    )


def _swept_crystal(description: Description, series, row: np.void) -> ExptCrystal:
    crystal = series.experiment.crystal
    spread = crystal.typical_spread_deg
    is_cap = crystal.mosaic_rotations is None and crystal.mosaic_model == "cap"
    deviation = (SPREAD_DEVIATION if is_cap else math.sqrt(1.0 / 3.0)) * spread  # about any one axis
    return _crystal(description, row, 0.0, mosaicity_deg=deviation if spread > 0.0 else None)


def _beam(description: Description, wavelength_A: float) -> ExptBeam:
    kahn = description.polarization
    return ExptBeam(
        direction=_vector(mcstas((0.0, 0.0, -1.0))),
        wavelength_A=wavelength_A,
        polarization_normal=_vector(mcstas(description.polarization_normal)),
        polarization_fraction=0.5 if kahn is None else (1.0 + kahn) / 2.0,
        flux=description.flux_per_s,
    )


def _panels(description: Description, detector: Detector) -> tuple[ExptPanel, ...]:
    """The panels with axes at right angles, as DIALS wants them, and in the groups of their .geom."""
    paths = _paths_of_groups(description)
    found = []
    for exact, own in zip(description.geometry.panels, detector.sensors, strict=True):
        panel, _ = exact.upright()
        sensor: dict = {}
        if description.sensor_um is not None and own.absorbs:
            sensor = {
                "thickness_mm": own.thickness_um / 1000.0,
                "mu_per_mm": float(own.attenuation_per_m(description.mean_wavelength_A)) / 1000.0,
                "material": own.formula or "Si",
                "parallax": True,
                "strategy": "ParallaxCorrectedPxMmStrategy",
            }
        found.append(
            ExptPanel(
                name=panel.name,
                origin_mm=_vector(mcstas(panel.origin) * 1000.0),
                fast=_vector(mcstas(panel.fast)),
                slow=_vector(mcstas(panel.slow)),
                pixel_mm=(panel.pitch_fast * 1000.0, panel.pitch_slow * 1000.0),
                image_size=(panel.n_fast, panel.n_slow),
                raw_image_offset=(panel.first_column, panel.first_row),
                trusted_range=(0.0, float(description.largest_valid)),
                gain=description.adu_per_photon,
                pedestal=description.pedestal_adu,
                type="SENSOR_PAD",
                groups=paths.get(panel.name, ()),
                **sensor,
            )
        )
    return tuple(found)


def _paths_of_groups(description: Description) -> dict[str, tuple[str, ...]]:
    """The groups that each panel is in, from the outermost; that of all is the detector itself."""
    if description.layout is None:
        return {}
    parents = {member: name for name, members in description.layout.groups for member in members}
    paths = {}
    for panel in description.geometry.panels:
        path: list[str] = []
        name = panel.name
        while name in parents and parents[name] != "all":
            name = parents[name]
            path.insert(0, name)
        paths[panel.name] = tuple(path)
    return paths


def _shifted(panels: Sequence[ExptPanel], shift_m: np.ndarray) -> tuple[ExptPanel, ...]:
    shift = mcstas(shift_m) * 1000.0
    return tuple(dataclasses.replace(panel, origin_mm=_vector(np.array(panel.origin_mm) + shift)) for panel in panels)


def _still_crystal(description: Description, spread_deg: float, row: np.void, phi_deg: float) -> ExptCrystal:
    edges = [float(n) * float(edge) for n, edge in zip(row["cell_counts"], row["cell"], strict=False)]
    return _crystal(
        description,
        row,
        phi_deg,
        half_mosaicity_deg=spread_deg,
        domain_size_A=math.prod(edges) ** (1.0 / 3.0),
    )


def _crystal(description: Description, row: np.void, phi_deg: float, **rest) -> ExptCrystal:
    """A crystal of the truth, turned about the spindle, in DIALS's frame."""
    g = description.geometry
    in_mcstas = axis_rotation(g.spindle, phi_deg) @ (g.rotation @ row["reciprocal_per_A"])
    return crystal_of_matrix(mcstas(in_mcstas.T).T, **rest)


def _vector(values) -> Vector:
    x, y, z = (float(value) + 0.0 for value in values)
    return x, y, z
