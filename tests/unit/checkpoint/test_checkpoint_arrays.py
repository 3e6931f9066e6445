"""Arrays of every dtype and layout survive bit for bit, and plain safetensors reads them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from unison.checkpoint import checkpoint_size, read_checkpoint, write_checkpoint
from unison.checkpoint.tensorfile import build_header, parse_header
from unison.errors import CheckpointError

NUMPY_DTYPES = [
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64",
    "complex64", "complex128",
]  # fmt: skip
TORCH_DTYPES = sorted(
    {d for d in vars(torch).values() if isinstance(d, torch.dtype)}
    - {d for d in vars(torch).values() if isinstance(d, torch.dtype) and ("q" in str(d) or "bits" in str(d))}
    - {
        getattr(torch, f"{sign}int{bits}")
        for sign in ("", "u")
        for bits in range(1, 8)
        if hasattr(torch, f"{sign}int{bits}")
    },
    key=str,
)


def roundtrip(tmp_path: Path, tree: Any, **options: Any) -> Any:
    write_checkpoint(tmp_path / "c", {"part": tree}, {})
    return read_checkpoint(tmp_path / "c", **options).parts["part"]


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (2, 3, 4)])
def test_numpy_arrays(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.asarray(np.random.default_rng(0).random(shape) * 100).astype(dtype)
    read = roundtrip(tmp_path, array)
    assert type(read) is np.ndarray
    assert (read.dtype, read.shape) == (array.dtype, array.shape)
    assert read.tobytes() == array.tobytes()
    assert read.flags.writeable


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("dtype", TORCH_DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_torch_tensors_of_every_dtype(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    count = int(np.prod(shape)) * dtype.itemsize
    raw = torch.arange(count, dtype=torch.uint8) % (2 if dtype is torch.bool else 128)
    tensor = raw.view(dtype).reshape(shape)
    read = roundtrip(tmp_path, [tensor], tensors=True)[0]
    assert (read.dtype, read.shape) == (dtype, tensor.shape)
    assert torch.equal(read.reshape(-1).view(torch.uint8), raw)


def test_tensors_come_back_as_numpy_unless_numpy_lacks_the_dtype(tmp_path: Path) -> None:
    tree = {"float": torch.ones(2), "bfloat16": torch.ones(2, dtype=torch.bfloat16), "numpy": np.ones(2)}
    read = roundtrip(tmp_path, tree)
    assert type(read["float"]) is np.ndarray
    assert read["bfloat16"].dtype is torch.bfloat16
    read = roundtrip(tmp_path, tree, tensors=True)
    assert isinstance(read["float"], torch.Tensor)
    assert type(read["numpy"]) is np.ndarray


def test_numpy_scalars_keep_their_type(tmp_path: Path) -> None:
    tree = [np.float32(0.1), np.int64(-3), np.bool_(True), np.float64(0.1), 0.1]
    read = roundtrip(tmp_path, tree)
    assert [(type(x), x) for x in read] == [(type(x), x) for x in tree]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24).reshape(4, 6)[::2, 1::2],
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.broadcast_to(np.float32(2), (3, 2)),
        np.arange(5, dtype=">i4"),
        np.arange(6)[::-1],
    ],
)
def test_any_layout_of_numpy(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    read = roundtrip(tmp_path, array)
    np.testing.assert_array_equal(read, array)
    assert read.dtype.isnative
    assert read.flags.c_contiguous


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(24).reshape(4, 6)[::2, 1::2],
        torch.arange(12.0).reshape(3, 4).T,
        torch.ones(1).expand(3, 2),
        torch.nn.Parameter(torch.ones(3)),
        torch.ones(2, requires_grad=True) * 2,
        torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        torch.tensor([1 + 2j, 3 - 4j]).conj(),
        torch.tensor([1 + 2j, 3 - 4j]).conj().imag,
    ],
)
def test_any_layout_of_torch(tmp_path: Path, tensor: torch.Tensor) -> None:
    read = roundtrip(tmp_path, [tensor], tensors=True)[0]
    assert torch.equal(read, tensor.detach())


@pytest.mark.parametrize("dtype", [np.longdouble, np.clongdouble])
def test_what_could_not_be_read_is_not_written(tmp_path: Path, dtype: Any) -> None:
    with pytest.raises(CheckpointError, match=f"at 'x': numpy values of dtype {np.dtype(dtype)} cannot be saved"):
        write_checkpoint(tmp_path / "c", {"m": {"x": np.ones(2, dtype)}}, {})
    assert not (tmp_path / "c").exists()


def test_a_view_saves_only_its_own_data(tmp_path: Path) -> None:
    storage = torch.zeros(1_000_000)
    write_checkpoint(
        tmp_path / "c", {"t": [storage[5:8], storage.reshape(1000, 1000)[:, 0]], "n": storage.numpy()[:2]}, {}
    )
    assert sum(checkpoint_size(tmp_path / "c").values()) < 6000


def test_arrays_that_are_read_own_their_memory(tmp_path: Path) -> None:
    read = roundtrip(tmp_path, {"big": np.zeros(1000), "small": np.zeros(1)})
    read["small"][0] = 1.0
    assert read["big"].sum() == 0
    assert read["small"].base.nbytes == 8, "a small array would keep the memory of the others"


def test_weights_load_with_plain_safetensors(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    write_checkpoint(tmp_path / "c", {"modules/default_policy": state}, {})
    file = tmp_path / "c" / "modules" / "default_policy.safetensors"

    copy = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    copy.load_state_dict(safetensors.torch.load_file(file))
    x = torch.randn(3, 4)
    assert torch.equal(copy(x), network(x))

    code = f"""
