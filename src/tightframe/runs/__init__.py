"""Runs: what a run leaves behind, where, and what it says while it goes."""
