"""One unknown kernel: deconvolution of many channels, and of short kernels that recur."""
