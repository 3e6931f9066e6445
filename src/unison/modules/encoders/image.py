"""The convolutional network, chosen for images."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unison.errors import ConfigError
from unison.modules.encoders.base import Encoder
from unison.modules.encoders.flatten import byte_scale
from unison.modules.initialization import HIDDEN_GAIN, orthogonal
from unison.modules.spaces import Box, Space, is_box
from unison.types import Tree

ConvLayer = tuple[int, int, int]
"""Output channels, kernel size, stride."""

MIN_IMAGE_SIDE = 5
"""A Box of rank 3 with a shorter side is not taken for an image."""


def image_layout(space: Box) -> tuple[bool, tuple[int, int, int]]:
    """Whether the channels come last, and (channels, height, width), of a Box of rank 3.

    The axis of the channels is the shorter of the first and the last; the last, if they are equal.
    """
    first, middle, last = space.shape
    channels_last = last <= first
    return channels_last, (last, first, middle) if channels_last else (first, middle, last)


def is_image(space: Space) -> bool:
    """Whether a space looks like an image: a Box of rank 3 whose height and width are at least `MIN_IMAGE_SIDE`."""
    return is_box(space) and len(space.shape) == 3 and min(image_layout(space)[1][1:]) >= MIN_IMAGE_SIDE


def default_conv_layers(height: int, width: int) -> list[ConvLayer]:
    """The layers for an image of this size.

    From 60 pixels on those of Mnih et al. 2015 (Nature 518, "Human-level control"); smaller images get smaller
    kernels and strides, down to those that Young and Tian 2019 (MinAtar) use for 10x10.
    """
    side = min(height, width)
    if side >= 60:
        return [(32, 8, 4), (64, 4, 2), (64, 3, 1)]
    if side >= 24:
        return [(32, 4, 2), (64, 4, 2), (64, 3, 1)]
    if side >= 12:
        return [(16, 3, 2), (32, 3, 1)]
    return [(16, 3, 1)]


class ImageEncoder(Encoder):
    """Convolutions with ReLU (Mnih et al. 2015), flattened.

    Takes `[..., H, W, C]` or `[..., C, H, W]`, told apart by `image_layout`. Images of uint8 are scaled to [0, 1].

    Raises:
        ConfigError: a layer's kernel is larger than what the layers before it leave of the image.
    """

    def __init__(self, space: Box, conv_layers: Sequence[ConvLayer] | None) -> None:
        super().__init__()
        self.channels_last, (channels, height, width) = image_layout(space)
        self.scale = byte_scale(space)
        layers = default_conv_layers(height, width) if conv_layers is None else list(conv_layers)
        self.layers = nn.ModuleList()
        for index, (out_channels, kernel, stride) in enumerate(layers):
            if kernel > min(height, width):
                raise ConfigError(
                    f"conv_layers[{index}] = {(out_channels, kernel, stride)} has a kernel of {kernel}, but only "
                    f"{height}x{width} is left of the observation space {space}. Use a smaller kernel or smaller "
                    f"strides before it; conv_layers=None chooses layers that fit."
                )
            layer = nn.Conv2d(channels, out_channels, kernel, stride)
            orthogonal(layer, HIDDEN_GAIN)
            self.layers.append(layer)
            channels, height, width = out_channels, (height - kernel) // stride + 1, (width - kernel) // stride + 1
        self.output_size = math.prod((channels, height, width))

    def forward(self, observations: Tree) -> Tensor:
        """Encode images `[..., 3 dimensions]` as `[..., output_size]`."""
        images: Tensor = observations
        leading = images.shape[:-3]
        # Not reshape(-1, ...): the rows of an empty batch cannot be inferred.
        images = images.flatten(0, -4) if len(leading) != 1 else images
        if self.channels_last:
            images = images.movedim(-1, -3)
        if images.dtype is not torch.float32:
            images = images.to(next(self.parameters()).dtype)
        if self.scale is not None:
            images = images * self.scale
        for layer in self.layers:
            images = torch.relu(layer(images))
        features = images.flatten(1)
        return features if len(leading) == 1 else features.reshape(*leading, self.output_size)
