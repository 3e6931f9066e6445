"""The losses of soft actor-critic against float64 references, finite differences and hand-computed numbers."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from unison.errors import BatchError
from unison.losses import (
    actor_loss,
    discrete_soft_value,
    soft_target,
    soft_value,
    temperature_loss,
    twin_critic_loss,
)


def double(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_soft_value_by_hand() -> None:
    qs = torch.stack([double(1.0, 5.0), double(2.0, 3.0)])
    # min(1, 2) - 0.5 * -1 = 1.5;  min(5, 3) - 0.5 * 2 = 2.
    assert soft_value(qs, double(-1.0, 2.0), 0.5).tolist() == [1.5, 2.0]


def test_discrete_soft_value_by_hand() -> None:
    probabilities = double(0.25, 0.75)
    qs = torch.stack([double(1.0, 5.0), double(2.0, 3.0)]).unsqueeze(1)
    # 0.25 * 1 + 0.75 * 3 = 2.5, plus alpha times the entropy.
    entropy = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    value = discrete_soft_value(qs, probabilities.log().unsqueeze(0), 0.2)
    assert value.item() == pytest.approx(2.5 + 0.2 * entropy, abs=1e-14)


def test_the_expectation_is_what_samples_average_to() -> None:
    log_probs, qs = torch.log_softmax(normal(1, 4), -1), normal(2, 1, 4, seed=1)
    actions = torch.multinomial(log_probs[0].exp(), 100_000, True, generator=torch.Generator().manual_seed(0))
    sampled = soft_value(qs[:, 0, actions], log_probs[0, actions], 0.3)
    expected = discrete_soft_value(qs, log_probs, 0.3).item()
    assert sampled.mean().item() == pytest.approx(expected, abs=4 * sampled.std().item() / math.sqrt(100_000))


def test_soft_target_by_hand() -> None:
    terminateds = torch.tensor([False, True, False])
    rewards, values = double(1.0, 2.0, 3.0), double(10.0, 20.0, 40.0)
    assert soft_target(rewards, values, terminateds, gamma=0.5).tolist() == [6.0, 2.0, 23.0]
    assert soft_target(rewards, values, terminateds, gamma=0.5, n_steps=3).tolist() == [2.25, 2.0, 8.0]
    n_steps = torch.tensor([1, 2, 2])
    assert soft_target(rewards, values, terminateds, gamma=0.5, n_steps=n_steps).tolist() == [6.0, 2.0, 13.0]


def test_soft_target_equals_the_n_step_definition() -> None:
    """From single rewards: the sum over k of gamma^k r_k, cut at termination, plus what lies behind the last step."""
    gamma, n, rows = 0.9, 4, 200
    single_rewards, values = normal(rows, n), normal(rows, seed=1)
    ends = torch.randint(0, 2 * n, (rows,), generator=torch.Generator().manual_seed(2)).tolist()
    returns, expected, terminateds = [], [], []
    for row in range(rows):
        length = min(n, ends[row] + 1)
        total = sum(gamma**k * single_rewards[row, k].item() for k in range(length))
        terminated = ends[row] < n
        returns.append(total)
        terminateds.append(terminated)
        expected.append(total if terminated else total + gamma**n * values[row].item())
    targets = soft_target(double(*returns), values, torch.tensor(terminateds), gamma=gamma, n_steps=n)
    torch.testing.assert_close(targets, double(*expected), rtol=1e-12, atol=1e-12)


def test_terminal_values_never_reach_the_target_even_if_nan() -> None:
    target = soft_target(double(1.0), double(float("nan")), torch.tensor([True]), gamma=0.9)
    assert target.item() == 1.0


def test_soft_target_has_no_gradient() -> None:
    values = normal(3).requires_grad_()
    assert not soft_target(normal(3), values, torch.zeros(3, dtype=torch.bool), gamma=0.9).requires_grad


def test_critic_loss_by_hand() -> None:
    qs = torch.stack([double(1.0, 2.0), double(4.0, 0.0)])
    # Errors 1 - 2, 2 - 4 and 4 - 2, 0 - 4: (1 + 4) / 2 / 2 + (4 + 16) / 2 / 2.
    assert twin_critic_loss(qs, double(2.0, 4.0)).item() == 1.25 + 5.0
    # Weighted by 1 and 0.5: (1 + 4 + 0.5 * (4 + 16)) / 2 / 2.
    assert twin_critic_loss(qs, double(2.0, 4.0), weights=double(1.0, 0.5)).item() == (1 + 4 + 0.5 * 20) / 4


def test_each_critic_is_trained_as_if_alone() -> None:
    qs, targets = normal(2, 6).requires_grad_(), normal(6, seed=1)
    (gradient,) = torch.autograd.grad(twin_critic_loss(qs, targets), qs)
    for critic in range(2):
        (alone,) = torch.autograd.grad(0.5 * torch.nn.functional.mse_loss(qs[critic], targets), qs)
        torch.testing.assert_close(gradient[critic], alone[critic])


def test_actor_loss_equals_the_formula() -> None:
    qs, logp = normal(2, 50), normal(50, seed=1)
    expected = (0.3 * logp - torch.minimum(qs[0], qs[1])).mean()
    torch.testing.assert_close(actor_loss(soft_value(qs, logp, 0.3)), expected, rtol=1e-13, atol=1e-13)


def test_discrete_actor_loss_equals_the_formula() -> None:
    qs, logits = normal(2, 50, 4), normal(50, 4, seed=1)
    probabilities = torch.softmax(logits, -1)
    expected = (probabilities * (0.3 * probabilities.log() - torch.minimum(qs[0], qs[1]))).sum(-1).mean()
    loss = actor_loss(discrete_soft_value(qs, torch.log_softmax(logits, -1), 0.3))
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=1e-13)


def test_the_actor_is_drawn_to_the_softmax_of_the_values() -> None:
    """The minimum over policies is pi = softmax(Q / alpha) (Haarnoja et al. 2018a, eq. 10): there the gradient is 0."""
    qs = normal(3, 5).expand(2, 3, 5)
    logits = (qs[0] / 0.7).requires_grad_()
    actor_loss(discrete_soft_value(qs, torch.log_softmax(logits, -1), 0.7)).backward()
    torch.testing.assert_close(logits.grad, torch.zeros(3, 5, dtype=torch.float64), rtol=0, atol=1e-15)


def test_temperature_loss_by_hand() -> None:
    log_alpha = torch.tensor(math.log(0.5), dtype=torch.float64, requires_grad=True)
    loss = temperature_loss(log_alpha, double(-1.0, -3.0), 5.0)
    loss.backward()
    # -0.5 * mean(4, 2); the derivative in log alpha is the same.
    assert loss.item() == pytest.approx(-1.5, abs=1e-14)
    assert log_alpha.grad.item() == pytest.approx(-1.5, abs=1e-14)


@pytest.mark.parametrize(("entropy", "sign"), [(0.5, -1), (2.0, 1)])
def test_the_temperature_grows_while_entropy_is_below_its_target(entropy: float, sign: int) -> None:
    log_alpha = torch.zeros((), requires_grad=True)
    temperature_loss(log_alpha, torch.full((4,), -entropy), 1.0).backward()
    assert math.copysign(1, log_alpha.grad.item()) == sign


def test_the_temperature_loss_reaches_no_policy() -> None:
    log_alpha, logp = torch.zeros((), requires_grad=True), torch.zeros(3, requires_grad=True)
    temperature_loss(log_alpha, logp, 1.0).backward()
    assert logp.grad is None


def test_gradients_agree_with_finite_differences() -> None:
    qs, every_q, logp = normal(2, 6).requires_grad_(), normal(2, 6, 3).requires_grad_(), normal(6, seed=1)
    logits, alpha = normal(6, 3, seed=2).requires_grad_(), double(0.3).squeeze().requires_grad_()
    targets, weights = normal(6, seed=3), normal(6, seed=4).abs()
    logp.requires_grad_()
    assert torch.autograd.gradcheck(lambda q, p, a: actor_loss(soft_value(q, p, a)), (qs, logp, alpha))
    assert torch.autograd.gradcheck(
        lambda q, x, a: actor_loss(discrete_soft_value(q, torch.log_softmax(x, -1), a)), (every_q, logits, alpha)
    )
    assert torch.autograd.gradcheck(lambda q: twin_critic_loss(q, targets, weights=weights), qs)
    assert torch.autograd.gradcheck(lambda a: temperature_loss(a, logp, -1.0), alpha)


LOG_ALPHA = torch.tensor(-0.5, dtype=torch.float64)
LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "twin_critic_loss": lambda qs, row, mask: twin_critic_loss(qs, row, mask),
    "weighted_critic_loss": lambda qs, row, mask: twin_critic_loss(qs, row, mask, row),
    "actor_loss": lambda qs, row, mask: actor_loss(soft_value(qs, row, 0.4), mask),
    "temperature_loss": lambda qs, row, mask: temperature_loss(LOG_ALPHA, row + 0 * qs[0], 0.7, mask),
}


@pytest.mark.parametrize("garbage", [0.0, 1e30, float("nan")])
@pytest.mark.parametrize("name", LOSSES)
def test_padded_equals_unpadded(name: str, garbage: float) -> None:
    qs, row = normal(2, 5), normal(5, seed=1)
    mask = torch.tensor([True, True, False, True, False, True, True])
    padded_qs = torch.full((2, 7), garbage, dtype=torch.float64).masked_scatter(mask.expand(2, 7), qs)
    padded_row = torch.full((7,), garbage, dtype=torch.float64).masked_scatter(mask, row)
    qs.requires_grad_()
    padded_qs.requires_grad_()
    expected, loss = LOSSES[name](qs, row, None), LOSSES[name](padded_qs, padded_row, mask)
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=1e-13)
    if expected.requires_grad:
        (gradient,) = torch.autograd.grad(loss, padded_qs)
        torch.testing.assert_close(gradient[:, mask], torch.autograd.grad(expected, qs)[0], rtol=1e-13, atol=1e-13)
        assert torch.equal(gradient[:, ~mask], torch.zeros(2, 2, dtype=torch.float64))


@pytest.mark.parametrize(
    "call",
    [
        lambda: soft_value(normal(6), normal(6), 0.2),
        lambda: soft_value(normal(2, 6), normal(6, 1), 0.2),
        lambda: discrete_soft_value(normal(2, 6, 3), normal(6), 0.2),
        lambda: soft_target(normal(6), normal(6, 1), torch.zeros(6, dtype=torch.bool), gamma=0.9),
        lambda: soft_target(normal(6), normal(6), torch.zeros(6), gamma=0.9),
        lambda: soft_target(normal(6), normal(6), torch.zeros(6, dtype=torch.bool), gamma=0.9, n_steps=torch.ones(5)),
        lambda: twin_critic_loss(normal(6), normal(6)),
        lambda: twin_critic_loss(normal(2, 6), normal(2, 6)),
        lambda: twin_critic_loss(normal(2, 6), normal(6), weights=normal(5)),
        lambda: actor_loss(normal(6), torch.ones(5, dtype=torch.bool)),
        lambda: temperature_loss(torch.zeros(1), normal(6), 1.0),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call: Callable[[], Tensor]) -> None:
    with pytest.raises(BatchError, match="needed"):
        call()


@pytest.mark.parametrize("terminateds", [torch.zeros(6), torch.zeros(6, 1, dtype=torch.bool)])
def test_what_is_no_termination_is_called_by_its_name(terminateds: Tensor) -> None:
    with pytest.raises(BatchError, match=r"'terminateds' is .*true where the episode terminated"):
        soft_target(normal(6), normal(6), terminateds, gamma=0.9)


def test_the_losses_trace_and_compile() -> None:
    def losses(qs: Tensor, logits: Tensor, logp: Tensor, log_alpha: Tensor, ends: Tensor, steps: Tensor) -> Tensor:
        alpha = log_alpha.exp()
        value = discrete_soft_value(qs, torch.log_softmax(logits, -1), alpha)
        target = soft_target(logp, value, ends, gamma=0.9, n_steps=steps)
        sampled = actor_loss(soft_value(qs[..., 0], logp, alpha), ends)
        return twin_critic_loss(qs[..., 0], target, ends) + sampled + temperature_loss(log_alpha, logp, 0.5, ends)

    def gradients(*arguments: Tensor) -> tuple[Tensor, ...]:
        return torch.func.grad(losses, argnums=(0, 1, 2, 3))(*arguments)

    def arguments(seed: int) -> tuple[Tensor, ...]:
        ends = normal(6, seed=seed) > 0
        return normal(2, 6, 3, seed=seed), normal(6, 3), normal(6, seed=seed), LOG_ALPHA, ends, torch.arange(6)

    traced = make_fx(gradients, tracing_mode="fake")(*arguments(0))
    compiled = torch.compile(gradients, fullgraph=True, backend="eager")
    torch.testing.assert_close(traced(*arguments(1)), gradients(*arguments(1)))
    torch.testing.assert_close(compiled(*arguments(1)), gradients(*arguments(1)))
