"""An experiment: everything that fixes one image."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError, read_from
from bragg_numba.experiment import faces
from bragg_numba.experiment.background import Background
from bragg_numba.experiment.beam import Beam
from bragg_numba.experiment.crystal import Crystal
from bragg_numba.experiment.damage import Damage
from bragg_numba.experiment.detector import Detector
from bragg_numba.experiment.diffuse import Diffuse
from bragg_numba.experiment.lattice import Lattice, clean_lattices
from bragg_numba.experiment.noun import Noun
from bragg_numba.experiment.rotation import Rotation
from bragg_numba.experiment.sampling import Sampling
from bragg_numba.experiment.structure_factors import StructureFactors
from bragg_numba.experiment.transmission import clean_transmission, obstacle_of

if TYPE_CHECKING:
    from bragg_numba.dialect import CommandLine

FORMAT = "bragg_numba experiment"
VERSION = 1
FIDELITIES = ("nanobragg", "physical")

_PARTS: dict[str, type[Noun]] = {
    "beam": Beam,
    "crystal": Crystal,
    "detector": Detector,
    "rotation": Rotation,
    "sampling": Sampling,
    "structure_factors": StructureFactors,
}

#: Parts that a saved experiment lacks where there is nothing of them.
_LEFT_OUT = ("backgrounds", "diffuse", "transmission", "damage")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Experiment(Noun):
    """Beam, crystal, detector, rotation, sampling and structure factors of one image.

    ``fidelity`` is ``"nanobragg"`` (render what nanoBragg.c renders) or ``"physical"`` (replace its
    approximations by the right formula); docs/fidelity.md lists the differences.

    ``lattices`` are the crystals of a frame that shows several, or none: each a ``Lattice``, or a pair of crystal and
    weight. ``None`` means ``crystal`` alone, ``()`` a frame that missed every crystal. ``crystal`` is then what says
    how much water there is, and no more. All share the structure factors.
    """

    crystal: Crystal
    structure_factors: StructureFactors
    beam: Beam = field(default_factory=Beam)
    detector: Detector = field(default_factory=Detector)
    rotation: Rotation = field(default_factory=Rotation)
    sampling: Sampling = field(default_factory=Sampling)
    fidelity: str = "nanobragg"
    lattices: tuple | None = None  #: of Lattice; None: crystal alone, with weight 1
    backgrounds: tuple = ()  #: of Background: what scatters beside the crystal
    diffuse: Diffuse | None = None  #: what the crystal scatters between its reflections
    transmission: tuple = ()  #: of AirPath, Window, Absorption, Beamstop, Shadow: what takes photons away
    damage: Damage | None = None  #: what a dose has done to the crystal

    def __post_init__(self) -> None:
        self._set("backgrounds", _listed(self.backgrounds))
        self._set("transmission", clean_transmission("Experiment.transmission", self.transmission))
        if self.diffuse is not None and not isinstance(self.diffuse, Diffuse):
            raise InputError("Experiment.diffuse", "must be a Diffuse", self.diffuse)
        if self.damage is not None and not isinstance(self.damage, Damage):
            raise InputError("Experiment.damage", "must be a Damage", self.damage)
        for name, kind in _PARTS.items():
            if not isinstance(getattr(self, name), kind):
                raise InputError(f"Experiment.{name}", f"must be a {kind.__name__}", getattr(self, name))
        if self.damage is not None and self.structure_factors.anomalous is not None:
            rule = "is not rendered for structure factors that depend on the energy"
            raise InputError("Experiment.damage", rule, hint="StructureFactors.at(wavelength_A) are those of one")
        if self.diffuse is not None and self.structure_factors.anomalous is not None:
            rule = "is not rendered for structure factors that depend on the energy"
            raise InputError("Experiment.diffuse", rule, hint="StructureFactors.at(wavelength_A) are those of one")
        self._set("fidelity", check.choice("Experiment.fidelity", self.fidelity, FIDELITIES))
        if self.lattices is not None:
            self._set("lattices", clean_lattices("Experiment.lattices", self.lattices, self.crystal.water_um))
            if self.diffuse is not None:
                raise InputError("Experiment.diffuse", "is not rendered for frames with lattices", hint="leave one out")
        if self.fidelity == "physical":
            _check_weights(self.beam.sources, "under fidelity physical")
        elif self.backgrounds or self.diffuse:
            _check_weights(self.beam.sources, "beside backgrounds")
        roi = self.sampling.roi
        n_slow, n_fast = self.detector.shape
        if roi is not None and (roi[0] >= n_fast or roi[2] >= n_slow):
            raise InputError(
                "Sampling.roi", f"must touch the detector of {n_fast} x {n_slow} (fast x slow) pixels", roi
            )

    @classmethod
    def from_nanobragg(cls, words, folder=None) -> Experiment:
        """Build from a nanoBragg command line: one string, or a list of words.

        What the command would print as a warning, say that it takes structure factors from an Fdump.bin that
        lies there, is a Python warning here.

        Parameters
        ----------
        words
            The command line.
        folder
            Where the files are that it names without a whole path; None: the working folder.

        Raises
        ------
        InputError
            For an unknown flag, a bad value or an unreadable file.
        """
        from bragg_numba.dialect import CommandLine, parse

        line = CommandLine(parse(words), folder)
        experiment = cls.from_command_line(line)
        for note in line.notes:
            warnings.warn(note, stacklevel=2)
        return experiment

    @classmethod
    def from_command_line(cls, line: CommandLine) -> Experiment:
        """Build from a nanoBragg command line that was read; its notes are left to the caller.

        Raises
        ------
        InputError
            For a value that cannot be honoured; it names the flag that brought it.
        """
        with line.naming_flags():
            # In this order, which decides what is complained about first.
            detector = Detector.from_dict(line.detector)
            factors = StructureFactors(**line.read_structure_factors())
            return cls(
                beam=Beam(**line.beam),
                crystal=Crystal(**line.crystal),
                detector=detector,
                rotation=Rotation(**line.rotation),
                sampling=Sampling(**line.sampling_of(detector.shape)),
                structure_factors=factors,
                fidelity=line.fidelity,
                transmission=tuple(obstacle_of(f"-{one['kind']}", one) for one in line.transmission),
                damage=None if line.damage is None else Damage(**line.damage),
            )

    @classmethod
    def from_geom(
        cls,
        path,
        *,
        crystal: Crystal,
        structure_factors: StructureFactors,
        beam: Beam | None = None,
        wavelength_A: float | None = None,
        data_file=None,
        event: int | str | None = None,
        values: Mapping[str, float] | None = None,
        clen_mm: float | None = None,
        masks: bool | None = None,
        mask_folder=None,
        **parts,
    ) -> Experiment:
        """Build an experiment on the detector of a CrystFEL geometry, with its wavelength and bandwidth.

        Parameters
        ----------
        path, data_file, event, values, clen_mm, masks, mask_folder
            As ``Detector.from_geom`` takes them.
        crystal, structure_factors
            Which a .geom does not say.
        beam
            What a .geom does not say of the beam; the file's wavelength and bandwidth replace its own.
        wavelength_A
            The wavelength, instead of that of the file. Where neither is there, ``beam`` has it.
        parts
            Further parts: rotation, sampling, fidelity.

        Raises
        ------
        InputError
            As ``Detector.from_geom``; and where nobody says what the wavelength is.
        """
        from bragg_numba.dialect.geometry_files import GeomOptions, nouns_of_geom

        options = GeomOptions(
            data_file=data_file,
            event=event,
            values=values,
            clen_mm=clen_mm,
            wavelength_A=wavelength_A,
            masks=masks,
            mask_folder=mask_folder,
        )
        nouns = nouns_of_geom(path, options)
        if beam is None and "wavelength_A" not in nouns["beam"]:
            raise InputError("wavelength", "is needed, and the file has none", hint="give it", file=str(path))
        return cls(
            beam=(beam or Beam()).replace(**nouns["beam"]),
            crystal=crystal,
            detector=Detector.from_dict(nouns["detector"]),
            structure_factors=structure_factors,
            **parts,
        )

    @classmethod
    def from_expt(
        cls,
        path,
        index: int = 0,
        *,
        image: int | None = None,
        crystal: Crystal | None = None,
        structure_factors: StructureFactors | None = None,
        wavelength_A: float | None = None,
        **parts,
    ) -> Experiment:
        """Build from one experiment of a DIALS experiment list (.expt): its beam, detector, goniometer and crystal.

        Parameters
        ----------
        path
            The file; docs/geometry.md tells what is read of it.
        index
            Which of its experiments, from 0.
        image
            Which image of the scan, as its ``image_range`` counts; None: the first. Crystal, beam and goniometer that
            vary along the scan are those of this image.
        crystal
            The crystal, instead of that of the file: needed where this has none.
        structure_factors
            An .expt says nothing of them; None: 1 for every reflection.
        wavelength_A
            The wavelength, where the beam is polychromatic and has no range.
        parts
            Further parts: sampling, fidelity.

        Raises
        ------
        InputError
            If the file breaks a rule (the place in it, the rule and the value), or has no such experiment or image.
        """
        from bragg_numba.dialect.geometry_files import ExptOptions, nouns_of_expt

        nouns = nouns_of_expt(path, ExptOptions(index=index, image=image, wavelength_A=wavelength_A))
        if crystal is None and "crystal" not in nouns:
            raise InputError("crystal", f"is missing from experiment {index}", hint="give one", file=str(path))
        with read_from(path):
            return cls(
                beam=Beam(**nouns["beam"]),
                crystal=crystal or Crystal(**nouns["crystal"]),
                detector=Detector.from_dict(nouns["detector"]),
                rotation=Rotation(**nouns["rotation"]),
                structure_factors=structure_factors or StructureFactors(default_F=1.0),
                **parts,
            )

    def of_lattice(self, index: int) -> Experiment:
        """Return the experiment of one lattice alone: its crystal in its share of the beam, no background.

        Where several share a ``Sampling.cutoff_photons``, each has its part of it.

        Raises
        ------
        InputError
            If there is no such lattice.
        """
        n = 1 if self.lattices is None else len(self.lattices)
        if not 0 <= index < n:
            raise InputError("lattice", f"must be below {n}, the number of lattices", index)
        if self.lattices is None:
            return self.replace(crystal=self.crystal.replace(water_um=0.0), backgrounds=())
        lattice, beam, sampling = self.lattices[index], self.beam, self.sampling
        if lattice.weight != 1.0:
            beam = beam.replace(fluence_per_m2=beam.mean_photons_per_m2 * lattice.weight, flux_per_s=0.0)
        if sampling.cutoff_photons > 0.0 and n > 1:
            sampling = sampling.replace(cutoff_photons=sampling.cutoff_photons / n)
        crystal = lattice.crystal if lattice.crystal.water_um == 0.0 else lattice.crystal.replace(water_um=0.0)
        return self.replace(crystal=crystal, beam=beam, sampling=sampling, lattices=None, backgrounds=())

    def of_size(self, index: int) -> Experiment:
        """Return the experiment of the blocks of one size alone: their part of the crystal, no background.

        All sizes share a ``Sampling.cutoff_photons`` evenly. Of a frame with lattices take ``of_lattice`` first.

        Raises
        ------
        InputError
            If there is no such size, or the frame has lattices.
        """
        crystal, sampling = self.crystal, self.sampling
        sizes = crystal.sizes or ()
        if self.lattices is not None:
            raise InputError("Experiment.lattices", "have sizes of their own", hint="take of_lattice(i) first")
        if not 0 <= index < len(sizes):
            raise InputError("size", f"must be below {len(sizes)}, the number of Crystal.sizes", index)
        *counts, weight = sizes[index]
        part = weight / math.fsum(row[3] for row in sizes)
        alike = {"cell_counts": counts, "block_sizes": None, "block_spread": 0.0}
        own = crystal.replace(**alike, scale=crystal.scale * part, water_um=0.0)
        if sampling.cutoff_photons > 0.0:
            sampling = sampling.replace(cutoff_photons=sampling.cutoff_photons / len(sizes))
        return self.replace(crystal=own, sampling=sampling, backgrounds=(), diffuse=None)

    def to_dict(self) -> dict:
        """Return plain Python values that ``json`` can write; lattices, backgrounds and so on where there are some."""
        values = super(Experiment, self).to_dict()
        if self.lattices is None:
            del values["lattices"]
        return {name: value for name, value in values.items() if value or name not in _LEFT_OUT}

    def pixel_positions_m(self) -> np.ndarray:
        """Return where the centres of the pixels are, at the sensor's front.

        Returns
        -------
        numpy.ndarray
            float64 (n_slow, n_fast, 3), metres from the crystal, laboratory frame; NaN where no panel lies.

        Raises
        ------
        InputError
            If the detector cannot be placed, or the memory does not suffice.
        """
        from bragg_numba.experiment.placing import pixel_positions, place_detector
        from bragg_numba.memory import require

        placed = place_detector(self)
        shown = f"{placed.n_fast} x {placed.n_slow} pixels"
        require("the pixels' positions", 24 * placed.n_fast * placed.n_slow, None, shown)
        return pixel_positions(placed, curved=self.detector.curved)

    def to_json(self, indent: int | None = None) -> str:
        """Return the whole experiment, tables and mask included, as JSON text."""
        return json.dumps({"format": FORMAT, "version": VERSION, **self.to_dict()}, indent=indent)

    @classmethod
    def from_json(cls, text: str) -> Experiment:
        """Build from ``to_json``'s text; parts that are left out take their defaults."""
        try:
            values = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise InputError("experiment", f"is not JSON: {error}") from None
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise InputError("experiment", f'must be a JSON object with "format": "{FORMAT}"')
        if values.pop("version", None) != VERSION:
            raise InputError("experiment", f'must have "version": {VERSION}', hint="written by a newer version?")
        known = {part.name for part in fields(cls)}
        for key in values:
            if key not in known:
                raise InputError(f"experiment.{key}", "is not a known part", hint=", ".join(sorted(known)))
        for key in ("crystal", "structure_factors"):
            if key not in values:
                raise InputError(f"experiment.{key}", "must be given")
        parts: dict[str, Any] = {name: kind.from_dict(values[name]) for name, kind in _PARTS.items() if name in values}
        if values.get("lattices") is not None:
            if not isinstance(values["lattices"], list):
                raise InputError("experiment.lattices", "must be a list", values["lattices"])
            parts["lattices"] = tuple(Lattice.from_dict(one) for one in values["lattices"])
        backgrounds = values.get("backgrounds", [])
        if not isinstance(backgrounds, list):
            raise InputError("experiment.backgrounds", "must be a list", backgrounds)
        parts["backgrounds"] = tuple(Background.from_dict(part) for part in backgrounds)
        obstacles = values.get("transmission", [])
        if not isinstance(obstacles, list):
            raise InputError("experiment.transmission", "must be a list", obstacles)
        parts["transmission"] = tuple(
            obstacle_of(f"experiment.transmission[{place}]", one) for place, one in enumerate(obstacles)
        )
        if values.get("damage") is not None:
            parts["damage"] = Damage.from_dict(values["damage"])
        if values.get("diffuse") is not None:
            parts["diffuse"] = Diffuse.from_dict(values["diffuse"])
        return cls(**parts, fidelity=values.get("fidelity", "nanobragg"))

    def __str__(self) -> str:
        return faces.lines(self, self._title())

    def _repr_html_(self) -> str:
        from bragg_numba.experiment.sketch import sketch

        return faces.beside(sketch(self), faces.html_table(self._title(), faces.of_parts(self)))

    def _title(self) -> str:
        n_slow, n_fast = self.detector.shape
        return f"Experiment: {n_fast} x {n_slow} pixels (fast x slow)"

    def save(self, path) -> None:
        """Write the JSON to ``path``, whole or not at all."""
        from bragg_numba.io.atomic import write_bytes

        write_bytes(path, (self.to_json(indent=1) + "\n").encode())

    @classmethod
    def load(cls, path) -> Experiment:
        """Read an experiment from a JSON file, or from a frame that this package wrote."""
        from bragg_numba.io.frame_file import experiment_text

        text = experiment_text(Path(path))
        with read_from(path):
            return cls.from_json(text)


def _listed(backgrounds) -> tuple:
    """The backgrounds as a tuple; one alone stands for itself."""
    if isinstance(backgrounds, Background):
        return (backgrounds,)
    if not isinstance(backgrounds, (tuple, list)) or not all(isinstance(one, Background) for one in backgrounds):
        raise InputError("Experiment.backgrounds", "must be a tuple of Background", backgrounds)
    return backgrounds if isinstance(backgrounds, tuple) else tuple(backgrounds)


def _check_weights(sources, where: str) -> None:
    """Source weights must make a mean; under fidelity nanobragg Bragg photons ignore them, as in C."""
    weights = [row[3] for row in sources or () if row[3] is not None]
    for weight in weights:
        if weight < 0.0:
            raise InputError("Beam.sources weight", f"must lie at or above 0 {where}", weight)
    if sources and len(weights) == len(sources) and not any(weights):
        raise InputError("Beam.sources", f"must have at least one weight above 0 {where}")
