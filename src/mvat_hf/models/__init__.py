"""Model families, one folder each."""

DEFAULT_MODEL = "mvat/manner-s-8.1gf"  # of the command line, the page and the pipeline
