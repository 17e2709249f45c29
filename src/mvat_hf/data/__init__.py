"""Audio files, the data sets of the field as `datasets` objects, and the collator that crops them.

`audio`: reading and resampling, which go through `opening` (the library that opens a file), `structure` (what its bytes
tell), `containers` (FFmpeg) and `decoding` (decoding from the beginning on); `resampled`: copies at another rate;
`matching`: files matched by name; `pairs`: folders of such; `formatting`: how a data set gives audio as arrays;
`parquet`: the form of the Hub; `valentini`, `dns`: the two corpora; `mixing`: speech plus noise on the fly, with
`levels`, `augment` and `reverb`; `streaming`: streams without end, of mixtures, and `row_stream`: of the rows of a data
set; `segments`: pairs cut on a fixed grid; `collator`: seeded crops as model input; `batch_augmentation`: a collator
that augments; `parallel`: work on many files at once.
"""
