"""Training a model, or distilling it from a teacher.

`arguments`, `trainer`, `distillation_trainer`: the trainers and their options; `callbacks`: what they do between steps;
`checks`: what they refuse; `search`: hyperparameters; `items`: what they make of data; `recalibration`: statistics of
batch norms; `validation`: whole files scored; `recipe`: options from YAML and the command line, and what they describe;
`data_options`, `data_arguments`: the data, and loading it; `model_arguments`: the model; `run`: from a recipe to
weights, curve and record; `muon`: an optimiser; `teacher_cache`: what a teacher gave, on disk; `curves`: the picture of
a run.
"""
