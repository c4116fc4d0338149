"""Deep linear networks: parsimony, compression, completion."""
