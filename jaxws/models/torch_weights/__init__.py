"""State dicts of PyTorch: names and axes of their arrays, files, and what tools leave in them."""
