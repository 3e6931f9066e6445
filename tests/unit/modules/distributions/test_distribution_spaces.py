"""Which distribution fits which space, joint distributions, and action masks."""

import math
import pickle

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from unison.errors import BatchError, ModuleError, SpaceError
from unison.modules.distributions import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    MultiCategorical,
    Product,
    SquashedGaussian,
    distribution_for,
    mask_logits,
)
from unison.types import Tree, tree_leaves, tree_map


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


NESTED = spaces.Dict(
    {
        "where": spaces.Tuple((spaces.Box(-1, 1, (2,)), spaces.Discrete(3, start=1))),
        "buttons": spaces.MultiBinary(2),
        "gear": spaces.Dict({"up": spaces.MultiDiscrete([2, 4]), "amount": spaces.Box(0, 5, ())}),
    }
)


@pytest.mark.parametrize(
    ("space", "size", "kind"),
    [
        (spaces.Discrete(4), 4, Categorical),
        (spaces.Discrete(4, start=-3), 4, Categorical),
        (spaces.MultiDiscrete([2, 3]), 5, MultiCategorical),
        (spaces.MultiDiscrete(np.array([[2, 3], [4, 5]])), 14, MultiCategorical),
        (spaces.MultiBinary(3), 3, Bernoulli),
        (spaces.MultiBinary((2, 3)), 6, Bernoulli),
        (spaces.Box(-1, 1, (3,)), 6, DiagonalGaussian),
        (spaces.Box(-np.inf, np.inf, (2, 2)), 8, DiagonalGaussian),
        (spaces.Box(-1, 1, ()), 2, DiagonalGaussian),
        (spaces.Tuple((spaces.Discrete(2), spaces.Discrete(3))), 5, Product),
        (NESTED, 4 + 3 + 2 + 6 + 2, Product),
    ],
    ids=str,
)
def test_each_space_has_its_distribution(space: spaces.Space, size: int, kind: type) -> None:
    distribution_type = distribution_for(space)
    assert distribution_type.input_size == size
    assert type(distribution_type(torch.zeros(2, size))) is kind


def test_squashed_reaches_every_box() -> None:
    made = distribution_for(NESTED, squashed=True)(5 * torch.randn(100, 17, generator=seeded()))
    actions = made.sample(seeded())
    assert actions["where"][0].abs().max() <= 1
    assert actions["gear"]["amount"].abs().max() <= 1
    assert type(distribution_for(spaces.Box(-1, 1, (3,)), squashed=True)(torch.zeros(2, 6))) is SquashedGaussian


