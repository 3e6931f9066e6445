"""Model settings in any of the forms that users give them."""

from collections.abc import Mapping
from typing import Any

from unison.config import ModelConfig


def resolve_model_config(model_config: ModelConfig | Mapping[str, Any] | None) -> ModelConfig:
    """Validate settings; those left out have their defaults.

    Raises:
        ConfigError: a setting is unknown or invalid.
    """
    if isinstance(model_config, ModelConfig):
        return model_config
    return ModelConfig(**(model_config or {}))
