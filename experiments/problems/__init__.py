"""Problems: what is trained. A file of your own needs these four names."""

from experiments.problems.flax_modules import from_linen, from_nnx
from experiments.problems.problem import Problem
from experiments.records.metric import Metric

__all__ = ["Metric", "Problem", "from_linen", "from_nnx"]
