"""The classifier that is not trained: a fixed simplex frame, or the most incoherent one where no simplex exists."""

from __future__ import annotations

from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.typing import Weights
from tightframe.geometry.coherence import coherence, welch_bound
from tightframe.geometry.incoherent import class_frame, construction

# What the extra state says of a frame that the checkpoint holds itself.
_STORED = -1
_STORED_KINDS = ("given", "numerical", "aligned")
# The coherence of more vectors is not worth its matrix of cosines.
_MOST_SHOWN = 4096


class SimplexETFHead(nn.Module):
    r"""A classifier whose weight is a fixed frame: a simplex ETF wherever that exists.

    .. math:: z = s F h + b

    where
        F (k, d) is `frame`, K unit vectors: a simplex ETF in a Haar-random place for d >= K - 1, else the vectors of
        `incoherent_frame`; s > 0 is the scale and b (k,) the bias, which is learned. `weight` is s F.

    The frame is not trained, and where it follows from K, d and the seed it is not stored: a checkpoint holds the seed
    (in the extra state of the module), and loading one makes its frame anew. A frame that was given, or found by a
    numerical search, is stored as `frame`. A checkpoint of a learned classifier is refused in words (with
    strict=False its weight is passed over). Under DistributedDataParallel with broadcast_buffers=True (the default)
    the frame is sent to all ranks in every forward pass; pass False where no other buffer needs it.

    With scale 1 and unregularised features training only has to make them longer. Under weight decay on the features'
    layers a larger scale does what a smaller decay would.

    Args:
        in_features: d.
        out_features: K, at least 2.
        bias: Whether the logits have a bias, learned, zero at first. The sources fix the weight and keep the bias, and
            so does the default.
        seed: Seed of the frame's place, from 0 to 2^53.
        scale: s, or its first value if it is learned.
        learn_scale: Learn s by its logarithm, so that it stays positive; weight decay then pulls it to 1.
        frame: Your own F (k, d) instead; kept as it is, lengths included.
        device: Where the parameters and the frame are.
        dtype: Their type; a frame in half precision is rounded, and stays so when it is converted back.

    Raises:
        InputError: Sizes, seed or scale out of range; a frame of another shape, not finite, or with a row of
            zeros.

    Example:
        >>> head = SimplexETFHead(512, 10)
        >>> head(torch.zeros(3, 512)).shape, [name for name, _ in head.named_parameters()], list(head.state_dict())
        (torch.Size([3, 10]), ['bias'], ['bias', '_extra_state'])
        >>> SimplexETFHead(3, 6)
        SimplexETFHead(in_features=3, out_features=6, conference frame, scale=1, coherence 0.4472 >= 0.4472 (Welch))

    Reference: [zhu2021geometric], section 4.3, for fixing the classifier and for d = K; [papyan2020prevalence].
    """

    frame: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        seed: int = 0,
        scale: float = 1.0,
        learn_scale: bool = False,
        frame: Weights | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features: int = check_count(in_features, "in_features")
        self.out_features: int = check_count(out_features, "out_features", least=2)
        self.seed = _STORED if frame is not None else _check_seed(seed)
        self.scale = check_positive(scale, "scale")
        like = torch.empty(0, device=device, dtype=dtype)
        self.bias: nn.Parameter | None = nn.Parameter(like.new_zeros(out_features)) if bias else None
        self.log_scale: nn.Parameter | None = nn.Parameter(like.new_tensor(scale).log()) if learn_scale else None
        vectors = self._seeded() if frame is None else check_frame(frame, out_features, in_features)
        self.register_buffer("frame", vectors.to(like), persistent=self.frame_kind in _STORED_KINDS)

    @property
    def frame_kind(self) -> str:
        """What the frame is: "simplex" or another `construction`, or "given"."""
        return "given" if self.seed == _STORED else construction(self.out_features, self.in_features)

    @property
    def weight(self) -> Weights:
        """s F (k, d), what the logits are computed with; differentiable in a learned scale."""
        # A product also where s is 1: an initialiser that writes into `weight` must not reach the frame.
        return self.frame * (self.scale if self.log_scale is None else self.log_scale.exp())

    def forward(self, input: Tensor) -> Tensor:
        """Logits (..., k) of features (..., d)."""
        return functional.linear(input, self.weight, self.bias)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The frame anew from its seed, bias zero, first scale; a given frame stays. For modules made on `meta`."""
        if self.bias is not None:
            self.bias.zero_()
        if self.log_scale is not None:
            self.log_scale.fill_(self.scale).log_()
        if self.seed != _STORED:
            self.frame = self._seeded().to(self.frame)

    def resized(self, in_features: int) -> SimplexETFHead:
        """A head like this one for another width, as it was when new.

        Raises:
            InputError: The frame was given, and has no counterpart in another dimension.
        """
        if self.seed == _STORED:
            raise InputError("a frame made from a seed", got="one that was given", remedy="Build the head anew.")
        return type(self)(in_features, self.out_features, **self._options(), device=self.frame.device)

    def get_extra_state(self) -> Tensor:
        """Seed (-1 for a given frame) and scale; a tensor, so that every checkpoint format takes it."""
        return torch.tensor([self.seed, self.scale], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Take over seed and scale of a checkpoint, and make the frame of that seed unless it was stored."""
        seed = int(state[0])
        self.scale: float = float(state[1])
        makes = seed != self.seed or self.frame.is_meta
        self.seed: int = seed
        if "frame" in self._non_persistent_buffers_set:
            like = self.frame if self.bias is None else self.bias
            frame = self._seeded().to(like) if makes else self.frame
            self.register_buffer("frame", frame, persistent=self.frame_kind in _STORED_KINDS)

    def extra_repr(self) -> str:
        """Sizes, frame and scale; below K - 1 dimensions the coherence beside the least possible."""
        scale = f"{self.scale:g}" if self.log_scale is None else f"{float(self.log_scale.detach().exp()):.4g} (learned)"
        parts = [f"in_features={self.in_features}", f"out_features={self.out_features}", f"{self.frame_kind} frame"]
        parts += [f"scale={scale}"] + ["bias=False"] * (self.bias is None)
        if self.in_features < self.out_features - 1 and self.in_features > 1:
            least = f"{welch_bound(self.out_features, self.in_features):.4f} (Welch)"
            shown = self.out_features <= _MOST_SHOWN and self.frame.device.type != "meta"
            parts.append(f"coherence {coherence(self.frame):.4f} >= {least}" if shown else f"coherence >= {least}")
        return ", ".join(parts)

    def _options(self) -> dict[str, Any]:
        return {
            "bias": self.bias is not None,
            "seed": self.seed,
            "scale": self.scale,
            "learn_scale": self.log_scale is not None,
            "dtype": self.frame.dtype,
        }

    def _seeded(self) -> Tensor:
        return class_frame(self.out_features, self.in_features, seed=self.seed)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, local_metadata: dict, strict: bool, *lists: list):
        missing, unexpected, errors = lists
        extra = f"{prefix}_extra_state"
        if extra in state_dict:
            self.register_buffer("frame", self.frame, persistent=f"{prefix}frame" in state_dict)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)
        if extra in missing and f"{prefix}weight" in state_dict:
            # An entry of `errors` would be raised with strict=False as well.
            missing[missing.index(extra)] = (
                f"{extra} (this head has a fixed frame, the checkpoint one of a classifier with a learned weight: "
                "load it before replacing the classifier, or with strict=False, which passes that weight over)"
            )


