"""Each lowering gives what torch gives, alone; chains of them are shown in tests/parity."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions
from torch.utils import _pytree as pytree

from unison.learner.collective import Alone
from unison.learner.engines.functional import functional_graph
from unison.learner.engines.graph import GraphMaker
from unison.learner.engines.rank_sums import TracedCollective
from unison.learner.engines.recording import record, whole_storage

pytest.importorskip("jax")

GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR)


X, Y, POSITIVE = normal(3, 4), normal(3, 4), normal(3, 4).abs() + 0.1
INDEX = torch.tensor([[0, 2], [1, 1], [3, 0]])
F = torch.nn.functional

CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "arithmetic": (lambda a, b: (a + 2 * b - 1) / (b * b + 1) - torch.rsub(a, b, alpha=3), (X, Y)),
    "mixed_types": (
        lambda a, i: a * i + i / 2 + (i > 1) * a + torch.where(i > 0, a[:, :2].sum(), 0),
        (X[:, :2], INDEX),
    ),
    "integers": (lambda i: (i // 2, i % 3, -i % 3, i.float().floor_divide(2), i & 1, ~i), (INDEX,)),
    "powers": (lambda a: (a**2, a**3, a**-1, a**0.5, a**1.7, 2.0**a, torch.pow(a, a)), (POSITIVE,)),
    "exponentials": (lambda a: (a.exp(), a.log(), a.log1p(), a.expm1(), a.sqrt(), a.rsqrt(), a.log2()), (POSITIVE,)),
    "activations": (
        lambda a: (
            a.tanh(),
            a.sigmoid(),
            a.relu(),
            F.gelu(a),
            F.silu(a),
            F.elu(a),
            F.leaky_relu(a),
            F.softplus(a),
            F.mish(a),
        ),
        (X,),
    ),
    "rounding": (lambda a: (a.floor(), a.ceil(), a.round(), a.trunc(), a.sign(), a.abs()), (3 * X,)),
    "trigonometry": (lambda a, b: (a.sin(), a.cos(), a.atan(), torch.atan2(a, b), a.erf()), (X, Y)),
    "comparisons": (
        lambda a, b: (a > b, a <= b, a == a, a != b, (a > 0) & (b > 0), (a > 0) | (b > 0), ~(a > 0)),
        (X, Y),
    ),
    "clamping": (
        lambda a: (a.clamp(-0.5, 0.5), a.clamp(min=0), a.clamp(max=0), torch.minimum(a, -a), torch.maximum(a, -a)),
        (X,),
    ),
    "finiteness": (
        lambda a: ((a / 0).isfinite(), (a * 0 / 0).isnan(), (a / 0).isinf(), (a / 0).nan_to_num(0.0, 1.0, -1.0)),
        (X,),
    ),
    "sums": (
        lambda a: (a.sum(), a.sum(0), a.sum((0, 1), keepdim=True), a.mean(), a.mean(-1), a.prod(), a.cumsum(1)),
        (X,),
    ),
    "spread": (lambda a: (a.var(), a.var(1), a.std(0, correction=0), torch.var_mean(a, correction=0)), (X,)),
    "extremes": (
        lambda a: (a.max(), a.min(), a.amax(1), a.amin(0, keepdim=True), a.argmax(1), a.argmin(), a.max(1), a.min(0)),
        (X,),
    ),
    "truth": (lambda a: ((a > 0).any(), (a > 0).all(), (a > 0).any(1), (a > -9).all(0)), (X,)),
    "norms": (
        lambda a: (a.norm(), torch.linalg.vector_norm(a, 1), torch.linalg.vector_norm(a, float("inf"), dim=1)),
        (X,),
    ),
    "softmaxes": (lambda a: (a.softmax(-1), a.log_softmax(0), a.logsumexp(1)), (X,)),
    "shapes": (
        lambda a: (
            a.view(2, 6),
            a.t(),
            a.unsqueeze(1).expand(3, 5, 4),
            a[None].squeeze(0),
            a.permute(1, 0),
            a.flip(0),
            a.repeat(2, 3),
        ),
        (X,),
    ),
    "pieces": (
        lambda a: (
            *a.split(2, 1),
            *a.chunk(3),
            a[1],
            a[:, 1:3],
            a[::2],
            *a.unbind(1),
            a.narrow(1, 1, 2),
            *torch.split(a, [1, 3], 1),
        ),
        (X,),
    ),
    "joining": (lambda a, b: (torch.cat([a, b], 1), torch.stack([a, b]), F.pad(a, (1, 2, 0, 1), value=3.0)), (X, Y)),
    "writing": (lambda a, b: (torch.select_scatter(a, b[0], 0, 1), torch.slice_scatter(a, b[:, :2], 1, 1, 3)), (X, Y)),
    "creation": (
        lambda a: (
            torch.zeros_like(a),
            torch.ones(2),
            torch.full((2, 2), 7.0),
            torch.arange(5),
            torch.arange(1, 6, 2),
            a.new_zeros(3),
        ),
        (X,),
    ),
    "gathering": (
        lambda a, i: (
            a.gather(1, i),
            a.gather(1, i[:, :1]),
            a.gather(0, i.clamp(max=2)),
            a.index_select(1, i[0]),
            a[i[:, 0].clamp(max=2)],
        ),
        (X, INDEX),
    ),
    "gathering_many": (lambda a, i: a.gather(1, i), (normal(3, 100), torch.tensor([[99], [0], [50]]))),
    "scattering": (
        lambda a, i, b: (
            a.scatter_add(1, i, b[:, :2]),
            a.scatter_add(1, i[:, :1], b[:, :1]),
            a.scatter(1, i[:, :1], b[:, :1]),
            a.scatter(1, i[:, :1], 5.0),
            a.index_add(0, i[0].clamp(max=2), b[:2]),
            torch.index_put(a, (i[:, 0].clamp(max=2),), b, accumulate=True),
        ),
        (X, INDEX, Y),
    ),
    "embedding": (lambda w, i: F.embedding(i, w), (normal(5, 3), INDEX)),
    "products": (
        lambda a, b, c: (
            a @ b,
            b.t() @ a.t(),
            torch.addmm(c, a, b, alpha=0.5, beta=2),
            torch.bmm(a[None], b[None]),
            a[0] @ b,
            a[0].dot(a[1]),
        ),
        (normal(6, 9), normal(9, 20), normal(6, 20)),
    ),
    "transposed_products": (
        lambda a, b: (a.t() @ b, b.t() @ a, a.t() @ a, a[:, :2].t() @ b, b.t() @ a[:, :1]),
        (normal(30, 12), normal(30, 20)),
    ),
    "convolutions": (
        lambda x, w, b: (F.conv2d(x, w, b, stride=2, padding=1), F.conv2d(x, w), F.conv2d(x, w, dilation=2)),
        (normal(2, 3, 9, 9), normal(4, 3, 3, 3), normal(4)),
    ),
    "convolution_1d": (lambda x, w: F.conv1d(x, w, padding=1), (normal(2, 3, 9), normal(4, 3, 3))),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (4,), w, b), (X, normal(4), normal(4))),
    "casts": (
        lambda a, i: (a.to(torch.float64), a.to(torch.bfloat16), i.float(), (a > 0).long(), a.long()),
        (X, INDEX),
    ),
}


def lowered(function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> list[Any]:
    """What the function gives, recorded, made functional, and run by JAX."""
    from unison.learner.engines.lowering import missing_operations, to_jax
    from unison.learner.engines.lowering.table import jax, jnp

    def as_array(tensor: Tensor) -> Any:
        return jnp.asarray(tensor.float().numpy(), "bfloat16") if tensor.dtype is torch.bfloat16 else tensor.numpy()

    recording = record(lambda: pytree.tree_leaves(function(*inputs)), inputs)
    graph = GraphMaker(core_aten_decompositions()).make(recording, recording.result)
    assert missing_operations(graph.module) == []
    constants = [whole_storage(tensor) for _, tensor in recording.externals]
    with jax.enable_x64(True):
        return jax.jit(to_jax(graph.module))([as_array(tensor) for tensor in (*constants, graph.constants, *inputs)])


@pytest.mark.parametrize("name", CASES)
def test_it_is_what_torch_gives(name: str) -> None:
    function, inputs = CASES[name]
    wanted = pytree.tree_leaves(function(*inputs))
    found = lowered(function, inputs)
    assert len(wanted) == len(found)
    for theirs, mine in zip(wanted, found, strict=True):
        assert str(mine.dtype) == str(theirs.dtype).removeprefix("torch.")
        assert mine.shape == tuple(theirs.shape)
        as_tensor = torch.from_numpy(np.asarray(mine).astype(np.float64)).reshape(theirs.shape)
        torch.testing.assert_close(as_tensor, theirs.double(), rtol=2e-5, atol=2e-6, equal_nan=True)


@pytest.mark.parametrize(
    "name", ["activations", "gathering", "convolutions", "layer_norm", "embedding", "softmaxes", "products"]
)
def test_so_are_its_gradients(name: str) -> None:
    function, inputs = CASES[name]

    def gradients(*arguments: Tensor) -> list[Tensor]:
        leaves = [a.detach().requires_grad_() if a.is_floating_point() else a for a in arguments]
        outputs = pytree.tree_leaves(function(*leaves))
        total = sum((o * o).sum() for o in outputs)
        return list(torch.autograd.grad(total, [leaf for leaf in leaves if leaf.requires_grad]))

    for mine, theirs in zip(lowered(gradients, inputs), gradients(*inputs), strict=True):
        torch.testing.assert_close(torch.tensor(mine.tolist()), theirs, rtol=2e-4, atol=2e-5)


BFLOAT16: dict[str, Callable[..., Any]] = {
    "mm": lambda a, b: a @ b.t(),
    "addmm": lambda a, b: torch.addmm(a[0, :3], a, b.t()),
    "bmm": lambda a, b: torch.bmm(a[None], b.t()[None]),
    "convolution": lambda a, b: F.conv1d(a[None], b[:, :, None].expand(-1, -1, 2).reshape(4, 3, 2)),
    "between": lambda a, b: (a * 3).relu() + b.mean(),
}


@pytest.mark.parametrize("name", BFLOAT16)
def test_bfloat16_is_held_in_float32_and_rounded_where_it_is_multiplied(name: str) -> None:
    """What comes out is bfloat16, as close to torch's as its last bit."""
    inputs = X.bfloat16(), Y
    wanted = BFLOAT16[name](inputs[0], inputs[1].bfloat16())
    (found,) = lowered(lambda a, b: BFLOAT16[name](a, b.bfloat16()), inputs)
    assert str(found.dtype) == "bfloat16"
    near = torch.from_numpy(np.asarray(found).astype(np.float32))
    torch.testing.assert_close(near, wanted.float(), rtol=2**-7, atol=1e-3)


