"""The door to Lightning Fabric: one process on its own, or one of those that torchrun started."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tightframe.core.errors import InputError

if TYPE_CHECKING:
    from lightning.fabric import Fabric


def connect(*, precision: str = "32-true", accelerator: str = "auto") -> Fabric:
    """A launched Fabric on the device of this process.

    Under torchrun every process gets its own device and all of them are joined (DistributedDataParallel; NCCL
    on GPUs, gloo on CPUs). Otherwise one device is used.

    Args:
        precision: "32-true", "bf16-mixed", "16-mixed", "64-true" or another name that Fabric knows.
        accelerator: "auto" (a GPU when there is one), "cpu", "cuda" or "mps".

    Raises:
        InputError: Fabric knows no such precision or accelerator, or the machine has none.
    """
    # Imported here because it takes seconds, which a person asking for help should not wait for.
    from lightning.fabric import Fabric
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = int(os.environ["WORLD_SIZE"]) // local if "LOCAL_WORLD_SIZE" in os.environ else 1
    try:
        fabric = Fabric(accelerator=accelerator, devices=local, num_nodes=nodes, precision=precision)
    except (ValueError, MisconfigurationException, RuntimeError) as error:
        raise InputError(
            "a precision and an accelerator that this machine has",
            got=f"precision={precision!r}, accelerator={accelerator!r}: {error}",
            remedy='Use precision="32-true" and accelerator="cpu" where there is no GPU.',
        ) from error
    fabric.launch()
    return fabric
