"""Gates: the kernels must keep their lead over the yardstick, and the fidelities their distance.

Ratios of interleaved pairs taken in one run, never seconds. A gate fails below 85 % of the recorded figure;
``scripts/bench --record`` writes the record.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cases import CASES, FIDELITIES
from pairs import against_yardstick, paired_ratio

from bragg_numba import Experiment, Simulator

RECORD = json.loads((Path(__file__).parent / "recorded.json").read_text())
SLACK = 0.85


@pytest.mark.parametrize("name", sorted(RECORD["over_yardstick"]))
def test_the_lead_over_the_yardstick_is_kept(name):
    # The middle rows: enough pixels for steady ratios, few enough for the yardstick.
    ratio, error = against_yardstick(CASES[name][1], pairs=5, rows=RECORD["rows"][name])

    print(f"{name}: {ratio:.1f} times the yardstick (recorded {RECORD['over_yardstick'][name]:.1f})")
    assert error < 1e-5, "both must render the same image"
    assert ratio > SLACK * RECORD["over_yardstick"][name]


def test_physical_costs_at_most_half_as_much_again():
    images = {name: Simulator(Experiment.from_nanobragg(line)) for name, line in FIDELITIES.items()}
    outs = {name: np.zeros(sim.shape, np.float32) for name, sim in images.items()}

    ratio = paired_ratio(
        lambda: images["physical"].render(outs["physical"]),
        lambda: images["nanobragg"].render(outs["nanobragg"]),
        pairs=7,
        repeats=1,
    )

    print(f"physical takes {ratio:.2f} times as long as nanobragg")
    assert ratio < 1.5 / SLACK
