"""Products by units for bfloat16 are of rounded numbers, or as exact as float32, whatever the sizes and threads."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from unison.learner.engines.kernels.products import Precision, find_unit, processor_flags, product

jax = pytest.importorskip("jax")
HAS_AMX = {"amx_tile", "amx_bf16"} <= processor_flags()
needs_amx = pytest.mark.skipif(not HAS_AMX, reason="needs a processor with AMX")
needs_bfloat16 = pytest.mark.skipif(
    not HAS_AMX and "avx512_bf16" not in processor_flags(), reason="needs a processor with units for bfloat16"
)

SIZES = [
    (64, 64, 64),
    (256, 256, 256),
    (65, 79, 67),
    (1, 1, 1),
    (33, 16, 32),
    (16, 33, 31),
    (5, 700, 3),
    (130, 129, 513),
    (300, 17, 1100),
]
"""Whole tiles and pieces of them, fewer and more than a panel holds: rows, inner length, columns."""
TRANSPOSED = [(False, False), (False, True), (True, False), (True, True)]


def operands(rows: int, inner: int, columns: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Matrices whose entries are of very different size."""
    draw = np.random.default_rng(seed)
    a = draw.standard_normal((rows, inner)) * 10.0 ** draw.integers(-3, 4, (rows, 1))
    b = draw.standard_normal((inner, columns)) * 10.0 ** draw.integers(-3, 4, (1, columns))
    return a.astype(np.float32), b.astype(np.float32)


def units(precision: Precision) -> list[str]:
    """All of this machine, which has some; the first call compiles them."""
    found = {find_unit(precision, *3 * [length]) for length in (16, 64)} - {None}
    assert found
    return sorted(map(str, found))


def multiplied(
    a: NDArray[Any], b: NDArray[Any], a_is_transposed: bool, b_is_transposed: bool, unit: str | None = None
) -> NDArray[np.float32]:
    left = np.ascontiguousarray(a.T) if a_is_transposed else a
    right = np.ascontiguousarray(b.T) if b_is_transposed else b
    turned = {"a_is_transposed": a_is_transposed, "b_is_transposed": b_is_transposed}
    call = jax.jit(partial(product, unit or units("float32")[0], **turned))
    return np.asarray(call(left, right))


def error(found: NDArray[Any], a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """In units of float32's rounding, relative to the sizes of what is summed."""
    exact = a.astype(np.float64) @ b.astype(np.float64)
    scale = np.linalg.norm(a, axis=1)[:, None].astype(np.float64) * np.linalg.norm(b, axis=0)[None]
    return float(np.sqrt(np.mean(((found - exact) / scale) ** 2)) / np.finfo(np.float32).eps)


def rounded(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """To bfloat16."""
    return torch.from_numpy(matrix.copy()).bfloat16().float().numpy()


@needs_bfloat16
@pytest.mark.parametrize(("rows", "inner", "columns"), SIZES)
@pytest.mark.parametrize(("a_is_transposed", "b_is_transposed"), TRANSPOSED)
def test_products_of_rounded_numbers(
    rows: int, inner: int, columns: int, a_is_transposed: bool, b_is_transposed: bool
) -> None:
    """Numbers are rounded to the nearest, here a quarter of a step away; sums are in float32."""
    near = [rounded(matrix) for matrix in operands(rows, inner, columns)]
    given = [matrix * np.float32(1 + 2.0**-10) for matrix in near]
    for unit in units("bfloat16"):
        found = multiplied(*given, a_is_transposed, b_is_transposed, unit)
        assert found.shape == (rows, columns)
        assert error(found, *near) <= 1
        assert error(found, *near) < 0.01 * error(found, *given)


@needs_bfloat16
def test_results_are_rounded_where_asked() -> None:
    near = [rounded(matrix) for matrix in operands(70, 66, 131)]
    for unit in units("bfloat16"):
        found = np.asarray(jax.jit(partial(product, unit, is_rounded=True))(*near))
        np.testing.assert_array_equal(found, rounded(multiplied(*near, False, False, unit)))


@needs_bfloat16
def test_nothing_to_sum_is_zero() -> None:
    a, b = np.ones((16, 0), np.float32), np.ones((0, 20), np.float32)
    assert not multiplied(a, b, False, False, units("bfloat16")[0]).any()


@needs_bfloat16
def test_matrices_along_several_axes() -> None:
    a, b = (rounded(operands(2 * 3 * 20, 20, 1, seed)[0]).reshape(2, 3, 20, 20) for seed in range(2))
    call = jax.vmap(jax.vmap(partial(product, units("bfloat16")[0])))
    np.testing.assert_allclose(np.asarray(jax.jit(call)(a, b)), a @ b, rtol=1e-4, atol=1e-1)


@needs_bfloat16
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_infinity_and_nan_count_among_rounded_numbers(bad: float, side: int) -> None:
    matrices = [rounded(matrix) for matrix in operands(40, 70, 33)]
    matrices[side][3, 5] = bad
    with np.errstate(invalid="ignore"):
        expected = matrices[0].astype(np.float64) @ matrices[1]
    for unit in units("bfloat16"):
        np.testing.assert_allclose(multiplied(*matrices, False, False, unit), expected, rtol=1e-2, atol=1e-1)


@needs_amx
@pytest.mark.parametrize(("rows", "inner", "columns"), SIZES)
@pytest.mark.parametrize(("a_is_transposed", "b_is_transposed"), TRANSPOSED)
def test_as_exact_as_float32(rows: int, inner: int, columns: int, a_is_transposed: bool, b_is_transposed: bool) -> None:
    """No less exact than sums one after another in float32, and never off by a rounding of the whole result."""
    a, b = operands(rows, inner, columns)
    found = multiplied(a, b, a_is_transposed, b_is_transposed)
    one_by_one = np.zeros((rows, columns), np.float32)
    for k in range(inner):
        one_by_one += a[:, k, None] * b[None, k]
    assert found.shape == (rows, columns)
    assert error(found, a, b) <= max(error(one_by_one, a, b), 0.3)


@needs_bfloat16
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("rows", "inner", "columns"), [(64, 64, 64), (33, 16, 70), (300, 130, 65)])
@pytest.mark.parametrize(("a_is_transposed", "b_is_transposed"), TRANSPOSED)
def test_several_at_once(
    precision: Precision, rows: int, inner: int, columns: int, a_is_transposed: bool, b_is_transposed: bool
) -> None:
    """Each is what it is alone, also where one operand is the same for all."""
    if precision == "float32" and not HAS_AMX:
        pytest.skip("needs a processor with AMX")

    def multiply(a: Any, b: Any) -> Any:
        turned = {"a_is_transposed": a_is_transposed, "b_is_transposed": b_is_transposed}
        return product(units(precision)[0], a, b, **turned)

    pairs = [operands(rows, inner, columns, seed) for seed in range(5)]
    left = np.stack([a.T if a_is_transposed else a for a, _ in pairs])
    right = np.stack([b.T if b_is_transposed else b for _, b in pairs])
    alone = [jax.jit(multiply)(a, b) for a, b in zip(left, right, strict=True)]
    np.testing.assert_array_equal(jax.jit(jax.vmap(multiply))(left, right), np.stack(alone))
    same_left = [jax.jit(multiply)(left[0], b) for b in right]
    np.testing.assert_array_equal(jax.jit(jax.vmap(multiply, (None, 0)))(left[0], right), np.stack(same_left))


@needs_amx
def test_all_bits_of_a_number_count() -> None:
    """A product with the unit matrix gives back the very numbers, while their last bits are no smaller than 1e-38."""
    draw = np.random.default_rng(0)
    bits = draw.integers(0, 1 << 32, (64, 64), dtype=np.uint32)
    numbers = bits.view(np.float32)
    usual = np.isfinite(numbers) & (np.abs(numbers) > 1e-31) & (np.abs(numbers) < 3.38e38)
    numbers = np.where(usual, numbers, 1).astype(np.float32)
    unit = np.eye(64, dtype=np.float32)
    np.testing.assert_array_equal(multiplied(numbers, unit, False, False), numbers)
    np.testing.assert_array_equal(multiplied(unit, numbers, False, False), numbers)


@needs_amx
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, np.finfo(np.float32).max, -3.4e38])
@pytest.mark.parametrize("side", [0, 1])
def test_what_has_no_parts_counts_as_in_float32(bad: float, side: int) -> None:
    """Infinity stays infinity, of its sign, and in its row or column; the largest numbers are no infinity."""
    matrices = operands(64, 64, 64)
    matrices[side][3, 5] = bad
    matrices[1 - side][:] *= np.float32(1e-3)
    a, b = matrices
    with np.errstate(invalid="ignore", over="ignore"):
        expected = a @ b
    np.testing.assert_allclose(multiplied(a, b, False, False), expected, rtol=1e-3, atol=1e-3)


