"""The tangent kernel of a given network, without its Jacobian where its layers allow that."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.typing import Tensor
from tightframe.ntk.chain import Chain, Factor, read_chain

Method = Literal["auto", "products", "jacobians"]

Derivatives = TypeVar("Derivatives")

_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)


@dataclass(frozen=True, eq=False)
class EmpiricalKernel:
    """The tangent kernel of a network at its present weights.

    Args:
        values: (n, m), summed or averaged over the outputs, or (n, m, k, k) with trace="none".
        method: "products" or "jacobians".
        reason: Why that one.
    """

    values: Tensor
    method: str
    reason: str


def empirical_ntk(
    model: nn.Module,
    X: Tensor,
    Z: Tensor | None = None,
    *,
    trace: Literal["sum", "mean", "none"] = "sum",
    method: Method = "auto",
    batch: int = 256,
    verbose: bool = False,
) -> EmpiricalKernel:
    r"""Products of the derivatives of a network's outputs by its trainable weights.

    .. math:: \Theta_{ab}(x, z) = \Bigl\langle \frac{\partial f_a(x)}{\partial\theta},
        \frac{\partial f_b(z)}{\partial\theta} \Bigr\rangle, \qquad
        \Theta = \sum_l (A_l A_l^T + 1_l) \odot (B_l B_l^T)

    where
        the second form holds for chains of Linear and pointwise layers: A_l (n, d_l) are the inputs of linear layer l,
        1_l is one where it has a bias, and B_l (n, d_{l+1}) are the derivatives of an output by that layer's outputs.
        No Jacobian is formed, whose size is that of the network for every point; other networks take torch.func.

    Layers are evaluated as in `model.eval()`, and nothing of the model changes; weights with `requires_grad=False` do
    not count.

    Args:
        model: Any module of tensors (n, ...) to (n, k) or (n,).
        X: (n, ...), in the precision and on the device of the weights; integers for a model with embeddings.
        Z: (m, ...); X when None.
        trace: "sum" or "mean" of the outputs' own kernels, or "none" for all pairs of outputs.
        method: "products", "jacobians", or "auto" for the first where it applies.
        batch: Points whose derivatives are held at a time.
        verbose: Whether the choice is written to stderr.

    Returns:
        The kernel with the method and the reason for it.

    Raises:
        InputError: A model that is no chain with method="products", inputs of another precision or device, outputs
            that are not one tensor (n,) or (n, k), a model without trainable weights.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> empirical_ntk(model, torch.eye(2)).values.tolist()
        [[1.0, 0.0], [0.0, 1.0]]

    Reference: [novak2022fast], section 3.
    """
    if trace not in ("sum", "mean", "none"):
        raise InputError('trace is "sum", "mean" or "none"', got=repr(trace), remedy="Choose one of these.")
    check_count(batch, "batch")
    _check_inputs(model, X, Z)
    chain, chosen, reason = _choose(model, method)
    if verbose:
        sys.stderr.write(f"empirical_ntk: {chosen}, because {reason}\n")
    with _evaluated(model), torch.no_grad():
        outputs = _count_outputs(model, X)
        if chain is None:
            values = _by_jacobians(model, X, Z, trace == "none", batch)
        else:
            values = _by_products(chain, X, Z, trace == "none", batch)
    return EmpiricalKernel(values.detach() / outputs if trace == "mean" else values.detach(), chosen, reason)


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """The model as in `model.eval()`, so that nothing of it changes, not even running averages; then as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _choose(model: nn.Module, method: Method) -> tuple[Chain | None, str, str]:
    if method not in ("auto", "products", "jacobians"):
        raise InputError('method is "auto", "products" or "jacobians"', got=repr(method), remedy="Choose one of these.")
    if method == "jacobians":
        return None, method, "asked for"
    chain, obstacle = read_chain(model)
    if chain is not None:
        return chain, "products", "the model is a chain of Linear and pointwise layers"
    if method == "products":
        raise InputError(
            "a chain of Linear and pointwise layers", got=obstacle, remedy='Use method="jacobians", or "auto".'
        )
    return None, "jacobians", obstacle


def _tiled(
    X: Tensor,
    Z: Tensor | None,
    batch: int,
    derive: Callable[[Tensor], Derivatives],
    contract: Callable[[Derivatives, Derivatives], Tensor],
) -> Tensor:
    """The kernel by tiles of `batch` points; of one set, what lies below the diagonal is what lies above, turned."""
    rows: list[list[Tensor]] = []
    for place, first in enumerate(X.split(batch)):
        left = derive(first)
        row: list[Tensor] = []
        for other, second in enumerate((X if Z is None else Z).split(batch)):
            if Z is None and other < place:
                above = rows[other][place].transpose(0, 1)
                row.append(above if above.ndim == 2 else above.transpose(2, 3))
            else:
                row.append(contract(left, left if Z is None and other == place else derive(second)))
        rows.append(row)
    return torch.cat([torch.cat(row, dim=1) for row in rows])


