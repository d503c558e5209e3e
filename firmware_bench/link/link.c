/* Frames in, answers out: see hwnas_link.h and ../PROTOCOL.md. */
#include "hwnas_link.h"

enum {
    HELLO = 0x01,
    WRITE = 0x02,
    CHECK = 0x03,
    RUN = 0x04,
    OUTPUT = 0x05,
    OPERATORS = 0x06,
    USAGE = 0x07,
    RESET = 0x08,
    REPLY = 0x80,
    FAILED = 0xFF
};

enum { DONE = 0, UNKNOWN_KIND = 1, NOT_GREETED = 2, BAD_PAYLOAD = 3, BAD_RANGE = 4, NOT_RUN = 5, UNSUPPORTED = 6, VERSION = 7 };

enum { TIME_OPERATORS = 1 }; /* flags of RUN */

/* Where things are in a frame. */
enum { KIND_AT = 0, VERSION_AT = 1, SEQUENCE_AT = 2, SESSION_AT = 4, LENGTH_AT = 8, PAYLOAD_AT = 10 };

static const char *const reasons[] = {
    "", "unknown request", "not greeted", "bad payload", "out of range", "nothing to read: run first", "not supported", "version 1 only",
};

uint32_t hwnas_link_crc32(uint32_t crc, const void *bytes, uint32_t count)
{
    static const uint32_t nibbles[16] = {0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u,
                                         0x4db26158u, 0x5005713cu, 0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu,
                                         0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu};
    const uint8_t *p = (const uint8_t *)bytes;
    crc = ~crc;
    while (count--) {
        crc ^= *p++;
        crc = crc >> 4 ^ nibbles[crc & 15u];
        crc = crc >> 4 ^ nibbles[crc & 15u];
    }
    return ~crc;
}

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Appends to the answer; what would not leave room for the checksum is not written. */
static void put(hwnas_link *link, uint64_t value, uint32_t bytes)
{
    for (; bytes && link->reply_size < HWNAS_LINK_FRAME_MAX - 4u; bytes--, value >>= 8)
        link->reply[link->reply_size++] = (uint8_t)value;
}

static void put_bytes(hwnas_link *link, const void *bytes, uint32_t count)
{
    for (const uint8_t *p = (const uint8_t *)bytes; count--; p++)
        put(link, *p, 1);
}

/* A text, cut where it is too long, between two characters of UTF-8. */
static void put_text(hwnas_link *link, const char *text)
{
    uint32_t count = 0;
    while (count < HWNAS_LINK_TEXT_MAX && text[count])
        count++;
    while (count && ((uint8_t)text[count] & 0xC0u) == 0x80u)
        count--;
    put(link, count, 1);
    put_bytes(link, text, count);
}

static void begin(hwnas_link *link, uint8_t kind)
{
    link->reply_size = 0;
    put(link, kind, 1);
    put(link, HWNAS_LINK_VERSION, 1);
    put(link, get16(link->request + SEQUENCE_AT), 2);
    put(link, get32(link->request + SESSION_AT), 4);
    put(link, 0, 2);
}

/* Puts length and checksum into the answer and sends it: each block of COBS holds up to 254 bytes that are not zero. */
static void finish(hwnas_link *link)
{
    const uint32_t length = link->reply_size - HWNAS_LINK_HEAD_BYTES;
    link->reply[LENGTH_AT] = (uint8_t)length;
    link->reply[LENGTH_AT + 1] = (uint8_t)(length >> 8);
    const uint32_t crc = hwnas_link_crc32(0, link->reply, link->reply_size);
    for (uint32_t i = 0; i < 4; i++)
        link->reply[link->reply_size++] = (uint8_t)(crc >> 8 * i);
    static const uint8_t zero = 0;
    link->board->send(&zero, 1);
    for (uint32_t at = 0;;) {
        uint32_t count = 0;
        while (count < 254 && at + count < link->reply_size && link->reply[at + count])
            count++;
        const uint8_t code = (uint8_t)(count + 1);
        link->board->send(&code, 1);
        link->board->send(link->reply + at, count);
        at += count;
        if (at == link->reply_size)
            break;
        at += count < 254; /* the zero that the block stands for */
    }
    link->board->send(&zero, 1);
}

