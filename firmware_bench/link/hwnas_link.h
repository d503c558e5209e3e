/* The board's end of the link between a host and a model on a board; ../PROTOCOL.md is the protocol. C99; no libc, no globals, no
 * allocation, no recursion: `hwnas_link_receive` takes bytes as they come and answers through the board's functions.
 *
 * Whatever bytes come, nothing outside the structures is read or written; `benchmarks/fuzz_link.py` holds it to that.
 */
#ifndef HWNAS_LINK_H
#define HWNAS_LINK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HWNAS_LINK_VERSION 1u
#define HWNAS_LINK_PAYLOAD_MAX 512u
#define HWNAS_LINK_HEAD_BYTES 10u
#define HWNAS_LINK_FRAME_MAX (HWNAS_LINK_HEAD_BYTES + HWNAS_LINK_PAYLOAD_MAX + 4u)
#define HWNAS_LINK_TEXT_MAX 79u                                     /* bytes of each text of the identity: all six fit one payload */
#define HWNAS_LINK_REPEATS_MAX ((HWNAS_LINK_PAYLOAD_MAX - 10u) / 8u) /* ticks that fit the answer of RUN */
#define HWNAS_LINK_UNKNOWN 0xFFFFFFFFu                              /* a number of bytes that is not known */

enum { HWNAS_LINK_NO_COUNTER = 0, HWNAS_LINK_CORE_CYCLES = 1, HWNAS_LINK_NANOSECONDS = 2 };

/* What the link asks of the program around it. */
typedef struct {
    const char *texts[6]; /* board, tool chain, kernel set, graph hash, weights hash, note of the build */
    uint32_t clock_hz, counter_hz;
    uint8_t counter_kind;
    uint16_t operators;
    uint32_t input_bytes, output_bytes, arena_bytes;
    int8_t *input;
    const int8_t *output;
    const uint64_t *operator_ticks; /* what `run_timed` found */

    void (*send)(const uint8_t *bytes, uint32_t count); /* returns when the bytes are taken over */
    void (*warm_up)(void);                              /* an inference that nobody looks at */
    uint64_t (*run)(void);                              /* an inference; its ticks */
    void (*run_timed)(void);                            /* an inference that times every operator */
    uint32_t (*stack_bytes)(void);                      /* high-water mark, or HWNAS_LINK_UNKNOWN */
    uint32_t (*arena_used_bytes)(void);                 /* high-water mark */
    void (*restart)(void);                              /* called when the answer is sent; 0: this board cannot */
} hwnas_link_board;

typedef struct {
    const hwnas_link_board *board;
    uint32_t session;  /* 0: not greeted since the start */
    uint16_t sequence; /* of the last request taken */
    uint8_t has_run, has_timed;
    uint32_t bad_frames, stale_frames, runs; /* since the start; `runs` are requests */

    /* The frame that is coming in: COBS is undone byte by byte. */
    uint8_t code, left, is_bad;
    uint16_t size, reply_size;
    uint8_t request[HWNAS_LINK_FRAME_MAX], reply[HWNAS_LINK_FRAME_MAX];
} hwnas_link;

/* As after a reset: knows no session. `board` stays in use. */
void hwnas_link_start(hwnas_link *link, const hwnas_link_board *board);

/* Takes one byte of the line; with the last one of a request, does what it asks and answers. */
void hwnas_link_receive(hwnas_link *link, uint8_t byte);

/* zlib's CRC-32 of `count` bytes; `crc` is that of the bytes before them, 0 where there are none. */
uint32_t hwnas_link_crc32(uint32_t crc, const void *bytes, uint32_t count);

#ifdef __cplusplus
}
#endif

#endif
