/* Linux: the line is standard input and output, the counter a clock of the machine in nanoseconds. The program ends with its input. Serves
 * AArch64 watches (`adb shell`), qemu-aarch64 and the machine that builds it. */
#define _POSIX_C_SOURCE 200112L
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "hwnas_port.h"

#if defined(__aarch64__)
#define MACHINE "AArch64 Linux"
#elif defined(__x86_64__)
#define MACHINE "x86-64 Linux"
#else
#define MACHINE "Linux"
#endif

hwnas_port hwnas_port_start(void)
{
    const hwnas_port port = {MACHINE ", process", 0, HWNAS_LINK_NANOSECONDS, 1000000000u};
    return port;
}

uint32_t hwnas_port_read(uint8_t *bytes, uint32_t size)
{
    const ssize_t count = read(STDIN_FILENO, bytes, size);
    if (count > 0)
        return (uint32_t)count;
    if (count < 0 && errno == EINTR)
        return 0;
    exit(count ? EXIT_FAILURE : EXIT_SUCCESS);
}

void hwnas_port_write(const uint8_t *bytes, uint32_t count)
{
    while (count) {
        const ssize_t written = write(STDOUT_FILENO, bytes, count);
        if (written < 0 && errno != EINTR)
            exit(EXIT_FAILURE);
        if (written > 0) {
            bytes += written;
            count -= (uint32_t)written;
        }
    }
}

uint64_t hwnas_port_ticks(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void hwnas_port_mark(int is_running)
{
    (void)is_running;
}

uint32_t hwnas_port_stack_bytes(void)
{
    return HWNAS_LINK_UNKNOWN;
}

/* A process cannot reset its machine: the program starts over by itself. */
void hwnas_port_restart(void)
{
}
