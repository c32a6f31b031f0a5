"""What a row is, in words: what the paper has of it, how it is trained, which fields it changes."""

from __future__ import annotations

from collections.abc import Iterator

from ml_collections import ConfigDict

from jaxws.config.fields import base_config, flat_fields
from jaxws.paper.configs import fixes_rates, published_like, usual_rates
from jaxws.paper.names import RunName, usual_seeds
from jaxws.paper.rows import Rates
from jaxws.paper.scales import SCALES
from jaxws.paper.tables import RUNS, SOURCES, Published


def paper_lines(row: RunName) -> Iterator[str]:
    """What the paper has of a row, or else of the one that it is like.

    Args:
      row: its name.

    Yields:
      Lines.

    Example:
      >>> from jaxws.paper.names import parse_name
      >>> next(paper_lines(parse_name("table5/cifar10/lc-ws1")))
      'top-1 87.4 %, -0.8 against conv (Table 5, mean of 5 runs); spread 0.5 (Table 8)'
    """
    found = published_like(row)
    if (own := "/".join(found[:3])) != str(row):
        yield f"no accuracy of this row; of {own}, which it is like:"
    yield from _published_lines(found)


def _published_lines(found: Published) -> Iterator[str]:
    accuracies, spreads, rates = SOURCES[found.table]
    runs = RUNS[found.table]
    for name, label in (("top1", "top-1"), ("top5", "top-5")):
        score, diff, spread = (getattr(found, f"{name}{end}") for end in ("", "_diff", "_spread"))
        if score is None:
            continue
        line = f"{label} {score:.1f} %"
        line += f", {diff:+.1f} against conv" if diff is not None else ""
        line += f" ({accuracies}, {'1 run' if runs == 1 else f'mean of {runs} runs'})"
        line += f"; spread {spread:.1f} ({spreads})" if spread is not None else ""
        yield line
    yield f"{_rates_text(Rates(found.learning_rate, found.weight_decay))} ({rates})"


def protocol_lines(row: RunName, config: ConfigDict) -> Iterator[str]:
    """How a row is trained.

    Args:
      row: its name.
      config: of the row.

    Yields:
      Lines.
    """
    model, optimizer, n_reps = config.model, config.optimizer, config.data.n_reps
    views = f"views, {n_reps} of each image" if n_reps > 1 else "images"
    depth = f"depth {model.depth} and " if model.architecture == "resnet_cifar" else ""
    network = f"{model.architecture} of {depth}width {model.width}"
    yield f"{network}; batches of {config.batch_size} {views}"
    drops = optimizer.drop_epochs or (config.epochs // 2, config.epochs * 3 // 4)
    yield (
        f"AdamW, {config.epochs} epochs; the rate is divided by {optimizer.drop_factor:g} after"
        f" epochs {' and '.join(map(str, drops))}"
    )
    yield f"activations in {model.dtype}; the paper's in float16 (--config.model.dtype=float16)"
    seeds = len(usual_seeds(row))
    yield f"{seeds} run{'s' if seeds > 1 else ''}; what counts is the accuracy after the last epoch"
    if fixes_rates(row):
        rates = Rates(optimizer.learning_rate, optimizer.weight_decay)
        yield f"{_rates_text(rates)}: the rate is what the row is about"
    else:
        yield _rates_text(usual_rates(row))
        yield f"searched over {_grid_text(row)}"


def _grid_text(row: RunName) -> str:
    """What is searched, as rates that are combined with the same decays."""
    scale = SCALES[row.scale]
    decays: dict[float, tuple[float, ...]] = {}
    for rate, decay in scale.grid(row.dataset, row.find().like):
        decays[rate] = (*decays.get(rate, ()), decay)
    parts = []
    for same in dict.fromkeys(decays.values()):
        rates = ", ".join(f"{rate:g}" for rate, found in decays.items() if found == same)
        parts.append(f"{rates} (decay {' or '.join(f'{decay:g}' for decay in same)})")
    return f"{'; '.join(parts)} in {scale.search_epochs[row.dataset]} epochs"


def change_lines(config: ConfigDict) -> Iterator[str]:
    """Fields in which a configuration differs from the base configuration.

    Args:
      config: any.

    Yields:
      Lines.

    Example:
      >>> from jaxws.paper.configs import row_config
      >>> list(change_lines(row_config("table5/cifar10/lc-ws10")))
      ['optimizer.learning_rate=0.0005', 'sharing.every=10']
    """
    base = dict(flat_fields(base_config()))
    found = [f"{key}={value!r}" for key, value in flat_fields(config) if base[key] != value]
    yield from sorted(found) or ["none"]


def _rates_text(rates: Rates) -> str:
    return f"learning rate {rates.learning_rate:g}, weight decay {rates.weight_decay:g}"
