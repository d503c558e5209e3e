"""hwnas: hardware-aware neural architecture search and distillation for heart-signal models on wearables."""

__version__ = "0.1.0"
