/* What compilers may call though no source here does, for programs without a C library: compiled with -DHWNAS_NO_LIBC only.
 *
 * Bytes are written through volatile, or a compiler would see that these loops are what they implement, and call it. */
#include <stddef.h>
#include <stdint.h>

#if defined(HWNAS_NO_LIBC)

#ifdef __cplusplus
extern "C" {
#endif

void *memcpy(void *to, const void *from, size_t count);
void *memmove(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);

void *memcpy(void *to, const void *from, size_t count)
{
    volatile uint8_t *t = (volatile uint8_t *)to;
    const uint8_t *f = (const uint8_t *)from;
    while (count--)
        *t++ = *f++;
    return to;
}

void *memmove(void *to, const void *from, size_t count)
{
    volatile uint8_t *t = (volatile uint8_t *)to;
    const uint8_t *f = (const uint8_t *)from;
    if ((uintptr_t)to <= (uintptr_t)from)
        return memcpy(to, from, count);
    while (count--)
        t[count] = f[count];
    return to;
}

void *memset(void *to, int value, size_t count)
{
    volatile uint8_t *t = (volatile uint8_t *)to;
    while (count--)
        *t++ = (uint8_t)value;
    return to;
}

#ifdef __cplusplus
}
#endif

#endif
