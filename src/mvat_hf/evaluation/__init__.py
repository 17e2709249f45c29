"""Measuring systems on pairs of clean and noisy recordings.

`evaluating`: the evaluation, with its record; `systems`: what can be measured: models, folders of enhanced files, and
the `peers`, other packages; `journal`: scores that an interrupted evaluation need not compute again; `report`: tables
and folders of results; `figures`: their pictures.
"""
