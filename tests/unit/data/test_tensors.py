"""What a batch can hold that no loss can use is found before a step, and named with its module, column and row."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from support.learners import OBS, assert_same, make_columns, make_config, make_learner, weights
from unison import PPOConfig, SACConfig
from unison.data.tensors import TensorConverter
from unison.errors import BatchError


@pytest.mark.parametrize(
    ("space", "sound", "wrong", "message"),
    [
        (gym.spaces.Discrete(3), [0, 2], [0, 3], r"holds 3 in row 1; give numbers of the space Discrete\(3\)"),
        (gym.spaces.Discrete(3), [0, 2], [-1, 2], "holds -1 in row 0"),
        (gym.spaces.Discrete(3, start=-1), [-1, 1], [0, 2], "holds 2 in row 1"),
        (gym.spaces.Discrete(2, start=5), [5, 6], [7, 5], "holds 7 in row 0"),
        (gym.spaces.Discrete(2, start=5), [6, 5], [5, 0], "holds 0 in row 1"),
        (gym.spaces.Discrete(2, start=-3), [-3, -2], [-3, -1], "holds -1 in row 1"),
        (gym.spaces.MultiDiscrete([2, 4], start=[3, 0]), [[3, 3], [4, 0]], [[4, 0], [1, 0]], "holds 1 in row 1"),
        (gym.spaces.Tuple([gym.spaces.Discrete(2)]), (np.array([0, 1]),), (np.array([0, 2]),), "/0' holds 2 in row 1"),
        (gym.spaces.MultiDiscrete([2, 4]), [[1, 3], [0, 0]], [[1, 3], [2, 0]], "holds 2 in row 1"),
    ],
)
def test_actions_outside_their_space(space: Any, sound: Any, wrong: Any, message: str) -> None:
    convert = TensorConverter(
        "walker",
        observation_space=None,
        action_space=space,
        required=("actions",),
        stateful=False,
        initial_state={},
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    for kind in (np.array, torch.tensor) if isinstance(sound, list) else (tuple,):
        convert({"actions": kind(sound)})
        with pytest.raises(BatchError, match=f"Module 'walker': column 'actions.*{message}"):
            convert({"actions": kind(wrong)})


@pytest.mark.parametrize("engine", ["eager", "xla"])
@pytest.mark.parametrize("algorithm", [PPOConfig, SACConfig])
def test_rows_that_do_not_count_may_hold_anything(algorithm: Any, engine: str) -> None:
    if engine == "xla":
        pytest.importorskip("jax")
    space = gym.spaces.Discrete(2, start=3)
    config = algorithm().debugging(seed=0).framework(engine=engine).training(shuffle_batch_per_epoch=False)
    columns: dict[str, Any] = {**make_columns(8, 0, gym.spaces.Discrete(2)), "loss_mask": np.arange(8) != 2}
    columns |= {"actions": columns["actions"] + 3, "new_obs": columns["obs"] + 1, "terminateds": np.zeros(8, bool)}
    columns["rewards"] = np.ones(8, np.float32)
    trained: list[Any] = []
    for is_spoilt in (False, True):
        learner = config.build_learner(spaces={"default_policy": (OBS, space)})
        given = {name: column.copy() for name, column in columns.items()}
        for name in ("obs", "new_obs", "actions") if is_spoilt else ():
            given[name][2] = 0 if name == "actions" else np.nan
        results = learner.update_from_batch(given, num_iters=2)
        assert results["__all_modules__"]["engine"] == engine
        assert results["__all_modules__"]["num_non_finite_steps"] == 0
        trained.append(weights(learner))
    assert_same(*trained)


UNFIT: dict[str, tuple[Any, str]] = {
    "sparse": (lambda a: torch.tensor(a).to_sparse(), "has layout torch.sparse_coo; give a dense tensor"),
    "compressed": (lambda a: torch.tensor(a)[:, None].to_sparse_csr(), "has layout torch.sparse_csr; give a dense"),
    "nested": (
        lambda a: torch.nested.nested_tensor([torch.tensor(a)] * 8, layout=torch.jagged),
        "is a nested tensor; give a dense tensor of one shape",
    ),
    "long double": (lambda a: a.astype(np.longdouble), "has dtype float128; give one of torch, such as float32"),
    "objects": (lambda a: a.astype(object), "holds numbers with dtype object; give them as float32"),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:The PyTorch API of nested")
@pytest.mark.parametrize("name", ["advantages", "loss_mask", "of my own"])
@pytest.mark.parametrize("kind", UNFIT)
def test_what_torch_or_a_loss_cannot_take_is_named_and_changes_nothing(kind: str, name: str) -> None:
    learner, (change, message) = make_learner(), UNFIT[kind]
    before, columns = weights(learner), make_columns(8)
    column = np.ones(8, bool) if name == "loss_mask" and kind != "long double" else columns["advantages"]
    with pytest.raises(BatchError, match=f"Module 'default_policy': column '{name}' {message}"):
        learner.update_from_batch({**columns, name: change(column)})
    assert_same(before, weights(learner))


def test_objects_that_are_no_numbers_are_left_out() -> None:
    infos = {"infos": np.array([{}] * 8), "names": np.array(["a"] * 8, object), "none": np.array([None] * 8)}
    plain, laden = make_learner(), make_learner()
    plain.update_from_batch(make_columns(8))
    laden.update_from_batch({**make_columns(8), **infos})
    assert_same(weights(plain), weights(laden))


def test_a_learner_is_unchanged_by_actions_outside_their_space() -> None:
    learner = make_learner()
    before = weights(learner)
    with pytest.raises(BatchError, match="Module 'default_policy': column 'actions' holds 5 in row 3"):
        learner.update_from_batch({**make_columns(8), "actions": np.array([0, 1, 2, 5, 0, 1, 2, 1])})
    assert_same(before, weights(learner))
    assert learner.counters["num_updates"] == 0


def test_what_a_caller_does_with_results_is_its_own_matter() -> None:
    learner = make_learner()
    results = learner.update_from_batch(make_columns(8))
    kept = {module_id: dict(values) for module_id, values in learner.results.items()}
    results["default_policy"].clear()
    results.clear()
    assert learner.results == kept
    assert kept["default_policy"]


def test_columns_that_episodes_lack_are_what_connectors_compute() -> None:
    columns = make_columns(4)
    del columns["advantages"]
    with pytest.raises(BatchError, match=r"the Learner's `connectors` compute them"):
        make_learner().update_from_batch(columns)


def test_a_state_of_another_make_is_named() -> None:
    learner = make_learner(make_config().rl_module(model_config={"hidden_sizes": (8,), "lstm_size": 8}))
    columns = make_columns(4) | {"loss_mask": np.ones(4, bool)}
    sequences = {name: column[:, None] for name, column in columns.items()}
    memory = {"h": np.zeros((4, 8), np.float32), "c": np.zeros((4, 8), np.float32)}
    learner.update_from_batch(sequences | {"state_in": {"policy": memory, "value": memory}})
    for wrong in (memory, {"policy": memory, "value": {"h": np.zeros((4, 7), np.float32), "c": memory["c"]}}):
        with pytest.raises(BatchError, match=r"Module 'default_policy': column 'state_in' holds .* give \{'policy/h'"):
            learner.update_from_batch(sequences | {"state_in": wrong})
