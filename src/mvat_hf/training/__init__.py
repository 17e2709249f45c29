"""Training a model, or distilling it from a teacher.

`arguments`, `trainer`, `distillation_trainer`: the trainers and their options; `callbacks`: what they do between steps;
`recipe`: options from YAML and the command line, and what they describe; `run`: from a recipe to weights, curve and
record; `muon`: an optimiser; `teacher_cache`: what a teacher gave, on disk; `curves`: the picture of a run.
"""
