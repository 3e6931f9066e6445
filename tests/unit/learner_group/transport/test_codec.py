import gc
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from unison.data import SampleBatch, SingleAgentEpisode
from unison.learner_group.codec import Payload, decode, encode
from unison.learner_group.shared_memory import Segment


def round_trip(value: Any) -> Any:
    payload = encode(value)
    memory = payload.join()
    assert len(memory) == payload.size
    return decode(memoryview(bytearray(memory)), len(payload.skeleton))


ARRAYS = {
    "float32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "scalar": np.array(2.5),
    "empty": np.zeros((0, 4), np.int64),
    "bool": np.array([True, False]),
    "big endian": np.arange(3, dtype=">i4"),
    "text": np.array(["a", "bcd"]),
    "dates": np.array(["2026-01-01"], dtype="M8[D]"),
    "records": np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    "transposed": np.arange(12).reshape(3, 4).T,
    "strided": np.arange(12)[::3],
    "reversed": np.arange(4)[::-1],
    "objects": np.array([1, "two", None], dtype=object),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_numpy_arrays_come_back_equal_and_writable(name: str) -> None:
    array = ARRAYS[name]
    back = round_trip({"x": (array,)})["x"][0]
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tolist() == array.tolist()
    assert back.flags.writeable


TENSORS = {
    "float32": torch.randn(2, 3),
    "scalar": torch.tensor(3),
    "empty": torch.zeros(0, 2),
    "bool": torch.tensor([True, False]),
    "bfloat16": torch.randn(4).bfloat16(),
    "float8": torch.randn(4).to(torch.float8_e4m3fn),
    "complex": torch.randn(3, dtype=torch.complex64),
    "conjugate": torch.randn(3, dtype=torch.complex64).conj(),
    "transposed": torch.randn(3, 4).t(),
    "expanded": torch.randn(1, 4).expand(3, 4),
    "with gradient": torch.randn(3, requires_grad=True),
    "parameter": torch.nn.Parameter(torch.randn(3)),
    "sparse": torch.eye(3).to_sparse(),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_come_back_equal(name: str) -> None:
    tensor = TENSORS[name]
    back = round_trip([tensor])[0]
    assert type(back) is type(tensor)
    assert back.dtype == tensor.dtype
    assert back.requires_grad == tensor.requires_grad
    assert torch.equal(
        back.to_dense().float() if name == "float8" else back.to_dense(),
        tensor.to_dense().float() if name == "float8" else tensor.to_dense(),
    )


def test_array_bytes_are_not_pickled() -> None:
    payload = encode({"a": np.zeros(10_000), "b": torch.zeros(10_000)})
    assert len(payload.skeleton) < 500
    assert payload.size > 120_000


def test_every_array_is_aligned_and_none_overlap() -> None:
    arrays = [np.full(n, n, np.uint8) for n in range(1, 200)]
    payload = encode(arrays)
    offsets = [offset for offset, _ in payload.blocks]
    assert all(offset % 64 == 0 for offset in offsets)
    assert [array.tolist() for array in round_trip(arrays)] == [array.tolist() for array in arrays]


def test_an_array_that_occurs_twice_travels_once_and_stays_one() -> None:
    array = np.zeros(1000)
    assert encode([array, array]).size < 9000
    first, second = round_trip([array, array])
    assert first is second


def test_decoding_copies_nothing() -> None:
    payload = encode([np.zeros(4), torch.zeros(4)])
    memory = bytearray(payload.join())
    array, tensor = decode(memoryview(memory), len(payload.skeleton))
    for offset, _ in payload.blocks:
        start = -(-len(payload.skeleton) // 64) * 64 + offset
        memory[start : start + 4] = b"\x01\x02\x03\x04"
    assert array[0] != 0
    assert tensor[0] != 0


def test_a_segment_holds_the_same_bytes_as_the_joined_payload() -> None:
    payload = encode({"a": np.arange(7), "b": torch.arange(9), "c": "text"})
    segment = Segment()
    payload.write(segment)
    value = decode(memoryview(segment.read(payload.size)), len(payload.skeleton))
    assert value["a"].tolist() == list(range(7))
    assert value["b"].tolist() == list(range(9))
    assert value["c"] == "text"


@pytest.mark.parametrize("value", [np.arange(3), torch.arange(3), torch.zeros(2).bfloat16(), np.zeros(1, "i4,f8")])
def test_memory_stays_exported_while_an_array_lives_and_no_longer(value: Any) -> None:
    segment = Segment()
    payload = encode([value])
    payload.write(segment)
    mapping = segment.map(payload.size, private=True)
    gc.disable()
    try:
        back = decode(memoryview(mapping), len(payload.skeleton))
        with pytest.raises(BufferError):
            mapping.close()
        part = back[0][:1]
        del back
        with pytest.raises(BufferError):
            mapping.close()
        del part
        mapping.close()
    finally:
        gc.enable()


def test_batches_and_episodes_travel() -> None:
    batch = SampleBatch({"obs": np.ones((3, 2), np.float32), "actions": np.arange(3)})
    episode = SingleAgentEpisode(id_="e")
    episode.add_env_reset(np.zeros(2))
    episode.add_env_step(np.ones(2), 1, 0.5, {"note": math.inf})
    back_batch, back_episode = round_trip([batch, episode])
    assert back_batch["obs"].tolist() == batch["obs"].tolist()
    assert back_episode.id_ == "e"
    assert back_episode.get_rewards() == episode.get_rewards()


def test_local_functions_and_classes_travel_by_value() -> None:
    factor = 3

    class Local:
        value = 7

    function, cls = round_trip([lambda x: x * factor, Local])
    assert function(5) == 15
    assert cls.value == 7


def test_what_cannot_be_pickled_says_so() -> None:
    with pytest.raises((TypeError, pickle.PicklingError), match="generator"):
        encode(x for x in range(3))


def test_a_payload_without_arrays_is_its_skeleton() -> None:
    payload = encode({"lr": 0.1})
    assert payload == Payload(payload.skeleton, [], len(payload.skeleton))
