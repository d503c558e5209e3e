/* STM32F405 at register level (RM0090): USART1 on PA9 (out) and PA10 (in), 8N1; the mark on PA8; the cycle counter of the core. Written for
 * silicon and run as the image for `qemu-system-arm -M netduinoplus2`, where there is neither PLL nor cycle counter, and it says so.
 *
 * The core runs at 168 MHz from the internal oscillator, so that no crystal of a board matters. Cycles are exact; a time that is made of
 * them is within the oscillator's 1 %. */
#include "hwnas_port.h"

#ifndef HWNAS_LINK_BAUD
#define HWNAS_LINK_BAUD 115200
#endif

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

#define GPIOA_MODER REGISTER(0x40020000u)
#define GPIOA_OSPEEDR REGISTER(0x40020008u)
#define GPIOA_PUPDR REGISTER(0x4002000Cu)
#define GPIOA_BSRR REGISTER(0x40020018u)
#define GPIOA_AFRH REGISTER(0x40020024u)
#define RCC_CR REGISTER(0x40023800u)
#define RCC_PLLCFGR REGISTER(0x40023804u)
#define RCC_CFGR REGISTER(0x40023808u)
#define RCC_AHB1ENR REGISTER(0x40023830u)
#define RCC_APB2ENR REGISTER(0x40023844u)
#define FLASH_ACR REGISTER(0x40023C00u)
#define USART1_SR REGISTER(0x40011000u)
#define USART1_DR REGISTER(0x40011004u)
#define USART1_BRR REGISTER(0x40011008u)
#define USART1_CR1 REGISTER(0x4001100Cu)
#define DWT_CTRL REGISTER(0xE0001000u)
#define DWT_CYCCNT REGISTER(0xE0001004u)
#define NVIC_ISER1 REGISTER(0xE000E104u)
#define SCB_VTOR REGISTER(0xE000ED08u)
#define SCB_AIRCR REGISTER(0xE000ED0Cu)
#define DEMCR REGISTER(0xE000EDFCu)

#define HSI_HZ 16000000u
#define PLL_HZ 168000000u
#define READY_TRIES 100000u
#define DIVIDER(bus_hz) (((bus_hz) + HWNAS_LINK_BAUD / 2u) / HWNAS_LINK_BAUD) /* of USART1, which samples 16 times a bit */
#if DIVIDER(PLL_HZ / 2u) < 16u || DIVIDER(PLL_HZ / 2u) > 0xFFFFu
#error "HWNAS_LINK_BAUD: 1282 to 5250000 are possible"
#endif

enum { RXNE = 0x20, ORE = 0x08, TC = 0x40, TXE = 0x80 };                              /* USART_SR */
enum { RE = 0x4, TE = 0x8, RXNEIE = 0x20, UE = 0x2000 };                              /* USART_CR1 */
enum { HSION = 1 << 0, HSIRDY = 1 << 1, PLLON = 1 << 24, PLLRDY = 1 << 25 };          /* RCC_CR */
enum { SW_HSI = 0, SW_PLL = 2, SWS_PLL = 2 << 2, SWS = 3 << 2 };                      /* RCC_CFGR */
enum { APB1_QUARTER = 5 << 10, APB2_HALF = 4 << 13 };                                 /* RCC_CFGR */
enum { FIVE_WAITS = 5, PREFETCH = 1 << 8, CODE_CACHE = 1 << 9, DATA_CACHE = 1 << 10 }; /* FLASH_ACR */
enum { OUT_PIN = 9, IN_PIN = 10, MARK_PIN = 8, USART1_IRQ = 37, INTERRUPTS = 82 };

#define STACK_PAINT 0xA5A5A5A5u /* by the start-up code */
extern uint32_t __flash_origin[], __stack_limit[], __stack_top[];

/* What came in while a request was served. The interrupt moves `head`, the reader `tail`. */
#define RING_BYTES 1024u
static volatile uint8_t ring[RING_BYTES];
static volatile uint32_t head, tail;

static void received(void)
{
    const uint32_t status = USART1_SR;
    if (status & (RXNE | ORE)) {
        const uint8_t byte = (uint8_t)USART1_DR; /* clears both */
        if (head - tail < RING_BYTES && status & RXNE) {
            ring[head % RING_BYTES] = byte;
            head++;
        }
    }
}

/* The table goes on where the core's own vectors, in the start-up code, end. */
__attribute__((section(".vectors"), used)) static void (*const interrupts[INTERRUPTS])(void) = {[USART1_IRQ] = received};

static int is_ready(volatile uint32_t *place, uint32_t mask, uint32_t value)
{
    for (uint32_t tries = READY_TRIES; tries; tries--)
        if ((*place & mask) == value)
            return 1;
    return 0;
}

/* 16 MHz for core and buses, whatever a boot loader or a PLL that failed has left. Dividers go last: no bus may see the PLL undivided. */
static uint32_t start_oscillator(void)
{
    RCC_CR |= HSION;
    is_ready(&RCC_CR, HSIRDY, HSIRDY);
    RCC_CFGR &= ~3u;
    is_ready(&RCC_CFGR, SWS, SW_HSI);
    RCC_CFGR = 0;
    return HSI_HZ;
}

