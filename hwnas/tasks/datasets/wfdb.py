"""One channel of a WFDB record: a text header and the signal file it names. Reads files of one folder.

Format: PhysioNet, "WFDB header file format" and "WFDB signal file formats". Read are single-segment records in the formats 16, 80 and
212, one sample a frame. The header is not trusted: a signal file is looked for beside it and nowhere else, sizes must agree with the
file's, and samples with the checksum where one is given.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks.datasets import files
from hwnas.tasks.datasets.recordings import check_rate

MAX_HEADER_BYTES = 2**16
# longer ones are refused: the patterns below look at a number in as many ways as it has digits
MAX_LINE = 1000
MAX_SIGNALS = 64
MAX_NAME = 200
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
RECORD = re.compile(
    rf"(?P<name>[\w-]+)\s+(?P<signals>\d{{1,4}})\s+(?P<rate>{NUMBER})(?:/\S+)?(?:\s+(?P<samples>\d{{1,12}}))?(?:\s+.*)?", re.A
)
SIGNAL = re.compile(
    rf"(?P<file>\S+)\s+(?P<format>\d+)(?:x(?P<frame>\d+))?(?::(?P<skew>\d+))?(?:\+(?P<offset>\d{{1,9}}))?"
    rf"(?:\s+(?P<gain>{NUMBER})(?:\((?P<baseline>[-+]?\d{{1,12}})\))?(?:/(?P<units>\S+))?"
    r"(?:\s+(?P<resolution>\d+)(?:\s+(?P<zero>[-+]?\d{1,12})(?:\s+(?P<initial>[-+]?\d{1,12})(?:\s+(?P<checksum>[-+]?\d{1,12})"
    r"(?:\s+(?P<block>\d+)(?:\s+(?P<description>.*))?)?)?)?)?)?)?",
    re.A,
)
PLAIN_NAME = re.compile(r"[\w-]+(?:\.[\w-]+)*", re.A)
# value that marks a missing sample
MISSING = {"16": -(2**15), "80": -(2**7), "212": -(2**11)}
DEFAULT_GAIN = 200.0


@dataclass(frozen=True)
class Signal:
    """One line of a header; `checksum` is None where the header gives none."""

    file: str
    format: str
    offset: int
    gain: float
    baseline: int
    checksum: int | None
    description: str


@dataclass(frozen=True)
class Header:
    """A record: `samples` is None where the header leaves it to the file."""

    rate_hz: float
    samples: int | None
    signals: tuple[Signal, ...]


def read_header(path: Path) -> Header:
    """The header of a record.

    Raises:
        DataError: not a header, or a record that this reader does not read; names the line.
    """
    try:
        text = files.read(path, MAX_HEADER_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a WFDB header: it is no text") from error
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if any(len(line) > MAX_LINE for line in lines):
        raise DataError(f"{path}: not a WFDB header: a line is longer than {MAX_LINE:,} characters")
    first = RECORD.fullmatch(lines[0]) if lines else None
    if not first:
        said = f"its first line is '{lines[0][:60]}'" if lines else "it is empty"
        raise DataError(f"{path}: not the header of a single-segment WFDB record: {said}; expected 'NAME SIGNALS RATE SAMPLES'")
    count = int(first["signals"])
    if not 1 <= count <= MAX_SIGNALS or len(lines) != count + 1:
        raise DataError(f"{path}: declares {count} signals and describes {len(lines) - 1}; allowed are 1 to {MAX_SIGNALS}")
    rate_hz = check_rate(float(first["rate"]), str(path))
    samples = int(first["samples"] or 0) or None
    return Header(rate_hz, samples, tuple(_signal(path, number, line) for number, line in enumerate(lines[1:], start=1)))


def _signal(path: Path, number: int, line: str) -> Signal:
    where = f"{path}: signal {number}"
    found = SIGNAL.fullmatch(line)
    if not found:
        raise DataError(f"{where}: cannot be read: '{line[:60]}'; expected 'FILE FORMAT GAIN ... DESCRIPTION'")
    if not PLAIN_NAME.fullmatch(found["file"]) or found["file"] == "-" or len(found["file"]) > MAX_NAME:
        raise DataError(f"{where}: names the file '{found['file'][:60]}'; only plain names of files beside the header are followed")
    if found["format"] not in MISSING:
        raise DataError(f"{where}: is in format {found['format'][:20]}; read are {', '.join(MISSING)}. Convert it with xform")
    if (found["frame"] or "1") != "1" or int(found["skew"] or 0):
        raise DataError(f"{where}: has several samples a frame or a skew, which this reader does not read; convert it with xform")
    gain = float(found["gain"] or 0) or DEFAULT_GAIN
    if not math.isfinite(gain) or gain < 0:
        raise DataError(f"{where}: has the gain {gain:g}; allowed are positive numbers")
    baseline = int(found["baseline"] or found["zero"] or 0)
    checksum = int(found["checksum"]) if found["checksum"] else None
    return Signal(found["file"], found["format"], int(found["offset"] or 0), gain, baseline, checksum, (found["description"] or "").strip())


def channel_number(path: Path, header: Header, prefix: str) -> int:
    """Number of the one signal whose description begins with the word `prefix`; raises DataError naming those there are."""
    found = [i for i, s in enumerate(header.signals) if re.match(rf"{re.escape(prefix)}\b", s.description, re.I)]
    if len(found) != 1:
        have = "; ".join(s.description[:40] or "(no name)" for s in header.signals)
        raise DataError(f"{path}: {len(found)} signals are named '{prefix}...' (its signals: {have}); expected one")
    return found[0]


def read_channel(path: Path, header: Header, number: int) -> NDArray[np.float64]:
    """Samples of a signal in its physical unit, NaN where they are missing.

    Raises:
        DataError: the signal file is missing, too large, of another size than declared, or its samples of another checksum.
    """
    signal = header.signals[number]
    group = [s for s in header.signals if s.file == signal.file]
    place = path.parent / signal.file
    if len({(s.format, s.offset) for s in group}) != 1:
        raise DataError(f"{path}: signals of {signal.file} differ in format or offset; a file holds one of each")
    if not place.exists():
        raise DataError(f"{path}: names the signal file {signal.file}, which is not there; copy it beside the header")
    stream = _decode(files.read(place)[signal.offset :], signal.format)
    samples = len(stream) // len(group) if header.samples is None else header.samples
    # format 212 pads to a whole byte triple
    spare = len(stream) - samples * len(group)
    if samples == 0 or spare < 0 or spare > (signal.format == "212"):
        raise DataError(f"{place}: holds {len(stream):,} samples, the header declares {samples:,} of {len(group)} signals; copy it again")
    digital = stream[: samples * len(group)].reshape(samples, len(group))[:, group.index(signal)].astype(np.int64)
    if signal.checksum is not None and (int(digital.sum()) - signal.checksum) % 2**16:
        raise DataError(f"{place}: signal {number + 1} has another checksum than its header says: damaged; copy it again")
    with np.errstate(over="ignore"):
        physical = (digital - signal.baseline) / signal.gain
    physical[digital == MISSING[signal.format]] = np.nan
    return physical


def _decode(content: bytes, kind: str) -> NDArray[np.int16]:
    """All samples of a signal file, in the order they are stored in."""
    if kind == "16":
        return np.frombuffer(content[: len(content) // 2 * 2], "<i2")
    octets = np.frombuffer(content, np.uint8)
    if kind == "80":
        return octets.astype(np.int16) - 128
    triples = octets[: len(octets) // 3 * 3].reshape(-1, 3).astype(np.int16)
    pairs = np.stack([triples[:, 0] | (triples[:, 1] & 0x0F) << 8, triples[:, 2] | (triples[:, 1] & 0xF0) << 4], axis=1).ravel()
    return np.where(pairs >= 2**11, pairs - 2**12, pairs).astype(np.int16)
