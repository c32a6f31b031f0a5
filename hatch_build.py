"""Puts configs/ into wheels, as jaxws/configs; an editable install reads those of the clone."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ConfigsHook(BuildHookInterface):
    """Hatchling calls it before it builds."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the files where the wheel holds the package itself."""
        if version == "standard":
            build_data["force_include"]["configs"] = "jaxws/configs"
