"""Small models of every shape, for tests that compare one way to compute them with another."""

# What the comparisons run on: all that a configuration can change, in a small network.
CONFIGS = [
    {"depth": 2, "attention_levels": "all"},
    {"depth": 3, "attention_levels": "deepest", "hidden_size": 7},
    {"depth": 2, "attention_levels": [1], "growth": 3, "kernel_size": 6, "segment_len": 32, "num_heads": 2},
    {"depth": 2, "attention_levels": "none", "hidden_size": 3, "kernel_size": 5, "stride": 3},
    # folded at 16 channels; a third of 45, which attend, stays 15
    {"depth": 2, "attention_levels": [1], "hidden_size": 15, "growth": 3},
]
