"""Layers on a mesh: which device holds which weights, and how images get to them."""
