"""Parts of networks, and whole networks for small images."""