import sys
sys.modules["unison"] = sys.modules["torch"] = None
from safetensors.numpy import load_file
print(sorted((name, array.shape) for name, array in load_file({str(file)!r}).items()))
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[('0.bias', (8,)), ('0.weight', (8, 4)), ('2.bias', (2,)), ('2.weight', (2, 8))]"


def test_every_file_is_valid_safetensors(tmp_path: Path) -> None:
    tree = {
        0: {"x": np.arange(3, dtype=np.int8), "y": np.ones((2, 2)), "\udc80": np.zeros((0, 3), np.float16)},
        "n": None,
    }
    write_checkpoint(tmp_path / "c", {"a": tree, "empty": {}, "b": torch.ones(3, dtype=torch.bfloat16)}, {})
    read = safetensors.numpy.load_file(tmp_path / "c" / "a.safetensors")
    np.testing.assert_array_equal(read["0/x"], [0, 1, 2])
    np.testing.assert_array_equal(read["0/y"], np.ones((2, 2)))
    assert safetensors.numpy.load_file(tmp_path / "c" / "empty.safetensors") == {}
    (tensor,) = safetensors.torch.load_file(tmp_path / "c" / "b.safetensors").values()
    assert torch.equal(tensor, torch.ones(3, dtype=torch.bfloat16))


def test_data_is_aligned() -> None:
    arrays = {"a": np.zeros(3, np.int8), "b": np.zeros(1, np.float64), "c": np.zeros(1, np.float32)}
    header, order = build_header(arrays, {})
    assert order == ["b", "c", "a"]
    assert len(header) % 8 == 0


def test_the_parser_reads_what_the_safetensors_package_writes() -> None:
    data = safetensors.numpy.save({"x": np.arange(6, dtype=np.int16).reshape(2, 3), "y": np.ones(2)}, {"k": "v"})
    length = int.from_bytes(data[:8], "little")
    slots, metadata = parse_header(data[8 : 8 + length], len(data) - 8 - length)
    assert metadata == {"k": "v"}
    assert {(slot.name, slot.dtype, slot.shape, slot.nbytes) for slot in slots} == {
        ("x", "int16", (2, 3), 12),
        ("y", "float64", (2,), 16),
    }


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b'{"x": 1}',
        b'{"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b'{"x": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}}',
        b'{"x": {"dtype": "F33", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
        b'{"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
    ],
)
def test_headers_that_lie_are_refused(header: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_header(header, 4)
