"""How far a pixel may be from the exact one: the one place where the two numbers of that promise stand.

|pixel - exact| <= RELATIVE |exact| + OF_BRIGHTEST max(exact). Float32 kernels are chosen so as to keep it
(docs/physics.md, section 9), and images are compared by it, with the reference too.
"""

from __future__ import annotations

#: Part of the pixel's own value.
RELATIVE = 1e-5

#: Part of the frame's brightest pixel.
OF_BRIGHTEST = 2e-7
