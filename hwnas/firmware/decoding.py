"""Machine code of one program as decoded blocks, each decoded once. Touches nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import capstone

from hwnas.errors import FirmwareError

BLOCK_LIMIT_BYTES = 8192

Step = TypeVar("Step")


class Code(Generic[Step]):
    """The code of a program.

    Args:
        code: machine code at `base`.
        arch, mode: of capstone.
        language: its name in errors.
        decode: what a cost model keeps of one instruction.
    """

    def __init__(self, code: bytes, base: int, arch: int, mode: int, language: str, decode: Callable[[Any], Step]) -> None:
        self.base = base
        self._code, self._language, self._decode = code, language, decode
        self._decoder = capstone.Cs(arch, mode)
        self._decoder.detail = True
        self._blocks: dict[tuple[int, int], tuple[Step, ...]] = {}

    def steps(self, address: int, size_bytes: int) -> tuple[Step, ...]:
        """The instructions of a block.

        Raises:
            FirmwareError: bytes that are no code of the program.
        """
        found = self._blocks.get((address, size_bytes))
        if found is None:
            start = address - self.base
            code = self._code[start : start + size_bytes] if start >= 0 and size_bytes <= BLOCK_LIMIT_BYTES else b""
            instructions = list(self._decoder.disasm(code, address))
            if not instructions or sum(i.size for i in instructions) != size_bytes:
                raise FirmwareError(f"the program ran {size_bytes} bytes at 0x{address:x} that are no {self._language} code of its flash")
            found = self._blocks[(address, size_bytes)] = tuple(self._decode(i) for i in instructions)
        return found
