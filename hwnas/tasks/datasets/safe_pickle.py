"""Data out of a pickle without executing it: numbers, text, bytes, builtin containers, numpy arrays and scalars. No files.

Nothing is imported or called by name. The opcodes are read by the standard library's disassembler and interpreted here; the few names
that numpy's own pickles refer to stand for functions of this module that check what they are given. Everything else is refused, and the
number of opcodes and of bytes is bounded.
"""

from __future__ import annotations

import codecs
import io
import math
import pickletools
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_OPCODES = 40_000_000
MAX_BYTES = 2 * 2**30
# what an empty set takes, the largest of the containers that one opcode makes
CONTAINER_BYTES = 216
MAX_LENGTH = 2**48
MAX_NUMBER = 2**128  # of a key
DTYPE = re.compile(r"[<>=|]?(?:b1|\?|[iu][1248]|f[248]|c(?:8|16)|[SU][1-9]\d{0,4}|O8?)")
# Opcodes that push their argument, and those that push a constant.
NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
UNICODE = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
TEXT = ("STRING", "BINSTRING", "SHORT_BINSTRING", *UNICODE)
BYTES = ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8")
PUSH = frozenset({*NUMBERS, *TEXT, *BYTES})
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}
OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
IGNORED = frozenset({"PROTO", "FRAME"})


class UnsafePickle(Exception):
    """What is wrong with a pickle, or what in it is not allowed."""


class _Array:
    """An array that waits for its state."""


class _DType:
    """A type that may yet be told its byte order."""

    def __init__(self, code: Any) -> None:
        if not isinstance(code, str) or not DTYPE.fullmatch(code):
            raise UnsafePickle(f"arrays of type {shown(code)} are not read")
        self.type: np.dtype[Any] = np.dtype(code.replace("O8", "O"))

    def ordered(self, state: Any) -> _DType:
        """The type with the byte order of numpy's state (version, order, None, None, None, size, alignment, flags)."""
        if (
            not isinstance(state, tuple)
            or len(state) < 5
            or not isinstance(state[1], str)
            or state[1] not in ("<", ">", "|", "=")
            or state[2:5] != (None, None, None)
        ):
            raise UnsafePickle("an array type with fields")
        if state[1] in ("<", ">"):
            self.type = np.dtype(state[1] + self.type.str[1:])
        return self


