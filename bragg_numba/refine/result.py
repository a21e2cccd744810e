"""What a refinement found: values with their uncertainties, refined experiments, tables and JSON."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bragg_numba.errors import InputError, read_from
from bragg_numba.experiment import Experiment

FORMAT, VERSION = "bragg_numba refinement", 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """One parameter before and after."""

    name: str
    unit: str
    still: int | None  #: whose own it is; None: shared by all, or of the only one
    start: float
    value: float
    sigma: float  #: standard deviation; inf where the data say nothing
    at_bound: bool

    @property
    def label(self) -> str:
        """Its name, after the number of its still where there are several."""
        return self.name if self.still is None else f"{self.still}: {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refinement:
    """The outcome of ``bragg_numba.refine``.

    Attributes
    ----------
    experiments
        Refined, one a still. Numbers of cells are rounded there; ``values`` has them as fitted.
    fitted
        Shared parameters first, then those of each still.
    correlations
        Of each still's own parameters with the shared ones, float64 (s + m, s + m), in that order.
    value
        Minus the logarithm of the likelihood, priors included.
    chi_square
        Sum of (data - model)^2 / (model + variance of the read-out).
    pixels
        How many were looked at.
    history
        ``value`` after each accepted step of the last stage, the start's first.
    evaluations
        Passes over all stills, all stages together.
    converged, reason
        Whether it stopped at a minimum, and a clause why it stopped.
    notes
        What one may not expect, one sentence each.
    factor_sigmas
        Standard deviations of the amplitudes of the experiments' structure factors, float64 (n,), inf where the data
        say nothing; None where these were not refined.
    """

    experiments: tuple[Experiment, ...]
    fitted: tuple[Fitted, ...]
    correlations: tuple[np.ndarray, ...]
    value: float
    chi_square: float
    pixels: int
    history: tuple[float, ...]
    evaluations: int
    converged: bool
    reason: str
    likelihood: str
    notes: tuple[str, ...] = ()
    factor_sigmas: np.ndarray | None = field(default=None, compare=False)
    _stills: tuple = field(default=(), repr=False, compare=False)
    _values: tuple = field(default=(), repr=False, compare=False)

    @property
    def experiment(self) -> Experiment:
        """The refined experiment of the first still."""
        return self.experiments[0]

    @property
    def values(self) -> dict[str, float]:
        """Fitted values by name; with several stills a still's own have its number before them: ``"3: scale"``."""
        return {one.label: one.value for one in self.fitted}

    @property
    def sigmas(self) -> dict[str, float]:
        """Standard deviations by the same names."""
        return {one.label: one.sigma for one in self.fitted}

    @property
    def reduced_chi_square(self) -> float:
        """Chi-square over pixels less parameters; about 1 where the model is right and photons are many."""
        return self.chi_square / max(1, self.pixels - len(self.fitted))

    def names_of(self, still: int = 0) -> tuple[str, ...]:
        """Names of the rows of ``correlations[still]``."""
        several = len(self.experiments) > 1
        mine = [one.name for one in self.fitted if one.still is None or not several or one.still == still]
        return tuple(mine)

    def model(self, still: int = 0) -> np.ndarray:
        """Photons that the refined experiment of a still leads to expect, background included: (slow, fast) float64."""
        return self._stills[still].model(self._values[still], whole=True)

    def table(self, own: bool | None = None) -> str:
        """A table of the parameters before and after, with their uncertainties.

        ``own`` says whether the stills' own parameters are listed, too; None: where there are at most three stills.
        """
        own = len(self.experiments) <= 3 if own is None else own
        listed = [one for one in self.fitted if own or one.still is None]
        rows = [("parameter", "before", "after", "uncertainty", "unit")]
        for one in listed:
            after, sigma = with_uncertainty(one.value, one.sigma)
            rows.append((one.label, f"{one.start:.8g}", after, sigma + (" (bound)" if one.at_bound else ""), one.unit))
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines = [
            "  ".join(
                cell.ljust(w) if i in (0, 4) else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        left_out = len(self.fitted) - len(listed)
        if left_out:
            lines.append(f"and {left_out} parameters of single stills")
        return "\n".join(line.rstrip() for line in lines)

    def __str__(self) -> str:
        state = "converged" if self.converged else "not converged"
        stills = "1 still" if len(self.experiments) == 1 else f"{len(self.experiments)} stills"
        head = f"{stills}, {self.pixels} pixels, {self.evaluations} passes, {state}: {self.reason}"
        return f"{head}\nchi^2 per degree of freedom: {self.reduced_chi_square:.3f}\n\n{self.table()}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values that ``json`` can write: what is infinite or not a number is None."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "converged": self.converged,
            "reason": self.reason,
            "likelihood": self.likelihood,
            "minus_log_likelihood": _plain(self.value),
            "chi_square": _plain(self.chi_square),
            "reduced_chi_square": _plain(self.reduced_chi_square),
            "pixels": self.pixels,
            "evaluations": self.evaluations,
            "history": [_plain(value) for value in self.history],
            "notes": list(self.notes),
            "parameters": [
                {
                    "name": one.name,
                    "still": one.still,
                    "unit": one.unit,
                    "start": _plain(one.start),
                    "value": _plain(one.value),
                    "sigma": _plain(one.sigma),
                    "at_bound": one.at_bound,
                }
                for one in self.fitted
            ],
            "correlations": [
                {"names": list(self.names_of(still)), "matrix": [[_plain(x) for x in row] for row in matrix.tolist()]}
                for still, matrix in enumerate(self.correlations)
            ],
            "structure_factors": self.experiment.structure_factors.to_dict(),
            "experiments": [_without_factors(one) for one in self.experiments],
        }

    def to_json(self, indent: int | None = None) -> str:
        """The whole outcome as JSON text, refined experiments included; ``read_experiments`` reads these back."""
        return json.dumps(self.to_dict(), indent=indent)

    def save(self, path) -> None:
        """Write the JSON to ``path``, whole or not at all."""
        from bragg_numba.io.atomic import write_bytes

        write_bytes(path, (self.to_json(indent=1) + "\n").encode())


def read_experiments(path) -> tuple[Experiment, ...]:
    """The refined experiments of a file that ``Refinement.save`` wrote.

    Raises
    ------
    InputError
        If it is no such file.
    """
    try:
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
    except OSError as error:
        raise InputError(str(path), f"cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(str(path), f"is no JSON: {error}") from None
    with read_from(path):
        if not isinstance(values, dict) or values.get("format") != FORMAT or values.get("version") != VERSION:
            raise InputError("it", f'must be a JSON object with "format": "{FORMAT}" and "version": {VERSION}')
        factors = values.get("structure_factors")
        parts = values.get("experiments")
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            raise InputError("experiments", "must be a list of JSON objects")
        return tuple(Experiment.from_json(json.dumps({**part, "structure_factors": factors})) for part in parts)


def _without_factors(experiment: Experiment) -> dict[str, Any]:
    """An experiment as plain values, without its structure factors: all stills share them."""
    values = json.loads(experiment.to_json())
    del values["structure_factors"]
    return values


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def with_uncertainty(value: float, sigma: float) -> tuple[str, str]:
    """A value and its standard deviation as text, both to the second digit of the deviation."""
    if not math.isfinite(sigma):
        return f"{value:.8g}", "unknown"
    if sigma <= 0.0:
        return f"{value:.8g}", "0"
    digits = 1 - math.floor(math.log10(sigma))
    if -4 <= digits <= 12 and abs(value) < 1e8:
        return f"{value:.{max(digits, 0)}f}", f"{sigma:.{max(digits, 0)}f}"
    size = max(abs(value), sigma)
    significant = max(2, math.floor(math.log10(size)) + digits + 1)
    return f"{value:.{min(significant, 15)}g}", f"{sigma:.2g}"


def correlation_of(covariance: np.ndarray) -> np.ndarray:
    """Correlations of a covariance; of a parameter that nothing determines 0, and 1 with itself."""
    variance = np.diag(covariance)
    known = np.isfinite(variance) & (variance > 0.0)
    unit = np.where(known, 1.0 / np.sqrt(np.where(known, variance, 1.0)), 0.0)
    found = np.where(np.outer(known, known), covariance, 0.0) * np.outer(unit, unit)
    np.fill_diagonal(found, 1.0)
    return found
