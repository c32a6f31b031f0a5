import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from jaxws import LocalConv, to_local
from jaxws.config.fields import base_config
from jaxws.models import ResNet, resnet18, resnet_cifar
from jaxws.models.build import build_model
from jaxws.models.resnet import conv_init
from tests.support.drawn import drawn_variables, normal

LAYERS = pytest.mark.parametrize("layer", [nn.Conv, LocalConv], ids=["conv", "local"])
small_cifar = partial(resnet_cifar, 8, width=4, num_classes=5)
small_imagenet = partial(resnet18, width=4, num_classes=5)
# Every kind of layer once, for what is compiled.
tiny_cifar = partial(ResNet, (0, 1), width=4, num_classes=5)
TINY = pytest.mark.parametrize(
    "build", [tiny_cifar, partial(tiny_cifar, imagenet_stem=True)], ids=["cifar", "imagenet"]
)
NETS = pytest.mark.parametrize("build", [small_cifar, small_imagenet], ids=["cifar", "imagenet"])


def shapes(model, *image):
    """Shapes of all variables by path, such as "params/layer1_0/conv1/kernel"."""
    x = jax.ShapeDtypeStruct((1, *image, 3), jnp.float32)
    return flatten_dict(jax.eval_shape(model.init, jax.random.key(0), x), sep="/")


def init(model, x, seed=0):
    return jax.jit(model.init)(jax.random.key(seed), x)  # op by op it would take seconds


def images(*shape, seed=0):
    return normal((*shape, 3), seed=seed)


def close(a, b, rtol=1e-4):
    a, b = np.asarray(a), np.asarray(b)
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


@pytest.mark.parametrize(
    ("model", "size", "parameters", "kernels"),
    [
        (resnet_cifar(conv=LocalConv), 32, 40_814_762, 40_812_544),
        (resnet_cifar(conv=nn.Conv), 32, 272_474, 270_256),
        (resnet18(conv=LocalConv), 224, 483_155_624, 482_893_824),
        (resnet18(conv=nn.Conv), 224, 3_055_880, 2_794_080),
        (resnet18(conv=nn.Conv, width=64), 224, 11_689_512, 11_166_912),  # torchvision's
    ],
)
def test_sizes_of_the_paper(model, size, parameters, kernels):
    leaves = {
        path: math.prod(leaf.shape)
        for path, leaf in shapes(model, size, size).items()
        if path.startswith("params/")
    }
    assert sum(leaves.values()) == parameters
    name = "/local_kernel" if model.conv is LocalConv else "/kernel"
    layers = [n for path, n in leaves.items() if path.endswith(name) and "/fc/" not in path]
    assert sum(layers) == kernels


@pytest.mark.parametrize(
    ("model", "blocks"),
    [(resnet_cifar(20, conv=nn.Conv), (3, 3, 3)), (resnet18(conv=nn.Conv), (2, 2, 2, 2))],
)
def test_modules_bear_the_names_of_torchvision(model, blocks):
    expected = {"conv1", "bn1", "fc"}
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            names = {"conv1", "bn1", "conv2", "bn2"}
            if stage > 1 and block == 0:
                names |= {"downsample_0", "downsample_1"}
            expected |= {f"layer{stage}_{block}/{name}" for name in names}
    found = {path.split("/", 1)[1].rpartition("/")[0] for path in shapes(model, 32, 32)}
    assert found == expected


@NETS
def test_first_layer_alone_may_be_convolutional(build):
    found = shapes(build(conv=LocalConv, first_conv=nn.Conv), 32, 32)
    assert {p for p in found if p.endswith("/kernel")} == {
        "params/conv1/kernel",
        "params/fc/kernel",
    }
    convolutional = shapes(build(conv=nn.Conv), 32, 32)
    assert {path.replace("/local_kernel", "/kernel") for path in found} == set(convolutional)


def test_blocks_of_positions_by_configuration():
    config = base_config().model
    config.update(depth=8, width=4, block_size=2)
    model = build_model(config, num_classes=3)
    assert model == build_model(config, num_classes=3)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 9, 9, 3)))["params"]
    assert params["conv1"]["local_kernel"].shape == (5, 5, 3, 3, 3, 4)
    assert params["layer2_0"]["conv1"]["local_kernel"].shape[:2] == (3, 3)  # of 5 x 5
    config.connectivity = "conv"
    with pytest.raises(ValueError, match="block_size=2 with"):
        build_model(config, num_classes=3)


