"""firmware_bench/link/link.c against PROTOCOL.md: its example word for word, and every rule by a codec of the tests' own.

The C is called in a shared library with a made-up board: two outputs, three operators, ticks that never change.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_link import (
    BAD_PAYLOAD,
    BAD_RANGE,
    CHECK,
    HELLO,
    NOT_GREETED,
    NOT_RUN,
    OPERATORS,
    OUTPUT,
    RESET,
    RUN,
    SESSION,
    UNKNOWN_KIND,
    UNSUPPORTED,
    USAGE,
    VERSION,
    WRITE,
    on_line,
    sound,
    stuffed,
    unstuffed,
)

BENCH = Path(__file__).resolve().parents[2] / "firmware_bench"
STRICT = ["-O2", "-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Wshadow", "-pedantic", "-Werror"]
BIG = 1500  # bytes of buffers that take several frames

# A board whose inference copies the input if both buffers are of one size, and else gives 5 and -6.
GLUE = """
#include <string.h>
#include "hwnas_link.h"
static int8_t input[IN_BYTES], output[OUT_BYTES];
static uint64_t ticks[3];
static hwnas_link state;
static uint8_t said[1 << 16];
static uint32_t count, inferences, restarts;
static void say(const uint8_t *bytes, uint32_t n) { memcpy(said + count, bytes, n); count += n; }
static void infer(void) { inferences++; if (IN_BYTES == OUT_BYTES) memcpy(output, input, OUT_BYTES); else output[0] = 5, output[1] = -6; }
static uint64_t run(void) { infer(); return 50000u + 3u * (inferences - 2u); }
static void time_operators(void) { infer(); ticks[0] = 30000; ticks[1] = 19000; ticks[2] = 950; }
static uint32_t stack(void) { return 436; }
static uint32_t arena(void) { return 32; }
static void again(void) { restarts++; }
static hwnas_link_board board = {{"board", "zig", "k", "g", "w", ""}, 168000000, 168000000, 1, 3, IN_BYTES, OUT_BYTES, 32,
                                 input, output, ticks, say, infer, run, time_operators, stack, arena, again};
