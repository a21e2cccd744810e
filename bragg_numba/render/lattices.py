"""Frames of several crystals, or of blocks of several sizes: one after another into the same image, and water once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from bragg_numba.plan.plan import Plan
from bragg_numba.render.background import without_reflections
from bragg_numba.render.found import FoundOfLattices, FoundOfSizes
from bragg_numba.render.statistics import Tally


class LatticesRenderer:
    """Adds up what the renderers of a frame's lattices make, in their order; or of a crystal's sizes of blocks.

    Every sum is of float32 in a fixed order: whoever renders, and with how many threads, gets the same bits.

    Parameters
    ----------
    plan
        A plan with ``parts``.
    choose
        Returns the renderer of one part's plan.
    """

    def __init__(self, plan: Plan, choose: Callable[[Plan], object]) -> None:
        self.plan = plan
        plans = list(plan.parts or ())
        rules = plan.rules
        # A frame that hits no crystal is dark, or shows its water.
        if not plans or rules.background != 0.0 or rules.flat_background != 0.0:
            plans.insert(0, without_reflections(plan))
        self._parts: list = [choose(one) for one in plans]
        self._lattices = self._parts[len(self._parts) - len(plan.parts or ()) :]

    @property
    def name(self) -> str:
        """The backend."""
        return self._parts[0].name

    @property
    def reason(self) -> str:
        """Why that backend: a clause."""
        return self._parts[0].reason

    @property
    def device(self):
        """What renders."""
        return getattr(self._parts[0], "device", "CPU")

    @property
    def precision(self) -> str:
        """``"tile"``, ``"float64"``, or ``"mixed"`` where lattices differ."""
        return self._common("precision")

    @property
    def engine(self) -> str:
        """``"pixels"``, ``"spots"``, or ``"mixed"`` where lattices differ."""
        return self._common("engine")

    @property
    def engine_reason(self) -> str:
        """Why that engine: a clause for each reason there is."""
        reasons = dict.fromkeys(part.engine_reason for part in self._lattices or self._parts)
        return "; ".join(reasons)

    @property
    def engine_seconds(self) -> dict[str, float]:
        """What each engine was predicted to take for all lattices; empty where they were not all compared."""
        found = [part.engine_seconds for part in self._lattices]
        if not found or not all(found):
            return {}
        return {name: sum(seconds[name] for seconds in found) for name in found[0]}

    @property
    def cut_photons(self) -> float:
        """What no pixel's expectation is off by more than because something was cut, photons."""
        return float(sum(part.cut_photons for part in self._parts))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is done otherwise than a user may expect, each note once."""
        return tuple(dict.fromkeys(note for part in self._lattices for note in part.notes))

    def render_into(self, out: np.ndarray, tally: Tally, *, cleared: bool = False) -> Iterator[float]:
        """Render the frame into ``out`` (slow, fast) float32; yield the share of it that is there."""
        n = len(self._parts)
        other = np.zeros_like(out) if n > 1 else out
        tallies: list[Tally] = []
        for number, part in enumerate(self._parts):
            target, own = (other if number else out), Tally()
            for done in part.render_into(target, own, cleared=cleared if number == 0 else number == 1):
                yield (number + done) / n
            tally.missed += own.missed
            tallies.append(own)
            if number:
                np.add(out, other, out=out)
        tally.found = self._found(tallies)

    def stream(self, ranges: Iterable[tuple[int, int]], tally: Tally) -> Iterator[tuple[int, np.ndarray]]:
        """Render rows of the frame: yield each range's first row and (n, n_fast) float32 photons."""
        tallies = [Tally() for _ in self._parts]
        for start, stop in ranges:
            rows = np.zeros((stop - start, self.plan.shape[1]), dtype=np.float32)
            for part, own in zip(self._parts, tallies, strict=True):
                for first, band in part.stream([(start, stop)], own):
                    rows[first - start : first - start + len(band)] += band
            yield start, rows
        tally.missed += sum(own.missed for own in tallies)
        tally.found = self._found(tallies)

    def _found(self, tallies: list[Tally]) -> FoundOfLattices | FoundOfSizes | None:
        """What was found of the lattices' spots, where all of them were rendered spot by spot."""
        of_lattices = tallies[len(tallies) - len(self._lattices) :]
        found = [own.found for own in of_lattices if own.found is not None]
        if not found or len(found) < len(of_lattices):
            return None
        return FoundOfSizes(found) if self.plan.lattices is None else FoundOfLattices(found)

    def _common(self, name: str) -> str:
        found = {getattr(part, name) for part in self._lattices or self._parts}
        return found.pop() if len(found) == 1 else "mixed"
