"""Encoders: from observations of any supported space to a vector of features."""

from unison.modules.encoders.base import Encoder
from unison.modules.encoders.build import build_encoder
from unison.modules.encoders.categorical import CategoricalEncoder
from unison.modules.encoders.flatten import FlattenEncoder
from unison.modules.encoders.image import ImageEncoder
from unison.modules.encoders.mlp import MLPEncoder
from unison.modules.encoders.nested import NestedEncoder
from unison.modules.encoders.recurrent import RecurrentLayer

__all__ = [
    "CategoricalEncoder",
    "Encoder",
    "FlattenEncoder",
    "ImageEncoder",
    "MLPEncoder",
    "NestedEncoder",
    "RecurrentLayer",
    "build_encoder",
]
