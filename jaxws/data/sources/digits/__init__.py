"""Handwritten digits on a larger canvas: the data set that comes with the package."""

from jaxws.data.sources.digits.digits_dataset_builder import Builder, DigitsConfig, draw_split

__all__ = ["Builder", "DigitsConfig", "draw_split"]
