"""Data sets: real images as labelled tensors, from bundled digits to one's own folders."""
