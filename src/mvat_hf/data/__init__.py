"""Audio files, the data sets of the field as `datasets` objects, and the collator that crops them.

`audio`: reading and resampling; `resampled`: copies at another rate; `pairs`: matched folders; `parquet`: the form of
the Hub; `valentini`, `dns`: the two corpora; `mixing`: speech plus noise on the fly; `segments`: pairs cut on a fixed
grid; `collator`: seeded crops as model input; `parallel`: work on many files at once.
"""
