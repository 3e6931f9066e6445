"""Action distributions, made from the inputs that a module puts out."""

from unison.modules.distributions.base import Distribution, DistributionType
from unison.modules.distributions.categorical import Bernoulli, Categorical, MultiCategorical
from unison.modules.distributions.gaussian import DiagonalGaussian, SquashedGaussian
from unison.modules.distributions.product import Product
from unison.modules.distributions.spaces import distribution_for, mask_logits

__all__ = [
    "Bernoulli",
    "Categorical",
    "DiagonalGaussian",
    "Distribution",
    "DistributionType",
    "MultiCategorical",
    "Product",
    "SquashedGaussian",
    "distribution_for",
    "mask_logits",
]
