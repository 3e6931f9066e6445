"""Gaussians, plain and squashed, against float64 references, finite differences and sample statistics."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch import distributions as reference

from unison.errors import BatchError
from unison.modules.distributions import DiagonalGaussian, SquashedGaussian, distribution_for

DRAWS = 40_000


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_inputs(*shape: int, seed: int = 0) -> Tensor:
    return 0.7 * torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def independent_normal(inputs: Tensor) -> reference.Independent:
    mean, log_std = inputs.chunk(2, -1)
    return reference.Independent(reference.Normal(mean, log_std.exp()), 1)


def close(ours: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("lead", [(7,), (3, 5)])
@pytest.mark.parametrize("shape", [(6,), (2, 3), (6, 1, 1)])
def test_gaussian_equals_the_reference(lead: tuple[int, ...], shape: tuple[int, ...]) -> None:
    inputs, others = random_inputs(*lead, 12), random_inputs(*lead, 12, seed=1)
    ours, theirs = DiagonalGaussian(inputs, shape), independent_normal(inputs)
    actions = theirs.sample()
    close(ours.log_prob(actions.reshape(*lead, *shape)), theirs.log_prob(actions))
    close(ours.entropy(), theirs.entropy())
    close(ours.kl(DiagonalGaussian(others, shape)), reference.kl_divergence(theirs, independent_normal(others)))
    assert torch.equal(ours.mode(), inputs[..., :6].reshape(*lead, *shape))


def test_gaussian_of_a_scalar_action_by_hand() -> None:
    # N(1, 2^2) at 5: -(4 / 2)^2 / 2 - log 2 - log(2 pi) / 2.
    inputs = torch.tensor([[1.0, math.log(2)]], dtype=torch.float64)
    log_prob = DiagonalGaussian(inputs, ()).log_prob(torch.tensor([5.0], dtype=torch.float64))
    assert log_prob.item() == pytest.approx(-2 - math.log(2) - 0.5 * math.log(2 * math.pi), abs=1e-14)


def test_the_divergence_of_close_policies_keeps_its_digits_in_float32() -> None:
    old, new = torch.tensor([[0.0, 0.0]]), torch.tensor([[1e-4, 1e-4]])
    expected = reference.kl_divergence(independent_normal(old.double()), independent_normal(new.double()))  # 1.5e-8
    divergence = DiagonalGaussian(old, (1,)).kl(DiagonalGaussian(new, (1,)))
    torch.testing.assert_close(divergence.double(), expected, rtol=2e-3, atol=0)


def test_gaussian_casts_actions_of_double_precision() -> None:
    inputs = random_inputs(4, 6).float()
    actions = random_inputs(4, 3, seed=2)
    log_prob = DiagonalGaussian(inputs, (3,)).log_prob(actions)
    assert log_prob.dtype == torch.float32


@pytest.mark.parametrize(
    ("shape", "message"),
    [((4, 1), r"each action of this space has the shape \[3\]"), ((5, 3), r"inputs ask for \[4, 3\]")],
)
def test_gaussian_refuses_actions_that_do_not_fit(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(BatchError, match=message):
        DiagonalGaussian(random_inputs(4, 6), (3,)).log_prob(torch.zeros(shape))


def test_gaussian_samples_have_mean_deviation_and_density() -> None:
    inputs = torch.tensor([1.0, -2.0, math.log(0.5), math.log(3.0)]).expand(DRAWS, 4)
    actions, log_prob = DiagonalGaussian(inputs, (2,)).sample_with_log_prob(seeded())
    for column, mean, std in zip(actions.T, (1.0, -2.0), (0.5, 3.0), strict=True):
        assert abs(column.mean().item() - mean) < 4 * std / math.sqrt(DRAWS)
        assert abs(column.std().item() - std) < 4 * std / math.sqrt(2 * DRAWS)
    torch.testing.assert_close(log_prob, DiagonalGaussian(inputs, (2,)).log_prob(actions), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("lead", [(7,), (3, 5)])
@pytest.mark.parametrize("shape", [(4,), (2, 2)])
def test_squashed_gaussian_equals_the_reference(lead: tuple[int, ...], shape: tuple[int, ...]) -> None:
    inputs, others = 0.5 * random_inputs(*lead, 8), random_inputs(*lead, 8, seed=1)
    ours = SquashedGaussian(inputs, shape)
    theirs = reference.TransformedDistribution(independent_normal(inputs), [reference.TanhTransform(cache_size=1)])
    actions = theirs.sample()
    expected = theirs.log_prob(actions)
    torch.testing.assert_close(ours.log_prob(actions.reshape(*lead, *shape)), expected, rtol=1e-9, atol=1e-9)
    divergence = reference.kl_divergence(independent_normal(inputs), independent_normal(others))
    close(ours.kl(SquashedGaussian(others, shape)), divergence)
    assert torch.equal(ours.mode(), inputs[..., :4].tanh().reshape(*lead, *shape))


@pytest.mark.parametrize("action", [0.0, 0.9, -0.99, 0.9998, -0.9997, 0.99983, 0.999999, -0.99999988, 0.99999994])
def test_squashed_log_prob_is_accurate_up_to_the_bounds_in_float32(action: float) -> None:
    inputs = torch.tensor([[0.3, -0.2]])
    single = torch.tensor([[action]])
    # In float64, from the very number that float32 holds: log N(atanh a) - log(1 - a^2).
    a = single.double().item()
    u = 0.5 * (math.log1p(a) - math.log1p(-a))
    mean, log_std = inputs.double()[0].tolist()
    gaussian = -0.5 * ((u - mean) / math.exp(log_std)) ** 2 - log_std - 0.5 * math.log(2 * math.pi)
    expected = gaussian - math.log1p(a) - math.log1p(-a)
    log_prob = SquashedGaussian(inputs, (1,)).log_prob(single)
    assert log_prob.item() == pytest.approx(expected, rel=2e-6, abs=2e-6)


@pytest.mark.parametrize("action", [1.0, -1.0, 1.5, 0.99999994])
def test_squashed_log_prob_and_gradient_are_finite_at_the_bounds(action: float) -> None:
    inputs = torch.tensor([[0.3, -0.2]], requires_grad=True)
    ours = SquashedGaussian(inputs, (1,)).log_prob(torch.tensor([[action]]))
    ours.sum().backward()
    assert ours.isfinite().all()
    assert inputs.grad.isfinite().all()


def test_squashed_sampling_is_exact_where_tanh_rounds_to_one() -> None:
    inputs = torch.tensor([[30.0, -8.0], [-30.0, -8.0], [9.5, -8.0]], requires_grad=True)
    actions, log_prob = SquashedGaussian(inputs, (1,)).sample_with_log_prob(seeded())
    noise = torch.randn((3, 1), generator=seeded()).double()
    mean, log_std = inputs.detach().double().chunk(2, -1)
    u = mean + log_std.exp() * noise
    log_slope = 2 * (math.log(2) - u.abs() - torch.log1p(torch.exp(-2 * u.abs())))
    expected = (-0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi) - log_slope).sum(-1)
    torch.testing.assert_close(log_prob.double(), expected, rtol=2e-6, atol=1e-5)
    assert actions.abs().max() <= 1
    log_prob.sum().backward()
    assert inputs.grad.isfinite().all()


def test_sampled_log_prob_agrees_with_the_log_prob_of_the_sample() -> None:
    inputs = 0.5 * random_inputs(200, 6)
    for kind in (DiagonalGaussian, SquashedGaussian):
        ours = kind(inputs, (3,))
        actions, log_prob = ours.sample_with_log_prob(seeded())
        torch.testing.assert_close(log_prob, ours.log_prob(actions), rtol=1e-8, atol=1e-8)
        assert torch.equal(actions, ours.sample(seeded()))


@pytest.mark.parametrize(
    ("mean", "std", "tolerance"), [(0.0, 0.3, 1e-8), (1.0, 1.0, 1e-7), (-3.0, 0.1, 1e-8), (0.5, 5.0, 1e-3)]
)
def test_squashed_entropy_equals_a_fine_integral(mean: float, std: float, tolerance: float) -> None:
    z = torch.linspace(-12, 12, 400_001, dtype=torch.float64)
    u = mean + std * z
    log_slope = 2 * (math.log(2) - u.abs() - torch.log1p(torch.exp(-2 * u.abs())))
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    normal_entropy = 0.5 * (1 + math.log(2 * math.pi)) + math.log(std)
    expected = normal_entropy + torch.trapezoid(density * log_slope, z).item()
    ours = SquashedGaussian(torch.tensor([[mean, math.log(std)]], dtype=torch.float64), (1,)).entropy()
    assert ours.item() == pytest.approx(expected, abs=tolerance)


def test_squashed_entropy_is_the_mean_surprise_of_samples() -> None:
    ours = SquashedGaussian(torch.tensor([0.4, -1.0, -0.5, 0.2]).expand(DRAWS, 4), (2,))
    _, log_prob = ours.sample_with_log_prob(seeded())
    error = 4 * log_prob.std().item() / math.sqrt(DRAWS)
    assert -log_prob.mean().item() == pytest.approx(ours.entropy()[0].item(), abs=error)


def test_squashed_density_integrates_to_one() -> None:
    actions = torch.linspace(-1, 1, 200_001, dtype=torch.float64)
    inputs = torch.tensor([0.5, -0.7], dtype=torch.float64).expand(len(actions), 2)
    density = SquashedGaussian(inputs, (1,)).log_prob(actions.unsqueeze(-1)).exp()
    assert torch.trapezoid(density, actions).item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("kind", [DiagonalGaussian, SquashedGaussian])
def test_gradients_agree_with_finite_differences(kind: type) -> None:
    inputs, others = (random_inputs(4, 6, seed=seed).requires_grad_() for seed in (0, 1))
    actions = kind(inputs, (3,)).sample(seeded())

    def reparametrized(x: Tensor) -> tuple[Tensor, Tensor]:
        return kind(x, (3,)).sample_with_log_prob(seeded())

    assert torch.autograd.gradcheck(lambda x: kind(x, (3,)).log_prob(actions), inputs)
    assert torch.autograd.gradcheck(lambda x: kind(x, (3,)).entropy(), inputs)
    assert torch.autograd.gradcheck(lambda x, y: kind(x, (3,)).kl(kind(y, (3,))), (inputs, others))
    assert torch.autograd.gradcheck(reparametrized, inputs)


@pytest.mark.parametrize("kind", [DiagonalGaussian, SquashedGaussian])
def test_plain_samples_carry_no_gradient(kind: type) -> None:
    assert not kind(random_inputs(4, 6).requires_grad_(), (3,)).sample().requires_grad


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_squashed_samples_lie_in_the_space(shape: tuple[int, ...]) -> None:
    space = spaces.Box(-1, 1, shape)
    kind = distribution_for(space, squashed=True)
    ours = kind(3 * random_inputs(50, kind.input_size).float())
    for actions in (ours.sample(seeded()), ours.mode()):
        for action in actions:
            assert space.contains(np.asarray(action.numpy()))
