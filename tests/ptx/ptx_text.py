"""PTX as numba's compiler writes it, read into functions of basic blocks.

It knows the directives and the syntax of the kernels of this project, and refuses what it does not know
(PTX ISA 8.x, "Syntax" and "State Spaces").
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

#: NumPy's names of PTX's types; untyped bits are unsigned numbers.
DTYPES = {
    **{
        f"{letter}{8 * size}": f"{kind}{size}"
        for size in (1, 2, 4, 8)
        for letter, kind in zip("sub", "iuu", strict=True)
    },
    "f32": "f4",
    "f64": "f8",
    "pred": "?",
}

#: What ends a block: nothing after it is certain to run next.
ENDS = ("bra", "ret", "bar")

#: Bytes between two arrays of shared memory: who runs over an end meets nobody's.
GAP = 64

_LABEL = re.compile(r"\s*([$\w]+):")
_GUARD = re.compile(r"@(!?)(%\w+)\s+(.*)", re.S)
_CONSTANT = re.compile(r"\.(?:global|const) \.align \d+ \.b8 (\w+)\[\d+\] = \{([^}]*)\};")
_PARAMETER = re.compile(r"\.param (?:\.align \d+ )?\.(\w+)\s+(?:\.ptr\s+(?:\.\w+\s+)?\.align \d+\s+)?(\w+)")
_SHARED = re.compile(r"\.shared \.align (\d+) \.b8 (\w+)\[(\d+)\];")
_FUNCTION = re.compile(r"\.(entry|func)\s+(?:\(([^)]*)\)\s*)?(\w+)\s*\(([^)]*)\)\s*(;|(?:\.\w+[^{;]*)?\{)")
_OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\([^)]*\)|[^,\s(){}\[\]]+")


class UnknownPtx(Exception):
    """PTX that this reader or the machine has no rule for."""


@dataclass(frozen=True)
class Instruction:
    """``@guard opcode operands;`` the opcode in its parts: ``("add", "ftz", "f32")``."""

    opcode: tuple[str, ...]
    operands: tuple[str, ...]
    guard: str | None = None  #: a predicate register; only threads in which it is ``wanted`` do it
    wanted: bool = True

    def __str__(self) -> str:
        return f"{'.'.join(self.opcode)} {', '.join(self.operands)}"


@dataclass
class Function:
    """A kernel or a function that one calls: parameters and results (name, type), blocks, types of registers."""

    name: str
    parameters: list[tuple[str, str]]
    results: list[tuple[str, str]]
    blocks: list[list[Instruction]] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)  #: the block that follows each label
    registers: dict[str, str] = field(default_factory=dict)  #: type by name; ranges by their prefix


@dataclass
class Module:
    """One kernel with all that it calls; ``shared`` holds the place and the size of each array, ``constants`` bytes."""

    entry: str
    functions: dict[str, Function]
    shared: dict[str, tuple[int, int]]
    shared_bytes: int
    constants: dict[str, bytes]


def read_module(ptx: str) -> Module:
    """Read the PTX of one kernel.

    Raises
    ------
    UnknownPtx
        If there is not one kernel, or a statement cannot be read.
    """
    ptx = re.sub(r"//[^\n]*", "", ptx)
    shared, end = {}, GAP
    for align, name, size in _SHARED.findall(ptx):
        start = -(-end // int(align)) * int(align)
        shared[name] = (start, int(size))
        end = start + int(size) + GAP
    functions, entries = {}, []
    for found in _FUNCTION.finditer(ptx):
        kind, results, name, parameters, last = found.groups()
        if last == ";":
            continue  # announced, and written down later
        function = Function(name, _PARAMETER.findall(parameters), _PARAMETER.findall(results or ""))
        for pairs in (function.parameters, function.results):
            pairs[:] = [(one, kind_of_one) for kind_of_one, one in pairs]
        _read_body(function, ptx, found.end())
        functions[name] = function
        if kind == "entry":
            entries.append(name)
    if len(entries) != 1:
        raise UnknownPtx(f"{len(entries)} kernels in a module")
    constants = {name: bytes(int(byte) for byte in text.split(",")) for name, text in _CONSTANT.findall(ptx)}
    return Module(entries[0], functions, shared, -(-end // GAP) * GAP, constants)


def _read_body(function: Function, ptx: str, at: int) -> None:
    """Read statements up to the brace that closes the body; registers of inner braces get names of their own."""
    scopes: list[dict[str, str]] = [{}]
    block: list[Instruction] = []
    n_scopes = 0

    def close() -> None:
        nonlocal block
        if block:
            function.blocks.append(block)
            block = []

    while True:
        at += len(ptx[at:]) - len(ptx[at:].lstrip()) if ptx[at].isspace() else 0
        if ptx[at] == "{":
            n_scopes += 1
            scopes.append({})
            at += 1
        elif ptx[at] == "}":
            scopes.pop()
            at += 1
            if not scopes:
                close()
                return
        elif label := _LABEL.match(ptx, at):
            close()
            function.labels[label[1]] = len(function.blocks)
            at = label.end()
        else:
            end = ptx.index(";", at)
            statement = " ".join(ptx[at:end].split())
            at = end + 1
            if statement.startswith(".reg"):
                _declare(function, statement, scopes, n_scopes)
            elif not statement.startswith((".param", ".pragma", ".loc")):
                instruction = _read_instruction(statement, scopes)
                ends = instruction.opcode[0] in ENDS
                if instruction.opcode[0] == "bar":
                    close()  # threads wait before it
                block.append(instruction)
                if ends:
                    close()


def _declare(function: Function, statement: str, scopes: list[dict[str, str]], number: int) -> None:
    """Note the types of ``.reg .f64 %fd<9>`` or ``.reg .b32 %temp, %other``."""
    _, kind, names = statement.split(None, 2)
    for name in (one.strip() for one in names.split(",")):
        plain = name.split("<")[0]
        inner = len(scopes) > 1
        unique = f"{plain}_of_scope_{number}" if inner else plain
        if inner:
            scopes[-1][plain] = unique
        function.registers[unique] = kind[1:]


def _read_instruction(statement: str, scopes: list[dict[str, str]]) -> Instruction:
    guard, wanted = None, True
    if found := _GUARD.match(statement):
        wanted, guard, statement = not found[1], found[2], found[3]
    opcode, _, rest = statement.partition(" ")
    for scope in scopes[1:]:
        for plain, unique in scope.items():
            rest = re.sub(rf"{re.escape(plain)}(?!\w)", unique, rest)
    return Instruction(tuple(opcode.split(".")), tuple(_OPERAND.findall(rest)), guard, wanted)


def members(operand: str) -> list[str]:
    """``{a, b}``, ``(a, b)`` -> a and b; anything else is its only member."""
    inner = operand[1:-1] if operand[0] in "{(" else operand
    return [one.strip() for one in inner.split(",")]


def type_of_register(function: Function, name: str) -> str:
    """The declared type: of the register itself, or of the range that it belongs to."""
    found = function.registers.get(name) or function.registers.get(name.rstrip("0123456789"))
    if found is None:
        raise UnknownPtx(f"register {name} of {function.name} was not declared")
    return found
