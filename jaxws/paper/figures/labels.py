"""With which colour and line a row is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from jaxws.paper.experiments import LONGER
from jaxws.paper.rows import FIRST_CONV

# A hue for each way to regularise, from those of Okabe and Ito, which colour-blind people tell
# apart; within one, lightness and dashes.
_LINES = MappingProxyType(
    {
        "conv": ("#000000", "-"),
        "lc": ("#D55E00", "-"),
        "lc-4reps": ("#E0A000", "-"),
        "lc-8reps": ("#B07C00", "--"),
        "lc-16reps": ("#7A5600", ":"),
        "lc-ws1": ("#0B5394", "-"),
        "lc-ws10": ("#1F88C9", "--"),
        "lc-ws100": ("#56B4E9", ":"),
        "lc-ws1-global": ("#009E73", "-"),
        "lc-ws1-sleep": ("#CC79A7", "-"),
        "lc-ws1-online": ("#009E73", "-"),
        "lc-from-conv": ("#009E73", "-"),
        "lc-ws1-from-conv": ("#CC79A7", "--"),
    }
)
_OTHER = ("0.4", "-")


def row_line(row: str) -> Mapping[str, Any]:
    """How a row's line looks, the same in all figures.

    Args:
      row: its name.

    Returns:
      Options of ``Axes.plot``.

    Example:
      >>> row_line("conv")
      {'color': '#000000', 'linestyle': '-'}
    """
    colour, line = _LINES.get(row.removeprefix(FIRST_CONV).removesuffix(f"-{LONGER}x"), _OTHER)
    return {"color": colour, "linestyle": line}
