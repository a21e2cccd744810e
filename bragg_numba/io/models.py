"""Atoms of a crystal from files of coordinates: PDB and mmCIF, by gemmi."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.reflection_files import checked_cell, read_whole, refused_by_gemmi
from bragg_numba.io.reflections import metric_of
from bragg_numba.io.space_groups import SpaceGroup, from_operations

__all__ = ["Model", "read_model"]

#: An atom closer to its own image than this, angstrom, lies on the element of symmetry between them.
SPECIAL_A = 0.5

#: Columns of x, y, z, occupancy and B in ATOM records; gemmi takes the last two to be 1 and 20 where they are blank.
_PDB_NUMBERS = ((30, 38), (38, 46), (46, 54), (54, 60), (60, 66))

#: Times that it is moved at most.
_MOST_MOVES = 8

#: What an element of a file's matrix may differ by from that of its cell before the file's is taken: the rounding of
#: SCALE records.
_ROUNDING = 1e-6

#: Part by which edges that a file's matrix implies may differ from its cell's.
_FITS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The atoms of the asymmetric unit, every alternate conformation of them, and how they repeat."""

    cell: tuple[float, ...]  #: a, b, c (angstrom), alpha, beta, gamma (degrees)
    group: SpaceGroup
    elements: tuple[str, ...]  #: symbol of each atom, as Fe
    charges: np.ndarray  #: int64 (n,)
    positions: np.ndarray  #: float64 (n, 3), parts of the cell
    occupancies: np.ndarray  #: float64 (n,); of an atom on a special position its part of one of the images
    exponents: np.ndarray  #: float64 (n, 3, 3): the Debye-Waller factor is exp(-h exponents h)
    structure: Any  #: gemmi's, with the same positions, occupancies and displacements
    counts: dict[str, int]
    notes: tuple[str, ...] = field(default=())


def read_model(path: str | os.PathLike[str]) -> Model:
    """Read the atoms of a PDB or mmCIF file, gzipped or not.

    Non-crystallographic symmetry that the file does not write out (MTRIX records without a 1 in column 60) is carried
    out; biological assemblies are not, which say nothing of the crystal. An atom of full occupancy within ``SPECIAL_A``
    of its own image is moved onto the element of symmetry, and its images there count as one atom; one of another
    occupancy stays where it is, and counts as often as it has images: its occupancy has been divided among them.

    Raises
    ------
    InputError
        If the file cannot be read, holds no crystal or more than one model, an atom whose element is not known, or
        numbers that are none.
    """
    import gemmi

    file = os.fspath(path)
    text = read_whole(path)
    if not text.strip():
        raise InputError(file, "holds no atoms: it is empty")
    with refused_by_gemmi(path, "coordinates"):
        return _model_of(gemmi.read_structure(file, format=gemmi.CoorFormat.Detect), text, file)


