"""Wrong labels, and training that survives them."""
