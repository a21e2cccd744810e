"""What is drawn for stills: orientations, values of a column, and how many crystals a frame shows.

Every column has a stream of its own, by its name: adding one changes no other, and the first frames of a longer series
are those of a shorter one.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.series.frames import rotation_of_quaternion

__all__ = ["draw", "draw_lattices", "generator_of", "random_rotations"]

#: What ``lattices`` of stills may say.
_LATTICE_KEYS = ("hit_rate", "count", "weights", "split_deg")

#: More crystals than this on a still are a slip of the pen.
_MOST_LATTICES = 100


def generator_of(seed: int, name: str) -> np.random.Generator:
    """Return the stream of random numbers that a column draws from."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *name.encode()])))


def random_rotations(generator: np.random.Generator, n: int) -> np.ndarray:
    """Rotation matrices (n, 3, 3), uniform over all rotations: quaternions uniform on the sphere."""
    return rotation_of_quaternion(generator.standard_normal((n, 4)))


def draw(where: str, how, generator: np.random.Generator, n: int) -> np.ndarray:
    """Draw a column's ``n`` values; ``how`` as ``still_series`` takes it, ``where`` for errors."""
    if callable(how):
        return np.asarray(how(generator, n))
    if not isinstance(how, Mapping) or len(how) != 1:
        raise InputError(where, "must be one of normal, uniform, lognormal, choice, with its numbers", how)
    kind, numbers = next(iter(how.items()))
    if kind == "choice":
        values = np.asarray(numbers)
        if not len(values):
            raise InputError(where, "must offer at least one value")
        return values[generator.integers(len(values), size=n)]
    if kind not in ("normal", "uniform", "lognormal"):
        raise InputError(where, "must be one of normal, uniform, lognormal, choice", kind)
    first, second = check.vector(where, numbers, length=2)
    if kind == "uniform":
        if second < first:
            raise InputError(where, "must have low <= high", numbers)
        return first + (second - first) * generator.random(n)
    if second < 0.0 or (kind == "lognormal" and first <= 0.0):
        raise InputError(where, "must have sigma >= 0 (and a median above 0)", numbers)
    drawn = generator.standard_normal(n)
    return first + second * drawn if kind == "normal" else first * np.exp(second * drawn)


def draw_lattices(given, first: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Draw the lattices of stills; return the columns of the table of frames.

    Parameters
    ----------
    given
        What ``still_series`` takes as ``lattices``.
    first
        (n, 3, 3) orientation of each frame's first lattice.

    Raises
    ------
    InputError
        For a key that is not known, or a value that none can have.
    """
    where = "lattices"
    if not isinstance(given, Mapping):
        hint = 'such as {"hit_rate": 0.7, "count": {"1": 0.8, "2": 0.2}}'
        raise InputError(where, f"must be a JSON object of {', '.join(_LATTICE_KEYS)}", given, hint)
    for key in given:
        if key not in _LATTICE_KEYS:
            near = difflib.get_close_matches(str(key), _LATTICE_KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(_LATTICE_KEYS)}"
            raise InputError(f"{where}.{key}", "is not known", hint=hint)
    n = len(first)
    rate = check.number(f"{where}.hit_rate", given.get("hit_rate", 1.0), low=0.0, high=1.0)
    numbers, shares = _counts(f"{where}.count", given.get("count", 1))
    most = int(numbers.max())
    edges = np.cumsum(shares) / shares.sum()
    chosen = np.searchsorted(edges, generator_of(seed, "lattices count").random(n), side="right")
    counts = numbers[np.minimum(chosen, len(numbers) - 1)]
    counts = np.where(generator_of(seed, "lattices hit").random(n) < rate, counts, 0)
    split = check.optional(check.number, f"{where}.split_deg", given.get("split_deg"), low=0.0, high=180.0)
    turns, weights = np.empty((n, most, 3, 3)), np.empty((n, most))
    for place in range(most):
        # The first lattice is the crystal that the series shows without any others.
        if place == 0:
            turns[:, 0] = first
        elif split is None:
            turns[:, place] = random_rotations(generator_of(seed, f"lattice {place} orientation"), n)
        else:
            turns[:, place] = _small_turns(generator_of(seed, f"lattice {place} split"), n, split) @ first
        weights[:, place] = _weights(f"{where}.weights", given.get("weights", 1.0), seed, place, n)
    absent = np.arange(most) >= counts[:, None]
    turns[absent] = weights[absent] = np.nan
    return {"lattice_orientation": turns, "lattice_weight": weights}


def _counts(where: str, given) -> tuple[np.ndarray, np.ndarray]:
    """How many lattices a frame may have, and how likely each number is; in rising order."""
    if not isinstance(given, Mapping):
        return np.array([check.count(where, given, low=1, high=_MOST_LATTICES)]), np.ones(1)
    if not given:
        raise InputError(where, "must be a number, or numbers and their probabilities", given)
    found = {}
    for key, share in given.items():
        try:
            number = int(key)
        except (TypeError, ValueError):
            raise InputError(where, "must have whole numbers of lattices as its keys", key) from None
        number = check.count(f"{where}: {key}", number, low=0, high=_MOST_LATTICES)
        found[number] = check.number(f"{where}: {key}", share, low=0.0, high=1e30)
    numbers = sorted(found)
    shares = np.array([found[number] for number in numbers])
    if not shares.any() or max(numbers) == 0:
        raise InputError(where, "must have a probability above 0 for at least one lattice", dict(given))
    return np.array(numbers), shares


def _weights(where: str, how, seed: int, place: int, n: int) -> np.ndarray:
    """Weights of one lattice of every frame."""
    if isinstance(how, (list, tuple)):
        if place >= len(how):
            raise InputError(where, f"must be one for each of {place + 1} lattices or more", how)
        how = how[place]
    if not callable(how) and not isinstance(how, Mapping):
        return np.full(n, check.number(where, how, low=0.0, high=1e6))
    values = np.asarray(draw(where, how, generator_of(seed, f"lattice {place} weight"), n), dtype=np.float64)
    # A normal distribution has a tail below 0, where no crystal shines.
    return np.clip(values, 0.0, 1e6)


def _small_turns(generator: np.random.Generator, n: int, sigma_deg: float) -> np.ndarray:
    """Rotation matrices (n, 3, 3) about axes of any direction, by angles of a normal distribution."""
    drawn = generator.standard_normal((n, 4))
    half = np.radians(sigma_deg) * drawn[:, :1] / 2.0
    axis = drawn[:, 1:] / np.linalg.norm(drawn[:, 1:], axis=1, keepdims=True)
    return rotation_of_quaternion(np.concatenate([np.cos(half), np.sin(half) * axis], axis=1))
