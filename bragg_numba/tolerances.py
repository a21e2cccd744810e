"""How far a pixel may be from the exact one: the one place where the two numbers of that promise stand.

Float32 kernels are chosen so as to keep it (docs/physics.md, section 9), and images are compared by it, with those of
the C program too.
"""

from __future__ import annotations

#: Part of the pixel's own value.
RELATIVE = 1e-5

#: Part of the frame's brightest pixel.
OF_BRIGHTEST = 2e-7


def allowed(exact, brightest: float):
    """How far pixels may lie from ``exact``, a number or an array, in a frame whose brightest is ``brightest``."""
    return RELATIVE * abs(exact) + OF_BRIGHTEST * brightest
