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
from typing import Any, TypeAlias, overload

from unison.errors import ModuleError

ModuleID: TypeAlias = str
AgentID: TypeAlias = Any
ParamRef: TypeAlias = str
"""The name of a parameter within a Learner: `"<module_id>/<parameter name>"`."""

Tree: TypeAlias = Any
"""An array, or a dict or tuple of trees (the shape of Dict and Tuple observations)."""

_Node: TypeAlias = dict[Any, Any] | tuple[Any, ...] | float  # A leaf's type is open; float stands for it.

ALL_MODULES: ModuleID = "__all_modules__"
DEFAULT_MODULE_ID: ModuleID = "default_policy"


@overload
def tree_map(function: Callable[[Any], Any], tree: Tree) -> Tree: ...
@overload
def tree_map(function: Callable[[Any, Any], Any], tree: Tree, other: Tree, /) -> Tree: ...
@overload
def tree_map(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree: ...
def tree_map(function: Callable[..., Any], tree: _Node, *others: Tree) -> Tree:
    """Apply `function` to the leaves of trees of one structure; keep the structure."""
    if isinstance(tree, dict):
        return {key: tree_map(function, tree[key], *(other[key] for other in others)) for key in tree}
    if isinstance(tree, tuple):
        return tuple(tree_map(function, *leaves) for leaves in zip(tree, *others, strict=True))
    return function(tree, *others)


def tree_items(tree: Tree, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield `(path, leaf)` for each leaf; a path joins keys and indices with `/`."""
    node: _Node = tree
    if isinstance(node, dict | tuple):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from tree_items(value, f"{path}/{key}" if path else str(key))
    else:
        yield path, node


def tree_leaves(tree: Tree) -> list[Any]:
    """The leaves of a tree, in order."""
    node: _Node = tree
    if not isinstance(node, dict | tuple):
        return [node]
    children = node.values() if isinstance(node, dict) else node
    return [leaf for child in children for leaf in tree_leaves(child)]


def check_several_ids(module_ids: Any) -> None:
    """Refuse one id where several are meant: its letters would be taken for them.

    Raises:
        ModuleError: it is a string.
    """
    if isinstance(module_ids, str):
        raise ModuleError(f"module_ids={module_ids!r} is a string; give a list of ids: [{module_ids!r}].")
