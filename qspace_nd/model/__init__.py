"""The fitted model: network, healthy reference, and the folder that keeps them."""
