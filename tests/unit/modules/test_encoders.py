import re
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from unison.config import ModelConfig
from unison.errors import ConfigError, SpaceError
from unison.modules.encoders import CategoricalEncoder, FlattenEncoder, ImageEncoder, MLPEncoder, build_encoder
from unison.modules.encoders.image import default_conv_layers, image_layout


def features_of(space: gym.Space[Any], **settings: Any) -> MLPEncoder:
    return build_encoder(space, ModelConfig(hidden_sizes=(), **settings))


def test_a_vector_reaches_the_hidden_layers_as_it_is() -> None:
    values = torch.randn(5, 3)
    torch.testing.assert_close(features_of(spaces.Box(-1, 1, (3,)))(values), values)


def test_the_hidden_layers_are_what_the_settings_say() -> None:
    encoder = build_encoder(spaces.Box(-1, 1, (3,)), ModelConfig(hidden_sizes=(7, 5), activation="relu"))
    values = torch.randn(4, 3)
    first, second = encoder.layers
    expected = torch.relu(second(torch.relu(first(values))))
    torch.testing.assert_close(encoder(values), expected)
    assert encoder.output_size == 5


@pytest.mark.parametrize("activation", ["tanh", "relu", "elu", "gelu", "silu", "leaky_relu"])
def test_every_activation_of_the_settings_is_the_one_of_that_name(activation: str) -> None:
    encoder = build_encoder(spaces.Box(-1, 1, (3,)), ModelConfig(hidden_sizes=(6,), activation=activation))
    values = 3 * torch.randn(8, 3)
    functions = {
        "tanh": torch.tanh,
        **{name: getattr(torch.nn.functional, name) for name in ("relu", "elu", "gelu", "silu", "leaky_relu")},
    }
    torch.testing.assert_close(encoder(values), functions[activation](encoder.layers[0](values)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.int8, torch.bool])
def test_other_numbers_are_cast(dtype: torch.dtype) -> None:
    encoder = build_encoder(spaces.Box(-1, 1, (3,)), ModelConfig())
    values = torch.randint(0, 2, (4, 3))
    torch.testing.assert_close(encoder(values.to(dtype)), encoder(values.float()))


def test_a_double_precision_module_computes_in_double_precision() -> None:
    encoder = build_encoder(spaces.Box(-1, 1, (3,)), ModelConfig()).double()
    assert encoder(torch.randn(4, 3, dtype=torch.float64)).dtype is torch.float64


def test_boxes_of_any_rank_are_flattened() -> None:
    assert torch.equal(FlattenEncoder(spaces.Box(-1, 1, ()))(torch.tensor([1.0, 2.0])), torch.tensor([[1.0], [2.0]]))
    values = torch.randn(4, 2, 3)
    torch.testing.assert_close(features_of(spaces.Box(-1, 1, (2, 3)))(values), values.reshape(4, 6))
    values = torch.randn(4, 5, 2, 3, 2, 2)
    torch.testing.assert_close(features_of(spaces.Box(-1, 1, (2, 3, 2, 2)))(values), values.reshape(4, 5, 24))


def test_bytes_are_scaled_to_one() -> None:
    space = spaces.Box(0, 255, (3,), np.uint8)
    values = torch.tensor([[0, 51, 255]], dtype=torch.uint8)
    torch.testing.assert_close(features_of(space)(values), torch.tensor([[0.0, 0.2, 1.0]]))
    few = spaces.Box(0, 5, (3,), np.uint8)
    torch.testing.assert_close(features_of(few)(values.clamp(max=5)), torch.tensor([[0.0, 1.0, 1.0]]))


def test_discrete_is_one_hot_from_its_own_start() -> None:
    encoder = features_of(spaces.Discrete(3, start=-1))
    assert torch.equal(encoder(torch.tensor([-1, 1, 0])), torch.eye(3)[[0, 2, 1]])
    assert encoder(torch.tensor([[-1, 1]])).shape == (1, 2, 3)


