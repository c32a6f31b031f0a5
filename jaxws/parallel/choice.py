"""Which mesh a run takes if it is not told: the one whose devices send least, by arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxws.core.islands.layout import AXES
from jaxws.parallel.wire import Network, Step, state_bytes, traffic

HEAD = ("mesh", "GB sent per step", "weights and moments, GB")
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
        return self.name, f"{self.sent / 1e9:.3f}", f"{self.state / 1e9:.2f}"


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
    given: Mapping[str, int | None] | None = None,
) -> Choice:
    """Chooses the mesh that sends least; data parallelism unless another one is clearly better.

    Args:
      devices: number of them.
      network: what is trained.
      step: how.
      moments: that the optimizer keeps per parameter.
      given: sizes of axes that are not to be chosen.

    Returns:
      The choice. Of meshes that send as much, it is the one with the largest data axis.

    Raises:
      ValueError: there is no mesh of so many devices with the given sizes.

    Example:
      >>> choose_mesh(4, Network((), plain=100), Step(images=8, itemsize=4), moments=2).reason
      'mesh 4x1x1 (data x h x w): there is no locally connected layer to split'
    """
    pooled = step.every == 1
    candidates = [
        Candidate(
            tuple(sizes.values()),
            traffic(network, sizes, step).total,
            state_bytes(network, sizes, moments=moments, pooled=pooled),
        )
        for sizes in _meshes(devices, given or {})
    ]
    ordered = sorted(candidates, key=lambda c: (round(c.sent), [-size for size in c.sizes]))
    plain = next((c for c in candidates if c.is_data_parallel), None)
    best = ordered[0]
    if plain is not None and best.sent > (1 - _WORTH_SPLITTING) * plain.sent:
        best = plain
    # Of meshes that differ in nothing but names, as 1x4x2 and 1x2x4, one is enough.
    distinct = {(round(c.sent), c.state): c for c in reversed(ordered)}
    rest = [c for c in ordered if c in distinct.values() and c is not best]
    shown = rest[: _MOST_ROWS - 1]
    if plain is not None and plain is not best and plain not in shown:
        shown[-1:] = [plain]
    reason = _reason(best, ordered[0], plain, network)
    sizes = dict(zip(AXES, best.sizes, strict=True))
    return Choice(sizes, f"mesh {best.name} (data x h x w): {reason}", (best, *shown))


def _reason(best: Candidate, least: Candidate, plain: Candidate | None, network: Network) -> str:
    def gigabytes(candidate: Candidate) -> str:
        return f"{candidate.sent / 1e9:.3f} GB"

    if math.prod(best.sizes) == 1:
        return "one device"
    if best is plain and not network.layers:
        return "there is no locally connected layer to split"
    if plain is None:
        return f"a device sends {gigabytes(best)} per step, the least with the sizes that are set"
    if best is least:
        other = "" if best is plain else f"; data parallel: {gigabytes(plain)}"
        return f"a device sends {gigabytes(best)} per step, the least of all meshes{other}"
    saved = 1 - least.sent / best.sent
    return (
        f"data parallel, a device sends {gigabytes(best)} per step; {least.name} would save"
        f" {saved:.0%} of it, and layers are split for {_WORTH_SPLITTING:.0%} at least"
    )


def _meshes(devices: int, given: Mapping[str, int | None]) -> Sequence[dict[str, int]]:
    """All meshes of so many devices with the given sizes, those with most data first."""
    divisors = [n for n in range(devices, 0, -1) if devices % n == 0]
    meshes = [
        dict(zip(AXES, (data, h, devices // (data * h)), strict=True))
        for data in divisors
        for h in divisors
        if devices % (data * h) == 0
    ]
    fixed = {name: size for name, size in given.items() if size is not None}
    found = [m for m in meshes if all(m[name] == size for name, size in fixed.items())]
    if not found:
        sizes = ", ".join(f"config.mesh.{name}={size}" for name, size in fixed.items())
        raise ValueError(
            f"{sizes}: expected divisors of {devices}, the number of devices, of which data * h * w"
            " is made; unset them to have a mesh chosen."
        )
    return found
