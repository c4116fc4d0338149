"""Spikes of neurons: sorted, decoded where they overlap, and scored."""
