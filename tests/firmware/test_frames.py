"""Frames: round trips, damage is refused, and the next frame is found after anything."""

from __future__ import annotations

import struct
from itertools import pairwise
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.firmware.frames import (
    FRAME_MAX_BYTES,
    PAYLOAD_MAX_BYTES,
    STUFFED_MAX_BYTES,
    Frame,
    Kind,
    Receiver,
    decode,
    encode,
    stuff,
    unstuff,
)

# Zeros and runs without zeros, so that groups of every length occur.
DATA = st.lists(st.one_of(st.binary(max_size=40), st.integers(0, 600).map(lambda n: b"\x07" * n), st.integers(0, 9).map(bytes))).map(
    b"".join
)
FRAMES = st.builds(
    Frame,
    st.integers(0, 255),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFFFFFF),
    DATA.map(lambda data: data[:PAYLOAD_MAX_BYTES]),
    st.integers(0, 255),
)


@pytest.mark.parametrize(
    ("data", "stuffed"),
    [  # the examples of the paper's successors: https://en.wikipedia.org/wiki/Consistent_Overhead_Byte_Stuffing
        ("00", "01 01"),
        ("00 00", "01 01 01"),
        ("00 11 00", "01 02 11 01"),
        ("11 22 00 33", "03 11 22 02 33"),
        ("11 22 33 44", "05 11 22 33 44"),
        ("11 00 00 00", "02 11 01 01 01"),
    ],
)
def test_known_stuffings(data: str, stuffed: str) -> None:
    assert stuff(bytes.fromhex(data)) == bytes.fromhex(stuffed)
    assert unstuff(bytes.fromhex(stuffed)) == bytes.fromhex(data)


def test_a_long_run_is_announced_in_pieces() -> None:
    assert stuff(b"\1" * 255) == b"\xff" + b"\1" * 254 + b"\x02\x01"
    assert unstuff(b"\xff" + b"\1" * 254) == b"\1" * 254  # other encoders leave the last, empty group away


@given(DATA)
def test_stuffing_leaves_no_zero_and_comes_back(data: bytes) -> None:
    stuffed = stuff(data)
    assert 0 not in stuffed
    assert len(stuffed) <= len(data) + len(data) // 254 + 1
    assert unstuff(stuffed) == data


@given(st.binary(max_size=700))
def test_anything_is_unstuffed_or_refused(data: bytes) -> None:
    found = unstuff(data)
    assert found is None or len(found) <= len(data)


def test_the_bytes_of_a_frame() -> None:
    body = struct.pack("<BBHIH", 0x02, 1, 0x1234, 0xDEADBEEF, 3) + b"\0ab"
    assert unstuff(encode(Frame(Kind.WRITE, 0x1234, 0xDEADBEEF, b"\0ab"))[1:-1]) == body + struct.pack("<I", crc32(body))


@given(FRAMES)
def test_a_frame_comes_back(frame: Frame) -> None:
    line = encode(frame)
    assert (line[0], line[-1], line[1:-1].count(0)) == (0, 0, 0)
    assert len(line) <= STUFFED_MAX_BYTES + 2
    assert decode(line[1:-1]) == frame


@given(FRAMES, st.data())
def test_damage_is_refused(frame: Frame, draw: st.DataObject) -> None:
    """Flipped bits, and bytes cut out, put in or put twice: no other frame than the one that was sent is ever found."""
    line = bytearray(encode(frame))
    for _ in range(draw.draw(st.integers(1, 4))):
        place = draw.draw(st.integers(0, len(line) - 1))
        match draw.draw(st.sampled_from(["flip", "cut", "put", "twice"])):
            case "flip":
                line[place] ^= 1 << draw.draw(st.integers(0, 7))
            case "cut" if len(line) > 1:
                del line[place]
            case "put":
                line.insert(place, draw.draw(st.integers(0, 255)))
            case _:
                line[place:place] = line[place : place + draw.draw(st.integers(1, 30))]
    receiver = Receiver()
    assert set(receiver.feed(bytes(line) + b"\0")) <= {frame}


def test_every_single_flipped_bit_is_refused() -> None:
    line = encode(Frame(Kind.RUN | 0x80, 77, 0xCAFE0000, bytes(range(0, 250, 5)) + bytes(4)))
    for bit in range(8, 8 * (len(line) - 1)):
        damaged = bytearray(line)
        damaged[bit // 8] ^= 1 << bit % 8
        receiver = Receiver()
        assert receiver.feed(bytes(damaged)) == []
        assert receiver.bad_frames >= 1


@given(st.binary(max_size=3000), st.lists(FRAMES, min_size=1, max_size=4), st.data())
def test_frames_are_found_after_anything_however_they_are_cut(garbage: bytes, frames: list[Frame], draw: st.DataObject) -> None:
    line = garbage + b"".join(map(encode, frames))
    marks = sorted({0, len(line), *draw.draw(st.lists(st.integers(0, len(line)), max_size=8))})
    receiver = Receiver()
    found = [frame for start, end in pairwise(marks) for frame in receiver.feed(line[start:end])]
    assert found[-len(frames) :] == frames
    assert receiver.received_bytes == len(line)


def test_text_between_frames_is_counted_and_dropped() -> None:
    frame = Frame(Kind.HELLO, 1, 5, b"abcd")
    receiver = Receiver()
    assert receiver.feed(b"booting...\r\n" + encode(frame) + b"\0\0\0" + encode(frame)[:9]) == [frame]
    assert receiver.bad_frames == 1
    assert receiver.feed(encode(frame)) == [frame]
    assert receiver.bad_frames == 2


@pytest.mark.parametrize("size", [0, 13, FRAME_MAX_BYTES + 1, 100_000])
def test_too_short_and_too_long_is_no_frame(size: int) -> None:
    receiver = Receiver()
    assert receiver.feed(stuff(b"\1" * size) + b"\0") == []
    assert receiver.bad_frames == 1
    assert len(receiver._part) <= STUFFED_MAX_BYTES + 1  # and an endless one takes no memory


def test_a_frame_whose_length_disagrees_is_refused() -> None:
    body = struct.pack("<BBHIH", 1, 1, 1, 1, 5) + b"abcd"
    assert decode(stuff(body + struct.pack("<I", crc32(body)))) is None
