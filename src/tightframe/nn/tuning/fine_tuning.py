"""One door to the five methods of fine-tuning, and back from a saved delta."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from tightframe.core.errors import InputError
from tightframe.nn.tuning.delta import apply_delta, check_base, fingerprint, inside, read_delta
from tightframe.nn.tuning.lora import LoRATuning
from tightframe.nn.tuning.tuning import FullTuning, HeadTuning, LayerTuning, SkipConnectionTuning, Tuning

Method = Literal["linear", "layer", "scl", "full", "lora"]
_KINDS: dict[str, type[Tuning]] = {
    kind.method: kind for kind in (HeadTuning, LayerTuning, SkipConnectionTuning, FullTuning, LoRATuning)
}


def tune(
    model: nn.Module,
    method: Method = "linear",
    *,
    layer: str | None = None,
    classes: int | None = None,
    **options: Any,
) -> Tuning:
    """Prepare a network for fine-tuning, in place.

    Build the optimiser from the parameters that require gradients, afterwards.

    Args:
        model: Any network with a linear classifier; `backbone` puts one on an encoder.
        method: "linear" (the head), "layer" (a layer and the head), "scl" (the same with a skip connection between
            them), "full", or "lora" (low-rank adapters; needs peft).
        layer: The tuned layer, for "layer" and "scl".
        classes: Size of a new head; None keeps the head there is.
        options: Further arguments of the method's class: `classifier`, `inputs`, `seed`; `tokens` for "scl"; `rank`,
            `alpha`, `dropout`, `targets` for "lora".

    Returns:
        The network with the method around it, an nn.Module with the network's outputs.

    Raises:
        InputError: An unknown method, a layer missing or given in vain, or what the method's class refuses.
        MissingDependencyError: "lora" without peft.

    Example:
        >>> from tightframe.nn.networks import MLP
        >>> print(tune(MLP(64, 10, widths=(32,)), "linear", classes=3).describe())
        linear: 99 of 2,179 parameters are trained (4.54%)
          classifier  99  4.54%
    """
    if method not in _KINDS:
        raise InputError(f"a method, one of {', '.join(get_args(Method))}", got=repr(method), remedy="Choose one.")
    if (layer is not None) != (method in ("layer", "scl")):
        raise InputError(
            'a layer for "layer" and "scl", and none for the other methods',
            got=f"layer={layer!r} with {method!r}",
            remedy="Name a block of the backbone." if layer is None else "Leave the layer out.",
        )
    placed = () if layer is None else (layer,)
    return _KINDS[method](model, *placed, classes=classes, **options)


def load_delta(model: nn.Module, path: str | Path) -> Tuning:
    """Put what fine-tuning changed onto its base, in place.

    Args:
        model: The network as it was before it was tuned; its head may differ where the delta brings a new one.
        path: A file that `save_delta` wrote.

    Returns:
        The tuned network, in evaluation mode, ready for use or for more training.

    Raises:
        InputError: Another base (structure or weights), a damaged file, or one of another kind.
        UnsafeFileError: A pickle.

    Example:
        >>> import tempfile
        >>> from tightframe.nn.networks import MLP
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = tune(MLP(4, 3, widths=(8,)), "full").save_delta(f"{folder}/tuned.safetensors")
        ...     load_delta(MLP(4, 3, widths=(8,)), file).method
        'full'
    """
    delta = read_delta(path)
    settings = dict(delta.settings)
    paths = [settings["classifier"], settings["layer"]] if settings["method"] != "full" else [""]

    def is_trained(name: str) -> bool:
        return any(inside(name, place) for place in paths if place is not None)

    check_base(delta, fingerprint(model.state_dict(), is_trained))
    tuned = tune(model, settings.pop("method"), **settings)
    apply_delta(delta, tuned)
    tuned.eval()
    return tuned
