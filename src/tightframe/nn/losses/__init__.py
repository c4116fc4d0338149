"""Losses with the signature of cross-entropy."""
