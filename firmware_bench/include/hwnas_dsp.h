/* The handful of Cortex-M4 DSP instructions that the kernels use, and what they compute in portable C: same results, bit by bit. */
#ifndef HWNAS_DSP_H
#define HWNAS_DSP_H

#include <stdint.h>

#define HWNAS_INLINE static inline __attribute__((always_inline))
/* Rarely run: kept small and out of the loops' registers. */
#define HWNAS_COLD static __attribute__((noinline, cold, unused))

/* Unrolled, the loop that follows is larger and no faster. */
#if defined(__clang__)
#define HWNAS_ROLLED _Pragma("clang loop unroll(disable) vectorize(disable)")
#else
#define HWNAS_ROLLED
#endif

/* A function of assembly alone. Compilers must not reason from its empty body about arguments and registers. */
#if defined(__clang__)
#define HWNAS_ASSEMBLY static __attribute__((naked, noinline))
#else
#define HWNAS_ASSEMBLY static __attribute__((naked, noipa))
#endif

/* A "pair" is a word of two signed 16-bit values, the low one in bits 0..15. */

/* The pair (low, high). */
HWNAS_INLINE uint32_t hwnas_halves(int32_t low, int32_t high)
{
    return ((uint32_t)low & 0xFFFFu) | ((uint32_t)high << 16);
}

/* Unaligned word; a plain builtin, because `memcpy` becomes a call on a freestanding target. */
HWNAS_INLINE uint32_t hwnas_load(const void *p)
{
    uint32_t v;
    __builtin_memcpy(&v, p, 4);
    return v;
}

HWNAS_INLINE void hwnas_store(void *p, uint32_t v)
{
    __builtin_memcpy(p, &v, 4);
}

#if defined(__ARM_FEATURE_DSP)

/* (byte 0, byte 2) of v as a pair. */
HWNAS_INLINE uint32_t hwnas_even(uint32_t v)
{
    uint32_t r;
    __asm__("sxtb16 %0, %1" : "=r"(r) : "r"(v));
    return r;
}

/* (byte 1, byte 3) of v as a pair. */
HWNAS_INLINE uint32_t hwnas_odd(uint32_t v)
{
    uint32_t r;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(r) : "r"(v));
    return r;
}

