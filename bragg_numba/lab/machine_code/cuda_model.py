"""What a GPU must at least spend on a frame: a floor of time and the memory, from published figures alone.

A floor, not a forecast. It holds what the instructions of the innermost step and the bytes of a frame take
if nothing ever waits: every scheduler issues in every clock, every cache hits, no block is left over. A
measurement below it would mean that the model is wrong; how far a measurement lies above it says what is
left to gain.

Where the figures of the cards come from
----------------------------------------
- multiprocessors, boost clock and memory bandwidth: NVIDIA's data sheets of the H100 (SXM5, 80 GB: 132
  multiprocessors, 67 TFLOPS in FP32, hence 1.98 GHz; 3.35 TB/s), of the A100 (SXM4, 80 GB: 108, 19.5 TFLOPS,
  hence 1.41 GHz; 2.04 TB/s) and the Ada whitepaper (GeForce RTX 4090: 128, 2.52 GHz, 1.008 TB/s);
- results a clock and multiprocessor: CUDA C++ Programming Guide, "Throughput of Native Arithmetic
  Instructions", for compute capability 9.0, 8.0 and 8.9. Where the guide gives one class several rates the
  fastest stands here, so that the floor stays a floor;
- one instruction a clock from each of four schedulers: the guide's description of the multiprocessor;
- 128 bytes a clock from shared memory and the first-level cache: the same;
- the link to the host: PCI Express 5.0 (H100) or 4.0, 16 lanes, one direction, without protocol: 63 and 31.5 GB/s.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Threads of a warp, and instructions that a multiprocessor issues in a clock.
WARP = 32
ISSUE = 4

#: Bytes that shared memory and the first-level cache give a multiprocessor in a clock.
LOAD_BYTES = 128


@dataclass(frozen=True, slots=True)
class Card:
    """Published figures of one GPU; rates are results a clock and multiprocessor."""

    name: str
    arch: str
    multiprocessors: int
    clock_hz: float
    fp32: int
    fp64: int
    integer: int
    mufu: int
    convert: int
    bandwidth: float  #: bytes/s of device memory
    link: float  #: bytes/s to the host
    memory: float  #: bytes


CARDS = (
    Card("H100 SXM5 80 GB", "sm_90", 132, 1.98e9, 128, 64, 64, 16, 64, 3.35e12, 63e9, 80e9),
    Card("A100 SXM4 80 GB", "sm_80", 108, 1.41e9, 64, 32, 64, 16, 64, 2.04e12, 31.5e9, 80e9),
    Card("RTX 4090 24 GB", "sm_89", 128, 2.52e9, 128, 2, 64, 16, 64, 1.008e12, 31.5e9, 24e9),
)


@dataclass(frozen=True, slots=True)
class Work:
    """What a frame asks of a GPU."""

    pixels: int
    steps: int
    step: dict[str, float]  #: instructions of a pixel's step by class (sass.CLASSES)
    shared_bytes: float  #: read from shared memory by a pixel's step
    gathers: int  #: structure factors read by a pixel's step
    pixels_a_block: int
    block_step: dict[str, float]  #: instructions that a block spends once a step, summed over its threads
    step_bytes: int = 72  #: read by a block for each step: a cell in float64
    orientations: int | None = None  #: cells that are listed; None: as many as steps
    table_cells: int = 0
    halves: int = 2  #: buffers that take turns
    buffer_pixels: int | None = None  #: pixels of one buffer; None: the frame
    tile: bool = True  #: squares in float32 and a list of doubtful pixels besides


def bytes_moved(work: Work) -> dict[str, float]:
    """Bytes that have to move, by way: device memory, caches, shared memory, link."""
    blocks = -(-work.pixels // work.pixels_a_block)
    cells = 72 * (work.steps if work.orientations is None else work.orientations)
    return {
        # Once each, however often they are read: caches hold what is read again.
        "device_memory": 4.0 * work.pixels + cells + 4.0 * work.table_cells,
        "cells_through_l2": float(work.step_bytes) * work.steps * blocks,
        "gathers_through_l1": 4.0 * work.gathers * work.pixels * work.steps,
        "shared_memory": work.shared_bytes * work.pixels * work.steps,
        "link": 4.0 * work.pixels,
    }


def instructions_issued(work: Work) -> dict[str, float]:
    """Instructions by class, counted a thread: a warp's instruction counts 32 times."""
    per_pixel_step = float(work.pixels) * work.steps
    per_block_step = -(-work.pixels // work.pixels_a_block) * float(work.steps)
    names = {*work.step, *work.block_step}
    return {
        name: per_pixel_step * work.step.get(name, 0.0) + per_block_step * work.block_step.get(name, 0.0)
        for name in sorted(names)
    }


def floor_seconds(card: Card, work: Work) -> dict[str, float]:
    """Seconds that each resource of a card needs at least; the largest is the floor.

    ``copy`` overlaps with rendering, so that it counts only where it is longer than all the rest.
    """
    issued = instructions_issued(work)
    moved = bytes_moved(work)
    clocks = card.multiprocessors * card.clock_hz
    found = {"issue": sum(issued.values()) / (ISSUE * WARP) / clocks}
    for name in ("fp32", "fp64", "integer", "mufu", "convert"):
        found[name] = issued.get(name, 0.0) / getattr(card, name) / clocks
    found["shared_memory"] = (moved["shared_memory"] + moved["gathers_through_l1"]) / LOAD_BYTES / clocks
    found["device_memory"] = moved["device_memory"] / card.bandwidth
    found["copy"] = moved["link"] / card.link
    return found


def device_bytes(work: Work) -> dict[str, float]:
    """Bytes of device memory by what they hold."""
    orientations = work.steps if work.orientations is None else work.orientations
    buffer = work.pixels if work.buffer_pixels is None else work.buffer_pixels
    found = {
        # photons, and twelve bytes that mark a pixel for the float64 pass
        "buffers": (16.0 if work.tile else 4.0) * work.halves * buffer,
        "cells": 72.0 * orientations,
        # amplitudes in float64, and for tile their squares in float32
        "table": (12.0 if work.tile else 8.0) * work.table_cells,
    }
    return {**found, "total": sum(found.values())}


def model(work: Work, cards: tuple[Card, ...] = CARDS) -> list[dict]:
    """The floor of each card: seconds, what sets it, pixel-steps/s, and whether the memory suffices."""
    rows = []
    memory = device_bytes(work)["total"]
    for card in cards:
        seconds = floor_seconds(card, work)
        limit = max(seconds, key=lambda name: seconds[name])
        rows.append(
            {
                "card": card.name,
                "arch": card.arch,
                "seconds": seconds[limit],
                "limit": limit,
                "pixel_steps_per_s": work.pixels * work.steps / seconds[limit],
                "fits": memory <= card.memory,
                "by_resource": seconds,
            }
        )
    return rows


# --- the work of this package's kernels -----------------------------------------------------------

#: Name of the kernel that the model is about: a square crystal with a table, in tiles of 16 x 16 pixels.
MODELLED = "square-table"


def square_work(pixels: int, steps: int, arch: str, precision: str = "tile", table_cells: int = 10**6) -> Work:
    """The work of a frame of a square crystal with a table, from the machine code for ``arch``.

    Raises
    ------
    InputError
        If numba-cuda, ptxas or nvdisasm is missing: there is nothing to count then.
    """
    from bragg_numba.errors import InputError
    from bragg_numba.lab.machine_code import kernel_report, toolchain

    for tool, hint in (("ptxas", toolchain.PTXAS_HINT), ("nvdisasm", toolchain.NVDISASM_HINT)):
        if toolchain.find_tool(tool) is None:
            raise InputError("cuda-report --frame", f"counts machine instructions and needs {tool}", hint=hint)
    variant = next(one for one in kernel_report.variants() if one.precision == precision and one.kernel == MODELLED)
    report = kernel_report.examine(variant, arch)
    step = report.step
    if step is None:
        raise InputError("cuda-report --frame", "found no innermost step in the machine code", arch)
    tile = precision == "tile"
    return Work(
        pixels=pixels,
        steps=steps,
        step=step.counts,
        shared_bytes=step.bytes_loaded("LDS" if tile else "LDG"),
        gathers=1,
        pixels_a_block=variant.threads * variant.pixels,
        # One thread makes the phases of a step for the block's one tile.
        block_step=(kernel_report.reference_loop(report) or {}) if tile else {},
        table_cells=table_cells,
        buffer_pixels=min(pixels, _buffer_pixels()),
        tile=tile,
    )


def _buffer_pixels() -> int:
    from bragg_numba.render.cuda import BAND_PIXELS

    return BAND_PIXELS
