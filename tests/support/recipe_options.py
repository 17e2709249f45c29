"""What tests of recipes parse: the options of a run that distils."""

from mvat_hf.training.arguments import DistillationConfig
from mvat_hf.training.recipe import DataArguments, ModelArguments

KINDS = [DistillationConfig, ModelArguments, DataArguments]
