"""h, k, l of a pixel by mpmath, and experiments to compare them on."""

from __future__ import annotations

import mpmath


def exact_phases(plan, row: int, column: int) -> list:
    """h, k, l of the first source and orientation at a pixel's centre, from the plan's float64 parameters."""
    g = plan.panels[0]
    mp = mpmath.mpf
    fast = mp(g.pitch_fast) * column + mp(g.pitch_fast) / 2
    slow = mp(g.pitch_slow) * row + mp(g.pitch_slow) / 2
    place = [
        fast * mp(getattr(g, f"fast_{x}")) + slow * mp(getattr(g, f"slow_{x}")) + mp(getattr(g, f"origin_{x}"))
        for x in "xyz"
    ]
    r = mpmath.sqrt(sum(p * p for p in place))
    incident, wavelength = plan.sources.incident[0], mp(float(plan.sources.wavelength[0]))
    q = [(p / r - mp(float(i))) / wavelength for p, i in zip(place, incident, strict=True)]
    return [sum(mp(float(plan.cells[0][3 * axis + i])) * q[i] for i in range(3)) for axis in range(3)]


def turns_between(n: int, h, found: float) -> float:
    """By how much ``found`` differs from n h, whole turns apart."""
    return float(abs((n * h - mpmath.mpf(found) + mpmath.mpf("0.5")) % 1 - mpmath.mpf("0.5")))


def random_words(rng) -> str:
    """A random experiment of up to 1000 cells an axis, 2048 x 2048 pixels, one step."""
    cell = [*rng.uniform(20, 1000, 3), *rng.uniform(75, 105, 3)]
    words = ["-cell", *cell, "-misset", *rng.uniform(-180, 180, 3)]
    words += ["-Na", rng.integers(1, 1001), "-Nb", rng.integers(1, 1001), "-Nc", rng.integers(1, 1001)]
    words += ["-lambda", rng.uniform(0.7, 6), "-distance", rng.uniform(40, 1000)]
    words += ["-pixel", rng.choice([0.01, 0.05, 0.1]), "-detpixels", 2048, "-default_F", 1, "-oversample", 1]
    words += ["-twotheta", rng.uniform(0, 90), "-pivot", "sample", "-Xbeam", rng.uniform(-20, 20)]
    return " ".join(str(word) for word in words)
