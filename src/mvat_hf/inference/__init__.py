"""Enhancing recordings.

`enhancing`: arrays and files of any rate and length; `folders`: every recording below a folder; `writing`: the files
that are written; `picture`: the picture of a video; `full_band`: what lies above the model's band; `live`: audio as it
comes in; `microphone`: from there to the loudspeakers. `enhancer`: models to enhance with; `checkpoints`: their files;
`exported_checkpoints`: their graphs in other runtimes; `chunks`: a model on a stream.
"""
