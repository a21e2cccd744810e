"""``bragg-numba compile``: afterwards nothing is left to compile."""

from __future__ import annotations

import dataclasses
import itertools
import shlex

from bragg_numba.kernels.parameters import SHAPE_NAMES, Code

from bragg_numba.cli import compile as command
from bragg_numba.cli.bragg import main
from bragg_numba.cli.console import compilation_announced
from bragg_numba.plan.arithmetic import cpu as arithmetic
from bragg_numba.plan.plan import make_plan


def test_all_jobs_cover_every_code_that_a_plan_can_ask_for(monkeypatch):
    asked: set[Code] = set()
    monkeypatch.setattr(command, "_render_in", lambda choice, shape, **rest: asked.add(_code_of(choice, shape, **rest)))
    for _, job in command.all_jobs():
        if job.__qualname__.startswith("_tile_job"):
            job()

    possible = set()
    for shape, placed, factors in itertools.product(SHAPE_NAMES, (True, False), (True, False)):
        plan = _plan(shape, placed, factors)
        for split, lit in itertools.product((True, False), (True, False)):
            if lit and (split or plan.lattice.shape not in arithmetic.LIT_RADIUS_SQUARED):
                continue
            possible.add(arithmetic.code(plan, arithmetic.CpuArithmetic("tile", 0.0, "", split=split, seeks_lit=lit)))
    assert asked == possible


def _plan(shape: str, placed: bool, factors: bool):
    return make_plan(command._experiment(shape, placed, "physical" if factors else "nanobragg"))


def _code_of(choice, shape: str, *, placed: bool, factors: bool = False) -> Code:
    assert dataclasses.is_dataclass(choice)
    return arithmetic.code(_plan(shape, placed, factors), choice)


def test_a_command_that_was_prepared_for_compiles_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = shlex.split("-cell 50 60 70 90 90 90 -default_F 1 -N 5 -detpixels 64 -oversample 1")
    assert main(["compile", "--", *flags]) == 0
    printed = capsys.readouterr().out
    assert "what the command renders with" in printed and printed.splitlines()[-1].endswith(" s")

    with compilation_announced():
        assert main(["compile", "--quiet", "--", *flags]) == 0

    assert capsys.readouterr() == ("", "")
