"""Reads NVIDIA machine code as ``nvdisasm -c`` prints it: which instructions does the innermost step issue?

How the innermost step is found
-------------------------------
1. The listing of one kernel is cut into basic blocks: a block begins at a label and behind a branch.
2. A branch to a block that every way to the branch goes through closes a loop (a back edge to a dominator).
   The loop's body is what reaches that branch without passing its head: blocks that the assembler has
   moved out of line belong to it, and blocks that merely stand between do not.
3. Loops that hold another loop are not innermost. Of the innermost ones the step loop is the most deeply
   nested; of several at one depth, the one with the most floating-point instructions. Where it is known what
   every step reads (``record``: the beginning of the load's opcode and the bytes from one step's values to
   the next one's), loops that do not read most of one are passed over.
4. Assemblers unroll. The loads of one step lie within ``bytes`` of each other; what the loads of
   a body reach, divided by that, is the number of steps in it. Without a record the body is taken to be one step.
   A thread may render several pixels side by side: the counts are those of one pixel and one step.

Every instruction of the body counts, those that are skipped by a predicate or by a branch included: a
bound of what a step issues, not a trace of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

#: Classes of instructions, in the order in which they are shown.
CLASSES = ("fp32", "fp64", "mufu", "loads", "stores", "integer", "convert", "control")

_FP32 = ("FFMA", "FMUL", "FADD", "FSETP", "FSET", "FSEL", "FMNMX", "FCHK", "FSWZ", "FMNMX3", "FADD2", "FMUL2")
_FP64 = ("DFMA", "DMUL", "DADD", "DSETP", "DMNMX", "DSET")
_LOADS = ("LD", "LDG", "LDS", "LDC", "LDL", "LDSM", "LDGSTS", "ULDC", "LDCU", "TLD", "TEX", "UTMALDG")
_STORES = ("ST", "STG", "STS", "STL", "ATOM", "ATOMG", "ATOMS", "RED", "REDG", "UTMASTG")
_CONVERT = ("F2I", "FRND", "I2F", "F2F", "I2I", "F2FP", "I2FP", "I2IP")
_CONTROL = (
    *("BRA", "BRX", "JMP", "JMX", "EXIT", "RET", "CALL", "BSSY", "BSYNC", "BREAK", "BMOV", "BAR", "WARPSYNC"),
    *("NOP", "YIELD", "NANOSLEEP", "BPT", "DEPBAR", "MEMBAR", "ERRBAR", "SSY", "SYNC", "PBK", "BRK", "BREV"),
    *("LEPC", "CCTL", "KILL", "WARPGROUP", "ACQBULK", "ENDCOLLECTIVE", "VOTE", "VOTEU", "ELECT", "SYNCS"),
)

#: Share of a record that a step must read at least: some of its values may not be needed.
READ_SHARE = 0.8

_LABEL = re.compile(r"^(\.L_[\w.$]+|\$?[\w.$]+):")
_INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P[T\d]+)\s+)?([A-Z][\w.]*)\s*([^;]*);")
_TARGET = re.compile(r"`\(([^)]+)\)")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One machine instruction; ``target`` is the label that a branch or a call names."""

    opcode: str
    operands: str
    predicate: str | None
    target: str | None

    @property
    def name(self) -> str:
        """The opcode without its modifiers."""
        return self.opcode.split(".", 1)[0]


@dataclass(slots=True)
class Block:
    """Instructions that run one after the other, and the blocks that can follow."""

    instructions: list[Instruction] = field(default_factory=list)
    followers: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop: its head, its blocks, and how many loops hold it (0: outermost)."""

    head: int
    blocks: frozenset[int]
    depth: int


@dataclass(frozen=True, slots=True)
class Step:
    """Instructions of one innermost step by class; the loop's body holds ``unrolled`` of them (steps times pixels)."""

    counts: dict[str, float]
    unrolled: int
    opcodes: dict[str, float]

    @property
    def total(self) -> float:
        """Instructions of all classes."""
        return sum(self.counts.values())

    def shared_by(self, steps: int) -> Step:
        """The same of one step where the loop's body turns out to hold several."""
        counts = {name: number / steps for name, number in self.counts.items()}
        return Step(counts, self.unrolled * steps, {name: number / steps for name, number in self.opcodes.items()})

    def bytes_loaded(self, prefix: str) -> float:
        """Bytes that the loads of one kind (``LDS``, ``LDG``) bring a thread in a step."""
        return _loaded(self.opcodes, prefix)

    def as_dict(self) -> dict:
        """``total`` and the classes, as plain numbers."""
        return {"total": _plain(self.total), **{name: _plain(self.counts[name]) for name in CLASSES}}


