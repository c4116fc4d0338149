"""Frames and their coherence."""
