"""SampleBatch and MultiAgentBatch: rows, columns, and what is refused."""

import numpy as np
import pytest
import torch

from unison.data import Columns, MultiAgentBatch, SampleBatch
from unison.errors import BatchError


def test_counts_rows_and_keeps_arrays_uncopied() -> None:
    obs = np.arange(6, dtype=np.uint8).reshape(3, 2)
    rewards = torch.ones(3)
    batch = SampleBatch({Columns.OBS: obs, Columns.REWARDS: rewards, Columns.ACTIONS: [0, 1, 0]})
    assert len(batch) == batch.count == 3
    assert batch["obs"] is obs
    assert batch["rewards"] is rewards
    assert isinstance(batch["actions"], np.ndarray)
    assert list(batch.keys()) == ["obs", "rewards", "actions"]
    assert "obs" in batch
    assert "vf_preds" not in batch
    assert batch.get("vf_preds") is None


def test_columns_may_be_trees() -> None:
    batch = SampleBatch({"obs": {"image": np.zeros((4, 2, 2)), "pair": (torch.zeros(4), [1, 2, 3, 4])}})
    part = batch.slice(1, 3)
    assert part.count == 2
    assert part["obs"]["image"].shape == (2, 2, 2)
    assert part["obs"]["pair"][1].tolist() == [2, 3]
    assert np.shares_memory(part["obs"]["image"], batch["obs"]["image"])


def test_concat_joins_rows_of_arrays_tensors_and_trees() -> None:
    one = SampleBatch({"obs": {"a": np.array([1.0])}, "rewards": torch.tensor([1.0])})
    two = SampleBatch({"obs": {"a": np.array([2.0, 3.0])}, "rewards": torch.tensor([2.0, 3.0])})
    both = SampleBatch.concat([one, two])
    assert both["obs"]["a"].tolist() == [1, 2, 3]
    assert torch.equal(both["rewards"], torch.tensor([1.0, 2.0, 3.0]))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "at least one column"),
        ({"obs": np.zeros((0, 4))}, r"empty: columns \['obs'\]"),
        ({"obs": np.zeros((3, 4)), "rewards": np.zeros(2)}, r"'obs': 3, 'rewards': 2"),
        ({"obs": {"a": np.zeros(3), "b": np.zeros(2)}}, r"'obs/a': 3, 'obs/b': 2"),
        ({"obs": object()}, "'obs' holds object"),
        ({"obs": {"a": [None]}}, "'obs/a' holds list"),
        ({"obs": [[1, 2], [3]]}, "'obs' is a ragged list"),
        ({"obs": np.float32(1)}, "'obs' is a single value"),
        ({"obs": {}}, "'obs' is an empty dict"),
    ],
)
def test_unsound_batches_raise_and_name_the_column(columns: dict[str, object], message: str) -> None:
    with pytest.raises(BatchError, match=message):
        SampleBatch(columns)


def test_setting_and_getting_columns_is_checked() -> None:
    batch = SampleBatch({"obs": np.zeros((3, 4))})
    batch["rewards"] = [1, 2, 3]
    assert batch["rewards"].tolist() == [1, 2, 3]
    with pytest.raises(BatchError, match="'weights' has 2 rows; the batch has 3"):
        batch["weights"] = [1, 2]
    with pytest.raises(KeyError, match="No column 'advantages'"):
        batch["advantages"]
    with pytest.raises(BatchError, match="different columns"):
        SampleBatch.concat([batch, SampleBatch({"obs": np.zeros((3, 4))})])
    with pytest.raises(BatchError, match="empty"):
        batch.slice(2, 2)


def test_multi_agent_batch_counts_env_steps_and_rows() -> None:
    batch = MultiAgentBatch({"a": {"obs": np.zeros((3, 1))}, "b": SampleBatch({"obs": np.zeros((5, 1))})}, env_steps=4)
    assert len(batch) == batch.count == batch.env_steps() == 4
    assert batch.agent_steps() == 8
    assert isinstance(batch.policy_batches["a"], SampleBatch)


def test_multi_agent_batch_names_the_module_of_a_bad_batch() -> None:
    with pytest.raises(BatchError, match="Module 'b': The batch is empty"):
        MultiAgentBatch({"a": {"obs": np.zeros((3, 1))}, "b": {"obs": np.zeros((0, 1))}}, env_steps=3)
    with pytest.raises(BatchError, match="at least one module"):
        MultiAgentBatch({}, env_steps=3)
    with pytest.raises(BatchError, match="negative"):
        MultiAgentBatch({"a": {"obs": np.zeros((3, 1))}}, env_steps=-1)


def test_a_misspelt_column_is_told_the_nearest() -> None:
    batch = SampleBatch({"obs": np.zeros((2, 3)), "actions": np.zeros(2)})
    for name, near in (("action", "actions"), ("observations", "obs")):
        with pytest.raises(KeyError, match=f"No column '{name}'.*Did you mean '{near}'"):
            batch[name]
