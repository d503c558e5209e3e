"""Several calibrated teachers that answer as one. Torch; touches no files.

Averaging the probabilities of networks that differ in their seed alone already improves accuracy and uncertainty
(Lakshminarayanan et al., NeurIPS 2017); each member is calibrated before it is averaged, so that none speaks louder than it may.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Ensemble(nn.Module):
    """The mean of the members' probabilities; forward takes (B, C, T) and returns logits (B, K) and taps.

    logits = log(mean over members i of softmax(l_i / T_i)), so their softmax is that mean. `temperatures` (members,) are 1 until
    the members are calibrated. Taps: "stage1" ... "stageN" (B, sum of channels, L), the members' stages one after the other for as
    many stages as every member has, averaged in time to the shortest; "embedding" (B, sum of widths).
    """

    temperatures: Tensor

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("temperatures", torch.ones(len(members)))

    def set_temperatures(self, temperatures: Sequence[float]) -> None:
        """Temperature of each member, in order; part of the state and so of the content hash."""
        self.temperatures.copy_(torch.tensor(temperatures))

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits, taps = zip(*(member(x) for member in self.members), strict=True)
        scaled = torch.stack([one / t for one, t in zip(logits, self.temperatures, strict=True)])
        mean = F.log_softmax(scaled, dim=2).logsumexp(dim=0) - math.log(len(logits))
        return mean, {name: _join([tap[name] for tap in taps]) for name in taps[0] if all(name in tap for tap in taps)}


def _join(taps: Sequence[Tensor]) -> Tensor:
    """Taps (B, C_i, L_i) as (B, sum C_i, min L_i), or (B, C_i) as (B, sum C_i)."""
    if taps[0].ndim == 2:
        return torch.cat(list(taps), dim=1)
    length = min(tap.shape[2] for tap in taps)
    return torch.cat([tap if tap.shape[2] == length else F.adaptive_avg_pool1d(tap, length) for tap in taps], dim=1)
