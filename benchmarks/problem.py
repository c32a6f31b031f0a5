r"""What every peer computes: the same network, weights and images, and the least it can cost.

A locally connected layer multiplies each weight with one input of each image, so its arithmetic is
that of the convolution of the same shape: 2 n w operations for n images and w = h w i j c f
weights, forward, and as much again for each of its two gradients. What it cannot avoid to move are
a gradient and two moments of AdamW per weight, 4 bytes each. With ws(1), whose weights themselves
are as few as those of a convolution between steps, a step passes over them six times at least::

    gradient written                                    1
    AdamW reads the gradient and two moments            3
    AdamW writes two moments                            2

Without sharing it would read and write the weights as well, four passes more.

A step is not faster than the slower of the two: the operations at the machine's rate of matrix
products, and the bytes at its rate of copying. Activations are not counted, so the true floor is
higher. NumPy only: processes of PyTorch load no JAX from here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

WEIGHT_BYTES = 4
STEP_PASSES = 6
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-2


class Problem(NamedTuple):
    """One training step to measure.

    Attributes:
      batch: images per step n.
      depth: of the ResNet, 6n + 2; 2 is its first layer and its head alone.
      width: features of its first stage.
      image: side of the square images, of 3 channels.
      classes: number of labels.
      threads: that every peer may use.
    """

    batch: int
    depth: int = 20
    width: int = 16
    image: int = 32
    classes: int = 10
    threads: int = 2


class Layer(NamedTuple):
    """One layer of a ResNet, without bias, in front of a BatchNorm.

    Attributes:
      name: torchvision's.
      norm: torchvision's name of the BatchNorm behind it.
      size: side of the square input, in pixels.
      stride: distance between output positions.
      kernel: side of the square kernel; padding is (kernel - 1) // 2.
      channels: of the input.
      features: of the output.
    """

    name: str
    norm: str
    size: int
    stride: int
    kernel: int
    channels: int
    features: int

    @property
    def positions(self) -> int:
        """Side of the grid of output positions."""
        return (self.size + 2 * ((self.kernel - 1) // 2) - self.kernel) // self.stride + 1

    @property
    def weights(self) -> int:
        """Number of weights of the locally connected layer: products per image."""
        return self.positions**2 * self.kernel**2 * self.channels * self.features


def stage_sizes(depth: int) -> tuple[int, int, int]:
    """The number of blocks in each of the three stages of a ResNet of depth 6n + 2."""
    blocks = (depth - 2) // 6
    return blocks, blocks, blocks


def resnet_cifar_layers(depth: int, width: int, size: int) -> list[Layer]:
    """The layers of He et al.'s ResNet for small images, head excluded.

    Args:
      depth: 6n + 2 for n blocks in each of three stages.
      width: features of the first stage.
      size: side of the image.

    Returns:
      Layers in the order of computation, shortcuts first in their block.
    """
    stem = Layer("conv1", "bn1", size, 1, 3, 3, width)
    return [stem, *_blocks(stage_sizes(depth), width, size)]


def resnet18_layers(width: int, size: int) -> list[Layer]:
    """The layers of torchvision's ResNet-18, head excluded; the paper's "0.5x" has width 32.

    Args:
      width: features of the first stage.
      size: side of the image.

    Returns:
      Layers in the order of computation, shortcuts first in their block.
    """
    stem = Layer("conv1", "bn1", size, 2, 7, 3, width)
    pooled = (stem.positions - 1) // 2 + 1
    return [stem, *_blocks((2, 2, 2, 2), width, pooled)]


def _blocks(stage_sizes: tuple[int, ...], width: int, size: int) -> list[Layer]:
    layers, c = [], width
    for stage, blocks in enumerate(stage_sizes):
        f = width * 2**stage
        for block in range(blocks):
            name = f"layer{stage + 1}.{block}"
            stride = 2 if stage > 0 and block == 0 else 1
            if stride == 2:
                shortcut = f"{name}.downsample"
                layers.append(Layer(f"{shortcut}.0", f"{shortcut}.1", size, 2, 1, c, f))
            layers.append(Layer(f"{name}.conv1", f"{name}.bn1", size, stride, 3, c, f))
            size = layers[-1].positions
            layers.append(Layer(f"{name}.conv2", f"{name}.bn2", size, 1, 3, f, f))
            c = f
    return layers


def layers_of(problem: Problem) -> list[Layer]:
    """The layers of a problem's network."""
    return resnet_cifar_layers(problem.depth, problem.width, problem.image)


def state_dict(problem: Problem, *, local: bool) -> dict[str, np.ndarray]:
    """Initial weights under PyTorch's names, the same in every process.

    Args:
      problem: the network.
      local: filters per position as ``.weights`` (c, f, h, w, i, j), or convolutional ones as
        ``.weight`` (f, c, i, j).

    Returns:
      Float32 arrays by name, for :func:`jaxws.models.from_torch_state_dict`.
    """
    rng = np.random.default_rng(0)
    state = {}
    for layer in layers_of(problem):
        k, h, c, f = layer.kernel, layer.positions, layer.channels, layer.features
        name, shape = ".weights" if local else ".weight", (c, f, h, h, k, k)
        weights = rng.standard_normal(shape if local else (f, c, k, k), np.float32)
        weights *= np.float32(2 / (f * k * k)) ** 0.5  # Kaiming's, fan-out
        state[layer.name + name] = weights
        for leaf, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            state[f"{layer.norm}.{leaf}"] = np.full(f, value, np.float32)
    bound = f**-0.5
    state["fc.weight"] = rng.uniform(-bound, bound, (problem.classes, f)).astype(np.float32)
    state["fc.bias"] = rng.uniform(-bound, bound, problem.classes).astype(np.float32)
    return state


def make_batch(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, H, W, 3), float32, and labels (n,), int32, the same in every process."""
    rng = np.random.default_rng(1)
    images = rng.standard_normal((problem.batch, problem.image, problem.image, 3), np.float32)
    return images, rng.integers(0, problem.classes, problem.batch, np.int32)


def step_cost(problem: Problem) -> dict[str, int]:
    """Operations and bytes that a training step of the LC network cannot do without.

    Args:
      problem: the step.

    Returns:
      ``flops`` and ``bytes``; nobody needs the gradient of the images.
    """
    layers = layers_of(problem)
    head = layers[-1].features * problem.classes
    products = 3 * (sum(layer.weights for layer in layers) + head) - layers[0].weights
    weights = sum(layer.weights for layer in layers)
    return {
        "flops": 2 * problem.batch * products,
        "bytes": STEP_PASSES * WEIGHT_BYTES * weights,
    }


def floor_seconds(cost: dict[str, int], rates: dict[str, float]) -> dict[str, float]:
    """The least time for a cost at measured rates.

    Args:
      cost: ``flops`` and ``bytes``.
      rates: ``flops`` and ``bytes`` per second.

    Returns:
      ``flops_seconds``, ``bytes_seconds`` and their maximum, ``seconds``.
    """
    times: dict[str, Any] = {f"{key}_seconds": cost[key] / rates[key] for key in ("flops", "bytes")}
    return times | {"seconds": max(times.values())}
