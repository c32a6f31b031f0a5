"""Locally connected layers on a mesh: which device holds which weights, and how images get there."""
