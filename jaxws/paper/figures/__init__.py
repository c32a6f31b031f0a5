"""Figures of results: accuracies of tables, curves, -log SNR as in Fig. 6, and beyond the paper."""

from jaxws.paper.figures.canvas import Figure
from jaxws.paper.figures.draw import draw_figures

__all__ = ["Figure", "draw_figures"]
