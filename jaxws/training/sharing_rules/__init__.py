"""How weights are shared: one file for each rule, which config/registry.py names."""

from jaxws.training.sharing_rules.spec import Share, SharingRule

__all__ = ["Share", "SharingRule"]
