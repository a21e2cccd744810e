"""The gates' figures, one set a kind of processor: vectors of 512 bits double most of the ratios."""

from __future__ import annotations

import json
import time
from pathlib import Path

PATH = Path(__file__).with_name("recorded.json")

#: Whose figures hold on a processor that has none of its own.
OTHER = "other"


def processor_kind() -> str:
    """The processor as the compiler calls it: ``znver5``, ``sapphirerapids``."""
    from llvmlite import binding
    from numba import config

    return config.CPU_NAME or binding.get_host_cpu_name()


def figures() -> tuple[str, dict]:
    """Whose figures hold here, and they: ``over_yardstick`` by case, ``gain_of_skipping``."""
    kept = json.loads(PATH.read_text())
    kind = processor_kind()
    return (kind, kept[kind]) if kind in kept else (OTHER, kept[OTHER])


def record(over_yardstick: dict[str, float], gain_of_skipping: float | None) -> None:
    """Write figures for this kind of processor; what is not given keeps its own."""
    kept = json.loads(PATH.read_text())
    mine = kept.setdefault(processor_kind(), figures()[1])
    mine["over_yardstick"] |= {name: round(ratio, 1) for name, ratio in over_yardstick.items()}
    if gain_of_skipping is not None:
        mine["gain_of_skipping"] = round(gain_of_skipping, 2)
    mine["recorded"] = time.strftime("%Y-%m-%d")
    PATH.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
