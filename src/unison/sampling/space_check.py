"""Whether the modules that act are made for the environment that they act in."""

from unison.errors import SpaceError
from unison.modules import RLModule
from unison.modules.spaces import Space, layout_of
from unison.types import ModuleID


def check_spaces(
    which: str, observation_space: Space, action_space: Space, module_id: ModuleID, module: RLModule
) -> None:
    """Check that a module is made for the spaces that it meets; bounds and dtype of a Box may differ.

    Args:
        which: the environment or agent, for messages.
        observation_space: what the module will see.
        action_space: what it will decide on.
        module_id: the module's.
        module: what acts; a space that it has not is not compared.

    Raises:
        SpaceError: kind, shape or number of choices differ; names both spaces.
    """
    found = {"observation_space": observation_space, "action_space": action_space}
    for name, space in found.items():
        own: Space | None = getattr(module, name)
        if own is not None and layout_of(own) != layout_of(space):
            raise SpaceError(
                f"{which} has the {name} {space}, but module '{module_id}' is made for {own}. Leave the spaces out of "
                "environment(...) and of the module's spec, where they follow from env; or mend the environment."
            )
