"""What every action distribution can do, and how one is made from a module's output."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from unison.errors import BatchError, ModuleError
from unison.types import Tree

DistributionT = TypeVar("DistributionT", bound="Distribution")


class Distribution(ABC):
    """A batch of action distributions, made from distribution inputs `[..., K]`.

    The leading dimensions (`[B]` or `[B, T]`) are those of the inputs. Actions are tensors, or trees of tensors for
    Dict and Tuple spaces, with the leading dimensions first. Everything is a plain computation without side effects or
    data-dependent Python, so it can be compiled and differentiated.
    """

    @abstractmethod
    def log_prob(self, actions: Tree) -> Tensor:
        """The log-probability (density) of `actions`, `[...]`, in nats.

        Raises:
            BatchError: The actions have the wrong shape or dtype.
        """

    @abstractmethod
    def entropy(self) -> Tensor:
        """The entropy, `[...]`, in nats."""

    @abstractmethod
    def kl(self, other: "Distribution") -> Tensor:
        """The Kullback-Leibler divergence KL(self || other), `[...]`, in nats.

        Raises:
            ModuleError: `other` is of another class.
        """

    @abstractmethod
    def mode(self) -> Tree:
        """The deterministic action: the most probable one, or of a continuous distribution the image of its mean."""

    @abstractmethod
    def sample(self, generator: torch.Generator | None = None) -> Tree:
        """Draw one action per row, without gradient; from `generator`, or else from torch's default one."""

    @abstractmethod
    def sample_with_log_prob(self, generator: torch.Generator | None = None) -> tuple[Tree, Tensor]:
        """Draw one action per row and give its log-probability `[...]`.

        Continuous actions are reparametrized: action and log-probability carry the gradient with respect to the inputs
        (Kingma and Welling 2014, section 2.4). Discrete actions carry none, their log-probability does.
        """


@dataclass(frozen=True)
class DistributionType:
    """The kind of distribution that fits an action space; call it with inputs `[..., K]`.

    Attributes:
        input_size: K, how many numbers parameterize one action.
        make: Builds the distribution; picklable, so that specs travel between processes.
    """

    input_size: int
    make: Callable[[Tensor], Distribution]

    def __call__(self, inputs: Tensor) -> Distribution:
        """Make the distributions of `inputs`.

        Half-precision inputs are raised to float32, for log-probabilities lose too much below it.

        Raises:
            ModuleError: The last dimension of `inputs` is not `input_size`.
        """
        if inputs.ndim == 0 or inputs.shape[-1] != self.input_size:
            raise ModuleError(
                f"Distribution inputs have the shape {list(inputs.shape)}, but this action space needs "
                f"[..., {self.input_size}]. Make the module's 'action_dist_inputs' that wide."
            )
        return self.make(full_precision(inputs))


def full_precision(inputs: Tensor) -> Tensor:
    """`inputs`, raised to float32 if they are of half precision."""
    return inputs.float() if inputs.dtype in (torch.float16, torch.bfloat16) else inputs


def same_class(distribution: DistributionT, other: Distribution) -> DistributionT:
    """`other`, which must be of the class of `distribution`.

    Raises:
        ModuleError: It is of another class.
    """
    if not isinstance(other, type(distribution)):
        raise ModuleError(
            f"No divergence from {type(distribution).__name__} to {type(other).__name__}. Make both by the same "
            "DistributionType."
        )
    return other


def flatten_event(actions: Tensor, event_shape: tuple[int, ...]) -> Tensor:
    """Reshape actions `[..., *event_shape]` to `[..., A]`.

    Raises:
        BatchError: The actions do not end in `event_shape`.
    """
    lead = actions.ndim - len(event_shape)
    if lead < 0 or tuple(actions.shape[lead:]) != event_shape:
        raise BatchError(
            f"Actions have the shape {list(actions.shape)}, but each action of this space has the shape "
            f"{list(event_shape)}. Check the column 'actions'."
        )
    if len(event_shape) == 1:
        return actions
    return actions.reshape(*actions.shape[:lead], -1) if event_shape else actions.unsqueeze(-1)


def unflatten_event(actions: Tensor, event_shape: tuple[int, ...]) -> Tensor:
    """Reshape actions `[..., A]` to `[..., *event_shape]`."""
    return actions if len(event_shape) == 1 else actions.reshape(*actions.shape[:-1], *event_shape)


def check_actions(actions: Tensor, expected: torch.Size) -> None:
    """Require actions (flattened) of the shape that belongs to the inputs.

    Raises:
        BatchError: The shape differs.
    """
    if actions.shape != expected:
        raise BatchError(
            f"Actions have the shape {list(actions.shape)}, but the distribution inputs ask for {list(expected)}. "
            "Check that the columns 'actions' and 'action_dist_inputs' have the same rows."
        )
