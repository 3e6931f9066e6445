"""A function as a graph: pure, the same numbers, shapes written down, and torch's compiler left alone."""

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from support.engines import Case, assert_agree
from unison.algorithms import PPOLearner
from unison.data import Columns
from unison.learner.engines.functional import functional_graph
from unison.learner.engines.nodes import value
from unison.types import ALL_MODULES

ROWS = torch.arange(12.0).reshape(3, 4)


def writes(a: Tensor, b: Tensor) -> Sequence[Tensor]:
    whole = a.clone()
    whole[1].mul_(b)
    whole.view(-1)[2:4] += 1.0
    return [whole, whole.t()]


def takes_lists(a: Tensor, b: Tensor) -> Sequence[Tensor]:
    first, second = torch.split(a.clone(), [1, 3], dim=1)
    torch._foreach_add_([made := first + 1, second], [first, second])  # pyright: ignore[reportPrivateUsage]
    return [made, second, *a.max(1)]


def has_a_constant(a: Tensor, b: Tensor) -> Sequence[Tensor]:
    return [a * ROWS[:, :4] + torch.tensor([1.0, 2.0, 3.0, 4.0]), b]


@pytest.mark.parametrize("function", [writes, takes_lists, has_a_constant])
def test_the_graph_gives_what_the_function_gives_and_writes_nothing(function: Any) -> None:
    examples = [torch.randn(3, 4), torch.randn(4)]
    graph = functional_graph(function, [e.clone() for e in examples], {})
    for inputs in (examples, [torch.randn(3, 4), torch.randn(4)]):
        kept = [tensor.clone() for tensor in inputs]
        outputs = graph(*inputs)
        assert all(torch.equal(tensor, before) for tensor, before in zip(inputs, kept, strict=True))
        expected = function(*(tensor.clone() for tensor in inputs))
        for mine, theirs in zip(outputs, expected, strict=True):
            torch.testing.assert_close(mine, theirs)
    for node in graph.graph.nodes:
        if node.op == "call_function":
            assert not getattr(node.target, "_schema", None) or not node.target._schema.is_mutable
    (result,) = [node for node in graph.graph.nodes if node.op == "output"]
    assert [value(node).shape for node in result.args[0]] == [tensor.shape for tensor in outputs]
    assert all(value(node).device.type == "meta" for node in result.args[0])


def test_decompositions_replace_operations() -> None:
    rules = {torch.ops.aten.silu.default: lambda a: a * torch.sigmoid(a)}
    graph = functional_graph(lambda a: [torch.nn.functional.silu(a)], [ROWS], rules)
    targets = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    assert targets == ["aten.sigmoid.default", "aten.mul.Tensor"]
    torch.testing.assert_close(graph(ROWS)[0], torch.nn.functional.silu(ROWS))


TRAIN = """
import sys
from unison import PPOConfig
config = PPOConfig().environment("CartPole-v1").framework(engine="xla", num_threads=1)
config = config.training(train_batch_size=64, minibatch_size=32, num_epochs=2)
algorithm = config.build()
results = algorithm.train()
assert results["learners"]["__all_modules__"]["engine"] == "xla", results
assert "torch._dynamo" not in sys.modules
algorithm.stop()
"""


def test_xla_does_without_the_second_that_importing_torchs_compiler_takes() -> None:
    pytest.importorskip("jax")
    subprocess.run([sys.executable, "-c", TRAIN], check=True, timeout=120)


class CompiledByTheUser(PPOLearner):
    """A Learner whose loss goes through torch.compile."""

    weight_of = staticmethod(torch.compile(lambda observations: 2 + observations.mean().sin(), backend="eager"))

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
        loss = super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)
        return loss * self.weight_of(batch[Columns.OBS])


def test_what_users_compile_is_traced_as_it_is_written() -> None:
    case = Case(cls=CompiledByTheUser)
    eager, traced = case.learner("eager"), case.learner("interpreted")
    for seed in range(2):
        results = [case.update(learner, seed)[ALL_MODULES] for learner in (eager, traced)]
        assert results[1]["engine"] == "interpreted"
    assert_agree(eager, traced)
