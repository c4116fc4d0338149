"""Several kernels at once: convolutions, the bilinear Lasso, sparse coding, and the estimator on them."""
