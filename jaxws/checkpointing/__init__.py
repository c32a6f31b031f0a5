"""Checkpoints: written so that each can be verified, found again, and understood by itself."""
