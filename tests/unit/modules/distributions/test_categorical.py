"""Discrete distributions against torch.distributions in float64, finite differences and sample statistics."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch import distributions as reference

from unison.errors import BatchError
from unison.modules.distributions import Bernoulli, Categorical, MultiCategorical, distribution_for

DRAWS = 40_000


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def logits(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def close(ours: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("lead", [(7,), (3, 5)])
@pytest.mark.parametrize("start", [0, 4, -2])
def test_categorical_equals_the_reference(lead: tuple[int, ...], start: int) -> None:
    inputs, others = logits(*lead, 6), logits(*lead, 6, seed=1)
    ours, theirs = Categorical(inputs, start), reference.Categorical(logits=inputs)
    index = theirs.sample()
    close(ours.log_prob(index + start), theirs.log_prob(index))
    close(ours.entropy(), theirs.entropy())
    close(ours.kl(Categorical(others, start)), reference.kl_divergence(theirs, reference.Categorical(logits=others)))
    assert torch.equal(ours.mode(), inputs.argmax(-1) + start)


def test_categorical_by_hand() -> None:
    inputs = torch.tensor([1.0, 3.0], dtype=torch.float64).log()  # probabilities 1/4 and 3/4
    ours = Categorical(inputs)
    assert ours.log_prob(torch.tensor(1)).item() == pytest.approx(math.log(0.75), abs=1e-14)
    assert ours.entropy().item() == pytest.approx(0.25 * math.log(4) + 0.75 * math.log(4 / 3), abs=1e-14)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_categorical_takes_actions_of_any_integer_type(dtype: torch.dtype) -> None:
    ours = Categorical(logits(3, 4), start=1)
    actions = torch.tensor([1, 4, 2])
    close(ours.log_prob(actions.to(dtype)), ours.log_prob(actions))


def test_categorical_samples_with_the_right_frequencies() -> None:
    inputs = torch.tensor([0.1, 0.2, 0.0, 0.7]).log().expand(DRAWS, 4)
    counts = torch.bincount(Categorical(inputs, start=3).sample(seeded()) - 3, minlength=4)
    for count, probability in zip(counts.tolist(), (0.1, 0.2, 0.0, 0.7), strict=True):
        assert abs(count / DRAWS - probability) <= 4 * math.sqrt(probability * (1 - probability) / DRAWS)


def test_categorical_never_samples_probability_zero() -> None:
    inputs = torch.tensor([-1e9, 0.0, -1e9]).expand(DRAWS, 3)
    assert Categorical(inputs).sample(seeded()).unique().tolist() == [1]


def test_a_clock_that_rings_at_once_draws_no_choice_of_probability_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    def ring_at_once(clocks: Tensor, *, generator: torch.Generator | None) -> Tensor:
        return clocks.zero_()

    monkeypatch.setattr(Tensor, "exponential_", ring_at_once)
    assert Categorical(torch.tensor([-1e9, 0.0, -1e9])).sample().item() == 1


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_categorical_stays_finite_in_float32(scale: float) -> None:
    inputs = (scale * logits(64, 5)).float().requires_grad_()
    ours = Categorical(inputs)
    (ours.entropy().sum() + ours.log_prob(ours.mode()).sum()).backward()
    assert ours.entropy().isfinite().all()
    assert inputs.grad.isfinite().all()


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (torch.zeros(3), "must be integers"),
        (torch.zeros(3, 1, dtype=torch.int64), r"\[3, 1\], but the distribution inputs ask for \[3\]"),
        (torch.zeros(4, dtype=torch.int64), r"\[4\], but the distribution inputs ask for \[3\]"),
    ],
)
def test_categorical_refuses_actions_that_do_not_fit(actions: Tensor, message: str) -> None:
    with pytest.raises(BatchError, match=message):
        Categorical(logits(3, 4)).log_prob(actions)


NVECS = [
    ((3, 3, 3), (0, 0, 0), (3,)),
    ((4, 2, 2, 5), (0, 0, 1, 1), (4,)),
    ((2, 3, 4, 2), (1, 0, 0, -2), (2, 2)),
    ((6,), (0,), (1,)),
]


@pytest.mark.parametrize(("nvec", "start", "shape"), NVECS)
@pytest.mark.parametrize("lead", [(5,), (2, 3)])
def test_multi_categorical_is_the_sum_of_its_choices(
    nvec: tuple[int, ...], start: tuple[int, ...], shape: tuple[int, ...], lead: tuple[int, ...]
) -> None:
    inputs, others = logits(*lead, sum(nvec)), logits(*lead, sum(nvec), seed=1)
    ours = MultiCategorical(inputs, nvec, start, shape)
    choices = [reference.Categorical(logits=part) for part in inputs.split(nvec, -1)]
    other_choices = [reference.Categorical(logits=part) for part in others.split(nvec, -1)]
    index = torch.stack([choice.sample() for choice in choices], -1)
    actions = (index + torch.tensor(start)).reshape(*lead, *shape)
    close(ours.log_prob(actions), sum(c.log_prob(index[..., i]) for i, c in enumerate(choices)))
    close(ours.entropy(), sum(c.entropy() for c in choices))
    divergence = sum(reference.kl_divergence(c, o) for c, o in zip(choices, other_choices, strict=True))
    close(ours.kl(MultiCategorical(others, nvec, start, shape)), divergence)
    mode = torch.stack([part.argmax(-1) for part in inputs.split(nvec, -1)], -1) + torch.tensor(start)
    assert torch.equal(ours.mode(), mode.reshape(*lead, *shape))


def test_multi_categorical_samples_each_choice_with_its_frequencies() -> None:
    probabilities = [[0.2, 0.8], [0.5, 0.5], [0.1, 0.3, 0.6]]
    inputs = torch.tensor([p for choice in probabilities for p in choice]).log().expand(DRAWS, 7)
    actions, log_prob = MultiCategorical(inputs, (2, 2, 3), (0, 5, 0), (3,)).sample_with_log_prob(seeded())
    for column, first, choice in zip(actions.T, (0, 5, 0), probabilities, strict=True):
        frequencies = torch.bincount(column - first, minlength=len(choice)) / DRAWS
        torch.testing.assert_close(frequencies, torch.tensor(choice), rtol=0, atol=4 * math.sqrt(0.25 / DRAWS))
    entropy = sum(-p * math.log(p) for choice in probabilities for p in choice)
    assert -log_prob.mean().item() == pytest.approx(entropy, abs=0.02)


@pytest.mark.parametrize("shape", [(4,), (2, 2)])
def test_bernoulli_equals_the_reference(shape: tuple[int, ...]) -> None:
    inputs, others = logits(6, 4), logits(6, 4, seed=1)
    ours, theirs = Bernoulli(inputs, shape), reference.Bernoulli(logits=inputs)
    actions = theirs.sample()
    close(ours.log_prob(actions.to(torch.int8).reshape(6, *shape)), theirs.log_prob(actions).sum(-1))
    close(ours.entropy(), theirs.entropy().sum(-1))
    divergence = reference.kl_divergence(theirs, reference.Bernoulli(logits=others)).sum(-1)
    close(ours.kl(Bernoulli(others, shape)), divergence)
    assert torch.equal(ours.mode(), (inputs > 0).to(torch.int8).reshape(6, *shape))


def test_bernoulli_samples_with_the_right_frequencies() -> None:
    probabilities = torch.tensor([0.1, 0.5, 0.9])
    actions = Bernoulli(probabilities.logit().expand(DRAWS, 3), (3,)).sample(seeded())
    assert actions.dtype == torch.int8
    torch.testing.assert_close(actions.float().mean(0), probabilities, rtol=0, atol=4 * math.sqrt(0.25 / DRAWS))


def test_bernoulli_stays_exact_at_extreme_logits() -> None:
    inputs = torch.tensor([[60.0, -60.0]], requires_grad=True)
    ours = Bernoulli(inputs, (2,))
    likely = ours.log_prob(torch.tensor([[1, 0]]))
    unlikely = ours.log_prob(torch.tensor([[0, 1]]))
    assert likely.item() == pytest.approx(0.0, abs=1e-20)
    assert unlikely.item() == -120.0
    ours.entropy().sum().backward()
    assert inputs.grad.isfinite().all()


SPACES = [
    spaces.Discrete(5, start=2),
    spaces.MultiDiscrete([3, 3, 2]),
    spaces.MultiDiscrete(np.array([[2, 3], [3, 3]]), start=np.array([[0, 1], [1, 2]])),
    spaces.MultiBinary(3),
    spaces.MultiBinary((2, 2)),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_gradients_agree_with_finite_differences(space: spaces.Space) -> None:
    kind = distribution_for(space)
    inputs, others = (logits(4, kind.input_size, seed=seed).requires_grad_() for seed in (0, 1))
    actions = kind(inputs).sample(seeded())
    assert torch.autograd.gradcheck(lambda x: kind(x).log_prob(actions), inputs)
    assert torch.autograd.gradcheck(lambda x: kind(x).entropy(), inputs)
    assert torch.autograd.gradcheck(lambda x, y: kind(x).kl(kind(y)), (inputs, others))
    assert torch.autograd.gradgradcheck(lambda x: kind(x).entropy(), inputs)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_samples_lie_in_the_space_and_repeat_with_the_seed(space: spaces.Space) -> None:
    kind = distribution_for(space)
    ours = kind(logits(3, 2, kind.input_size).float())
    actions = ours.sample(seeded(5))
    for action in actions.flatten(0, 1):
        assert space.contains(action.numpy().astype(space.dtype))
    for action in ours.mode().flatten(0, 1):
        assert space.contains(action.numpy().astype(space.dtype))
    assert torch.equal(actions, ours.sample(seeded(5)))
    again, log_prob = ours.sample_with_log_prob(seeded(5))
    assert torch.equal(actions, again)
    torch.testing.assert_close(log_prob, ours.log_prob(actions))
