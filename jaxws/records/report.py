"""The report of a run: one page with its results, curves, events, settings and origin.

All of it comes from the run's directory, so that it can be made again at any time:
``python -m jaxws report WORKDIR``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxws.config.registry import ARCHITECTURES
from jaxws.records import html as page
from jaxws.records.html import escape
from jaxws.records.plots import CURVES, plot_accuracy, plot_curves
from jaxws.records.report_origin import MANY, configuration, events, folded, origin
from jaxws.records.run_directory import RunDirectory
from jaxws.records.run_facts import evaluated_epochs, fact_rows
from jaxws.records.snr_plot import count_not_finite, plot_snr
from jaxws.records.summary import is_evaluated, metric_label, metric_means, metric_text
from jaxws.system.atomic import replacing, write_atomically

_NEEDED = {
    "epoch": ("epoch", "train_loss", "train_top1"),
    "train": ("neg_log_snr",),
    "event": ("event", "message"),
}
_OF_EVALUATIONS = ("test_loss", "test_top1")


def write_report(run: RunDirectory, beside: Sequence[tuple[str, str]] = ()) -> Path:
    """Draws the plots of a run and writes its report, all in the run's directory.

    Args:
      run: with one epoch at least.
      beside: pairs of name and text that the first table has too, as of what the paper reached.

    Returns:
      The report, ``report.html``. The plots are ``accuracy.png``, ``curves.png`` and, where there
      are LC layers, ``snr.png``.

    Raises:
      ValueError: no epoch has ended.
    """
    if not run.of_kind("epoch"):
        raise ValueError(
            f"{run.path} has no epoch in metrics.jsonl yet: there is nothing to report."
        )
    for kind, needed in _NEEDED.items():
        _check_keys(run, run.of_kind(kind), needed)
    _check_keys(run, evaluated_epochs(run), _OF_EVALUATIONS)
    plots = {"accuracy": plot_accuracy(run.records), "curves": plot_curves(run.records)}
    layers = any(record["neg_log_snr"] for record in run.of_kind("train"))
    if layers and run.config.model.connectivity == "local":
        plots["snr"] = plot_snr(run.records)
    for name, png in plots.items():
        with replacing(run.path / f"{name}.png") as file:
            file.write_bytes(png)
    report = run.path / "report.html"
    write_atomically(report, build_report(run, plots, beside))
    return report


def _check_keys(run: RunDirectory, records: list[dict[str, Any]], needed: Iterable[str]) -> None:
    for record, key in itertools.product(records, needed):
        if key not in record:
            raise ValueError(
                f"{run.path / 'metrics.jsonl'}: the {record['kind']} record of step"
                f" {record['step']} has no {key!r}; nothing was written."
            )


def build_report(
    run: RunDirectory, plots: dict[str, bytes], beside: Sequence[tuple[str, str]] = ()
) -> str:
    """Writes the page.

    Args:
      run: with one epoch at least.
      plots: PNGs by name, see :func:`write_report`.
      beside: as there.

    Returns:
      HTML.
    """
    evaluated = evaluated_epochs(run)
    tested = f"top-1 {_percent(evaluated[-1]['test_top1'])}" if evaluated else "not evaluated yet"
    title = f"{run.path.name}: {_tested_on(run)} {tested}"
    facts = [*fact_rows(run), *beside]
    return page.page(
        title,
        [
            f"<h1>{escape(title)}</h1>",
            f'<p class="sub">{escape(_network(run))}</p>',
            f'<p class="sub">{escape("; ".join(map(": ".join, facts)))}</p>',
            *_result(run, evaluated, facts),
            *_epochs(run),
            *_curves(run, plots),
            *events(run),
            *origin(run),
            *configuration(run),
        ],
    )


def _tested_on(run: RunDirectory) -> str:
    return "validation" if run.config.data.split == "tuning" else "test"


def _network(run: RunDirectory) -> str:
    model, every = run.config.model, run.config.sharing.every
    network = ARCHITECTURES.load(model.architecture).describe(model)
    shared = f"weights shared by ws({every})" if every else "weights never shared"
    shared = f", {shared}" if model.connectivity == "local" else ""
    name = run.provenance.get("data", {}).get("name") or run.config.data.name
    return f"{network}{shared}; {name}"


def _result(
    run: RunDirectory, evaluated: list[dict[str, Any]], facts: Sequence[tuple[str, str]]
) -> Iterator[str]:
    last = run.of_kind("epoch")[-1]
    means = metric_means(last, "train_")
    if evaluated:
        means = metric_means(evaluated[-1], "test_") | means
    rows = [(metric_label(n), metric_text(n, value, "not finite")) for n, value in means.items()]
    rows += [("epochs", f"{last['epoch']:.4g} of {run.config.epochs}"), ("steps", last["step"])]
    rows += facts
    caption = "After the last epoch; training images are augmented"
    if evaluated and evaluated[-1] is not last:
        caption += f"; test images after epoch {evaluated[-1]['epoch']:.4g}, evaluated last"
    if _tested_on(run) == "validation":
        caption += "; here and below, test images are training images that were held out"
    yield page.table(caption, ["measure", "value"], rows)


def _epochs(run: RunDirectory) -> Iterator[str]:
    epochs = run.of_kind("epoch")
    yield "<h2>Epochs</h2>"
    columns = {
        "epoch": lambda r: f"{r['epoch']:.4g}",
        "step": lambda r: r["step"],
        "training loss": lambda r: _number(r["train_loss"]),
        "training top-1": lambda r: _percent(r["train_top1"]),
        "test loss": lambda r: _number(r["test_loss"]) if is_evaluated(r) else "",
        "test top-1": lambda r: _percent(r["test_top1"]) if is_evaluated(r) else "",
        "learning rate": lambda r: _number(r.get("learning_rate")),
        "images/s": lambda r: _number(r.get("images_per_second"), ".0f"),
        "skipped steps": lambda r: _number(r.get("skipped"), ".0f"),
    }
    recorded = {"learning rate": "learning_rate", "skipped steps": "skipped"}
    for name, key in recorded.items():
        if not any(key in record for record in epochs):
            del columns[name]
    cells = [[cell(record) for cell in columns.values()] for record in epochs]
    yield folded(
        page.table("Means over each epoch", list(columns), cells, range(len(columns))),
        f"{len(epochs)} epochs",
        len(epochs),
    )


def _curves(run: RunDirectory, plots: dict[str, bytes]) -> Iterator[str]:
    epochs, measured = run.of_kind("epoch"), run.of_kind("train")
    evaluated = evaluated_epochs(run)
    yield "<h2>Curves</h2>"
    yield '<div class="figures">'
    yield page.figure(
        plots["accuracy"],
        f"Accuracy over epochs. Test top-1 {_course(evaluated, 'test_top1', _percent)}; training"
        f" top-1 {_course(epochs, 'train_top1', _percent)}.",
        "Accuracy; training images are augmented and seen before the step's update.",
    )
    extra = [key for key in CURVES if any(key in r for r in measured)]
    beneath = "".join(f", {CURVES[key]}" for key in extra)
    yield page.figure(
        plots["curves"],
        f"Loss{beneath} over steps. Training loss {_course(epochs, 'train_loss', _number)}; test"
        f" loss {_course(evaluated, 'test_loss', _number)}.",
        f"Loss{beneath}.",
    )
    yield "</div>"
    if "snr" in plots and measured:
        yield "<h2>Signal-to-noise ratio of weights</h2>"
        layers = measured[-1]["neg_log_snr"]
        yield page.figure(
            plots["snr"],
            f"-log SNR of {len(layers)} layers over steps. {_silent(measured)}",
            "-log SNR of Eq. (6) in each locally connected layer, after the update and before"
            " sharing; lower means that the weights of a pool agree better (Fig. 6 of the paper).",
        )
        yield f"<p>{escape(_silent(measured))}</p>"
        rows = [(layer, _number(value)) for layer, value in layers.items()]
        caption = f"-log SNR at step {measured[-1]['step']}"
        yield folded(page.table(caption, ["layer", "-log SNR"], rows, [1]), caption, MANY + 1)


def _course(epochs: list[dict[str, Any]], key: str, text: Callable[[float | None], str]) -> str:
    """Where a curve begins and ends, for those who do not see it."""
    if not epochs:
        return "was not measured yet"
    first, last = epochs[0], epochs[-1]
    return (
        f"goes from {text(first[key])} after epoch {first['epoch']:.4g} to {text(last[key])} after"
        f" epoch {last['epoch']:.4g}"
    )


def _silent(measured: list[dict[str, Any]]) -> str:
    """How many layers the plot cannot show."""
    counts, layers = count_not_finite(measured), len(measured[-1]["neg_log_snr"])
    if not any(counts):
        return f"It is finite in all {layers} layers at every measurement."
    return (
        f"At the last measurement (step {measured[-1]['step']}) it is not finite in {counts[-1]} of"
        f" {layers} layers, at most it was in {max(counts)}: all weights of some pool agree exactly"
        " there, as the weights that read a silent channel do, and these layers have no point."
    )


def _percent(part: float | None) -> str:
    return "" if part is None else f"{100 * part:.2f} %"


def _number(value: float | None, form: str = ".4g") -> str:
    return "not finite" if value is None else format(value, form)
