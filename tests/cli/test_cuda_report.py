"""``bragg-numba cuda-report``, with and without the tools that it needs."""

from __future__ import annotations

import importlib.util
import json

import pytest

from bragg_numba.cli.bragg import main
from bragg_numba.lab.machine_code import kernel_report, toolchain
from bragg_numba.lab.machine_code.sass import CLASSES
from bragg_numba.render import devices

has_compiler = importlib.util.find_spec("numba_cuda") is not None and not devices.simulated()
needs_compiler = pytest.mark.skipif(not has_compiler, reason="needs numba-cuda with its compiler")
needs_tools = pytest.mark.skipif(
    not has_compiler or toolchain.find_tool("ptxas") is None or toolchain.find_tool("nvdisasm") is None,
    reason=f"{toolchain.PTXAS_HINT}; {toolchain.NVDISASM_HINT}",
)

FIELDS = {"kernel", "precision", "arch", "registers", "stack", "spill_bytes", "occupancy", "sass_innermost"}

#: One kernel is enough here, and this one the model needs too.
ONE = ["--kernel", "square-table", "--precision", "tile"]


def _json(capsys, *words) -> list | dict:
    assert main(["cuda-report", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@needs_tools
def test_the_report_lists_what_the_assembler_and_the_machine_code_say(capsys):
    (row,) = _json(capsys, *ONE, "--arch", "sm_90")
    assert set(row) >= FIELDS
    assert (row["kernel"], row["precision"], row["arch"]) == ("square-table", "tile", "sm_90")
    assert 16 <= row["registers"] <= 255
    assert 0.0 < row["occupancy"] <= 1.0
    step = row["sass_innermost"]
    assert step["total"] == pytest.approx(sum(step[name] for name in CLASSES), abs=0.05)
    assert step["fp32"] > step["fp64"] == 0


@needs_tools
def test_the_table_for_people_has_the_same_figures(capsys):
    (row,) = _json(capsys, *ONE)
    assert main(["cuda-report", *ONE]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["kernel", "precision", "arch", "regs"]
    assert line.split()[:4] == ["square-table", "tile", "sm_90", str(row["registers"])]


@needs_compiler
def test_without_an_assembler_the_report_says_so_and_leaves_fields_empty(capsys, monkeypatch):
    monkeypatch.setattr(toolchain, "find_tool", lambda name: None)
    kernel_report.examine.cache_clear()
    try:
        assert main(["cuda-report", *ONE, "--json"]) == 0
    finally:
        kernel_report.examine.cache_clear()
    printed = capsys.readouterr()
    (row,) = json.loads(printed.out)
    assert [row[name] for name in ("registers", "stack", "spill_bytes", "occupancy", "sass_innermost")] == [None] * 5
    assert "no ptxas: compiled to PTX only" in printed.err
    assert "pip install nvidia-cuda-nvcc" in printed.err


@needs_compiler
def test_without_a_disassembler_only_the_machine_code_is_missing(capsys, monkeypatch):
    if toolchain.find_tool("ptxas") is None:
        pytest.skip(toolchain.PTXAS_HINT)
    real = toolchain.find_tool
    monkeypatch.setattr(toolchain, "find_tool", lambda name: None if name == "nvdisasm" else real(name))
    kernel_report.examine.cache_clear()
    try:
        assert main(["cuda-report", *ONE, "--json"]) == 0
    finally:
        kernel_report.examine.cache_clear()
    printed = capsys.readouterr()
    (row,) = json.loads(printed.out)
    assert row["registers"] > 0
    assert row["sass_innermost"] is None
    assert "no nvdisasm" in printed.err


@needs_compiler
def test_a_kernel_that_does_not_exist_is_an_error_that_lists_those_that_do(capsys):
    assert main(["cuda-report", "--kernel", "hexagon"]) == 2
    assert "square-table" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, said",
    [
        (["--arch", "hopper"], "compute capability"),
        (["--precision", "half"], "--precision"),
        (["--frame", "many"], "--frame"),
        (["--frame", "0"], "--frame"),
        (["--steps", "10"], "needs --frame"),
        (["--frame", "64", "--steps", "1.5"], "--steps"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(capsys, words, said):
    assert main(["cuda-report", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_without_numba_cuda_the_report_says_what_to_install(capsys, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "numba_cuda" else real(name, *a))
    assert main(["cuda-report"]) == 2
    assert 'pip install "bragg-numba[cuda13]"' in capsys.readouterr().err


@needs_tools
def test_the_model_gives_each_card_a_floor(capsys):
    report = _json(capsys, "--frame", "4096", "--steps", "1000")
    assert report["pixel_steps"] == 4096 * 4096 * 1000
    assert [row["card"].split()[0] for row in report["cards"]] == ["H100", "A100", "RTX"]
    for row in report["cards"]:
        assert row["seconds"] == max(row["by_resource"].values()) == row["by_resource"][row["limit"]]
        # No card can issue more than its schedulers do, nor would a step be fewer than 40 instructions.
        assert 1e10 < row["pixel_steps_per_s"] < 4.2e13 / 40


@needs_tools
def test_the_model_is_linear_in_the_steps(capsys):
    short, long = (_json(capsys, "--frame", "2048", "--steps", steps) for steps in ("1000", "4000"))
    for one, other in zip(short["cards"], long["cards"], strict=True):
        assert other["seconds"] == pytest.approx(4 * one["seconds"], rel=1e-6)


@needs_tools
def test_the_model_says_that_nothing_was_measured(capsys):
    assert main(["cuda-report", "--frame", "1024"]) == 0
    assert "Nothing here was measured" in capsys.readouterr().out
