"""Audio files, the data sets of the field as `datasets` objects, and the collator that crops them.

`audio`: reading and resampling; `pairs`: matched folders; `valentini`, `dns`: the two corpora; `mixing`: speech plus
noise on the fly, with `levels`, `augment` and `reverb`; `streaming`: mixtures without end; `collator`: seeded crops as
model input; `batch_augmentation`: a collator that augments.
"""
