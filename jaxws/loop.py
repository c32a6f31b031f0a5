"""The training loop: from a configuration and a directory to a trained network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from jaxws import data
from jaxws.checkpoint import Checkpoints
from jaxws.plots import plot_accuracy, plot_snr
from jaxws.progress import Progress
from jaxws.run import Run
from jaxws.schedules import step_decay
from jaxws.train_state import TrainState, create_train_state
from jaxws.train_step import Metrics, Sharing, eval_step, train_step
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
    optimizer, key = _make_optimizer(run), jax.random.key(config.seed)
    step_fn, eval_fn = _compile_lazily(run, optimizer)
    train_split = jax.device_put(run.dataset.train)
    test_split = jax.device_put(run.dataset.test)
    size = len(run.dataset.train.labels)

    with closing(Checkpoints(workdir.checkpoints, config.checkpoint.keep)) as checkpoints:
        state = _first_state(run, optimizer, checkpoints, key)
        first_step = int(state.step)
        if first_step < run.last_step:
            workdir.resume_from(first_step)
        with Progress(run.last_step, first_step) as progress:
            for epoch, steps in _epochs(run, first_step):
                order = data.epoch_order(config.seed, epoch, size, config.batch_size)
                state, totals, seconds = _train_epoch(
                    partial(step_fn, split=train_split, order=order, key=key),
                    state,
                    steps,
                    workdir,
                    progress,
                    config.log_every,
                )
                test = _means("test", _evaluate(eval_fn, state, test_split, config))
                _check_finite("test loss", test["test_loss"], steps.stop)
                record = {
                    "kind": "epoch",
                    "step": steps.stop,
                    "epoch": steps.stop / run.steps_per_epoch,
                    **_means("train", totals),
                    **test,
                    "images_per_second": totals.images / seconds,
                }
                workdir.append(record)
                checkpoints.save(state)
                progress.epoch(record, config.epochs)


def _make_optimizer(run: Run) -> optax.GradientTransformation:
    """AdamW; its decay is scaled by the rate and falls on every parameter, as in the paper."""
    config = run.config.optimizer
    schedule = step_decay(
        config.learning_rate, run.steps_per_epoch, tuple(config.drop_epochs), config.drop_factor
    )
    return optax.adamw(schedule, weight_decay=config.weight_decay)


def _first_state(
    run: Run, optimizer: optax.GradientTransformation, checkpoints: Checkpoints, key: jax.Array
) -> TrainState:
    create = partial(
        create_train_state,
        model=run.model,
        optimizer=optimizer,
        image_shape=data.view_shape(run.dataset.image_shape, run.config.data.crop_size),
    )
    if checkpoints.latest_step() is None:
        return jax.jit(create)(key)
    return checkpoints.restore(jax.eval_shape(create, key))


def _epochs(run: Run, step: int) -> Iterator[tuple[int, range]]:
    """The epochs from a step on, each with the steps that are left of it."""
    while step < run.last_step:
        epoch = step // run.steps_per_epoch
        end = min((epoch + 1) * run.steps_per_epoch, run.last_step)
        yield epoch, range(step, end)
        step = end


def _compile_lazily(
    run: Run, optimizer: optax.GradientTransformation
) -> tuple[Callable[..., Any], Callable[..., Metrics]]:
    """The jitted steps, batches included: data go in as uint8 and never come back."""
    config, dataset = run.config, run.dataset
    images = {
        "image_shape": dataset.image_shape,
        "crop_size": config.data.crop_size,
        "mean": tuple(dataset.mean.tolist()),
        "std": tuple(dataset.std.tolist()),
        "dtype": jnp.dtype(config.model.dtype),
    }
    sharing = Sharing(config.sharing.every, config.sharing.pools, run.steps_per_epoch)
    size = len(dataset.train.labels)

    @partial(jax.jit, donate_argnums=0)
    def step_fn(
        state: TrainState, split: data.Split, order: jax.Array, key: jax.Array
    ) -> tuple[TrainState, Metrics, dict[str, jax.Array]]:
        batch = data.training_batch(
            split,
            order[state.step % run.steps_per_epoch],
            jax.random.fold_in(key, state.step),
            pad=config.data.pad,
            flip=config.data.flip,
            n_reps=config.data.n_reps,
            ragged=size % config.batch_size != 0,
            **images,
        )
        return train_step(
            state,
            batch,
            model=run.model,
            optimizer=optimizer,
            sharing=sharing,
            measure_snr=(state.step + 1) % config.log_every == 0,
        )

    @jax.jit
    def eval_fn(params: Any, batch_stats: Any, split: data.Split, indices: jax.Array) -> Metrics:
        batch = data.evaluation_batch(split, indices, ragged=True, **images)
        return eval_step(params, batch_stats, batch, model=run.model)

    return step_fn, eval_fn


def _train_epoch(
    step_fn: Callable[..., Any],
    state: TrainState,
    steps: range,
    workdir: Workdir,
    progress: Progress,
    log_every: int,
) -> tuple[TrainState, Metrics, float]:
    totals = Metrics(0.0, 0.0, 0.0, 0.0)
    begin = time.perf_counter()

    def finish(step: int, metrics: Metrics, snr: dict[str, jax.Array]) -> None:
        nonlocal totals
        sums = jax.tree.map(float, metrics)
        totals = Metrics(*map(sum, zip(totals, sums, strict=True)))
        means = _means("train", sums)
        if (step + 1) % log_every == 0:
            neg_log_snr = {layer: float(value) for layer, value in snr.items()}
            workdir.append({"kind": "train", "step": step + 1, **means, "neg_log_snr": neg_log_snr})
        progress.step(step + 1, means)
        _check_finite("loss", means["train_loss"], step + 1)

    # Results of a step are fetched once the next one has been dispatched: the device never waits.
    pending: tuple[Any, ...] | None = None
    for step in steps:
        state, metrics, snr = step_fn(state)
        if pending is not None:
            finish(*pending)
        pending = (step, metrics, snr)
    if pending is not None:
        finish(*pending)
    return state, totals, time.perf_counter() - begin


def _evaluate(
    eval_fn: Callable[..., Metrics], state: TrainState, split: data.Split, config: ConfigDict
) -> Metrics:
    """Adds up exact counts over the whole split, a ragged last batch included."""
    size = len(split.labels)
    batches = [
        eval_fn(state.params, state.batch_stats, split, indices)
        for indices in data.evaluation_order(size, min(config.eval_batch_size, size))
    ]
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
