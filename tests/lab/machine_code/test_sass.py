"""The reader of machine code, on small listings whose answer can be counted by hand."""

from __future__ import annotations

import pytest

from bragg_numba.lab.machine_code import sass

# A step loop, unrolled twice, inside a chunk loop; a copy loop beside it, and a block of the step loop that the
# assembler has moved behind the kernel's end.
LISTING = """
	.target	sm_90
//--------------------- .text._Z6kernel ------
	.section	.text._Z6kernel,"ax",@progbits
	.sectioninfo	@"SHI_REGISTERS=40"
	.align	128
_Z6kernel:
.text._Z6kernel:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
.L_x_5:
        /*0010*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
.L_x_0:
        /*0020*/                   LDG.E.64 R8, desc[UR4][R10.64] ;
        /*0030*/                   DFMA R8, R8, R8, R8 ;
        /*0040*/                   STS.64 [R2], R8 ;
        /*0050*/              @P1  BRA `(.L_x_0) ;
        /*0060*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
.L_x_1:
        /*0070*/                   LDS.128 R12, [R30] ;
        /*0080*/                   FFMA R20, R12, R13, R14 ;
        /*0090*/                   MUFU.RCP R21, R20 ;
        /*00a0*/              @P2  BRA `(.L_x_3) ;
.L_x_2:
        /*00b0*/                   LDS.128 R12, [R30+0x14] ;
        /*00c0*/                   FFMA.FTZ R20, R12, R13, R14 ;
        /*00d0*/                   MUFU.RCP R21, R20 ;
        /*00e0*/                   IADD3 R30, R30, 0x28, RZ ;
        /*00f0*/              @!P0 BRA `(.L_x_1) ;
        /*0100*/              @P3  BRA `(.L_x_5) ;
        /*0110*/                   STG.E desc[UR4][R2.64], R20 ;
        /*0120*/                   EXIT ;
.L_x_3:
        /*0130*/                   FSEL R20, R20, R21, P0 ;
        /*0140*/                   LDG.E R22, desc[UR4][R16.64+0x8] ;
        /*0150*/                   BRA `(.L_x_2) ;
.L_x_4:
        /*0160*/                   BRA `(.L_x_4);
        /*0170*/                   NOP;
	.section	.nv.info,"",@"SHT_CUDA_INFO"
        /*0000*/                   FFMA R0, R0, R0, R0 ;
"""


@pytest.fixture
def lines() -> list[str]:
    return sass.functions(LISTING)["_Z6kernel"]


def test_only_the_code_of_a_kernel_is_read():
    assert list(sass.functions(LISTING)) == ["_Z6kernel"]
    assert not any(".nv.info" in line for line in sass.functions(LISTING)["_Z6kernel"])


def test_the_step_loop_is_the_most_deeply_nested_one_with_the_record(lines):
    step = sass.innermost_step(lines, ("LDS", 20))
    # Two steps a pass: 2 LDS, 2 FFMA, 2 MUFU, 1 IADD3, the branch out of line and its 3, the branch back.
    assert step.unrolled == 2
    assert step.total == 12 / 2
    assert step.as_dict() == {
        "total": 6,
        "fp32": 1.5,
        "fp64": 0,
        "mufu": 1,
        "loads": 1.5,
        "stores": 0,
        "integer": 0.5,
        "convert": 0,
        "control": 1.5,
    }


def test_blocks_out_of_line_belong_to_the_loop_that_they_return_to(lines):
    assert sass.innermost_step(lines, ("LDS", 20)).opcodes["FSEL"] == 0.5


def test_without_a_record_a_pass_counts_as_a_step(lines):
    step = sass.innermost_step(lines)
    assert (step.unrolled, step.total) == (1, 12)


def test_pixels_side_by_side_share_the_loop(lines):
    assert sass.innermost_step(lines, ("LDS", 20), pixels=2).total == 12 / 4


def test_loops_without_the_record_are_passed_over(lines):
    assert sass.innermost_step(lines, ("LDSM", 16)) is None


def test_loops_that_read_too_little_of_a_record_are_passed_over(lines):
    assert sass.innermost_step(lines, ("LDS", 40)) is not None
    assert sass.innermost_step(lines, ("LDS", 41)) is None  # two loads of 16 bytes are 0.78 of it


def test_unrolling_can_be_ruled_out(lines):
    assert sass.innermost_step(lines, ("LDS", 20), unrolls=False).total == 12


def test_a_base_register_of_its_own_is_a_record_of_its_own():
    listing = LISTING.replace("[R30+0x14]", "[R31]")
    step = sass.innermost_step(sass.functions(listing)["_Z6kernel"], ("LDS", 20))
    assert step.unrolled == 2


def test_the_densest_loop_of_a_class_is_found(lines):
    dense = sass.densest_loop(lines, "fp64")
    assert (dense["fp64"], sum(dense.values())) == (1, 4)  # the copy loop, not the chunk loop around it
    assert sass.densest_loop(lines, "convert") is None


def test_loops_nest(lines):
    blocks = sass.read_blocks(lines)
    depths = sorted((loop.depth, len(loop.blocks)) for loop in sass.find_loops(blocks))
    # What follows the last EXIT traps what runs past the end of a kernel: a loop that nothing reaches.
    assert [depth for depth, _ in depths] == [0, 1, 1]


def test_a_call_of_a_label_leaves_a_loop_as_a_branch_does(lines):
    """The assembler writes the way out of some loops so; a call of a function comes back."""
    before = """.L_x_6:
        /*0004*/                   CALL.REL.NOINC `($__internal_0) ;
        /*0008*/              @!P4 CALL.REL.NOINC `(.L_x_5) ;
        /*000c*/                   BRA `(.L_x_6) ;
"""
    longer = sass.functions(LISTING.replace(".L_x_5:", before + ".L_x_5:"))["_Z6kernel"]

    assert sass.innermost_step(longer, ("LDS", 20)) == sass.innermost_step(lines, ("LDS", 20))
    loops = sass.find_loops(sass.read_blocks(longer))
    assert sorted((loop.depth, len(loop.blocks)) for loop in loops)[:2] == [(0, 2), (0, 7)]


@pytest.mark.parametrize(
    "opcode, found",
    [
        ("FFMA.FTZ", "fp32"),
        ("FSETP.GEU.FTZ.AND", "fp32"),
        ("DFMA", "fp64"),
        ("F2F.F64.F32", "fp64"),
        ("I2F.F64", "fp64"),
        ("F2I.FTZ.NTZ", "convert"),
        ("MUFU.RCP64H", "mufu"),
        ("LDG.E.CONSTANT", "loads"),
        ("ULDC.64", "loads"),
        ("STS.128", "stores"),
        ("IMAD.MOV.U32", "integer"),
        ("UIADD3", "integer"),
        ("BSYNC.RECONVERGENT", "control"),
    ],
)
def test_opcodes_have_classes(opcode, found):
    assert sass.classify(opcode) == found
