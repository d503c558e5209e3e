/* What the kernels' inner functions for NEON of AArch64 share. They read the same layouts and give the same results, bit by bit, as the
 * portable ones. HWNAS_NEON says that there are such functions. */
#ifndef HWNAS_NEON_H
#define HWNAS_NEON_H

#if defined(__ARM_NEON) && defined(__aarch64__)

#define HWNAS_NEON 1

#include <arm_neon.h>

#include "hwnas_dsp.h"
#include "hwnas_kernels.h"

/* floor((acc * multiplier + 2^31) / 2^32) of four sums: the narrowing shift adds the half before it cuts. In assembly, because compilers
 * put another instruction in its place, which takes the Cortex-A53 four times as long. */
HWNAS_INLINE int32x4_t hwnas_neon_scale(int32x4_t acc, int32x4_t multiplier)
{
    int64x2_t low = vmull_s32(vget_low_s32(acc), vget_low_s32(multiplier)), high = vmull_high_s32(acc, multiplier);
    int32x4_t scaled;
    __asm__("rshrn %0.2s, %1.2d, #32" : "=w"(scaled) : "w"(low));
    __asm__("rshrn2 %0.4s, %1.2d, #32" : "+w"(scaled) : "w"(high));
    return scaled;
}

/* Eight outputs from scaled sums. Saturation to 16 bits in between changes nothing: what it cuts saturates to 8 bits as well. */
HWNAS_INLINE int8x8_t hwnas_neon_outputs(int32x4_t low, int32x4_t high, int16x8_t zero_point)
{
    return vqmovn_s16(vqaddq_s16(vqmovn_high_s32(vqmovn_s32(low), high), zero_point));
}

HWNAS_INLINE int32x4_t hwnas_neon_load4(const uint32_t *words)
{
    return vreinterpretq_s32_u32(vld1q_u32(words));
}

/* Weights of a group of four values k..k+3 for four outputs, `words` (4: int8, 8: int16) long: [0] has those of k, k+1, [1] the rest. */
HWNAS_INLINE int16x8x2_t hwnas_neon_group(const uint32_t *w, const int32_t words)
{
    if (words == 8)
        return vld2q_s16((const int16_t *)w);
    int16x4x2_t packed = vld2_s16((const int16_t *)w);
    int16x8x2_t group;
    group.val[0] = vmovl_s8(vreinterpret_s8_s16(packed.val[0]));
    group.val[1] = vmovl_s8(vreinterpret_s8_s16(packed.val[1]));
    return group;
}

/* Adds a group to four sums; its values k, k+1, k+2, k+3 stand at these lanes of x. */
#define HWNAS_NEON_ADD(acc, group, x, k0, k1, k2, k3) \
    do { \
        (acc) = vmlal_laneq_s16((acc), vget_low_s16((group).val[0]), (x), (k0)); \
        (acc) = vmlal_high_laneq_s16((acc), (group).val[0], (x), (k1)); \
        (acc) = vmlal_laneq_s16((acc), vget_low_s16((group).val[1]), (x), (k2)); \
        (acc) = vmlal_high_laneq_s16((acc), (group).val[1], (x), (k3)); \
    } while (0)

#endif
#endif
