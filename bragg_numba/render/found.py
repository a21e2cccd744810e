"""What the engine of spots found of each reflection while it rendered a frame, and the table that this makes."""

from __future__ import annotations

import numpy as np

from bragg_numba.kernels.parameters import panel_array
from bragg_numba.kernels.spots.rows import FOUND_FAST, FOUND_PHOTONS, FOUND_SLOW, GAIN, WAVES, Lists
from bragg_numba.kernels.work import COLUMN, PANEL, ROW
from bragg_numba.plan.plan import Plan
from bragg_numba.predict.lit import Lit
from bragg_numba.predict.reach import reciprocal_cells
from bragg_numba.predict.spots import SPOT, inverse_gram, merge_spots, reach_of_shape


class FoundSpots:
    """Photons of every spot in every block of a frame, and where they lie.

    A block is counted once and whole, whoever renders it, in however many calls and bands of rows; a spot's blocks are
    added up in the order of the detector's panels, rows and columns. So a table does not depend on who rendered what.
    """

    def __init__(self, lit: Lit, *, normalised: bool) -> None:
        """``normalised``: whether the gains of the spots are those of lattice factors that are 1 on a peak."""
        self._lit, self._normalised = lit, normalised
        self._parts: list[tuple[np.ndarray, Lists, np.ndarray]] = []

    def add(self, tiles: np.ndarray, lists: Lists, found: np.ndarray) -> None:
        """Take what the blocks of a work list found: float64 (len(lists.spot), N_FOUND), in the order of the lists."""
        self._parts.append((tiles, lists, found))

    def _gathered(self) -> tuple[np.ndarray, ...]:
        """Of all spots of all blocks, in the order of the blocks: panel, row, column, spot, and what was found."""
        of_tile = [np.repeat(tiles, np.diff(lists.first), axis=0) for tiles, lists, _ in self._parts]
        place = np.concatenate([tiles[:, [PANEL, ROW, COLUMN]] for tiles in of_tile])
        spot = np.concatenate([lists.spot for _, lists, _ in self._parts])
        found = np.concatenate([found for _, _, found in self._parts])
        if len(self._parts) > 1:
            # Bands of rows that cut a block both have it.
            order = np.lexsort((spot, place[:, 2], place[:, 1], place[:, 0]))
            place, spot, found = place[order], spot[order], found[order]
            same = (np.diff(place, axis=0) == 0).all(axis=1) & (np.diff(spot) == 0)
            own = np.append(True, ~same)[: len(spot)]
            place, spot, found = place[own], spot[own], found[own]
        return place, spot, found

    def table(self, plan: Plan, threshold: float) -> np.ndarray:
        """The spots that brought at least ``threshold`` photons to the wanted pixels of a panel; see SPOT."""
        lit = self._lit
        place, spot, found = self._gathered()
        brought = found[:, FOUND_PHOTONS] > 0.0
        place, spot, found = place[brought], spot[brought], found[brought]
        keys, owner = np.unique(place[:, 0].astype(np.int64) * len(lit.indices) + spot, return_inverse=True)

        def summed(values: np.ndarray) -> np.ndarray:
            return np.bincount(owner, weights=values, minlength=len(keys))  # one after the other, in this order

        photons = found[:, FOUND_PHOTONS]
        total = summed(photons)
        slow = summed(found[:, FOUND_SLOW] + photons * place[:, 1]) / total
        fast = summed(found[:, FOUND_FAST] + photons * place[:, 2]) / total
        kept = total >= threshold
        total, slow, fast = total[kept], slow[kept], fast[kept]
        panel, spot = np.divmod(keys[kept], len(lit.indices))
        table = np.zeros(len(total), dtype=SPOT)
        table["panel"], table["photons"] = panel, total
        corners = np.array([(g.first_row, g.first_column) for g in plan.panels])
        table["slow"], table["fast"] = slow + corners[panel, 0], fast + corners[panel, 1]
        for column, name in enumerate("hkl"):
            table[name] = lit.indices[spot, column]
        self._complete(plan, table, panel, spot, np.stack([fast, slow], axis=1))
        return table

    def _complete(self, plan: Plan, table: np.ndarray, panel: np.ndarray, spot: np.ndarray, at: np.ndarray) -> None:
        from bragg_numba.kernels.spots import complete

        lit, lattice = self._lit, plan.lattice
        gains = lit.spots[spot, GAIN]
        if not self._normalised:
            gains = gains * (lattice.n_a * lattice.n_b * lattice.n_c) ** 2
        stars = reciprocal_cells(plan)
        said = complete.complete_spots(
            panel_array(plan.panels),
            lattice,
            plan.rules,
            lit.beams,
            plan.cell_rows,
            stars,
            inverse_gram(plan),
            reach_of_shape(plan, stars[0]),
            np.ascontiguousarray(lit.indices[spot]),
            gains,
            panel,
            at,
            np.ascontiguousarray(lit.spots[spot, WAVES:]) if len(lit.factors) else np.empty((0, 0)),
            lit.factors,
        )
        table["resolution_A"] = said[:, complete.RESOLUTION] * 1e10
        table["excitation_error_per_A"] = said[:, complete.EXCITATION] * 1e-10
        table["partiality"] = table["photons"] / said[:, complete.ON_SPHERE]


class FoundOfSizes:
    """The same of a crystal with blocks of several sizes, in their order."""

    def __init__(self, found: list) -> None:
        self._found = found

    def table(self, plan: Plan, threshold: float) -> np.ndarray:
        """As FoundSpots.table, all sizes together; ``plan`` has the sizes."""
        tables = [found.table(one, 0.0) for found, one in zip(self._found, plan.sizes or (), strict=True)]
        return merge_spots(tables, threshold)


class FoundOfLattices:
    """The same of a frame with several lattices, in their order."""

    def __init__(self, found: list) -> None:
        self._found = found

    def table(self, plan: Plan, threshold: float) -> np.ndarray:
        """As FoundSpots.table, lattice by lattice; ``plan`` has the lattices."""
        tables = []
        for number, (found, one) in enumerate(zip(self._found, plan.lattices or (), strict=True)):
            tables.append(found.table(one, threshold))
            tables[-1]["lattice"] = number
        return np.concatenate(tables)
