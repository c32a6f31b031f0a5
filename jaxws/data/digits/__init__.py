"""Handwritten digits on a larger canvas: the data set that comes with the package."""

from jaxws.data.digits.digits_dataset_builder import Builder, DigitsConfig

__all__ = ["Builder", "DigitsConfig"]
