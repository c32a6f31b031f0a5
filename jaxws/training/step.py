"""One step of training, as a pure function of state and batch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxws.core.masks import without_masked
from jaxws.core.pooled import expand_pools, holds_pooled
from jaxws.core.snr import weight_snr
from jaxws.data.batch import Batch
from jaxws.training.constraints import project
from jaxws.training.fused_update import fused_update
from jaxws.training.gradients import batch_gradients
from jaxws.training.loss_scale import LEAST_SCALE, LossScale, next_loss_scale
from jaxws.training.metrics import METRICS, Metric, Sums
from jaxws.training.optimizers import last_learning_rate
from jaxws.training.state import TrainState
from jaxws.training.topography import NONE, Topography, add_topography
from jaxws.training.weight_sharing import Sharing, keep_frozen, maybe_share, pool


class StepInfo(NamedTuple):
    """What is known of a step besides its metrics.

    Attributes:
      neg_log_snr: -log SNR of every LC layer, after the update and before sharing.
      grad_norm: Euclidean norm of the gradients of the mean loss, over all parameters that are
        not frozen.
      learning_rate: of this update; NaN for an optimizer that is not of
        :func:`jaxws.training.optimizers.make_optimizer`, as its state does not tell.
      loss_scale: the loss was multiplied by; 1 without scaling.
      skipped: whether the step left parameters, moments and statistics as they were.
      diverged: whether loss or gradients are not finite, and not because of the loss scale.
      topography: losses of the weights before the update, without their weights, by name.
    """

    neg_log_snr: dict[str, jax.Array]
    grad_norm: jax.Array
    learning_rate: jax.Array
    loss_scale: jax.Array
    skipped: jax.Array
    diverged: jax.Array
    topography: dict[str, jax.Array]


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    sharing: Sharing,
    accumulate: int = 1,
    skip_nonfinite: bool = False,
    metrics: Mapping[str, Metric] = METRICS,
    topography: Topography = NONE,
) -> tuple[TrainState, Sums, StepInfo]:
    """Cross-entropy, gradients, one update, and weight sharing where ws(n) says so.

    Optimizer moments are left alone by sharing, as in the paper. A state with a loss scale scales
    its loss. With one, or with ``skip_nonfinite``, a step whose loss or gradients are not finite is
    skipped: it changes nothing but ``step`` and the loss scale, and shares no weights. The learning
    rate counts updates, ws(n) counts batches.

    Where the state's kernels are pooled (:mod:`jaxws.core.pooled`), weights are shared after this
    step whatever ``sharing`` says of it, and stay pooled; all numbers are those of the plain state.

    Signs that the optimizer keeps (:mod:`jaxws.training.constraints`) outlast sharing by any rule.

    Leaves that ``sharing.frozen`` names have gradients of 0 and keep their bits; an optimizer that
    freezes them too (:func:`jaxws.training.optimizers.make_optimizer`) has no moments of them.

    Args:
      state: before the step; donate it when jitting.
      batch: images (n, H, W, c), labels (n,) and a mask (n,) or None.
      model: called as ``model(x, train=True, mask=mask)``.
      optimizer: an optax transformation.
      sharing: when and how to share.
      accumulate: number of parts to compute the gradients in, see
        :func:`jaxws.training.gradients.batch_gradients`.
      skip_nonfinite: whether to skip without a loss scale too; else such a step spoils the weights.
      metrics: what to count of the images, by name.
      topography: losses of the weights themselves, which are descended too.

    Returns:
      The state after the step, sums over the batch (:func:`jaxws.training.metrics.batch_metrics`),
      and more about the step. Sums of a skipped step are those of its batch, and may not be finite.

    Raises:
      ValueError: a batch that cannot be cut into so many parts.

    Example:
      >>> from functools import partial
      >>> from jaxws import LocalConv
      >>> from jaxws.models import ResNet
      >>> from jaxws.training.state import create_train_state
      >>> model = ResNet(stage_sizes=(), width=4, num_classes=10, conv=LocalConv)
      >>> optimizer = optax.adamw(1e-3)
      >>> arguments = {"model": model, "optimizer": optimizer, "image_shape": (8, 8, 1)}
      >>> create = partial(create_train_state, **arguments)
      >>> state = jax.jit(create)(jax.random.key(0))
      >>> batch = Batch(jnp.ones((2, 8, 8, 1)), jnp.array([0, 1]), mask=None)
      >>> sharing = Sharing(every=1, pools="grid", steps_per_epoch=10)
      >>> step = partial(train_step, model=model, optimizer=optimizer, sharing=sharing)
      >>> state, metrics, info = jax.jit(step, donate_argnums=0)(state, batch)
      >>> int(state.step), float(metrics["images"]), bool(info.skipped)
      (1, 2.0, False)
    """
    loss_scale = state.loss_scale if isinstance(state.loss_scale, LossScale) else None
    scale = 1.0 if loss_scale is None else loss_scale.scale
    skips = skip_nonfinite or loss_scale is not None
    grads, sums, batch_stats = batch_gradients(
        state.params,
        state.batch_stats,
        batch,
        model=model,
        accumulate=accumulate,
        scale=scale,
        metrics=metrics,
        frozen=sharing.frozen,
    )
    if loss_scale is not None:
        grads = jax.tree.map(lambda g: g * (1 / scale), grads)  # exact: a power of two
    grads, losses = add_topography(grads, state.params, topography, sharing.frozen)
    norm = optax.tree.norm(grads)
    finite = jnp.isfinite(norm) & jnp.isfinite(sums["loss"])
    unless = ~finite if skips else None
    # Frozen leaves are for the general way.
    fused = None
    if not sharing.frozen:
        fused = fused_update(state, grads, optimizer, sharing.pools, unless)
    if fused is not None:
        params, opt_state, snr = fused
    else:
        params, opt_state = _update(state, grads, optimizer, sharing, unless)
        # In every step: means of pools, which sharing needs, and variances are one pass.
        snr = weight_snr(without_masked(params), pools=sharing.pools, missing_ok=True)
    if unless is not None:
        batch_stats = jax.tree.map(partial(jnp.where, unless), state.batch_stats, batch_stats)
    info = StepInfo(
        neg_log_snr={name: -jnp.log(ratio) for name, ratio in snr.items()},
        grad_norm=norm,
        learning_rate=last_learning_rate(opt_state),
        loss_scale=jnp.asarray(scale, jnp.float32),
        skipped=~finite & skips,
        diverged=~finite & (scale <= LEAST_SCALE),
        topography=losses,
    )
    if holds_pooled(state.params):
        params = pool(params, sharing)
    else:
        params = maybe_share(params, state.step, sharing, unless=unless)
        if not sharing.keeps_signs:
            params = project(params, opt_state)
    state = TrainState(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        loss_scale=() if loss_scale is None else next_loss_scale(loss_scale, finite),
    )
    return state, sums, info


def _update(
    state: TrainState,
    grads: Any,
    optimizer: optax.GradientTransformation,
    sharing: Sharing,
    unless: jax.Array | None,
) -> tuple[Any, optax.OptState]:
    """Parameters and moments after an update; where ``unless`` is true, those before."""
    before = expand_pools(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, before)
    # Frozen leaves are the old ones: adding an update of 0 would make 0 of -0.
    params = keep_frozen(optax.apply_updates(before, updates), before, sharing)
    if unless is None:
        return params, opt_state
    # In the loops that compute the new values, which have read the old ones anyway.
    old, after = (before, state.opt_state), (params, opt_state)
    kept: tuple[Any, optax.OptState] = jax.tree.map(partial(jnp.where, unless), old, after)
    return kept
