"""The losses compile: a whole step of PPO is one graph that computes what eager computes."""

import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from unison.losses import (
    approximate_kl,
    clipped_surrogate,
    explained_variance,
    generalized_advantages,
    masked_mean,
    standardize,
    value_loss,
)
from unison.modules.distributions import distribution_for

ROWS = 13
KIND = distribution_for(spaces.Discrete(3, start=1))


@pytest.fixture(autouse=True)
def _forget_compiled_graphs() -> None:
    torch.compiler.reset()


def batch(seed: int, masked: bool) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    columns = {
        name: torch.randn(ROWS, generator=generator) for name in ("old_logp", "rewards", "values", "next_values")
    }
    columns["obs"] = torch.randn(ROWS, 4, generator=generator)
    columns["actions"] = torch.randint(1, 4, (ROWS,), generator=generator)
    columns["continues"] = torch.rand(ROWS, generator=generator) < 0.8
    columns["clip_param"] = torch.tensor(0.2)
    if masked:
        columns["mask"] = torch.rand(ROWS, generator=generator) < 0.7
    return columns


def make_step(module: nn.Module) -> object:
    def step(parameters: dict[str, Tensor], b: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        mask = b.get("mask")
        advantages = generalized_advantages(
            b["rewards"], b["values"], b["next_values"], b["continues"], gamma=0.9, lambda_=0.8
        )
        targets = advantages + b["values"]

        def loss(p: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            out = torch.func.functional_call(module, p, (b["obs"],))
            values, distribution = out[:, 0], KIND(out[:, 1:])
            logp = distribution.log_prob(b["actions"])
            parts = {
                "policy": clipped_surrogate(logp, b["old_logp"], standardize(advantages, mask), b["clip_param"], mask),
                "value": value_loss(values, targets, mask=mask),
                "clipped_value": value_loss(values, targets, b["values"], 0.5, mask),
                "entropy": masked_mean(distribution.entropy(), mask),
            }
            metrics = {
                "explained": explained_variance(targets, values, mask),
                "kl": approximate_kl(logp, b["old_logp"], mask),
            }
            return sum(parts.values()), parts | metrics

        return torch.func.grad(loss, has_aux=True)(parameters)

    return step


@pytest.mark.parametrize("masked", [False, True])
def test_a_step_of_ppo_traces_and_compiles(masked: bool) -> None:
    torch.manual_seed(0)
    module = nn.Linear(4, 4)
    parameters = {name: parameter.detach() for name, parameter in module.named_parameters()}
    step = make_step(module)
    traced = make_fx(step, tracing_mode="fake")(parameters, batch(0, masked))
    compiled = torch.compile(step, fullgraph=True, backend="eager")
    for seed in (1, 2):
        arguments = parameters, batch(seed, masked)
        expected = step(*arguments)
        torch.testing.assert_close(traced(*arguments), expected)
        torch.testing.assert_close(compiled(*arguments), expected)


def test_losses_run_under_vmap() -> None:
    """Modules of one shape are updated as one batched program, each with coefficients of its own."""
    batches = [batch(seed, masked=True) for seed in range(3)]
    clip_params = torch.tensor([0.1, 0.2, 0.3])

    def loss(logp: Tensor, old_logp: Tensor, advantages: Tensor, clip_param: Tensor, mask: Tensor) -> Tensor:
        return clipped_surrogate(logp, old_logp, advantages, clip_param, mask) + value_loss(logp, advantages, mask=mask)

    columns = [torch.stack([b[name] for b in batches]) for name in ("values", "old_logp", "rewards")]
    masks = torch.stack([b["mask"] for b in batches])
    together = torch.func.vmap(loss)(*columns, clip_params, masks)
    one_by_one = [loss(*(c[i] for c in columns), clip_params[i], masks[i]) for i in range(3)]
    torch.testing.assert_close(together, torch.stack(one_by_one))
