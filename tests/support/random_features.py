"""Features of no network, for tests of distances between them."""

import torch


def features(channels: int = 4, frames: int = 20, seed: int = 0, batch: int = 3) -> torch.Tensor:
    """(batch, channels, frames) of normal noise."""
    return torch.randn(batch, channels, frames, generator=torch.Generator().manual_seed(seed))
