"""Heads, spheres and losses: what training can do with collapse."""
