"""Implementations of the locally connected layer, one file each."""