@pytest.mark.parametrize("depth", [2, 7, 9, 18, -4, 0])
def test_depth_must_be_6n_plus_2(depth):
    with pytest.raises(ValueError, match=rf"depth={depth}: expected 6n \+ 2, such as 8"):
        resnet_cifar(depth, conv=nn.Conv)


@pytest.mark.parametrize(
    ("build", "image", "stages"),
    [
        (small_cifar, (33, 20), [(33, 20), (33, 20), (17, 10), (9, 5)]),
        (small_cifar, (32, 15), [(32, 15), (32, 15), (16, 8), (8, 4)]),
        (small_imagenet, (224, 50), [(112, 25), (56, 13), (28, 7), (14, 4), (7, 2)]),
        (small_imagenet, (37, 33), [(19, 17), (10, 9), (5, 5), (3, 3), (2, 2)]),
    ],
)
def test_sizes_of_the_stages(build, image, stages):
    """Each stage rounds half the size up, as PyTorch's padding of (k - 1) // 2 does."""
    found = shapes(build(conv=LocalConv), *image)
    k = 3 if build is small_cifar else 7
    assert found["params/conv1/local_kernel"].shape == (*stages[0], k, k, 3, 4)
    for stage, size in enumerate(stages[1:], 1):
        c, f = 4 * 2 ** max(stage - 2, 0), 4 * 2 ** (stage - 1)
        block = f"params/layer{stage}_0"
        assert found[f"{block}/conv1/local_kernel"].shape == (*size, 3, 3, c, f)
        assert found[f"{block}/conv2/local_kernel"].shape == (*size, 3, 3, f, f)
        if stage > 1:
            assert found[f"{block}/downsample_0/local_kernel"].shape == (*size, 1, 1, c, f)


