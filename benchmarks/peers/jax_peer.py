"""PPO in pure JAX: all passes and minibatches inside one compiled program."""

import os
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import jax
import jax.numpy as jnp
import optax
from protocol import Contender, Update
from work import ADAM_EPS, CLIP, ENTROPY_WEIGHT, LR, MAX_NORM, VALUE_WEIGHT, Work


def make_network(work: Work, key: Any, outputs: int) -> list[Any]:
    sizes = [work.observation, *work.hidden, outputs]
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        (jax.random.normal(key, (rows, columns)) * 0.1, jnp.zeros(columns))
        for key, rows, columns in zip(keys, sizes, sizes[1:], strict=False)
    ]


def forward(layers: list[Any], values: Any) -> Any:
    for weights, bias in layers[:-1]:
        values = jnp.tanh(values @ weights + bias)
    weights, bias = layers[-1]
    return values @ weights + bias


def log_prob_and_entropy(work: Work, params: Any, rows: dict[str, Any]) -> tuple[Any, Any]:
    outputs = forward(params["policy"], rows["obs"])
    if work.is_discrete:
        logits = jax.nn.log_softmax(outputs)
        logp = jnp.take_along_axis(logits, rows["actions"][:, None], 1)[:, 0]
        return logp, -(jnp.exp(logits) * logits).sum(-1).mean()
    log_std, half_log = params["log_std"], 0.5 * jnp.log(2 * jnp.pi)
    scaled = (rows["actions"] - outputs) / jnp.exp(log_std)
    return (-0.5 * scaled**2 - log_std - half_log).sum(-1), (log_std + half_log + 0.5).sum()


def ppo_loss(work: Work, params: Any, rows: dict[str, Any]) -> Any:
    logp, entropy = log_prob_and_entropy(work, params, rows)
    advantages = rows["advantages"]
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    ratio = jnp.exp(logp - rows["action_logp"])
    surrogate = jnp.minimum(advantages * ratio, advantages * jnp.clip(ratio, 1 - CLIP, 1 + CLIP)).mean()
    value_error = ((forward(params["value"], rows["obs"])[:, 0] - rows["value_targets"]) ** 2).mean()
    return VALUE_WEIGHT * value_error - surrogate - ENTROPY_WEIGHT * entropy


def build(data: dict[str, Any]) -> Update:
    work = Work.from_dict(data)
    if work.modules > 1 or work.learners:
        raise NotImplementedError("the JAX program is for one module")
    first, second = jax.random.split(jax.random.PRNGKey(0))
    params = {
        "policy": make_network(work, first, work.num_actions),
        "value": make_network(work, second, 1),
        "log_std": jnp.zeros(work.num_actions),
    }
    optimizer = optax.chain(optax.clip_by_global_norm(MAX_NORM), optax.adam(LR, eps=ADAM_EPS))
    columns = {name: jnp.asarray(column) for name, column in work.columns().items()}

    def step(state: Any, rows: dict[str, Any]) -> tuple[Any, None]:
        params, moments = state
        changes, moments = optimizer.update(jax.grad(lambda p: ppo_loss(work, p, rows))(params), moments, params)
        return (optax.apply_updates(params, changes), moments), None

    def one_pass(state: Any, key: Any) -> tuple[Any, None]:
        order = jax.random.permutation(key, work.batch)
        minibatches = jax.tree.map(lambda c: c[order].reshape(-1, work.minibatch, *c.shape[1:]), columns)
        return jax.lax.scan(step, state, minibatches)[0], None

    whole = jax.jit(lambda state, key: jax.lax.scan(one_pass, state, jax.random.split(key, work.passes))[0])
    held = {"state": (params, optimizer.init(params)), "key": jax.random.PRNGKey(1)}

    def update() -> None:
        held["key"], key = jax.random.split(held["key"])
        held["state"] = jax.block_until_ready(whole(held["state"], key))

    return update


if __name__ == "__main__":
    Contender(build, lambda: {"versions": {"jax": jax.__version__}}).serve()
