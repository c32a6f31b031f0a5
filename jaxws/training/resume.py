"""Where a run begins: at its first step, or at the newest good checkpoint."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax

from jaxws.checkpointing.manager import Checkpoints, Restored
from jaxws.checkpointing.metadata import other_versions
from jaxws.parallel import processes
from jaxws.records.progress import Progress
from jaxws.records.workdir import Workdir
from jaxws.system.text import say
from jaxws.training.divergence import DivergencePolicy
from jaxws.training.metrics import EpochTotals
from jaxws.training.optimizers import OptimizerSettings, optimizer_settings
from jaxws.training.programs import compiled_initial_state, compiled_start
from jaxws.training.run import Run
from jaxws.training.state import TrainState
from jaxws.training.state_layout import (
    checkpoint_shapes,
    from_checkpoint,
    pool_if_shared,
    replace_weights,
    uses_packed_layout,
)


class Start(NamedTuple):
    """Where a run begins.

    Attributes:
      state: the train state, on the device.
      step: number of steps done.
      totals: sums so far of the first epoch that :meth:`epochs` gives.
      ended: whether the record of an epoch that ends at this step is in metrics.jsonl, with an
        evaluation if it is to have one.
      optimizer: its settings, with the learning rate that the rollbacks so far have left.
    """

    state: TrainState
    step: int
    totals: EpochTotals
    ended: bool
    optimizer: OptimizerSettings

    def epochs(self, steps_per_epoch: int, last_step: int) -> list[range]:
        """Lists the steps that are left of each epoch.

        Args:
          steps_per_epoch: number of steps in an epoch.
          last_step: where the run ends.

        Returns:
          Steps; first none, if the epoch that ends at the start is still to be evaluated, recorded.
        """
        step = self.step
        at_end = step > 0 and (step % steps_per_epoch == 0 or step == last_step)
        epochs = [range(step, step)] if at_end and not self.ended else []
        while step < last_step:
            end = min((step // steps_per_epoch + 1) * steps_per_epoch, last_step)
            epochs.append(range(step, end))
            step = end
        return epochs


def restore_or_init(
    run: Run, checkpoints: Checkpoints, policy: DivergencePolicy, progress: Progress
) -> Start:
    """Finds where a run begins, and drops what metrics.jsonl has of later steps.

    Args:
      run: a run that is open.
      checkpoints: of the run.
      policy: of the run.
      progress: shows the run.

    Returns:
      Its beginning.

    Raises:
      ValueError: the checkpoints or metrics.jsonl are damaged, or of something else.
    """
    # Of the optimizer, only the structure of its state matters here.
    create = partial(
        compiled_initial_state,
        jax.random.key(run.config.seed),
        model=run.model,
        image_shape=run.feed.image_shape,
        dtype=run.config.model.dtype,
    )
    like = jax.eval_shape(partial(create, optimizer=_optimizer(run, policy), packed=False))
    restored = checkpoints.restore(checkpoint_shapes(like), run.workdir.identity)
    if restored is not None:
        return _resume(run, restored, policy)
    _forget_steps(run.workdir)
    optimizer = _optimizer(run, policy)
    with progress.compiling("the initial weights"):
        state = create(optimizer=optimizer, packed=uses_packed_layout())
    if run.initial is not None:
        state = replace_weights(state, **run.initial.variables)
        if optimizer.dale is not None:  # its signs were those of drawn weights
            state = compiled_start(state, optimizer=optimizer)
        state = pool_if_shared(state, run.sharing)
    return Start(state, 0, EpochTotals(), True, optimizer)


def _resume(run: Run, restored: Restored, policy: DivergencePolicy) -> Start:
    step, workdir = int(restored.state.step), run.workdir
    workdir.resume_from(
        step,
        restored.metadata["history"],
        ends=step >= run.last_step,
        evaluates=run.evaluates(step),
    )
    if changed := other_versions(restored.metadata):
        text = f"the checkpoint of step {step} was written elsewhere ({changed}): bits may differ"
        workdir.warn(step, "other versions", text)
    ended = any(r["kind"] == "epoch" and r["step"] == step for r in workdir.history)
    totals = EpochTotals.from_json(restored.metadata["epoch"])
    if ended and step % run.feed.steps_per_epoch == 0:
        totals = totals.next_epoch()
    if processes.is_first():
        left = (
            f"{run.last_step - step} are left" if step < run.last_step else "it has reached its end"
        )
        say(f"going on from step {step} of {run.last_step}: {left}")
    state = pool_if_shared(from_checkpoint(restored.state), run.sharing)
    return Start(state, step, totals, ended, _optimizer(run, policy))


def _forget_steps(workdir: Workdir) -> None:
    """Clears the metrics of a run that has no checkpoint, and says so."""
    done = max((record["step"] for record in workdir.records()), default=0)
    workdir.resume_from(0)
    if done:
        # No event: a run that was killed here ends with the metrics of any other.
        say(f"warning: no checkpoint had been written: {done} steps are done again", error=True)


def _optimizer(run: Run, policy: DivergencePolicy) -> OptimizerSettings:
    """With the learning rate that the rollbacks in the run's history have left."""
    factor = policy.rate_factor(run.workdir.history)
    return optimizer_settings(run.config, run.feed.steps_per_epoch, factor)