/* acc + a.low * b.low + a.high * b.high */
HWNAS_INLINE int32_t hwnas_dual_mac(uint32_t a, uint32_t b, int32_t acc)
{
    int32_t r;
    __asm__("smlad %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(acc));
    return r;
}

HWNAS_INLINE int32_t hwnas_mac_low(uint32_t a, uint32_t b, int32_t acc)
{
    int32_t r;
    __asm__("smlabb %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(acc));
    return r;
}

HWNAS_INLINE int32_t hwnas_mac_high(uint32_t a, uint32_t b, int32_t acc)
{
    int32_t r;
    __asm__("smlatt %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(acc));
    return r;
}

/* zero_point + floor((acc * multiplier + 2^31) / 2^32), saturated to int8. */
HWNAS_INLINE int32_t hwnas_scale(int32_t acc, int32_t multiplier, int32_t zero_point)
{
    int32_t r;
    __asm__("smmlar %0, %1, %2, %3" : "=r"(r) : "r"(acc), "r"(multiplier), "r"(zero_point));
    __asm__("ssat %0, #8, %0" : "+r"(r));
    return r;
}

/* v >> 20, saturated to int8. */
HWNAS_INLINE int32_t hwnas_shift20(int32_t v)
{
    int32_t r;
    __asm__("ssat %0, #8, %1, asr #20" : "=r"(r) : "r"(v));
    return r;
}

/* Four values as the bytes of a word, first in bits 0..7. */
HWNAS_INLINE uint32_t hwnas_pack(int32_t a, int32_t b, int32_t c, int32_t d)
{
    uint32_t low = (uint32_t)a, high = (uint32_t)c;
    __asm__("bfi %0, %1, #8, #8" : "+r"(low) : "r"(b));
    __asm__("bfi %0, %1, #8, #8" : "+r"(high) : "r"(d));
    __asm__("pkhbt %0, %0, %1, lsl #16" : "+r"(low) : "r"(high));
    return low;
}

/* Larger of each signed byte. */
HWNAS_INLINE uint32_t hwnas_max4(uint32_t a, uint32_t b)
{
    uint32_t difference;
    __asm__("ssub8 %1, %0, %2\n\tsel %0, %0, %2" : "+r"(a), "=&r"(difference) : "r"(b) : "cc");
    return a;
}

#else

HWNAS_INLINE int32_t hwnas_byte(uint32_t v, int shift)
{
    return (int32_t)(((v >> shift) & 0xFFu) ^ 0x80u) - 0x80;
}

HWNAS_INLINE int32_t hwnas_half(uint32_t v, int shift)
{
    return (int32_t)(((v >> shift) & 0xFFFFu) ^ 0x8000u) - 0x8000;
}

HWNAS_INLINE uint32_t hwnas_even(uint32_t v)
{
    return ((uint32_t)hwnas_byte(v, 0) & 0xFFFFu) | ((uint32_t)hwnas_byte(v, 16) << 16);
}

HWNAS_INLINE uint32_t hwnas_odd(uint32_t v)
{
    return ((uint32_t)hwnas_byte(v, 8) & 0xFFFFu) | ((uint32_t)hwnas_byte(v, 24) << 16);
}

HWNAS_INLINE int32_t hwnas_mac_low(uint32_t a, uint32_t b, int32_t acc)
{
    return (int32_t)((uint32_t)acc + (uint32_t)(hwnas_half(a, 0) * hwnas_half(b, 0)));
}

HWNAS_INLINE int32_t hwnas_mac_high(uint32_t a, uint32_t b, int32_t acc)
{
    return (int32_t)((uint32_t)acc + (uint32_t)(hwnas_half(a, 16) * hwnas_half(b, 16)));
}

HWNAS_INLINE int32_t hwnas_dual_mac(uint32_t a, uint32_t b, int32_t acc)
{
    return hwnas_mac_high(a, b, hwnas_mac_low(a, b, acc));
}

HWNAS_INLINE int32_t hwnas_saturate(int64_t v)
{
    return v < -128 ? -128 : v > 127 ? 127 : (int32_t)v;
}

HWNAS_INLINE int32_t hwnas_scale(int32_t acc, int32_t multiplier, int32_t zero_point)
{
    return hwnas_saturate((((int64_t)acc * multiplier + 0x80000000ll) >> 32) + zero_point);
}

HWNAS_INLINE int32_t hwnas_shift20(int32_t v)
{
    return hwnas_saturate(v >> 20);
}

HWNAS_INLINE uint32_t hwnas_pack(int32_t a, int32_t b, int32_t c, int32_t d)
{
    return ((uint32_t)a & 0xFFu) | (((uint32_t)b & 0xFFu) << 8) | (((uint32_t)c & 0xFFu) << 16) | ((uint32_t)d << 24);
}

HWNAS_INLINE uint32_t hwnas_max4(uint32_t a, uint32_t b)
{
    uint32_t r = 0;
    for (int shift = 0; shift < 32; shift += 8)
        r |= (hwnas_byte(a, shift) >= hwnas_byte(b, shift) ? a : b) & (0xFFu << shift);
    return r;
}

#endif

/* Four sums, each plus the pair x times the next pair of weights of its output; returns where the weights go on. `words` (a constant)
 * is 4 where a pair of weights is a word, and 2 where a word holds those of two outputs as bytes. */
HWNAS_INLINE const uint32_t *hwnas_four_macs(uint32_t x, const uint32_t *w, int32_t *acc, int32_t words)
{
    for (int32_t i = 0; i < 4; i++) {
        uint32_t pair = words == 4 ? w[i] : i & 1 ? hwnas_odd(w[i >> 1]) : hwnas_even(w[i >> 1]);
        acc[i] = hwnas_dual_mac(x, pair, acc[i]);
    }
    return w + words;
}

HWNAS_COLD uint32_t hwnas_load_few(const int8_t *in, int32_t count)
{
    uint32_t v = 0;
    for (int32_t i = 0; i < count; i++)
        v |= (uint32_t)(uint8_t)in[i] << (8 * i);
    return v;
}

/* The first `count` (at most 4) bytes at `in`, zero beyond. */
HWNAS_INLINE uint32_t hwnas_load_bytes(const int8_t *in, int32_t count)
{
    return count >= 4 ? hwnas_load(in) : hwnas_load_few(in, count);
}

HWNAS_COLD void hwnas_store_few(int8_t *out, uint32_t v, int32_t count)
{
    for (int32_t i = 0; i < count; i++, v >>= 8)
        out[i] = (int8_t)(v & 0xFFu);
}

/* Writes the first `count` (at most 4) bytes of v. */
HWNAS_INLINE void hwnas_store_bytes(int8_t *out, uint32_t v, int32_t count)
{
    if (count >= 4)
        hwnas_store(out, v);
    else
        hwnas_store_few(out, v, count);
}

#endif
