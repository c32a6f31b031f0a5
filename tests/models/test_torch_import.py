"""Against a table of PyTorch's names and a forward pass in NumPy, both written from its semantics.

Images have odd, unequal sides: there PyTorch's padding differs from 'SAME', and H from W.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxws import LocalConv, to_local
from jaxws.models import from_torch_state_dict, resnet18, resnet_cifar

CLASSES = 7
NETS = {  # blocks, width, ImageNet stem, image
    "cifar": ((1, 1, 1), 4, False, (13, 10)),
    "imagenet": ((2, 2, 2, 2), 4, True, (37, 34)),
}


def build(net, **layers):
    blocks, width, imagenet, _ = NETS[net]
    arguments = {"width": width, "num_classes": CLASSES, **layers}
    return resnet18(**arguments) if imagenet else resnet_cifar(6 * blocks[0] + 2, **arguments)


def torch_shapes(net, *, local=False):
    """Names and shapes of the state dict, in the order of the layers."""
    blocks, width, imagenet, (height, wide) = NETS[net]
    shapes = {}

    def layer(conv, bn, c, f, k, positions):
        if local:
            shapes[f"{conv}.weights"] = (c, f, *positions, k, k)
        else:
            shapes[f"{conv}.weight"] = (f, c, k, k)
        shapes.update({f"{bn}.{n}": (f,) for n in ("weight", "bias")})
        shapes.update({f"{bn}.running_{n}": (f,) for n in ("mean", "var")})
        shapes[f"{bn}.num_batches_tracked"] = ()

    def half(size):
        return tuple(-(-n // 2) for n in size)

    size = half((height, wide)) if imagenet else (height, wide)
    layer("conv1", "bn1", 3, width, 7 if imagenet else 3, size)
    size = half(size) if imagenet else size
    c = width
    for stage, count in enumerate(blocks):
        f = width * 2**stage
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            if stage > 0 and block == 0:
                size = half(size)
                layer(f"{name}.downsample.0", f"{name}.downsample.1", c, f, 1, size)
            layer(f"{name}.conv1", f"{name}.bn1", c, f, 3, size)
            layer(f"{name}.conv2", f"{name}.bn2", f, f, 3, size)
            c = f
    return shapes | {"fc.weight": (CLASSES, c), "fc.bias": (CLASSES,)}


def random_state(net, *, local=False, dtype=np.float32):
    rng = np.random.default_rng(0)

    def draw(name, shape):
        if name.endswith("num_batches_tracked"):
            return np.asarray(1234)
        if name.endswith("running_var"):
            return rng.uniform(0.5, 2, shape).astype(dtype)
        centre = float(len(shape) == 1 and name.endswith("weight"))
        weights = {1: 10, 2: shape[-1]}.get(len(shape), np.prod(shape[:2]) * shape[-1] ** 2)
        fan = weights / (shape[local] if len(shape) > 2 else 1)
        return (centre + fan**-0.5 * rng.normal(size=shape)).astype(dtype)

    return {name: draw(name, shape) for name, shape in torch_shapes(net, local=local).items()}


def images(net, count=3):
    return np.random.default_rng(1).normal(size=(count, *NETS[net][3], 3)).astype(np.float32)


def logits(model, variables, x):
    with jax.default_matmul_precision("highest"):
        return np.asarray(jax.jit(model.apply)(variables, x))


def windows(x, k, stride, fill=0.0):
    """(n, c, H, W) to (n, c, h, w, k, k), padded by (k - 1) // 2 on each side."""
    p = (k - 1) // 2
    x = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)), constant_values=fill)
    patches = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(2, 3))
    return patches[:, :, ::stride, ::stride]


