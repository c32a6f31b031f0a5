"""PyTorch itself computes the same from the same state dict, where it is installed."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from jaxws import LocalConv
from jaxws.models import from_torch_state_dict, resnet18, resnet_cifar, to_torch_state_dict

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

CLASSES, WIDTH = 7, 8
NETS = {"cifar": ((2, 2, 2), (13, 10)), "imagenet": ((2, 2, 2, 2), (67, 50))}


def conv(c, f, k, stride):
    return torch.nn.Conv2d(c, f, k, stride, (k - 1) // 2, bias=False)


class Block(torch.nn.Module):
    def __init__(self, c, f, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(c, f, 3, stride), torch.nn.BatchNorm2d(f)
        self.conv2, self.bn2 = conv(f, f, 3, 1), torch.nn.BatchNorm2d(f)
        self.downsample = None
        if stride != 1 or c != f:
            self.downsample = torch.nn.Sequential(conv(c, f, 1, stride), torch.nn.BatchNorm2d(f))

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class Net(torch.nn.Module):
    def __init__(self, blocks, imagenet):
        super().__init__()
        self.stages = len(blocks)
        self.conv1 = conv(3, WIDTH, 7, 2) if imagenet else conv(3, WIDTH, 3, 1)
        self.bn1 = torch.nn.BatchNorm2d(WIDTH)
        self.maxpool = torch.nn.MaxPool2d(3, 2, 1) if imagenet else torch.nn.Identity()
        c = WIDTH
        for stage, count in enumerate(blocks):
            f, stride = WIDTH * 2**stage, 1 if stage == 0 else 2
            rest = [Block(f, f, 1) for _ in range(count - 1)]
            setattr(self, f"layer{stage + 1}", torch.nn.Sequential(Block(c, f, stride), *rest))
            c = f
        self.fc = torch.nn.Linear(c, CLASSES)

    def forward(self, x):
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(torch.nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def randomised(net):
    """A net with statistics, scales and biases that differ everywhere."""
    torch.manual_seed(0)
    theirs = Net(NETS[net][0], imagenet=net == "imagenet")
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values, centre in (
                (module.weight.data, 1.0),
                (module.bias.data, 0.0),
                (module.running_mean, 0.0),
                (module.running_var, 1.0),
            ):
                values.copy_(centre + 0.2 * torch.randn_like(values).clamp(-2, 2))
    return theirs


def prepare(net, layer):
    build = resnet18 if net == "imagenet" else resnet_cifar
    depth = {} if net == "imagenet" else {"depth": 14}
    ours = build(conv=layer, width=WIDTH, num_classes=CLASSES, **depth)
    x = np.random.default_rng(0).normal(size=(5, *NETS[net][1], 3)).astype(np.float32)
    return randomised(net), ours, x


def channels_first(x):
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def close(a, b, rtol):
    a, b = np.asarray(a), np.asarray(b)
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("layer", [nn.Conv, LocalConv], ids=["conv", "local"])
@jax.default_matmul_precision("highest")
def test_eval_logits(net, layer):
    theirs, ours, x = prepare(net, layer)
    variables = from_torch_state_dict(ours, theirs.state_dict(), image_shape=x.shape[1:])
    with torch.no_grad():
        expected = theirs.eval()(channels_first(x)).numpy()
    close(jax.jit(ours.apply)(variables, x), expected, rtol=1e-5)


@pytest.mark.parametrize("net", NETS)
@jax.default_matmul_precision("highest")
def test_training_step_of_batch_norm(net):
    theirs, ours, x = prepare(net, nn.Conv)
    variables = from_torch_state_dict(ours, theirs.state_dict())

    @jax.jit
    def forward(variables):
        return ours.apply(variables, x, train=True, mutable=["batch_stats"])

    logits, updates = forward(variables)
    sizes = {}
    for name, module in theirs.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(
                lambda _, inputs, __, name=name: sizes.update({name: inputs[0][:, 0].numel()})
            )
    before = {name: array.numpy().copy() for name, array in theirs.state_dict().items()}
    with torch.no_grad():
        expected = theirs.train()(channels_first(x)).numpy()
    close(logits, expected, rtol=1e-4)
    after = {name: array.numpy().copy() for name, array in theirs.state_dict().items()}
    for name, size in sizes.items():
        # PyTorch divides the batch's variance by size - 1, Flax by size.
        old, new = (state[f"{name}.running_var"] for state in (before, after))
        after[f"{name}.running_var"] = 0.9 * old + (new - 0.9 * old) * (size - 1) / size
    theirs_after = from_torch_state_dict(ours, after)["batch_stats"]
    jax.tree.map(lambda a, b: close(a, b, rtol=1e-4), updates["batch_stats"], theirs_after)


def test_tensors_that_numpy_does_not_take():
    theirs, ours, _ = prepare("cifar", nn.Conv)
    theirs = theirs.bfloat16()
    state = dict(theirs.state_dict()) | dict(theirs.named_parameters())
    assert all(value.requires_grad for value in theirs.parameters())
    jax.tree.map(
        np.testing.assert_array_equal,
        from_torch_state_dict(ours, state),
        from_torch_state_dict(ours, {n: v.detach().float().numpy() for n, v in state.items()}),
    )


def test_training_pytorch_further_leaves_the_variables_alone():
    theirs, ours, _ = prepare("cifar", nn.Conv)
    variables = from_torch_state_dict(ours, theirs.state_dict())
    before = jax.tree.map(np.array, variables)
    for value in theirs.state_dict().values():
        value.zero_()
    jax.tree.map(np.testing.assert_array_equal, variables, before)


@pytest.mark.parametrize("net", NETS)
def test_exported_weights_in_pytorch(net):
    theirs, ours, x = prepare(net, nn.Conv)
    variables = from_torch_state_dict(ours, torch.nn.DataParallel(theirs).state_dict())
    state = {n: torch.from_numpy(a) for n, a in to_torch_state_dict(variables).items()}
    again = Net(NETS[net][0], imagenet=net == "imagenet")
    again.load_state_dict(state, strict=True)
    with torch.no_grad():
        logits, expected = (module.eval()(channels_first(x)) for module in (again, theirs))
    assert torch.equal(logits, expected)