@needs_amx
def test_a_nan_of_any_bits_stays_nan() -> None:
    a, b = operands(64, 64, 64)
    for bits in (0x7FC00000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0xFF80FFFF):
        a[0, 0] = np.uint32(bits).view(np.float32)
        assert np.isnan(multiplied(a, b, False, False)[0]).all()


SCRIPT = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_products import HAS_AMX, multiplied, operands, units
for unit in units("bfloat16") + (units("float32") if HAS_AMX else []):
    for sizes in [(256, 256, 256), (700, 65, 64), (130, 512, 300)]:
        print(multiplied(*operands(*sizes), False, True, unit).tobytes().hex())
"""


@needs_bfloat16
def test_threads_change_no_bit() -> None:
    def results(threads: int) -> str:
        environment = os.environ | {"PJRT_NPROC": str(threads), "JAX_PLATFORMS": "cpu"}
        run = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)]
        return subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout

    assert results(1) == results(3) != ""


WITHOUT_COMPILER = """
import logging, sys
import numpy as np
logging.basicConfig(stream=sys.stdout, format="%(message)s")
from unison.learner.engines.kernels.products import find_unit
print(*[find_unit("bfloat16", 16, 16, 16) is not None for _ in range(2)])
"""


@needs_bfloat16
@pytest.mark.parametrize(("compiler", "said"), [("false", 1), ("/nowhere/c++", 0)])
def test_a_compiler_that_fails_is_told_of_once(compiler: str, said: int, tmp_path: Path) -> None:
    """One that is not there is passed over for the next; one that refuses costs speed only."""
    environment = os.environ | {"CXX": compiler, "UNISON_CACHE_DIR": str(tmp_path)}
    run = [sys.executable, "-c", WITHOUT_COMPILER]
    output = subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout
    assert output.count("could not be made") == said
    assert output.endswith("False False\n" if said else "True True\n")


@needs_bfloat16
@pytest.mark.parametrize("size", [0, 8192])
def test_a_damaged_library_is_made_anew(size: int, tmp_path: Path) -> None:
    environment = os.environ | {"UNISON_CACHE_DIR": str(tmp_path)}

    def run() -> str:
        script = [sys.executable, "-c", WITHOUT_COMPILER]
        return subprocess.run(script, env=environment, capture_output=True, text=True, check=True).stdout

    assert run() == "True True\n"
    (library,) = (tmp_path / "kernels").glob("*.so")
    whole = library.read_bytes()
    library.write_bytes(whole[:size])
    assert run() == "True True\n"
    assert library.read_bytes() == whole
