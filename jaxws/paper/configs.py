"""From the name of a run to its configuration."""

from __future__ import annotations

from ml_collections import ConfigDict

from jaxws.paper.names import RunName, parse_name
from jaxws.paper.rows import Rates, make_config, row_fields
from jaxws.paper.scales import SCALES
from jaxws.paper.tables import SOURCES, Published, find_published


def row_config(name: RunName | str, rates: Rates | None = None) -> ConfigDict:
    """The configuration of a run.

    Args:
      name: of a run, or of a row for its seed 0.
      rates: to train with; None for those of the paper or the scale.

    Returns:
      A new configuration. Where the run starts from the network of another one
      (:attr:`jaxws.paper.experiments.Row.starts_from`), ``model.init_from`` is left to the caller,
      who knows where that lies.

    Raises:
      ValueError: there is no such row.

    Example:
      >>> config = row_config("table5/cifar10/lc-ws10/seed3")
      >>> config.seed, config.sharing.every, config.optimizer.learning_rate
      (3, 10, 0.0005)
    """
    name = parse_name(name) if isinstance(name, str) else name
    row, scale = name.find(), SCALES[name.scale]
    config = make_config(
        scale.datasets[name.dataset],
        (rates or usual_rates(name)).fields,
        row.fields,  # may have rates of its own, which are what it is about
        {"seed": name.seed or 0},
    )
    config.data.train_fraction *= row.images
    config.epochs *= row.longer
    return config


def usual_rates(name: RunName) -> Rates:
    """The rates of a row: the paper's, or its scale's.

    Args:
      name: of a row or run.

    Returns:
      The rates.

    Example:
      >>> usual_rates(parse_name("table6/cifar10/lc-16reps"))
      Rates(learning_rate=0.0005, weight_decay=0.0001)
    """
    row, scale = name.find(), SCALES[name.scale]
    if scale.rates is not None:
        return scale.rates.get(row.like) or scale.rates[row_fields(row.like)["model.connectivity"]]
    line = published_like(name)
    return Rates(line.learning_rate, line.weight_decay)


def published_like(name: RunName) -> Published:
    """What the paper has of a row; of rows that it does not have, of the one that they are like.

    Args:
      name: of a row or run.

    Returns:
      The paper's row: of smaller scales, that of CIFAR-10.

    Example:
      >>> published_like(parse_name("small/table4/digits/lc"))[:3]
      ('table4', 'cifar10', 'lc')
      >>> published_like(parse_name("frequency/cifar10/lc-ws2"))[:3]
      ('table5', 'cifar10', 'lc-ws1')
    """
    table = name.experiment if name.experiment in SOURCES else "table5"
    dataset = name.dataset if SCALES[name.scale].is_paper else "cifar10"
    line = find_published(table, dataset, name.find().like)
    assert line is not None
    return line


def fixes_rates(name: RunName) -> bool:
    """Whether a row is about a learning rate, so that none is searched for it.

    Args:
      name: of a row or run.

    Returns:
      True or False.

    Example:
      >>> fixes_rates(parse_name("fig6/cifar10/lc-ws10-lr5e-2"))
      True
    """
    return "optimizer.learning_rate" in name.find().fields
