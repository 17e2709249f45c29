"""The model in `manner/`, and what the package adds to it: README.md of the package says which file does what."""

DEFAULT_MODEL = "mvat/manner-s-8.1gf"  # of the command line, the page and the pipeline