/* 16 MHz / 8 * 168 / 2. Returns the clock that the core really has; APB2, which feeds USART1, has half of a PLL's. */
static uint32_t start_clock(void)
{
    const uint32_t oscillator_hz = start_oscillator();
    RCC_CR &= ~(uint32_t)PLLON;
    is_ready(&RCC_CR, PLLRDY, 0);
    RCC_PLLCFGR = 0x20000000u | 7u << 24 | 168u << 6 | 8u;
    RCC_CR |= PLLON;
    if (!is_ready(&RCC_CR, PLLRDY, PLLRDY))
        return oscillator_hz;
    FLASH_ACR = FIVE_WAITS | PREFETCH | CODE_CACHE | DATA_CACHE;
    RCC_CFGR = APB1_QUARTER | APB2_HALF | SW_PLL;
    return is_ready(&RCC_CFGR, SWS, SWS_PLL) ? PLL_HZ : start_oscillator();
}

static int has_counter(void)
{
    DEMCR |= 1u << 24; /* trace on */
    DWT_CYCCNT = 0;
    DWT_CTRL |= 1u;
    const uint32_t before = DWT_CYCCNT;
    for (volatile uint32_t i = 0; i < 16; i++) {
    }
    return DWT_CYCCNT != before;
}

hwnas_port hwnas_port_start(void)
{
    SCB_VTOR = (uint32_t)(uintptr_t)__flash_origin;
    const uint32_t clock_hz = start_clock(), bus_hz = clock_hz == PLL_HZ ? PLL_HZ / 2u : HSI_HZ;
    RCC_AHB1ENR |= 1u << 0;
    RCC_APB2ENR |= 1u << 4;
    (void)RCC_APB2ENR; /* a clock is on two cycles after the write */
    /* An undriven input idles high, or a missing cable would be read as bytes. */
    GPIOA_PUPDR = (GPIOA_PUPDR & ~(3u << 2 * IN_PIN)) | 1u << 2 * IN_PIN;
    GPIOA_AFRH = (GPIOA_AFRH & ~0xFF0u) | 0x770u;
    GPIOA_OSPEEDR |= 2u << 2 * MARK_PIN;
    GPIOA_MODER = (GPIOA_MODER & ~(0x3Fu << 2 * MARK_PIN)) | 1u << 2 * MARK_PIN | 2u << 2 * OUT_PIN | 2u << 2 * IN_PIN;
    hwnas_port_mark(0);
    USART1_BRR = DIVIDER(bus_hz);
    USART1_CR1 = UE | TE | RE | RXNEIE;
    NVIC_ISER1 = 1u << (USART1_IRQ - 32);
    const int counts = has_counter();
    const hwnas_port port = {
        clock_hz == PLL_HZ ? "STM32F405, 168 MHz from its internal oscillator" : "STM32F405, 16 MHz without PLL",
        clock_hz,
        (uint8_t)(counts ? HWNAS_LINK_CORE_CYCLES : HWNAS_LINK_NO_COUNTER),
        counts ? clock_hz : 0,
    };
    return port;
}

uint32_t hwnas_port_read(uint8_t *bytes, uint32_t size)
{
    /* An interrupt that is held back still ends the sleep: none is slept through. */
    __asm__ volatile("cpsid i" ::: "memory");
    if (head == tail)
        __asm__ volatile("wfi" ::: "memory");
    __asm__ volatile("cpsie i" ::: "memory");
    uint32_t count = 0;
    for (; count < size && tail != head; tail++)
        bytes[count++] = ring[tail % RING_BYTES];
    return count;
}

void hwnas_port_write(const uint8_t *bytes, uint32_t count)
{
    while (count--) {
        while (!(USART1_SR & TXE)) {
        }
        USART1_DR = *bytes++;
    }
}

/* 32 bits of hardware, which are 25 s: enough for one inference, and the differences are added up. */
uint64_t hwnas_port_ticks(void)
{
    static uint64_t total;
    static uint32_t last;
    const uint32_t now = DWT_CYCCNT;
    total += now - last;
    last = now;
    return total;
}

void hwnas_port_mark(int is_running)
{
    GPIOA_BSRR = 1u << (is_running ? MARK_PIN : MARK_PIN + 16);
}

uint32_t hwnas_port_stack_bytes(void)
{
    const uint32_t *p = __stack_limit;
    while ((uintptr_t)p < (uintptr_t)__stack_top && *p == STACK_PAINT)
        p++;
    return (uint32_t)((uintptr_t)__stack_top - (uintptr_t)p);
}

void hwnas_port_restart(void)
{
    while (!(USART1_SR & TC)) {
    }
    __asm__ volatile("dsb" ::: "memory");
    SCB_AIRCR = 0x05FA0004u;
    __asm__ volatile("dsb" ::: "memory");
    for (;;) {
    }
}
