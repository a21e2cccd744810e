"""The model of time and memory, and the readings of the tools, on figures that can be checked by hand."""

from __future__ import annotations

import pytest

from bragg_numba import InputError
from bragg_numba.lab.machine_code import cuda_model, toolchain
from bragg_numba.lab.machine_code.cuda_model import Card, Work
from bragg_numba.lab.machine_code.toolchain import Resources

#: One multiprocessor at 1 GHz.
CARD = Card("one", "sm_90", 1, 1e9, 128, 64, 64, 16, 64, bandwidth=1e9, link=1e8, memory=1e9)
WORK = Work(
    pixels=1000,
    steps=10,
    step={"fp32": 64.0, "mufu": 1.0, "integer": 8.0, "loads": 5.0},
    shared_bytes=64.0,
    gathers=1,
    pixels_a_block=250,
    block_step={"fp64": 50.0},
    table_cells=100,
)


def test_instructions_are_those_of_pixels_and_of_blocks():
    issued = cuda_model.instructions_issued(WORK)
    assert issued["fp32"] == 1000 * 10 * 64
    assert issued["fp64"] == 4 * 10 * 50


def test_each_resource_sets_its_floor():
    seconds = cuda_model.floor_seconds(CARD, WORK)
    assert seconds["fp32"] == pytest.approx(640_000 / 128 / 1e9)
    assert seconds["fp64"] == pytest.approx(2000 / 64 / 1e9)
    assert seconds["mufu"] == pytest.approx(10_000 / 16 / 1e9)
    # Four schedulers issue a warp's instruction each: 128 threads' instructions a clock.
    assert seconds["issue"] == pytest.approx((10_000 * 78 + 2000) / 128 / 1e9)
    assert seconds["shared_memory"] == pytest.approx((640_000 + 40_000) / 128 / 1e9)
    assert seconds["copy"] == pytest.approx(4000 / 1e8)


def test_bytes_are_counted_once_by_way():
    moved = cuda_model.bytes_moved(WORK)
    assert moved["device_memory"] == 4 * 1000 + 72 * 10 + 4 * 100
    assert moved["cells_through_l2"] == 72 * 10 * 4
    assert moved["link"] == 4000


def test_the_largest_floor_is_the_limit():
    (row,) = cuda_model.model(WORK, (CARD,))
    assert row["limit"] == "copy"
    assert row["seconds"] == pytest.approx(4e-5)
    assert row["pixel_steps_per_s"] == pytest.approx(10_000 / 4e-5)


def test_a_card_with_little_memory_renders_by_tiles():
    small = Card("small", "sm_90", 1, 1e9, 128, 64, 64, 16, 64, bandwidth=1e9, link=1e8, memory=1000)
    assert not cuda_model.model(WORK, (small,))[0]["fits"]


@pytest.mark.parametrize(("name", "flops"), [("H100", 67e12), ("A100", 19.5e12), ("RTX 4090", 82.6e12)])
def test_cards_reach_the_tflops_of_their_data_sheets(name, flops):
    (card,) = (card for card in cuda_model.CARDS if card.name.startswith(name))
    assert 2 * card.fp32 * card.multiprocessors * card.clock_hz == pytest.approx(flops, rel=0.005)


def test_every_card_is_held_to_its_data_sheet():
    assert len(cuda_model.CARDS) == 3


@pytest.mark.parametrize(
    "registers, threads, shared, arch, expected",
    [
        (64, 256, 0, "sm_90", 0.5),  # 2048 registers a warp: 32 warps of 64
        (40, 256, 0, "sm_90", 0.75),  # 1280 a warp: 51 warps, 6 blocks of 8
        (32, 256, 0, "sm_75", 1.0),  # 32 warps are all that Turing holds
        (64, 256, 0, "sm_86", 32 / 48),
        (32, 256, 40 * 1024, "sm_90", 5 * 8 / 64),  # 41 KiB with the system's: 5 blocks in 228
        (255, 1024, 0, "sm_90", 0.0),  # cannot be launched
    ],
)
def test_occupancy_is_that_of_the_programming_guide(registers, threads, shared, arch, expected):
    assert toolchain.occupancy(Resources(registers, 0, 0, shared), threads, arch) == pytest.approx(expected)


def test_what_the_assembler_prints_is_read():
    text = (
        "ptxas info    : 8 bytes gmem\n"
        "ptxas info    : Compiling entry function '_Z1k' for 'sm_90'\n"
        "ptxas info    : Function properties for _Z1k\n"
        "    16 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads\n"
        "ptxas info    : Used 40 registers, used 1 barriers, 16 bytes cumulative stack size, 4096 bytes smem\n"
    )
    assert toolchain.read_resources(text) == Resources(registers=40, stack=16, spill_bytes=12, shared=4096)


@pytest.mark.parametrize("word, expected", [("sm_90", (9, 0)), ("9.0", (9, 0)), ("sm_100", (10, 0)), ("75", (7, 5))])
def test_architectures_are_read(word, expected):
    assert toolchain.capability(word) == expected


@pytest.mark.parametrize("word", ["sm_9", "hopper", "", "9", "sm_9.0"])
def test_what_is_no_architecture_is_refused(word):
    with pytest.raises(InputError, match="compute capability"):
        toolchain.capability(word)
