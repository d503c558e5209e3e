/* A port to start from: copy this folder, fill in what says FILL IN, and build with `--port FOLDER`. README.md has the steps.
 *
 * As it stands it compiles and links for a Cortex-M4 and does nothing on the line. The core's start-up code has run when `hwnas_port_start`
 * is called: FPU on, memory set up, stack painted. No C library is there, and none is needed. */
#include "hwnas_port.h"

/* FILL IN: the clock of the core after `hwnas_port_start`, exactly: times are cycles divided by it. */
#define CLOCK_HZ 64000000u

/* Of the serial line; `hwnas bench --baud` sets it for host and image alike. */
#ifndef HWNAS_LINK_BAUD
#define HWNAS_LINK_BAUD 115200
#endif

/* The cycle counter of Armv7-M and Armv8-M mainline cores. Nothing to fill in; M0 and M0+ have none. */
#define DEMCR (*(volatile uint32_t *)0xE000EDFCu)
#define DWT_CTRL (*(volatile uint32_t *)0xE0001000u)
#define DWT_CYCCNT (*(volatile uint32_t *)0xE0001004u)
#define SCB_AIRCR (*(volatile uint32_t *)0xE000ED0Cu)

#define STACK_PAINT 0xA5A5A5A5u /* by the start-up code */
extern uint32_t __stack_limit[], __stack_top[];

/* Whether the counter counts is found out, never assumed: emulators and some parts have registers that stand still. */
static int has_counter(void)
{
    DEMCR |= 1u << 24;
    DWT_CYCCNT = 0;
    DWT_CTRL |= 1u;
    const uint32_t before = DWT_CYCCNT;
    for (volatile uint32_t i = 0; i < 16; i++) {
    }
    return DWT_CYCCNT != before;
}

/* 1. Called first, once: clock, serial line (8N1), counter, pin. What it returns is what reports say of the board, so name part, board and
 *    clock source: "nRF52840 DK, 64 MHz from its crystal". */
hwnas_port hwnas_port_start(void)
{
    /* FILL IN: clock with its flash wait states and caches, pins and UART at HWNAS_LINK_BAUD, the mark as an output. */
    const int counts = has_counter();
    const hwnas_port port = {
        "a board without a name", /* FILL IN */
        CLOCK_HZ,
        (uint8_t)(counts ? HWNAS_LINK_CORE_CYCLES : HWNAS_LINK_NO_COUNTER),
        counts ? CLOCK_HZ : 0,
    };
    return port;
}

/* 2. Bytes that came in, at most `size`; 0 where there are none. To poll the UART here is enough: the host sends nothing while it waits for
 *    an answer. A ring buffer that an interrupt fills (`../stm32f405/port.c`) also keeps what arrives after a time-out. */
uint32_t hwnas_port_read(uint8_t *bytes, uint32_t size)
{
    /* FILL IN: while the UART has a byte and there is room, take it. */
    (void)bytes;
    (void)size;
    return 0;
}

/* 3. Sends all bytes; may wait until the UART takes them. */
void hwnas_port_write(const uint8_t *bytes, uint32_t count)
{
    /* FILL IN: wait until the UART can take a byte, give it one; `count` times. */
    (void)bytes;
    (void)count;
}

/* 4. A counter that never runs back, 64 bits wide. Two calls may be one turn of the hardware's 32 bits apart: 25 s at 168 MHz. */
uint64_t hwnas_port_ticks(void)
{
    static uint64_t total;
    static uint32_t last;
    const uint32_t now = DWT_CYCCNT;
    total += now - last;
    last = now;
    return total;
}

/* 5. A pin that is high during every measured inference, for a power analyser (energy) or a logic analyser (time). May stay empty. */
void hwnas_port_mark(int is_running)
{
    (void)is_running; /* FILL IN */
}

/* 6. How deep the stack ever went. With start-up code of your own that does not paint it, return HWNAS_LINK_UNKNOWN. */
uint32_t hwnas_port_stack_bytes(void)
{
    const uint32_t *p = __stack_limit;
    while ((uintptr_t)p < (uintptr_t)__stack_top && *p == STACK_PAINT)
        p++;
    return (uint32_t)((uintptr_t)__stack_top - (uintptr_t)p);
}

/* 7. Resets the board when the UART has sent its last byte. Left empty, the program starts over by itself, which is enough. */
void hwnas_port_restart(void)
{
    /* FILL IN: wait until the UART says that the last byte is on the line. */
    SCB_AIRCR = 0x05FA0004u;
    for (;;) {
    }
}
