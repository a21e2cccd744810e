"""Hand-written Numba kernels: equations in ``physics``, loops in ``cpu`` and ``cuda``.

This package imports only math, numba, numpy and itself; ``_cache``, ``_launch`` and ``_vectors``, which deal with the
machine, more.
"""