class _Name:
    """A name the pickle refers to, which is not called but stands for `make`."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make


def _raw(data: Any) -> bytes:
    """Bytes, which Python 2 wrote as text."""
    return data.encode("latin-1") if isinstance(data, str) else bytes(memoryview(data))


def _array(data: Any, dtype: Any, shape: Any, fortran: Any) -> NDArray[Any]:
    if not isinstance(dtype, _DType) or not isinstance(shape, tuple) or len(shape) > 8:
        raise UnsafePickle("an array without a proper type and shape")
    if not all(type(n) is int and 0 <= n < MAX_LENGTH for n in shape):
        raise UnsafePickle("an array without a proper type and shape")
    order, count = "F" if fortran else "C", math.prod(shape)
    if dtype.type.hasobject:
        if not isinstance(data, list) or len(data) != count:
            raise UnsafePickle(f"an array of shape {shape} without as many values")
        # numpy lists objects row by row, whatever their order in memory
        return _separate(data).reshape(shape)
    content = _raw(data)
    if len(content) != count * dtype.type.itemsize:
        raise UnsafePickle(f"an array of shape {shape} and type {dtype.type} in {len(content)} bytes")
    if not content:
        return np.zeros(shape, dtype.type)
    if dtype.type.kind == "U" and np.frombuffer(content, dtype.type.byteorder.replace("=", "<") + "u4").max() > 0x10FFFF:
        raise UnsafePickle("text that is no Unicode")
    return np.frombuffer(content, dtype.type).reshape(shape, order=order)  # type: ignore[call-overload,no-any-return]


def _separate(values: list[Any]) -> NDArray[Any]:
    """The values as the elements of an object array, sequences among them not taken apart."""
    apart = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        apart[i] = value
    return apart


def _scalar(dtype: Any, data: Any = b"") -> Any:
    return _array(data, dtype, (), False)[()]


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or not isinstance(encoding, str) or encoding not in ("latin1", "latin-1"):
        raise UnsafePickle(f"text in the encoding {shown(encoding)}")
    return _raw(text)


def _list(values: Any) -> list[Any]:
    if not isinstance(values, list):
        raise UnsafePickle("a set of what is no list")
    return keys(values)


def keys(values: list[Any]) -> list[Any]:
    """Values that dicts and sets may hold: tuples are not, since a short pickle nests them so that their hash takes for ever."""
    for value in values:
        plain = value is None or isinstance(value, str | bytes | float | np.generic)
        if not plain and not (isinstance(value, int) and abs(value) < MAX_NUMBER):
            raise UnsafePickle(f"a key {shown(value)}; allowed are text and numbers")
    return values


def shown(value: Any) -> str:
    """A value in a message: its beginning, or its type where its text can be longer than the pickle."""
    if isinstance(value, str):
        return repr(value[:40])
    if value is None or isinstance(value, bool | float | np.number | np.bool_) or (isinstance(value, int) and abs(value) < MAX_LENGTH):
        return repr(str(value))
    return f"of type {type(value).__name__}"


NAMES: dict[tuple[str, str], _Name] = {
    ("numpy", "ndarray"): _Name(_Array),
    ("numpy", "dtype"): _Name(lambda code, *_: _DType(code)),
    ("_codecs", "encode"): _Name(_encode),
    # times stay the integers they are stored as
    ("pandas._libs.tslibs.timestamps", "_unpickle_timestamp"): _Name(lambda value, *_: int(value)),
    ("pandas._libs.tslibs.timestamps", "Timestamp"): _Name(lambda value, *_: int(value)),
    ("pandas._libs.tslib", "Timestamp"): _Name(lambda value, *_: int(value)),
}
for _builtin in ("builtins", "__builtin__"):
    # how old protocols write them
    NAMES[_builtin, "bytes"] = _Name(lambda: b"")
    NAMES[_builtin, "set"] = _Name(lambda values: set(_list(values)))
    NAMES[_builtin, "frozenset"] = _Name(lambda values: frozenset(_list(values)))
for _core in ("numpy.core", "numpy._core"):
    NAMES[f"{_core}.multiarray", "_reconstruct"] = _Name(lambda *_: _Array())
    NAMES[f"{_core}.multiarray", "scalar"] = _Name(_scalar)
    NAMES[f"{_core}.numeric", "_frombuffer"] = _Name(lambda data, dtype, shape, order: _array(data, dtype, shape, order == "F"))


def loads(content: bytes) -> Any:
    """The value that a pickle holds.

    Raises:
        UnsafePickle: damaged, too large, or anything but numbers, text, builtin containers and numpy arrays of those.
    """
    try:
        with warnings.catch_warnings():
            # the disassembler's, of odd escapes in names
            warnings.simplefilter("ignore", DeprecationWarning)
            return _Machine().run(content)
    except UnsafePickle:
        raise
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        OverflowError,
        MemoryError,
        RecursionError,
        EOFError,
        struct.error,
    ) as error:
        raise UnsafePickle(f"damaged: {type(error).__name__}: {str(error)[:100]}") from error


def _opcodes(content: bytes) -> Iterator[tuple[str, Any]]:
    """Names and arguments of a pickle's opcodes, up to the one that ends it."""
    stream = io.BytesIO(content)
    while code := stream.read(1):
        if not (opcode := OPCODES.get(code.decode("latin-1"))):
            raise UnsafePickle(f"byte {stream.tell() - 1} is no opcode")
        if opcode.name == "STRING":
            # arrays as Python 2 wrote them: the disassembler reads ASCII only
            text: Any = pickletools.read_stringnl(stream, decode=False)
            yield opcode.name, codecs.escape_decode(text)[0].decode("latin-1")
        else:
            yield opcode.name, None if opcode.arg is None else opcode.arg.reader(stream)
        if opcode.name == "STOP":
            return


