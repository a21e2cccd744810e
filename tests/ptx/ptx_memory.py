"""Memory of a made-up device that knows who owns each byte and which were written."""

from __future__ import annotations

import numpy as np

#: Where device memory begins, so that no small number is an address.
BASE = 0x7F0000000000

#: Bytes between two arrays: who runs over an end meets nobody's.
GAP = 4096

#: What lies where nobody wrote.
GARBAGE = 0xA5


class Faults(dict):
    """What no kernel may do: how often, by what and by the instruction that did it."""

    def note(self, what: str, instruction: str, times: int) -> None:
        """Count a fault."""
        if times:
            self[what, instruction] = self.get((what, instruction), 0) + int(times)


class DeviceMemory:
    """Global memory: ``data`` in bytes, ``owner`` and ``written`` of each."""

    def __init__(self, size: int = 64 << 20) -> None:
        self.data = np.full(size, GARBAGE, np.uint8)
        self.owner = np.zeros(size, np.uint16)
        self.written = np.zeros(size, bool)
        self._end, self._owners = GAP, 0

    def allocate(self, size: int) -> int:
        """The address of ``size`` bytes of garbage."""
        start = self._end
        self._owners += 1
        self.owner[start : start + size] = self._owners
        self._end = -(-(start + size + GAP) // 256) * 256
        assert self._end <= len(self.data), "the made-up device is full"
        return BASE + start

    def write(self, address: int, values: np.ndarray) -> None:
        """Copy an array to the device."""
        place = slice(address - BASE, address - BASE + values.nbytes)
        self.data[place] = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.written[place] = True

    def read(self, address: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Copy an array from the device."""
        size = int(np.prod(shape)) * dtype.itemsize
        return self.data[address - BASE : address - BASE + size].copy().view(dtype).reshape(shape)


def _gathered(values: np.ndarray, first: np.ndarray, count: int, lanes, n_lanes: int) -> list[np.ndarray]:
    """``count`` neighbouring values from ``first`` of each of ``lanes`` on; 0 in all other lanes."""
    loaded = np.zeros((count, n_lanes), values.dtype)
    for number in range(count):
        loaded[number, lanes] = values[first + number]
    return list(loaded)


class GlobalAccess:
    """What the threads of a launch do to global memory."""

    def __init__(self, memory: DeviceMemory, faults: Faults) -> None:
        self.memory, self.faults = memory, faults

    def _places(self, addresses, lanes, size: int, instruction: str):
        """The lanes whose access is allowed, and where in ``data`` it begins."""
        offsets = addresses[lanes].astype(np.int64) - BASE
        owner = self.memory.owner
        outside = (offsets < 0) | (offsets + size > len(owner))
        safe = np.where(outside, 0, offsets)
        outside |= (owner[safe] == 0) | (owner[safe] != owner[safe + size - 1])
        unaligned = ~outside & (offsets % size != 0)
        self.faults.note("global memory out of bounds", instruction, outside.sum())
        self.faults.note("global memory unaligned", instruction, unaligned.sum())
        allowed = ~(outside | unaligned)
        return lanes[allowed], offsets[allowed]

    def load(self, addresses, dtype: np.dtype, count: int, lanes, instruction: str) -> list[np.ndarray]:
        """``count`` neighbouring numbers for each lane."""
        lanes, offsets = self._places(addresses, lanes, count * dtype.itemsize, instruction)
        unwritten = np.count_nonzero(~self.memory.written[offsets])
        self.faults.note("global memory read before it is written", instruction, unwritten)
        return _gathered(self.memory.data.view(dtype), offsets // dtype.itemsize, count, lanes, len(addresses))

    def store(self, addresses, numbers: list[np.ndarray], lanes, instruction: str) -> None:
        """Neighbouring numbers of each lane."""
        dtype = numbers[0].dtype
        lanes, offsets = self._places(addresses, lanes, len(numbers) * dtype.itemsize, instruction)
        self.faults.note("two threads store to one place", instruction, len(offsets) - len(np.unique(offsets)))
        values = self.memory.data.view(dtype)
        for number, one in enumerate(numbers):
            values[offsets // dtype.itemsize + number] = one[lanes]
            for byte in range(dtype.itemsize):
                self.memory.written[offsets + number * dtype.itemsize + byte] = True

    def add(self, addresses, summands: np.ndarray, lanes, instruction: str) -> np.ndarray:
        """Add atomically, one lane after the other; what was there before."""
        dtype = summands.dtype
        lanes, offsets = self._places(addresses, lanes, dtype.itemsize, instruction)
        unwritten = np.count_nonzero(~self.memory.written[offsets])
        self.faults.note("global memory read before it is written", instruction, unwritten)
        values, before = self.memory.data.view(dtype), np.zeros(len(addresses), dtype)
        for lane, place in zip(lanes, offsets // dtype.itemsize, strict=True):
            before[lane] = values[place]
            values[place] += summands[lane]
        return before


class SharedAccess:
    """Shared memory of all blocks of a launch, and between which barriers each word of 4 bytes was touched by whom."""

    WORD = 4
    NOBODY, SEVERAL = -1, -2

    def __init__(self, arrays: dict[str, tuple[int, int]], size: int, block_of_lane: np.ndarray, faults: Faults):
        n_blocks = int(block_of_lane[-1]) + 1
        self.size, self.block_of_lane, self.faults = size, block_of_lane, faults
        self.data = np.full(n_blocks * size, GARBAGE, np.uint8)
        self.owner = np.zeros(size, np.int16)
        for number, (start, length) in enumerate(arrays.values(), start=1):
            self.owner[start : start + length] = number
        words = len(self.data) // self.WORD
        self.writer, self.written_in = (np.full(words, self.NOBODY, np.int32) for _ in range(2))
        self.reader, self.read_in = (np.full(words, self.NOBODY, np.int32) for _ in range(2))
        self.epoch = np.zeros(n_blocks, np.int32)  #: barriers that a block has passed

    def _places(self, addresses, lanes, size: int, instruction: str):
        offsets = addresses[lanes].astype(np.int64)
        outside = (offsets < 0) | (offsets + size > self.size)
        safe = np.where(outside, 0, offsets)
        outside |= (self.owner[safe] == 0) | (self.owner[safe] != self.owner[safe + size - 1])
        unaligned = ~outside & (offsets % size != 0)
        self.faults.note("shared memory out of bounds", instruction, outside.sum())
        self.faults.note("shared memory unaligned", instruction, unaligned.sum())
        allowed = ~(outside | unaligned)
        lanes = lanes[allowed]
        return lanes, offsets[allowed] + self.block_of_lane[lanes].astype(np.int64) * self.size

    def load(self, addresses, dtype: np.dtype, count: int, lanes, instruction: str) -> list[np.ndarray]:
        """``count`` neighbouring numbers for each lane."""
        size = count * dtype.itemsize
        lanes, offsets = self._places(addresses, lanes, size, instruction)
        epoch = self.epoch[self.block_of_lane[lanes]]
        for byte in range(0, size, self.WORD):
            words = (offsets + byte) // self.WORD
            unwritten = self.written_in[words] < 0
            self.faults.note("shared memory read before it is written", instruction, unwritten.sum())
            raced = (self.written_in[words] == epoch) & (self.writer[words] != lanes)
            self.faults.note("shared memory read in a race", instruction, raced.sum())
            others = (self.read_in[words] == epoch) & (self.reader[words] != lanes)
            self.reader[words], self.read_in[words] = lanes, epoch
            others |= self.reader[words] != lanes
            self.reader[words[others]] = self.SEVERAL
        return _gathered(self.data.view(dtype), offsets // dtype.itemsize, count, lanes, len(addresses))

    def store(self, addresses, numbers: list[np.ndarray], lanes, instruction: str) -> None:
        """Neighbouring numbers of each lane."""
        dtype = numbers[0].dtype
        size = len(numbers) * dtype.itemsize
        lanes, offsets = self._places(addresses, lanes, size, instruction)
        epoch = self.epoch[self.block_of_lane[lanes]]
        for byte in range(0, size, self.WORD):
            words = (offsets + byte) // self.WORD
            raced = (self.written_in[words] == epoch) & (self.writer[words] != lanes)
            raced |= (self.read_in[words] == epoch) & (self.reader[words] != lanes)
            self.writer[words], self.written_in[words] = lanes, epoch
            raced |= self.writer[words] != lanes
            self.faults.note("shared memory written in a race", instruction, raced.sum())
        values = self.data.view(dtype)
        for number, one in enumerate(numbers):
            values[offsets // dtype.itemsize + number] = one[lanes]
