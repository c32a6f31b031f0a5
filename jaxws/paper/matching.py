"""From a configuration to the row of the paper's tables that it is, if it is one."""

from __future__ import annotations

from functools import cache
from typing import Any

from ml_collections import ConfigDict

from jaxws.config.fields import flat_fields
from jaxws.paper.configs import row_config
from jaxws.paper.names import RunName, all_rows
from jaxws.paper.scales import SCALES
from jaxws.paper.state import MAY_DIFFER
from jaxws.paper.tables import SOURCES, Published, find_published

# A row has several seeds; how many images are scored at once changes no score.
_OF_NO_ROW = {*MAY_DIFFER, "seed", "eval_batch_size"}


def row_of(config: ConfigDict) -> RunName | None:
    """Finds the row of Tables 4 to 6 or 13 whose network, data, rates and schedule a run has.

    Args:
      config: of the run.

    Returns:
      The row's name; None where the configuration is none of the paper's.

    Example:
      >>> from jaxws.config.files import named_config
      >>> str(row_of(named_config("cifar10_lc_ws10")))
      'table5/cifar10/lc-ws10'
      >>> row_of(named_config("digits_lc")) is None
      True
    """
    wanted = _kept(config)
    return next((name for name, fields in _rows() if fields == wanted), None)


def published_of(config: ConfigDict) -> Published | None:
    """What the paper has of a configuration.

    Args:
      config: of a run.

    Returns:
      Its row; None where the configuration is none of the paper's.

    Example:
      >>> published_of(row_config("table5/cifar10/lc-ws10/seed3")).top1
      85.1
    """
    name = row_of(config)
    return name and _published(name)


def paper_rows(config: ConfigDict) -> list[tuple[str, str]]:
    """What a table about a run says of the paper.

    Args:
      config: of the run.

    Returns:
      A pair of name and text; none where the configuration is none of the paper's.

    Example:
      >>> paper_rows(row_config("table5/cifar10/lc-ws10/seed3"))
      [("the paper's test top-1", '85.1 % (Table 5: table5/cifar10/lc-ws10)')]
    """
    name = row_of(config)
    found = name and _published(name)
    if not name or not found:
        return []
    return [("the paper's test top-1", f"{found.top1} % ({SOURCES[found.table][0]}: {name})")]


def _published(name: RunName) -> Published | None:
    return find_published(name.experiment, name.dataset, name.row)


@cache
def _rows() -> tuple[tuple[RunName, dict[str, Any]], ...]:
    return tuple(
        (name, _kept(row_config(name)))
        for name in all_rows()
        if SCALES[name.scale].is_paper and name.experiment in SOURCES
    )


def _kept(config: ConfigDict) -> dict[str, Any]:
    return {key: value for key, value in flat_fields(config) if key not in _OF_NO_ROW}
