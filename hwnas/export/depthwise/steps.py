"""How a depthwise convolution moves along one channel, in steps that are all alike but for the ends. Pure Python; no files.

Samples of a channel are held as pairs of 16-bit halves, as many as the windows of one step cover. A step drops the oldest pairs, loads
as many new ones, and computes the outputs whose windows the pairs then cover: one output, or two when the stride is odd, so that a step
always moves by whole pairs. The newest sample of a step is the last of its last window.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import NamedTuple

from hwnas.graph import same_length, same_padding

SHORT_TURN = 4  # steps a turn of the loop where one or two would do, to share its three cycles


class Filter(NamedTuple):
    """A depthwise shape: what is known when its function is compiled."""

    kernel: int
    stride: int
    dilation: int
    channels: int


class Mac(NamedTuple):
    """Multiply-accumulate of one or two taps.

    Attributes:
        output: which of the step's outputs.
        pair: the pair of samples, 0 the oldest.
        weights: the pair of weights, named by its first tap.
        halves: of weights and samples, "b" or "t" each; empty when both halves count.
    """

    output: int
    pair: int
    weights: int
    halves: str


class Begin(NamedTuple):
    """How the first step differs from the others.

    Attributes:
        newest: position of the newest sample of step 0.
        skipped: outputs that step 0 does not have.
        head: steps (0 or 1) before those whose samples are all inside the signal.
    """

    newest: int
    skipped: int
    head: int


class Ends(NamedTuple):
    """Both ends of a signal, the same for all lengths with one remainder by `advance`.

    Attributes:
        begin: the left one.
        right: samples beyond the signal that the last window covers; 0 where it ends inside.
        tail: steps that have such samples.
    """

    begin: Begin
    right: int
    tail: int


@dataclass(frozen=True)
class Steps:
    """Steps of one kernel and stride; positions count from the first sample of the signal, indices from the oldest sample held."""

    kernel: int
    stride: int

    @property
    def outputs(self) -> int:
        """Outputs of a step."""
        return 1 + self.stride % 2

    @property
    def advance(self) -> int:
        """Samples of a step."""
        return self.outputs * self.stride

    @property
    def pairs(self) -> int:
        """Pairs held."""
        return (self.kernel + self.advance - self.stride + 1) // 2

    @property
    def fresh(self) -> range:
        """The pairs that a step loads."""
        return range(max(self.pairs - self.advance // 2, 0), self.pairs)

    @property
    def turn(self) -> int:
        """Steps until every pair is in the same register again, or a multiple of that."""
        period = self.pairs // gcd(self.pairs, self.advance // 2) if self.fresh.start else 1
        return period if period > 2 else SHORT_TURN

    def window(self, output: int) -> range:
        """Indices of the samples of an output."""
        start = 2 * self.pairs - self.kernel - (self.outputs - 1 - output) * self.stride
        return range(start, start + self.kernel)

    @cached_property
    def first(self) -> int:
        """Index of the first sample that a step loads."""
        return next(i for pair in self.fresh for i in (2 * pair, 2 * pair + 1) if self.is_needed(i))

    def is_needed(self, index: int) -> bool:
        """Whether this step or a later one reads the sample."""
        return any(index - later in self.window(o) for later in range(0, 2 * self.pairs, self.advance) for o in range(self.outputs))

    def is_single(self, pair: int) -> bool:
        """Whether only one half of the pair is ever read; it is then kept in the lower one."""
        while pair not in self.fresh:
            pair += self.advance // 2
        return not (self.is_needed(2 * pair) and self.is_needed(2 * pair + 1))

    @cached_property
    def macs(self) -> tuple[Mac, ...]:
        """All of a step, output by output."""
        spans = []
        for output in range(self.outputs):
            window = self.window(output)
            tap = 0
            while tap < self.kernel:
                index = window[tap]
                taps = 2 if index % 2 == 0 and tap + 1 < self.kernel else 1
                spans.append((output, index, tap, taps))
                tap += taps
        whole = {tap for _, _, tap, taps in spans if taps == 2}
        found = []
        for output, index, tap, taps in spans:
            weights, halves = tap, ""
            if taps == 1:
                weights = next((w for w in (tap, tap - 1) if w in whole), tap & ~1)
                halves = "bt"[tap - weights] + ("b" if self.is_single(index // 2) else "bt"[index % 2])
            found.append(Mac(output, index // 2, weights, halves))
        return tuple(found)

    @cached_property
    def words(self) -> list[int]:
        """First taps of the pairs of weights that steps use."""
        return sorted({mac.weights for mac in self.macs})

    def ends(self, remainder: int) -> Ends:
        """The ends of a signal whose length leaves `remainder` when divided by `advance`."""
        length = remainder + self.advance * (self.kernel + 1)
        count = same_length(length, self.stride)
        left = same_padding(length, self.kernel, self.stride).left
        right = max((count - 1) * self.stride + self.kernel - length - left, 0)
        skipped = -count % self.outputs
        newest = (self.outputs - 1 - skipped) * self.stride - left + self.kernel - 1
        head = int(skipped > 0 or newest + 1 - 2 * self.pairs + self.first < 0)
        return Ends(Begin(newest, skipped, head), right, -(-right // self.advance))

    def full_steps(self, length: int) -> int:
        """Steps all of whose samples are inside a signal of `length` samples; not positive when head and tail would meet."""
        ends = self.ends(length % self.advance)
        return -(-length // self.advance) - ends.begin.head - ends.tail

    @cached_property
    def shortest(self) -> int:
        """From this length on there is always such a step."""
        return 1 + max((n for n in range(1, self.advance * (self.kernel + 2)) if self.full_steps(n) < 1), default=0)