def _plain(value: float) -> float | int:
    return int(value) if value == int(value) else round(value, 2)


def classify(opcode: str) -> str:
    """The class of an opcode, modifiers or not; what is none of the others is integer work."""
    name = opcode.split(".", 1)[0]
    if name == "MUFU":
        return "mufu"
    for found, names in (
        ("fp32", _FP32),
        ("fp64", _FP64),
        ("loads", _LOADS),
        ("stores", _STORES),
        ("convert", _CONVERT),
        ("control", _CONTROL),
    ):
        if name in names:
            return "fp64" if found == "convert" and "F64" in opcode else found
    return "integer"


def functions(listing: str) -> dict[str, list[str]]:
    """Cut a listing into the lines of its ``.text.`` sections, by name."""
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in listing.splitlines():
        if line.split(maxsplit=1)[:1] == [".section"]:  # and not .sectioninfo or .sectionflags
            name = line.split()[1].split(",", 1)[0].strip('"')
            current = found.setdefault(name.removeprefix(".text."), []) if name.startswith(".text.") else None
        elif current is not None:
            current.append(line)
    return found


def read_blocks(lines: list[str]) -> list[Block]:
    """Cut the lines of one function into basic blocks; block 0 is the entry."""
    blocks = [Block()]
    places: dict[str, int] = {}
    for line in lines:
        text = line.strip()
        label = _LABEL.match(text)
        if label:
            if blocks[-1].instructions:
                blocks.append(Block())
            places[label.group(1)] = len(blocks) - 1
            continue
        match = _INSTRUCTION.search(text)
        if match is None:
            continue
        _, predicate, opcode, operands = match.groups()
        target = _TARGET.search(operands)
        one = Instruction(opcode, operands.strip(), predicate, target.group(1) if target else None)
        blocks[-1].instructions.append(one)
        if _jumps(one) or one.name in ("EXIT", "RET", "BRX"):
            blocks.append(Block())
    for index, block in enumerate(blocks):
        block.followers = _followers(blocks, index, places)
    return blocks


def _jumps(one: Instruction) -> bool:
    """Tell whether an instruction goes to its target and does not come back.

    A call of a label inside the function is such a jump: so the assembler leaves some loops.
    """
    return one.name in ("BRA", "JMP") or (one.name == "CALL" and (one.target or "").startswith(".L_"))


def _followers(blocks: list[Block], index: int, places: dict[str, int]) -> list[int]:
    """Blocks that can run after one; a call of another function comes back."""
    block = blocks[index]
    last = block.instructions[-1] if block.instructions else None
    found = []
    branches = last is not None and _jumps(last)
    if last is not None and branches and last.target in places:
        found.append(places[last.target])
    # "BRA UP0, label" and "BRA P0, label" carry their condition among the operands.
    conditional = last is not None and (
        (last.predicate is not None and last.predicate not in ("PT", "UPT"))
        or (branches and re.match(r"!?U?P\d", last.operands) is not None)
        or (branches and ".DIV" in last.opcode)
    )
    ends = last is not None and (branches or last.name in ("EXIT", "RET", "BRX"))
    if index + 1 < len(blocks) and (not ends or conditional):
        found.append(index + 1)
    return found


def find_loops(blocks: list[Block]) -> list[Loop]:
    """The natural loops of a function, with their depth of nesting."""
    before: list[list[int]] = [[] for _ in blocks]
    for index, block in enumerate(blocks):
        for follower in block.followers:
            before[follower].append(index)
    dominators = _dominators(blocks, before)
    bodies: dict[int, set[int]] = {}
    for index, block in enumerate(blocks):
        for head in block.followers:
            if head in dominators.get(index, ()):
                body = bodies.setdefault(head, {head})
                waiting = [index]
                while waiting:
                    at = waiting.pop()
                    if at not in body:
                        body.add(at)
                        waiting += [one for one in before[at] if one in dominators]
    return [
        Loop(head, frozenset(body), sum(body < other for other in bodies.values())) for head, body in bodies.items()
    ]


def _dominators(blocks: list[Block], before: list[list[int]]) -> dict[int, set[int]]:
    """For each block that can be reached: the blocks that every way to it goes through."""
    reached, waiting = set(), [0]
    while waiting:
        at = waiting.pop()
        if at not in reached:
            reached.add(at)
            waiting += blocks[at].followers
    found = {index: ({0} if index == 0 else set(reached)) for index in reached}
    changed = True
    while changed:
        changed = False
        for index in sorted(reached - {0}):
            ways = [found[one] for one in before[index] if one in reached]
            new = set.intersection(*ways) | {index}
            if new != found[index]:
                found[index], changed = new, True
    return found


