"""Print what setup.cfg asks for, one requirement a line, as pip takes them: --oldest of each, or --newest.

Extras that are named come along (``pinned_requirements.py --oldest test cluster``). Of a package with a lower bound
``--oldest`` asks for exactly that version. Compilers for GPUs and tools that only scripts/check runs are not pinned.
"""

from __future__ import annotations

import argparse
import configparser
import re
from pathlib import Path

SETUP = Path(__file__).resolve().parent.parent / "setup.cfg"
NOT_PINNED = re.compile(r"(numba-cuda|cupy|nvidia|mypy|ruff)\b")


def requirements(extras: list[str]) -> list[str]:
    """Return the requirements of the package and of the extras that are named, as setup.cfg has them."""
    setup = configparser.ConfigParser()
    setup.read(SETUP, encoding="utf-8")
    texts = [setup["options"]["install_requires"], *(setup["options.extras_require"][name] for name in extras)]
    lines = [line.split(" #")[0].strip() for text in texts for line in text.splitlines()]
    return [line for line in dict.fromkeys(lines) if line and not line.startswith("#")]


def oldest(requirement: str) -> str:
    """Return a requirement that only the lower bound of the one given meets."""
    if NOT_PINNED.match(requirement):
        return requirement
    name, bound = re.match(r"([\w.-]+(?:\[\w+\])?)\s*>=\s*([\w.]+)", requirement).groups()
    marker = requirement.partition(";")[2]
    return f"{name} == {bound}" + (f" ; {marker.strip()}" if marker else "")


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--oldest", action="store_true", help="the lower bound of each")
    which.add_argument("--newest", action="store_true", help="as they stand: pip takes the newest that they allow")
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help="an extra of setup.cfg")
    arguments = parser.parse_args()
    for line in requirements(arguments.extras):
        print(oldest(line) if arguments.oldest else line)


if __name__ == "__main__":
    main()
