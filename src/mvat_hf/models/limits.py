"""The values that a configuration may have, so that a MANNER can be made of it."""

import math
from typing import Any

# far beyond any model of this kind; more is refused before memory is asked for
LARGEST = {
    "depth": 16, "kernel_size": 1024, "stride": 1024, "growth": 1024, "num_heads": 64, "segment_len": 2**16,
    "sampling_rate": 1_000_000,
}  # fmt: skip
MOST_CHANNELS = 2**16


class ConfigLimits:
    """Mixin of a strict data class, which calls whatever begins with `validate_` once its fields are set."""

    def validate_network(self: Any):
        """A network can be made of the fields."""
        self.check_sizes()
        self.check_attention_levels()

    def check_sizes(self: Any):
        """Every size is a count of something: at least one, and not beyond reason."""
        for name in ("hidden_size", "depth", "kernel_size", "stride", "growth", "num_heads", "sampling_rate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name, largest in LARGEST.items():
            if getattr(self, name) > largest:
                raise ValueError(f"{name} must be at most {largest}, got {getattr(self, name)}")
        if self.level_channels(self.depth) > MOST_CHANNELS:
            raise ValueError(
                f"hidden_size ({self.hidden_size}) times growth ({self.growth}) at every level must come to at most "
                f"{MOST_CHANNELS} channels, got {self.level_channels(self.depth)} at depth {self.depth}"
            )
        if self.kernel_size < self.stride:
            raise ValueError(f"kernel_size must not be below stride ({self.stride}), got {self.kernel_size}")
        if self.segment_len < 2 or self.segment_len % 2:
            raise ValueError(f"segment_len must be an even number of at least 2, got {self.segment_len}")
        if self.high_pass_hz != 0 and not 1 <= self.high_pass_hz < self.sampling_rate / 2:
            raise ValueError(
                "high_pass_hz must be 0, or at least 1 and below half the sampling rate "
                f"({self.sampling_rate / 2:g} Hz), got {self.high_pass_hz}"
            )
        if not 0 < self.initializer_scale < math.inf:
            raise ValueError(f"initializer_scale must be above 0 and finite, got {self.initializer_scale}")

    def check_attention_levels(self: Any):
        """Attention stands on levels that exist, and its three branches need at least two channels each."""
        levels = self.attention_levels
        if isinstance(levels, str):
            if levels not in ("all", "deepest", "none"):
                expected = '"all", "deepest", "none" or a list of levels'
                raise ValueError(f'attention_levels must be {expected}, got "{levels}"')
        else:
            wrong = [level for level in levels if not 0 <= level < self.depth]
            if wrong or len(set(levels)) != len(levels):
                got = list(levels) if len(levels) <= LARGEST["depth"] else f"{len(levels)} of them"
                raise ValueError(
                    f"attention_levels must be distinct levels from 0 to {self.depth - 1} (depth {self.depth}), "
                    f"got {got}"
                )
        for level in self.attended_levels:
            if self.level_channels(level) < 6:
                raise ValueError(
                    f"multi-view attention needs at least 6 channels, level {level} has {self.level_channels(level)}: "
                    f"raise hidden_size ({self.hidden_size}) or leave that level out of attention_levels"
                )
