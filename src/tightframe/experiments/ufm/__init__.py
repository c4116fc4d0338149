"""Unconstrained features, solved rather than trained."""