@pytest.mark.parametrize(
    ("space", "squashed", "message"),
    [
        (spaces.Text(5), False, "No action distribution fits"),
        (spaces.Box(0, 255, (3,), np.uint8), False, "holds integers"),
        (spaces.Box(-np.inf, np.inf, (3,)), True, "unbounded"),
        (spaces.Tuple(()), False, "has no parts"),
        (spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Text(5)}), False, "No action distribution fits"),
    ],
    ids=str,
)
def test_spaces_that_fit_nothing_are_refused(space: spaces.Space, squashed: bool, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        distribution_for(space, squashed=squashed)


def test_inputs_of_the_wrong_width_are_refused() -> None:
    with pytest.raises(ModuleError, match=r"\[2, 3\], but this action space needs \[..., 4\]"):
        distribution_for(spaces.Discrete(4))(torch.zeros(2, 3))


def test_a_divergence_between_two_classes_is_refused() -> None:
    gaussian = distribution_for(spaces.Box(-1, 1, (2,)))(torch.zeros(2, 4))
    with pytest.raises(ModuleError, match="No divergence from Categorical to DiagonalGaussian"):
        distribution_for(spaces.Discrete(4))(torch.zeros(2, 4)).kl(gaussian)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_are_raised_to_float32(dtype: torch.dtype) -> None:
    for space in (spaces.Discrete(4), spaces.Box(-1, 1, (2,)), spaces.MultiBinary(4)):
        ours = distribution_for(space)(torch.randn(3, 4, generator=seeded()).to(dtype))
        assert ours.entropy().dtype == torch.float32
        assert ours.log_prob(ours.sample(seeded())).dtype == torch.float32


def test_types_travel_between_processes() -> None:
    kind = pickle.loads(pickle.dumps(distribution_for(NESTED)))
    inputs = torch.randn(3, 17, generator=seeded())
    assert torch.equal(kind(inputs).entropy(), distribution_for(NESTED)(inputs).entropy())


@pytest.mark.parametrize("lead", [(6,), (2, 3)])
def test_nested_actions_round_trip(lead: tuple[int, ...]) -> None:
    kind = distribution_for(NESTED)
    ours = kind(torch.randn(*lead, 17, generator=seeded(), dtype=torch.float64))
    actions, log_prob = ours.sample_with_log_prob(seeded(1))
    assert log_prob.shape == lead
    torch.testing.assert_close(ours.log_prob(actions), log_prob)
    torch.testing.assert_close(ours.log_prob(ours.sample(seeded(1))), log_prob)
    for tree in (actions, ours.mode()):
        for row in range(6):
            one = tree_map(lambda leaf, row=row: leaf.reshape(6, *leaf.shape[len(lead) :])[row].numpy(), tree)
            # A Gaussian does not know the bounds of its Box.
            one["gear"]["amount"] = np.asarray(one["gear"]["amount"].clip(0, 5), np.float32)
            one["where"] = (np.float32(one["where"][0].clip(-1, 1)), one["where"][1])
            assert NESTED.contains(one)


def test_a_product_is_the_sum_of_its_parts_in_the_order_of_the_space() -> None:
    space = spaces.Dict({"b": spaces.Discrete(3), "a": spaces.Box(-1, 1, (2,))})
    order = list(space.spaces)
    generator = seeded()
    parts = {"b": torch.randn(5, 3, generator=generator), "a": torch.randn(5, 4, generator=generator)}
    others = {key: part + 0.3 * torch.randn(part.shape, generator=generator) for key, part in parts.items()}
    kinds = {key: distribution_for(space[key]) for key in order}
    ours = distribution_for(space)(torch.cat([parts[key] for key in order], -1))
    other = distribution_for(space)(torch.cat([others[key] for key in order], -1))
    actions = {key: kinds[key](parts[key]).sample(generator) for key in ("a", "b")}
    torch.testing.assert_close(ours.log_prob(actions), sum(kinds[k](parts[k]).log_prob(actions[k]) for k in order))
    torch.testing.assert_close(ours.entropy(), sum(kinds[k](parts[k]).entropy() for k in order))
    torch.testing.assert_close(ours.kl(other), sum(kinds[k](parts[k]).kl(kinds[k](others[k])) for k in order))
    mode = ours.mode()
    assert list(mode) == order
    assert torch.equal(mode["b"], parts["b"].argmax(-1))


def test_the_gradient_of_a_product_agrees_with_finite_differences() -> None:
    kind = distribution_for(NESTED)
    inputs = torch.randn(2, 17, generator=seeded(), dtype=torch.float64, requires_grad=True)
    actions = kind(inputs).sample(seeded())
    assert torch.autograd.gradcheck(lambda x: kind(x).log_prob(actions) + kind(x).entropy(), inputs)


PAIR = spaces.Tuple((spaces.Discrete(2), spaces.Discrete(3)))


@pytest.mark.parametrize(
    ("space", "actions", "message"),
    [
        (PAIR, {"a": torch.zeros(1)}, "are a tuple of 2, but one with the keys"),
        (PAIR, (torch.zeros(1),), "are a tuple of 2, but a tuple of 1"),
        (PAIR, torch.zeros(1, 2), "are a tuple of 2, but an object of the class Tensor"),
        (spaces.Dict({"x": spaces.Discrete(5)}), {"y": torch.zeros(1)}, r"the keys \['x'\], but one with the keys"),
        (spaces.Dict({"x": spaces.Discrete(5)}), (torch.zeros(1),), r"the keys \['x'\], but a tuple of 1"),
    ],
)
def test_trees_of_another_structure_are_refused(space: spaces.Space, actions: Tree, message: str) -> None:
    with pytest.raises(BatchError, match=message):
        distribution_for(space)(torch.zeros(1, 5)).log_prob(actions)


DISCRETE = spaces.Discrete(4, start=2)
MULTI = spaces.MultiDiscrete([4, 3])


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.float32])
def test_masked_actions_have_probability_zero_and_the_rest_is_renormalized(dtype: torch.dtype) -> None:
    inputs = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64).log()
    mask = torch.tensor([[1, 0, 1, 0]]).to(dtype)
    ours = distribution_for(DISCRETE)(mask_logits(inputs, mask, DISCRETE))
    probabilities = [ours.log_prob(torch.tensor([action])).exp().item() for action in (2, 3, 4, 5)]
    assert probabilities == pytest.approx([0.25, 0.0, 0.75, 0.0], abs=1e-14)
    assert probabilities[1] == 0.0
    assert ours.entropy().item() == pytest.approx(0.25 * math.log(4) + 0.75 * math.log(4 / 3), abs=1e-12)
    assert ours.mode().item() == 4


