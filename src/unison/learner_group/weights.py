"""Weights with the version that they are of."""

from collections.abc import Mapping
from typing import Any

from unison.types import ModuleID


class Weights(dict[ModuleID, Any]):
    """`{module_id: {parameter: array}}`; a newer version is greater.

    Args:
        state: the weights.
        version: grows with every update of the Learners.
    """

    def __init__(self, state: Mapping[ModuleID, Any], *, version: int) -> None:
        super().__init__(state)
        self.version = version
