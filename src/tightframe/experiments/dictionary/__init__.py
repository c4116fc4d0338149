"""The shallow half: dictionaries, deconvolution, recordings and images."""
