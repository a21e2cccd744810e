"""Set-up that every test shares: two threads, the long profile."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


#: What reads the sources of this repository. Beside a wheel (scripts/test --wheel) there are none.
OF_THE_CHECKOUT = [
    "kernels/test_cache.py",
    "lab/machine_code/test_gates.py",
    "lab/parity/test_matrix.py",
    "test_device_day.py",
    "test_docs.py",
    "test_layers.py",
    "test_package.py",
    "test_readme.py",
    "test_roundtrip.py",
    "test_site.py",
]
collect_ignore = [] if (ROOT / "setup.cfg").exists() else OF_THE_CHECKOUT

# It counts only if it is set before numba is imported.
assert "numba" not in sys.modules, "numba was imported before the tests could say how many threads it is to use"
os.environ.setdefault("NUMBA_NUM_THREADS", "2")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="the long profile: slow tests and 3000 fuzz examples")


def pytest_configure(config: pytest.Config) -> None:
    from hypothesis import HealthCheck, settings

    unhurried = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    settings.register_profile("short", max_examples=200, derandomize=True, **unhurried)
    settings.register_profile("long", max_examples=3000, **unhurried)
    settings.load_profile("long" if config.getoption("--long") else "short")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="belongs to the long profile: --long"))


@pytest.fixture
def golden_folder() -> Path:
    """tests/golden."""
    return ROOT / "tests" / "golden"
