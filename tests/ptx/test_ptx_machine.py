"""The machine that executes PTX, on kernels written by hand: it must compute right, and see what is wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ptx_machine import Launch, translate
from ptx_memory import DeviceMemory
from ptx_text import UnknownPtx

THREADS, BLOCKS = 8, 2

#: Thread number in %r1, place of its 4 bytes in ``out`` in %rd2, what it leaves there in %r9.
KERNEL = """
.version 8.4
.target sm_90
.address_size 64
{functions}
.visible .shared .align 4 .b8 words[{shared}];
.visible .entry kernel(
  .param .u64 out,
  .param .u64 in
)
{{
  .reg .pred %p<9>;
  .reg .b32 %r<20>;
  .reg .b64 %rd<20>;
  .reg .f32 %f<20>;
  .reg .f64 %fd<20>;
  ld.param.u64 %rd1, [out];
  ld.param.u64 %rd10, [in];
  cvta.to.global.u64 %rd1, %rd1;
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, %ntid.x;
  mad.lo.s32 %r4, %r2, %r3, %r1;
  mul.wide.u32 %rd3, %r4, 4;
  add.s64 %rd2, %rd1, %rd3;
  {body}
  st.global.u32 [%rd2], %r9;
  ret;
}}
"""


def run(body: str, given=(0.0,), edge: int = 0, functions: str = "", shared: int = 4 * THREADS):
    """What the threads leave in ``out`` as uint32, and the faults."""
    memory, n = DeviceMemory(1 << 20), BLOCKS * THREADS
    given = np.asarray(given)
    out, read = memory.allocate(4 * n), memory.allocate(given.nbytes)
    memory.write(read, given)
    program = translate(KERNEL.format(body=body, functions=functions, shared=shared), edge)
    launch = Launch(program, memory, BLOCKS, THREADS, [("u8", out), ("u8", read)]).run()
    return memory.read(out, (n,), np.dtype("u4")), dict(launch.faults)


def of_floats(operation: str, *numbers, edge: int = 0) -> np.float32:
    """The result of a float32 instruction, of constants."""
    words = ", ".join(f"0f{np.float32(one).view(np.uint32):08X}" for one in numbers)
    out, faults = run(f"{operation} %f1, {words}; mov.b32 %r9, %f1;", edge=edge)
    assert not faults
    return out.view(np.float32)[0]


def test_threads_take_their_own_ways_and_meet_again():
    # Loops as often as the thread's number says; odd threads take a detour.
    body = """
      mov.u32 %r9, 0; mov.u32 %r5, 0;
    LOOP:
      setp.ge.s32 %p1, %r5, %r1;
      @%p1 bra OUT;
      add.s32 %r9, %r9, 10; add.s32 %r5, %r5, 1;
      bra LOOP;
    OUT:
      and.b32 %r6, %r1, 1;
      setp.eq.s32 %p2, %r6, 0;
      @%p2 bra EVEN;
      add.s32 %r9, %r9, 1;
    EVEN:
      @!%p2 add.s32 %r9, %r9, %r4;
    """
    out, faults = run(body)
    thread, number = np.arange(16) % THREADS, np.arange(16)
    np.testing.assert_array_equal(out, 10 * thread + (thread % 2) * (1 + number))
    assert not faults


def test_a_barrier_lets_threads_read_what_others_wrote():
    exchange = """
      mov.u32 %r5, words; shl.b32 %r6, %r1, 2; add.s32 %r6, %r5, %r6;
      add.s32 %r7, %r4, 100; st.shared.u32 [%r6], %r7;
      {barrier}
      xor.b32 %r8, %r1, 1; shl.b32 %r8, %r8, 2; add.s32 %r8, %r5, %r8;
      ld.shared.u32 %r9, [%r8];
    """
    out, faults = run(exchange.format(barrier="bar.sync 0;"))
    np.testing.assert_array_equal(out, 100 + (np.arange(16) ^ 1))
    assert not faults

    _, faults = run(exchange.format(barrier=""))
    assert [what for what, _ in faults] == ["shared memory read in a race"]


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("mov.u32 %r9, 1; st.global.u32 [%rd1+-4], %r9;", "global memory out of bounds"),
        ("mov.u32 %r9, 1; st.global.u32 [%rd1+64], %r9;", "global memory out of bounds"),
        ("mov.u32 %r9, 1; st.global.u32 [%rd2+2], %r9;", "global memory unaligned"),
        ("mov.u32 %r9, 1; st.global.u32 [%rd1], %r9;", "two threads store to one place"),
        ("ld.global.u32 %r9, [%rd2];", "global memory read before it is written"),
        ("mov.u32 %r5, words; ld.shared.u32 %r9, [%r5];", "shared memory read before it is written"),
        ("mov.u32 %r5, words; mov.u32 %r9, 1; st.shared.u32 [%r5+32], %r9;", "shared memory out of bounds"),
        ("mov.u32 %r5, words; mov.u32 %r9, 1; st.shared.u32 [%r5+2], %r9;", "shared memory unaligned"),
        ("mov.u32 %r5, words; mov.u32 %r9, 1; st.shared.u32 [%r5], %r9;", "shared memory written in a race"),
        (
            "setp.eq.s32 %p1, %r1, 3; @%p1 bra GONE; bar.sync 0; bra ON; GONE: ret; ON: mov.u32 %r9, 0;",
            "threads return while others of their block wait",
        ),
        (
            "setp.eq.s32 %p1, %r1, 3; @%p1 bra OTHER; bar.sync 0; bra ON; OTHER: bar.sync 0; ON: mov.u32 %r9, 0;",
            "threads of a block wait at different barriers",
        ),
    ],
)
def test_what_no_kernel_may_do_is_noted(body, fault):
    _, faults = run(body)

    assert fault in {what for what, _ in faults}


def test_atomic_additions_are_all_counted():
    body = "mov.u32 %r9, 0; atom.global.add.u32 %r5, [%rd10], 1; mov.u32 %r9, %r5;"
    out, faults = run(body, np.array([5], np.uint32))

    assert sorted(out) == list(range(5, 5 + 16))
    assert not faults


def test_a_called_function_returns_its_result_to_the_threads_that_asked():
    functions = """
    .func (.param .b64 result) half(.param .b64 given) {
      .reg .f64 %fd<3>;
      ld.param.f64 %fd1, [given];
      mul.f64 %fd2, %fd1, 0d3FE0000000000000;
      st.param.f64 [result+0], %fd2;
      ret;
    }
    """
    body = """
      mov.u32 %r9, 7; setp.lt.s32 %p1, %r1, 4; @%p1 bra SKIP;
      cvt.rn.f64.s32 %fd1, %r4;
      { .param .b64 p0; st.param.f64 [p0+0], %fd1; .param .b64 r0;
      call.uni (r0), half, (p0);
      ld.param.f64 %fd2, [r0+0]; }
      cvt.rzi.s32.f64 %r9, %fd2;
    SKIP:
    """
    out, faults = run(body, functions=functions)
    np.testing.assert_array_equal(out, np.where(np.arange(16) % 8 < 4, 7, np.arange(16) // 2))
    assert not faults


def test_registers_of_inner_braces_are_others():
    out, _ = run("mov.u32 %r9, 4; { .reg .b32 %r9; mov.u32 %r9, 5; }")

    assert set(out) == {4}


def test_a_fused_product_and_sum_round_once():
    a = np.float32(1 + 2.0**-23)

    assert of_floats("fma.rn.ftz.f32", a, a, -1.0) == np.float32(2.0**-22 + 2.0**-46)
    assert of_floats("mul.ftz.f32", a, a) - np.float32(1.0) == np.float32(2.0**-22)


def test_subnormal_numbers_are_flushed_where_it_is_said():
    tiny = np.float32(2.0**-130)

    assert of_floats("add.ftz.f32", tiny, tiny) == 0.0
    assert math.copysign(1.0, of_floats("mul.ftz.f32", -1.0, tiny)) == -1.0
    assert of_floats("abs.f32", -tiny) == tiny


@pytest.mark.parametrize("edge", [-1, 0, 1])
def test_approximations_lie_at_the_edge_that_is_asked_for(edge):
    quotient, root = np.float32(7.0) / np.float32(3.0), np.sqrt(np.float32(7.0))

    assert of_floats("div.approx.ftz.f32", 7.0, 3.0, edge=edge) == quotient + 2 * edge * np.spacing(quotient)
    assert of_floats("sqrt.approx.ftz.f32", 7.0, edge=edge) == root + edge * np.spacing(root)
    assert of_floats("div.approx.ftz.f32", 1.0, 2.0**127, edge=edge) == 0.0


def test_comparisons_with_nan_are_ordered_or_not():
    for name, holds in (("lt", 0), ("geu", 1), ("neu", 1), ("eq", 0), ("leu", 1), ("nan", 1), ("num", 0)):
        out, _ = run(f"setp.{name}.f32 %p1, 0f7FC00000, 0f3F800000; selp.b32 %r9, 1, 0, %p1;")
        assert set(out) == {holds}, name


def test_conversions_to_integers_saturate():
    cases = {"0f4F800000": 2**31 - 1, "0fCF800000": 2**32 - 2**31, "0f7FC00000": 0, "0fC0200000": 2**32 - 2}
    for constant, expected in cases.items():
        out, _ = run(f"mov.f32 %f1, {constant}; cvt.rzi.s32.f32 %r9, %f1;")
        assert set(out) == {expected}, constant


@pytest.mark.parametrize(
    "body", ["sin.approx.f32 %f1, %f2;", "add.sat.f32 %f1, %f2, %f3;", "bar.sync 1;", "ld.local.u32 %r9, [%rd1];"]
)
def test_what_has_no_rule_is_refused(body):
    with pytest.raises(UnknownPtx):
        run(body)
