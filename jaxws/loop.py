"""The training loop: from a configuration and a directory to a trained network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import jax
import optax

from jaxws import data
from jaxws.checkpoint import Checkpoints
from jaxws.evaluation import Evaluation, means
from jaxws.past_run import read_run
from jaxws.recorder import Recorder
from jaxws.report import write_report
from jaxws.run import Run
from jaxws.schedules import step_decay
from jaxws.state_layout import as_resident, checkpoint_shapes, from_checkpoint, to_checkpoint
from jaxws.train_state import TrainState, create_train_state
from jaxws.train_step import Metrics, Sharing, train_step
from jaxws.waits import Waits


def train(run: Run) -> dict[str, Any]:
    """Trains until the run's last step, from the newest checkpoint if there is one.

    Writes metrics.jsonl, a checkpoint after each epoch and, at the end, plots and a report. After a
    stop within an epoch, by ``max_steps``, the epoch's record averages the training steps since.

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
    past = read_run(run.workdir.path)
    epochs = past.of_kind("epoch")
    if not epochs:
        raise ValueError(
            f"workdir {run.workdir.path} has checkpoints but no epoch in metrics.jsonl: bring the"
            " file back, or start anew with another --workdir."
        )
    write_report(past)
    return epochs[-1]


def _train(run: Run) -> None:
    config = run.config
    optimizer, key = _make_optimizer(run), jax.random.key(config.seed)
    step_fn = _compile_lazily(run, optimizer)
    evaluate = Evaluation(run.feed, run.model, config.data.prefetch)

    with closing(Checkpoints(run.workdir.checkpoints, config.checkpoint.keep)) as checkpoints:
        state = _first_state(run, optimizer, checkpoints, key)
        first_step = int(state.step)
        if first_step >= run.last_step:
            return
        run.workdir.resume_from(first_step)
        with (
            Recorder(run, first_step) as recorder,
            data.Prefetch(run.feed.train_inputs(first_step), config.data.prefetch) as inputs,
        ):
            for steps in _epochs(run, first_step):
                state, totals = _train_epoch(step_fn, state, steps, Waits(inputs), recorder)
                sums = evaluate(state.params, state.batch_stats, run.feed.eval_inputs())
                test = means("test", sums)
                _check_finite("test loss", test["test_loss"], steps.stop)
                recorder.epoch(
                    {
                        "kind": "epoch",
                        "step": steps.stop,
                        "epoch": steps.stop / run.feed.steps_per_epoch,
                        **means("train", totals),
                        **test,
                    }
                )
                checkpoints.save(to_checkpoint(state))


def _make_optimizer(run: Run) -> optax.GradientTransformation:
    """AdamW; its decay is scaled by the rate and falls on every parameter, as in the paper."""
    config = run.config.optimizer
    schedule = step_decay(
        config.learning_rate,
        run.feed.steps_per_epoch,
        tuple(config.drop_epochs),
        config.drop_factor,
    )
    return optax.adamw(schedule, weight_decay=config.weight_decay)


def _first_state(
    run: Run, optimizer: optax.GradientTransformation, checkpoints: Checkpoints, key: jax.Array
) -> TrainState:
    create = partial(
        create_train_state,
        model=run.model,
        optimizer=optimizer,
        image_shape=run.feed.image_shape,
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


def _compile_lazily(run: Run, optimizer: optax.GradientTransformation) -> Callable[..., Any]:
    """The jitted step, its batch included: data go in as uint8 and never come back."""
    config, feed = run.config, run.feed
    sharing = Sharing(config.sharing.every, config.sharing.pools, feed.steps_per_epoch)

    @partial(jax.jit, donate_argnums=0)
    def step_fn(state: TrainState, inputs: Any) -> tuple[TrainState, Metrics, dict[str, jax.Array]]:
        return train_step(
            state,
            feed.train_batch(inputs, state.step),
            model=run.model,
            optimizer=optimizer,
            sharing=sharing,
        )

    return step_fn


def _train_epoch(
    step_fn: Callable[..., Any], state: TrainState, steps: range, waits: Waits, recorder: Recorder
) -> tuple[TrainState, Metrics]:
    totals = Metrics(0.0, 0.0, 0.0, 0.0)

    def finish(step: int, metrics: Metrics, snr: dict[str, jax.Array]) -> None:
        nonlocal totals
        sums = jax.tree.map(float, metrics)
        totals = Metrics(*map(sum, zip(totals, sums, strict=True)))
        step_means = means("train", sums)
        recorder.step(step + 1, step_means, {"images": sums.images, "neg_log_snr": snr})
        _check_finite("loss", step_means["train_loss"], step + 1)

    # Results of a step are fetched once the next one has been dispatched: the device never waits.
    pending: tuple[Any, ...] | None = None
    recorder.begin(waits)
    for step in steps:
        inputs = waits.next(pending)
        with recorder.dispatch(step, pending):
            state, metrics, snr = step_fn(state, inputs)
        if pending is not None:
            finish(*pending)
        pending = (step, metrics, snr)
    if pending is not None:
        finish(*pending)
    recorder.end()
    return state, totals


def _check_finite(name: str, value: float, step: int) -> None:
    """Stops a run before weights that have diverged are saved as a checkpoint."""
    if not math.isfinite(value):
        raise FloatingPointError(
            f"the {name} is {value} at step {step}: the run has diverged. Lower"
            " --config.optimizer.learning_rate, with another --workdir; checkpoints of earlier"
            " epochs, if any, are kept."
        )
