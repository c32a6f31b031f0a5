"""That calls are checked against signatures at all: every other test leans on it."""

import jax
import jax.numpy as jnp
import jaxtyping
import pytest

from jaxws import LocalConv, local_conv
from jaxws.core.implementations import slices
from jaxws.core.implementations.spec import Spec
from jaxws.core.window import make_window
from jaxws.dynamics import hebbian_update, objective

KERNEL = jnp.ones((4, 4, 3, 3, 2, 5))


@pytest.mark.parametrize(
    "call",
    [
        lambda: local_conv(jnp.ones((4, 4)), KERNEL),
        lambda: local_conv(jnp.ones((1, 4, 4, 2)), KERNEL[0]),
        lambda: local_conv(jnp.ones((1, 4, 4, 2), jnp.int32), KERNEL),
        lambda: objective(jnp.ones((3, 2)), jnp.ones((3, 1)), jnp.ones(2), 0.1),
        lambda: hebbian_update(jnp.ones((3, 2)), jnp.ones((3, 2)), jnp.ones(3), 0.1),
        lambda: LocalConv(features="8", kernel_size=(3, 3)),
    ],
    ids=["rank of images", "rank of filters", "dtype", "broadcast", "other inputs", "attribute"],
)
def test_what_a_signature_does_not_allow_is_found(call):
    with pytest.raises(jaxtyping.TypeCheckError):
        call()


def test_a_letter_is_one_number_in_a_call():
    """Inside of implementations too: 2 images cannot have 3 gradients."""
    window = make_window((4, 4), (3, 3))
    spec = Spec(window, 1, jnp.dtype(jnp.float32), jnp.dtype(jnp.float32))
    x, dy = jnp.ones((4, 4, 2, 2)), jnp.ones((4, 4, 5, 3))
    with pytest.raises(jaxtyping.TypeCheckError, match="'dy'"):
        slices.kernel_gradient(x, dy, spec)


@pytest.mark.usefixtures("unchecked_types")
def test_users_meet_errors_of_the_functions_themselves():
    with pytest.raises(ValueError, match="expected 6 axes"):
        jax.eval_shape(local_conv, jnp.ones((1, 4, 4, 2)), KERNEL[0])
