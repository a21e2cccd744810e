"""The version of this package, and of what it computes and writes with."""

from __future__ import annotations

__version__ = "0.1.0"

#: What a seed means: the stream that counts are drawn from, and how (docs/design/004-noise-in-vectors.md).
NOISE = "philox4x32-10, quantile"


def versions() -> dict[str, str]:
    """Versions of this package and of what computes and writes with it."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in ("bragg-numba", "numba", "numpy", "h5py"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
