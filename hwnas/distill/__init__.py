"""Knowledge distillation: losses as pure functions, combinations of them as text and settings, and the objective of a training."""

from hwnas.distill.objective import Batch, Objective, Targets, objective
from hwnas.distill.settings import DISTILLATIONS, LOSSES, Loss, LossSettings, read, write

__all__ = ["DISTILLATIONS", "LOSSES", "Batch", "Loss", "LossSettings", "Objective", "Targets", "objective", "read", "write"]
