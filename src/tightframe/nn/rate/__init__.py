"""Coding rate reduction: the loss, its optimum, and the networks that unroll it."""
