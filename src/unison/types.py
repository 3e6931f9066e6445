"""Names shared by every layer: ids, trees of arrays, and the legend of shape letters.

Shape letters, used in docstrings and in names such as `advantages_BT`:

    B  rows of a batch (or sequences, where a T follows)
    T  time steps of a sequence
    A  components of an action
    K  numbers that parameterize an action distribution
    H  hidden units
    E  environment copies stepped together
    N  parameters in one flat buffer
    M  modules
    R  ranks (Learners of a group)
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

ModuleID: TypeAlias = str
AgentID: TypeAlias = Any
ParamRef: TypeAlias = str
"""The name of a parameter within a Learner: `"<module_id>/<parameter name>"`."""

Tree: TypeAlias = Any
"""An array, or a dict or tuple of trees (the shape of Dict and Tuple observations)."""

ALL_MODULES: ModuleID = "__all_modules__"
DEFAULT_MODULE_ID: ModuleID = "default_policy"


def tree_map(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Apply `function` to the leaves of trees of one structure; keep the structure."""
    if isinstance(tree, dict):
        return {key: tree_map(function, tree[key], *(other[key] for other in others)) for key in tree}
    if isinstance(tree, tuple):
        return tuple(tree_map(function, *leaves) for leaves in zip(tree, *others, strict=True))
    return function(tree, *others)


def tree_items(tree: Tree, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield `(path, leaf)` for each leaf; a path joins keys and indices with `/`."""
    if isinstance(tree, dict | tuple):
        pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in pairs:
            yield from tree_items(value, f"{path}/{key}" if path else str(key))
    else:
        yield path, tree


def tree_leaves(tree: Tree) -> list[Any]:
    """The leaves of a tree, in order."""
    return [leaf for _, leaf in tree_items(tree)]