def masked_objective(inputs: Tensor, mask: Tensor, actions: Tensor, space: spaces.Space) -> Tensor:
    ours = distribution_for(space)(mask_logits(inputs, mask, space))
    return ours.log_prob(actions) + ours.entropy()


@pytest.mark.parametrize("scale", [1.0, 1024.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_gradients_under_masks_are_finite_and_zero_where_masked(dtype: torch.dtype, scale: float) -> None:
    """Also under a float16 gradient scaler, which multiplies the loss."""
    inputs = torch.randn(64, 4, generator=seeded()).to(dtype).requires_grad_()
    mask = torch.rand(64, 4, generator=seeded(1)) < 0.5
    mask[:, 1] = True
    actions = torch.full((64,), 3)
    (masked_objective(inputs, mask, actions, DISCRETE).float().sum() * scale).backward()
    assert inputs.grad.isfinite().all()
    assert torch.equal(inputs.grad[~mask], torch.zeros_like(inputs.grad[~mask]))
    assert inputs.grad.count_nonzero() > 0


def test_gradients_under_masks_agree_with_finite_differences() -> None:
    inputs = torch.randn(6, 7, generator=seeded(), dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([1, 0, 1, 1, 0, 1, 1]).expand(6, 7)
    actions = torch.tensor([[0, 1]]).expand(6, 2)
    assert torch.autograd.gradcheck(lambda x: masked_objective(x, mask, actions, MULTI), inputs)


def test_all_but_one_masked_leaves_no_choice() -> None:
    inputs = torch.randn(5000, 4, generator=seeded()).requires_grad_()
    mask = torch.tensor([False, False, True, False]).expand(5000, 4)
    ours = distribution_for(DISCRETE)(mask_logits(inputs, mask, DISCRETE))
    assert ours.sample(seeded()).unique().tolist() == [4]
    assert torch.equal(ours.entropy(), torch.zeros(5000))
    assert torch.equal(ours.log_prob(torch.full((5000,), 4)), torch.zeros(5000))
    (ours.entropy() + ours.log_prob(torch.full((5000,), 4))).sum().backward()
    assert torch.equal(inputs.grad, torch.zeros(5000, 4))


def test_masked_actions_are_never_sampled() -> None:
    inputs = 3 * torch.randn(5000, 7, generator=seeded())
    mask = torch.rand(5000, 7, generator=seeded(1)) < 0.4
    mask[:, [0, 4]] = True
    actions = distribution_for(MULTI)(mask_logits(inputs, mask, MULTI)).sample(seeded(2))
    assert mask[:, :4].gather(1, actions[:, :1]).all()
    assert mask[:, 4:].gather(1, actions[:, 1:]).all()


def test_the_divergence_of_masked_policies_counts_allowed_actions_only() -> None:
    old, new = (torch.randn(8, 4, generator=seeded(seed), dtype=torch.float64) for seed in (0, 1))
    mask = torch.tensor([True, False, True, True]).expand(8, 4)
    masked = [Categorical(mask_logits(inputs, mask, DISCRETE)) for inputs in (old, new)]
    allowed = [Categorical(inputs[:, [0, 2, 3]]) for inputs in (old, new)]
    torch.testing.assert_close(masked[0].kl(masked[1]), allowed[0].kl(allowed[1]))


def test_nothing_allowed_stays_finite() -> None:
    ours = Categorical(mask_logits(torch.randn(2, 4), torch.zeros(2, 4, dtype=torch.bool), DISCRETE))
    torch.testing.assert_close(ours.entropy(), torch.full((2,), math.log(4)))


@pytest.mark.parametrize("space", [spaces.Box(-1, 1, (2,)), spaces.MultiBinary(4), PAIR], ids=str)
def test_masks_need_discrete_choices(space: spaces.Space) -> None:
    with pytest.raises(SpaceError, match="Action masks need"):
        mask_logits(torch.zeros(2, 4), torch.ones(2, 4), space)


def test_masks_of_another_shape_are_refused() -> None:
    with pytest.raises(BatchError, match=r"mask has the shape \[2, 3\], but the logits \[2, 4\]"):
        mask_logits(torch.zeros(2, 4), torch.ones(2, 3), DISCRETE)


def test_every_leaf_of_a_nested_sample_has_the_leading_shape() -> None:
    actions = distribution_for(NESTED)(torch.zeros(4, 2, 17)).sample(seeded())
    assert all(leaf.shape[:2] == (4, 2) for leaf in tree_leaves(actions))
