"""The peers in PyTorch, which has no locally connected layer of its own.

``torch`` is the fastest that we could write with its operations: activations in the memory format
``channels_last``, patches as stacked slices of the padded image, and one matrix product batched
over positions, with filters kept in its order, (h w, (i j c), f). ``torch_published`` is how its
users write the layer: ``F.unfold`` and ``torch.einsum``, with filters (c, f, h, w, i, j).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import machine
from benchmarks import problem as problems
from benchmarks.problem import Layer, Problem


class LocalConv2d(nn.Module):
    """Locally connected layer with filters by position, weights (h w, (i j c), f).

    Args:
      layer: its shape.
    """

    def __init__(self, layer: Layer):
        super().__init__()
        self.layer = layer
        shape = (layer.positions**2, layer.kernel**2 * layer.channels, layer.features)
        self.weights = nn.Parameter(torch.zeros(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (n, c, H, W) to (n, f, h, w)."""
        k, stride, side = self.layer.kernel, self.layer.stride, self.layer.positions
        pad, span = (k - 1) // 2, stride * (side - 1) + 1
        x = F.pad(x.permute(2, 3, 0, 1), (0, 0, 0, 0, pad, pad, pad, pad))  # (H, W, n, c)
        slices = [
            x[i : i + span : stride, j : j + span : stride] for i in range(k) for j in range(k)
        ]
        patches = torch.stack(slices, 3).view(side * side, x.shape[2], -1)
        y = torch.bmm(patches, self.weights).unflatten(0, (side, side))  # (h, w, n, f)
        return y.permute(2, 3, 0, 1).contiguous(memory_format=torch.channels_last)

    def load(self, weights: np.ndarray) -> None:
        """Takes filters (c, f, h, w, i, j)."""
        ordered = torch.from_numpy(weights).permute(2, 3, 4, 5, 0, 1)
        self.weights.data.copy_(ordered.reshape(self.weights.shape))

    def published(self) -> torch.Tensor:
        """The filters as (c, f, h, w, i, j)."""
        c, f, k, side = *self.layer[-2:], self.layer.kernel, self.layer.positions
        return self.weights.detach().reshape(side, side, k, k, c, f).permute(4, 5, 0, 1, 2, 3)

    def grid(self) -> torch.Tensor:
        """The filters with the axes of positions in front, (h, w, ...), sharing memory."""
        return self.weights.data.unflatten(0, (self.layer.positions,) * 2)