def _count(blocks: list[Block], loop: Loop) -> dict[str, int]:
    counts: dict[str, int] = {}
    for index in loop.blocks:
        for one in blocks[index].instructions:
            counts[one.opcode] = counts.get(one.opcode, 0) + 1
    return counts


def innermost_step(
    lines: list[str], record: tuple[str, int] | None = None, pixels: int = 1, *, unrolls: bool = True
) -> Step | None:
    """Count the instructions that one pixel's innermost step takes; None where a kernel has no such loop.

    Parameters
    ----------
    lines
        The listing of one function (``functions``).
    record
        Beginning of the opcode that loads what belongs to a step, and the bytes between two steps' records.
    pixels
        Pixels that a thread renders side by side: they share the loop, and what it loads.
    unrolls
        Whether the loop may hold several steps, to be told by what it loads.
    """
    blocks = read_blocks(lines)
    loops = find_loops(blocks)
    innermost = [one for one in loops if not any(other.blocks < one.blocks for other in loops)]
    counted = [(loop, _count(blocks, loop)) for loop in innermost]
    if record:
        enough = READ_SHARE * record[1]
        counted = [(loop, counts) for loop, counts in counted if _loaded(counts, record[0]) >= enough]
    if not counted:
        return None
    loop, counts = max(counted, key=lambda one: (one[0].depth, _arithmetic(one[1])))
    unrolled = pixels * (records_read(blocks, loop, *record) if record and unrolls else 1)
    classes = dict.fromkeys(CLASSES, 0.0)
    for opcode, number in counts.items():
        classes[classify(opcode)] += number / unrolled
    return Step(classes, unrolled, {opcode: number / unrolled for opcode, number in sorted(counts.items())})


def densest_loop(lines: list[str], kind: str) -> dict[str, float] | None:
    """Instructions by class of the loop with the largest share of one class, inner loops included; or None."""
    blocks = read_blocks(lines)
    found: list[dict[str, float]] = []
    for loop in find_loops(blocks):
        classes = dict.fromkeys(CLASSES, 0.0)
        for opcode, number in _count(blocks, loop).items():
            classes[classify(opcode)] += number
        if classes[kind]:
            found.append(classes)
    return max(found, key=lambda classes: classes[kind] / sum(classes.values()), default=None)


def records_read(blocks: list[Block], loop: Loop, load: str, n_bytes: int) -> int:
    """How many records of ``n_bytes`` the loads of a loop's body reach.

    Loads are told apart by their base register: one base that spans three records reads three, and two
    bases that are each read as often read one record each.
    """
    places: dict[str, list[tuple[int, int]]] = {}
    for index in loop.blocks:
        for one in blocks[index].instructions:
            if one.opcode.startswith(load):
                base, offset = _address(one.operands)
                places.setdefault(base, []).append((offset, offset + _width(one.opcode)))
    if not places:
        return 1
    most = max(len(reached) for reached in places.values())
    found = 0
    for reached in places.values():
        if 2 * len(reached) >= most:  # others load something else, such as a structure factor
            span = max(stop for _, stop in reached) - min(start for start, _ in reached)
            found += max(1, -(-span // n_bytes))
    return found


def _address(operands: str) -> tuple[str, int]:
    """Base registers and constant offset of ``R4, [R30+UR5+0x70]`` or ``R4, desc[UR6][R16.64+0x8]``."""
    inside = re.findall(r"\[([^\]]*)\]", operands)
    terms = inside[-1].split("+") if inside else [""]
    offset = 0
    for term in terms:
        if re.fullmatch(r"-?0x[0-9a-f]+", term):
            offset += int(term, 16)
    return "+".join(term for term in terms if not re.fullmatch(r"-?0x[0-9a-f]+", term)), offset


def _width(opcode: str) -> int:
    """Bytes that a load brings a thread."""
    for suffix, width in (("128", 16), ("64", 8), ("U16", 2), ("S16", 2), ("U8", 1), ("S8", 1)):
        if suffix in opcode.split("."):
            return width
    return 4


def _loaded(counts: Mapping[str, float], load: str) -> float:
    """Bytes that the loads of one kind bring a thread."""
    return sum(number * _width(opcode) for opcode, number in counts.items() if opcode.startswith(load))


def _arithmetic(counts: dict[str, int]) -> int:
    return sum(number for opcode, number in counts.items() if classify(opcode) in ("fp32", "fp64"))
