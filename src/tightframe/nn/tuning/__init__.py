"""Tuning a part of a network, and linear probes."""
