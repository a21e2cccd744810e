"""Slopes of a frame: images, directional ones, gradients and normal equations, from one pass over its pixels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.kernels.parameters import GAUSS, SQUARE, TOPHAT
from bragg_numba.kernels.slopes import nouns, rows
from bragg_numba.memory import require
from bragg_numba.plan.arithmetic.cpu import LIT_RADIUS_SQUARED
from bragg_numba.plan.arithmetic.spots import require_servable
from bragg_numba.plan.arithmetic.squares import strongest_square
from bragg_numba.plan.plan import Plan
from bragg_numba.slopes.cell_counts import with_counts
from bragg_numba.slopes.contraction import Contraction, contract, vectors_at_rest
from bragg_numba.slopes.likelihood import judge
from bragg_numba.slopes.pixels import Batch, Observed, Pixels, as_frame
from bragg_numba.slopes.spots import SpotsWalker
from bragg_numba.slopes.tangents import F2, OF_PANELS, Tangent
from bragg_numba.threads import threads

PRECISIONS = ("auto", "tile", "float64")

#: Most parts whose gradients in structure factors are made apart, and the bytes that they may take together.
MOST_PARTS, BYTES_OF_PARTS = 16, 2**28

#: Part of the mean |F|^2 that reflections have at least where a bound for all of them is made.
_DIMMEST = 1e-3

#: Squared radius beyond which a gauss spot is 0 in float64 for all that sums notice, 10^-300 of its height.
_DARK_IN_FLOAT64 = 217.0

#: Turns of a crystal's whole edge that float32 may round at, and the most cells whose phases it holds.
LEAST_TURNS, MOST_CELLS = 2.5, 4096

#: Fields of a Tangent in which photons of a top hat, whose edge is a step, have a slope.
_OF_TOPHAT = {"log_scale", "log_water", "default_F", "weights", "polarization", "attenuation_per_m"}

#: Fields of a Tangent that mean nothing for a curved detector.
_NOT_OF_CURVED = {"origin_m", "fast", "slow", "normal", "close_distance_m", "pitch_fast_m", "pitch_slow_m"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reflections:
    """Normal equations in |F|^2 of the reflections of a table, in their order (eq. 65).

    ``gradient`` float64 (n,). ``weight`` float64 (n,) stands for the matrix among reflections: the diagonal where no
    pixel holds two of them, and else one that bounds it from above. ``cross`` float64 (parameters, n) is the matrix
    between the other parameters and these.
    """

    gradient: np.ndarray
    weight: np.ndarray
    cross: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Normal:
    """The normal equations of data given an experiment, at its parameters.

    ``value`` is minus the logarithm of the likelihood, ``gradient`` float64 (n,) its slope in each parameter,
    ``matrix`` float64 (n, n) J^T W J, W being the expected second derivative in a pixel's photons: Fisher's
    information. ``names`` are the parameters' and ``pixels`` is how many were judged. ``structure_factors.F2`` is not
    among them: ``reflections`` holds what belongs to it, where it was asked for.
    """

    value: float
    gradient: np.ndarray
    matrix: np.ndarray
    names: tuple[str, ...]
    pixels: int
    reflections: Reflections | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What frames are multiplied by, and what is there besides the crystal's photons, float64 (slow, fast).

    ``passed`` is the part that arrives of what the crystal scatters, None: all. ``beside`` are photons of diffuse
    scattering and amorphous backgrounds as they arrive, None: there are none.
    """

    passed: np.ndarray | None = None
    beside: np.ndarray | None = None


