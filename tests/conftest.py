"""Makes the modules beside this file (`definitions`, `streams`) importable from every suite, and collects quickly."""

from __future__ import annotations

import gc

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Half a million objects arise that stay: looking for garbage among them again and again would take a third."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()
