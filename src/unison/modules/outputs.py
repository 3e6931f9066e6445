"""What a forward pass must return."""

from collections.abc import Mapping
from typing import Any, cast

from unison.errors import ModuleError


def check_outputs(owner: str, outputs: Any, *names: str) -> None:
    """Require columns of what `forward_train` returned.

    Args:
        owner: what error messages call the module.
        outputs: what it returned.
        names: of the columns.

    Raises:
        ModuleError: it returned no mapping, or one without some of them; names them.
    """
    if not isinstance(outputs, Mapping):
        raise ModuleError(
            f"{owner}: forward_train returned a {type(outputs).__name__}; return a dict of {list(names)}."
        )
    found = cast("Mapping[str, Any]", outputs)
    if missing := [name for name in names if name not in found]:
        raise ModuleError(
            f"{owner}: forward_train returned {sorted(found)}, without {missing}; let it return them too."
        )
