"""Dictionaries of vectors: complete and overcomplete ones, by powers of projections, and their codes."""
