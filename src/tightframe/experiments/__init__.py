"""Claims of the literature, made executable."""
