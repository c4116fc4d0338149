"""Backbones on other data, and tuning a part of them."""