def _model_of(structure: Any, text: bytes, file: str) -> Model:
    """The model of gemmi's structure."""
    import gemmi

    if not len(structure) or not any(True for _ in structure[0].all()):
        raise InputError(file, "holds no atoms")
    if structure.input_format == gemmi.CoorFormat.Pdb:
        _require_numbers(text.decode("latin-1"), file)
    if not structure.cell.is_crystal():
        hint = "CRYST1 in a PDB file, _cell.length_a and the like in mmCIF"
        raise InputError("the coordinates", "must come with a unit cell", file=file, hint=hint)
    if len(structure) > 1:
        rule = "must hold one model"
        raise InputError("the coordinates", rule, len(structure), "write the one that is meant to a file", file=file)
    cell = checked_cell(structure.cell.parameters, file)
    found = structure.find_spacegroup()
    if found is None:
        raise InputError("the space group", "must be one that is known", structure.spacegroup_hm, file=file)
    group = from_operations(found.operations(), found.xhm())
    places = np.array([site.atom.pos.tolist() for site in structure[0].all()])
    if not np.isfinite(places).all():
        bad = [site.atom for site in structure[0].all()][int(np.argmin(np.isfinite(places).all(axis=1)))]
        raise InputError(f"atom {bad.serial} {bad.name}", "must have finite coordinates", file=file)
    listed = len(places)
    structure.expand_ncs(gemmi.HowToNameCopiedChain.Dup)
    atoms = [site.atom for site in structure[0].all()]
    notes: list[str] = []
    to_cell, shift = _fractions(structure, text, cell, notes)
    positions = np.array([atom.pos.tolist() for atom in atoms]) @ to_cell.T + shift
    occupancies = np.array([atom.occ for atom in atoms], dtype=np.float64)
    exponents = _exponents(atoms, to_cell, cell)
    for values, what in ((occupancies, "occupancy"), (exponents, "displacement")):
        bad = ~np.isfinite(values.reshape(len(atoms), -1)).all(axis=1)
        if bad.any():
            raise InputError(f"atom {atoms[int(np.argmax(bad))].serial}", f"must have a finite {what}", file=file)
    elements = tuple(atom.element.name for atom in atoms)
    if "X" in elements:
        atom = atoms[elements.index("X")]
        raise InputError(f"atom {atom.serial} {atom.name}", "must be of a known element", file=file)
    special = _settle(positions, occupancies, exponents, group, cell)
    structure.cell = gemmi.UnitCell(*cell)  # without a frame of the file's own
    structure.setup_cell_images()
    _write_back(atoms, positions, occupancies, exponents, structure.cell, special)
    return Model(
        cell=cell,
        group=group,
        elements=elements,
        charges=np.array([atom.charge for atom in atoms], dtype=np.int64),
        positions=positions,
        occupancies=occupancies,
        exponents=exponents,
        structure=structure,
        counts={"atoms": listed, "ncs_copies": len(atoms) - listed, "special_positions": int(special.sum())},
        notes=tuple(notes),
    )


