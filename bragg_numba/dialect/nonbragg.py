"""The command line of nonBragg, nanoBragg's sister program for what is not crystalline.

What it says of beam and sample becomes plain values for the nouns; ``plan.nonbragg`` places its detector.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field
from typing import Any

from bragg_numba.conventions import ENERGY_WAVELENGTH_EV_A
from bragg_numba.dialect.parse import split_words
from bragg_numba.errors import InputError

#: Flag -> number of values and their kind. nonBragg knows a flag by its beginning: "thickness" is "-thick" and more.
_NUMBERS: dict[str, tuple[str, ...]] = {
    "size": ("-samplesize", "-sample_size"),
    "thickness": ("-thick", "-sample_thick", "-sample_x"),
    "width": ("-width", "-sample_width", "-sample_y"),
    "height": ("-heigh", "-sample_heigh", "-sample_z"),
    "density": ("-density", "-sample_den"),
    "molecules": ("-molecules", "-sample_molecules"),
    "molar_mass": ("-MW", "-molecular"),
    "Xbeam": ("-Xbeam",),
    "Ybeam": ("-Ybeam",),
    "Xclose": ("-Xclose",),
    "Yclose": ("-Yclose",),
    "ORGX": ("-ORGX",),
    "ORGY": ("-ORGY",),
    "distance": ("-distance",),
    "close_distance": ("-close_distance",),
    "source_distance": ("-source_distance",),
    "twotheta": ("-twotheta",),
    "rotx": ("-detector_rotx",),
    "roty": ("-detector_roty",),
    "rotz": ("-detector_rotz",),
    "detsize": ("-detsize",),
    "detsize_x": ("-detsize_x",),
    "detsize_y": ("-detsize_y",),
    "pixel": ("-pixel",),
    "polar": ("-polar",),
    "wavelength": ("-lambda", "-wave"),
    "energy": ("-energy",),
    "fluence": ("-fluence",),
    "flux": ("-flux",),
    "exposure": ("-exposure",),
    "beamsize": ("-beamsize",),
    "dispersion": ("-dispersion",),
    "divergence": ("-divergence",),
    "hdivrange": ("-hdivrange",),
    "vdivrange": ("-vdivrange",),
    "hdivstep": ("-hdivstep",),
    "vdivstep": ("-vdivstep",),
    "adc": ("-adc",),
    "gain": ("-gain",),
    "phi": ("-phi",),
    "osc": ("-osc",),
    "phistep": ("-phistep",),
    "scale": ("-scale",),
    "pgmscale": ("-pgmscale",),
}
_COUNTS: dict[str, tuple[str, ...]] = {
    "detpixels": ("-detpixels",),
    "detpixels_x": ("-detpixels_f", "-detpixels_x"),
    "detpixels_y": ("-detpixels_s", "-detpixels_y"),
    "oversample": ("-oversample",),
    "dispsteps": ("-dispsteps",),
    "hdivsteps": ("-hdivsteps",),
    "vdivsteps": ("-vdivsteps",),
    "divsteps": ("-divsteps",),
    "phisteps": ("-phisteps",),
    "seed": ("-seed",),
}
_VECTORS: dict[str, tuple[str, ...]] = {
    name: (f"-{name}",)
    for name in ("fdet_vector", "sdet_vector", "beam_vector", "polar_vector", "twotheta_axis", "spindle_axis")
}
_WORDS: dict[str, tuple[str, ...]] = {
    "stol": ("-stol",),
    "4stol": ("-4stol",),
    "q": ("-Q",),
    "pivot": ("-pivot",),
    "sourcefile": ("-sourcefile",),
    "floatfile": ("-floatfile", "-floatimage"),
    "intfile": ("-intfile", "-intimage"),
    "noisefile": ("-noisefile", "-noiseimage"),
}
_SWITCHES: dict[str, tuple[str, ...]] = {
    "curved": ("-curved_det",),
    "point_pixel": ("-point_pixel",),
    "nopolar": ("-nopolar",),
    "round_div": ("-round_div",),
    "square_div": ("-square_div",),
    "nonoise": ("-nonoise",),
    "nopgm": ("-nopgm",),
    "noreject": ("-noreject",),
    "noprogress": ("-noprogress",),
    "progress": ("-progress",),
    "coherent": ("-coherent",),
}
#: What nonBragg knows and this does not take, and why.
REFUSED: dict[str, str] = {
    "-img": "bragg-numba profile makes a table of F from an image",
    "-stolout": "bragg-numba profile makes a table of F from an image",
    "-ignore": "bragg-numba profile makes a table of F from an image",
    "-pgmfile": "bragg-numba view makes pictures",
    "-pgmimage": "bragg-numba view makes pictures",
    "-Fmap": "the table of -stol holds F already",
    "-pix0_vector": "nonBragg reads it and places the detector by distance and beam centre all the same",
    "-odet_vector": "nonBragg reads it and takes fdet_vector x sdet_vector all the same",
    "-printout": "bragg-numba trace shows pixels of experiments",
    "-printout_pixel": "bragg-numba trace shows pixels of experiments",
}

#: Flags that nonBragg compares in full; all others may go on: -thickness, -detector_rotx_deg.
_EXACT = {
    *("-stol", "-4stol", "-Q", "-MW", "-detsize", "-detpixels", "-polar", "-phi", "-phistep", "-hdivstep", "-vdivstep"),
    *("-detsize_x", "-detsize_y"),
}

_KINDS: tuple[tuple[dict[str, tuple[str, ...]], str, int], ...] = (
    (_NUMBERS, "number", 1),
    (_COUNTS, "count", 1),
    (_VECTORS, "number", 3),
    (_WORDS, "word", 1),
    (_SWITCHES, "switch", 0),
    ({"roi": ("-roi",)}, "count", 4),
)


def _spellings() -> dict[str, tuple[str, str, int]]:
    return {spelling: (key, kind, n) for group, kind, n in _KINDS for key, names in group.items() for spelling in names}


FLAGS = _spellings()


@dataclass(slots=True)
class Command:
    """A command line of nonBragg as it was given; ``given`` maps keys to values, the last one of each."""

    given: dict[str, Any] = field(default_factory=dict)
    pivot: str = "beam"
    files: list[tuple[str, str]] = field(default_factory=list)  #: (abscissa, file) of tables, in order
    notes: list[str] = field(default_factory=list)  #: what is done otherwise than one may expect

    def metres(self, key: str, default: float) -> float:
        """A length that is given in mm."""
        return self.given[key] / 1000.0 if key in self.given else default


def parse(words) -> Command:
    """Parse nonBragg's flags.

    Raises
    ------
    InputError
        For a flag that is unknown or is not taken, and for a missing or malformed value.
    """
    words = split_words(words)
    if words and words[0].rsplit("/", 1)[-1].lower().startswith("nonbragg"):
        words = words[1:]
    command = Command()
    at = 0
    while at < len(words):
        name = words[at]
        key, kind, n = _find(name)
        values = words[at + 1 : at + 1 + n]
        if len(values) < n:
            raise InputError(name, f"needs {n} value{'s' * (n > 1)}", " ".join(values))
        _take(command, name, key, [_convert(name, value, kind) for value in values])
        at += 1 + n
    return command


def _find(word: str) -> tuple[str, str, int]:
    if word in REFUSED:
        raise InputError(word, "is not taken", hint=REFUSED[word])
    if word in FLAGS:
        return FLAGS[word]
    stems = [name for name in FLAGS if name not in _EXACT and word.startswith(name)]
    if stems:
        return FLAGS[max(stems, key=len)]
    if not word.startswith("-"):
        raise InputError("command line", "has a word that belongs to no flag", word)
    near = [name for name in FLAGS if len(word) > 2 and name.startswith(word)][:3]
    near = near or difflib.get_close_matches(word, [*FLAGS, *REFUSED], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "docs/backgrounds.md lists them"
    raise InputError(word[:80], "is not a flag of nonBragg", hint=hint)


def _convert(name: str, word: str, kind: str):
    if kind == "word":
        if not word or "\0" in word:
            raise InputError(name, "needs a value", word)
        return word
    try:
        value = float(word) if "_" not in word else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(name, "needs a finite number", word)
    if kind == "number":
        return value
    if value != int(value) or abs(value) > 2**31 - 1:
        raise InputError(name, "needs a whole number below 2147483648", word)
    return int(value)


#: Flags that change the pivot, in the order in which they are given.
_PIVOTS = {
    **dict.fromkeys(("Xbeam", "Ybeam", "distance"), "beam"),
    **dict.fromkeys(("Xclose", "Yclose", "ORGX", "ORGY", "close_distance", "twotheta", "twotheta_axis"), "sample"),
}


def _take(command: Command, name: str, key: str, values: list) -> None:
    given = command.given
    value: Any = values[0] if len(values) == 1 else tuple(values)
    if key in _PIVOTS:
        command.pivot = _PIVOTS[key]
    if key == "pivot":
        if "sample" not in value and "beam" not in value:
            raise InputError(name, "must be sample or beam", value)
        command.pivot = "beam" if "beam" in value else "sample"
    elif key in ("stol", "4stol", "q"):
        command.files.append((key, value))
    elif key == "size":
        given.update(thickness=value, width=value, height=value)
    elif key == "detpixels":
        given.update(detpixels_x=value, detpixels_y=value)
    elif key == "detsize":
        given.update(detsize_x=value, detsize_y=value)
    elif key == "divergence":
        given.update(hdivrange=value, vdivrange=value)
    elif key == "divsteps":
        given.update(hdivsteps=value, vdivsteps=value)
    elif key == "twotheta_axis":
        # nonBragg finds -twotheta in the name of this one.
        angle = value[0]
        if given.get("twotheta", 0.0) != angle:
            command.notes.append(f"{name} sets -twotheta to its first number, {angle:g} degrees, as in nonBragg")
        given.update(twotheta_axis=value, twotheta=angle)
    elif key == "energy":
        if not value > 0.0:
            raise InputError(name, "must be greater than 0", value)
        given["wavelength"] = ENERGY_WAVELENGTH_EV_A / value
    elif key in ("round_div", "square_div"):
        given["round_divergence"] = key == "round_div"
    elif key == "polar":
        given.update(polar=value, nopolar=False)
    else:
        given[key] = True if not values else value


# --- what it says of the nouns -------------------------------------------------------------------


def beam_values(command: Command) -> dict[str, Any]:
    """Fields of the noun Beam."""
    given = command.given
    values: dict[str, Any] = {
        "direction": given.get("beam_vector"),
        "polarization_axis": given.get("polar_vector"),
        "polarization": given.get("polar", 0.0),
        "polarized": not given.get("nopolar", False),
        "round_divergence": given.get("round_divergence", True),
        "dispersion_percent": max(given.get("dispersion", 0.0), 0.0),
    }
    for flag, name in (
        ("wavelength", "wavelength_A"),
        ("fluence", "fluence_per_m2"),
        ("flux", "flux_per_s"),
        ("exposure", "exposure_s"),
        ("beamsize", "beam_size_mm"),
    ):
        if flag in given:
            values[name] = given[flag]
    for flag, axis in (("hdiv", "horizontal"), ("vdiv", "vertical")):
        values[f"{axis}_divergence_mrad"] = _unless_negative(given.get(f"{flag}range"))
        values[f"{axis}_divergence_step_mrad"] = _unless_negative(given.get(f"{flag}step"))
        values[f"{axis}_divergence_steps"] = _unless_none(given.get(f"{flag}steps"))
    values["dispersion_steps"] = _unless_none(given.get("dispsteps"))
    if "sourcefile" in given:
        from bragg_numba.io.text_files import read_sources

        values["sources"] = tuple(read_sources(given["sourcefile"]))
    return values


def _unless_negative(value: float | None) -> float | None:
    return None if value is None or value < 0.0 else value


def _unless_none(count: int | None) -> int | None:
    return None if count is None or count <= 0 else count


def background_values(command: Command) -> dict[str, Any]:
    """Fields of the noun Background, but for the table."""
    given = command.given
    values: dict[str, Any] = {
        "thickness_mm": given.get("thickness", 0.1),
        "width_mm": given.get("width", 0.1),
        "height_mm": given.get("height", 0.1),
        "density_g_per_cm3": given.get("density", 1.0),
        "molar_mass_g_per_mol": given.get("molar_mass", 18.0),
    }
    if given.get("molecules"):
        values["molecules"] = given["molecules"]
    return values
