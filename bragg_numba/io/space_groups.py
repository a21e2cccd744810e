"""Space groups as arrays: images of reflections and of positions, phases between them, extinctions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bragg_numba.errors import InputError

__all__ = ["PARTS", "SpaceGroup", "find_space_group", "from_operations", "from_triplets"]

#: Translations are whole numbers of this part of an edge, as in gemmi.
PARTS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceGroup:
    """The operations of a space group; centring translations are kept apart from the others.

    An operation takes x to ``rotations[i] @ x + shifts[i] / 24``. The images of a reflection h are
    ``h @ rotations[i]``, and their structure factors are that of h times ``exp(-2 pi i h . shifts[i] / 24)``:
    amplitudes are the same, improper operations or not, with anomalous scatterers or without.
    """

    name: str  #: extended Hermann-Mauguin symbol, or the operations themselves where there is none
    rotations: np.ndarray  #: int64 (n, 3, 3)
    shifts: np.ndarray  #: int64 (n, 3), 24ths of an edge
    centrings: np.ndarray  #: int64 (m, 3), 24ths of an edge; the first is 0 0 0

    @property
    def can_extinguish(self) -> bool:
        """Whether there are extinct reflections at all."""
        return len(self.centrings) > 1 or bool(self.shifts.any())

    def extinct(self, indices: np.ndarray) -> np.ndarray:
        """Return which reflections (n, 3) the group extinguishes, bool (n,)."""
        found = np.zeros(len(indices), dtype=bool)
        for centring in self.centrings[1:]:
            found |= (indices @ centring) % PARTS != 0
        left = np.flatnonzero(~found)
        rest = indices[left]
        for rotation, shift in zip(self.rotations, self.shifts, strict=True):
            if not shift.any() or not len(rest):
                continue
            out_of_phase = np.flatnonzero((rest @ shift) % PARTS != 0)
            there = rest[out_of_phase]
            found[left[out_of_phase[(there @ rotation == there).all(axis=1)]]] = True
        return found

    def all_operations(self) -> tuple[np.ndarray, np.ndarray]:
        """Return every operation of the cell: rotations (n, 3, 3) and translations (n, 3) float64, parts of an edge."""
        m = len(self.centrings)
        shifts = (self.shifts[None] + self.centrings[:, None]).reshape(-1, 3)
        return np.tile(self.rotations, (m, 1, 1)), shifts / PARTS


def find_space_group(name: str, angles_deg: Iterable[float] = (), *, called: str = "the space group") -> SpaceGroup:
    """Return a space group by its symbol (Hermann-Mauguin or Hall) or number; a cell's angles tell R 3:H from R 3:R.

    Raises
    ------
    InputError
        For a symbol that is not known; ``called`` is what the symbol is called there.
    """
    import gemmi

    clean = " ".join(str(name).split())
    alpha, _, gamma = tuple(angles_deg) or (0.0, 0.0, 0.0)
    found: Any = gemmi.find_spacegroup_by_name(clean, alpha, gamma)
    if found is None and clean.isascii() and clean.isdigit():
        found = gemmi.find_spacegroup_by_number(int(clean))
    if found is None and clean:
        try:
            operations = gemmi.symops_from_hall(clean)
        except (RuntimeError, ValueError, IndexError):
            operations = None
        if operations is not None:
            return from_operations(operations)
    if found is None:
        raise InputError(called, "must be a space group", name, hint="such as P 21 21 21")
    return from_operations(found.operations(), found.xhm())


def from_triplets(triplets: Iterable[str], *, called: str = "the symmetry operations") -> SpaceGroup:
    """Return the space group of all its operations, such as ``x+1/2,-y,z``.

    Raises
    ------
    InputError
        For an operation that is none, or a list that is no group.
    """
    import gemmi

    operations = []
    for triplet in triplets:
        try:
            operations.append(gemmi.Op(triplet.strip().strip("'\"")))
        except (RuntimeError, ValueError) as error:
            raise InputError(called, "must be like x+1/2,-y,z", triplet) from error
    try:
        group = gemmi.GroupOps(operations)
    except (RuntimeError, ValueError) as error:
        raise InputError(called, "must be those of a space group", list(triplets)) from error
    whole = set(group)
    products = {(one * other).wrap() for one in group.sym_ops for other in group.sym_ops}
    if {operation.wrap() for operation in operations} != whole or not products <= whole:
        raise InputError(called, "must be those of a space group, all of them", len(operations))
    return from_operations(group)


def from_operations(operations: Any, name: str = "") -> SpaceGroup:
    """Return the space group of gemmi's ``GroupOps``."""
    import gemmi

    if not name:
        found = gemmi.find_spacegroup_by_ops(operations)
        name = found.xhm() if found else "; ".join(op.triplet() for op in operations.sym_ops)
    listed = list(operations.sym_ops)
    rotations = np.array([op.rot for op in listed], dtype=np.int64) // gemmi.Op.DEN
    shifts = np.array([op.tran for op in listed], dtype=np.int64)
    centrings = np.array(list(operations.cen_ops), dtype=np.int64)
    centrings = centrings[np.argsort(centrings.any(axis=1), kind="stable")]
    return SpaceGroup(name=name, rotations=rotations, shifts=shifts, centrings=centrings)
