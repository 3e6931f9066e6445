import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from unison.errors import BatchError
from unison.modules import ActorCritic
from unison.types import Tree, tree_leaves, tree_map

SPACE = spaces.Box(-1, 1, (4,))
CASES = [(cell, share) for cell in ("lstm", "gru") for share in (False, True)]


def make(cell: str, share: bool) -> ActorCritic:
    settings = {"lstm_size": 8, "cell": cell, "share_value_layers": share, "hidden_sizes": (8,)}
    return ActorCritic(observation_space=SPACE, action_space=spaces.Discrete(3), model_config=settings)


def random_state(module: ActorCritic, rows: int) -> Tree:
    return tree_map(lambda leaf: torch.randn(rows, *leaf.shape), module.get_initial_state())


def assert_same(left: Tree, right: Tree) -> None:
    for a, b in zip(tree_leaves(left), tree_leaves(right), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("cell", "share"), CASES)
def test_step_by_step_equals_all_steps_at_once(cell: str, share: bool) -> None:
    module = make(cell, share)
    observations, state = torch.randn(3, 6, 4), random_state(module, 3)
    at_once = module.forward_train({"obs": observations, "state_in": state})
    logits: list[Tensor] = []
    values: list[Tensor] = []
    for t in range(6):
        batch = {"obs": observations[:, t : t + 1], "state_in": state}
        values.append(module.compute_values(batch))
        outputs = module.forward_inference(batch)
        logits.append(outputs["action_dist_inputs"])
        state = outputs["state_out"]
    torch.testing.assert_close(torch.cat(logits, 1), at_once["action_dist_inputs"])
    torch.testing.assert_close(torch.cat(values, 1), at_once["vf_preds"])
    assert_same(state, at_once["state_out"])


@pytest.mark.parametrize(("cell", "share"), CASES)
def test_padding_at_the_end_changes_no_valid_step_and_no_gradient(cell: str, share: bool) -> None:
    module = make(cell, share)
    lengths = [2, 5, 3]
    rows = [torch.randn(length, 4) for length in lengths]
    state = random_state(module, 3)
    padded = torch.full((3, 5, 4), 7.0)
    mask = torch.zeros(3, 5, dtype=torch.bool)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
        mask[i, : len(row)] = True
    outputs = module.forward_train({"obs": padded, "state_in": state, "loss_mask": mask})
    (outputs["vf_preds"][mask].square().sum() + outputs["action_dist_inputs"][mask].square().sum()).backward()
    gradients = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    for i, row in enumerate(rows):
        alone = module.forward_train(
            {"obs": row.unsqueeze(0), "state_in": tree_map(lambda leaf, i=i: leaf[i : i + 1], state)}
        )
        torch.testing.assert_close(outputs["vf_preds"][i, : len(row)], alone["vf_preds"][0])
        torch.testing.assert_close(outputs["action_dist_inputs"][i, : len(row)], alone["action_dist_inputs"][0])
        (alone["vf_preds"].square().sum() + alone["action_dist_inputs"].square().sum()).backward()
    for padded_gradient, parameter in zip(gradients, module.parameters(), strict=True):
        torch.testing.assert_close(padded_gradient, parameter.grad, rtol=1e-4, atol=1e-6)


def test_the_state_matters_and_starts_at_zero() -> None:
    module = make("lstm", True)
    observations = torch.randn(2, 1, 4)
    assert set(module.get_initial_state()) == {"h", "c"}
    zeros = tree_map(lambda leaf: leaf.expand(2, *leaf.shape), module.get_initial_state())
    assert not any(leaf.any() for leaf in tree_leaves(zeros))
    fresh = module.forward_train({"obs": observations, "state_in": zeros})["vf_preds"]
    later = module.forward_train({"obs": observations, "state_in": random_state(module, 2)})["vf_preds"]
    assert (fresh != later).all()


def test_each_function_has_a_memory_of_its_own_unless_shared() -> None:
    assert set(make("gru", False).get_initial_state()) == {"policy", "value"}
    assert set(make("gru", True).get_initial_state()) == {"h"}


def test_a_batch_without_state_is_refused() -> None:
    with pytest.raises(BatchError, match="lacks the column 'state_in'"):
        make("lstm", False).forward_train({"obs": torch.zeros(2, 1, 4)})


def test_acting_needs_the_value_functions_memory() -> None:
    kept = make("lstm", False).get_state(inference_only=True)
    assert any(name.startswith("value_memory.") for name in kept)
    assert any(name.startswith("value_encoder.") for name in kept)
    assert not any(name.startswith("value_head.") for name in kept)
