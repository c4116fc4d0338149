"""The ground: errors, checks, types, linear algebra and randomness."""
