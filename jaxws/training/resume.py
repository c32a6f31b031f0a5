"""Where a run begins: at its first step, or at the newest good checkpoint."""

from __future__ import annotations

import sys
from functools import partial
from typing import NamedTuple

import jax

from jaxws.checkpointing.manager import Checkpoints
from jaxws.checkpointing.metadata import other_versions
from jaxws.records.progress import Progress
from jaxws.training.divergence import DivergencePolicy
from jaxws.training.metrics import EpochTotals
from jaxws.training.optimizers import OptimizerSettings, optimizer_settings
from jaxws.training.programs import compiled_initial_state
from jaxws.training.run import Run
from jaxws.training.state import TrainState
from jaxws.training.state_layout import checkpoint_shapes, from_checkpoint, packs, pool_if_shared


class Start(NamedTuple):
    """Where a run begins.

    Attributes:
      state: the train state, on the device.
      step: number of steps done.
      totals: sums so far of the first epoch that :meth:`epochs` gives.
      evaluated: whether the record of an epoch that ends at this step is in metrics.jsonl.
      optimizer: its settings, with the learning rate that the rollbacks so far have left.
    """

    state: TrainState
    step: int
    totals: EpochTotals
    evaluated: bool
    optimizer: OptimizerSettings

    def epochs(self, steps_per_epoch: int, last_step: int) -> list[range]:
        """Lists the steps that are left of each epoch.

        Args:
          steps_per_epoch: number of steps in an epoch.
          last_step: where the run ends.

        Returns:
          Steps; first none, if the epoch that ends at the start is still to be evaluated.
        """
        step = self.step
        at_end = step > 0 and (step % steps_per_epoch == 0 or step == last_step)
        epochs = [range(step, step)] if at_end and not self.evaluated else []
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
    key, workdir = jax.random.key(run.config.seed), run.workdir
    optimizer_of = partial(optimizer_settings, run.config, run.feed.steps_per_epoch)
    create = partial(
        compiled_initial_state,
        model=run.model,
        image_shape=run.feed.image_shape,
        dtype=run.config.model.dtype,
    )
    # Of the optimizer, only the structure of its state matters here.
    like = jax.eval_shape(partial(create, optimizer=optimizer_of(), packed=False), key)
    saved = checkpoints.restore(checkpoint_shapes(like), workdir.identity)
    if saved is None:
        done = max((record["step"] for record in workdir.records()), default=0)
        workdir.resume_from(0)
        if done:
            # No event: a run that was killed here ends with the metrics of any other.
            print(
                f"warning: no checkpoint had been written: {done} steps are done again",
                file=sys.stderr,
            )
    else:
        step = int(saved.state.step)
        workdir.resume_from(step, saved.metadata["history"], ends=step >= run.last_step)
        if changed := other_versions(saved.metadata):
            text = (
                f"the checkpoint of step {step} was written elsewhere ({changed}): bits may differ"
            )
            workdir.warn(step, "other versions", text)
    optimizer = optimizer_of(policy.rate_factor(workdir.history))
    if saved is None:
        with progress.compiling("the initial weights"):
            state = create(key, optimizer=optimizer, packed=packs())
        return Start(state, 0, EpochTotals(), True, optimizer)
    evaluated = any(r["kind"] == "epoch" and r["step"] == step for r in workdir.history)
    over = evaluated and step % run.feed.steps_per_epoch == 0
    totals = EpochTotals.from_json(saved.metadata["epoch"])
    totals = totals.next_epoch() if over else totals
    state = pool_if_shared(from_checkpoint(saved.state), run.sharing)
    return Start(state, step, totals, evaluated, optimizer)
