"""C functions of depthwise shapes that get one of their own: assembly on Cortex-M4, elsewhere the generic kernel. Text only; no files.

Their control flow depends on the shape and on the length of the signal only. Their output may be their input.
"""

from __future__ import annotations

from collections.abc import Iterable

from hwnas.export.depthwise.cortex_m4 import assemble
from hwnas.export.depthwise.steps import Filter, Steps
from hwnas.export.depthwise.thumb import OFFSET_MAX

__all__ = ["GENERIC", "Filter", "declarations", "function", "is_specialised", "period", "source"]

GENERIC = "hwnas_depthwise_conv1d"
CORTEX_M4 = "#if defined(__ARM_FEATURE_DSP) && defined(__thumb2__)"  # where the functions exist
GENERIC_DELAY = 4  # outputs that it treats as an end of the signal, at least
KERNEL_MAX, STRIDE_MAX = 11, 4

HEAD = """/* Written by hwnas: depthwise convolutions, each of one shape, and of signals of any length.
 *
 * Packed weights as `hwnas_depthwise_conv1d` has them. `out` may be `in`. Comments name what an instruction reads or computes:
 * `taps a.. * pair b` are the taps a and a + 1 on the pair of neighbouring samples b, 0 the oldest.
 */
#include "hwnas_kernels.h"
"""


def is_specialised(filter: Filter) -> bool:
    """Whether the shape gets a function of its own."""
    kernel, stride, dilation, channels = filter
    if not (1 <= kernel <= KERNEL_MAX and 1 <= stride <= STRIDE_MAX):
        return False
    if dilation > 1 and (stride > 1 or kernel % 2 == 0):  # its padding is not the same for all phases
        return False
    return Steps(kernel, stride).advance * dilation * channels <= OFFSET_MAX


def function(filter: Filter) -> str:
    """Name of the C function that computes the shape."""
    return "{}_k{}_s{}_d{}_c{}".format(GENERIC, *filter) if is_specialised(filter) else GENERIC


def source(filters: Iterable[Filter]) -> str:
    """C text of the functions of those of `filters` that have one; empty when there is none."""
    texts = [_source(filter) for filter in sorted(set(filters)) if is_specialised(filter)]
    return "\n".join([HEAD, CORTEX_M4, *texts, "#endif\n"]) if texts else ""


def declarations(filters: Iterable[Filter]) -> str:
    """C text that names the functions of `filters`: their own on Cortex-M4, elsewhere other names of the generic kernel."""
    names = [function(filter) for filter in sorted(set(filters)) if is_specialised(filter)]
    if not names:
        return ""
    own = [f"hwnas_kernel {name};" for name in names]
    return "\n".join([CORTEX_M4, *own, "#else", *(f"#define {name} {GENERIC}" for name in names), "#endif\n"])


def period(filter: Filter) -> tuple[int, int]:
    """(samples, shortest): from length `shortest` on, cycles grow by the same amount with every so many samples more."""
    kernel, stride, dilation, _ = filter
    if not is_specialised(filter):
        return stride, kernel * dilation + (GENERIC_DELAY + 2) * stride
    steps = Steps(kernel, stride)
    return steps.turn * steps.advance * dilation, steps.shortest * dilation


def _source(filter: Filter) -> str:
    name = function(filter)
    lines = "\n".join(f'        "{text}\\n"{f" /* {note} */" if note else ""}' for text, note in assemble(filter).lines)
    return f"""
hwnas_kernel {name};
__attribute__((naked)) void {name}(
    const void *params __attribute__((unused)), const int8_t *in __attribute__((unused)), int8_t *out __attribute__((unused)),
    void *aux __attribute__((unused)))
{{
    __asm__(
{lines}
    );
}}
"""
