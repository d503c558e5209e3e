"""Hostile bytes for the board's end of the link: link.c under libFuzzer with AddressSanitizer and UndefinedBehaviorSanitizer. Needs clang.

An input is a script: raw bytes for the line, or a request whose head and checksum are made right, so that what lies behind the checksum is
reached. After every step the harness holds what the board said against the protocol: sound frames, one answer a request at most,
never to a damaged one, buffers touched by WRITE alone. Writes `benchmarks/results/fuzz_link.json`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LINK = Path(__file__).resolve().parent.parent / "firmware_bench" / "link"
FLAGS = ("-std=c99", "-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all", "-Wall", "-Wextra", "-Werror")
OPTIONS = ("-max_len=2048", "-timeout=10", "-print_final_stats=1", "-verbosity=1")
REQUEST, RAW = 0x80, 0x00  # steps of a script
FINDINGS_MAX = 10  # the same one is found again and again

HARNESS = r"""
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hwnas_link.h"

#define EXPECT(truth) do { if (!(truth)) __builtin_trap(); } while (0)
enum { INPUT = 300, OUTPUT = 530, LAYERS = 70, SAID = 4096 };

static uint8_t said[SAID]; /* by the board since the last step */
static uint32_t said_bytes, inferences, restarts;
static int8_t *input, *output, *shadow; /* blocks of their exact sizes, so that a byte beyond is seen */
static uint64_t *ticks;

static void say(const uint8_t *bytes, uint32_t count)
{
    EXPECT(said_bytes + count <= SAID);
    if (count)
        memcpy(said + said_bytes, bytes, count);
    said_bytes += count;
}
static void infer(void)
{
    inferences++;
    memset(output, input[0] + 1, OUTPUT);
}
static uint64_t timed(void)
{
    infer();
    return inferences;
}
static void warm(void) /* as often as a request likes, so next to nothing */
{
    inferences++;
}
static uint32_t nothing(void)
{
    return 0;
}
static void again(void)
{
    restarts++;
}

static uint32_t number(const uint8_t *p, int bytes)
{
    uint32_t value = 0;
    while (bytes--)
        value = value << 8 | p[bytes];
    return value;
}

/* Bit by bit, as the polynomial says: not the table of link.c. */
static uint32_t crc(const uint8_t *p, uint32_t count)
{
    uint32_t value = 0xFFFFFFFFu;
    for (uint32_t i = 0; i < count; i++) {
        value ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? 0xEDB88320u : 0);
    }
    return ~value;
}

/* The one frame that was said, or nothing: its size without the checksum. */
static uint32_t heard(uint8_t *frame)
{
    if (!said_bytes)
        return 0;
    EXPECT(said_bytes >= 3 && said[0] == 0 && said[said_bytes - 1] == 0);
    uint32_t size = 0;
    for (uint32_t at = 1; at < said_bytes - 1;) {
        const uint8_t code = said[at++];
        EXPECT(code && at + code - 1u <= said_bytes - 1);
        for (int i = 1; i < code; i++) {
            EXPECT(said[at]);
            frame[size++] = said[at++];
        }
        if (code < 255 && at < said_bytes - 1)
            frame[size++] = 0;
    }
    EXPECT(size >= 14 && size <= HWNAS_LINK_FRAME_MAX && number(frame + 8, 2) == size - 14);
    EXPECT(frame[0] & 0x80 && frame[1] == 1 && number(frame + size - 4, 4) == crc(frame, size - 4));
    return size - 4;
}

static void feed(hwnas_link *link, const uint8_t *frame, uint32_t size)
{
    hwnas_link_receive(link, 0);
    for (uint32_t at = 0;;) {
        uint32_t count = 0;
        while (count < 254 && at + count < size && frame[at + count])
            count++;
        hwnas_link_receive(link, (uint8_t)(count + 1));
        for (uint32_t i = 0; i < count; i++)
            hwnas_link_receive(link, frame[at + i]);
        at += count;
        if (at == size)
            break;
        at += count < 254;
    }
    hwnas_link_receive(link, 0);
}