void start(int restartable, const char *name)
{
    memset(input, 0, IN_BYTES), memset(output, 0, OUT_BYTES);
    board.restart = restartable ? again : 0, board.texts[0] = name, inferences = restarts = 0;
    hwnas_link_start(&state, &board);
}
uint32_t feed(const uint8_t *bytes, uint32_t n) { count = 0; while (n--) hwnas_link_receive(&state, *bytes++); return count; }
const uint8_t *answer(void) { return said; }
uint32_t inferred(void) { return inferences; }
uint32_t restarted(void) { return restarts; }
"""


class Board:
    """link.c in a shared library."""

    def __init__(self, library: Path) -> None:
        self._c = ctypes.CDLL(str(library))
        self._c.answer.restype = ctypes.POINTER(ctypes.c_uint8)
        self.sequence = 0
        self.start()

    def start(self, *, restartable: bool = True, name: bytes = b"board") -> Board:
        self._name = ctypes.create_string_buffer(name)
        self._c.start(int(restartable), self._name)
        self.sequence = 0
        return self

    def feed(self, line: bytes) -> bytes:
        """What the board says while it reads the line."""
        return ctypes.string_at(self._c.answer(), self._c.feed(line, len(line)))

    def answers(self, line: bytes) -> list[tuple[int, int, int, bytes]]:
        """(kind, sequence, session, payload) of every answer, each checked."""
        found = []
        for part in filter(None, self.feed(line).split(b"\0")):
            frame = unstuffed(part)
            kind, version, sequence, session, length = struct.unpack_from("<BBHIH", frame)
            assert version == 1 and len(frame) == 14 + length and length <= 512
            assert struct.unpack("<I", frame[-4:])[0] == zlib.crc32(frame[:-4])
            found.append((kind, sequence, session, frame[10:-4]))
        return found

    def ask(self, kind: int, payload: bytes = b"", **other: int) -> tuple[int, bytes]:
        """(error, payload) of the answer to the next request; error 0 where there is none."""
        self.sequence = other.pop("sequence", self.sequence + 1)
        session = other.get("session", SESSION)
        ((answered, sequence, said, data),) = self.answers(on_line(sound(kind, self.sequence, payload, **other)))
        assert (sequence, said) == (self.sequence % 65536, session)
        if answered == 0xFF:
            data[2:].decode()
            return struct.unpack_from("<H", data)[0], data[2:]
        assert answered == kind | 0x80
        return 0, data

    def greet(self) -> bytes:
        error, payload = self.ask(HELLO, struct.pack("<I", SESSION))
        assert error == 0
        return payload

    def usage(self) -> tuple[int, ...]:
        error, payload = self.ask(USAGE)
        assert error == 0
        return struct.unpack("<5I", payload)

    @property
    def inferences(self) -> int:
        return int(self._c.inferred())

    @property
    def restarts(self) -> int:
        return int(self._c.restarted())


@pytest.fixture(scope="module", params=[(16, 2), (BIG, BIG)], ids=["small", "big"])
def board(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Board:
    return made(*request.param, tmp_path_factory.mktemp("link"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Board:
    return made(16, 2, tmp_path_factory.mktemp("link"))


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Board:
    return made(BIG, BIG, tmp_path_factory.mktemp("link"))


def made(input_bytes: int, output_bytes: int, place: Path) -> Board:
    (place / "glue.c").write_text(GLUE)
    compiler = ["cc"] if shutil.which("cc") else [sys.executable, "-m", "ziglang", "cc"]
    sizes = [f"-DIN_BYTES={input_bytes}", f"-DOUT_BYTES={output_bytes}"]
    flags = ["-std=c99", "-O1", "-shared", "-fPIC", "-I", str(BENCH / "link"), *sizes]
    sources = [str(place / "glue.c"), str(BENCH / "link" / "link.c")]
    subprocess.run([*compiler, *flags, *sources, "-o", str(place / "link.so")], check=True)
    return Board(place / "link.so")


def test_the_example_of_the_protocol_is_what_the_board_says(small: Board) -> None:
    text = (BENCH / "PROTOCOL.md").read_text()
    found = re.findall(r"^(Host|Board): .*\n\n```\nframe ([0-9a-f ]+)\nline  ([0-9a-f ]+)\n```$", text, re.MULTILINE)
    assert len(found) == text.count("```") // 2 == 18
    small.start()
    for (asks, frame, line), (replies, said, answer) in zip(found[::2], found[1::2], strict=True):
        assert (asks, replies) == ("Host", "Board")
        for plain, coded in ((frame, line), (said, answer)):
            data = bytes.fromhex(plain)
            assert on_line(data) == bytes.fromhex(coded)
            assert struct.unpack("<I", data[-4:])[0] == zlib.crc32(data[:-4])
        assert small.feed(bytes.fromhex(line)).hex(" ") == answer
    assert small.restarts == 1


def test_a_board_knows_nobody_until_it_is_greeted(board: Board) -> None:
    board.start()
    for kind in (WRITE, CHECK, RUN, OUTPUT, OPERATORS, USAGE, RESET, 0x7F):
        assert board.ask(kind)[0] == NOT_GREETED
        assert board.ask(kind, session=0)[0] == NOT_GREETED
    board.greet()
    assert board.ask(CHECK)[0] == 0
    assert board.ask(CHECK, session=SESSION ^ 1)[0] == NOT_GREETED
    assert board.ask(CHECK)[0] == 0
    assert board.inferences == board.restarts == 0


@pytest.mark.parametrize(
    ("payload", "session"), [(b"", SESSION), (bytes(4), SESSION), (struct.pack("<I", SESSION + 1), SESSION), (bytes(4), 0), (bytes(5), 0)]
)
def test_a_greeting_needs_its_session_twice_and_not_zero(small: Board, payload: bytes, session: int) -> None:
    small.start()
    assert small.ask(HELLO, payload, session=session)[0] == BAD_PAYLOAD
    assert small.ask(CHECK)[0] == NOT_GREETED


def test_the_identity_says_what_the_board_is(small: Board) -> None:
    payload = small.start().greet()
    assert struct.unpack_from("<HHIBIIIIH", payload) == (1, 512, 168_000_000, 1, 168_000_000, 16, 2, 32, 3)
    assert payload[27:] == b"\x05board\x03zig\x01k\x01g\x01w\x00"


@pytest.mark.parametrize("name", [b"x" * 500, b"", "\u00b5".encode() * 60, "\u20ac".encode() * 40, "a\U0001f600".encode() * 30])
def test_long_texts_are_cut_between_characters(small: Board, name: bytes) -> None:
    payload = small.start(name=name).greet()
    size = payload[27]
    text = payload[28 : 28 + size].decode()
    assert name.decode().startswith(text) and payload[28 + size :].startswith(b"\x03zig")
    assert len(name) <= 79 or 79 - 3 <= size <= 79


def test_a_greeting_forgets_results_and_begins_the_count_anew(small: Board) -> None:
    small.start().greet()
    assert small.ask(RUN, struct.pack("<HHB", 0, 1, 1))[0] == 0
    assert small.ask(OUTPUT, struct.pack("<IH", 0, 2)) == (0, b"\x05\xfa")
    assert small.ask(HELLO, struct.pack("<I", SESSION + 1), sequence=0, session=SESSION + 1)[0] == 0
    assert small.ask(OUTPUT, struct.pack("<IH", 0, 2), session=SESSION + 1)[0] == NOT_RUN
    assert small.ask(RUN, struct.pack("<HHB", 0, 1, 1), session=SESSION + 1)[0] == 0
    assert small.ask(HELLO, struct.pack("<I", SESSION), sequence=7)[0] == 0
    assert small.ask(OUTPUT, struct.pack("<IH", 0, 2))[0] == NOT_RUN
    assert small.ask(RUN, struct.pack("<HHB", 0, 1, 0))[0] == 0
    assert small.ask(HELLO, struct.pack("<I", SESSION))[0] == 0  # with a newer number
    assert small.ask(OPERATORS, struct.pack("<HH", 0, 3))[0] == NOT_RUN


@pytest.mark.parametrize("late", [0, 1, 2])
def test_a_greeting_that_comes_twice_or_late_is_answered_and_changes_nothing(small: Board, late: int) -> None:
    """Else a delayed one would take a result back, and let delayed requests through."""
    small.start().greet()
    assert small.ask(RUN, struct.pack("<HHB", 0, 1, 1))[0] == 0
    last = small.sequence
    assert len(small.ask(HELLO, struct.pack("<I", SESSION), sequence=last - late)[1]) > 27
    assert small.feed(on_line(sound(CHECK, last))) == b""  # still not newer
    small.sequence = last
    assert small.ask(OUTPUT, struct.pack("<IH", 0, 2)) == (0, b"\x05\xfa")
    assert small.ask(OPERATORS, struct.pack("<HH", 0, 3))[0] == 0


@given(st.binary(min_size=BIG, max_size=BIG), st.integers(1, 508), st.sampled_from([0, 1, 5, 250, 255]))
def test_any_bytes_come_through_in_both_directions(big: Board, data: bytes, piece: int, zeros: int) -> None:
    """`zeros` of 0 leaves none in the data: the longest runs that COBS knows."""
    raw = np.frombuffer(data, np.uint8)
    data = (np.where(raw == 0, 1, raw) if zeros == 0 else np.where(raw % 256 < zeros, 0, raw)).astype(np.uint8).tobytes()
    big.start().greet()
    for offset in range(0, BIG, piece):
        assert big.ask(WRITE, struct.pack("<I", offset) + data[offset : offset + piece]) == (0, b"")
    assert big.ask(CHECK) == (0, struct.pack("<I", zlib.crc32(data)))
    error, answer = big.ask(RUN, struct.pack("<HHB", 0, 1, 0))
    assert error == 0 and struct.unpack_from("<IIH", answer) == (zlib.crc32(data), zlib.crc32(data), 1)
    pieces = [big.ask(OUTPUT, struct.pack("<IH", at, min(512, BIG - at))) for at in range(0, BIG, 512)]
    assert b"".join(payload for _, payload in pieces) == data


def test_either_end_of_a_frame_of_whole_groups_is_understood(big: Board) -> None:
    """After 254 bytes without a zero a last, empty piece may be sent or not."""
    frames = (sound(WRITE, 2, bytes(4) + bytes([filler]) * 250) for filler in range(1, 256))
    line = next(stuffed(frame) for frame in frames if 0 not in frame[-4:])
    assert line[-256] == 255 and line[-1] == 1
    for ending in (line, line[:-1]):
        big.start().greet()
        assert [kind for kind, *_ in big.answers(b"\0" + ending + b"\0")] == [WRITE | 0x80]


def test_every_flipped_bit_is_found_and_counted(small: Board) -> None:
    small.start().greet()
    frame = sound(WRITE, 2, bytes(4) + b"\x07\x08")
    for bit in range(8 * len(frame)):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        assert small.feed(on_line(bytes(damaged))) == b""
    assert small.usage()[2] == 8 * len(frame)
    assert small.ask(CHECK) == (0, struct.pack("<I", zlib.crc32(bytes(16))))


def test_damage_on_the_line_costs_one_frame(small: Board) -> None:
    """Cut, doubled, mixed with text: the frame after it is taken, because its own zero ends whatever came before."""
    whole = on_line(sound(CHECK, 9))
    noises = [b"boot v1.0\r\n", b"\xff", b"\xff" * 600, bytes(range(1, 256)), *(whole[:n] for n in range(2, len(whole) - 1))]
    small.start().greet()
    for count, noise in enumerate(noises, 1):
        small.sequence += 1
        answers = small.answers(noise + on_line(sound(CHECK, small.sequence)))
        assert [a[1] for a in answers] == [small.sequence]
        assert small.usage()[2] == count


@pytest.mark.parametrize(
    "frame",
    [
        b"\x01" * 13,
        b"",
        sound(CHECK, 5, length=1),
        sound(CHECK, 5, b"x", length=0),
        sound(WRITE, 5, bytes(513)),
        sound(WRITE, 5, bytes(4), length=65535),
        sound(CHECK | 0x80, 5),
        sound(0xFF, 5),
        sound(CHECK, 5)[:-1],
    ],
)
def test_what_is_no_request_is_counted_and_not_answered(small: Board, frame: bytes) -> None:
    small.start().greet()
    assert small.feed(on_line(frame)) == b""
    assert small.feed(b"\0\0\0") == b""
    assert small.usage()[2:4] == (1, 0)


def test_old_numbers_change_nothing(small: Board) -> None:
    small.start().greet()
    small.sequence = 100
    assert small.ask(WRITE, bytes(4) + b"\x01") == (0, b"")
    stale = [101, 100, 99, 0, 102 - 32768, 101 - 32768]
    for number in stale:
        assert small.feed(on_line(sound(WRITE, number, bytes(4) + b"\x02"))) == b""
        assert small.feed(on_line(sound(RESET, number))) == b""
    assert small.ask(CHECK) == (0, struct.pack("<I", zlib.crc32(b"\x01" + bytes(15))))
    assert small.usage()[2:4] == (0, 2 * len(stale)) and small.restarts == 0


def test_numbers_go_round(small: Board) -> None:
    small.start().greet()
    for number in (32768, 65535, 65536, 65537, 65536 + 32768):
        assert small.ask(CHECK, sequence=number)[0] == 0
    assert small.usage()[3] == 0


def test_a_refused_request_has_used_its_number(small: Board) -> None:
    small.start().greet()
    assert small.ask(0x42)[0] == UNKNOWN_KIND
    assert small.feed(on_line(sound(CHECK, small.sequence))) == b""
    assert small.ask(CHECK, version=2, sequence=50)[0] == VERSION
    assert small.ask(CHECK, session=1, sequence=50)[0] == NOT_GREETED
    assert small.ask(CHECK, sequence=49)[0] == 0


@pytest.mark.parametrize(
    ("kind", "payload", "error"),
    [
        (WRITE, b"", BAD_PAYLOAD),
        (WRITE, bytes(3), BAD_PAYLOAD),
        (WRITE, bytes(4), 0),
        (WRITE, struct.pack("<I", 16), 0),
        (WRITE, struct.pack("<I", 17), BAD_RANGE),
        (WRITE, struct.pack("<I", 15) + b"ab", BAD_RANGE),
        (WRITE, struct.pack("<I", 2**32 - 1) + b"a", BAD_RANGE),
        (WRITE, struct.pack("<I", 2**31) + b"a", BAD_RANGE),
        (WRITE, bytes(4) + bytes(17), BAD_RANGE),
        (CHECK, b"\0", BAD_PAYLOAD),
        (RUN, b"", BAD_PAYLOAD),
        (RUN, bytes(6), BAD_PAYLOAD),
        (RUN, struct.pack("<HHB", 0, 0, 0), BAD_RANGE),
        (RUN, struct.pack("<HHB", 0, 62, 0), 0),
        (RUN, struct.pack("<HHB", 0, 63, 0), BAD_RANGE),
        (RUN, struct.pack("<HHB", 0, 65535, 0), BAD_RANGE),
        (RUN, struct.pack("<HHB", 0, 1, 2), UNSUPPORTED),
        (OUTPUT, bytes(5), BAD_PAYLOAD),
        (OUTPUT, struct.pack("<IH", 2, 0), 0),
        (OUTPUT, struct.pack("<IH", 1, 2), BAD_RANGE),
        (OUTPUT, struct.pack("<IH", 2**32 - 1, 2), BAD_RANGE),
        (OUTPUT, struct.pack("<IH", 0, 65535), BAD_RANGE),
        (OPERATORS, bytes(3), BAD_PAYLOAD),
        (OPERATORS, struct.pack("<HH", 3, 0), 0),
        (OPERATORS, struct.pack("<HH", 2, 2), BAD_RANGE),
        (OPERATORS, struct.pack("<HH", 65535, 65535), BAD_RANGE),
        (OPERATORS, struct.pack("<HH", 0, 65), BAD_RANGE),
        (USAGE, b"\0", BAD_PAYLOAD),
        (RESET, b"\0", BAD_PAYLOAD),
        (0x00, b"", UNKNOWN_KIND),
        (0x09, b"", UNKNOWN_KIND),
        (0x7F, bytes(512), UNKNOWN_KIND),
    ],
)
def test_ranges_and_lengths(small: Board, kind: int, payload: bytes, error: int) -> None:
    small.start().greet()
    assert small.ask(RUN, struct.pack("<HHB", 0, 1, 1))[0] == 0
    before = small.inferences
    assert small.ask(kind, payload)[0] == error
    if error:
        assert small.inferences == before and small.restarts == 0
        assert small.ask(CHECK) == (0, struct.pack("<I", zlib.crc32(bytes(16))))


def test_an_output_is_of_at_most_one_payload(big: Board) -> None:
    big.start().greet()
    assert big.ask(RUN, struct.pack("<HHB", 0, 1, 0))[0] == 0
    assert big.ask(OUTPUT, struct.pack("<IH", 0, 512))[0] == 0
    assert big.ask(OUTPUT, struct.pack("<IH", 0, 513))[0] == BAD_RANGE


def test_results_are_read_after_a_run_only(small: Board) -> None:
    small.start().greet()
    assert small.ask(OUTPUT, struct.pack("<IH", 0, 1))[0] == NOT_RUN
    error, answer = small.ask(RUN, struct.pack("<HHB", 3, 2, 0))
    assert error == 0 and small.inferences == 5
    assert struct.unpack("<IIH2Q", answer)[2:] == (2, 50006, 50009)
    assert small.ask(OUTPUT, struct.pack("<IH", 1, 1)) == (0, b"\xfa")
    assert small.ask(OPERATORS, struct.pack("<HH", 0, 1))[0] == NOT_RUN
    assert small.ask(RUN, struct.pack("<HHB", 0, 1, 1))[0] == 0
    assert small.ask(OPERATORS, struct.pack("<HH", 1, 2)) == (0, struct.pack("<2Q", 19000, 950))
    assert small.ask(RUN, struct.pack("<HHB", 0, 1, 0))[0] == 0  # the ticks of operators stay
    assert small.ask(OPERATORS, struct.pack("<HH", 0, 1)) == (0, struct.pack("<Q", 30000))
    assert small.usage() == (436, 32, 0, 0, 3)


def test_a_board_that_cannot_restart_says_so(small: Board) -> None:
    small.start(restartable=False).greet()
    assert small.ask(RESET)[0] == UNSUPPORTED
    assert small.ask(CHECK)[0] == 0


@given(st.lists(st.binary(max_size=40), max_size=30))
def test_no_noise_is_ever_answered(small: Board, noises: list[bytes]) -> None:
    small.start().greet()
    for noise in noises:
        assert small.feed(noise) == b""
    small.feed(b"\0")
    assert small.ask(CHECK)[0] == 0


COMPILERS = {
    "gcc": (["gcc", "-std=c99"], ["-Wstrict-prototypes"]),
    "clang": (["clang", "-std=c99"], ["-Wsign-conversion"]),
    "gcc as C++": (["g++", "-x", "c++", "-std=c++11"], []),
    "clang as C++": (["clang++", "-x", "c++", "-std=c++11"], []),
    "gcc for Cortex-M4": (["arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-std=c99"], []),
}


@pytest.mark.parametrize("name", COMPILERS)
def test_it_compiles_without_a_warning(name: str, tmp_path: Path) -> None:
    command, more = COMPILERS[name]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    (tmp_path / "port.c").write_text(
        '#include "hwnas_port.h"\nhwnas_port hwnas_port_start(void) { hwnas_port p = {0, 0, 0, 0}; return p; }\n'
    )
    sources = [BENCH / "link" / "link.c", tmp_path / "port.c"]
    if name.endswith("M4"):
        sources += [BENCH / "ports" / port / "port.c" for port in ("stm32f405", "template")]
    for source in sources:
        subprocess.run([*command, *STRICT, *more, "-I", str(BENCH / "link"), "-c", str(source), "-o", str(tmp_path / "o")], check=True)


def test_it_needs_no_library(tmp_path: Path) -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed")
    out = tmp_path / "link.o"
    flags = ["-mcpu=cortex-m4", "-mthumb", "-std=c99", "-O2", "-ffreestanding", "-fno-builtin", "-fno-tree-loop-distribute-patterns"]
    subprocess.run(
        ["arm-none-eabi-gcc", *flags, "-I", str(BENCH / "link"), "-c", str(BENCH / "link" / "link.c"), "-o", str(out)], check=True
    )
    symbols = subprocess.run(["arm-none-eabi-nm", str(out)], capture_output=True, text=True, check=True).stdout
    kinds = {line.split()[-2] for line in symbols.splitlines()}
    assert "U" not in kinds, f"it calls what is not there:\n{symbols}"
    assert not kinds & set("DdBbC"), f"it has data of its own:\n{symbols}"
