"""What tests of enhancing share: a model that is any function of its input, and noise to give it."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

RATES = (8000, 16000, 22050, 44100, 48000)
SHORT = {"chunk_seconds": 0.25, "overlap_seconds": 0.05}  # 4000 and 800 samples at 16 kHz, a hop of 3200


class Fake(nn.Module):
    """A model that is `function` of its input; keeps what it was given."""

    def __init__(self, function=lambda values: values):
        super().__init__()
        self.function, self.chunks = function, []
        self.config = SimpleNamespace(sampling_rate=16000)
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def forward(self, values):
        self.chunks.append(values.numpy().copy())
        return SimpleNamespace(audio_values=self.function(values))


def noise(*shape, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)