/* A request with a sound head; two bits of `how` make its session or its number wrong. */
static void request(hwnas_link *link, uint8_t how, uint8_t kind, const uint8_t *payload, uint32_t count)
{
    uint8_t frame[HWNAS_LINK_FRAME_MAX] = {kind, 1}, answer[SAID];
    const int is_hello = kind == 1, has_other_session = how & 1, is_stale = how & 2;
    const uint32_t session = is_hello ? number(payload, count < 4 ? (int)count : 4) : link->session ^ (uint32_t)has_other_session;
    const uint16_t sequence = (uint16_t)(link->sequence + (is_stale ? 0 : 1));
    for (int i = 0; i < 4; i++)
        frame[4 + i] = (uint8_t)(session >> 8 * i);
    frame[2] = (uint8_t)sequence, frame[3] = (uint8_t)(sequence >> 8);
    frame[8] = (uint8_t)count, frame[9] = (uint8_t)(count >> 8);
    memcpy(frame + 10, payload, count);
    const uint32_t sum = crc(frame, 10 + count);
    for (int i = 0; i < 4; i++)
        frame[10 + count + (uint32_t)i] = (uint8_t)(sum >> 8 * i);
    const int is_greeted = link->session && session == link->session;
    feed(link, frame, 14 + count);
    const uint32_t size = heard(answer);
    if (kind & 0x80 || (!is_hello && is_greeted && is_stale)) {
        EXPECT(!size);
        return;
    }
    EXPECT(size && !memcmp(answer + 2, frame + 2, 6));
    const int failed = answer[0] == 0xFF ? (int)number(answer + 10, 2) : 0;
    EXPECT(failed || answer[0] == (kind | 0x80));
    EXPECT(failed <= 7 && (is_hello || is_greeted || failed == 2));
    if (kind == 2 && !failed) {
        const uint32_t offset = number(payload, 4);
        EXPECT(count >= 4 && (uint64_t)offset + count - 4 <= INPUT);
        memcpy(shadow + offset, payload + 4, count - 4);
    }
    if (kind == 5 && !failed)
        EXPECT(number(payload, 4) + size - 10u <= OUTPUT && !memcmp(answer + 10, output + number(payload, 4), size - 10));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hwnas_link *link = malloc(sizeof *link);
    input = calloc(INPUT, 1), output = calloc(OUTPUT, 1), shadow = calloc(INPUT, 1), ticks = calloc(LAYERS, sizeof *ticks);
    const hwnas_link_board board = {{"board", "compiler", "kernels", "graph", "weights", "note"}, 1, 1, 1, LAYERS, INPUT, OUTPUT, 64,
                                    input, output, ticks, say, warm, timed, infer, nothing, nothing, size & 1 ? again : 0};
    memset(link, 0xEE, sizeof *link);
    hwnas_link_start(link, &board);
    inferences = 0;
    while (size >= 3) {
        const uint8_t how = data[0], kind = data[1];
        uint32_t count = data[2] * (how & 0x40 ? 3u : 1u);
        data += 3, size -= 3;
        count = count < size ? count : (uint32_t)size;
        count = count < HWNAS_LINK_PAYLOAD_MAX ? count : HWNAS_LINK_PAYLOAD_MAX;
        said_bytes = 0;
        if (!(how & 0x80)) {
            for (uint32_t i = 0; i < count; i++) {
                said_bytes = 0;
                const uint32_t session = link->session;
                hwnas_link_receive(link, data[i]);
                uint8_t answer[SAID];
                heard(answer);
                if (said_bytes || session != link->session)
                    memcpy(shadow, input, INPUT); /* raw bytes that were a frame all the same */
            }
        } else if (inferences < 200 || kind != 4)
            request(link, how, kind, data, count);
        EXPECT(!memcmp(shadow, input, INPUT));
        data += count, size -= count;
    }
    free(link), free(input), free(output), free(shadow), free(ticks);
    return 0;
}
"""


def seeds() -> list[bytes]:
    """Scripts of whole conversations: greeted, written, run, read; and the same on the line as text."""

    def step(kind: int, payload: bytes, how: int = REQUEST) -> bytes:
        return bytes([how, kind, len(payload)]) + payload

    hello = step(1, (0x1BADB002).to_bytes(4, "little"))
    write, run = step(2, bytes(4) + bytes(range(200))), step(4, bytes([1, 0, 2, 0, 1]))
    read = step(5, bytes(4) + bytes([100, 0])) + step(6, bytes([0, 0, 64, 0])) + step(3, b"") + step(7, b"") + step(8, b"")
    noise = step(0, b"\0boot 1.0\r\n\0\xff" + bytes(range(1, 200)) + b"\0", RAW)
    long = step(0, b"\x01" * 255, RAW) * 3
    edges = (
        step(5, bytes(5) + bytes([2]))
        + step(5, bytes([100, 0, 0, 0, 0, 2]))
        + step(6, bytes([10, 0, 61, 0]))
        + step(2, bytes([44, 1, 0, 0, 9]))
    )
    return [
        hello + write + run + read,
        hello + run + edges,
        noise + hello + noise + read,
        long + hello + step(4, bytes([0, 0, 62, 0, 0])),
        step(3, b"") + noise,
    ]


def main() -> None:
    """Fuzz for as long as was asked for, print what was found, write the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    executions, findings, coverage = 0, [], 0
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        (work / "harness.c").write_text(HARNESS)
        sources = [str(work / "harness.c"), str(LINK / "link.c")]
        subprocess.run(["clang", *FLAGS, "-I", str(LINK), *sources, "-o", str(work / "fuzz")], check=True)
        (work / "corpus").mkdir()
        for number, seed in enumerate(seeds()):
            (work / "corpus" / f"seed-{number}").write_bytes(seed)
        start, seed = time.monotonic(), arguments.seed
        while (left_s := 60 * arguments.minutes - (time.monotonic() - start)) >= 1 and len(findings) < FINDINGS_MAX:
            options = [*OPTIONS, f"-max_total_time={int(left_s)}", f"-seed={seed}", f"-artifact_prefix={work}/finding-{seed}-"]
            done = subprocess.run([str(work / "fuzz"), *options, str(work / "corpus")], capture_output=True, text=True, errors="replace")
            executions += sum(map(int, re.findall(r"stat::number_of_executed_units:\s+(\d+)", done.stderr)))
            coverage = max([coverage, *map(int, re.findall(r" cov: (\d+) ", done.stderr))])
            if done.returncode:
                script = next(work.glob(f"finding-{seed}-*"), None)
                findings.append({"report": done.stderr[-3000:], "script": script.read_bytes().hex() if script else ""})
                print(done.stderr[-3000:], flush=True)
            seed += 1
        minutes = (time.monotonic() - start) / 60
    print(f"{executions:,} executions in {minutes:.1f} minutes, {coverage} edges covered, {len(findings)} findings")
    row = {"minutes": round(minutes, 1), "seed": arguments.seed, "executions": executions, "edges_covered": coverage, "findings": findings}
    results = Path(__file__).parent / "results" / "fuzz_link.json"
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps(row, indent=1) + "\n")
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()
