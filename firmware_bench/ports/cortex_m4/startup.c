/* Reset of a Cortex-M4F: FPU on, memory set up, stack painted so that its high-water mark can be read back. */
#include <stddef.h>
#include <stdint.h>

#define STACK_PAINT 0xA5A5A5A5u

extern uint32_t __data_load[], __data_start[], __data_end[], __bss_start[], __bss_end[], __stack_limit[], __stack_top[];
int main(void);
void Reset_Handler(void);

/* Compilers call these for loops and structures even without a C library. */
void *memcpy(void *to, const void *from, size_t count)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    while (count--)
        *t++ = *f++;
    return to;
}

void *memset(void *to, int value, size_t count)
{
    uint8_t *t = to;
    while (count--)
        *t++ = (uint8_t)value;
    return to;
}

static void park(void)
{
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    __stack_top, (const void *)Reset_Handler, (const void *)park, (const void *)park, (const void *)park, (const void *)park,
    (const void *)park, 0, 0, 0, 0, (const void *)park, (const void *)park, 0, (const void *)park, (const void *)park};

void Reset_Handler(void)
{
    volatile uint32_t *cpacr = (volatile uint32_t *)0xE000ED88u;
    *cpacr |= 0xFu << 20; /* full access to the FPU */
    __asm__ volatile("dsb\n\tisb" ::: "memory");
    /* Addresses are compared as integers: a compiler may take two distinct objects for unequal, and empty sections are not. */
    const uint32_t *from = __data_load;
    for (uint32_t *p = __data_start; (uintptr_t)p < (uintptr_t)__data_end;)
        *p++ = *from++;
    for (uint32_t *p = __bss_start; (uintptr_t)p < (uintptr_t)__bss_end;)
        *p++ = 0;
    uint32_t *sp;
    __asm__ volatile("mov %0, sp" : "=r"(sp));
    for (uint32_t *p = __stack_limit; (uintptr_t)p < (uintptr_t)sp;)
        *p++ = STACK_PAINT;
    main();
    park();
}