def _check_seed(seed: int) -> int:
    """A seed that the extra state keeps exactly."""
    if check_count(seed, "seed", least=0) > 2**53:
        raise InputError("seed is at most 2^53", got=repr(seed), remedy="Use a smaller one.")
    return seed


def check_positive(value: float, name: str) -> float:
    """A finite number above zero, as a float."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not (number and 0 < value < float("inf")):
        raise InputError(
            f"a finite {name} above zero", got=repr(value), remedy=f"Pass {name}=1.0 or another such number."
        )
    return float(value)


def check_frame(frame: Tensor, classes: int, features: int) -> Tensor:
    """A copy of a frame (k, d) of finite rows other than zero."""
    shape = tuple(frame.shape) if isinstance(frame, Tensor) else type(frame).__name__
    if shape != (classes, features):
        raise InputError(
            f"a frame of shape (out_features, in_features) = ({classes}, {features})",
            got=str(shape),
            remedy="Pass one row per class.",
        )
    frame = frame.detach().clone()
    if not (frame.is_floating_point() and torch.isfinite(frame).all() and frame.any(1).all()):
        raise InputError(
            "a floating-point frame of finite rows other than zero",
            got=f"dtype {frame.dtype}, or NaN, inf or a row of zeros",
            remedy="Look at how it was made; simplex_etf and incoherent_frame make frames.",
        )
    return frame
