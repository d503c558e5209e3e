/* Reset of a Cortex-A53 in exception level 1: NEON on, memory set up, stack painted so that its high-water mark can be read back. No
 * caches, no page tables: a program for an emulator. On a watch, which runs Linux, the kernels run through `ports/linux`. */
#include <stddef.h>
#include <stdint.h>

#define STACK_PAINT 0xA5A5A5A5u

extern uint32_t __data_load[], __data_start[], __data_end[], __bss_start[], __bss_end[], __stack_limit[], __stack_top[];
int main(void);
void Reset_Handler(void);
void hwnas_start(void);

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

void hwnas_start(void)
{
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
    for (;;) {
    }
}

/* Compiled code may use NEON registers from its first instruction, so this is assembly. */
__attribute__((naked)) void Reset_Handler(void)
{
    __asm__("adrp x0, __stack_top\n\t"
            "add x0, x0, :lo12:__stack_top\n\t"
            "mov sp, x0\n\t"
            "mov x0, #(3 << 20)\n\t" /* CPACR_EL1.FPEN: no traps */
            "msr cpacr_el1, x0\n\t"
            "isb\n\t"
            "b hwnas_start");
}