def test_multi_discrete_is_one_hot_side_by_side() -> None:
    encoder = features_of(spaces.MultiDiscrete([2, 3], start=[0, 5]))
    assert torch.equal(encoder(torch.tensor([[1, 5], [0, 7]])), torch.tensor([[0.0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]))
    grid = features_of(spaces.MultiDiscrete([[2, 2], [2, 2]]))
    assert torch.equal(grid(torch.tensor([[[0, 1], [1, 0]]])), torch.tensor([[1.0, 0, 0, 1, 0, 1, 1, 0]]))


def test_many_values_are_embedded() -> None:
    at_the_limit, above = features_of(spaces.Discrete(64)), features_of(spaces.Discrete(65, start=10))
    assert at_the_limit.output_size == 64
    assert not list(at_the_limit.parameters())
    (table,) = above.parameters()
    assert table.shape == (65, 64)
    torch.testing.assert_close(above(torch.tensor([10, 74])), table[[0, 64]])


def test_only_the_large_components_are_embedded() -> None:
    encoder = CategoricalEncoder(spaces.MultiDiscrete([3, 100, 2], start=[0, 4, 0]))
    (embedding,) = encoder.embeddings
    encoded = encoder(torch.tensor([[2, 9, 1]]))
    torch.testing.assert_close(encoded[0, :5], torch.tensor([0.0, 0, 1, 0, 1]))
    torch.testing.assert_close(encoded[0, 5:], embedding.weight[5])


def test_multi_binary_is_taken_as_it_is() -> None:
    values = torch.randint(0, 2, (4, 2, 3), dtype=torch.int8)
    torch.testing.assert_close(features_of(spaces.MultiBinary((2, 3)))(values), values.reshape(4, 6).float())
    torch.testing.assert_close(features_of(spaces.MultiBinary(6))(values.reshape(4, 6)), values.reshape(4, 6).float())


def test_parts_of_dict_and_tuple_come_in_the_order_of_the_space() -> None:
    space = spaces.Dict({"b": spaces.Box(-1, 1, (2,)), "a": spaces.Tuple((spaces.Discrete(2), spaces.MultiBinary(1)))})
    observation = {
        "b": torch.tensor([[0.5, 0.25]]),
        "a": (torch.tensor([1]), torch.tensor([[1]], dtype=torch.int8)),
    }
    one_by_one = {"a": [0.0, 1.0, 1.0], "b": [0.5, 0.25]}
    expected = [number for key in space.spaces for number in one_by_one[key]]
    torch.testing.assert_close(features_of(space)(observation), torch.tensor([expected]))


def test_images_are_understood_with_channels_first_and_last() -> None:
    assert image_layout(spaces.Box(0, 1, (84, 80, 3))) == (True, (3, 84, 80))
    assert image_layout(spaces.Box(0, 1, (4, 84, 80))) == (False, (4, 84, 80))
    assert image_layout(spaces.Box(0, 1, (8, 8, 8))) == (True, (8, 8, 8))
    last = build_encoder(spaces.Box(0, 255, (12, 10, 3), np.uint8), ModelConfig())
    first = build_encoder(spaces.Box(0, 255, (3, 12, 10), np.uint8), ModelConfig())
    first.load_state_dict(last.state_dict())
    images = torch.randint(0, 256, (4, 12, 10, 3), dtype=torch.uint8)
    torch.testing.assert_close(first(images.permute(0, 3, 1, 2)), last(images))
    torch.testing.assert_close(last(images.reshape(2, 2, 12, 10, 3)), last(images).reshape(2, 2, -1))


def test_convolutions_are_followed_by_relu() -> None:
    encoder = ImageEncoder(spaces.Box(0, 1, (2, 9, 9)), [(3, 3, 2), (4, 2, 1)])
    images = torch.randn(5, 2, 9, 9)
    first, second = encoder.layers
    expected = torch.relu(second(torch.relu(first(images)))).flatten(1)
    torch.testing.assert_close(encoder(images), expected)


def test_images_of_bytes_are_scaled_and_those_of_floats_are_not() -> None:
    of_bytes = ImageEncoder(spaces.Box(0, 255, (10, 10, 3), np.uint8), None)
    of_floats = ImageEncoder(spaces.Box(0, 1, (10, 10, 3)), None)
    of_floats.load_state_dict(of_bytes.state_dict())
    images = torch.randint(0, 256, (2, 10, 10, 3), dtype=torch.uint8)
    torch.testing.assert_close(of_floats(images / 255.0), of_bytes(images))
    torch.testing.assert_close(of_floats(images.double() / 255.0), of_bytes(images))


@pytest.mark.parametrize("side", [5, 7, 10, 12, 23, 24, 36, 59, 60, 64, 84, 96, 210])
def test_default_convolutions_fit_images_of_every_size(side: int) -> None:
    encoder = ImageEncoder(spaces.Box(0, 255, (side, side + 3, 3), np.uint8), None)
    images = torch.zeros(2, side, side + 3, 3, dtype=torch.uint8)
    assert encoder(images).shape == (2, encoder.output_size)


def test_default_convolutions_of_atari_are_those_of_the_paper() -> None:
    assert default_conv_layers(84, 84) == [(32, 8, 4), (64, 4, 2), (64, 3, 1)]
    assert ImageEncoder(spaces.Box(0, 255, (84, 84, 4), np.uint8), None).output_size == 3136


def test_conv_layers_take_effect() -> None:
    encoder = build_encoder(spaces.Box(0, 1, (10, 10, 2)), ModelConfig(conv_layers=[(8, 3, 2), (4, 2, 1)]))
    assert isinstance(encoder.features, ImageEncoder)
    assert [tuple(layer.weight.shape) for layer in encoder.features.layers] == [(8, 2, 3, 3), (4, 8, 2, 2)]
    assert encoder.features.output_size == 4 * 3 * 3


def test_small_boxes_of_rank_3_are_images_only_if_conv_layers_say_so() -> None:
    space = spaces.Box(0, 1, (4, 4, 2))
    assert isinstance(build_encoder(space, ModelConfig()).features, FlattenEncoder)
    assert isinstance(build_encoder(space, ModelConfig(conv_layers=[(8, 3, 1)])).features, ImageEncoder)


def test_conv_layers_that_do_not_fit_are_named() -> None:
    settings = ModelConfig(conv_layers=[(8, 5, 2), (4, 4, 1)])
    with pytest.raises(ConfigError, match=re.escape("conv_layers[1] = (4, 4, 1)") + ".*3x3 is left"):
        build_encoder(spaces.Box(0, 1, (10, 10, 2)), settings)
    with pytest.raises(ConfigError, match="holds no image"):
        build_encoder(spaces.Box(0, 1, (10,)), settings)


def test_unknown_spaces_are_named_with_their_place() -> None:
    with pytest.raises(SpaceError, match=r"Text\(.*is of type Text, which no encoder handles"):
        features_of(spaces.Text(5))
    nested = spaces.Dict({"a": spaces.Tuple((spaces.Discrete(2), spaces.Sequence(spaces.Discrete(2))))})
    with pytest.raises(SpaceError, match=r"'a/1' of the observation space Dict.*is of type Sequence"):
        features_of(nested)


@pytest.mark.parametrize("space", [spaces.Box(-1, 1, (0,)), spaces.Box(-1, 1, (2, 0)), spaces.Tuple(())])
def test_spaces_without_numbers_are_refused(space: gym.Space[Any]) -> None:
    with pytest.raises(SpaceError, match="nothing to encode"):
        features_of(space)


@pytest.mark.parametrize(
    "space",
    [spaces.Box(-1, 1, (3,)), spaces.Box(0, 255, (10, 10, 3), np.uint8), spaces.Discrete(4), spaces.Discrete(99)],
)
def test_an_empty_batch_gives_no_features(space: gym.Space[Any]) -> None:
    encoder = build_encoder(space, ModelConfig())
    empty = torch.zeros((0, *space.shape), dtype=torch.from_numpy(np.zeros((), space.dtype)).dtype)
    assert encoder(empty).shape == (0, 64)
