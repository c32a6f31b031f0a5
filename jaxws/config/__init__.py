"""Configurations: their fields and defaults, what is checked of them, what of them makes a run."""

from jaxws.config.fields import base_config

__all__ = ["base_config"]
