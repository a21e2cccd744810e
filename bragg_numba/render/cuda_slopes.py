"""Slopes on a GPU: the sums of a piece of the frame at a time, and what is made of them, stay on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.kernels.parameters import Sources, panel_array
from bragg_numba.kernels.slopes import rows
from bragg_numba.render.cuda import MEMORY_SHARE
from bragg_numba.render.devices import Device
from bragg_numba.slopes.contraction import Contraction
from bragg_numba.slopes.pixels import Batch
from bragg_numba.slopes.slopes import Slopes
from bragg_numba.slopes.tangents import F2

#: Terms in a launch: a second or so on a card that is slow in float64, so that Ctrl-C is heard and no watchdog bites.
LAUNCH_TERMS = {"tile": 2e9, "float64": 5e8}

#: Sources and orientations of a pixel, which the kernels count in 32 bits.
MOST_STEPS = 2**31

#: Bytes of device memory that sums and slopes of a piece may take.
PIECE_BYTES = 2**28


class CudaSlopes(Slopes):
    """Slopes as ``Slopes`` gives them, pixel by pixel on one GPU; the engine must be that of pixels.

    Parameters
    ----------
    device
        The GPU.
    options
        Those of ``Slopes``.

    Raises
    ------
    InputError
        If something of the plan, or a parameter, has no slopes, or a pixel has more steps than the kernels count.
    """

    def __init__(self, *arguments: Any, device: Device, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.device = device
        if len(self.plan.sources.wavelength) * len(self.plan.cells) >= MOST_STEPS:
            raise InputError("backend cuda", f"has slopes of fewer than {MOST_STEPS} steps", hint="use backend cpu")

    def __getstate__(self) -> dict:
        return {name: value for name, value in super().__getstate__().items() if not name.startswith("_sent")}

    @property
    def backend(self) -> str:
        """``cuda``, or ``cuda:1`` and so on."""
        return "cuda" if self.device.index == 0 else f"cuda:{self.device.index}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What the GPU does not do."""
        return (f"the gradient in {F2} is made on the CPU: no kernel of the GPU has it",) if F2 in self.names else ()

    # --- the kernels -------------------------------------------------------------------------------

    @property
    def _in_batches(self) -> bool:
        return False

    def _scattered(self, contraction: Contraction, squares: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        value = np.zeros(self.plan.shape, dtype=self._kind)
        images = np.zeros((len(contraction.starts) - 1, *self.plan.shape), dtype=self._kind)
        with self._on_device():
            amplitudes = self._sent_squares if squares is None else self._send_squares(squares)
            sparse = self._send_contraction(contraction)
            for batch in self._batches:
                for piece, blocks, sums in self._pieces(batch, contraction, amplitudes, len(images)):
                    photons, slopes = self._contract(sparse, piece, blocks, sums, self._kind)
                    at = batch.frame_rows[piece].astype(np.int64) * self.plan.shape[1] + batch.frame_columns[piece]
                    value.reshape(-1)[at] = photons.copy_to_host()
                    for image, slope in zip(images, slopes.copy_to_host(), strict=False):  # of one image at least
                        image.reshape(-1)[at] = slope
        return value, images

    def _walk_pulls(self, batch: Batch, weights: np.ndarray) -> np.ndarray:
        from numba import cuda

        found = []
        with self._on_device():
            for piece, blocks, sums in self._pieces(batch, self._contraction, self._sent_squares, 0):
                weighed = cuda.device_array((len(blocks), self._n_rows), dtype=np.float64)
                self._launch("weigh_rows", blocks, blocks, cuda.to_device(weights[piece]), sums, weighed)
                found.append(weighed.copy_to_host())
        return np.concatenate(found)

    def _walk_normals(self, batch: Batch, kind: int, *fields: np.ndarray) -> np.ndarray:
        from numba import cuda

        n, found = len(self._dense), []
        with self._on_device():
            sparse = self._send_contraction(self._contraction)
            for piece, blocks, sums in self._pieces(batch, self._contraction, self._sent_squares, n):
                values, slopes = self._contract(sparse, piece, blocks, sums, np.float64)
                judged = cuda.device_array((3, piece.stop - piece.start), dtype=np.float64)
                sent = (cuda.to_device(field[piece]) for field in fields)
                self._launch("judge_pixels", blocks, kind, blocks, *sent, values, judged)
                numbers = cuda.device_array((len(blocks), 1 + n + n * (n + 1) // 2), dtype=np.float64)
                self._launch("weigh_slopes", blocks, n, blocks, judged, slopes, numbers)
                found.append(numbers.copy_to_host())
        return np.concatenate(found)

    def _contract(self, sparse: tuple, piece: slice, blocks, sums, kind) -> tuple[Any, Any]:
        """Photons of a piece's pixels, and their slopes (parameters, pixels), of one at least."""
        from numba import cuda

        n, n_parameters = piece.stop - piece.start, len(sparse[0]) - 1
        values, slopes = cuda.device_array(n), cuda.device_array((max(n_parameters, 1), n), dtype=kind)
        self._launch("contract_slopes", blocks, *sparse, blocks, self._n_rows, sums, values, slopes)
        return values, slopes

    @property
    def _n_rows(self) -> int:
        """Rows of a block's sums."""
        return rows.N_ROWS + self._contraction.weights.shape[1]

    def _pieces(
        self, batch: Batch, contraction: Contraction, amplitudes: tuple, slopes: int
    ) -> Iterator[tuple[slice, Any, Any]]:
        """Sum a batch piece by piece: which of its pixels, the piece's blocks, and their sums.

        Where ``slopes`` are made of the sums they take memory, too.
        """
        from numba import cuda

        from bragg_numba.kernels.slopes import cuda as kernels
        from bragg_numba.kernels.slopes.cuda_terms import SlopeKind

        plan, look = self.plan, self.plan.lookup
        curved = any(panel.curved for panel in plan.panels)
        kernel = kernels.sum_kernel(SlopeKind(plan.lattice.shape, self._single, self._amplitudes, curved))
        panels, sources, steps, margins, beams = self._sent_nouns
        for first, stop in self._cuts(batch, self._n_rows + slopes + 4):
            listed = batch.blocks[first:stop].copy()
            start, end = int(listed[0, 1]), int(listed[-1, 1] + listed[-1, 2])
            listed[:, 1] -= start
            piece = slice(start, end)
            blocks = cuda.to_device(listed)
            lists = blocks, cuda.to_device(batch.rows[piece]), cuda.to_device(batch.columns[piece])
            sums = cuda.device_array(len(listed) * self._n_rows * rows.BLOCK, dtype=np.float64)
            choices = margins, contraction.wanted, beams, self._n_rows - rows.N_ROWS
            kernel[len(listed), kernels.THREADS](
                panels, plan.lattice, look, plan.rules, sources, steps, *amplitudes, *choices, *lists, sums
            )
            yield piece, blocks, sums

    def _cuts(self, batch: Batch, numbers: int) -> Iterator[tuple[int, int]]:
        """Cut the blocks of a batch into pieces whose sums, so many numbers a pixel, and launches are not too large."""
        from numba import cuda

        terms = LAUNCH_TERMS[self.precision] / max(1, self.plan.steps * self.plan.layers.n)
        free = MEMORY_SHARE * float(cuda.current_context().get_memory_info().free)
        bytes_of_block = 8 * numbers * rows.BLOCK
        if bytes_of_block > free:
            raise InputError("the sums of slopes", f"would take more memory than {self.device.name} has free")
        n = int(max(1, min(terms // rows.BLOCK, min(free, PIECE_BYTES) // bytes_of_block)))
        for first in range(0, len(batch.blocks), n):
            yield first, min(first + n, len(batch.blocks))

    def _launch(self, name: str, blocks, *arguments) -> None:
        from bragg_numba.kernels.slopes import cuda as kernels

        kernel: Callable = getattr(kernels, name)[len(blocks), kernels.THREADS]
        kernel(*arguments)

    # --- what is sent ------------------------------------------------------------------------------

    def _on_device(self):
        from numba import cuda

        return cuda.gpus[self.device.index]

    @cached_property
    def _sent_nouns(self) -> tuple:
        """Panels, sources, steps, margins and beams: what all launches have in common, on the device."""
        from numba import cuda

        from bragg_numba.kernels.slopes.cuda_terms import Beams, Margins, Steps

        plan, kind = self.plan, np.float32 if self._single else np.float64
        beams = self._beams()
        numbers = 1.0 / plan.sources.wavelength
        weights = plan.sources.weight.copy()
        alone = np.diff(beams.first) == 1
        weights[beams.first[:-1][alone]] = 1.0
        steps = Steps(
            cuda.to_device(numbers),
            cuda.to_device((numbers / numbers[0]).astype(kind)),
            cuda.to_device(weights.astype(kind)),
            cuda.to_device(np.ascontiguousarray(plan.cells)),
            cuda.to_device((plan.cells * numbers[0]).astype(kind)),
            cuda.to_device(plan.shares.astype(kind)),
            cuda.to_device(beams.spins.astype(kind)),
        )
        moves = (_not_empty(beams.weights), _not_empty(beams.waves))
        return (
            cuda.to_device(panel_array(plan.panels)),
            Sources(*(cuda.to_device(array) for array in plan.sources.arrays)),
            steps,
            Margins(beams.margin_h, beams.margin_k, beams.margin_l),
            Beams(cuda.to_device(beams.first), *(cuda.to_device(one) for one in moves)),
        )

    @cached_property
    def _sent_squares(self) -> tuple:
        """Amplitudes of the plan: a table of F, and a flat one of |F|^2; one of the two is of no use."""
        return self._send_squares(self._squares())

    def _send_squares(self, squares: np.ndarray) -> tuple:
        from numba import cuda

        table = self.plan.table if self.plan.lookup.interpolate else np.zeros((1, 1, 1))
        kind = np.float32 if self._single else np.float64
        flat = np.ascontiguousarray(squares.reshape(-1), dtype=kind)
        return cuda.to_device(np.ascontiguousarray(table)), cuda.to_device(flat)

    def _send_contraction(self, contraction: Contraction) -> tuple:
        """``starts``, ``places`` and ``factors`` on the device; a GPU cannot be handed an array without elements."""
        from numba import cuda

        c = contraction
        places, factors = (c.places, c.factors) if len(c.places) else (np.zeros(1, np.int64), np.zeros((1, 1)))
        starts = np.ascontiguousarray(c.starts, dtype=np.int64)
        return cuda.to_device(starts), cuda.to_device(places), cuda.to_device(np.ascontiguousarray(factors))


def _not_empty(moves: np.ndarray) -> np.ndarray:
    """Moves of the sources, with one of nothing where there are none."""
    return moves if moves.shape[1] else np.zeros((len(moves), 1))
