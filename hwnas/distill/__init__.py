"""Knowledge distillation: losses as pure functions and the table of their names."""

from hwnas.distill.losses import LOSSES, Loss, LossSettings

__all__ = ["LOSSES", "Loss", "LossSettings"]
