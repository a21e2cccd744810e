"""From CrystFEL's merged intensities to the amplitudes of every reflection, and what a cell lets there be."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.crystfel_files import CrystfelCell, ReflectionList, read_reflections
from bragg_numba.io.point_groups import SYMBOLS, centring_allows, expand, operations

__all__ = ["ListedFactors", "read_factors", "reflections_of_cell", "require_fitting"]

#: How far the edges (of the longer) and the angles of a cell may be from its point group, and still be refined ones.
_EDGE_SLACK, _ANGLE_SLACK_DEG = 0.03, 2.0

#: More reflections than this are a slip of the pen, or more memory than they are worth.
_MOST_REFLECTIONS = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFactors:
    """Amplitudes of every reflection that a list of merged intensities tells of."""

    indices: np.ndarray  #: (n, 3) int32, each reflection once
    amplitudes: np.ndarray  #: (n,) float64
    symmetry: str  #: the point group they were expanded by
    origin: str  #: where they come from, for a person
    counts: tuple[tuple[str, int], ...]  #: what the list held that deserves a word, by name
    notes: tuple[str, ...]  #: what was done of the list, a sentence each
    doubts: tuple[str, ...]  #: what is hardly meant, a sentence each

    @property
    def fields(self) -> dict[str, Any]:
        """What ``StructureFactors`` takes of them."""
        return {name: getattr(self, name) for name in ("indices", "amplitudes", "origin", "counts")}


def read_factors(
    path: str | os.PathLike[str],
    symmetry: str | None = None,
    *,
    cell: CrystfelCell | None = None,
    scale: float = 1.0,
) -> ListedFactors:
    """Read a list of reflections of CrystFEL and expand it to every reflection of the P1 cell.

    Amplitudes are the roots of the intensities times ``scale``, those of negative intensities 0.

    Parameters
    ----------
    path
        A list such as partialator and process_hkl write.
    symmetry
        The point group as CrystFEL writes it, instead of the list's own.
    cell
        Must have this symmetry; reflections that its centring forbids are left out.

    Raises
    ------
    InputError
        If the file cannot be read or holds no reflection, does not say its point group, or says equivalent reflections
        to be different; or if the cell has another symmetry.
    """
    file = os.fspath(path)
    found = read_reflections(path)
    if not len(found.indices):
        raise InputError("the list", "must hold at least one reflection", file=file)
    own = symmetry if symmetry is not None else found.symmetry
    if own is None:
        hint = f"lists of version 1.0 do not say it: one of {', '.join(SYMBOLS)}"
        raise InputError("the point group", "must be given", hint=hint, file=file)
    own = own.strip()
    if cell is not None:
        require_fitting(own, cell)
    else:
        operations(own)  # so that a symbol that is none is not the file's fault
    try:
        every = expand(found.indices, found.intensities, own)
    except InputError as error:
        raise error.in_file(file) from None
    notes = []
    if every.repeated:
        notes.append(
            f"{file}: {every.repeated} of {len(found.indices)} reflections are images of others in {own}: the list is "
            "expanded already, and each counts once"
        )
    if every.filled:
        notes.append(f"{file}: {every.filled} reflections have the intensity of their Friedel mates, for want of one")
    indices, values, gone = every.indices, every.values, 0
    if cell is not None:
        allowed = centring_allows(indices, cell.centering)
        gone = int(np.count_nonzero(values[~allowed]))
        if gone:
            notes.append(f"{file}: {gone} reflections are left out, which centring {cell.centering} forbids")
        if not allowed.any():
            rule = f"must hold reflections that centring {cell.centering} allows"
            raise InputError("the list", rule, file=file)
        indices, values = indices[allowed], values[allowed]
    negative = int((values < 0.0).sum())
    if negative:
        notes.append(f"{file}: {negative} reflections have negative intensities: their amplitude is 0")
    return ListedFactors(
        indices=np.ascontiguousarray(indices),
        amplitudes=np.sqrt(np.maximum(values, 0.0)) * scale,
        symmetry=own,
        origin=f"{os.path.basename(file)}: roots of intensities in {own}",
        counts=(
            ("rows", len(found.indices)),
            ("negative", negative),
            ("duplicate", every.repeated),
            ("extinct_listed", gone),
            ("friedel_filled", every.filled),
        ),
        notes=tuple(notes),
        doubts=tuple(_lost_images(found, own, len(every.indices), file)),
    )


def _lost_images(found: ReflectionList, symmetry: str, number: int, file: str) -> list[str]:
    """Say that a point group leaves out images which the list's own would make."""
    if found.symmetry is None or found.symmetry == symmetry:
        return []
    try:
        listed = expand(found.indices, found.intensities, found.symmetry)
    except InputError:
        return []  # what the list says of itself is wrong, and somebody knew
    lost = len(listed.indices) - number
    if lost <= 0:
        return []
    return [f"{file}: the list says {found.symmetry}, which makes {lost} reflections more than {symmetry}"]


