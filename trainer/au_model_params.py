"""Shape of the AU regressor, apart from the network so that `--help` needs no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RegressorParams:
    """Shape of the network."""

    components: int = 256
    """Principal components of the landmarks that the network sees."""
    hidden: tuple[int, ...] = (256, 256, 128)
    """Widths of the hidden layers."""
    dropout: float = 0.0
    """Share of hidden values dropped in training."""
