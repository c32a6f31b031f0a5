"""Which mesh a run takes if it is not told: the one whose devices send least, by arithmetic."""

from __future__ import annotations

import math
from typing import NamedTuple

from jaxws.core.islands.layout import AXES
from jaxws.parallel.wire import Network, Step, state_bytes, traffic
from jaxws.system.text import size_text

HEAD = ("mesh", "sent per step", "weights and moments")
# Layers are split only if that saves so much of what data parallelism sends. It adds up gradients,
# which nothing waits for before the update; every exchange of a split layer is waited for.
_WORTH_SPLITTING = 0.25
_MOST_ROWS = 6


class Candidate(NamedTuple):
    """A mesh, and what it takes.

    Attributes:
      sizes: of its axes, in the order of ``AXES``.
      sent: bytes that each device sends per step.
      state: bytes of weights and moments on each device.
    """

    sizes: tuple[int, ...]
    sent: float
    state: int

    @property
    def name(self) -> str:
        """As it is written: data x h x w."""
        return "x".join(map(str, self.sizes))

    @property
    def is_data_parallel(self) -> bool:
        """Whether no layer is split."""
        return math.prod(self.sizes[1:]) == 1

    def row(self) -> tuple[str, ...]:
        """Cells of a table under ``HEAD``."""
        return self.name, size_text(self.sent), size_text(self.state)


class Choice(NamedTuple):
    """A mesh, why it was chosen, and what else there was.

    Attributes:
      sizes: of the mesh's axes, by name.
      reason: one line.
      candidates: the best ones; the chosen one is the first, data parallelism always among them.
    """

    sizes: dict[str, int]
    reason: str
    candidates: tuple[Candidate, ...]


def choose_mesh(
    devices: int,
    network: Network,
    step: Step,
    *,
    moments: int,
) -> Choice:
    """Chooses the mesh that sends least; data parallelism unless another one is clearly better.

    Args:
      devices: number of them.
      network: what is trained.
      step: how.
      moments: that the optimizer keeps per parameter.

    Returns:
      The choice. Of meshes that send as much, it is the one with the largest data axis.

    Example:
      >>> choose_mesh(4, Network((), plain=100), Step(images=8, itemsize=4), moments=2).reason
      'mesh 4x1x1 (data x h x w): there is no locally connected layer to split'
    """
    candidates = [
        Candidate(
            tuple(sizes.values()),
            traffic(network, sizes, step).total,
            state_bytes(network, sizes, moments=moments, pooled=step.pooled),
        )
        for sizes in _meshes(devices)
    ]
    ordered = sorted(candidates, key=lambda c: (round(c.sent), [-size for size in c.sizes]))
    least, plain = ordered[0], next(c for c in candidates if c.is_data_parallel)
    best = least if least.sent <= (1 - _WORTH_SPLITTING) * plain.sent else plain
    # Of meshes that differ in nothing but names, as 1x4x2 and 1x2x4, one is enough.
    distinct = {(round(c.sent), c.state): c for c in reversed(ordered)}.values()
    shown = [c for c in ordered if c in distinct and c is not best][: _MOST_ROWS - 1]
    if plain is not best and plain not in shown:
        shown[-1] = plain
    sizes = dict(zip(AXES, best.sizes, strict=True))
    reason = f"mesh {best.name} (data x h x w): {_reason(best, least, plain, network)}"
    return Choice(sizes, reason, (best, *shown))


def _reason(best: Candidate, least: Candidate, plain: Candidate, network: Network) -> str:
    if math.prod(best.sizes) == 1:
        return "one device"
    if not network.layers:
        return "there is no locally connected layer to split"
    sends = f"a device sends {size_text(best.sent)} per step"
    if best is least and best is plain:
        return f"{sends}, the least of all meshes"
    if best is least:
        return f"{sends}, the least of all meshes; data parallel: {size_text(plain.sent)}"
    return (
        f"data parallel, {sends}; {least.name} would save {1 - least.sent / best.sent:.0%} of it,"
        f" and layers are split for {_WORTH_SPLITTING:.0%} at least"
    )


def _meshes(devices: int) -> list[dict[str, int]]:
    divisors = [n for n in range(1, devices + 1) if devices % n == 0]
    return [
        {"data": data, "h": h, "w": devices // (data * h)}
        for data in divisors
        for h in divisors
        if devices % (data * h) == 0
    ]
