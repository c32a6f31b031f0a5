"""The training loop: from a configuration and a directory to a trained network."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any, NamedTuple

from jaxws import data
from jaxws.checkpointing.manager import Checkpoints
from jaxws.checkpointing.metadata import describe
from jaxws.core.partitioning import one_device
from jaxws.core.pooled import holds_pooled
from jaxws.records.progress import Progress
from jaxws.records.recorder import Recorder
from jaxws.records.run_directory import read_run
from jaxws.records.waits import Waits
from jaxws.training.compilation_cache import keep_programs
from jaxws.training.divergence import (
    ROLLBACK,
    Diverged,
    Policy,
    all_finite,
    check_finite,
    check_skipped,
)
from jaxws.training.evaluation import score
from jaxws.training.metrics import Metrics, means
from jaxws.training.programs import StepSettings, compiled_step
from jaxws.training.resume import Start, first_start
from jaxws.training.run import Run
from jaxws.training.signals import Signals, Stopped
from jaxws.training.state_layout import pool_if_shared, to_checkpoint
from jaxws.training.step import StepInfo


def train(run: Run) -> dict[str, Any]:
    """Trains until the run's last step, from the newest good checkpoint if there is one.

    Writes metrics.jsonl and checkpoints; :func:`jaxws.records.report.write_report` makes plots and
    a report of them. Whatever a run has been through, it ends with the same bits as one that was
    never stopped; docs/reliability.md says how far that goes. SIGTERM and SIGINT stop it in order
    if this is the main thread. It runs on one device, however many there are. What it compiles is
    kept for the next start (:mod:`jaxws.training.compilation_cache`).

    Args:
      run: from :func:`jaxws.training.run.prepare`.

    Returns:
      The last record of kind ``epoch`` in metrics.jsonl.

    Raises:
      Stopped: a signal has stopped the run.
      FloatingPointError: the run has diverged; the weights are not saved.
      ValueError: no good checkpoint is left, or they are of another run; a damaged metrics.jsonl.
      OSError: the disk has been full until the end.
    """
    keep_programs(run.config.compilation_cache)
    with closing(run.workdir), one_device():
        _train(run)
    return read_run(run.workdir.path).of_kind("epoch")[-1]


def _train(run: Run) -> None:
    """Trains to the end, rolled back as often as the configuration allows."""
    workdir, policy = run.workdir, Policy(run.config.divergence)

    def report(step: int, event: str, message: str) -> None:
        print(f"warning: {message}", file=sys.stderr)
        workdir.append({"kind": "event", "step": step, "event": event, "message": message})

    config = run.config.checkpoint
    kept = Checkpoints(
        workdir.checkpoints,
        config.keep,
        scores=workdir.scores if config.keep_best else dict,
        report=report,
    )
    with (
        Signals() as signals,
        closing(kept) as checkpoints,
        Progress(run.last_step) as progress,
    ):
        while True:
            start = first_start(run, checkpoints, policy, report, progress)
            try:
                _Stretch(run, start, checkpoints, signals, policy, progress).train()
                break
            except Diverged as diverged:
                checkpoints.wait()
                latest = checkpoints.latest_step()
                message = policy.answer(diverged, workdir.history, latest)
                workdir.resume_from(latest or 0)
                report(latest or 0, ROLLBACK, message)
        checkpoints.wait()
        if (latest := checkpoints.latest_step() or 0) < run.last_step:
            raise OSError(
                f"the last checkpoint of {workdir.path} could not be written; the newest is of step"
                f" {latest}: make room, and give the same command once more to go on from there."
            )


class _Step(NamedTuple):
    """Results of a step, which may still be computed."""

    step: int
    metrics: Metrics
    info: StepInfo


class _Stretch:
    """Training from a start until the end, a signal or a divergence."""

    def __init__(
        self,
        run: Run,
        start: Start,
        checkpoints: Checkpoints,
        signals: Signals,
        policy: Policy,
        progress: Progress,
    ):
        self._run, self._start, self._checkpoints, self._signals = run, start, checkpoints, signals
        self._progress = progress
        self._state, self._step, self._totals = start.state, start.step, start.totals
        self._max_skipped = policy.max_skipped
        self._settings = StepSettings(
            batching=run.feed.batching,
            model=run.model,
            optimizer=start.optimizer,
            sharing=run.sharing,
            accumulate=run.config.accumulate,
            skip_nonfinite=run.config.divergence.action == "skip",
        )

    def train(self) -> None:
        run, start = self._run, self._start
        epochs = list(start.epochs(run.feed.steps_per_epoch, run.last_step))
        if not epochs:
            return
        with (
            Recorder(run, start.step, self._progress) as self._recorder,
            data.Prefetch(run.feed.train_inputs(start.step), run.config.data.prefetch) as inputs,
        ):
            for steps in epochs:
                self._train_epoch(steps, Waits(inputs))
                self._end_epoch(means("test", self._evaluate()))
                self._totals = self._totals.next_epoch()

    def _train_epoch(self, steps: range, waits: Waits) -> None:
        # Results of a step are fetched once the next one is dispatched: the device never waits.
        pending: _Step | None = None
        self._recorder.begin(waits)
        for step in steps:
            if self._signals.stop_before(step):
                self._finish(pending)
                self._stop()
            inputs = waits.next(pending)
            with self._recorder.dispatch(step, pending), self._compiling():
                state, metrics, info = compiled_step(self._state, inputs, settings=self._settings)
            self._state = pool_if_shared(state, self._run.sharing)
            self._step = step + 1
            self._finish(pending)
            pending = _Step(self._step, metrics, info)
            if self._step != steps.stop and self._is_due():
                self._finish(pending)
                self._save()
                pending = None
        self._finish(pending)
        self._recorder.end()

    def _compiling(self) -> AbstractContextManager[None]:
        """For the first steps: weights that are shared for the first time change the program."""
        if self._step >= self._start.step + 2:
            return nullcontext()
        shared = " for shared weights" if holds_pooled(self._state.params) else ""
        return self._progress.compiling(f"the training step{shared}")

    def _finish(self, done: _Step | None) -> None:
        """Takes in the results of a step."""
        if done is None:
            return
        step, metrics, info = done
        skipped = bool(info.skipped)
        step_means = self._totals.add(metrics, skipped)
        self._recorder.step(step, step_means, {"images": metrics.images, **info._asdict()})
        check_skipped(self._totals.skipped_in_a_row, self._max_skipped, step)
        if info.diverged and self._run.config.divergence.action != "skip":
            check_finite("loss", step_means["train_loss"], step)
            check_finite("norm of the gradients", float(info.grad_norm), step)

    def _evaluate(self) -> Metrics:
        def stop_if_told() -> None:
            if self._signals.stop_now:
                self._stop()  # resumed, the run begins with this evaluation

        run = self._run
        return score(
            self._state.params,
            self._state.batch_stats,
            run.feed.eval_inputs(),
            batching=run.feed.batching,
            model=run.model,
            prefetch=run.config.data.prefetch,
            before_each=stop_if_told,
            compiling=self._progress.compiling("the evaluation"),
        )

    def _end_epoch(self, test: dict[str, float]) -> None:
        check_finite("test loss", test["test_loss"], self._step)
        record = {
            "kind": "epoch",
            "step": self._step,
            "epoch": self._step / self._run.feed.steps_per_epoch,
            **means("train", self._totals.sums),
            "skipped": self._totals.skipped,
            **test,
        }
        self._check_state()
        config, workdir = self._run.config.checkpoint, self._run.workdir
        is_best = test["test_top1"] >= max(workdir.scores().values(), default=0.0)
        self._recorder.epoch(record)
        if self._is_due() or config.every_steps is None or (config.keep_best and is_best):
            self._save()

    def _is_due(self) -> bool:
        """Whether this step has a checkpoint, whatever epoch it is in."""
        every = self._run.config.checkpoint.every_steps
        return self._step == self._run.last_step or bool(every and self._step % every == 0)

    def _save(self) -> None:
        self._check_state()
        state, workdir = to_checkpoint(self._state), self._run.workdir
        epoch = self._totals.to_json()
        facts = describe(state, identity=workdir.identity, epoch=epoch, history=workdir.history)
        self._checkpoints.save(state, facts)

    def _check_state(self) -> None:
        """Weights that are not finite are never saved: a step's loss is of those before it."""
        if not all_finite(self._state):
            raise Diverged("a weight, moment or statistic is not finite", self._step)

    def _stop(self) -> None:
        if self._step != self._start.step:
            self._save()
        self._checkpoints.wait()
        raise Stopped(self._signals.received or "?", self._step, self._checkpoints.latest_step())
