"""What a job looks at: a network with its weights and its data, or a file of features."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from tightframe.core.errors import InputError
from tightframe.data.labelled.images import ImageData
from tightframe.data.labelled.source import load
from tightframe.jobs.options import CertifyOptions, MeasureOptions
from tightframe.nn.backbones.pretrained import read_factory
from tightframe.nn.networks import NAMES
from tightframe.runs.store import RunDirectory
from tightframe.training.checkpoint import load_into
from tightframe.training.config import TrainConfig
from tightframe.trials.trial import TrialConfig, initial_model

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Options = MeasureOptions | CertifyOptions

# What a run directory knows of its network and data.
_SUBJECT = ("data", "model", "width", "depth", "limit", "size")
_PLACES = ("checkpoint", "features", "data_root", "out", "workers", "accelerator", "format", "quiet")


@dataclass(frozen=True)
class Network:
    """A network that options name.

    Args:
        config: Its architecture and data; of a run directory, also how it was trained.
        weights: File of its weights; None for those it is built with.
        trained: Whether `config.train` is how it was trained.
    """

    config: TrialConfig
    weights: Path | None
    trained: bool

    def load(self, options: Options, fabric: Fabric) -> tuple[nn.Module, ImageData]:
        """The network with its weights, on the device of this process, and the data."""
        config = self.config
        data = load(config.data, root=options.data_root, limit=config.limit, size=config.size)
        model = imported_model(config.model) if ":" in config.model else initial_model(config, data)
        if self.weights is not None:
            load_into(model, self.weights)
        return model.to(fabric.device), data


def network_of(options: Options) -> Network | None:
    """The network that the options name; None where they name a file of features.

    Raises:
        InputError: They name both or neither, weights without a network, a run of another kind, or another network
            or other data than those of the run.
    """
    if (options.features is None) == (options.checkpoint is None and options.model is None):
        raise InputError(
            "either --features FILE, or --model and --checkpoint",
            got="both" if options.features else "neither",
            remedy="Give the network or its features.",
        )
    if options.features is not None:
        return None
    if options.checkpoint is not None and options.checkpoint.is_dir():
        directory = RunDirectory(options.checkpoint)
        return Network(_run_config(options, directory), directory.checkpoint_path, True)
    if options.model is None:
        raise InputError(
            "a network for the weights",
            got="--checkpoint without --model",
            remedy=f"Add --model IMPORT.PATH:factory, or one of {', '.join(NAMES)}.",
        )
    config = TrialConfig(**{name: getattr(options, name) for name in _SUBJECT})
    return Network(config, options.checkpoint, False)


def described(options: Options, network: Network | None) -> dict[str, Any]:
    """What the job looked at, and how; a file of features knows neither network nor data."""
    how = {key: value for key, value in asdict(options).items() if key not in (*_PLACES, *_SUBJECT)}
    subject = {} if network is None else {name: getattr(network.config, name) for name in _SUBJECT}
    file = options.features or options.checkpoint
    return subject | how | {"file": "" if file is None else file.name}


def imported_model(path: str) -> nn.Module:
    """Call the factory `IMPORT.PATH:name`, looked up from the working directory too.

    Raises:
        InputError: There is no such module or name, or it does not return an nn.Module.
    """
    model = read_factory(path)
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{path} returns an nn.Module", got=type(model).__name__, remedy="Return the network from the factory."
        )
    return model


def _run_config(options: Options, directory: RunDirectory) -> TrialConfig:
    stored = directory.config()
    try:
        config = TrialConfig(**stored | {"train": TrainConfig(**stored["train"])})
    except (TypeError, KeyError) as error:
        raise InputError(
            "the run directory of `tightframe train`",
            got=f"{directory.path}, of another kind of run ({error})",
            remedy="Name a checkpoint file, with --model.",
        ) from error
    given = {f.name: getattr(options, f.name) for f in fields(options) if getattr(options, f.name) != f.default}
    other = [name for name in _SUBJECT if name in given and given[name] != getattr(config, name)]
    if other:
        raise InputError(
            "the network and the data of the run directory",
            got="; ".join(f"--{name} {given[name]} for {getattr(config, name)}" for name in other),
            remedy=f"Leave these out, or name {directory.checkpoint_path} itself and describe its network by --model.",
        )
    return config
