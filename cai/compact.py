"""What must be remembered of every row, in some ten bytes a row: Python's own objects would take hundreds."""

from array import array
from collections.abc import Iterator
from heapq import merge
from struct import Struct

_HALVES = Struct(">QQ")
_SLOTS = 1 << 10
# Records that are sorted at a time; as objects they take some hundred bytes each.
_BLOCK = 1 << 14


class Table:
    """128-bit keys, themselves digests, to whole numbers from 0: a hash table of 24 bytes a slot.

    At most two thirds of the slots are taken, so an entry takes 36 to 72 bytes.
    """

    def __init__(self) -> None:
        self._taken = 0
        self._allocate(_SLOTS)

    def get(self, key: bytes) -> int | None:
        """The number of a key, or None."""
        if not self._taken:
            return None
        high, low = _HALVES.unpack(key)
        above = self._above[self._slot(high, low)]
        return above - 1 if above else None

    def put(self, key: bytes, number: int) -> None:
        """Set the number of a key."""
        high, low = _HALVES.unpack(key)
        slot = self._slot(high, low)
        if not self._above[slot]:
            self._taken += 1
            if 3 * self._taken > 2 * len(self._above):
                self._grow()
                slot = self._slot(high, low)
        self._high[slot], self._low[slot], self._above[slot] = high, low, number + 1

    def count(self, key: bytes) -> int:
        """How often a key was counted before."""
        high, low = _HALVES.unpack(key)
        slot = self._slot(high, low)
        above = self._above[slot]
        if above:
            self._above[slot] = above + 1
        else:
            self.put(key, 0)
        return above

    def _allocate(self, slots: int) -> None:
        # The number plus one: 0 is a free slot.
        self._high, self._low, self._above = (array("Q", bytes(8 * slots)) for _ in range(3))

    def _slot(self, high: int, low: int) -> int:
        """Where the key is, or else the free slot where it would be."""
        highs, lows, above = self._high, self._low, self._above
        last = len(above) - 1
        slot = low & last
        while above[slot] and (lows[slot] != low or highs[slot] != high):
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        before = zip(self._high, self._low, self._above, strict=True)
        self._allocate(2 * len(self._above))
        for high, low, above in before:
            if above:
                slot = self._slot(high, low)
                self._high[slot], self._low[slot], self._above[slot] = high, low, above


class Sorter:
    """Records of one width, put in in any order and read back in the order of their bytes."""

    def __init__(self) -> None:
        self._records = bytearray()
        self._width = 0

    def add(self, record: bytes) -> None:
        """Put in a record. All must have the width of the first."""
        if len(record) != self._width:
            if self._width:
                raise RuntimeError(f"a record of {len(record)} bytes among those of {self._width}")
            self._width = len(record)
        self._records += record

    def __iter__(self) -> Iterator[bytes]:
        """The records in order; nothing may be put in meanwhile."""
        size = self._width * _BLOCK
        starts = range(0, len(self._records), size or 1)
        for start in starts:
            self._records[start : start + size] = b"".join(sorted(self._block(start, size)))
        return merge(*(self._block(start, size) for start in starts))

    def _block(self, start: int, size: int) -> Iterator[bytes]:
        for at in range(start, min(start + size, len(self._records)), self._width):
            yield bytes(self._records[at : at + self._width])
