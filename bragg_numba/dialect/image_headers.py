"""What -mask and -img say: the headers of SMV images as values of flags, and the mask's pixels."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field

import numpy as np

#: Key of a header -> the flag that says the same, in the same unit.
_FLAG_OF_KEY = {
    "PIXEL_SIZE": "pixel",
    "DISTANCE": "distance",
    "CLOSE_DISTANCE": "close_distance",
    "WAVELENGTH": "lambda",
    "BEAM_CENTER_X": "Xbeam",
    "BEAM_CENTER_Y": "Ybeam",
    "ORGX": "ORGX",
    "ORGY": "ORGY",
    "TWOTHETA": "twotheta",
    "PHI": "phi",
    "OSC_RANGE": "osc",
}
#: Flags that say what a header says, beside the one of the same name: where one is typed the header does not count.
_ALSO = {"lambda": ("energy",), "distance": ("close_distance",)}

#: What is taken where no header states it: (keys, what any of which is enough, and the default in words).
_DEFAULTS = (
    ("PIXEL_SIZE", ("pixel",), "0.1 mm"),
    ("DISTANCE", ("distance", "close_distance", "pix0_vector", "pix0_vector_mm"), "100 mm"),
    ("WAVELENGTH", ("lambda", "energy", "sourcefile"), "1 A"),
    ("PHI", ("phi",), "0"),
    ("OSC_RANGE", ("osc", "phistep", "phisteps"), "a still"),
)
_CENTRES = ("Xbeam", "Ybeam", "Xclose", "Yclose", "ORGX", "ORGY", "pix0_vector", "pix0_vector_mm")


@dataclass(slots=True)
class ImageHeaders:
    """Values of flags that the headers state, where each stands, and what deserves a warning."""

    values: dict[str, float] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)  #: flag -> "KEY of file"
    mask: np.ndarray | None = None  #: bool (slow, fast)
    notes: list[str] = field(default_factory=list)

    @property
    def is_swung(self) -> bool:
        """Whether a header says how far the detector is swung, and where nanoBragg's own put it."""
        return self.values.get("twotheta", 0.0) != 0.0 and {"close_distance", "ORGX", "ORGY"} <= set(self.values)


def read_image_headers(paths: Mapping[str, str], typed: Container[str], centre: tuple[str, str]) -> ImageHeaders:
    """Read the headers of ``-mask`` and ``-img``, in this order: a later one wins.

    Parameters
    ----------
    paths
        "mask" and "img" where they were given.
    typed
        Flags of the command line, which win over headers: what they replace is not looked at.
    centre
        The two flags that are the convention's own way to say where the beam or the near point is.

    Raises
    ------
    InputError
        If a file is no SMV image, or states several numbers where one is wanted; of a mask, too, if its pixels
        cannot be read.
    """
    from bragg_numba.io.smv import read_smv
    from bragg_numba.io.smv_entries import read_smv_header

    found = ImageHeaders()
    for key in ("mask", "img"):
        if key not in paths:
            continue
        if key == "mask":
            image = read_smv(paths[key])
            header = image.header
            found.mask = image.pixels != 0
            # Whatever the order of its bytes, a pixel is 0 or is not.
            found.notes += [note for note in image.notes if "BYTE_ORDER" not in note]
        else:
            header = read_smv_header(paths[key])
        n_slow, n_fast = header.shape
        found.values |= {"detpixels_f": n_fast, "detpixels_s": n_slow}
        found.places |= dict.fromkeys(("detpixels_f", "detpixels_s"), f"the size in {header.name}")
        for keyword, flag in _FLAG_OF_KEY.items():
            if flag in typed or any(also in typed for also in _ALSO.get(flag, ())):
                continue
            value = header.number(keyword)
            if value is not None:
                found.values[flag] = value
                found.places[flag] = f"{keyword} of {header.name}"
            elif header.texts.get(keyword):
                stated = header.texts[keyword]
                found.notes.append(f"{keyword}={stated[:60]} of {header.name} is no number and does not count")
        if header.unused:
            found.notes.append(f"{header.name} places its detector by {', '.join(header.unused)} too: not applied")
        if key == "mask" and "Ybeam" in found.values:  # a mask counts it from the other edge
            # Its own pixels count, whatever -pixel says, as in nanoBragg.
            found.values["Ybeam"] = (header.number("PIXEL_SIZE") or 0.1) * n_slow - found.values["Ybeam"]
    if found.values.get("twotheta"):
        found.notes.append(
            f"{found.places['twotheta']} swings the detector by {found.values['twotheta']:g} degrees; nanoBragg.c "
            "reads and ignores it"
        )
    found.notes += _missing(found, list(paths.values()), typed, centre)
    return found


def _missing(found: ImageHeaders, paths: list[str], typed: Container[str], centre: tuple[str, str]) -> list[str]:
    """One sentence about all that no header and no flag states, or none."""
    lacking = [
        f"{keyword} ({default})"
        for keyword, flags, default in _DEFAULTS
        if not any(flag in typed or flag in found.values for flag in flags)
    ]
    if not any(flag in typed for flag in _CENTRES) and not all(flag in found.values for flag in centre):
        keys = {flag: keyword for keyword, flag in _FLAG_OF_KEY.items()}
        lacking.append(f"{keys[centre[0]]} and {keys[centre[1]]} (the detector's centre)")
    if not lacking or not paths:
        return []
    named, verb = " and ".join(paths), "states" if len(paths) == 1 else "state"
    return [f"{named} {verb} no {', '.join(lacking)}: the defaults in brackets are taken"]
