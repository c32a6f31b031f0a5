"""Trained networks that come with the package, and those of files that users have exported."""

from jaxws.models.published.loading import Loaded, load
from jaxws.models.published.names import published_names

__all__ = ["Loaded", "load", "published_names"]
