"""Settings of the default networks."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import Field, PositiveInt, Strict, model_validator

from unison.config.describe import Shown
from unison.config.settings import AnyDict, Settings

ItemT = TypeVar("ItemT")
ListOf = Annotated[tuple[ItemT, ...], Strict(False)]
"""A list in, a tuple kept."""
ConvLayer = Annotated[
    tuple[PositiveInt, PositiveInt, PositiveInt], Strict(False), Shown("[out_channels, kernel_size, stride]")
]


class ModelConfig(Settings):
    """Settings of the default actor-critic."""

    called: ClassVar[str] = "model_config"

    hidden_sizes: ListOf[PositiveInt] = Field((64, 64), description="Units of each hidden layer.")
    activation: Literal["tanh", "relu", "elu", "gelu", "silu", "leaky_relu"] = Field(
        "tanh", description="The nonlinearity after each hidden layer."
    )
    share_value_layers: bool = Field(False, description="Whether policy and value function share their encoder.")
    free_log_std: bool = Field(
        True, description="Whether a Gaussian's log-std is a parameter of its own instead of an output of the network."
    )
    conv_layers: ListOf[ConvLayer] | None = Field(
        None, description="The convolutions before the hidden layers; None chooses them for images."
    )
    lstm_size: PositiveInt | None = Field(None, description="Units of the recurrent layer; None for no recurrence.")
    cell: Literal["lstm", "gru"] = Field("lstm", description="The kind of recurrent layer.")
    max_seq_len: PositiveInt = Field(20, description="Steps of the sequences that a recurrent module is trained on.")
    normalize_observations: bool = Field(
        False, description="Whether the module normalizes Box observations by their running mean and variance."
    )
    frozen: bool = Field(
        False,
        description="Whether the weights never change: no gradient, no optimizer, whatever policies_to_train says.",
    )
    custom_model_config: AnyDict = Field({}, description="Settings of a custom module, unchecked.")

    @model_validator(mode="after")
    def _cell_needs_a_size(self) -> Self:
        if self.cell != "lstm" and self.lstm_size is None:
            raise ValueError(f"cell='{self.cell}' has no effect without lstm_size; set lstm_size")
        return self

    @classmethod
    def complete(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings with every default filled in; raises ConfigError for unknown or ill-typed ones."""
        return cls(**settings).as_dict()
