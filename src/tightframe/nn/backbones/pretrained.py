"""Reading pretrained image networks: of transformers, of timm, and from a factory of one's own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tightframe.core.errors import InputError, missing_package
from tightframe.core.rng import preserved_rng

Size = tuple[int, int, int]


@dataclass(frozen=True)
class Pretrained:
    """A network as read.

    Args:
        network: Maps images (N, C, H, W) to logits, or to features (N, d) where it has no classifier.
        size: (C, H, W) wanted; None where nothing tells.
        mean: Mean it was trained with, of each channel; empty where nothing tells.
        std: Standard deviation, likewise.
    """

    network: nn.Module
    size: Size | None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


class ImageTransformer(nn.Module):
    """A network of transformers that maps images to a tensor: its logits, or its pooled features.

    Args:
        network: The network, `network.*` by name in what is tuned or saved.
        pooler: Whether its own pooled output is trained; without, the class token or the mean of the map is taken.
    """

    def __init__(self, network: nn.Module, *, pooler: bool) -> None:
        super().__init__()
        self.network: nn.Module = network
        self.pooler: bool = pooler

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) or features (N, d) of images (N, C, H, W)."""
        output = self.network(pixel_values=images)
        logits = getattr(output, "logits", None)
        return _pooled(output, self.pooler) if logits is None else logits


def read_transformers(place: str) -> Pretrained:
    """The checkpoint `place`: a name on the hub or a directory written by `save_pretrained`.

    A checkpoint with an image classifier keeps it; of others, and of the image side of CLIP and its relatives, the
    pooled features are given.
    """
    try:
        import transformers
    except ImportError as error:
        raise missing_package("the package `transformers`, for hf: backbones", "hf", error) from error
    with _quiet(transformers):
        try:
            config = transformers.AutoConfig.from_pretrained(place)
            config = getattr(config, "vision_config", config) if not _classifies(config) else config
            kind = transformers.AutoModelForImageClassification if _classifies(config) else transformers.AutoModel
            network, report = kind.from_pretrained(place, config=config, output_loading_info=True)
        except Exception as error:  # the hub's client and the readers raise errors of many packages
            raise _unread("hf", place, error) from error
    missing = sorted(report["missing_keys"])
    untrained = [name for name in missing if "pooler" not in name.split(".")]
    if untrained or getattr(network, "main_input_name", "") != "pixel_values":
        got = f"no weights for {', '.join(untrained[:3])}" if untrained else f"{type(network).__name__}, of other input"
        raise InputError(
            "a checkpoint of an image network with all its weights",
            got=f"{place!r}: {got}",
            remedy="Choose another checkpoint, or pass IMPORT.PATH:factory.",
        )
    said = _preprocessing(transformers, place)
    mean, std = (tuple(map(float, said.get(key) or ())) for key in ("image_mean", "image_std"))
    if mean and said.get("do_normalize") is False:
        mean, std = (0.0,), (1.0,)
    size = _transformers_size(network.config, said)
    return Pretrained(ImageTransformer(network.float(), pooler=not missing), size, mean, std)


def read_timm(name: str) -> Pretrained:
    """The network `name` of timm with its pretrained weights."""
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # a torchvision built for another torch raises the latter
        raise missing_package("the packages `timm` and `torchvision`, for timm: backbones", "vision", error) from error
    try:
        network = timm.create_model(name, pretrained=True)
        data = timm.data.resolve_model_data_config(network)
    except Exception as error:  # of the hub's client and of timm itself
        raise _unread("timm", name, error) from error
    return Pretrained(network.eval(), tuple(data["input_size"]), tuple(data["mean"]), tuple(data["std"]))


def read_factory(path: str) -> Any:
    """What the factory `IMPORT.PATH:name` returns, looked up from the working directory too.

    Raises:
        InputError: There is no such module or name, or it cannot be called.
    """
    module_name, _, name = path.partition(":")
    sys.path.insert(0, "")
    try:
        factory = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            "a model as IMPORT.PATH:factory (backbones also as hf:NAME or timm:NAME)",
            got=f"{path!r} ({error})",
            remedy="Name a function that returns the network.",
        ) from error
    finally:
        sys.path.remove("")
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise InputError(
            "a model as IMPORT.PATH:factory",
            got=f"{path!r}, a {type(factory).__name__}",
            remedy="Name a function that returns the network.",
        )
    with preserved_rng():
        # Weights that the factory draws are the same in every process, and every time.
        torch.manual_seed(0)
        return factory()


def _classifies(config: Any) -> bool:
    return any(name.endswith("ForImageClassification") for name in getattr(config, "architectures", None) or ())


def _pooled(output: Any, pooler: bool) -> Tensor:
    found = getattr(output, "pooler_output", None) if pooler else None
    if found is not None:
        return found.flatten(1)
    hidden = output.last_hidden_state
    return hidden[:, 0] if hidden.ndim == 3 else hidden.flatten(2).mean(2)


def _preprocessing(transformers: Any, place: str) -> Mapping[str, Any]:
    """The checkpoint's own preprocessing as plain values; empty where it has none."""
    try:
        return transformers.ImageProcessingMixin.get_image_processor_dict(place)[0]
    except OSError:
        return {}


def _transformers_size(config: Any, preprocessing: Mapping[str, Any]) -> Size | None:
    """(C, H, W), by the architecture (learned positions have one size), else by the preprocessing."""
    config = getattr(config, "vision_config", config)
    for size in (getattr(config, "image_size", None), preprocessing.get("crop_size"), preprocessing.get("size")):
        if isinstance(size, Mapping):
            edge = size.get("shortest_edge")
            size = (size.get("height", edge), size.get("width", edge))
        height, width = (size, size) if isinstance(size, int) else size or (None, None)
        if height and width:
            return getattr(config, "num_channels", 3), int(height), int(width)
    return None


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without the reports and progress bars of reading; errors still come as exceptions."""
    logging = transformers.utils.logging
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _unread(kind: str, place: str, error: Exception) -> InputError:
    reason = (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
    where = "of the Hugging Face hub or a directory of `save_pretrained`" if kind == "hf" else "of timm"
    return InputError(
        f"an image network {where}",
        got=f"{place!r}: {reason}",
        remedy="Check the name and the network connection; files in the local cache are read without one.",
    )
