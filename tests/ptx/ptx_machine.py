"""Executes a kernel's PTX without a GPU: all threads of a launch at once, NumPy over them.

Of the threads that can go on, those at the lowest basic block go first; threads wait at a barrier until all of their
block have come or gone. What a kernel may not do - touch memory that is not its own, unaligned, not written yet or in
a race between barriers, return while others wait - is noted in ``Launch.faults``, and the launch goes on.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from ptx_arithmetic import find_operation
from ptx_memory import DeviceMemory, Faults, GlobalAccess, SharedAccess
from ptx_text import (
    DTYPES,
    ENDS,
    Function,
    Instruction,
    Module,
    UnknownPtx,
    members,
    read_module,
    type_of_register,
)

_FLOAT = re.compile(r"0([fd])([0-9A-Fa-f]+)")
_INTEGER = re.compile(r"(-?)(0x[0-9a-fA-F]+|\d+)U?")
_ADDRESS = re.compile(r"\[([%$\w]+)(?:\+(-?\d+))?\]")

#: What a register holds that nobody wrote.
_GARBAGE = {"b": True, "u": 0xDEADBEEFDEADBEEF, "f": np.nan}


class Frame:
    """One call of a function: registers and parameters, one element a thread."""

    def __init__(self, program: Program, launch: Launch, parameters: dict[str, np.ndarray]) -> None:
        self.launch, self.parameters = launch, parameters
        self.registers = [np.full(launch.n, _garbage(dtype), dtype) for dtype in program.dtypes]


def _garbage(dtype: np.dtype):
    value = _GARBAGE[dtype.kind]
    return value & (1 << 8 * dtype.itemsize) - 1 if dtype.kind == "u" else value


#: What an instruction does in the lanes of a mask; without one in all.
Step = Callable[[Frame, "np.ndarray | None"], None]


class Block(NamedTuple):
    """Steps that run one after the other, and the branch, the return or the barrier that ends them."""

    steps: tuple[Step, ...]
    kind: str  #: "bra", "ret", "bar", or "" where the next block follows
    target: int = 0
    guard: Callable[[Frame], np.ndarray] | None = None  #: who branches; None: all


class Program:
    """A function, translated; ``edge`` as in ptx_arithmetic."""

    def __init__(self, function: Function, module: Module, edge: int) -> None:
        self.function, self.module, self._edge = function, module, edge
        self._numbers: dict[str, int] = {}
        self.dtypes: list[np.dtype] = []
        self.blocks = [self._translate_block(block) for block in function.blocks]

    # --- blocks -----------------------------------------------------------------------------------

    def _translate_block(self, block: list[Instruction]) -> Block:
        *body, last = block
        kind = last.opcode[0]
        if kind not in ENDS:
            return Block(tuple(self._guarded(one) for one in block), "")
        steps = tuple(self._guarded(one) for one in body)
        if kind == "bra":
            target = self.function.labels[last.operands[0]]
            return Block(steps, kind, target, self._guard(last) if last.guard else None)
        if last.guard or (kind == "bar" and (last.opcode[1:], last.operands) != (("sync",), ("0",))):
            raise UnknownPtx(str(last))
        return Block(steps, kind)

    def _guard(self, instruction: Instruction) -> Callable[[Frame], np.ndarray]:
        number, wanted = self._register(instruction.guard), instruction.wanted
        return lambda frame: frame.registers[number] == wanted

    def _guarded(self, instruction: Instruction) -> Step:
        step = self._translate(instruction)
        if instruction.guard is None:
            return step
        guard = self._guard(instruction)

        def where_wanted(frame: Frame, mask) -> None:
            step(frame, guard(frame) if mask is None else guard(frame) & mask)

        return where_wanted

    # --- operands ---------------------------------------------------------------------------------

    def _register(self, name: str) -> int:
        if name not in self._numbers:
            kind = type_of_register(self.function, name)
            self._numbers[name] = len(self.dtypes)
            self.dtypes.append(np.dtype(DTYPES[kind]))
        return self._numbers[name]

    def _reader(self, operand: str, kind: str) -> Callable[[Frame], np.ndarray]:
        """What an operand is, as numbers of a type."""
        dtype = np.dtype(DTYPES[kind])
        if operand in Launch.SPECIAL:
            return lambda frame: frame.launch.special[operand].astype(dtype, copy=False)
        if operand.startswith("%"):
            number = self._register(operand)
            convert = _converter(self.dtypes[number], dtype)
            return lambda frame: convert(frame.registers[number])
        if operand in self.module.constants:
            return lambda frame: dtype.type(frame.launch.constants[operand])
        if operand in self.module.shared:
            constant = dtype.type(self.module.shared[operand][0])
        else:
            constant = _literal(operand, dtype)
        return lambda frame: constant

    def _writer(self, operand: str, kind: str) -> Callable[[Frame, np.ndarray, np.ndarray | None], None]:
        if operand == "_":
            return lambda frame, value, mask: None
        number = self._register(operand)
        convert = _converter(np.dtype(DTYPES[kind]), self.dtypes[number])

        def write(frame: Frame, value, mask) -> None:
            value = convert(value)
            registers = frame.registers
            if mask is not None:
                registers[number] = np.where(mask, value, registers[number])
            else:
                registers[number] = frame.launch.spread(value)

        return write

    # --- instructions -----------------------------------------------------------------------------

    def _translate(self, instruction: Instruction) -> Step:
        special = {
            "mov": self._translate_move,
            "ld": self._translate_load,
            "st": self._translate_store,
            "atom": self._translate_atomic,
            "call": self._translate_call,
        }.get(instruction.opcode[0])
        if special:
            return special(instruction)
        operation = find_operation(instruction, self._edge)
        target, *sources = instruction.operands
        readers = [self._reader(one, kind) for one, kind in zip(sources, operation.sources, strict=True)]
        write, function = self._writer(target, operation.result), operation.function

        def compute(frame: Frame, mask) -> None:
            write(frame, function(*(read(frame) for read in readers)), mask)

        return compute

    def _translate_move(self, instruction: Instruction) -> Step:
        """Copies, and numbers of 64 bits taken apart or put together."""
        target, source = instruction.operands
        kind = instruction.opcode[-1]
        if target.startswith("{"):
            read = self._reader(source, kind)
            low, high = (self._writer(one, "u32") for one in members(target))

            def take_apart(frame: Frame, mask) -> None:
                bits = np.asarray(read(frame))
                low(frame, bits.astype(np.uint32), mask)
                high(frame, (bits >> np.uint64(32)).astype(np.uint32), mask)

            return take_apart
        write = self._writer(target, kind)
        if source.startswith("{"):
            parts = [self._reader(one, "u32") for one in members(source)]

            def put_together(frame: Frame, mask) -> None:
                low, high = (np.asarray(read(frame)).astype(np.uint64) for read in parts)
                write(frame, (high << np.uint64(32)) | low, mask)

            return put_together
        read = self._reader(source, kind)
        return lambda frame, mask: write(frame, read(frame), mask)

    def _place(self, instruction: Instruction, operand: str):
        """The state space of an access, how many numbers it moves, their type, and how their address is found."""
        marks = instruction.opcode[1:-1]
        space = next((one for one in marks if one in ("global", "shared", "param")), None)
        unknown = set(marks) - {space, "nc", "add", "relaxed", "sys", "v2", "v4"}
        found = _ADDRESS.fullmatch(operand)
        if space is None or unknown or found is None:
            raise UnknownPtx(str(instruction))
        count = next((int(one[1]) for one in marks if one in ("v2", "v4")), 1)
        base, offset = found[1], int(found[2] or 0)
        if space == "param":
            return space, count, (base, offset)
        read = self._reader(base, "s64")
        return space, count, lambda frame: frame.launch.spread(read(frame) + np.int64(offset))

    def _translate_load(self, instruction: Instruction) -> Step:
        target, source = instruction.operands
        kind = instruction.opcode[-1]
        space, count, place = self._place(instruction, source)
        writers = [self._writer(one, kind) for one in members(target)]
        dtype, text = np.dtype(DTYPES[kind]), str(instruction)
        if space == "param":
            name, offset = place

            def read_parameter(frame: Frame, mask) -> None:
                # Perhaps a part of it only.
                parts = frame.parameters[name].view(dtype).reshape(frame.launch.n, -1)
                writers[0](frame, parts[:, offset // dtype.itemsize].copy(), mask)

            return read_parameter

        def load(frame: Frame, mask) -> None:
            launch = frame.launch
            memory = launch.spaces[space]
            numbers = memory.load(place(frame), dtype, count, launch.lanes(mask), text)
            for write, one in zip(writers, numbers, strict=True):
                write(frame, one, mask)

        return load

    def _translate_store(self, instruction: Instruction) -> Step:
        target, source = instruction.operands
        kind = instruction.opcode[-1]
        space, _, place = self._place(instruction, target)
        readers = [self._reader(one, kind) for one in members(source)]
        text = str(instruction)
        if space == "param":
            name = place[0]

            def hand_over(frame: Frame, mask) -> None:
                value = frame.launch.spread(readers[0](frame))
                known = frame.parameters.get(name)
                frame.parameters[name] = value if mask is None or known is None else np.where(mask, value, known)

            return hand_over

        def store(frame: Frame, mask) -> None:
            launch = frame.launch
            numbers = [launch.spread(read(frame)) for read in readers]
            launch.spaces[space].store(place(frame), numbers, launch.lanes(mask), text)

        return store

    def _translate_atomic(self, instruction: Instruction) -> Step:
        target, address, summand = instruction.operands
        kind = instruction.opcode[-1]
        space, _, place = self._place(instruction, address)
        if "add" not in instruction.opcode or space != "global":
            raise UnknownPtx(str(instruction))
        read, write, text = self._reader(summand, kind), self._writer(target, kind), str(instruction)

        def add(frame: Frame, mask) -> None:
            launch = frame.launch
            before = launch.spaces[space].add(place(frame), launch.spread(read(frame)), launch.lanes(mask), text)
            write(frame, before, mask)

        return add

    def _translate_call(self, instruction: Instruction) -> Step:
        (result,), name, arguments = members(instruction.operands[0]), instruction.operands[1], instruction.operands[2]
        program = Program(self.module.functions[name], self.module, self._edge)
        names = [one for one, _ in program.function.parameters]
        (returned, _) = program.function.results[0]

        def call(frame: Frame, mask) -> None:
            given = {name: frame.parameters[one] for name, one in zip(names, members(arguments), strict=True)}
            inner = Frame(program, frame.launch, given)
            frame.launch.execute(program, inner, mask)
            frame.parameters[result] = inner.parameters[returned]

        return call


def _converter(have: np.dtype, want: np.dtype) -> Callable[[np.ndarray], np.ndarray]:
    """Bits of one type as another of the same or a smaller size; a small number in a large register."""
    if have == want:
        return lambda value: value
    if have.itemsize == want.itemsize:
        return lambda value: np.asarray(value).view(want)
    if have.kind not in "iu" or want.kind not in "iu":
        raise UnknownPtx(f"a register of {have} as {want}")
    # Between signs of equal size bits stay; a wider register is filled by the sign of what is loaded.
    return lambda value: np.asarray(value).astype(np.dtype(f"{have.kind}{want.itemsize}")).view(want)


def _literal(text: str, dtype: np.dtype):
    """``0f3F800000``, ``0d...`` and whole numbers as a scalar."""
    if found := _FLOAT.fullmatch(text):
        code, kind = (">f", "f4") if found[1] == "f" else (">d", "f8")
        value = np.array(struct.unpack(code, bytes.fromhex(found[2]))[0], kind)
        if value.dtype.itemsize != dtype.itemsize:
            raise UnknownPtx(f"{text} as {dtype}")
        return value.view(dtype)[()]
    if found := _INTEGER.fullmatch(text):
        value = int(found[2], 0) * (-1 if found[1] else 1)
        if dtype.kind == "b":
            return np.bool_(value)
        if dtype.kind in "iu":
            return np.array(value & (1 << 8 * dtype.itemsize) - 1, f"u{dtype.itemsize}").view(dtype)[()]
    raise UnknownPtx(f"operand {text}")


def translate(ptx: str, edge: int = 0) -> Program:
    """The one kernel in a text of PTX; ``edge``: at which edge of their error approximations are taken, -1, 0 or 1."""
    module = read_module(ptx)
    return Program(module.functions[module.entry], module, edge)


class Launch:
    """One launch of a kernel over a grid of blocks.

    Parameters
    ----------
    program
        What ``translate`` makes of a kernel.
    arguments
        Type (NumPy's name) and value of each of its parameters.
    """

    SPECIAL = ("%tid.x", "%ctaid.x", "%ntid.x", "%nctaid.x")

    def __init__(self, program: Program, memory: DeviceMemory, blocks: int, threads: int, arguments) -> None:
        self.n_blocks, self.threads, self.n = blocks, threads, blocks * threads
        lane = np.arange(self.n)
        block = lane // threads
        self._all_lanes = lane
        self.special = {
            "%tid.x": (lane % threads).astype(np.uint32),
            "%ctaid.x": block.astype(np.uint32),
            "%ntid.x": np.full(self.n, threads, np.uint32),
            "%nctaid.x": np.full(self.n, blocks, np.uint32),
        }
        self.faults = Faults()
        module = program.module
        self.shared = SharedAccess(module.shared, module.shared_bytes, block, self.faults)
        self.spaces = {"global": GlobalAccess(memory, self.faults), "shared": self.shared}
        self.constants = {name: memory.allocate(len(data)) for name, data in module.constants.items()}
        for name, data in module.constants.items():
            memory.write(self.constants[name], np.frombuffer(data, np.uint8))
        self._program, self._arguments = program, self._bind(program.function, arguments)

    def _bind(self, kernel: Function, arguments) -> dict[str, np.ndarray]:
        bound = {}
        for (name, kind), (given, value) in zip(kernel.parameters, arguments, strict=True):
            want, have = np.dtype(DTYPES[kind]), np.dtype(given)
            assert (want.itemsize, want.kind == "f") == (have.itemsize, have.kind == "f"), (name, kind, given)
            bound[name] = np.full(self.n, value, have).view(want)
        return bound

    def run(self) -> Launch:
        """Execute the kernel to its end."""
        with np.errstate(all="ignore"):
            self.execute(self._program, Frame(self._program, self, self._arguments), None)
        return self

    def lanes(self, mask) -> np.ndarray:
        """The numbers of the threads in a mask."""
        return self._all_lanes if mask is None else np.flatnonzero(mask)

    def spread(self, value) -> np.ndarray:
        """A value for each thread."""
        return value if isinstance(value, np.ndarray) and value.ndim else np.full(self.n, value)

    # --- order of threads -------------------------------------------------------------------------

    def execute(self, program: Program, frame: Frame, mask) -> None:
        """Run a function in the threads of a mask until all have returned."""
        done = len(program.blocks)
        at = np.full(self.n, 0 if mask is None else done, np.int32)
        if mask is not None:
            at[mask] = 0
        waiting = np.zeros(self.n, bool)
        while True:
            lowest = int(np.where(waiting, done, at).min())
            if lowest == done:
                return
            here = (at == lowest) & ~waiting
            self._run_blocks(program, frame, here, at, waiting)

    def _run_blocks(
        self, program: Program, frame: Frame, here: np.ndarray, at: np.ndarray, waiting: np.ndarray
    ) -> None:
        """Run the block at which some threads are, and those after it as long as they stay together and alone."""
        number = int(at[np.argmax(here)])
        lanes = None if here.all() else here
        count = int(np.count_nonzero(here))
        # Others that could come to a lower block than theirs must be asked again.
        others = at[~here & ~waiting]
        limit = int(others.min()) if len(others) else len(program.blocks)
        while number < limit:
            block = program.blocks[number]
            for step in block.steps:
                step(frame, lanes)
            if block.kind == "bar":
                at[here] = number
                waiting |= here
                self._release(at, waiting, len(program.blocks))
                return
            if block.kind == "ret":
                at[here] = len(program.blocks)
                self._release(at, waiting, len(program.blocks))
                return
            number += 1
            if block.kind == "bra":
                taken = here if block.guard is None else here & block.guard(frame)
                n_taken = count if block.guard is None else int(np.count_nonzero(taken))
                if 0 < n_taken < count:
                    at[here] = number
                    at[taken] = block.target
                    return
                number = block.target if n_taken else number
        at[here] = number

    def _release(self, at: np.ndarray, waiting: np.ndarray, done: int) -> None:
        """Let blocks go on of which every thread waits."""
        shape = (self.n_blocks, self.threads)
        here, gone, place = waiting.reshape(shape), (at == done).reshape(shape), at.reshape(shape)
        ready = (here | gone).all(axis=1) & here.any(axis=1)
        if not ready.any():
            return
        first, last = np.where(here, place, done).min(axis=1), np.where(here, place, -1).max(axis=1)
        barrier = f"bar.sync {int(first[ready].min())}"
        self.faults.note("threads of a block wait at different barriers", barrier, (ready & (first != last)).sum())
        left = (ready & gone.any(axis=1)).sum()
        self.faults.note("threads return while others of their block wait", barrier, left)
        released = np.repeat(ready, self.threads) & waiting
        at[released] += 1
        waiting &= ~released
        self.shared.epoch[ready] += 1