class _Machine:
    """Stack, marks and memo of one pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        # where in the memo a value is that waits for its state
        self.waiting: dict[int, list[int]] = {}
        self.room = MAX_BYTES

    def run(self, content: bytes) -> Any:
        for number, (name, argument) in enumerate(_opcodes(content)):
            if number >= MAX_OPCODES:
                raise UnsafePickle(f"more than {MAX_OPCODES:,} values")
            if name in PUSH:
                if name in UNICODE:
                    # half a surrogate pair, which nobody can write, raises
                    argument.encode()
                self.stack.append(argument)
            elif name in CONSTANTS:
                self.stack.append(CONSTANTS[name])
            elif name in TUPLES:
                self.stack.append(tuple(self.take(TUPLES[name])))
            elif name in EMPTY:
                self.room -= CONTAINER_BYTES
                self.stack.append(EMPTY[name]())
                self.spend(None)
            elif name == "STOP":
                (value,) = self.stack
                if isinstance(value, _Array | _Name):
                    raise UnsafePickle("no data")
                return value
            elif name not in IGNORED:
                step = getattr(self, f"op_{name.lower()}", None)
                if step is None:
                    raise UnsafePickle(f"{name} is not allowed: only data is read")
                step(argument)
        raise UnsafePickle("it does not end")

    def take(self, count: int) -> list[Any]:
        """The topmost values, none of them below the last mark."""
        begin = len(self.stack) - count
        if begin < (self.marks[-1] if self.marks else 0):
            raise UnsafePickle("it takes more values than it gives")
        found = self.stack[begin:]
        del self.stack[begin:]
        return found

    def to_mark(self) -> list[Any]:
        """The values above the last mark, which goes."""
        found = self.take(len(self.stack) - self.marks[-1])
        self.marks.pop()
        return found

    def top(self, kind: type) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0) or type(self.stack[-1]) is not kind:
            raise UnsafePickle(f"it fills what is no {kind.__name__}")
        return self.stack[-1]

    def op_mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def op_pop(self, _: Any) -> None:
        self.take(1)

    def op_pop_mark(self, _: Any) -> None:
        self.to_mark()

    def op_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.to_mark()))

    def op_list(self, _: Any) -> None:
        self.stack.append(self.to_mark())

    def op_append(self, _: Any) -> None:
        (value,) = self.take(1)
        self.top(list).append(value)

    def op_appends(self, _: Any) -> None:
        values = self.to_mark()
        self.top(list).extend(values)

    def op_additems(self, _: Any) -> None:
        values = self.to_mark()
        self.top(set).update(keys(values))

    def op_frozenset(self, _: Any) -> None:
        self.stack.append(frozenset(keys(self.to_mark())))

    def op_dict(self, _: Any) -> None:
        self.stack.append(self.pairs(self.to_mark()))

    def op_setitem(self, _: Any) -> None:
        values = self.take(2)
        self.top(dict).update(self.pairs(values))

    def op_setitems(self, _: Any) -> None:
        values = self.to_mark()
        self.top(dict).update(self.pairs(values))

    @staticmethod
    def pairs(values: list[Any]) -> dict[Any, Any]:
        return dict(zip(keys(values[::2]), values[1::2], strict=True))

    def put(self, key: int) -> None:
        if not self.stack:
            raise UnsafePickle("it remembers what is not there")
        self.memo[key] = self.stack[-1]
        if isinstance(self.stack[-1], _Array):
            self.waiting.setdefault(id(self.stack[-1]), []).append(key)

    def op_memoize(self, _: Any) -> None:
        self.put(len(self.memo))

    def op_get(self, key: Any) -> None:
        self.stack.append(self.memo[int(key)])

    def op_put(self, key: Any) -> None:
        self.put(int(key))

    op_binput = op_long_binput = op_put
    op_binget = op_long_binget = op_get

    def op_global(self, argument: Any) -> None:
        self.name(*str(argument).split(" ", 1))

    def op_stack_global(self, _: Any) -> None:
        self.name(*self.take(2))

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise UnsafePickle("refers to a name that is no text")
        if (module, name) not in NAMES:
            raise UnsafePickle(f"refers to '{module[:60]}.{name[:60]}', which is not allowed: only data is read")
        self.stack.append(NAMES[module, name])

    def op_reduce(self, _: Any) -> None:
        called, arguments = self.take(2)
        if not isinstance(called, _Name) or not isinstance(arguments, tuple):
            raise UnsafePickle("it calls what is no function")
        made = called.make(*arguments)
        self.spend(made)
        self.stack.append(made)

    def op_build(self, _: Any) -> None:
        owner, state = self.take(2)
        if isinstance(owner, _DType):
            self.stack.append(owner.ordered(state))
            return
        if not isinstance(owner, _Array) or not isinstance(state, tuple) or len(state) != 5:
            raise UnsafePickle("it sets the state of what has none")
        _, shape, dtype, fortran, data = state
        array = _array(data, dtype, shape, fortran)
        self.spend(array)
        self.stack.append(array)
        for key in self.waiting.pop(id(owner), []):
            if self.memo.get(key) is owner:
                self.memo[key] = array

    def spend(self, value: Any) -> None:
        """Count copies against the allowance: a short pickle can ask for the same array many times."""
        if isinstance(value, np.ndarray | np.generic):
            self.room -= value.nbytes
        elif isinstance(value, bytes):
            self.room -= len(value)
        elif isinstance(value, set | frozenset):
            self.room -= CONTAINER_BYTES * (1 + len(value))
        if self.room < 0:
            raise UnsafePickle(f"more than {MAX_BYTES >> 20:,} MiB of arrays and containers")