@pytest.mark.parametrize("imagenet", [False, True])
def test_windows_at_stride_2_start_one_pixel_outside(imagenet):
    """The first window is centred on the first pixel, not where 'SAME' puts it for even sizes."""
    k = 7 if imagenet else 3
    layers = []

    def spy(*args, **kwargs):
        layers.append((args[1], kwargs.get("strides"), kwargs.get("padding")))
        return nn.Conv(*args, **kwargs)

    build = small_imagenet if imagenet else small_cifar
    shapes(build(conv=spy), 32, 32)
    assert layers[0] == ((k, k), 1 + imagenet, (k - 1) // 2)
    assert all(padding == (kernel[0] - 1) // 2 for kernel, _, padding in layers)
    assert {stride for kernel, stride, _ in layers if kernel == (1, 1)} == {2}


@LAYERS
@TINY
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_dtypes(build, layer, dtype):
    model = build(conv=layer, dtype=dtype)
    x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    run = partial(model.apply, train=True, mutable=["batch_stats", "intermediates"])
    logits, state = jax.eval_shape(partial(run, capture_intermediates=True), variables, x)
    assert (logits.shape, logits.dtype) == ((2, 5), jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert {leaf.dtype for leaf in jax.tree.leaves(state["batch_stats"])} == {jnp.dtype("float32")}
    inner = flatten_dict(state["intermediates"], sep="/")
    activations = {p: leaf[0].dtype for p, leaf in inner.items() if p.split("/")[0] != "fc"}
    activations.pop("__call__")  # the logits
    assert set(activations.values()) == {jnp.dtype(dtype)}


@LAYERS
@TINY
def test_masked_rows_do_not_count(build, layer):
    model, x = build(conv=layer), images(5, 14, 11)
    variables = drawn_variables(model, x, seed=1)
    rubbish = 100 + 50 * images(5, 14, 11, seed=1)
    mask = jnp.array([True, True, False, True, False])
    filled = jnp.where(mask[:, None, None, None], x, rubbish)
    run = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))
    logits, state = run(variables, filled, mask=mask)
    expected, expected_state = run(variables, x[mask])
    close(logits[mask], expected, rtol=1e-3)
    jax.tree.map(partial(close, rtol=1e-3), state, expected_state)


def test_initial_weights_have_variance_2_over_fan_out():
    image = jnp.ones((1, 24, 24, 3))
    model = ResNet((0, 1), 16, 5, LocalConv)
    for layer in (nn.Conv, LocalConv):
        params = jax.device_get(init(model.copy(conv=layer), image)["params"])
        for path, leaf in flatten_dict(params, sep="/").items():
            if leaf.ndim < 4:
                continue
            f, k = leaf.shape[-1], leaf.shape[-3]
            # Five standard errors of a variance estimate from so many normal numbers.
            tolerance = 5 * math.sqrt(2 / leaf.size)
            assert abs(leaf.var() * f * k**2 / 2 - 1) < tolerance, path
            assert abs(leaf.mean()) < 5 * math.sqrt(2 / (f * k**2) / leaf.size), path


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_initial_weights_are_the_numbers_of_kaiming_fan_out(impl):
    key, shape = jax.random.key(3, impl=impl), (3, 5, 4, 7)
    expected = jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal")(key, shape)
    # To the last bit before JAX 0.11, whose initialiser rounds in another order.
    np.testing.assert_allclose(conv_init(key, shape), expected, rtol=3e-7, atol=0)


def test_positions_start_from_different_filters():
    params = init(ResNet((), 8, 5, LocalConv), images(1, 8, 8))["params"]
    filters = params["conv1"]["local_kernel"].reshape(64, -1)
    correlation = np.corrcoef(filters)[~np.eye(64, dtype=bool)]
    assert np.abs(correlation).max() < 0.5
    assert abs(correlation.mean()) < 0.02


def test_head_starts_as_that_of_pytorch():
    model = ResNet((), 64, 1000, nn.Conv)
    head = init(model, images(1, 8, 8))["params"]["fc"]
    for leaf in head.values():
        scaled = np.asarray(leaf).ravel() * math.sqrt(64)  # uniform on (-1, 1)
        assert np.abs(scaled).max() < 1 + 1e-6
        assert np.abs(scaled).max() > 0.99
        assert abs(scaled.var() - 1 / 3) < 5 * math.sqrt(4 / 45 / scaled.size)


def test_scales_start_at_one():
    variables = init(tiny_cifar(conv=nn.Conv), images(1, 8, 8))
    for path, leaf in flatten_dict(variables, sep="/").items():
        value = {"scale": 1, "var": 1, "mean": 0}.get(path.rpartition("/")[2])
        if value is not None or "bn" in path:
            np.testing.assert_array_equal(leaf, value or 0, err_msg=path)


@LAYERS
def test_batch_norm_of_the_first_layer(layer):
    """Its input is known, so momentum and epsilon can be read off its output and statistics."""
    model, x = ResNet((), 4, 5, layer), 0.01 * images(4, 9, 8)  # small, so that epsilon matters
    variables = init(model, x)
    old = {"mean": jnp.arange(4.0), "var": 2 + jnp.arange(4.0)}
    variables["batch_stats"]["bn1"] = old
    mutable = ["batch_stats", "intermediates"]
    run = partial(model.apply, capture_intermediates=True, mutable=mutable)
    run = jax.jit(run, static_argnames="train")
    for train in (True, False):
        _, state = run(variables, x, train=train)
        before, after = (
            np.asarray(state["intermediates"][name]["__call__"][0], np.float64)
            for name in ("conv1", "bn1")
        )
        if layer is LocalConv:  # inside, its batch is last
            before, after = np.moveaxis(before, -1, 0), np.moveaxis(after, -1, 0)
        batch = {"mean": before.mean((0, 1, 2)), "var": before.var((0, 1, 2))}
        used = batch if train else old
        close(after, (before - used["mean"]) / np.sqrt(np.asarray(used["var"]) + 1e-5), rtol=1e-3)
        for name, statistic in state["batch_stats"]["bn1"].items():
            expected = 0.9 * old[name] + 0.1 * batch[name] if train else old[name]
            close(statistic, expected)


@TINY
def test_untied_net_takes_the_gradient_of_the_convolutional_one(build):
    """A step of gradient descent runs under jit, and copies' gradients add up to the filter's."""
    x, labels = images(6, 18, 15), jnp.arange(6) % 5
    variables = drawn_variables(build(conv=nn.Conv), x)
    like = jax.eval_shape(build(conv=LocalConv).init, jax.random.key(0), x)["params"]

    def loss(params, layer):
        logits, _ = build(conv=layer).apply(
            variables | {"params": params}, x, train=True, mutable=["batch_stats"]
        )
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()

    step = jax.jit(jax.value_and_grad(loss), static_argnames="layer")
    value, gradient = step(variables["params"], layer=nn.Conv)
    repeated = jax.jit(partial(to_local, like=like))(variables["params"])
    local_value, local_gradient = step(repeated, layer=LocalConv)
    close(local_value, value)
    flat, local = (flatten_dict(jax.device_get(g), sep="/") for g in (gradient, local_gradient))
    for path, leaf in local.items():
        assert np.isfinite(leaf).all() and np.any(leaf != 0), path
        summed = leaf.sum((0, 1)) if leaf.ndim == 6 else leaf
        close(summed, flat[path.replace("local_kernel", "kernel")], rtol=2e-3)
