"""What a forward pass must return."""

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor

from unison.errors import ModuleError
from unison.types import Tree, tree_items


def check_outputs(owner: str, outputs: Any, *names: str, method: str = "forward_train") -> None:
    """Require columns of what a forward pass returned.

    Args:
        owner: what error messages call the module.
        outputs: what it returned.
        names: of the columns.
        method: the forward pass.

    Raises:
        ModuleError: it returned no mapping, or one without some of them; names them.
    """
    if not isinstance(outputs, Mapping):
        wanted = list(names) or ["action_dist_inputs"]
        raise ModuleError(f"{owner}: {method} returned a {type(outputs).__name__}; return a dict of {wanted}.")
    found = cast("Mapping[str, Any]", outputs)
    if missing := [name for name in names if name not in found]:
        raise ModuleError(f"{owner}: {method} returned {sorted(found)}, without {missing}; let it return them too.")


def check_state_tree(owner: str, state: Any) -> None:
    """Require an initial state to be a tree of tensors.

    Raises:
        ModuleError: it is not, or has a leaf that is no tensor; names it.
    """
    strange = [path for path, leaf in tree_items(state) if not isinstance(leaf, Tensor)]
    if strange or isinstance(state, Tensor):
        what = f"holds {strange} that are no tensors" if strange and strange != [""] else f"is a {type(state).__name__}"
        raise ModuleError(
            f"{owner}: the state that get_initial_state returned {what}; return a dict of torch tensors, without the "
            "dimension B: {'h': torch.zeros(H)}."
        )


def check_state_out(owner: str, state: Tree, found: Any) -> None:
    """Require a state after a step to be like the one before it, which it replaces.

    Raises:
        ModuleError: a part is missing, strange, no tensor, or of another shape; names the parts of both.
    """
    wanted, given = _shapes(state), _shapes(found)
    if wanted != given:
        raise ModuleError(
            f"{owner}: the state_out {given} does not fit the state_in {wanted}; return the parts that "
            "get_initial_state has, with the dimension B first."
        )


def _shapes(state: Tree) -> dict[str, Any]:
    return {p: tuple(t.shape) if isinstance(t, Tensor) else type(t).__name__ for p, t in tree_items(state)}