class PublishedLocalConv2d(LocalConv2d):
    """Locally connected layer with filters (c, f, h, w, i, j), contracted by einsum."""

    def __init__(self, layer: Layer):
        nn.Module.__init__(self)
        self.layer = layer
        side, k = layer.positions, layer.kernel
        shape = (layer.channels, layer.features, side, side, k, k)
        self.weights = nn.Parameter(torch.zeros(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (n, c, H, W) to (n, f, h, w)."""
        k, stride, side = self.layer.kernel, self.layer.stride, self.layer.positions
        patches = F.unfold(x, k, padding=(k - 1) // 2, stride=stride)
        patches = patches.view(len(x), -1, k, k, side, side)
        return torch.einsum("ncijhw,cfhwij->nfhw", patches, self.weights)

    def load(self, weights: np.ndarray) -> None:
        """Takes filters (c, f, h, w, i, j)."""
        self.weights.data.copy_(torch.from_numpy(weights))

    def published(self) -> torch.Tensor:
        """The filters as they are."""
        return self.weights.detach()

    def grid(self) -> torch.Tensor:
        """The filters with the axes of positions in front."""
        return self.weights.data.permute(2, 3, 0, 1, 4, 5)


class Conv2d(nn.Conv2d):
    """A convolution of a layer's shape, that loads as the others do."""

    def __init__(self, layer: Layer):
        k = layer.kernel
        super().__init__(layer.channels, layer.features, k, layer.stride, (k - 1) // 2, bias=False)

    def load(self, weights: np.ndarray) -> None:
        """Takes filters (f, c, i, j)."""
        self.weight.data.copy_(torch.from_numpy(weights))


class Net(nn.Module):
    """A ResNet of basic blocks, from the list of its layers.

    Args:
      problem: the network's size.
      layer: class of its layers.
    """

    def __init__(self, problem: Problem, layer: Callable[[Layer], nn.Module]):
        super().__init__()
        listed = problems.layers_of(problem)
        # Module names hold no dots.
        self.convs = nn.ModuleDict({_key(each.name): layer(each) for each in listed})
        self.norms = nn.ModuleDict(
            {_key(each.name): nn.BatchNorm2d(each.features) for each in listed}
        )
        self.blocks = [e.name.rpartition(".")[0] for e in listed if e.name.endswith(".conv2")]
        self.fc = nn.Linear(listed[-1].features, problem.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes) of images (n, 3, H, W)."""
        x = F.relu(self._apply_layer("conv1", x))
        for block in self.blocks:
            y = F.relu(self._apply_layer(f"{block}.conv1", x))
            y = self._apply_layer(f"{block}.conv2", y)
            if _key(f"{block}.downsample.0") in self.convs:
                x = self._apply_layer(f"{block}.downsample.0", x)
            x = F.relu(x + y)
        return self.fc(x.float().mean((2, 3)))

    def _apply_layer(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return self.norms[_key(name)](self.convs[_key(name)](x))


def load(net: Net, problem: Problem, state: dict[str, np.ndarray]) -> None:
    """Fills a net with the arrays of :func:`benchmarks.problem.state_dict`."""
    for layer in problems.layers_of(problem):
        name = next(name for name in state if name.startswith(f"{layer.name}.weight"))
        conv: Any = net.convs[_key(layer.name)]
        conv.load(state[name])
    net.fc.weight.data.copy_(torch.from_numpy(state["fc.weight"]))
    net.fc.bias.data.copy_(torch.from_numpy(state["fc.bias"]))


@torch.no_grad()
def share_weights(net: Net) -> None:
    """Instant sharing: every filter becomes the mean over its grid of every k-th position."""
    for layer in net.convs.values():
        if isinstance(layer, LocalConv2d):
            grid, k = layer.grid(), layer.layer.kernel
            for a in range(min(k, len(grid))):
                for b in range(min(k, len(grid))):
                    pool = grid[a::k, b::k]
                    pool.copy_(pool.mean((0, 1), keepdim=True))


# Class of the layers, autocast to bfloat16, torch.compile.
PEERS: dict[str, tuple[Callable[[Layer], nn.Module], bool, bool]] = {
    "torch": (LocalConv2d, False, False),
    "torch_published": (PublishedLocalConv2d, False, False),
    "torch_bf16": (LocalConv2d, True, False),
    "torch_compile": (LocalConv2d, False, True),
    "torch_compile_bf16": (LocalConv2d, True, True),
    "torch_conv": (Conv2d, False, False),
    "torch_conv_bf16": (Conv2d, True, False),
}


class Peer:
    """A net, its optimizer and its step.

    Args:
      name: one of ``PEERS``.
      problem: what to compute.
    """

    def __init__(self, name: str, problem: Problem):
        torch.set_num_threads(problem.threads)
        # As JAX does on a GPU by default: float32 products may use the tensor cores (TF32).
        torch.set_float32_matmul_precision("high")
        layer, self.half, compiled = PEERS[name]
        self.on_gpu = torch.cuda.is_available()
        self.where = torch.device("cuda" if self.on_gpu else "cpu")
        self.net = Net(problem, layer)
        load(self.net, problem, problems.state_dict(problem, local=layer is not Conv2d))
        self.net.to(self.where).train()
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(),
            lr=problems.LEARNING_RATE,
            weight_decay=problems.WEIGHT_DECAY,
            fused=True,
        )
        images, labels = problems.make_batch(problem)
        channels_first = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        self.images = torch.from_numpy(channels_first).to(self.where)
        if layer is LocalConv2d:
            self.images = self.images.contiguous(memory_format=torch.channels_last)
        self.labels = torch.from_numpy(labels).long().to(self.where)
        self.forward = torch.compile(self.net) if compiled else self.net

    def step(self) -> float:
        """One step, to its end; returns the loss before it."""
        self.optimizer.zero_grad(set_to_none=True)
        with self._precision():
            logits = self.forward(self.images)
        loss = F.cross_entropy(logits.float(), self.labels)
        loss.backward()
        self.optimizer.step()
        share_weights(self.net)
        self._wait()
        return loss.item()

    def device(self) -> dict[str, str]:
        """Backend and model of the device."""
        if self.on_gpu:
            return {"backend": "gpu", "kind": torch.cuda.get_device_name()}
        return {"backend": "cpu", "kind": "cpu"}

    def device_peak_bytes(self) -> int | None:
        """Most memory of the device in use at a time; None on a CPU."""
        return torch.cuda.max_memory_allocated() if self.on_gpu else None

    def reset_device_peak(self) -> None:
        """Forgets the peak so far."""
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()

    @torch.no_grad()
    def rates(self, shrink: int = 1) -> dict[str, Any]:
        """Operations of a big matrix product and bytes of a big copy, per second.

        Args:
          shrink: divides the sides of the matrices, for rates that need not be exact.
        """
        # Smaller where a CPU may have to emulate bfloat16.
        on_cpu = (1024 if self.half else 2048, 2**26)
        side, size = (8192, 2**28) if self.on_gpu else on_cpu
        side, size = side // shrink, size // shrink**2
        dtype = torch.bfloat16 if self.half else torch.float32
        a = torch.ones((side, side), dtype=dtype, device=self.where)
        x = torch.ones(size, device=self.where)
        return {
            "dtype": str(dtype).removeprefix("torch."),
            "flops": 2 * side**3 / machine.fastest(lambda: self._wait(a @ a)),
            "bytes": 2 * 4 * size / machine.fastest(lambda: self._wait(x.add_(1))),
        }

    def _wait(self, _: Any = None) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    def _precision(self) -> Any:
        if not self.half:
            return contextlib.nullcontext()
        return torch.autocast(self.where.type, torch.bfloat16)


def _key(name: str) -> str:
    return name.replace(".", "_")