def _require_numbers(text: str, file: str) -> None:
    """Refuse a PDB file whose atoms have words for numbers, which gemmi takes for 0."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith(("ATOM  ", "HETATM")):
            try:
                for start, end in _PDB_NUMBERS:
                    if start < 54 or line[start:end].strip():
                        float(line[start:end])
            except ValueError:
                rule = "must hold x, y, z, occupancy and B in columns 31 to 66"
                raise InputError(f"line {number}", rule, line[30:66], file=file) from None


def _fractions(structure: Any, text: bytes, cell: tuple[float, ...], notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """What turns the file's coordinates into parts of the cell: a matrix and a shift.

    The file's own matrix, where it says more than its cell does, as other programs take it.
    """
    import gemmi

    of_cell = np.array(gemmi.UnitCell(*cell).frac.mat.tolist())
    nothing = np.zeros(3)
    if structure.input_format == gemmi.CoorFormat.Pdb:
        stated = list(_scale_records(text.decode("latin-1")))
    else:
        stated = list(_scale_items(text.decode("utf-8", "replace")))
    if len(stated) != 3:
        return of_cell, nothing
    matrix, shift = np.array(stated)[:, :3], np.array(stated)[:, 3]
    if np.abs(matrix - of_cell).max() < _ROUNDING and not shift.any():
        return of_cell, nothing
    try:
        edges = np.linalg.norm(np.linalg.inv(matrix), axis=0)
        fits = bool((np.abs(edges / cell[:3] - 1.0) < _FITS).all())
    except np.linalg.LinAlgError:
        fits = False
    if not fits:
        notes.append("the file's matrix to fractional coordinates (SCALE) does not fit its unit cell and was left out")
        return of_cell, nothing
    return matrix, shift


def _scale_records(text: str) -> Iterator[list[float]]:
    for number in "123":
        found = re.search(rf"^SCALE{number}    (.{{10}})(.{{10}})(.{{10}}) {{5}}(.{{10}})", text, re.MULTILINE)
        if found is None:
            return
        try:
            yield [float(word) for word in found.groups()]
        except ValueError:
            return


def _scale_items(text: str) -> Iterator[list[float]]:
    import gemmi

    block = gemmi.cif.read_string(text).sole_block() if text.count("data_") == 1 else gemmi.cif.read_string(text)[0]
    for row in "123":
        tags = [f"_atom_sites.fract_transf_matrix[{row}][{column}]" for column in "123"]
        values = [
            gemmi.cif.as_number(block.find_value(tag) or "?")
            for tag in (*tags, f"_atom_sites.fract_transf_vector[{row}]")
        ]
        if not np.isfinite(values).all():
            return
        yield values


def _exponents(atoms: list, to_cell: np.ndarray, cell: tuple[float, ...]) -> np.ndarray:
    """Matrices of the Debye-Waller exponents as quadratic forms of h, k, l (n, 3, 3)."""
    import gemmi

    isotropic = np.array([atom.b_iso for atom in atoms], dtype=np.float64)
    exponents: np.ndarray = 0.25 * isotropic[:, None, None] * metric_of(cell)
    of_cell = np.array(gemmi.UnitCell(*cell).frac.mat.tolist())
    if np.abs(to_cell - of_cell).max() < 1e-3 * np.abs(of_cell).max():  # the same frame, but for rounding
        to_cell = of_cell
    anisotropic = [place for place, atom in enumerate(atoms) if atom.aniso.nonzero()]
    if anisotropic:
        displacements = np.array([atoms[place].aniso.as_mat33().tolist() for place in anisotropic])
        exponents[anisotropic] = 2.0 * np.pi**2 * (to_cell @ displacements @ to_cell.T)
    return exponents


def _settle(
    positions: np.ndarray, occupancies: np.ndarray, exponents: np.ndarray, group: SpaceGroup, cell: tuple[float, ...]
) -> np.ndarray:
    """Move atoms onto the elements of symmetry that they lie on, in place; return which, bool (n,)."""
    rotations, shifts = group.all_operations()
    real = np.linalg.inv(metric_of(cell))
    whole = np.flatnonzero(occupancies == 1.0)  # any other has been divided among the images already
    for _ in range(_MOST_MOVES):  # nearer to one element of symmetry an atom may be near to others that cross it
        sums, orders, forms = np.zeros((len(whole), 3)), np.zeros(len(whole)), np.zeros((len(whole), 3, 3))
        for rotation, shift in zip(rotations, shifts, strict=True):
            moved = positions[whole] @ rotation.T + shift - positions[whole]
            moved -= np.rint(moved)
            near = np.einsum("ni,ij,nj->n", moved, real, moved) < SPECIAL_A**2
            orders[near] += 1.0
            sums[near] += moved[near]
            forms[near] += rotation @ exponents[whole[near]] @ rotation.T
        steps = sums / orders[:, None]
        positions[whole] += steps
        if not (np.abs(steps) > 1e-12).any():
            break
    special = np.zeros(len(positions), dtype=bool)
    special[whole[orders > 1.0]] = True
    exponents[whole] = forms / orders[:, None, None]
    occupancies[whole] /= orders
    return special


def _write_back(atoms: list, positions, occupancies, exponents, cell: Any, special: np.ndarray) -> None:
    """Give gemmi's atoms their places in the frame of their cell, and what changed on special positions."""
    import gemmi

    to_space = np.array(cell.orth.mat.tolist())
    places = positions @ to_space.T
    for atom, place, occupancy in zip(atoms, places, occupancies, strict=True):
        atom.pos = gemmi.Position(*place)
        atom.occ = occupancy
    for number in np.flatnonzero(special):
        if atoms[number].aniso.nonzero():
            u = to_space @ exponents[number] @ to_space.T / (2.0 * np.pi**2)
            atoms[number].aniso = gemmi.SMat33f(u[0, 0], u[1, 1], u[2, 2], u[0, 1], u[0, 2], u[1, 2])
