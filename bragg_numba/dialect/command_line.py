"""From parsed flags to what they say of an experiment and of its files, by nanoBragg's order and precedence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from bragg_numba import checks as check
from bragg_numba.conventions import ENERGY_WAVELENGTH_EV_A, FRAMES
from bragg_numba.dialect.image_headers import read_image_headers
from bragg_numba.dialect.parse import Given
from bragg_numba.errors import InputError
from bragg_numba.memory import parse_bytes, require

#: Values of one noun's fields by name.
Fields = dict[str, Any]

DEFAULT_DUMP = "Fdump.bin"

#: The seed of the noise where none is given: fixed, so that a run can be repeated.
NOISE_SEED = 1

_CONVENTION_FLAGS = ("mosflm", "denzo", "adxv", "xds", "dials")
_VECTOR_FLAGS = {
    "fdet_vector": "fast",
    "sdet_vector": "slow",
    "odet_vector": "normal",
    "beam_vector": "beam",
    "polar_vector": "polarization",
    "spindle_axis": "spindle",
    "twotheta_axis": "twotheta",
}
_ORIGIN_FLAGS = ("pix0_vector", "pix0_vector_mm")
#: Under custom vectors the reference's last word on the pivot is whichever of these came last.
_PIVOT_EFFECT = {
    "distance": "beam",
    "Xbeam": "beam",
    "Ybeam": "beam",
    "close_distance": "sample",
    "Xclose": "sample",
    "Yclose": "sample",
    "ORGX": "sample",
    "ORGY": "sample",
    "twotheta": "sample",
    "mosflm": "beam",
    "denzo": "beam",
    "adxv": "beam",
    "xds": "sample",
    "dials": "sample",
}
_BEAM_CENTRE = ("Xbeam", "Ybeam")
_NEAR_POINT = ("Xclose", "Yclose", "ORGX", "ORGY")
#: Flags that say which sources to make where none are listed.
_GENERATED_SOURCES = (
    *("dispersion", "dispsteps", "divergence", "hdivrange", "vdivrange", "hdivstep", "vdivstep"),
    *("hdivsteps", "vdivsteps", "divsteps", "round_div", "square_div"),
)
#: Flags of files that tell structure factors, cell and space group, and flags that go with some of them.
_CRYSTAL_FILES = ("mtz", "cif", "pdb")
_TAKEN_BY = {"labels": ("mtz", "cif"), "solvent": ("pdb",), "anomalous": ("pdb",)}
_OUTPUTS = {
    "h5file": "h5_file",
    "pngfile": "png_file",
    "floatfile": "float_file",
    "intfile": "int_file",
    "noisefile": "noise_file",
    "pgmfile": "pgm_file",
}


#: Flags that place a single panel, or give it its pixels: what -geom and -expt do for every panel.
_OF_ONE_PANEL = (
    *("pixel", "detpixels", "detpixels_f", "detpixels_s", "detsize", "detsize_f", "detsize_s", "close_distance"),
    *("Xbeam", "Ybeam", "Xclose", "Yclose", "ORGX", "ORGY", "pivot", "detector_rotx", "detector_roty", "detector_rotz"),
    *("twotheta", "twotheta_axis", "fdet_vector", "sdet_vector", "odet_vector", "pix0_vector", "pix0_vector_mm"),
    *("curved_det", "img", "mask", "mosflm", "denzo", "xds", "dials"),
)
#: Flags that say what every .expt says besides; and what one says that has a crystal, a sweep, a sensor.
_OF_EXPT = ("distance", "beam_vector", "polar_vector", "polar")
_OF_CRYSTAL = ("cell", "mat", "misset", "misset_seed")
_OF_SWEEP = ("phi", "osc", "phistep", "spindle_axis")
_OF_SENSOR = ("detector_thick", "detector_abs", "sensor", "sensor_density")
#: Flags that have a meaning beside another alone.
_BESIDE = {
    "geom": ("geom_data", "geom_event", "geom_value"),
    "expt": ("expt_index", "expt_image"),
    "spectrum": (
        *("bandwidth", "channels", "pink_tail", "pulse_fs", "second_colour", "self_seeded", "centre_jitter"),
        *("energy_jitter", "channel_jitter", "recentre", "spectrum_unit", "spectrum_seed", "shot"),
    ),
    "block_spread": ("block_sizes",),
    "sensor": ("sensor_density",),
    "beamstop": ("beamstop_shift", "beamstop_stem", "beamstop_edge", "beamstop_transmission"),
}
#: Millimetres that are no way at all.
_NO_LENGTH_MM = 1e-9
#: What -spectrum may be beside a file's name.
_SPECTRUM_SHAPES = ("monochromatic", "gaussian", "tophat", "pink", "sase")

#: Which flags set a field, so that an error can name what was typed.
FLAGS_OF_FIELD = {
    "Beam.wavelength_A": "lambda energy",
    "Beam.fluence_per_m2": "fluence",
    "Beam.flux_per_s": "flux",
    "Beam.exposure_s": "exposure",
    "Beam.beam_size_mm": "beamsize",
    "Beam.polarization": "polar",
    "Beam.dispersion_percent": "dispersion",
    "Beam.dispersion_steps": "dispsteps",
    "Beam.horizontal_divergence_mrad": "divergence hdivrange",
    "Beam.vertical_divergence_mrad": "divergence vdivrange",
    "Beam.horizontal_divergence_step_mrad": "hdivstep",
    "Beam.vertical_divergence_step_mrad": "vdivstep",
    "Beam.horizontal_divergence_steps": "divsteps hdivsteps",
    "Beam.vertical_divergence_steps": "divsteps vdivsteps",
    "Beam.sources": "sourcefile",
    "Beam.spectrum": "spectrum",
    "Beam.shot": "shot",
    "Spectrum.shape": "spectrum",
    "Spectrum.bandwidth_percent": "bandwidth",
    "Spectrum.channels": "channels",
    "Spectrum.tail_percent": "pink_tail",
    "Spectrum.pulse_fs": "pulse_fs",
    "Spectrum.second_percent": "second_colour",
    "Spectrum.second_share": "second_colour",
    "Spectrum.seeded_percent": "self_seeded",
    "Spectrum.seeded_share": "self_seeded",
    "Spectrum.centre_jitter_percent": "centre_jitter",
    "Spectrum.energy_jitter_percent": "energy_jitter",
    "Spectrum.recentre": "recentre",
    "Spectrum.seed": "spectrum_seed",
    "Spectrum.wavelengths_A": "spectrum",
    "Spectrum.weights": "spectrum",
    "Crystal.cell": "cell",
    "Crystal.mosflm_matrix": "mat",
    "Crystal.misset_deg": "misset",
    "Crystal.misset_seed": "misset_seed",
    "Crystal.cell_counts": "N Na Nb Nc",
    "Crystal.cell_count_matrix": "N_matrix",
    "Crystal.block_sizes": "block_file",
    "Crystal.block_spread": "block_spread",
    "Crystal.block_spread_sizes": "block_sizes",
    "Crystal.scale": "blocks",
    "Crystal.size_mm": "xtalsize xtal_thick xtal_width xtal_height",
    "Crystal.fudge": "fudge",
    "Crystal.mosaic_spread_deg": "mosaic mosaic_xyz",
    "Crystal.mosaic_model": "mosaic_model",
    "Crystal.mosaic_rotations": "mosaic_file",
    "Crystal.mosaic_weights": "mosaic_file",
    "Crystal.mosaic_domains": "mosaic_domains",
    "Crystal.mosaic_seed": "mosaic_seed",
    "Crystal.water_um": "water",
    "Detector.pixel_mm": "pixel",
    "Detector.n_fast": "detpixels detpixels_f",
    "Detector.n_slow": "detpixels detpixels_s",
    "Detector.size_fast_mm": "detsize detsize_f",
    "Detector.size_slow_mm": "detsize detsize_s",
    "Detector.distance_mm": "distance",
    "Detector.close_distance_mm": "close_distance",
    "Detector.beam_x_mm": "Xbeam",
    "Detector.beam_y_mm": "Ybeam",
    "Detector.close_x_mm": "Xclose",
    "Detector.close_y_mm": "Yclose",
    "Detector.org_x_px": "ORGX",
    "Detector.org_y_px": "ORGY",
    "Detector.twotheta_deg": "twotheta",
    "Detector.origin_mm": "pix0_vector pix0_vector_mm",
    "Detector.attenuation_depth_um": "detector_abs",
    "Detector.thickness_um": "detector_thick",
    "Detector.sensor": "sensor",
    "Detector.sensor_density_g_per_cm3": "sensor_density",
    "Detector.thickness_steps": "detector_thicksteps",
    "Detector.mask": "mask",
    "Rotation.phi_deg": "phi",
    "Rotation.osc_deg": "osc",
    "Rotation.phi_step_deg": "phistep",
    "Rotation.phi_steps": "phisteps",
    "Sampling.oversample": "oversample",
    "Sampling.dmin_A": "dmin",
    "Sampling.roi": "roi",
    "Sampling.engine": "engine",
    "Sampling.cutoff_photons": "cutoff",
    "Sampling.pixel_average": "pixel_average",
    "AirPath.end_mm": "air",
    "AirPath.before_mm": "air_before",
    "AirPath.gas": "gas air air_before",
    "Window.material": "window beam_window",
    "Window.thickness_um": "window beam_window",
    "Absorption.material": "sample_sphere sample_plate",
    "Absorption.thickness_mm": "sample_sphere sample_plate",
    "Beamstop.diameter_mm": "beamstop",
    "Beamstop.distance_mm": "beamstop",
    "Beamstop.shift_mm": "beamstop_shift",
    "Beamstop.stem_width_mm": "beamstop_stem",
    "Beamstop.stem_deg": "beamstop_stem",
    "Beamstop.edge_mm": "beamstop_edge",
    "Beamstop.transmission": "beamstop_transmission",
    "Damage.dose_MGy": "dose",
    "Damage.dose_per_frame_MGy": "dose_per_frame",
    "Damage.photons_per_um2_per_Gy": "dose_photons",
    "Damage.law": "damage_law",
    "Damage.half_dose_MGy_per_A": "half_dose",
    "Damage.exponent": "damage_exponent",
    "Damage.cell_drift_per_MGy": "cell_drift",
    "StructureFactors.default_F": "default_F",
    "StructureFactors.indices": "hkl",
    "StructureFactors.amplitudes": "hkl",
}


@dataclass(slots=True)
class Request:
    """What a command line asks for beside the experiment."""

    h5_file: str | None = None
    png_file: str | None = None
    float_file: str | None = None
    int_file: str | None = None
    noise_file: str | None = None
    pgm_file: str | None = None
    dump_file: str | None = None  #: cache of -hkl to write
    int_scale: float = 0.0  #: 0: automatic
    pgm_scale: float = 0.0
    adc: float = 40.0
    seed: int = NOISE_SEED
    noise: str = "nanobragg"
    printout: bool = False
    printout_pixel: tuple[int, int] | None = None
    json: bool = False
    threads: int = 0
    backend: str = "auto"
    precision: str = "auto"
    max_memory: int | None = None
    progress: bool | None = None
    notes: list[str] = field(default_factory=list)


class CommandLine:
    """A nanoBragg command line: what it says of each noun of an experiment, and what it asks for beside it.

    What it says of a noun are plain values by the names of its fields; a field that no flag sets is left out. Later
    flags win over earlier ones. A file that a flag names is read when its noun is asked for.

    Raises
    ------
    InputError
        For a value that cannot be honoured, here or in any of the above; it names the flag that brought it.
    """

    def __init__(self, given: list[Given], folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = folder  #: where files lie that are named without a whole path; None: the working folder
        self.order = given
        self.last = {one.flag.key: one.values for one in given}
        self.notes: list[str] = []  #: what deserves a warning, of the nouns that were asked for
        self._refuse_contradictions()
        own_centre = _NEAR_POINT[2:] if self._frame[0] in ("xds", "dials") else _BEAM_CENTRE
        paths: dict[str, str] = {key: self.path(self.last[key][0]) for key in ("mask", "img") if key in self.last}
        self.headers = read_image_headers(paths, self.last, own_centre)
        self.notes += self.headers.notes
        if "distance" in self.last and "close_distance" in self.headers.values:
            place = self.headers.places["close_distance"]
            self.notes.append(f"-distance has no effect: {place} wins, as in nanoBragg; give -close_distance")
        self.max_memory = self._memory()

    def _refuse_contradictions(self) -> None:
        """Refuse what would say once more, or otherwise, what a geometry file says."""
        for file, beside in _BESIDE.items():
            for key in beside:
                if key in self and file not in self:
                    raise InputError(f"-{key}", f"has no meaning without -{file}")
        if "gas" in self and not {"air", "air_before"} & set(self.last):
            raise InputError("-gas", "has no meaning without -air or -air_before")
        if "sensor" in self and "detector_abs" in self:
            raise InputError("-sensor", "must not stand beside -detector_abs, which says its depth already")
        if "geom" in self and "expt" in self:
            raise InputError("-geom", "must not stand beside -expt: both place the detector", self.last["geom"][0])
        for file, forbidden in (("geom", _OF_ONE_PANEL), ("expt", (*_OF_ONE_PANEL, *_OF_EXPT))):
            if file in self:
                self._refuse_beside(file, forbidden)

    def _refuse_beside(self, file: str, keys: tuple[str, ...]) -> None:
        """Refuse flags of these names: the file says it already."""
        for one in self.order:
            if one.flag.key in keys:
                raise InputError(one.name, f"must not stand beside -{file}, which says it already")

    @cached_property
    def _described(self) -> dict[str, Fields]:
        """What -geom or -expt say, by noun; nothing without them."""
        if "geom" in self:
            from bragg_numba.dialect.geometry_files import nouns_of_geom, require_same

            with _saying({"clen_mm": "-distance", "wavelength_A": self._wavelength_flag}):
                options = self._geom_options()
                require_same(self.path(self.get("geom")), options)
                return nouns_of_geom(self.path(self.get("geom")), options)
        if "expt" in self:
            from bragg_numba.dialect.geometry_files import ExptOptions, nouns_of_expt

            said = {"index": "-expt_index", "image": "-expt_image", "wavelength_A": self._wavelength_flag}
            with _saying(said):
                options = ExptOptions(
                    index=self.get("expt_index", 0), image=self.get("expt_image"), wavelength_A=self._wavelength_A
                )
                found = nouns_of_expt(self.path(self.get("expt")), options)
            if "crystal" in found:
                self._refuse_beside("expt", _OF_CRYSTAL)
            if found["rotation"]:
                self._refuse_beside("expt", _OF_SWEEP)
            if any("thickness_um" in panel for panel in found["detector"]["panels"]):
                self._refuse_beside("expt", _OF_SENSOR)
            return found
        return {}

    def _geom_options(self):
        from bragg_numba.dialect.geometry_files import GeomOptions

        values: dict[str, float] = {}
        for one in self.order:
            if one.flag.key == "geom_value":
                path, _, text = one.values[0].rpartition("=")
                try:
                    values[path] = float(text)
                except ValueError:
                    path = ""
                if not path:
                    raise InputError(one.name, "must be PATH=NUMBER", one.values[0])
        event = self.get("geom_event")
        if event is not None and event.isascii() and event.isdigit():
            event = int(event)
        data = self.get("geom_data")
        return GeomOptions(
            data_file=None if data is None else self.path(data),
            event=event,
            values=values or None,
            clen_mm=self.get("distance"),
            wavelength_A=self._wavelength_A,
        )

    @property
    def _wavelength_flag(self) -> str:
        return f"-{self.last_of('lambda', 'energy') or 'lambda'}"

    @property
    def _wavelength_A(self) -> float | None:
        """The wavelength that a flag or an image header gives."""
        if self.last_of("lambda", "energy") == "energy":
            return ENERGY_WAVELENGTH_EV_A / check.number("-energy", self.get("energy"), above=0.0)
        return self.get("lambda")

    @contextmanager
    def naming_flags(self) -> Iterator[None]:
        """Let errors about a field inside the block name the last flag that sets it."""
        try:
            yield
        except InputError as error:
            if error.file:
                raise
            field_name = error.name.split("[")[0].split(" ")[0]
            keys = FLAGS_OF_FIELD.get(field_name, "").split()
            name = next((one.name for one in reversed(self.order) if one.flag.key in keys), None)
            if name is None:
                name = next((self.headers.places[key] for key in keys if key in self.headers.places), None)
            if name is None:
                raise
            raise InputError(name, str(error)[len(error.name) :].strip()) from None

    def __contains__(self, key: str) -> bool:
        return key in self.last

    def get(self, key: str, default=None):
        """The flag's (only) value, else the image header's, else the default."""
        if key in self.last:
            return self.last[key][0]
        return self.headers.values.get(key, default)

    def path(self, name: str) -> str:
        """Where a file is that the line names."""
        return name if self.folder is None else os.path.join(self.folder, name)

    def word(self, key: str, default: str, allowed: tuple[str, ...]) -> str:
        return check.choice(f"-{key}", self.get(key, default), allowed)

    def last_of(self, *keys: str) -> str | None:
        """Which of these flags came last."""
        return next((one.flag.key for one in reversed(self.order) if one.flag.key in keys), None)

    def _memory(self) -> int | None:
        text = self.get("max-memory")
        return None if text is None else parse_bytes("-max-memory", text)

    @cached_property
    def beam(self) -> Fields:
        """Fields of ``Beam``."""
        axes = self._frame[1]
        given = {"direction": axes.get("beam"), "polarization_axis": axes.get("polarization")}
        fields: Fields = {name: axis for name, axis in given.items() if axis is not None}
        simple = {
            "dispersion": "dispersion_percent",
            "fluence": "fluence_per_m2",
            "flux": "flux_per_s",
            "exposure": "exposure_s",
            "beamsize": "beam_size_mm",
            "polar": "polarization",
        }
        fields |= {name: self.get(key) for key, name in simple.items() if key in self}
        if self._wavelength_A is not None:
            fields["wavelength_A"] = self._wavelength_A
        fields = self._beam_of_file() | fields
        fields["polarized"] = self.last_of("polar", "nopolar") != "nopolar"
        fields["round_divergence"] = self.last_of("round_div", "square_div") != "square_div"
        if self.get("dispsteps"):
            fields["dispersion_steps"] = self.get("dispsteps")
        for axis, letter in (("horizontal", "h"), ("vertical", "v")):
            span = self.last_of("divergence", f"{letter}divrange")
            if span:
                fields[f"{axis}_divergence_mrad"] = self.get(span)
            if f"{letter}divstep" in self:
                fields[f"{axis}_divergence_step_mrad"] = self.get(f"{letter}divstep")
            steps = self.last_of("divsteps", f"{letter}divsteps")
            if steps and self.get(steps):
                fields[f"{axis}_divergence_steps"] = self.get(steps)
        if "spectrum" in self:
            fields["spectrum"] = self._spectrum
            if "shot" in self:
                fields["shot"] = self.get("shot")
        if "sourcefile" in self:
            from bragg_numba.io.text_files import read_sources

            fields["sources"] = tuple(read_sources(self.path(self.get("sourcefile"))))
            replaced = [f"-{key}" for key in _GENERATED_SOURCES if key in self]
            if replaced:
                verb = "has" if len(replaced) == 1 else "have"
                self.notes.append(f"{', '.join(replaced)} {verb} no effect beside -sourcefile, as in nanoBragg")
        return fields

    @cached_property
    def _spectrum(self) -> Fields:
        """Fields of ``Spectrum``; a file is read."""
        word = self.get("spectrum")
        fields: Fields = {"channel_jitter": "channel_jitter" in self, "recentre": "recentre" in self}
        if word in _SPECTRUM_SHAPES:
            fields["shape"] = word
            if "spectrum_unit" in self:
                raise InputError("-spectrum_unit", f"has no effect on -spectrum {word}, which is no file")
            if word != "monochromatic" and "bandwidth" not in self:
                hint = "percent of the photon energy"
                raise InputError("-bandwidth", f"must be given for -spectrum {word}", hint=hint)
            if word == "sase" and "pulse_fs" not in self:
                raise InputError("-pulse_fs", "must be given for -spectrum sase", hint="a spike is 1.8 eV fs wide")
        else:
            from bragg_numba.io.spectra import read_spectra

            with _saying({"unit": "-spectrum_unit"}):
                lengths, weights = read_spectra(self.path(word), self.get("spectrum_unit"))
            fields |= {"shape": "table", "wavelengths_A": lengths, "weights": weights}
            flag = self.last_of("lambda", "energy")
            if flag and "recentre" not in self:
                self.notes.append(f"-{flag} has no effect beside -spectrum {word}; -recentre moves the spectrum there")
        simple = {
            "bandwidth": "bandwidth_percent",
            "channels": "channels",
            "pink_tail": "tail_percent",
            "pulse_fs": "pulse_fs",
            "centre_jitter": "centre_jitter_percent",
            "energy_jitter": "energy_jitter_percent",
            "spectrum_seed": "seed",
        }
        fields |= {name: self.get(key) for key, name in simple.items() if key in self}
        for key, name in (("second_colour", "second"), ("self_seeded", "seeded")):
            if key in self:
                fields[f"{name}_percent"], fields[f"{name}_share"] = self.last[key]
        if fields.get("channels") == 0:  # choose for me
            del fields["channels"]
        return fields

    def _beam_of_file(self) -> Fields:
        """What -geom or -expt say of the beam; its spread of wavelengths gives way to flags that say one."""
        found = dict(self._described.get("beam", {}))
        if "geom" in self and "wavelength_A" not in found and not self._fixes_wavelengths:
            raise InputError(
                "-geom", "finds no wavelength in the file", self.get("geom"), hint="give -lambda or -energy"
            )
        if {"dispersion", "dispsteps", "sourcefile", "spectrum"} & set(self.last):
            found.pop("dispersion_percent", None)
            found.pop("dispersion_steps", None)
        return found

    @property
    def _fixes_wavelengths(self) -> bool:
        """Whether a file tells the wavelengths, whatever -lambda may say."""
        own_spectrum = "spectrum" in self and self.get("spectrum") not in _SPECTRUM_SHAPES and "recentre" not in self
        return "sourcefile" in self or own_spectrum

    @cached_property
    def crystal(self) -> Fields:
        """Fields of ``Crystal``."""
        fields: Fields = dict(self._described.get("crystal", {}))
        if "cell" in self:
            fields["cell"] = self.last["cell"]
        if "mat" in self:
            from bragg_numba.io.text_files import read_matrix

            matrix = read_matrix(self.path(self.get("mat")))
            fields["mosflm_matrix"] = tuple(tuple(float(x) for x in row) for row in matrix)
        if self._crystal_file is not None and not fields:
            fields["cell"] = self._crystal_file["cell"]
        if "misset" in self:
            misset = self.last["misset"]
            fields["misset_deg"] = "random" if misset == ("random",) else misset
        if "misset_seed" in self:
            fields["misset_seed"] = self.get("misset_seed")
            if fields.get("misset_deg") != "random":
                self.notes.append("-misset_seed has no effect without -misset random")
        counts: list[int] = [1, 1, 1]
        sizes: list[float | None] = [None, None, None]
        for one in self.order:
            key = one.flag.key
            if key in ("N", "Na", "Nb", "Nc"):
                if one.values[0] < 0:
                    self.notes.append(f"{one.name} {one.values[0]} is taken as 1, as in nanoBragg")
                for i, axis in enumerate("abc"):
                    if key in ("N", "N" + axis):
                        counts[i] = max(1, one.values[0])
            where = {"xtalsize": (0, 1, 2), "xtal_thick": (0,), "xtal_width": (1,), "xtal_height": (2,)}
            for i in where.get(key, ()):
                size = check.number(one.name, one.values[0], low=0.0, hint="millimetres")
                sizes[i] = size or None  # 0: from the cell counts, as in nanoBragg
            if key in ("density", "MW"):
                self.notes.append(f"{one.name} has no effect, as in nanoBragg")
        if "cell_counts" not in fields or {"N", "Na", "Nb", "Nc"} & set(self.last):
            fields["cell_counts"] = tuple(counts)
        fields["size_mm"] = tuple(sizes)
        shapes = {"square_xtal": "square", "round_xtal": "round", "gauss_xtal": "gauss", "tophat_spots": "tophat"}
        fields["shape"] = shapes[self.last_of(*shapes) or "square_xtal"]
        simple = {
            "fudge": "fudge",
            "mosaic_seed": "mosaic_seed",
            "mosaic_model": "mosaic_model",
            "blocks": "scale",
            "water": "water_um",
        }
        fields |= {name: self.get(key) for key, name in simple.items() if key in self}
        return fields | self._mosaic_fields() | self._block_fields()

    def _mosaic_fields(self) -> Fields:
        """What of ``Crystal`` says how mosaic domains lie."""
        fields: Fields = {}
        spread = self.last_of("mosaic", "mosaic_xyz")
        if spread:
            fields["mosaic_spread_deg"] = self.last[spread] if spread == "mosaic_xyz" else self.get(spread)
        if self.get("mosaic_domains"):
            fields["mosaic_domains"] = self.get("mosaic_domains")
        if "mosaic_file" in self:
            from bragg_numba.io.text_files import read_rows

            for key in ("mosaic", "mosaic_xyz", "mosaic_model", "mosaic_domains", "mosaic_seed"):
                if key in self:
                    raise InputError(f"-{key}", "must not stand beside -mosaic_file, which has the domains")
            rows = read_rows(self.path(self.get("mosaic_file")), (9, 10), "a rotation, row by row, and a weight")
            fields["mosaic_rotations"] = rows[:, :9].reshape(-1, 3, 3)
            if rows.shape[1] == 10:
                fields["mosaic_weights"] = rows[:, 9]
        return fields

    def _block_fields(self) -> Fields:
        """What of ``Crystal`` says how large blocks are, beside -N."""
        fields: Fields = {}
        given = [key for key in ("N_matrix", "block_file", "block_spread") if key in self]
        if len(given) > 1:
            raise InputError(f"-{given[1]}", f"must not come together with -{given[0]}")
        if "N_matrix" in self:
            numbers = self.last["N_matrix"]
            fields["cell_count_matrix"] = tuple(tuple(numbers[i : i + 3]) for i in (0, 3, 6))
        if "block_file" in self:
            from bragg_numba.io.text_files import read_rows

            rows = read_rows(self.path(self.get("block_file")), (3, 4), "Na, Nb, Nc and a weight")
            fields["block_sizes"] = tuple(map(tuple, rows.tolist()))
        if "block_spread" in self:
            fields["block_spread"] = self.get("block_spread")
            if self.get("block_sizes"):
                fields["block_spread_sizes"] = self.get("block_sizes")
        return fields

    @cached_property
    def _frame(self) -> tuple[str, dict]:
        """The convention, and the axes where vector flags have the last word on it."""
        convention, explicit = "mosflm", False
        if "geom" in self or "expt" in self:  # whose frame is McStas's; vectors of beam and crystal alone are left
            given = {one.flag.key: _not_zero(one) for one in self.order if one.flag.key in _VECTOR_FLAGS}
            return "adxv", {_VECTOR_FLAGS[key]: vector for key, vector in given.items()}
        axes: dict[str, tuple] = {}
        for one in self.order:
            key = one.flag.key
            if key in _CONVENTION_FLAGS:
                if axes and self.last_of(*_VECTOR_FLAGS):
                    self.notes.append(
                        f"{one.name} comes after vector flags and replaces their vectors, as in nanoBragg"
                    )
                convention, explicit, axes = key, True, {}
            elif key in _VECTOR_FLAGS:
                if not axes:
                    axes = dict(FRAMES[convention if explicit else "custom"])
                axes[_VECTOR_FLAGS[key]] = _not_zero(one)
            elif key in _ORIGIN_FLAGS and not axes:  # they, too, make the convention a custom one
                axes = dict(FRAMES[convention if explicit else "custom"])
        return ("custom" if axes else convention), axes

    @cached_property
    def detector(self) -> Fields:
        """Fields of ``Detector``."""
        convention, axes = self._frame
        if "detector" in self._described:
            return {**self._described["detector"], **self._sensor_fields()}
        fields: Fields = {"convention": convention, "mask": self.headers.mask}
        for name in ("fast", "slow", "normal", "twotheta"):
            fields[f"{name}_axis"] = axes.get(name)
        simple = {"pixel": "pixel_mm", "distance": "distance_mm", "close_distance": "close_distance_mm"}
        fields |= {name: self.get(key) for key, name in simple.items() if self.get(key) is not None}
        for letter, axis in (("f", "fast"), ("s", "slow")):
            pixels = self.last_of("detpixels", f"detpixels_{letter}")
            n = self.get(pixels) if pixels else self.headers.values.get(f"detpixels_{letter}")
            if n is not None:
                fields[f"n_{axis}"] = n
            size = self.last_of("detsize", f"detsize_{letter}")
            if size:
                fields[f"size_{axis}_mm"] = self.get(size)
        fields |= self._centre_fields(convention)
        fields["rotation_deg"] = tuple(self.get(f"detector_rot{axis}", 0.0) for axis in "xyz")
        fields["twotheta_deg"] = self.get("twotheta", 0.0)
        origin = self.last_of(*_ORIGIN_FLAGS)
        if origin:
            per_mm = 1000.0 if origin == "pix0_vector" else 1.0
            fields["origin_mm"] = tuple(x * per_mm for x in self.last[origin])
        fields["curved"] = "curved_det" in self
        return fields | self._sensor_fields()

    def _sensor_fields(self) -> Fields:
        """What pixels make of a ray: the sensor, and pixels without size."""
        fields: Fields = {"point_pixel": "point_pixel" in self}
        if "detector_abs" in self:
            text = self.get("detector_abs")
            try:
                fields["attenuation_depth_um"] = float(text)
            except ValueError:
                raise InputError("-detector_abs", "must be micrometres or inf", text) from None
        if "detector_thick" in self:
            fields["thickness_um"] = self.get("detector_thick")
        if "sensor" in self:
            fields["sensor"] = self.get("sensor")
            if "sensor_density" in self:
                fields["sensor_density_g_per_cm3"] = self.get("sensor_density")
        if self.get("detector_thicksteps"):
            fields["thickness_steps"] = self.get("detector_thicksteps")
        return fields

    def _centre_fields(self, convention: str) -> Fields:
        """Beam centre, near point and pivot; an image header counts only in the convention's own style."""
        names = {
            "Xbeam": "beam_x_mm",
            "Ybeam": "beam_y_mm",
            "Xclose": "close_x_mm",
            "Yclose": "close_y_mm",
            "ORGX": "org_x_px",
            "ORGY": "org_y_px",
        }
        own_style = _NEAR_POINT if convention in ("xds", "dials") else _BEAM_CENTRE
        typed = {key for key in names if key in self}
        other_style = typed and not typed & set(own_style)
        fields: Fields = {}
        if self.headers.is_swung and not typed and not {"pivot", "distance", "close_distance"} & set(self.last):
            return self._swung_centre_fields(convention)
        for key, name in names.items():
            if key in self or (key in own_style and key in self.headers.values and not other_style):
                fields[name] = self.get(key)
        if "pivot" in self:
            fields["pivot"] = self.word("pivot", "beam", ("beam", "sample"))
        elif convention == "custom":
            fields["pivot"] = self._implied_pivot(*_PIVOT_EFFECT)
        elif typed & set(_BEAM_CENTRE) and typed & set(_NEAR_POINT):
            fields["pivot"] = self._implied_pivot(*_BEAM_CENTRE, *_NEAR_POINT)
        return fields

    def _swung_centre_fields(self, convention: str) -> Fields:
        """The place of a detector whose header says its swing, near point and near distance.

        A swing about the crystal keeps both, so that they place the detector under every convention; the beam
        centre is what it was before the swing or after it, depending on who wrote it, and goes to our headers only.
        """
        fields: Fields = {"org_x_px": self.get("ORGX"), "org_y_px": self.get("ORGY"), "pivot": "sample"}
        if convention != "custom":
            fields |= {"beam_x_mm": self.get("Xbeam"), "beam_y_mm": self.get("Ybeam")}
        return fields

    def _implied_pivot(self, *keys: str) -> str:
        """The pivot that the last of these flags implies; where none was given, the beam's spot."""
        last = self.last_of(*keys)
        return "beam" if last is None else _PIVOT_EFFECT[last]

    @cached_property
    def rotation(self) -> Fields:
        """Fields of ``Rotation``."""
        axes = self._frame[1]
        simple = {"phi": "phi_deg", "osc": "osc_deg", "phistep": "phi_step_deg"}
        fields = {name: self.get(key) for key, name in simple.items() if self.get(key) is not None}
        if "phisteps" in self:
            fields["phi_steps"] = max(1, self.get("phisteps"))
        found = dict(self._described.get("rotation", {}))
        return {"axis": axes.get("spindle"), **found, **fields}

    def sampling_of(self, shape: tuple[int, int]) -> Fields:
        """Fields of ``Sampling`` for a detector of ``shape`` (slow, fast), which -roi may leave open."""
        fields: Fields = {f"oversample_{name}": f"oversample_{name}" in self for name in ("thick", "polar", "omega")}
        if self.get("oversample"):
            fields["oversample"] = self.get("oversample")
        if "roi" in self:
            n_slow, n_fast = shape
            defaults = (0, n_fast, 0, n_slow)
            fields["roi"] = tuple(d if n < 0 else n for n, d in zip(self.last["roi"], defaults, strict=True))
        if "dmin" in self:
            fields["dmin_A"] = self.get("dmin")
        interpolation = self.last_of("interpolate", "nointerpolate")
        if interpolation:
            fields["interpolate"] = interpolation == "interpolate"
        if "engine" in self:
            fields["engine"] = self.word("engine", "auto", ("auto", "pixels", "spots"))
        if "cutoff" in self:
            fields["cutoff_photons"] = self.get("cutoff")
        if "pixel_average" in self:
            fields["pixel_average"] = True
        return fields

    @cached_property
    def transmission(self) -> list[Fields]:
        """What takes photons away: fields of the nouns of ``Experiment.transmission``, each with its ``kind``."""
        found: list[Fields] = []
        gas = {"gas": self.get("gas")} if "gas" in self else {}
        if "air" in self:
            text = self.get("air")
            try:
                end = None if text == "all" else float(text)
            except ValueError:
                raise InputError("-air", "must be millimetres or all", text) from None
            if end is None or end != 0.0:
                found.append({"kind": "air", "end_mm": end, **gas})
        if self.get("air_before"):
            before: Fields = {"before_mm": self.get("air_before")}
            if found:
                found[0] |= before
            else:  # next to nothing behind the crystal
                found.append({"kind": "air", "end_mm": _NO_LENGTH_MM, **before, **gas})
        for one in self.order:
            key, values = one.flag.key, one.values
            if key in ("window", "beam_window"):
                foil = {"material": values[0], "thickness_um": values[1], "before": key == "beam_window"}
                found.append({"kind": "window", **foil})
            elif key in ("sample_sphere", "sample_plate"):
                shape = key.removeprefix("sample_")
                found.append({"kind": "absorption", "shape": shape, "material": values[0], "thickness_mm": values[1]})
            elif key in ("shadow", "shadow_turning"):
                found += self._shadows(one.name, values[0], turns=key == "shadow_turning")
        if "beamstop" in self:
            stop: Fields = {"kind": "beamstop"}
            stop["diameter_mm"], stop["distance_mm"] = self.last["beamstop"]
            if "beamstop_shift" in self:
                stop["shift_mm"] = self.last["beamstop_shift"]
            if "beamstop_stem" in self:
                stop["stem_width_mm"], stop["stem_deg"] = self.last["beamstop_stem"]
            for key, name in (("beamstop_edge", "edge_mm"), ("beamstop_transmission", "transmission")):
                if key in self:
                    stop[name] = self.get(key)
            found.append(stop)
        return found

    def _shadows(self, name: str, file: str, *, turns: bool) -> list[Fields]:
        """The shadows of a file of polygons."""
        from bragg_numba.io.text_files import read_polygons

        found = []
        for corners in read_polygons(self.path(file)):
            unit = "mm" if corners.shape[1] == 3 else "px"
            if turns and unit == "px":
                raise InputError(name, "needs corners in the laboratory, x y z", hint=self.path(file))
            found.append({"kind": "shadow", f"corners_{unit}": corners, "turns": turns})
        return found

    @cached_property
    def damage(self) -> Fields | None:
        """Fields of ``Damage``; None where no flag is about it."""
        simple = {
            "dose": "dose_MGy",
            "dose_per_frame": "dose_per_frame_MGy",
            "dose_photons": "photons_per_um2_per_Gy",
            "half_dose": "half_dose_MGy_per_A",
            "damage_exponent": "exponent",
        }
        fields: Fields = {name: self.get(key) for key, name in simple.items() if key in self}
        if "damage_law" in self:
            fields["law"] = self.word("damage_law", "linear", ("linear", "power"))
        if "cell_drift" in self:
            fields["cell_drift_per_MGy"] = tuple(percent / 100.0 for percent in self.last["cell_drift"])
        return fields or None

    @cached_property
    def _crystal_file(self) -> Fields | None:
        """What -mtz, -cif or -pdb holds, of ``StructureFactors``; None where none of them is given."""
        given = [key for key in ("hkl", *_CRYSTAL_FILES) if key in self]
        if len(given) > 1:
            raise InputError(f"-{given[1]}", f"must not come together with -{given[0]}")
        for key, takers in _TAKEN_BY.items():
            if key in self and not set(takers) & set(given):
                raise InputError(f"-{key}", f"needs {' or '.join('-' + taker for taker in takers)}")
        if not given or given == ["hkl"]:
            return None
        from bragg_numba.io.factor_sources import FINEST_A, cif_source, model_source, mtz_source

        file = self.path(self.get(given[0]))
        if given == ["pdb"]:
            if not self.get("dmin"):
                hint = "the finest resolution that is wanted, angstrom"
                raise InputError("-pdb", "needs -dmin", hint=hint)
            dmin_A = check.number("-dmin", self.get("dmin"), low=FINEST_A, hint="angstrom")
            solvent = [check.number("-solvent", value, low=0.0) for value in self.last.get("solvent", (0.0, 0.0))]
            k_sol, b_sol = solvent
            return model_source(
                file, dmin_A, anomalous=self._anomalous(), k_sol=k_sol, B_sol=b_sol, max_memory=self.max_memory
            )
        read = mtz_source if given == ["mtz"] else cif_source
        return read(file, self.get("labels"), self.max_memory)

    def _anomalous(self) -> str | dict[str, Any]:
        """What -anomalous says, each time for an element, or once for all."""
        given = [one.values for one in self.order if one.flag.key == "anomalous"]
        if ("auto",) in given:
            if len(given) > 1:
                raise InputError("-anomalous", "must be given once where it says auto for all elements")
            return "auto"
        waves: dict[str, Any] = {}
        for element, *values in given:
            source = values[0]
            if isinstance(source, str):
                waves[element] = source if source == "auto" else self.path(source)
            else:
                waves[element] = tuple(values)
        return waves

    def read_structure_factors(self) -> Fields:
        """Fields of ``StructureFactors``: of a file, else of the cache of an earlier run, else only default_F."""
        from bragg_numba.io.structure_factor_files import read_dump, read_hkl

        default_F = self.get("default_F", 0.0)
        if self._crystal_file is not None:
            return {"default_F": default_F, **self._crystal_file}
        dump = self.path(self.get("dump", DEFAULT_DUMP))
        if "hkl" in self:
            indices, amplitudes = read_hkl(self.path(self.get("hkl")))
            return {"default_F": default_F, "indices": indices, "amplitudes": amplitudes}
        if "dump" in self or os.path.exists(dump):
            first, _, table = read_dump(dump)
            require(f"the structure factors of {dump}", 24 * table.size, self.max_memory)
            indices = np.indices(table.shape, dtype=np.int32).reshape(3, -1).T + np.asarray(first, np.int32)
            note = f"reading structure factors from {dump}, the cache of an earlier run"
            if note not in self.notes:
                self.notes.append(note)
            return {"default_F": default_F, "indices": indices, "amplitudes": table.ravel()}
        return {"default_F": default_F}

    @cached_property
    def fidelity(self) -> str:
        """``Experiment.fidelity``."""
        return self.word("fidelity", "nanobragg", ("nanobragg", "physical"))

    def request(self) -> Request:
        """What the line asks for beside the experiment; the notes so far go into it."""
        request = Request(max_memory=self.max_memory, notes=self.notes)
        if "hkl" in self:
            request.dump_file = self.get("dump", DEFAULT_DUMP)
        named_outputs = {name: self.get(key) for key, name in _OUTPUTS.items() if key in self}
        if self.last_of("noisefile", "nonoise") == "nonoise":
            named_outputs.pop("noise_file", None)
        if self.last_of("pgmfile", "pgmscale", "nopgm") == "nopgm":  # a scale asks for the picture again, as in C
            named_outputs.pop("pgm_file", None)
        elif named_outputs and "pgmscale" in self and "pgm_file" not in named_outputs:
            self.notes.append("-pgmscale has no effect without -pgmfile: the outputs that are named are all there are")
        if not named_outputs:  # none was named, or every one was taken back
            named_outputs = {"float_file": "floatimage.bin", "int_file": "intimage.img"}
            if "nonoise" not in self:
                named_outputs["noise_file"] = "noiseimage.img"
            if self.last_of("pgmscale", "nopgm") != "nopgm":
                named_outputs["pgm_file"] = "image.pgm"
        for name, path in named_outputs.items():
            setattr(request, name, path)
        named = [getattr(request, name) for name in _OUTPUTS.values() if getattr(request, name)]
        twice = {os.path.realpath(path) for path in named}
        if len(twice) < len([path for path in named if path != os.devnull]):
            raise InputError("output files", "must have different names", named)
        request.int_scale = self.get("scale", 0.0)
        request.pgm_scale = self.get("pgmscale", 0.0)
        request.adc = self.get("adc", 40.0)
        request.seed = self.get("seed", NOISE_SEED)
        request.noise = self.word("noise", "nanobragg", ("nanobragg", "philox"))
        request.printout = "printout" in self or "printout_pixel" in self
        request.printout_pixel = self.last.get("printout_pixel")
        request.json = "json" in self
        request.threads = self.get("threads", 0)
        request.backend = self.get("backend", "auto")
        request.precision = self.word("precision", "auto", ("auto", "tile", "float64"))
        progress = self.last_of("progress", "noprogress")
        request.progress = None if progress is None else progress == "progress"
        return request


def _not_zero(one: Given) -> tuple:
    """The vector that a flag gives."""
    if not any(one.values):
        raise InputError(one.name, "must not be the zero vector", one.values)
    return one.values


@contextmanager
def _saying(flags: dict[str, str]) -> Iterator[None]:
    """Let errors about what a flag stands for name the flag."""
    try:
        yield
    except InputError as error:
        at_path = error.rule.startswith(("lies in a data file", "needs the value at"))
        if error.name not in flags and not at_path:
            raise
        hint = "-geom_value PATH=NUMBER says it, or -geom_data FILE holds it" if at_path else error.hint
        name = flags.get(error.name, error.name)
        raise InputError(name, error.rule, error.value, hint, error.file) from None
