"""The encoder for an observation space."""

from collections.abc import Sequence

from unison.config import ModelConfig
from unison.errors import ConfigError, SpaceError
from unison.modules.encoders.base import Encoder
from unison.modules.encoders.categorical import CategoricalEncoder
from unison.modules.encoders.flatten import FlattenEncoder
from unison.modules.encoders.image import ConvLayer, ImageEncoder, is_image
from unison.modules.encoders.mlp import MLPEncoder
from unison.modules.encoders.nested import NestedEncoder
from unison.modules.spaces import Space, choices_of, is_box, is_multi_binary, parts_of


def build_encoder(space: Space, model_config: ModelConfig) -> MLPEncoder:
    """Build the encoder of a space: what its parts need, and the hidden layers on top.

    Box: as it is or flattened; images: convolutions; Discrete and MultiDiscrete: one-hot or embedded; MultiBinary: as
    it is; Dict and Tuple: their parts side by side.

    Raises:
        SpaceError: the space, or a part of it, is of a kind that no encoder handles.
        ConfigError: `conv_layers` do not fit the images, or there are none.
    """
    conv_layers = model_config.conv_layers
    if conv_layers is not None and not _has_rank_3(space):
        raise ConfigError(
            f"conv_layers is {conv_layers}, but the observation space {space} holds no image (Box of rank 3). "
            f"Leave conv_layers out for this module."
        )
    features: Encoder | None = None
    if is_box(space) and len(space.shape) == 1 and space.dtype != "uint8":
        input_size = space.shape[0]
    else:
        features = _features(space, conv_layers, root=space, path="")
        input_size = features.output_size
    if input_size == 0:
        raise SpaceError(f"The observation space {space} holds no numbers, so there is nothing to encode.")
    return MLPEncoder(input_size, model_config.hidden_sizes, model_config.activation, features)


def _features(space: Space, conv_layers: Sequence[ConvLayer] | None, *, root: Space, path: str) -> Encoder:
    """The encoder of one node of the space's tree, without hidden layers."""
    if is_box(space):
        image = len(space.shape) == 3 if conv_layers is not None else is_image(space)
        return ImageEncoder(space, conv_layers) if image else FlattenEncoder(space)
    if is_multi_binary(space):
        return FlattenEncoder(space)
    if choices_of(space) is not None:
        return CategoricalEncoder(space)
    parts = parts_of(space)
    if parts is not None:
        encoders = [_features(part, conv_layers, root=root, path=f"{path}/{key}") for key, part in parts]
        return NestedEncoder([key for key, _ in parts], encoders)
    what = f"The observation space {space}" if space is root else f"'{path[1:]}' of the observation space {root}"
    raise SpaceError(
        f"{what} is of type {type(space).__name__}, which no encoder handles. Encoders exist for Box, Discrete, "
        f"MultiDiscrete, MultiBinary, Dict and Tuple: convert the observation in the environment, or give a "
        f"module_class of your own."
    )


def _has_rank_3(space: Space) -> bool:
    parts = parts_of(space)
    if parts is not None:
        return any(_has_rank_3(part) for _, part in parts)
    return is_box(space) and len(space.shape) == 3
