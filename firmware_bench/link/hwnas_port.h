/* What a board provides; `ports/template/port.c` is one to start from, with each function explained. */
#ifndef HWNAS_PORT_H
#define HWNAS_PORT_H

#include <stdint.h>

#include "hwnas_link.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const char *board;     /* what reports call it: part, board, clock source */
    uint32_t clock_hz;     /* of the core */
    uint8_t counter_kind;  /* of `hwnas_port_ticks`: HWNAS_LINK_NO_COUNTER, _CORE_CYCLES or _NANOSECONDS (of the machine's clock) */
    uint32_t counter_hz;   /* ticks a second; 0 without a counter */
} hwnas_port;

/* Clock, line, counter, pin. Called first, once. */
hwnas_port hwnas_port_start(void);

/* Up to `size` bytes that came in; 0 where there are none. May wait for some. */
uint32_t hwnas_port_read(uint8_t *bytes, uint32_t size);

/* Sends all of them; may wait. */
void hwnas_port_write(const uint8_t *bytes, uint32_t count);

/* A counter that never runs back; 0 always on boards without. Two calls in a row are at most 2^32 ticks of the hardware apart. */
uint64_t hwnas_port_ticks(void);

/* A pin for a power analyser or a logic analyser: 1 just before a measured inference, 0 just after it. */
void hwnas_port_mark(int is_running);

/* High-water mark of the stack, or HWNAS_LINK_UNKNOWN. */
uint32_t hwnas_port_stack_bytes(void);

/* Resets the board, once what was written is on the line. Where it returns, the program starts over by itself. */
void hwnas_port_restart(void);

#ifdef __cplusplus
}
#endif

#endif
