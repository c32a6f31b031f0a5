"""The training loop: from a configuration and a directory to a trained network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from jaxws import data
from jaxws.checkpoint import Checkpoints
from jaxws.metrics import Metrics
from jaxws.optimizers import make_optimizer
from jaxws.plots import plot_accuracy, plot_snr
from jaxws.progress import Progress
from jaxws.run import Run
from jaxws.state_layout import (
    as_resident,
    checkpoint_shapes,
    from_checkpoint,
    pool_if_shared,
    to_checkpoint,
)
from jaxws.train_state import TrainState, create_train_state
from jaxws.train_step import Sharing, StepInfo, eval_step, train_step
from jaxws.waits import Waits
from jaxws.workdir import Workdir


def train(run: Run) -> dict[str, Any]:
    """Trains until the run's last step, from the newest checkpoint if there is one.

    Writes metrics.jsonl, a checkpoint after each epoch and, at the end, the plots. After a stop
    within an epoch, by ``max_steps``, the epoch's record averages the training steps since.

    Args:
      run: from :func:`jaxws.run.prepare`.

    Returns:
      The last record of kind ``epoch`` in metrics.jsonl.

    Raises:
      FloatingPointError: a loss is not finite; the weights are not saved.
      ValueError: a damaged checkpoint or metrics.jsonl.
    """
    with closing(run.workdir):
        _train(run)
    records = list(run.workdir.records())
    epochs = [record for record in records if record["kind"] == "epoch"]
    if not epochs:
        raise ValueError(
            f"workdir {run.workdir.path} has checkpoints but no epoch in metrics.jsonl: bring the"
            " file back, or start anew with another --workdir."
        )
    plot_accuracy(records, run.workdir.path / "accuracy.png")
    if run.config.model.connectivity == "local":
        plot_snr(records, run.workdir.path / "snr.png")
    return epochs[-1]


def _train(run: Run) -> None:
    config, workdir = run.config, run.workdir
    optimizer, key = make_optimizer(config, run.feed.steps_per_epoch), jax.random.key(config.seed)
    step_fn, eval_fn = _compile_lazily(run, optimizer)

    with closing(Checkpoints(workdir.checkpoints, config.checkpoint.keep)) as checkpoints:
        state = _first_state(run, optimizer, checkpoints, key)
        first_step = int(state.step)
        if first_step >= run.last_step:
            return
        workdir.resume_from(first_step)
        with (
            Progress(run.last_step, first_step) as progress,
            data.Prefetch(run.feed.train_inputs(first_step), config.data.prefetch) as inputs,
        ):
            for steps in _epochs(run, first_step):
                waits = Waits(inputs)
                state, totals, skipped = _train_epoch(
                    step_fn, state, steps, waits, workdir, progress, config
                )
                rates = {
                    "images_per_second": totals.images / waits.seconds,
                    "data_wait": waits.share,
                }
                test = _means("test", _evaluate(run, eval_fn, state))
                _check_finite("test loss", test["test_loss"], steps.stop)
                record = {
                    "kind": "epoch",
                    "step": steps.stop,
                    "epoch": steps.stop / run.feed.steps_per_epoch,
                    **_means("train", totals),
                    **test,
                    **rates,
                    "skipped": skipped,
                }
                workdir.append(record)
                checkpoints.save(to_checkpoint(state))
                progress.epoch(record, config.epochs)


def _first_state(
    run: Run, optimizer: optax.GradientTransformation, checkpoints: Checkpoints, key: jax.Array
) -> TrainState:
    create = partial(
        create_train_state,
        model=run.model,
        optimizer=optimizer,
        image_shape=run.feed.image_shape,
        dtype=run.config.model.dtype,
    )
    if checkpoints.latest_step() is None:
        return jax.jit(lambda key: as_resident(create(key)))(key)
    shapes = checkpoint_shapes(jax.eval_shape(create, key))
    return from_checkpoint(checkpoints.restore(shapes))


def _epochs(run: Run, step: int) -> Iterator[range]:
    """The steps that are left of each epoch, from a step on."""
    while step < run.last_step:
        epoch = step // run.feed.steps_per_epoch
        end = min((epoch + 1) * run.feed.steps_per_epoch, run.last_step)
        yield range(step, end)
        step = end


def _compile_lazily(
    run: Run, optimizer: optax.GradientTransformation
) -> tuple[Callable[..., Any], Callable[..., Metrics]]:
    """The jitted steps, batches included: data go in as uint8 and never come back."""
    config, feed = run.config, run.feed
    sharing = Sharing(config.sharing.every, config.sharing.pools, feed.steps_per_epoch)

    @partial(jax.jit, donate_argnums=0)
    def jitted(state: TrainState, inputs: Any) -> tuple[TrainState, Metrics, StepInfo]:
        return train_step(
            state,
            feed.train_batch(inputs, state.step),
            model=run.model,
            optimizer=optimizer,
            sharing=sharing,
            accumulate=config.accumulate,
            skip_nonfinite=config.divergence.action == "skip",
        )

    def step_fn(state: TrainState, inputs: Any) -> tuple[TrainState, Metrics, StepInfo]:
        state, *results = jitted(state, inputs)
        return pool_if_shared(state, sharing), *results

    @jax.jit
    def eval_fn(params: Any, batch_stats: Any, inputs: Any) -> Metrics:
        return eval_step(params, batch_stats, feed.eval_batch(inputs), model=run.model)

    return step_fn, eval_fn


def _train_epoch(
    step_fn: Callable[..., Any],
    state: TrainState,
    steps: range,
    waits: Waits,
    workdir: Workdir,
    progress: Progress,
    config: ConfigDict,
) -> tuple[TrainState, Metrics, int]:
    """Returns the state, sums over the steps that were not skipped, and how many were."""
    totals, skipped = Metrics(0.0, 0.0, 0.0, 0.0), 0

    def finish(step: int, metrics: Metrics, info: StepInfo) -> None:
        nonlocal totals, skipped
        sums = jax.tree.map(float, metrics)
        if info.skipped:
            skipped += 1
        else:
            totals = Metrics(*map(sum, zip(totals, sums, strict=True)))
        means = _means("train", sums)
        if (step + 1) % config.log_every == 0:
            record = {"kind": "train", "step": step + 1, **means, "data_wait": waits.lap()}
            workdir.append(record | _info_record(info, config.model.dtype))
        progress.step(step + 1, means | {"data_wait": waits.share})
        if info.diverged and config.divergence.action != "skip":
            _check_finite("loss", means["train_loss"], step + 1)
            _check_finite("norm of the gradients", float(info.grad_norm), step + 1)

    # Results of a step are fetched once the next one has been dispatched: the device never waits.
    pending: tuple[Any, ...] | None = None
    for step in steps:
        inputs = waits.next(pending)
        state, metrics, info = step_fn(state, inputs)
        if pending is not None:
            finish(*pending)
        pending = (step, metrics, info)
    if pending is not None:
        finish(*pending)
    if skipped == len(steps):
        raise FloatingPointError(
            f"all {skipped} steps until step {steps.stop} were skipped, as their loss or gradients"
            " are not finite: the run has diverged. Lower --config.optimizer.learning_rate, with"
            " another --workdir."
        )
    return state, totals, skipped


def _info_record(info: StepInfo, dtype: str) -> dict[str, Any]:
    """What a line of metrics.jsonl says of a step besides its metrics."""
    record = jax.tree.map(float, info._asdict())
    names = ["learning_rate", "grad_norm", "neg_log_snr"]
    return {key: record[key] for key in names + ["loss_scale"] * (dtype == "float16")}


def _evaluate(run: Run, eval_fn: Callable[..., Metrics], state: TrainState) -> Metrics:
    """Adds up exact counts over the whole split, a ragged last batch included."""
    with data.Prefetch(run.feed.eval_inputs(), run.config.data.prefetch) as inputs:
        batches = [eval_fn(state.params, state.batch_stats, each) for each in inputs]
    return Metrics(*(sum(map(float, column)) for column in zip(*batches, strict=True)))


def _check_finite(name: str, value: float, step: int) -> None:
    """Stops a run before weights that have diverged are saved as a checkpoint."""
    if not math.isfinite(value):
        raise FloatingPointError(
            f"the {name} is {value} at step {step}: the run has diverged. Lower"
            " --config.optimizer.learning_rate, with another --workdir; checkpoints of earlier"
            " epochs, if any, are kept."
        )


def _means(split: str, sums: Metrics) -> dict[str, float]:
    return {
        f"{split}_{name}": getattr(sums, name) / sums.images for name in ("loss", "top1", "top5")
    }