@pytest.mark.parametrize("name", ["mm", "bmm", "convolution"])
def test_factors_are_rounded(name: str) -> None:
    """Numbers a quarter of a step from those of bfloat16 give the very products that these give."""
    exact = [tensor.bfloat16().float() for tensor in (X, Y)]

    def multiplied(a: Tensor, b: Tensor) -> Tensor:
        return BFLOAT16[name](a.bfloat16(), b.bfloat16())

    (there,) = lowered(multiplied, (exact[0], exact[1]))
    (near,) = lowered(multiplied, (exact[0] * (1 + 2**-10), exact[1] * (1 + 2**-10)))
    np.testing.assert_array_equal(np.asarray(there), np.asarray(near))


def test_rounding_that_is_asked_for_is_done() -> None:
    """Into other types, before comparisons, and for a transpose; what is only multiplied is rounded there."""

    def asked(a: Tensor) -> list[Tensor]:
        halves = (a * 1.001).bfloat16()
        return [halves.float(), (1000 * a).bfloat16().long(), halves == a.bfloat16(), (a + 0.3).bfloat16().t().float()]

    for mine, theirs in zip(lowered(asked, (X,)), asked(X), strict=True):
        np.testing.assert_array_equal(np.asarray(mine), theirs.numpy())


def test_products_that_begin_with_no_result_are_rounded_too() -> None:
    """The first layer's convolution has no gradient of what it sees."""
    seen, weight = normal(2, 3, 9), normal(4, 3, 2)

    def gradient(x: Tensor, w: Tensor) -> list[Tensor]:
        leaf = w.bfloat16().requires_grad_()
        return list(torch.autograd.grad(F.conv1d(x.bfloat16(), leaf).float().square().sum(), [leaf]))

    (mine,) = lowered(gradient, (seen, weight))
    near = torch.from_numpy(np.asarray(mine).astype(np.float32))
    torch.testing.assert_close(near, gradient(seen, weight)[0].float(), rtol=2**-6, atol=1e-2)


def test_ranks_sum_bfloat16_as_it_is() -> None:
    """The bytes are those of other engines, on which other ranks may be."""
    seen: set[torch.dtype] = set()

    class Recording(Alone):
        def all_reduce_(self, tensor: Tensor) -> Tensor:
            seen.add(tensor.dtype)
            return tensor.mul_(2)

    collective = Recording()
    (found,) = lowered(lambda a: TracedCollective(collective).all_reduce_(a.clone()), (X.bfloat16(),))
    assert seen == {torch.bfloat16}
    np.testing.assert_array_equal(np.asarray(found).astype(np.float32), 2 * X.bfloat16().float().numpy())


def test_an_unknown_operation_is_named() -> None:
    from unison.learner.engines.lowering import missing_operations

    graph = functional_graph(lambda a: [torch.linalg.svd(a)[1]], [X], {})
    assert any("svd" in name for name in missing_operations(graph))