def reference(net, state, x):
    """Eval-mode logits in float64, with the axes of PyTorch."""
    blocks, _, imagenet, _ = NETS[net]
    state = {name: array.astype(np.float64) for name, array in state.items()}

    def conv(name, x, stride):
        if f"{name}.weight" in state:
            weight = state[f"{name}.weight"]
            return np.einsum("nchwij,fcij->nfhw", windows(x, weight.shape[-1], stride), weight)
        weight = state[f"{name}.weights"]
        return np.einsum("nchwij,cfhwij->nfhw", windows(x, weight.shape[-1], stride), weight)

    def bn(name, x):
        scale, bias, mean, var = (
            state[f"{name}.{n}"][:, None, None]
            for n in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(var + 1e-5) * scale + bias

    def relu(x):
        return np.maximum(x, 0)

    x = np.moveaxis(x.astype(np.float64), -1, 1)
    x = relu(bn("bn1", conv("conv1", x, 2 if imagenet else 1)))
    if imagenet:
        x = windows(x, 3, 2, fill=-np.inf).max((-1, -2))
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = relu(bn(f"{name}.bn1", conv(f"{name}.conv1", x, stride)))
            y = bn(f"{name}.bn2", conv(f"{name}.conv2", y, 1))
            if stride == 2:
                x = bn(f"{name}.downsample.1", conv(f"{name}.downsample.0", x, 2))
            x = relu(x + y)
    return x.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


@pytest.mark.usefixtures("strict_promotion")
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("local", [False, True], ids=["conv", "local"])
def test_every_leaf(net, local):
    state = random_state(net, local=local)
    model = build(net, conv=LocalConv if local else nn.Conv)
    shape = (*NETS[net][3], 3)
    variables = from_torch_state_dict(model, state, image_shape=shape)
    like = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, *shape)))
    assert jax.tree.structure(variables) == jax.tree.structure(like)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: a.shape == b.shape, variables, like)))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}

    for name, array in state.items():
        *modules, leaf = name.split(".")
        if leaf == "num_batches_tracked":
            continue
        layer = "/".join(modules)
        for digit in "0123":
            layer = layer.replace(f"/{digit}", f"_{digit}")
        collection, ours, axes = {
            ("running_mean", 1): ("batch_stats", "mean", "f->f"),
            ("running_var", 1): ("batch_stats", "var", "f->f"),
            ("weight", 1): ("params", "scale", "f->f"),
            ("bias", 1): ("params", "bias", "f->f"),
            ("weight", 2): ("params", "kernel", "fc->cf"),
            ("weight", 4): ("params", "kernel", "fcij->ijcf"),
            ("weights", 6): ("params", "local_kernel", "cfhwij->hwijcf"),
        }[leaf, array.ndim]
        found = variables[collection]
        for part in (*layer.split("/"), ours):
            found = found[part]
        np.testing.assert_array_equal(found, np.einsum(axes, array), err_msg=name)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("local", [False, True], ids=["conv", "local"])
def test_logits_of_the_numpy_reference(net, local):
    state, x = random_state(net, local=local), images(net)
    model = build(net, conv=LocalConv if local else nn.Conv)
    variables = from_torch_state_dict(model, state, image_shape=x.shape[1:])
    close(logits(model, variables, x), reference(net, state, x))


@pytest.mark.parametrize("net", NETS)
def test_convolutions_start_an_lc_network(net):
    state, x = random_state(net), images(net)
    conv, local = build(net, conv=nn.Conv), build(net, conv=LocalConv)
    tied = from_torch_state_dict(conv, state)
    untied = from_torch_state_dict(local, state, image_shape=x.shape[1:])
    jax.tree.map(
        np.testing.assert_array_equal, to_local(tied["params"], untied["params"]), untied["params"]
    )
    close(logits(local, untied, x), logits(conv, tied, x))


def test_first_layer_may_be_a_convolution():
    state, x = random_state("cifar", local=True), images("cifar")
    state["conv1.weight"] = state.pop("conv1.weights")[..., 0, 0, :, :].swapaxes(0, 1)
    model = build("cifar", conv=LocalConv, first_conv=nn.Conv)
    variables = from_torch_state_dict(model, state, image_shape=x.shape[1:])
    close(logits(model, variables, x), reference("cifar", state, x))


@pytest.mark.parametrize(("net", "size"), [("cifar", (32, 32)), ("imagenet", (112, 112))])
def test_default_image_shape(net, size):
    model = build(net, conv=nn.Conv, first_conv=LocalConv)
    variables = from_torch_state_dict(model, random_state(net))
    assert variables["params"]["conv1"]["local_kernel"].shape[:2] == size


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_prefix_of_every_name(prefix):
    state, model = random_state("cifar"), build("cifar", conv=nn.Conv)
    wrapped = {prefix + name: array for name, array in state.items()}
    jax.tree.map(
        np.testing.assert_array_equal,
        from_torch_state_dict(model, wrapped),
        from_torch_state_dict(model, state),
    )
    wrapped["fc.bias"] = wrapped.pop(prefix + "fc.bias")
    with pytest.raises(ValueError, match="missing"):
        from_torch_state_dict(model, wrapped)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float32, np.float64])
def test_float32_whatever_the_dtype(dtype):
    state = random_state("cifar", dtype=dtype)
    variables = from_torch_state_dict(build("cifar", conv=nn.Conv), state)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    given = state["layer1.0.bn1.running_var"].astype(np.float32)
    np.testing.assert_array_equal(variables["batch_stats"]["layer1_0"]["bn1"]["var"], given)


def test_results_are_copies():
    state = random_state("cifar")
    variables = from_torch_state_dict(build("cifar", conv=nn.Conv), state)
    before = jax.tree.map(np.array, variables)
    for array in state.values():
        array[...] = 0
    jax.tree.map(np.testing.assert_array_equal, variables, before)
