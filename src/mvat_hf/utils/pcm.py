"""Integer samples (PCM)."""

FULL_SCALE = {"int16": 2**15, "int32": 2**31}  # by type of numpy
