"""Benchmarks of tightframe; see README.md beside this file."""
