"""Where a training loop reports to: metrics.jsonl, the terminal or log, TensorBoard, a trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxws.data import Feed
from jaxws.records.profiling import Trace
from jaxws.records.progress import Progress
from jaxws.records.provenance import Session
from jaxws.records.summary import is_evaluated
from jaxws.records.tensorboard import TensorBoard
from jaxws.records.throughput import InputTimer, Throughput
from jaxws.records.workdir import Workdir

# What a step may tell about itself beside its metrics.
_SCALARS = ("learning_rate", "grad_norm", "loss_scale")


class Recorder:
    """Takes what happens in a run to everything that shows or keeps it. Changes no number of it.

    Example:
      A loop reports in this order::

        with Recorder(run.config, run.workdir, ...) as recorder:
            for steps in epochs:
                with recorder.epoch():
                    for step in steps:
                        with recorder.dispatch(step, pending):
                            ...  # the jitted step
                        recorder.step(step + 1, means, info)
                recorder.ended(record)
    """

    def __init__(
        self,
        config: ConfigDict,
        workdir: Workdir,
        feed: Feed,
        timer: InputTimer,
        progress: Progress,
        *,
        first_step: int,
        last_step: int,
        init_from: Mapping[str, Any] | None = None,
    ):
        """Opens everything.

        Args:
          config: of the run.
          workdir: of the run.
          feed: where its batches come from.
          timer: hands them out.
          progress: shows the run, from this step on.
          first_step: number of steps that are done; TensorBoard forgets later ones.
          last_step: at which the run ends.
          init_from: facts about the weights that the run starts from, for provenance.json.
        """
        self._config, self._workdir, self._progress = config, workdir, progress
        self._last_step, self._steps_per_epoch = last_step, feed.steps_per_epoch
        self._was_evaluated = False
        self._throughput = Throughput(timer)
        with ExitStack() as stack:
            self._session = Session(workdir.path, feed, first_step, init_from)
            stack.callback(self._session.close)
            progress.start(first_step)
            self._trace = Trace(config.profile, workdir.path / "profile", progress.note)
            stack.callback(self._trace.close)
            self._tensorboard: TensorBoard | None = None
            if config.tensorboard:
                directory = workdir.path / "tensorboard"
                self._tensorboard = TensorBoard(directory, first_step, progress.note)
                stack.callback(self._tensorboard.close)
            self._trace.resume_from(first_step, last_step)
            self._close = stack.pop_all().close

    def __enter__(self) -> Recorder:
        """Returns itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Finishes everything that is being written."""
        self._close()

    @contextmanager
    def epoch(self) -> Iterator[None]:
        """Holds the steps of an epoch, or what is left of them: they alone count for rates."""
        self._throughput.begin(self._was_evaluated)
        yield
        self._throughput.end()

    def dispatch(self, step: int, pending: Any) -> AbstractContextManager[Any]:
        """What a step is to be dispatched in: a trace of it begins or ends here.

        Args:
          step: number of steps before this one.
          pending: results of the step before this one, or None.

        Returns:
          A context.
        """
        return self._trace.dispatch(step, pending)

    def step(self, step: int, means: Mapping[str, float], info: Mapping[str, Any]) -> None:
        """The results of a step are there; every ``log_every`` steps they are written.

        Args:
          step: number of steps done.
          means: of the step's metrics, such as ``train_loss``.
          info: ``images`` that it saw, and what else it tells of itself: ``neg_log_snr`` by layer,
            ``topography`` by loss, ``learning_rate``, ``grad_norm``, ``loss_scale``; numbers or
            scalars on the device, from where they are fetched only if they are written.
        """
        self._throughput.step(float(info["images"]))
        if step % self._config.log_every == 0:
            record = {
                "kind": "train",
                "step": step,
                **means,
                **self._scalars(info),
                **self._throughput.since_log(),
                "device_memory_bytes": device_memory_bytes(),
                **_floats(info.get("topography", {})),
                "neg_log_snr": _floats(info.get("neg_log_snr", {})),
            }
            self._write(record)
            self._session.reached(step)
        self._trace.done(step)
        rates = self._throughput.since_epoch()
        self._progress.step(step, {**means, **rates}, self._seconds_left(step))

    def ended(self, record: Mapping[str, Any]) -> None:
        """An epoch, or what there was of it, is over, and evaluated where it is to be.

        Args:
          record: of kind ``epoch``; the rates of its training are added.
        """
        record = {**record, **self._throughput.last_epoch}
        self._was_evaluated = is_evaluated(record)
        self._write(record)
        self._session.reached(record["step"], now=True)
        self._progress.epoch(record, self._config.epochs, self._seconds_left(record["step"]))

    def _write(self, record: dict[str, Any]) -> None:
        self._workdir.append(record)
        if self._tensorboard:
            self._tensorboard.add(record)

    def _scalars(self, info: Mapping[str, Any]) -> dict[str, float]:
        scales = self._config.model.dtype == "float16"
        return _floats(
            {key: info[key] for key in _SCALARS if key in info and (scales or key != "loss_scale")}
        )

    def _seconds_left(self, step: int) -> float | None:
        last, period = self._last_step, self._config.evaluate_every * self._steps_per_epoch
        evaluations = -(-last // period) - step // period if step < last else 0
        return self._throughput.seconds_left(last - step, evaluations)


class SilentRecorder(Recorder):
    """That of a process which is not the first of a run: keeps the history, and shows nothing."""

    def __init__(self, workdir: Workdir):
        """Opens nothing.

        Args:
          workdir: of the run.
        """
        self._workdir = workdir

    def __exit__(self, *exception: object) -> None:
        """There is nothing to finish."""

    @contextmanager
    def epoch(self) -> Iterator[None]:
        """Measures nothing."""
        yield

    def dispatch(self, step: int, pending: Any) -> AbstractContextManager[Any]:
        """Traces nothing."""
        return nullcontext()

    def step(self, step: int, means: Mapping[str, float], info: Mapping[str, Any]) -> None:
        """Tells nothing."""

    def ended(self, record: Mapping[str, Any]) -> None:
        """Notes an epoch's record, by which the best one is known."""
        self._workdir.append(dict(record))


def device_memory_bytes() -> int | None:
    """The most memory that this process has had in use at once, on its fullest device.

    Returns:
      Bytes, or None where the platform does not tell (CPU).

    Example:
      >>> device_memory_bytes() is None or device_memory_bytes() > 0
      True
    """
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    return max((s["peak_bytes_in_use"] for s in stats if "peak_bytes_in_use" in s), default=None)


def _floats(scalars: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in jax.device_get(dict(scalars)).items()}