static int is_newer(const hwnas_link *link, uint16_t sequence)
{
    return (uint16_t)(sequence - link->sequence - 1u) < 0x7FFFu;
}

static int hello(hwnas_link *link, const uint8_t *payload, uint32_t length)
{
    const hwnas_link_board *board = link->board;
    const uint32_t session = get32(link->request + SESSION_AT);
    if (length != 4 || get32(payload) != session || session == 0)
        return BAD_PAYLOAD;
    const uint16_t sequence = get16(link->request + SEQUENCE_AT);
    if (session != link->session || is_newer(link, sequence)) { /* else it came twice or late, and takes nothing back */
        link->session = session;
        link->sequence = sequence;
        link->has_run = link->has_timed = 0;
    }
    put(link, HWNAS_LINK_VERSION, 2);
    put(link, HWNAS_LINK_PAYLOAD_MAX, 2);
    put(link, board->clock_hz, 4);
    put(link, board->counter_kind, 1);
    put(link, board->counter_hz, 4);
    put(link, board->input_bytes, 4);
    put(link, board->output_bytes, 4);
    put(link, board->arena_bytes, 4);
    put(link, board->operators, 2);
    for (uint32_t i = 0; i < 6; i++)
        put_text(link, board->texts[i]);
    return DONE;
}

static int write(hwnas_link *link, const uint8_t *payload, uint32_t length)
{
    if (length < 4)
        return BAD_PAYLOAD;
    const uint32_t offset = get32(payload), count = length - 4;
    if (offset > link->board->input_bytes || count > link->board->input_bytes - offset)
        return BAD_RANGE;
    for (uint32_t i = 0; i < count; i++)
        link->board->input[offset + i] = (int8_t)payload[4 + i];
    return DONE;
}

static int run(hwnas_link *link, const uint8_t *payload, uint32_t length)
{
    if (length != 5)
        return BAD_PAYLOAD;
    const hwnas_link_board *board = link->board;
    const uint32_t repeats = get16(payload + 2), flags = payload[4];
    if (flags & ~(uint32_t)TIME_OPERATORS)
        return UNSUPPORTED;
    if (repeats < 1 || repeats > HWNAS_LINK_REPEATS_MAX)
        return BAD_RANGE;
    put(link, hwnas_link_crc32(0, board->input, board->input_bytes), 4);
    const uint16_t output_crc_at = link->reply_size;
    put(link, 0, 4);
    put(link, repeats, 2);
    for (uint32_t left = get16(payload); left; left--)
        board->warm_up();
    for (uint32_t left = repeats; left; left--)
        put(link, board->run(), 8);
    if (flags & TIME_OPERATORS)
        board->run_timed();
    link->has_timed = (uint8_t)(link->has_timed | (flags & TIME_OPERATORS));
    link->has_run = 1;
    link->runs++;
    const uint16_t end = link->reply_size;
    link->reply_size = output_crc_at;
    put(link, hwnas_link_crc32(0, board->output, board->output_bytes), 4);
    link->reply_size = end;
    return DONE;
}

static int output(hwnas_link *link, const uint8_t *payload, uint32_t length)
{
    if (length != 6)
        return BAD_PAYLOAD;
    if (!link->has_run)
        return NOT_RUN;
    const uint32_t offset = get32(payload), count = get16(payload + 4);
    if (count > HWNAS_LINK_PAYLOAD_MAX || offset > link->board->output_bytes || count > link->board->output_bytes - offset)
        return BAD_RANGE;
    put_bytes(link, link->board->output + offset, count);
    return DONE;
}

static int operators(hwnas_link *link, const uint8_t *payload, uint32_t length)
{
    if (length != 4)
        return BAD_PAYLOAD;
    if (!link->has_timed)
        return NOT_RUN;
    const uint32_t first = get16(payload), count = get16(payload + 2);
    if (count > HWNAS_LINK_PAYLOAD_MAX / 8u || first > link->board->operators || count > link->board->operators - first)
        return BAD_RANGE;
    for (uint32_t i = 0; i < count; i++)
        put(link, link->board->operator_ticks[first + i], 8);
    return DONE;
}

