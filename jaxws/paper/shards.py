"""Shares of the runs of a command, for machines that do not see each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxws.paper.configs import row_config
from jaxws.paper.names import RunName
from jaxws.paper.slots import size_of_image


@dataclass(frozen=True)
class Shard:
    """One of several shares.

    Attributes:
      index: of the share, from 0.
      count: of all shares.
    """

    index: int
    count: int

    def __str__(self) -> str:
        """As on a command line."""
        return f"{self.index}/{self.count}"

    def of(self, names: Sequence[RunName]) -> tuple[RunName, ...]:
        """The runs in this share, which is the same for any order in which shares are done.

        Args:
          names: of all runs, with seeds.

        Returns:
          Some of them, in their order.

        Example:
          >>> from jaxws.paper.names import select
          >>> names = select(["table5/cifar10/conv", "table5/cifar10/lc-4reps"], seeds=[0, 1, 2])
          >>> [str(name) for name in Shard(0, 2).of(names)]
          ['table5/cifar10/lc-4reps/seed0', 'table5/cifar10/lc-4reps/seed2']
        """
        shares: list[list[RunName]] = [[] for _ in range(self.count)]
        sizes = [0.0] * self.count
        # Longest first, each to the smallest share: shares take about the same time.
        for group in sorted(groups(names), key=_size, reverse=True):
            smallest = sizes.index(min(sizes))
            shares[smallest] += group
            sizes[smallest] += _size(group)
        return tuple(name for name in names if name in set(shares[self.index]))


def parse_shard(text: str) -> Shard:
    """Reads a share.

    Args:
      text: such as ``'0/4'``.

    Returns:
      The share.

    Raises:
      ValueError: it is none.

    Example:
      >>> parse_shard("3/4")
      Shard(index=3, count=4)
      >>> parse_shard("4/4")
      Traceback (most recent call last):
      ValueError: '4/4': expected INDEX/COUNT, such as 0/4, 1/4, 2/4 and 3/4
    """
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise ValueError(f"{text!r}: expected INDEX/COUNT, such as 0/4, 1/4, 2/4 and 3/4")
    return Shard(int(index), int(count))


def groups(names: Sequence[RunName]) -> tuple[tuple[RunName, ...], ...]:
    """Runs that belong into one share: each alone, or with those that start from its network.

    Args:
      names: of all runs, with seeds.

    Returns:
      Groups, in the order of their first runs.
    """
    found: dict[RunName, list[RunName]] = {}
    for name in names:
        first = name.find().starts_from
        root = name._replace(experiment="table5", row=first) if first else name
        found.setdefault(root, []).append(name)
    return tuple(map(tuple, found.values()))


def _size(group: Sequence[RunName]) -> float:
    """How long runs take, in no unit, the same on all machines: values of the first layer."""
    configs = map(row_config, group)
    return sum(c.epochs * c.data.train_fraction * c.data.n_reps * size_of_image(c) for c in configs)