class Slopes:
    """Slopes of the photons of a frame's pixels in parameters of its experiment, on the CPU.

    The plan is frozen: sub-pixels, steps, precision and the reflection that a pixel belongs to stay what they are.
    ``Simulator.slopes`` makes one; threads may share it.

    Parameters
    ----------
    plan
        Of the experiment.
    tangents
        What each parameter changes of the plan, by name; None for ``structure_factors.F2``.
    pixels
        Those that are wanted; None: the whole frame.
    surroundings
        What render.surroundings makes of the plan; None: nothing of the kind is there.
    precision
        ``"auto"`` and ``"tile"``: terms in float32 where amplitudes allow it, and images in float32;
        ``"float64"``: both in float64.
    threads
        None: all.
    cell_counts
        N_a, N_b, N_c at which value and slopes are taken, real numbers; None: the plan's.
    max_memory
        Bytes that images may take; None: 80 % of what is free.
    engine
        ``"pixels"`` or ``"spots"``; None: spots where the experiment asks for them, else pixels.
    engine_reason
        Why that one, a clause.

    Raises
    ------
    InputError
        If something of the plan, or a parameter, has no slopes: by name; if spots cannot serve.
    """

    def __init__(
        self,
        plan: Plan,
        tangents: Mapping[str, Tangent | None],
        *,
        pixels: Pixels | None = None,
        surroundings: Surroundings | None = None,
        precision: str = "auto",
        threads: int | None = None,
        cell_counts: Sequence[float] | None = None,
        max_memory: int | None = None,
        engine: str | None = None,
        engine_reason: str = "asked for",
    ) -> None:
        check.environment()
        check.choice("precision", precision, PRECISIONS)
        refuse_plan(plan)
        if surroundings is None and (plan.transmission, plan.amorphous, plan.diffuse) != (None, None, None):
            name = "Experiment.transmission, backgrounds and diffuse"
            raise InputError(name, "have no slopes here", hint="Simulator.slopes has them; else leave them out")
        around = Surroundings() if surroundings is None else surroundings
        self._passed, self._beside = around.passed, around.beside
        self.plan = plan if cell_counts is None else with_counts(plan, cell_counts)
        self.names = tuple(tangents)
        self._dense = tuple(name for name in self.names if name != F2)
        for name in self._dense:
            _refuse_tangent(self.plan, name, tangents[name])
        if F2 in tangents:
            _refuse_amplitudes(self.plan, F2)
        self._tangents: tuple[Tangent, ...] = tuple(tangents[name] for name in self._dense)  # type: ignore[misc]
        self._contraction = contract(self.plan, self._tangents)
        self._pixels = Pixels(plan) if pixels is None else pixels
        self._single = precision != "float64" and _fits_single(self.plan)
        self._kind = np.float64 if precision == "float64" else np.float32
        self._threads, self._max_memory = threads, max_memory
        self._moves = self._contraction.weights, self._contraction.waves
        self._kernels: dict[str, Any] = {}
        asked = "spots" if plan.experiment.sampling.engine == "spots" else "pixels"
        self.engine, self.engine_reason = asked if engine is None else engine, engine_reason
        self._spots = self._walker() if self.engine == "spots" else None

    def __repr__(self) -> str:
        n_slow, n_fast = self.plan.shape
        of = f"{n_fast} x {n_slow} pixels, engine {self.engine}, precision {self.precision}"
        return f"<Slopes in {len(self.names)} parameters, {of}>"

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_kernels": {}}

    @property
    def backend(self) -> str:
        """Where they are made."""
        return "cpu"

    @property
    def notes(self) -> tuple[str, ...]:
        """What is done otherwise than a user may expect, one sentence each."""
        return ()

    @property
    def precision(self) -> str:
        """``"tile"``: terms in float32, or ``"float64"``."""
        return "tile" if self._single else "float64"

    @property
    def shape(self) -> tuple[int, int]:
        """(slow, fast) pixels of the frame."""
        return self.plan.shape

    def image(self) -> np.ndarray:
        """Photons of the wanted pixels, float32 (slow, fast): the value that the slopes are those of."""
        return self._images(contract(self.plan, ()))[0]

    def images(self) -> np.ndarray:
        """Slopes of every pixel in every parameter, float32 (parameters, slow, fast), photons per unit of each.

        Raises
        ------
        InputError
            If they do not fit the memory, or one of the parameters is ``structure_factors.F2``.
        """
        return self.value_and_images()[1]

    def value_and_images(self) -> tuple[np.ndarray, np.ndarray]:
        """What ``image`` and ``images`` return, in one pass."""
        if F2 in self.names:
            raise InputError(F2, "has a slope image for each reflection", hint="take push(direction) or pull(weights)")
        require(
            "the slope images",
            np.dtype(self._kind).itemsize * len(self.names) * self.plan.shape[0] * self.plan.shape[1],
            self._max_memory,
            f"{len(self.names)} parameters; push, pull and normal need none",
        )
        value, images = self._images(self._contraction)
        for number, slope in self._defaults().items():
            images[number] += slope
        return value, images

    def push(self, direction: Mapping[str, Any] | Sequence[float]) -> np.ndarray:
        """The slope along a direction of the parameters, float32 (slow, fast): the sum of slopes times its numbers.

        Parameters
        ----------
        direction
            A number for each parameter in their order, or by name; parameters not named stay. That of
            ``structure_factors.F2`` is an array in the order of its reflections.
        """
        given = self._direction(direction)
        out = np.zeros(self.plan.shape, dtype=self._kind)
        if self._dense:
            factors = np.array([float(given.get(name, 0.0)) for name in self._dense])
            out += self._images(self._contraction.along(factors))[1][0]
            for number, slope in self._defaults().items():
                out += self._kind(factors[number]) * slope
        if F2 in given:
            out += self._bragg_of(self._table_of(given[F2])).astype(self._kind)
        return out

    def pull(self, weights: np.ndarray) -> dict[str, Any]:
        """The gradient of sum(weights * image) in every parameter, by name, without any slope image.

        Parameters
        ----------
        weights
            (slow, fast) of numbers; where pixels are not wanted they do not count.

        Returns
        -------
        dict
            A float for each parameter; of ``structure_factors.F2`` float64 in the order of the reflections.
        """
        field = as_frame("weights", weights, self.plan.shape)
        found: dict[str, Any] = {}
        gradient = self._pull_dense(field) if self._dense else np.zeros(0)
        for name in self.names:
            found[name] = self._pull_reflections(field) if name == F2 else float(gradient[self._dense.index(name)])
        return found

    def normal(
        self,
        data: np.ndarray,
        variance: np.ndarray | float | None = None,
        mask: np.ndarray | None = None,
        *,
        likelihood: str = "gaussian",
        background: np.ndarray | float = 0.0,
    ) -> Normal:
        """The normal equations of data given this experiment, in one pass, without any slope image (eq. 65).

        Parameters
        ----------
        data
            (slow, fast), photons; pixels that are not finite do not count.
        variance
            (slow, fast) or a number: with ``"gaussian"`` that of the data (default 1), with ``"model"`` that of the
            read-out, which is added to the photons expected (default 0); of no use with ``"poisson"``.
        mask
            bool (slow, fast): True where a pixel counts, besides what boxes and mask of the slopes leave.
        likelihood
            ``"gaussian"``: u^2 / 2V, u = data - photons; ``"model"``: (ln 2 pi V + u^2 / V) / 2 with V = photons +
            variance; ``"poisson"``: photons - data ln photons, less its least value.
        background
            Photons that are there besides and do not change: (slow, fast) or a number.
        """
        return self.normal_of(self._pixels.observe(data, variance, mask, likelihood=likelihood, background=background))

    def normal_of(self, observed: Observed) -> Normal:
        """The normal equations of what ``Pixels.observe`` of these pixels put into order."""
        defaults = self._defaults()
        scatter = _Scatter(self) if F2 in self.names else None
        simple = self._passed is None and self._beside is None and not defaults and scatter is None
        n = len(self._dense)
        if simple and self._spots is not None:
            total = self._spots.normals(self._contraction, observed.kind, *self._pixels.frames_of(observed))
        else:
            total = np.zeros(1 + n + n * (n + 1) // 2)
            arrived = None if simple or self._in_batches else self._images(self._contraction)
            for batch, fields in zip(self._batches, observed.fields, strict=True):
                if simple:
                    total += self._walk_normals(batch, observed.kind, *fields).sum(axis=0)
                else:
                    total += self._weighed_images(batch, observed.kind, fields, arrived, defaults, scatter)
        matrix = np.zeros((n, n))
        matrix[np.tril_indices(n)] = total[1 + n :]
        matrix = matrix + np.tril(matrix, -1).T
        return Normal(
            value=float(total[0]),
            gradient=total[1 : 1 + n],
            matrix=matrix,
            names=self._dense,
            pixels=observed.pixels,
            reflections=None if scatter is None else scatter.reflections(),
        )

    # --- what is given -----------------------------------------------------------------------------

    def _direction(self, direction: Mapping[str, Any] | Sequence[float]) -> dict[str, Any]:
        if isinstance(direction, Mapping):
            for name in direction:
                if name not in self.names:
                    raise InputError("direction", f"must name parameters of {', '.join(self.names)}", name)
            return dict(direction)
        numbers = list(direction)
        if len(numbers) != len(self.names):
            raise InputError("direction", f"must hold {len(self.names)} numbers, one a parameter", len(numbers))
        return dict(zip(self.names, numbers, strict=True))

    # --- the kernels -------------------------------------------------------------------------------

    def _walker(self) -> SpotsWalker:
        """Who sums reflection by reflection."""
        require_servable(self.plan)
        alone = self._contraction.weights.shape[1] > 0
        return SpotsWalker(
            self.plan, self._pixels.listed, self._spins(), single=self._single, alone=alone, thread_count=self._threads
        )

    def _images(self, contraction: Contraction, squares: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Photons, and slopes in the parameters of a contraction, in the type of images; ``squares`` instead of F^2."""
        value, images = self._scattered(contraction, squares)
        if self._passed is not None:
            value *= self._passed.astype(self._kind)
            images *= self._passed.astype(self._kind)
        if self._beside is not None:
            beside: np.ndarray = np.where(self._pixels.listed, self._beside, 0.0).astype(self._kind)
            value += beside
            for image, change in zip(images, contraction.photons, strict=True):
                image += beside * float(change)
        return value, images

    def _scattered(self, contraction: Contraction, squares: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The same of what the crystal scatters, as if nothing stood in its way."""
        if self._spots is not None:
            return self._spots.images(contraction, self._kind, squares)
        value = np.zeros(self.plan.shape, dtype=self._kind)
        images = np.zeros((len(contraction.starts) - 1, *self.plan.shape), dtype=self._kind)
        flat = value.reshape(-1), images.reshape(len(images), value.size)
        for batch in self._batches:
            at = batch.frame_rows, batch.frame_columns
            task = nouns.Images(*contraction.matrix, *at, self.plan.shape[1], *flat)
            self._walk(batch, "images", task, contraction, squares)
        return value, images

    def _arrived(self, batch: Batch, contraction: Contraction) -> tuple[np.ndarray, np.ndarray]:
        """Photons of a batch's pixels, and their slopes, behind obstacles and with what lies beside."""
        n = len(batch.rows)
        stored = np.zeros(n, dtype=self._kind), np.zeros((len(contraction.starts) - 1, n), dtype=self._kind)
        line = np.zeros(n, dtype=np.int32), np.arange(n, dtype=np.int32), n
        self._walk(batch, "images", nouns.Images(*contraction.matrix, *line, *stored), contraction)
        values, slopes = (part.astype(np.float64) for part in stored)
        at = batch.frame_rows, batch.frame_columns
        if self._passed is not None:
            values *= self._passed[at]
            slopes *= self._passed[at]
        if self._beside is not None:
            values += self._beside[at]
            slopes += contraction.photons[:, None] * self._beside[at]
        return values, slopes

    @property
    def _in_batches(self) -> bool:
        """Whether slopes of a batch's pixels can be made alone."""
        return self._spots is None

    @property
    def _batches(self) -> tuple[Batch, ...]:
        return self._pixels.batches

    def _walk_pulls(self, batch: Batch, weights: np.ndarray) -> np.ndarray:
        """(blocks, rows): sums over a block's pixels of what slopes are linear in, times their weights."""
        found = np.empty((len(batch.blocks), rows.N_ROWS + self._contraction.weights.shape[1]))
        self._walk(batch, "pulls", nouns.Pulls(weights, found), self._contraction)
        return found

    def _walk_normals(self, batch: Batch, kind: int, *fields: np.ndarray) -> np.ndarray:
        """(blocks, numbers): value, gradient and the triangle of the matrix."""
        n = len(self._dense)
        found = np.empty((len(batch.blocks), 1 + n + n * (n + 1) // 2))
        task = nouns.Normals(*self._contraction.matrix, kind, *fields, found)
        self._walk(batch, "normals", task, self._contraction)
        return found

    def _weighed_images(
        self,
        batch: Batch,
        kind: int,
        fields: tuple[np.ndarray, ...],
        images: tuple[np.ndarray, np.ndarray] | None,
        defaults: Mapping[int, np.ndarray],
        scatter: _Scatter | None,
    ) -> np.ndarray:
        """What ``_walk_normals`` sums to, by way of the slopes of a batch's pixels: the general case.

        ``images`` are what ``_images`` returns, where the engine makes them of whole frames alone.
        """
        at = batch.frame_rows, batch.frame_columns
        if images is None:
            values, slopes = self._arrived(batch, self._contraction)
        else:
            values, slopes = images[0][at].astype(np.float64), images[1][:, *at].astype(np.float64)
        for number, slope in defaults.items():
            slopes[number] += slope[at]
        data, variance, background = fields
        value, slope, curve = judge(kind, values + background, data, variance)
        if scatter is not None:
            scatter.add(batch, slope, curve, slopes)
        matrix = (slopes * curve) @ slopes.T
        return np.concatenate([[value.sum()], slopes @ slope, matrix[np.tril_indices(len(matrix))]])

    def _walk(
        self, batch: Batch, what: str, task: tuple, contraction: Contraction, squares: np.ndarray | None = None
    ) -> None:
        """Sum the blocks of a batch, and keep of them what a task asks for: images, pulls or normals."""
        from bragg_numba.kernels.slopes import block, cpu

        told, pixels = self._nouns(contraction, squares), nouns.Pixels(batch.blocks, batch.rows, batch.columns)
        with threads(self._threads):
            scratch = cpu.scratch_of(self._single, contraction.weights.shape[1], len(contraction.starts) - 1)
            if what not in self._kernels:
                mine = nouns.Scratch(*(part[0] for part in scratch))
                keep = {"images": cpu.keep_images, "pulls": cpu.keep_pulls, "normals": cpu.keep_normals}[what]
                self._kernels[what] = (
                    block.sum_of_blocks(self.plan.lattice.shape, self._single, self._amplitudes).given(
                        told, np.int32(0), batch.rows, batch.columns, mine
                    ),
                    keep.given(task, np.int64(0), np.int32(0), np.int32(0), np.int32(0), mine),
                )
            cpu.walk_blocks(*self._kernels[what], *told, pixels, task, scratch)

    def _nouns(self, contraction: Contraction, squares: np.ndarray | None = None) -> nouns.Nouns:
        """What all kernels of slopes are told of the plan."""
        kind = np.float32 if self._single else np.float64
        if squares is None:
            squares = self._squares()
        flat = np.ascontiguousarray(squares.reshape(-1), dtype=kind)
        return nouns.Nouns(*self.plan.arguments, flat, contraction.wanted, self._beams())

    @property
    def _amplitudes(self) -> int:
        """How |F|^2 comes about, by the number that the kernels have for it."""
        from bragg_numba.kernels.slopes.steps import INTERPOLATED, LISTED, UNIFORM

        look = self.plan.lookup
        return INTERPOLATED if look.interpolate else LISTED if look.has_table else UNIFORM

    def _squares(self) -> np.ndarray:
        """|F|^2 of the table; a single number where there is none, or it is interpolated."""
        look = self.plan.lookup
        return np.zeros(1) if look.interpolate or not look.has_table else np.square(self.plan.table)

    def _beams(self) -> nouns.Beams:
        """The sources in beams: neighbours of one direction, unless each counts for itself."""
        sources, c = self.plan.sources, self._contraction
        n = len(sources.wavelength)
        alone = c.weights.shape[1] > 0 or self.plan.panels[0].dmin > 0.0
        new = np.ones(n, dtype=bool)
        if not alone:
            new[1:] = (np.diff(sources.incident, axis=0) != 0.0).any(axis=1)
        first = np.append(np.nonzero(new)[0], n).astype(np.int64)
        spins = self._spins()
        axes, turning = (np.ascontiguousarray(part.T) for part in (self.plan.cell_rows, spins))
        margins = _margins(self.plan, single=self._single)
        return nouns.Beams(first, c.weights, c.waves, spins, axes, turning, *margins, _bend(self.plan))

    def _spins(self) -> np.ndarray:
        """(orientations, 9): how h, k, l of an orientation change with the mosaic spread, times h, k, l (eq. 60)."""
        cells = self.plan.cells.reshape(-1, 3, 3)
        spins = np.zeros(self.plan.cells.shape)
        if not self._contraction.wanted.spread:
            return spins
        turns = _domain_turns(self.plan)
        for number, cell in enumerate(cells):
            change = np.cross(turns[number % self.plan.domains], cell)
            spins[number] = (change @ np.linalg.inv(cell)).reshape(9)
        return spins

    # --- gradients ---------------------------------------------------------------------------------

    def _pull_dense(self, field: np.ndarray) -> np.ndarray:
        c = self._contraction
        total = self._sum_pulls(field)
        parts = np.einsum("pe,pe->e", c.factors, total[:, c.places])
        gradient = np.array([parts[a:b].sum() for a, b in zip(c.starts[:-1], c.starts[1:], strict=True)])
        if self._beside is not None:
            gradient += float((field * self._beside)[self._pixels.listed].sum()) * c.photons
        for number, slope in self._defaults().items():
            gradient[number] += float((slope.astype(np.float64) * field)[self._pixels.wanted].sum())
        return gradient

    def _sum_pulls(self, field: np.ndarray) -> np.ndarray:
        """(panels, rows): sums over pixels of what slopes are linear in, times their weights."""
        arriving = field if self._passed is None else field * self._passed
        if self._spots is not None:
            return self._spots.pulls(self._contraction, arriving)
        total = np.zeros((len(self.plan.panels), rows.N_ROWS + self._contraction.weights.shape[1]))
        for batch in self._batches:
            found = self._walk_pulls(batch, np.ascontiguousarray(arriving[batch.frame_rows, batch.frame_columns]))
            total[batch.blocks[0, 0]] += found.sum(axis=0)
        return total

    # --- amplitudes of a table: the photons are linear in |F|^2 -------------------------------------

    def _bragg_of(self, squares: np.ndarray) -> np.ndarray:
        """Photons of the crystal, (slow, fast), if |F|^2 were these, negative ones included."""
        factors = np.tile([1.0, 0.0, 0.0, 0.0], (len(self.plan.panels), 1))  # one row, padded to four
        one = Contraction(np.array([0, 4]), np.full(4, rows.BRAGG), factors, *self._moves, photons=np.zeros(1))
        return self._images(one, squares)[1][0]

    def _defaults(self) -> dict[int, np.ndarray]:
        """Slope images of the parameters that move default_F, by their number, where a table has cells that hold it."""
        look = self.plan.lookup
        moving = {
            number: tangent.default_F
            for number, tangent in enumerate(self._tangents)
            if tangent.default_F and look.has_table and look.default_F != 0.0
        }
        if not moving:
            return {}
        held = np.ones(self.plan.table.shape)
        held[self._places] = 0.0
        slope = self._bragg_of(2.0 * look.default_F * held)
        return {number: change * slope for number, change in moving.items()}

    @cached_property
    def _places(self) -> tuple[np.ndarray, ...]:
        """Where the reflections lie in the table."""
        look, indices = self.plan.lookup, self.plan.experiment.structure_factors.indices
        first = np.array([look.h_first, look.k_first, look.l_first])
        return tuple((np.asarray(indices, dtype=np.int64) - first).T)

    def _table_of(self, squares: Any) -> np.ndarray:
        """A table of changes of |F|^2 from those of the reflections; of one listed twice the last counts."""
        given, n = np.asarray(squares, dtype=np.float64), len(self._places[0])
        if given.shape != (n,):
            raise InputError(F2, f"must be an array of {n} numbers, one a reflection", given.shape)
        table = np.zeros(self.plan.table.shape)
        for *place, value in zip(*self._places, given, strict=True):
            table[tuple(place)] = value
        return table

    def _pull_reflections(self, field: np.ndarray) -> np.ndarray:
        if self._spots is not None:
            arriving = field if self._passed is None else field * self._passed
            found: np.ndarray = self._spots.pull_squares(arriving)[self._places]
            return found
        gradient = np.zeros(self.plan.table.size)
        for batch in self._batches:
            self._scatter_into(gradient, batch, field[batch.frame_rows, batch.frame_columns])
        return gradient.reshape(self.plan.table.shape)[self._places]

    def _scatter_into(self, gradient: np.ndarray, batch: Batch, field: np.ndarray) -> None:
        """Add the slopes in |F|^2 of all places of the table, flat, of a sum of pixels times their weights."""
        if self._passed is not None:
            field = field * self._passed[batch.frame_rows, batch.frame_columns]
        if self._spots is not None:
            frame = np.zeros(self.plan.shape)
            frame[batch.frame_rows, batch.frame_columns] = field
            gradient += self._spots.pull_squares(frame).reshape(-1)
            return
        from bragg_numba.kernels.slopes import reflections

        panels, lattice, lookup, plan_rules, sources, cells, table = self.plan.arguments
        parts = max(1, min(MOST_PARTS, BYTES_OF_PARTS // table.nbytes))
        require("the gradient in structure factors", parts * table.nbytes, self._max_memory, f"{table.size} places")
        found = np.zeros((parts, table.size))
        pixels, weights = nouns.Pixels(batch.blocks, batch.rows, batch.columns), np.ascontiguousarray(field)
        with threads(self._threads):
            reflections.scatter_weights(panels, lattice, lookup, plan_rules, sources, cells, pixels, weights, found)
        gradient += found.sum(axis=0)


class _Scatter:
    """Normal equations in |F|^2, summed batch by batch."""

    def __init__(self, slopes: Slopes) -> None:
        self._slopes, table = slopes, slopes.plan.table
        squares = np.square(np.asarray(slopes.plan.experiment.structure_factors.amplitudes, dtype=np.float64))
        # Of any positive numbers x, sum_j H_ij x_j / x_i is a diagonal that bounds H from above: of the squares.
        self._like = np.maximum(squares, _DIMMEST * squares.mean() or 1.0)
        self._photons = slopes._bragg_of(slopes._table_of(self._like))
        self._sums = np.zeros((2 + len(slopes._dense), table.size))

    def add(self, batch: Batch, slope: np.ndarray, curve: np.ndarray, slopes: np.ndarray) -> None:
        """Add pixels with the slopes of their likelihood and its expected second ones, and of their photons."""
        photons = self._photons[batch.frame_rows, batch.frame_columns]
        for sums, field in zip(self._sums, (slope, curve * photons, *(slopes * curve)), strict=True):
            self._slopes._scatter_into(sums, batch, field)

    def reflections(self) -> Reflections:
        """What has been added."""
        shape, places = self._slopes.plan.table.shape, self._slopes._places
        found = np.array([sums.reshape(shape)[places] for sums in self._sums])
        return Reflections(gradient=found[0], weight=found[1] / self._like, cross=found[2:])


def _domain_turns(plan: Plan) -> np.ndarray:
    """(domains, 3): the rotation vector of each mosaic domain over the spread."""
    from scipy.spatial.transform import Rotation

    cells = plan.cells[: plan.domains].reshape(-1, 3, 3)
    turned = np.linalg.inv(cells[0]) @ cells  # transposed rotations from the first domain, which is aligned
    return Rotation.from_matrix(turned.transpose(0, 2, 1)).as_rotvec() / plan.mosaic_spread


def _margins(plan: Plan, *, single: bool) -> tuple[float, float, float]:
    """Distances of h, k, l from whole numbers beyond which no spot is; 2: everywhere."""
    limit = LIT_RADIUS_SQUARED.get(plan.lattice.shape)
    if limit is None:
        return 2.0, 2.0, 2.0
    if plan.lattice.shape == GAUSS and not single:
        limit = _DARK_IN_FLOAT64
    reach = np.sqrt(limit * np.diag(np.linalg.inv(plan.metric))) * 1.001 + 1e-6
    return float(reach[0]), float(reach[1]), float(reach[2])


def _bend(plan: Plan) -> float:
    """Curvature of a block's directions up to which float32 holds its phases; negative: never (eq. 36)."""
    counts = np.array(plan.lattice[1:4])
    if plan.lattice.shape == SQUARE:
        if (counts != np.rint(counts)).any() or counts.max() > MOST_CELLS:
            return -1.0
    else:
        counts = 1.7 * np.sqrt(np.diag(plan.metric))
    edges = np.linalg.norm(plan.cells.reshape(-1, 3, 3), axis=2).max(axis=0)
    return LEAST_TURNS / float((counts * edges).max() / plan.sources.wavelength.min())


def _fits_single(plan: Plan) -> bool:
    """Whether terms in float32 neither overflow nor vanish."""
    strongest = strongest_square(plan.table) if plan.lookup.has_table else 1.0
    most = max(strongest, 1.0) * max(plan.lattice.n_a, plan.lattice.n_b, plan.lattice.n_c)
    if plan.lattice.shape == SQUARE:
        most *= (plan.lattice.n_a * plan.lattice.n_b * plan.lattice.n_c) ** 2
    return not plan.lookup.interpolate and most < 1e30 and not 0.0 < strongest < 1e-20


#: What of a plan the kernels of slopes take in: what else one may hold changes photons in ways that they do not know.
_KNOWN = {
    "Plan": {
        *(
            "experiment",
            "detector",
            "cell",
            "sources",
            "cells",
            "shares",
            "table",
            "mask",
            "roi",
            "panels",
            "lattice",
            "lookup",
        ),
        *("rules", "phi", "layers", "domains", "mosaic_spread", "oversample", "recommended_oversample"),
        *("cell_counts", "notes", "lattices", "amorphous", "diffuse", "transmission", "intact"),
    },
    "Lattice": {
        *("shape", "n_a", "n_b", "n_c", "metric_hh", "metric_kk", "metric_ll", "metric_hk", "metric_hl", "metric_kl"),
    },
    "Table": {
        *("h_first", "k_first", "l_first", "h_count", "k_count", "l_count", "has_table", "interpolate", "default_F"),
    },
    "Rules": {
        *("per_term", "running_thick", "running_polar", "running_omega", "running", "weighted", "skip_zero"),
        *("background", "scale", "flat_background"),
    },
}


def _refuse_unknown(name: str, kind: str, parts: Mapping[str, Any]) -> None:
    for part, value in parts.items():
        plain = isinstance(value, (bool, int, float, np.ndarray))
        if part not in _KNOWN[kind] and (np.any(value) if plain else value):
            raise InputError(f"{name}.{part}", "has no slopes", hint="leave out what makes it")


def refuse_plan(plan: Plan) -> None:
    """Raise InputError for what photons have no slopes of."""
    _refuse_unknown("Plan", "Plan", {field.name: getattr(plan, field.name) for field in dataclasses.fields(plan)})
    for part, kind in (("lattice", "Lattice"), ("lookup", "Table"), ("rules", "Rules")):
        _refuse_unknown(f"Plan.{part}", kind, getattr(plan, part)._asdict())
    experiment = plan.experiment
    if plan.lattices is not None:
        raise InputError("Experiment.lattices", "have no slopes", hint="take those of each experiment of its own")
    if plan.rules.running:
        raise InputError("Sampling.oversample_thick, _polar and _omega", "have no slopes, being running products")
    if experiment.sampling.pixel_average:
        raise InputError("Sampling.pixel_average", "has no slopes: they are those at the pixels' middles")


def _refuse_tangent(plan: Plan, name: str, tangent: Tangent | None) -> None:
    """Raise InputError for a parameter in which these photons have no slope."""
    if tangent is None:
        raise InputError(name, "must have a Tangent")
    changed = set(tangent.changed)
    if plan.lattice.shape == TOPHAT and changed - _OF_TOPHAT:
        raise InputError(
            name, "has no slope: spots of a tophat crystal end in a step", hint="only scale and F have one"
        )
    if changed & _NOT_OF_CURVED and any(panel.curved for panel in plan.panels):
        raise InputError(name, "has no slope where the detector is curved")
    if tangent.mosaic_spread_rad is not None and not (plan.mosaic_spread > 0.0 and plan.domains > 1):
        raise InputError(name, "has a slope only where the crystal has mosaic domains", plan.mosaic_spread)
    crystal = plan.experiment.crystal
    drawn = isinstance(crystal.mosaic_spread_deg, float) and crystal.mosaic_rotations is None
    if tangent.mosaic_spread_rad is not None and not (drawn and crystal.mosaic_model == "cap"):
        raise InputError(name, "has a slope only where one spread is drawn as nanoBragg draws it")
    if tangent.mosaic_spread_rad is not None and plan.mosaic_spread >= math.pi:
        raise InputError(name, "has a slope only below 180 degrees")
    made_of = any(one.absorbs and one.material and one.depth_um is None for one in plan.experiment.detector.sensors)
    if made_of and changed & {"wavelengths_m", "attenuation_per_m", "layer_step_m"}:
        hint = "give its attenuation depth"
        raise InputError(name, "has no slope where a sensor's material says how much it absorbs", hint=hint)
    _refuse_beside(plan, name, tangent)
    sensorless = not any(panel.has_sensor for panel in plan.panels)
    if sensorless and changed & {"attenuation_per_m", "layer_step_m"}:
        raise InputError(name, "has a slope only where there is a sensor")


#: Fields of a Tangent in which obstacles and amorphous backgrounds change, too.
_OF_SURROUNDINGS = {*OF_PANELS, "wavelengths_m", "weights"}


def _refuse_beside(plan: Plan, name: str, tangent: Tangent) -> None:
    """Raise InputError for a parameter that changes what is no part of the kernels' slopes."""
    changed = set(tangent.changed)
    hint = "leave them out, render them, and hand them to normal as background"
    if plan.transmission is not None and changed & _OF_SURROUNDINGS:
        rule = "has no slope where obstacles stand in the way: what they let through changes with it"
        raise InputError(name, rule, hint="leave Experiment.transmission out")
    if plan.amorphous is not None and changed & (_OF_SURROUNDINGS | {"polarization"}):
        raise InputError(name, "has no slope beside amorphous backgrounds, which change with it", hint=hint)
    if plan.diffuse is not None and changed - {"log_scale", "log_water"}:
        raise InputError(name, "has no slope beside diffuse scattering, which changes with it", hint=hint)
    if not has_dose(plan):
        return
    if tangent.default_F:
        raise InputError(name, "has no slope at a dose, which fades each reflection by its spacing")
    if tangent.cell_vectors_m is not None:
        change = np.asarray(tangent.cell_vectors_m) @ np.linalg.inv(vectors_at_rest(plan))
        gram = vectors_at_rest(plan) @ vectors_at_rest(plan).T
        if np.abs(change @ gram + (change @ gram).T).max() > 1e-9 * np.abs(change @ gram).max():
            raise InputError(name, "has no slope at a dose, which fades reflections by the cell's spacings")


def has_dose(plan: Plan) -> bool:
    """Whether a dose has changed the cell and the structure factors."""
    damage = plan.experiment.damage
    return damage is not None and damage.dose_MGy > 0.0


def _refuse_amplitudes(plan: Plan, name: str) -> None:
    if has_dose(plan):
        raise InputError(name, "has no slopes at a dose, which fades each reflection by its spacing")
    if not plan.lookup.has_table:
        raise InputError(name, "needs a table of structure factors", hint="structure_factors.default_F is its slope")
    if plan.lookup.interpolate:
        raise InputError(name, "has no slopes where structure factors are interpolated", hint="interpolate=False")