/* Requests that carry nothing. */
static int bare(hwnas_link *link, uint8_t kind)
{
    const hwnas_link_board *board = link->board;
    if (kind == CHECK)
        put(link, hwnas_link_crc32(0, board->input, board->input_bytes), 4);
    if (kind == USAGE) {
        put(link, board->stack_bytes(), 4);
        put(link, board->arena_used_bytes(), 4);
        put(link, link->bad_frames, 4);
        put(link, link->stale_frames, 4);
        put(link, link->runs, 4);
    }
    return kind == RESET && !board->restart ? UNSUPPORTED : DONE;
}

static int serve(hwnas_link *link, uint8_t kind, const uint8_t *payload, uint32_t length)
{
    switch (kind) {
    case HELLO:
        return hello(link, payload, length);
    case WRITE:
        return write(link, payload, length);
    case RUN:
        return run(link, payload, length);
    case OUTPUT:
        return output(link, payload, length);
    case OPERATORS:
        return operators(link, payload, length);
    case CHECK:
    case USAGE:
    case RESET:
        return length ? BAD_PAYLOAD : bare(link, kind);
    default:
        return UNKNOWN_KIND;
    }
}

/* The request in `link->request`, `link->size` bytes long. */
static void handle(hwnas_link *link)
{
    const uint8_t *const request = link->request;
    const uint32_t size = link->size;
    if (size < HWNAS_LINK_HEAD_BYTES + 4u || size - HWNAS_LINK_HEAD_BYTES - 4u != get16(request + LENGTH_AT) ||
        hwnas_link_crc32(0, request, size - 4u) != get32(request + size - 4u) || request[KIND_AT] & REPLY) {
        link->bad_frames++;
        return;
    }
    const uint8_t kind = request[KIND_AT];
    const uint16_t sequence = get16(request + SEQUENCE_AT);
    int failed = DONE;
    if (request[VERSION_AT] != HWNAS_LINK_VERSION)
        failed = VERSION;
    else if (kind != HELLO) {
        if (link->session == 0 || get32(request + SESSION_AT) != link->session)
            failed = NOT_GREETED;
        else if (!is_newer(link, sequence)) {
            link->stale_frames++;
            return;
        } else
            link->sequence = sequence;
    }
    begin(link, (uint8_t)(kind | REPLY));
    if (failed == DONE)
        failed = serve(link, kind, request + PAYLOAD_AT, size - HWNAS_LINK_HEAD_BYTES - 4u);
    if (failed != DONE) {
        const char *reason = reasons[failed];
        begin(link, FAILED);
        put(link, (uint32_t)failed, 2);
        while (*reason)
            put(link, (uint8_t)*reason++, 1);
    }
    finish(link);
    if (kind == RESET && failed == DONE)
        link->board->restart();
}

void hwnas_link_start(hwnas_link *link, const hwnas_link_board *board)
{
    link->board = board;
    link->session = 0;
    link->sequence = 0;
    link->has_run = link->has_timed = 0;
    link->bad_frames = link->stale_frames = link->runs = 0;
    link->code = link->left = link->is_bad = 0;
    link->size = link->reply_size = 0;
}

static void append(hwnas_link *link, uint8_t byte)
{
    if (link->size < HWNAS_LINK_FRAME_MAX)
        link->request[link->size++] = byte;
    else
        link->is_bad = 1;
}

void hwnas_link_receive(hwnas_link *link, uint8_t byte)
{
    if (byte == 0) {
        const int is_empty = link->code == 0, is_whole = link->left == 0 && !link->is_bad;
        if (!is_empty && is_whole)
            handle(link);
        else if (!is_empty)
            link->bad_frames++;
        link->code = link->left = link->is_bad = 0;
        link->size = 0;
    } else if (link->left) {
        append(link, byte);
        link->left--;
    } else {
        if (link->code && link->code != 0xFF)
            append(link, 0);
        link->code = byte;
        link->left = (uint8_t)(byte - 1u);
    }
}
