"""Over-parameterised training that survives wrong labels, and names them."""
