"""MTZ and CIF files of made-up reflections, for tests of what reads them."""

from __future__ import annotations

from pathlib import Path

import gemmi
import numpy as np

#: Space groups with a cell each: screw axes, centrings, improper operations, both settings of a rhombohedral lattice.
GROUPS = {
    "P 21 21 21": (20, 24, 30, 90, 90, 90),
    "C 1 2 1": (30, 20, 25, 90, 105, 90),
    "I 2 3": (30, 30, 30, 90, 90, 90),
    "R 3:H": (30, 30, 25, 90, 90, 120),
    "R 3:R": (20, 20, 20, 75, 75, 75),
    "P n a 21": (20, 24, 18, 90, 90, 90),
    "P -4 21 c": (22, 22, 18, 90, 90, 90),
    "P 1": (11, 12, 13, 80, 95, 100),
    "P -1": (11, 12, 13, 80, 95, 100),
}


def unique(name: str, dmin: float = 2.53) -> np.ndarray:
    """The reflections of the asymmetric unit that are not extinct, int32 (n, 3)."""
    return gemmi.make_miller_array(gemmi.UnitCell(*GROUPS[name]), gemmi.SpaceGroup(name), dmin, unique=True)


def values_of(indices: np.ndarray, seed: int = 1) -> np.ndarray:
    """Numbers of a few digits that 32 bits and text hold alike, float32 (n,)."""
    return np.float32(np.random.default_rng(seed).integers(100, 99999, len(indices)) / 100)


def write_mtz(path: Path, name: str, indices: np.ndarray, columns: dict[str, tuple[str, np.ndarray]]) -> Path:
    """Write an MTZ file; columns by label: type and values."""
    mtz = gemmi.Mtz(with_base=True)
    mtz.spacegroup = gemmi.SpaceGroup(name)
    mtz.set_cell_for_all(gemmi.UnitCell(*GROUPS[name]))
    mtz.add_dataset("made")
    for label, (kind, _) in columns.items():
        mtz.add_column(label, kind)
    mtz.set_data(np.column_stack([indices, *(values for _, values in columns.values())]).astype(np.float32))
    mtz.write_to_file(str(path))
    return path


def write_cif(path: Path, name: str, indices: np.ndarray, columns: dict[str, np.ndarray], prefix="_refln.") -> Path:
    """Write a CIF file of structure factors; columns by tag, NaN as a question mark."""
    dot = prefix[-1]
    cell = zip(
        ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"), GROUPS[name], strict=True
    )
    lines = ["data_made", *(f"_cell{dot}{key} {value}" for key, value in cell)]
    lines += [f"_symmetry{dot}space_group_name_H-M '{name}'", "loop_"]
    lines += [f"{prefix}{tag}" for tag in ("index_h", "index_k", "index_l", *columns)]
    for row, hkl in enumerate(indices):
        words = [f"{values[row]:.9g}" if np.isfinite(values[row]) else "?" for values in columns.values()]
        lines.append(" ".join([*map(str, hkl), *words]))
    path.write_text("\n".join(lines) + "\n")
    return path
