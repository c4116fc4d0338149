"""Products in the precision of their factors."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision(device: torch.device) -> Generator[None, None, None]:
    """Float32 products in float32: no TF32 or bfloat16 short cuts, no autocast.

    Under torch.inference_mode tensors made in the block are ordinary ones, which may still be changed outside of it.
    """
    precision = torch.get_float32_matmul_precision()
    try:
        if precision != "highest":
            torch.set_float32_matmul_precision("highest")
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        if precision != "highest":
            torch.set_float32_matmul_precision(precision)
