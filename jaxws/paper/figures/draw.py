"""All figures that there are results for, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from jaxws.paper.figures.accuracy import draw_accuracy
from jaxws.paper.figures.canvas import Drawing, Figure, styled, write_figure
from jaxws.paper.figures.curves import draw_curves
from jaxws.paper.figures.frequency import draw_frequency
from jaxws.paper.figures.images import draw_images
from jaxws.paper.figures.runs import Runs
from jaxws.paper.figures.snr import draw_snr
from jaxws.paper.figures.variants import draw_variants
from jaxws.paper.results import Result
from jaxws.paper.scales import Scale

_Draw = Callable[[Runs, str, str], Drawing | None]
# What is drawn of an experiment, by the end of the figure's name; else what is drawn of a table.
_TABLE: Mapping[str, _Draw] = MappingProxyType(
    {"-accuracy": draw_accuracy, "-curves": draw_curves, "-snr": draw_snr}
)
_KINDS: Mapping[str, Mapping[str, _Draw]] = MappingProxyType(
    {
        "fig6": {"": draw_snr},
        "images": {"": draw_images},
        "frequency": {"": draw_frequency},
        "pools": {"": draw_variants},
        "modes": {"": draw_variants},
        "untied": {"": draw_variants},
        "longer": {"": draw_variants},
    }
)


def draw_figures(results: Sequence[Result], scale: Scale) -> dict[str, Figure]:
    """Draws what there are results for.

    Args:
      results: of any scale; those of others are left aside.
      scale: of which figures are drawn.

    Returns:
      Figures by name, such as ``'table5-cifar10-accuracy'`` or ``'fig6-cifar10'``, in the order of
      the scale's experiments; none of experiments without results.

    Example:
      >>> from jaxws.paper.scales import SCALES
      >>> draw_figures([], SCALES["paper"])
      {}
    """
    with styled():
        drawn = dict(each_drawing(results, scale))
        return {name: write_figure(drawing, scale) for name, drawing in drawn.items()}


def each_drawing(results: Sequence[Result], scale: Scale) -> Iterator[tuple[str, Drawing]]:
    """Pictures that are not written yet, which takes most of the time.

    Args:
      results: as of :func:`draw_figures`.
      scale: as well.

    Yields:
      Names of figures, and pictures.
    """
    runs = Runs(results, scale)
    for experiment in scale.experiments:
        for dataset in scale.datasets:
            for ending, draw in _KINDS.get(experiment, _TABLE).items():
                if drawing := draw(runs, experiment, dataset):
                    yield f"{experiment}-{dataset}{ending}", drawing