def require_fitting(symmetry: str, cell: CrystfelCell) -> None:
    """Raise InputError unless a cell has the symmetry of a point group, to the precision of refined cells.

    A point group whose unique axis is not that of the cell is what this finds: CrystFEL takes c where the symbol
    does not say.
    """
    metric = _metric(cell)
    if all(_is_alike(operation, metric) for operation in operations(symmetry)):
        return
    others = [f"{symmetry.split('_ua')[0]}_ua{axis}" for axis in "abc"]
    fitting = [other for other in others if all(_is_alike(one, metric) for one in operations(other))]
    hint = f"its unique axis is another: {fitting[0]}" if fitting else ""
    shown = (*cell.lengths_A, *cell.angles_deg)
    raise InputError(f"the point group {symmetry}", "must be one that the cell has", shown, hint)


def _metric(cell: CrystfelCell) -> np.ndarray:
    """The metric of real space, square angstrom."""
    a, b, c = cell.lengths_A
    al, be, ga = (math.cos(math.radians(angle)) for angle in cell.angles_deg)
    return np.array([[a * a, a * b * ga, a * c * be], [a * b * ga, b * b, b * c * al], [a * c * be, b * c * al, c * c]])


def _is_alike(operation: np.ndarray, metric: np.ndarray) -> bool:
    """Tell whether an operation on indices turns a cell into itself, nearly."""
    # h' = h W: the metric of reciprocal space must be that of its images.
    turned = np.linalg.inv(operation @ np.linalg.inv(metric) @ operation.T)
    edges, images = np.sqrt(np.diag(metric)), np.sqrt(np.diag(turned))
    if (np.abs(edges - images) > _EDGE_SLACK * np.maximum(edges, images)).any():
        return False
    cosines = metric / np.outer(edges, edges), turned / np.outer(images, images)
    angles = [np.degrees(np.arccos(np.clip(one, -1.0, 1.0))) for one in cosines]
    return bool(np.abs(angles[0] - angles[1]).max() < _ANGLE_SLACK_DEG)


def reflections_of_cell(cell: CrystfelCell, smallest_A: float) -> np.ndarray:
    """Return every reflection (n, 3) int32 that a cell's centring allows, of spacings of ``smallest_A`` and more.

    Raises
    ------
    InputError
        If there are more than memory should be given for.
    """
    metric = _metric(cell)
    most = np.floor(np.sqrt(np.diag(metric)) / smallest_A).astype(int)
    if math.prod(2 * int(n) + 1 for n in most) > _MOST_REFLECTIONS:
        rule = f"has more than {_MOST_REFLECTIONS:.0e} reflections to {smallest_A:.3g} angstrom"
        raise InputError("the cell", rule, (*cell.lengths_A, *cell.angles_deg), "give a list of them")
    axes = [np.arange(-n, n + 1, dtype=np.int32) for n in most]
    indices = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    indices = indices[centring_allows(indices, cell.centering)]
    squared = np.einsum("ni,ij,nj->n", indices, np.linalg.inv(metric), indices)
    found: np.ndarray = indices[(squared <= 1.0 / smallest_A**2) & indices.any(axis=1)]
    return found
