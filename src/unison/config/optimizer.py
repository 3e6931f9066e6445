"""Settings of the optimizers that a config can name; others are registered by the Learner's hooks."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, cast

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeFloat, PlainSerializer, PositiveFloat, Strict

from unison.config.describe import Shown
from unison.config.settings import Settings
from unison.config.values import freeze
from unison.errors import ConfigError
from unison.suggest import did_you_mean

Decay = Annotated[float, Field(ge=0, lt=1)]


class Adam(Settings):
    """Options of Adam (Kingma & Ba, 2015)."""

    called: ClassVar[str] = "optimizer 'adam'"
    betas: Annotated[tuple[Decay, Decay], Strict(False)] = Field(
        (0.9, 0.999), description="Decay rates of the two moments."
    )
    eps: PositiveFloat = Field(1e-8, description="Added to the denominator.")
    weight_decay: NonNegativeFloat = Field(0.0, description="L2 penalty.")


class AdamW(Adam):
    """Options of Adam with decoupled weight decay (Loshchilov & Hutter, 2019)."""

    called: ClassVar[str] = "optimizer 'adamw'"
    weight_decay: NonNegativeFloat = Field(0.01, description="Weight decay, apart from the gradient.")


class SGD(Settings):
    """Options of stochastic gradient descent."""

    called: ClassVar[str] = "optimizer 'sgd'"
    momentum: Decay = Field(0.0, description="Momentum.")
    nesterov: bool = Field(False, description="Whether the momentum is Nesterov's.")
    weight_decay: NonNegativeFloat = Field(0.0, description="L2 penalty.")


class RMSprop(Settings):
    """Options of RMSprop (Tieleman & Hinton, 2012)."""

    called: ClassVar[str] = "optimizer 'rmsprop'"
    alpha: Decay = Field(0.99, description="Decay rate of the squared gradient's mean.")
    eps: PositiveFloat = Field(1e-8, description="Added to the denominator.")
    momentum: Decay = Field(0.0, description="Momentum.")
    weight_decay: NonNegativeFloat = Field(0.0, description="L2 penalty.")


_OPTIMIZERS: dict[str, type[Settings]] = {"adam": Adam, "adamw": AdamW, "sgd": SGD, "rmsprop": RMSprop}


def complete_optimizer(value: Any) -> dict[str, Any]:
    """The optimizer's name with all its options; raises ConfigError for an unknown name or option."""
    if not isinstance(value, str | Mapping):
        raise AssertionError("neither a name nor a dict")  # pydantic's sign for a value that is not allowed
    options = {"name": value} if isinstance(value, str) else dict(cast("Mapping[str, Any]", value))
    name = str(options.pop("name", None))
    if name not in _OPTIMIZERS:
        raise ConfigError(f"no optimizer is named '{name}'. {did_you_mean(name, _OPTIMIZERS)}")
    return {"name": name, **_OPTIMIZERS[name](**options).as_dict()}


def _to_plain(options: Mapping[str, Any]) -> dict[str, Any]:
    name = options["name"]
    settings = {option: value for option, value in options.items() if option != "name"}
    return {"name": name, **_OPTIMIZERS[name](**settings).model_dump(mode="json")}


OptimizerSetting = Annotated[
    Any,
    BeforeValidator(complete_optimizer),
    AfterValidator(freeze),
    PlainSerializer(_to_plain),
    Shown("'adam', 'adamw', 'sgd', 'rmsprop', or a dict of one such name and its options"),
]
"""The type of the setting `optimizer`; kept as a dict of the name and all options."""
