"""The training loop: from a run that is made ready to a trained network."""

from __future__ import annotations

from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any, NamedTuple, NoReturn

import jax

from jaxws import data
from jaxws.checkpointing.manager import Checkpoints
from jaxws.checkpointing.metadata import make_metadata
from jaxws.core.pooled import holds_pooled
from jaxws.parallel import processes
from jaxws.records.progress import Progress
from jaxws.records.recorder import Recorder, SilentRecorder
from jaxws.records.throughput import InputTimer
from jaxws.training.compilation_cache import keep_programs
from jaxws.training.divergence import (
    ROLLBACK,
    Diverged,
    DivergencePolicy,
    all_finite,
    check_finite,
)
from jaxws.training.evaluation import score
from jaxws.training.metrics import means
from jaxws.training.programs import compiled_step, step_settings
from jaxws.training.results import Results
from jaxws.training.resume import Start, restore_or_init
from jaxws.training.run import Run
from jaxws.training.signals import Signals, Stopped
from jaxws.training.state_layout import pool_if_shared, to_checkpoint


def train(run: Run) -> dict[str, Any]:
    """Trains until the run's last step, from the newest good checkpoint if there is one.

    Writes metrics.jsonl and checkpoints; :func:`jaxws.records.report.write_report` makes plots and
    a report of them. Whatever a run has been through, it ends with the same bits as one that was
    never stopped; docs/reliability.md says how far that goes. SIGTERM and SIGINT stop it in order
    if this is the main thread. It runs on the devices of ``run.mesh``. What it compiles is
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
    with (
        closing(run.workdir),
        jax.set_mesh(run.mesh),
        Signals() as signals,
        closing(_checkpoints(run)) as checkpoints,
        Progress(run.last_step) as progress,
    ):
        _train_until_end(run, _Process(checkpoints, signals, progress))
    return [record for record in run.workdir.history if record["kind"] == "epoch"][-1]


class _Process(NamedTuple):
    """What a process has open while it trains a run, from however many checkpoints."""

    checkpoints: Checkpoints
    signals: Signals
    progress: Progress


def _train_until_end(run: Run, process: _Process) -> None:
    """Trains, and goes back to a checkpoint as often as the configuration allows."""
    policy, checkpoints = DivergencePolicy(run.config.divergence), process.checkpoints
    while True:
        start = restore_or_init(run, checkpoints, policy, process.progress)
        try:
            if epochs := start.epochs(run.feed.steps_per_epoch, run.last_step):
                _train_epochs(epochs, run, start, process)
            break
        except Diverged as diverged:
            checkpoints.wait()
            latest = checkpoints.latest_step()
            try:
                message = policy.handle(diverged, run.workdir.history, latest)
            except FloatingPointError:
                run.workdir.append(diverged.last_record)
                raise
            run.workdir.resume_from(latest or 0)
            run.workdir.warn(latest or 0, ROLLBACK, message)
    checkpoints.wait()
    if (latest := checkpoints.latest_step() or 0) < run.last_step:
        raise OSError(
            f"the last checkpoint of {run.workdir.path} could not be written; the newest is of step"
            f" {latest}: {checkpoints.advice}, and give the same command once more to go on from"
            " there."
        )


def _train_epochs(epochs: list[range], run: Run, start: Start, process: _Process) -> None:
    def stop_waiting() -> None:
        if process.signals.stop_now:
            raise _ToldWhileWaiting

    ahead = run.config.data.prefetch
    with data.Prefetch(run.feed.train_inputs(start.step), ahead, stop_waiting) as inputs:
        timer = InputTimer(inputs)
        with _recorder(run, start, timer, process.progress) as recorder:
            trainer = _Trainer(run, start, process, timer, recorder)
            for steps in epochs:
                trainer.train_epoch(steps)
                trainer.end_epoch(trainer.evaluate() if run.evaluates(steps.stop) else {})


def _recorder(run: Run, start: Start, timer: InputTimer, progress: Progress) -> Recorder:
    if not processes.is_first():
        return SilentRecorder(run.workdir)
    return Recorder(
        run.config,
        run.workdir,
        run.feed,
        timer,
        progress,
        first_step=start.step,
        last_step=run.last_step,
        init_from=None if run.initial is None else run.initial.facts,
    )


class _ToldWhileWaiting(Exception):
    """A signal has come while an input was waited for, of workers that start for one."""


class _Trainer:
    """Training from a start until the end, a signal or a divergence."""

    def __init__(
        self, run: Run, start: Start, process: _Process, timer: InputTimer, recorder: Recorder
    ):
        self._run, self._process, self._timer, self._recorder = run, process, timer, recorder
        self._state, self._step, self._first_step = start.state, start.step, start.step
        self._results = Results(start.totals, recorder, run.config.divergence)
        self._settings = step_settings(run, start.optimizer)

    def train_epoch(self, steps: range) -> None:
        """Does the steps, and writes the checkpoints that are due within them."""
        results = self._results
        with self._recorder.epoch():
            for step in steps:
                if self._process.signals.stop_before_next():
                    results.take()
                    self._stop()
                try:
                    inputs = self._timer.next(results.pending)
                except _ToldWhileWaiting:
                    results.take()
                    self._stop()
                if step == steps.start:
                    processes.barrier("epoch")  # devices wait for one another, but not for long
                with self._recorder.dispatch(step, results.pending), self._compiling():
                    state, sums, info = compiled_step(self._state, inputs, settings=self._settings)
                self._state, self._step = pool_if_shared(state, self._run.sharing), step + 1
                results.put(self._step, sums, info)
                if self._is_due() and self._step != steps.stop:
                    results.take()
                    self._save()
            results.take()

    def evaluate(self) -> dict[str, float]:
        """Scores the network on the test images."""
        run = self._run
        sums = score(
            self._state.params,
            self._state.batch_stats,
            run.feed.eval_inputs(),
            batching=run.feed.batching,
            model=run.model,
            prefetch=run.config.data.prefetch,
            before_each=self._stop_if_told,
            while_waiting=self._stop_while_waiting,
            compiling=self._process.progress.compiling("the evaluation"),
        )
        return means(sums, "test")

    def end_epoch(self, test: dict[str, float]) -> None:
        """Records an epoch, or what there was of it, and writes its checkpoint.

        ``test`` is empty where the network was not evaluated.
        """
        run, totals = self._run, self._results.totals
        if test:
            check_finite("test loss", test["test_loss"], self._step)
        self._check_state()
        best = max(run.workdir.scores().values(), default=0.0)
        is_best = bool(test) and test["test_top1"] >= best
        self._recorder.ended(
            {
                "kind": "epoch",
                "step": self._step,
                "epoch": self._step / run.feed.steps_per_epoch,
                **means(totals.sums, "train"),
                "skipped": totals.skipped,
                **test,
            }
        )
        config = run.config.checkpoint
        if self._is_due() or config.every_steps is None or (config.keep_best and is_best):
            self._save()
        self._results.end_epoch()

    def _is_due(self) -> bool:
        """Whether this step has a checkpoint, whatever epoch it is in."""
        every = self._run.config.checkpoint.every_steps
        return self._step == self._run.last_step or bool(every and self._step % every == 0)

    def _save(self) -> None:
        self._check_state()
        state, workdir = to_checkpoint(self._state), self._run.workdir
        epoch, history = self._results.totals.to_json(), workdir.history
        metadata = make_metadata(state, identity=workdir.identity, epoch=epoch, history=history)
        self._process.checkpoints.save(state, metadata)

    def _check_state(self) -> None:
        """Weights that are not finite are never saved: a step's loss is of those before it."""
        if not all_finite(self._state):
            raise Diverged("a weight, moment or statistic is not finite", self._step)

    def _stop_if_told(self) -> None:
        if self._process.signals.stop_before_next():
            self._stop()  # resumed, the run begins with this evaluation

    def _stop_while_waiting(self) -> None:
        if self._process.signals.stop_now:
            self._stop()

    def _stop(self) -> NoReturn:
        checkpoints, cause = self._process.checkpoints, self._process.signals.received
        if self._step != self._first_step:
            self._save()
        checkpoints.wait()
        raise Stopped(cause or "?", self._step, checkpoints.latest_step())

    def _compiling(self) -> AbstractContextManager[None]:
        """For the first steps: weights that are shared for the first time change the program."""
        if self._step >= self._first_step + 2:
            return nullcontext()
        shared = " for shared weights" if holds_pooled(self._state.params) else ""
        return self._process.progress.compiling(f"the training step{shared}")


def _checkpoints(run: Run) -> Checkpoints:
    config = run.config.checkpoint
    scores = run.workdir.scores if config.keep_best else dict
    return Checkpoints(
        run.workdir.checkpoints,
        config.keep,
        scores=scores,
        report=run.workdir.warn,
        exchange=run.workdir.exchange,
    )
