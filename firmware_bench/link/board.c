/* A model on a board, served over the link: the program of every port. model.c of the exported folder is compiled with
 * -Dhwnas_run=hwnas_link_run, so that operators can be timed one by one; nothing in that folder changes. */
#include "hwnas_kernels.h"
#include "hwnas_link.h"
#include "hwnas_port.h"
#include "model.h"

/* Given by the build, for the identity. */
#ifndef HWNAS_LINK_TOOLCHAIN
#define HWNAS_LINK_TOOLCHAIN ""
#endif
#ifndef HWNAS_LINK_KERNEL_SET
#define HWNAS_LINK_KERNEL_SET ""
#endif
#ifndef HWNAS_LINK_NOTE
#define HWNAS_LINK_NOTE ""
#endif

#define PAINT 0xA5A5A5A5u
#define GUARD_WORDS 8u /* beyond the arena: a high-water mark above its size is an overrun */
#define ARENA_WORDS (HWNAS_MODEL_ARENA_BYTES / 4u + GUARD_WORDS)

static int8_t input[HWNAS_MODEL_INPUT_BYTES] __attribute__((aligned(4)));
static int8_t output[HWNAS_MODEL_OUTPUT_BYTES] __attribute__((aligned(4)));
static uint32_t arena[ARENA_WORDS];
static uint64_t operator_ticks[HWNAS_MODEL_LAYERS];
static int times_operators, starts_over;
static hwnas_link link_state;

void hwnas_link_run(const hwnas_layer *layers, uint32_t count, const int8_t *in, int8_t *out, void *memory);

/* What model.c calls in place of `hwnas_run`: that, or the same with a time stamp on either side of every operator. */
void hwnas_link_run(const hwnas_layer *layers, uint32_t count, const int8_t *in, int8_t *out, void *memory)
{
    if (!times_operators) {
        hwnas_run(layers, count, in, out, memory);
        return;
    }
    int8_t *bases[3] = {(int8_t *)memory, (int8_t *)(uintptr_t)in, out};
    for (uint32_t i = 0; i < count; i++) {
        const hwnas_layer *l = layers + i;
        int8_t *const from = bases[l->in & 3] + (l->in & ~3u), *const to = bases[l->out & 3] + (l->out & ~3u);
        int8_t *const aux = bases[l->aux & 3] + (l->aux & ~3u);
        const uint64_t before = hwnas_port_ticks();
        l->kernel(l->params, from, to, aux);
        operator_ticks[i] = hwnas_port_ticks() - before;
    }
}

static void warm_up(void)
{
    hwnas_model_run(input, output, arena);
}

static uint64_t run(void)
{
    hwnas_port_mark(1);
    const uint64_t before = hwnas_port_ticks();
    hwnas_model_run(input, output, arena);
    const uint64_t after = hwnas_port_ticks();
    hwnas_port_mark(0);
    return after - before;
}

static void run_timed(void)
{
    times_operators = 1;
    hwnas_model_run(input, output, arena);
    times_operators = 0;
}

static uint32_t arena_used_bytes(void)
{
    uint32_t words = ARENA_WORDS;
    while (words && arena[words - 1] == PAINT)
        words--;
    return 4u * words;
}

static void restart(void)
{
    hwnas_port_restart();
    starts_over = 1;
}

int main(void)
{
    const hwnas_port port = hwnas_port_start();
    const hwnas_link_board board = {
        {port.board, HWNAS_LINK_TOOLCHAIN, HWNAS_LINK_KERNEL_SET, HWNAS_MODEL_GRAPH_HASH, HWNAS_MODEL_WEIGHTS_HASH, HWNAS_LINK_NOTE},
        port.clock_hz,
        port.counter_hz,
        port.counter_kind,
        HWNAS_MODEL_LAYERS,
        HWNAS_MODEL_INPUT_BYTES,
        HWNAS_MODEL_OUTPUT_BYTES,
        HWNAS_MODEL_ARENA_BYTES,
        input,
        output,
        operator_ticks,
        hwnas_port_write,
        warm_up,
        run,
        run_timed,
        hwnas_port_stack_bytes,
        arena_used_bytes,
        restart,
    };
    for (;;) {
        for (uint32_t i = 0; i < ARENA_WORDS; i++)
            arena[i] = PAINT;
        for (uint32_t i = 0; i < HWNAS_MODEL_INPUT_BYTES; i++)
            input[i] = 0;
        hwnas_link_start(&link_state, &board);
        for (starts_over = 0; !starts_over;) {
            uint8_t bytes[16];
            const uint32_t count = hwnas_port_read(bytes, sizeof bytes);
            for (uint32_t i = 0; i < count && !starts_over; i++)
                hwnas_link_receive(&link_state, bytes[i]);
        }
    }
}
