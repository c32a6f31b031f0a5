"""One step of training and one of evaluation, as pure functions of state and batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxws.data.augment import Batch
from jaxws.packing import unpack_kernels
from jaxws.schedules import shares_after
from jaxws.sharing import share_weights
from jaxws.snr import weight_snr
from jaxws.train_state import TrainState


class Metrics(NamedTuple):
    """Sums over the images of batches; divided by ``images`` they are means.

    Attributes:
      loss: sum of cross-entropies in nats.
      top1: number of images whose label has the largest logit.
      top5: number of images whose label is among the five largest.
      images: number of images.
    """

    loss: jax.typing.ArrayLike
    top1: jax.typing.ArrayLike
    top5: jax.typing.ArrayLike
    images: jax.typing.ArrayLike


class StepInfo(NamedTuple):
    """What a step tells beside its metrics.

    Attributes:
      neg_log_snr: -log SNR of every LC layer after the update and before sharing.
      skipped: whether the step changed nothing, as its loss or gradients were not finite.
    """

    neg_log_snr: dict[str, jax.Array]
    skipped: jax.typing.ArrayLike


class Sharing(NamedTuple):
    """When and how a run shares weights.

    Attributes:
      every: n of ws(n); 0 is never.
      pools: ``'grid'`` or ``'global'``.
      steps_per_epoch: batches in an epoch, from which ws(n) counts.
    """

    every: int
    pools: str
    steps_per_epoch: int


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    sharing: Sharing,
) -> tuple[TrainState, Metrics, StepInfo]:
    """Cross-entropy, gradients, one update, and instant weight sharing where ws(n) says so.

    Optimizer moments are left alone by sharing, as in the paper.

    Args:
      state: before the step; donate it when jitting.
      batch: images (n, H, W, c), labels (n,) and a mask (n,) or None.
      model: called as ``model(x, train=True, mask=mask)``.
      optimizer: an optax transformation.
      sharing: when and how to share.

    Returns:
      The state after the step, the batch's metrics, and what else there is to tell.

    Example:
      >>> from functools import partial
      >>> from jaxws import LocalConv
      >>> from jaxws.models import resnet_cifar
      >>> from jaxws.train_state import create_train_state
      >>> model, optimizer = resnet_cifar(8, width=4, conv=LocalConv), optax.adamw(1e-3)
      >>> arguments = {"model": model, "optimizer": optimizer, "image_shape": (8, 8, 1)}
      >>> create = partial(create_train_state, **arguments)
      >>> state = jax.jit(create)(jax.random.key(0))
      >>> batch = Batch(jnp.ones((2, 8, 8, 1)), jnp.array([0, 1]), mask=None)
      >>> sharing = Sharing(every=1, pools="grid", steps_per_epoch=10)
      >>> step = partial(train_step, model=model, optimizer=optimizer, sharing=sharing)
      >>> state, metrics, _ = jax.jit(step, donate_argnums=0)(state, batch)
      >>> int(state.step), float(metrics.images)
      (1, 2.0)
    """

    def mean_loss(params: Any) -> tuple[Any, tuple[Metrics, Any]]:
        logits, updates = model.apply(
            {"params": unpack_kernels(params), "batch_stats": state.batch_stats},
            batch.image,
            train=True,
            mask=batch.mask,
            mutable=["batch_stats"],
        )
        metrics = batch_metrics(logits, batch)
        return metrics.loss / metrics.images, (metrics, updates["batch_stats"])

    grads, (metrics, batch_stats) = jax.grad(mean_loss, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    # In every step: the pools' means, which sharing needs, and variances are one pass over weights.
    snr = {name: -jnp.log(r) for name, r in weight_snr(params, pools=sharing.pools).items()}
    state = TrainState(
        step=state.step + 1,
        params=_maybe_share(state.step, params, sharing),
        batch_stats=batch_stats,
        opt_state=opt_state,
    )
    return state, metrics, StepInfo(snr, skipped=False)


def eval_step(params: Any, batch_stats: Any, batch: Batch, *, model: nn.Module) -> Metrics:
    """Metrics of a batch with running statistics; masked rows count for nothing.

    Args:
      params: parameters of the model, packed or not.
      batch_stats: running statistics.
      batch: images, labels and a mask or None.
      model: called as ``model(x, train=False)``.

    Returns:
      Sums over the batch's real images.

    Example:
      >>> from jaxws.models import resnet_cifar
      >>> model = resnet_cifar(8, width=4, conv=nn.Conv)
      >>> variables = model.init(jax.random.key(0), jnp.ones((1, 8, 8, 1)))
      >>> batch = Batch(jnp.ones((2, 8, 8, 1)), jnp.array([0, 1]), jnp.array([True, False]))
      >>> float(eval_step(**variables, batch=batch, model=model).images)
      1.0
    """
    variables = {"params": unpack_kernels(params), "batch_stats": batch_stats}
    logits: Any = model.apply(variables, batch.image, train=False)
    return batch_metrics(logits, batch)


def batch_metrics(logits: jax.Array, batch: Batch) -> Metrics:
    """Sums loss and hits over the real images of a batch.

    A label ranks behind equal logits of smaller index, as argmax would have it, and behind all
    others where logits are NaN.

    Args:
      logits: shape (n, classes).
      batch: with labels (n,) and a mask (n,) or None.

    Returns:
      The sums.

    Example:
      >>> batch = Batch(image=None, label=jnp.array([1, 0]), mask=None)
      >>> metrics = batch_metrics(jnp.array([[0.0, 9.0], [0.0, 9.0]]), batch)
      >>> float(metrics.top1), float(metrics.top5)
      (1.0, 2.0)
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label)
    label = batch.label[:, None]
    true = jnp.take_along_axis(logits, label, axis=1)
    index = jnp.arange(logits.shape[1])
    ahead = jnp.where(index < label, ~(logits < true), ~(logits <= true)) & (index != label)
    rank = ahead.sum(axis=1)
    real = jnp.ones(losses.shape, bool) if batch.mask is None else batch.mask
    return Metrics(
        loss=jnp.sum(losses, where=real),
        top1=jnp.sum(real & (rank < 1), dtype=jnp.float32),
        top5=jnp.sum(real & (rank < 5), dtype=jnp.float32),
        images=jnp.sum(real, dtype=jnp.float32),
    )


def _maybe_share(step: jax.Array, params: Any, sharing: Sharing) -> Any:
    if sharing.every == 0:
        return params
    if sharing.every == 1:
        return share_weights(params, pools=sharing.pools)
    return lax.cond(
        shares_after(step, sharing.every, sharing.steps_per_epoch),
        lambda p: share_weights(p, pools=sharing.pools),
        lambda p: p,
        params,
    )
