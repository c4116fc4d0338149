"""Neural collapse in trained networks."""
