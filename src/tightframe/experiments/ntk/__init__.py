"""Two manifolds and the tangent kernel."""
