"""One of several crystals that a frame shows together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.experiment.crystal import Crystal
from bragg_numba.experiment.noun import Noun


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Lattice(Noun):
    """A crystal and its share of a frame's photons.

    The photons of the crystal, as it would shine alone in the whole beam, are multiplied by ``weight``: a crystal
    split in two has lattices of 0.7 and 0.3, two crystals that are hit at once 1 and 1. Weights need not add up to 1.
    """

    crystal: Crystal
    weight: float = 1.0  #: what the crystal's photons are multiplied by, 0 to 1e6

    def __post_init__(self) -> None:
        if not isinstance(self.crystal, Crystal):
            raise InputError("Lattice.crystal", "must be a Crystal", self.crystal)
        self._set("weight", check.number("Lattice.weight", self.weight, low=0.0, high=1e6))

    @classmethod
    def from_dict(cls, values: dict) -> Self:
        """Build from what ``to_dict`` returned; an unknown field is an error that names the nearest."""
        if isinstance(values, dict) and isinstance(values.get("crystal"), dict):
            values = {**values, "crystal": Crystal.from_dict(values["crystal"])}
        elif isinstance(values, dict) and "crystal" not in values:
            raise InputError("Lattice.crystal", "must be given")
        # Named: inside a dataclass with slots, super() without arguments means the class without them.
        return super(Lattice, cls).from_dict(values)


def clean_lattices(name: str, value, water_um: float) -> tuple[Lattice, ...]:
    """Return the lattices of a frame as a tuple; pairs of crystal and weight, and crystals alone, become lattices.

    ``water_um`` is the frame's water, which is counted once: a lattice's crystal may name the same or none.
    """
    if isinstance(value, (str, bytes, dict, Lattice, Crystal)) or not hasattr(value, "__iter__"):
        raise InputError(name, "must be a list of Lattice", value, "of one, too; an empty one: no crystal is hit")
    found = []
    for index, one in enumerate(value):
        where = f"{name}[{index}]"
        if isinstance(one, Crystal):
            one = Lattice(crystal=one)
        elif isinstance(one, (tuple, list)) and len(one) == 2:
            one = Lattice(crystal=one[0], weight=one[1])
        if not isinstance(one, Lattice):
            raise InputError(where, "must be a Lattice, or a crystal and its weight", one)
        if one.crystal.water_um not in (0.0, water_um):
            hint = "a frame has the water of Experiment.crystal, once"
            raise InputError(f"{where}.crystal.water_um", f"must be 0 or {water_um:g}", one.crystal.water_um, hint)
        found.append(one)
    if len(found) > MOST_LATTICES:
        raise InputError(name, f"must be at most {MOST_LATTICES} lattices", len(found))
    return tuple(found)


#: More crystals than this on a frame are a slip of the pen.
MOST_LATTICES = 1000
