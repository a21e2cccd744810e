"""The nouns of an experiment: frozen, keyword-only, validated once, units in the field names."""

from bragg_numba.experiment.anomalous import Anomalous
from bragg_numba.experiment.background import Background
from bragg_numba.experiment.beam import Beam
from bragg_numba.experiment.crystal import Crystal
from bragg_numba.experiment.damage import Damage
from bragg_numba.experiment.detector import Detector
from bragg_numba.experiment.diffuse import Diffuse
from bragg_numba.experiment.experiment import Experiment
from bragg_numba.experiment.lattice import Lattice
from bragg_numba.experiment.panel import Panel
from bragg_numba.experiment.rotation import Rotation
from bragg_numba.experiment.sampling import Sampling
from bragg_numba.experiment.spectrum import Spectrum
from bragg_numba.experiment.structure_factors import StructureFactors
from bragg_numba.experiment.transmission import Absorption, AirPath, Beamstop, Obstacle, Shadow, Window

__all__ = [
    "Absorption",
    "AirPath",
    "Anomalous",
    "Background",
    "Beam",
    "Beamstop",
    "Crystal",
    "Damage",
    "Detector",
    "Diffuse",
    "Experiment",
    "Lattice",
    "Obstacle",
    "Panel",
    "Rotation",
    "Sampling",
    "Shadow",
    "Spectrum",
    "StructureFactors",
    "Window",
]
