"""Which images each step of an epoch sees, as a pure function of (seed, epoch)."""

import jax
import jax.numpy as jnp
import numpy as np

# Keeps the key of an epoch's order apart from keys that callers fold from the same seed.
_ORDER_STREAM = 0x6F726465


def steps_per_epoch(size: int, batch_size: int) -> int:
    """Steps of an epoch that shows every image once; the last batch may be ragged.

    Args:
      size: number of training images.
      batch_size: images of a step.

    Returns:
      The number of steps, ``ceil(size / batch_size)``.

    Raises:
      ValueError: if a number is not positive or the batch is larger than the data.

    Example:
      >>> steps_per_epoch(50_000, 512)
      98
    """
    _check_positive(size, batch_size)
    if batch_size > size:
        raise ValueError(
            f"batch_size {batch_size} is larger than the data: there are {size} training images; "
            f"set a batch size of {size} or less (with config.data.n_reps views of each image, so "
            "many times more), or train on more images"
        )
    return -(-size // batch_size)


def epoch_order(
    seed: int | jax.Array, epoch: int | jax.Array, size: int, batch_size: int
) -> jax.Array:
    """The order in which an epoch shows the training images, cut into batches.

    Args:
      seed: seed of the run; may be traced.
      epoch: number of the epoch; may be traced.
      size: number of training images.
      batch_size: images of a step.

    Returns:
      int32 ``(steps, batch_size)``: every index below ``size`` once; where the last batch is
      ragged its end is filled up with -1.

    Raises:
      ValueError: if a number is not positive or the batch is larger than the data.

    Example:
      >>> order = epoch_order(seed=0, epoch=3, size=5, batch_size=2)
      >>> order.shape, sorted(order.ravel().tolist())
      ((3, 2), [-1, 0, 1, 2, 3, 4])
    """
    steps = steps_per_epoch(size, batch_size)
    key = jax.random.fold_in(jax.random.key(seed), _ORDER_STREAM)
    order = jax.random.permutation(jax.random.fold_in(key, epoch), size)
    filling = steps * batch_size - size
    padded = jnp.pad(order.astype(jnp.int32), (0, filling), constant_values=-1)
    return padded.reshape(steps, batch_size)


def evaluation_order(size: int, batch_size: int) -> jax.Array:
    """All images in their own order, cut into batches.

    The batch may be larger than the data here: the filling carries no weight.

    Args:
      size: number of images.
      batch_size: images of a batch.

    Returns:
      int32 ``(batches, batch_size)``, filled up with -1 at the end of the last batch.

    Raises:
      ValueError: if a number is not positive.

    Example:
      >>> evaluation_order(5, 2).tolist()
      [[0, 1], [2, 3], [4, -1]]
    """
    _check_positive(size, batch_size)
    order = np.full(-(-size // batch_size) * batch_size, -1, np.int32)
    order[:size] = np.arange(size)
    return jnp.asarray(order.reshape(-1, batch_size))


def _check_positive(size: int, batch_size: int) -> None:
    for name, value in (("size", size), ("batch_size", batch_size)):
        if value < 1 or value != int(value):
            raise ValueError(f"{name} is {value!r}, expected a whole number, 1 or more")
