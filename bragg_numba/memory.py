"""How much memory a job may take, and how much there is."""

from __future__ import annotations

import os

from bragg_numba.errors import InputError

#: Share of the free memory that a job may take unless told otherwise.
DEFAULT_SHARE = 0.8

#: Bytes that are always there.
ALWAYS_FREE = 2**20


def free_memory() -> int:
    """Bytes that the system could give to a new job; a cautious guess where it does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (ValueError, OSError, AttributeError):
        return 2**32


def parse_bytes(name: str, text: str) -> int:
    """Return the bytes that ``text`` asks for: a number, or one with the unit K, M, G or T (powers of 1000)."""
    units = {"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    number, unit = (text[:-1], units[text[-1].upper()]) if text[-1:].upper() in units else (text, 1.0)
    try:
        wanted = float(number) * unit if "_" not in number else -1.0
    except ValueError:
        wanted = -1.0
    if not 1.0 <= wanted <= 1e18:
        raise InputError(name, "must be a number of bytes, at least 1", text, "for example 4e9, 500M, 2G")
    return int(wanted)


def require(name: str, n_bytes: int, limit: int | None, hint: str = "") -> None:
    """Raise InputError if ``n_bytes`` is more than ``limit`` (default: 80 % of what is free)."""
    if limit is None and n_bytes <= ALWAYS_FREE:
        return  # without asking the system, which takes longer than planning a small frame of a series
    allowed = int(DEFAULT_SHARE * free_memory()) if limit is None else limit
    if n_bytes > allowed:
        raise InputError(
            name,
            f"would take {n_bytes:,} bytes of memory where {allowed:,} are allowed",
            hint=hint or "raise -max-memory or make it smaller",
        )