def _by_products(chain: Chain, X: Tensor, Z: Tensor | None, full: bool, batch: int) -> Tensor:
    """(n, m), or (n, m, k, k)."""
    return _tiled(X, Z, batch, chain.factors, lambda left, right: _contract(left, right, full))


def _contract(left: list[Factor], right: list[Factor], full: bool) -> Tensor:
    total: Tensor | None = None
    for (a, b, weight, bias), (c, d, _, _) in zip(left, right, strict=True):
        inputs = a @ c.T if weight else a.new_zeros(len(a), len(c))
        inputs = inputs + 1 if bias else inputs
        # b and d are (n, k, width): of every output by the layer's outputs.
        if full:
            part = inputs[..., None, None] * torch.einsum("nkw,mjw->nmkj", b, d)
        else:
            part = inputs * (b.flatten(1) @ d.flatten(1).T)
        total = part if total is None else total + part
    return total


def _by_jacobians(model: nn.Module, X: Tensor, Z: Tensor | None, full: bool, batch: int) -> Tensor:
    weights = {name: each.detach() for name, each in model.named_parameters() if each.requires_grad}
    fixed = {name: each.detach() for name, each in model.named_parameters() if not each.requires_grad}
    places = _places(model)
    buffers = dict(model.named_buffers())

    def outputs(trained: dict[str, Tensor], point: Tensor) -> Tensor:
        known = {**trained, **fixed}
        state = {place: known[name] for place, name in places.items()} | buffers
        return functional_call(model, state, (point[None],), tie_weights=False).reshape(-1)

    # PReLU's derivative knows no batches within batches: there outputs are taken one by one.
    together = 1 if any(isinstance(each, nn.PReLU) for each in model.modules()) else None

    def jacobian(points: Tensor) -> dict[str, Tensor]:
        # Attention's fused forms know no batches of derivatives, its formula does.
        with sdpa_kernel(SDPBackend.MATH):
            return vmap(jacrev(outputs, chunk_size=together), (None, 0))(weights, points)

    def contract(left: dict[str, Tensor], right: dict[str, Tensor]) -> Tensor:
        letters = "nkp,mjp->nmkj" if full else "nkp,mkp->nm"
        first, *others = [torch.einsum(letters, left[name].flatten(2), right[name].flatten(2)) for name in left]
        return sum(others, first)

    return _tiled(X, Z, batch, jacobian, contract)


def _places(model: nn.Module) -> dict[str, str]:
    """Where each parameter stands, and its first name: once for every module, as tied modules are swapped once.

    torch's own tying of weights puts a wrong tensor back where one module stands at two places.
    """
    names = {id(each): name for name, each in model.named_parameters()}
    return {
        f"{prefix}.{own}" if prefix else own: names[id(each)]
        for prefix, module in model.named_modules()
        for own, each in module.named_parameters(recurse=False, remove_duplicate=False)
    }


def _check_inputs(model: nn.Module, X: Tensor, Z: Tensor | None) -> None:
    weight = next((each for each in model.parameters() if each.requires_grad), None)
    if weight is None:
        raise InputError("a model with trainable weights", got="none", remedy="Call model.requires_grad_(True).")
    for name, points in (("X", X), ("Z", X if Z is None else Z)):
        if not isinstance(points, Tensor) or points.ndim < 2 or not points.numel():
            got = f"shape {tuple(points.shape)}" if isinstance(points, Tensor) else type(points).__name__
            raise InputError(f"{name} is a tensor (n, ...), not empty", got=got, remedy="Use x[None] for one point.")
        # Indices into an embedding have no precision.
        indexed = not points.is_floating_point() and any(isinstance(each, _EMBEDDINGS) for each in model.modules())
        if points.device != weight.device or not (indexed or points.dtype == weight.dtype):
            raise InputError(
                f"{name} in the precision and on the device of the weights, {weight.dtype} on {weight.device}",
                got=f"{points.dtype} on {points.device}",
                remedy=f"Convert it with {name}.to(weight).",
            )


def _count_outputs(model: nn.Module, X: Tensor) -> int:
    found = model(X[:1])
    if not isinstance(found, Tensor):
        raise InputError(
            "outputs (n,) or (n, k) as one tensor",
            got=type(found).__name__,
            remedy="Wrap the model in a module that returns its logits alone.",
        )
    if found.ndim not in (1, 2) or found.shape[0] != 1:
        raise InputError(
            "outputs (n,) or (n, k)",
            got=f"shape {tuple(found.shape)} for one point",
            remedy="Wrap the model to flatten them.",
        )
    return found.numel()
