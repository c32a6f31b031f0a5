"""Which layer of one network is which of another, where Flax has numbered them by class.

Flax calls a module without a ``name=`` after its class and counts: ``Conv_0``, ``Conv_1``,
``Conv_2``. Where another class takes the place of the second, the same network has ``Conv_0``,
``LocalConv_0``, ``Conv_1``, and equal names are no longer equal layers. What both networks have in
common is the order in which layers are made: numbers of one class grow along it. So the layers of
one network are those of the other, dealt out to classes in order; of the ways to deal them, shapes
leave one, or it cannot be known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

NUMBERED = re.compile(r"(_*[A-Z]\w*?)_(\d+)")  # as Flax names modules: class and number
# What README puts in the place of what: these never stand for the other's.
TWINS = {
    "LocalConv": "Conv",
    "LocalConvTranspose": "ConvTranspose",
    "LocalDense": "Dense",
}
_MOST_STATES = 1_000  # of one length; more are not searched

Name = Any  # a key of a mapping, or an index


class Pairing(NamedTuple):
    """Which child of one node is which of another.

    Attributes:
      pairs: names in the source by names in the target.
      unclear: likewise, all that are possible, where there are several for some target; shapes
        and order do not tell.
    """

    pairs: dict[Name, Name]
    unclear: dict[Name, set[Name]]


def pair_layers(
    sources: Iterable[Name], targets: Iterable[Name], fits: Callable[[Name, Name], bool]
) -> Pairing:
    """Finds which layers of two networks are the same.

    Args:
      sources: names of a node's children in one network.
      targets: in the other.
      fits: called as ``fits(source, target)``; whether shapes agree.

    Returns:
      Pairs of equal names, and of numbered ones wherever the two have not the same numbers of a
      class. Names without partner are in no pair.

    Example:
      >>> width = {"Conv_0": 3, "Conv_1": 8, "Conv_2": 9}
      >>> local = {"Conv_0": 3, "Conv_1": 9, "LocalConv_0": 8}
      >>> pair_layers(width, local, lambda a, b: width[a] == local[b]).pairs
      {'Conv_0': 'Conv_0', 'Conv_1': 'Conv_2', 'LocalConv_0': 'Conv_1'}
    """
    sources, targets = list(sources), list(targets)
    old, new = _by_class(sources), _by_class(targets)
    renumbered = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    old, new = ({c: chain for c, chain in s.items() if c in renumbered} for s in (old, new))
    apart = {name for side in (old, new) for chain in side.values() for name in chain}
    if old.keys() == new.keys() and _count(old) != _count(new):  # a network of another depth
        return Pairing({name: name for name in targets if name in sources}, {})
    pairs = {name: name for name in targets if name in sources and name not in apart}
    if len(old) == len(new) == 1:  # one class in the place of one other
        (before,), (after,) = old.values(), new.values()
        possible = (
            {b: {a} for a, b in zip(before, after, strict=True)}
            if len(before) == len(after)
            else {}
        )
    else:
        possible = _possible_pairs(list(old.values()), list(new.values()), fits)
    unclear = {target: some for target, some in possible.items() if len(some) > 1}
    if not unclear:
        pairs |= {target: source for target, (source,) in possible.items()}
    return Pairing({name: pairs[name] for name in targets if name in pairs}, unclear)


def conv_names(names: Iterable[Name]) -> dict[Name, Name]:
    """The names that Flax gives to the layers of a convolutional network.

    Args:
      names: of a node's children in its LC twin.

    Returns:
      New names by old ones, ``Conv_0`` for ``LocalConv_0``; others stay as they are.

    Raises:
      ValueError: there are layers of both classes, which in a convolutional network have numbers
        that these do not tell.

    Example:
      >>> conv_names(["LocalConv_0", "BatchNorm_0"])
      {'LocalConv_0': 'Conv_0', 'BatchNorm_0': 'BatchNorm_0'}
    """
    names = list(names)
    classes = _by_class(names)
    renamed: dict[Name, Name] = {}
    for local, conv in TWINS.items():
        if local in classes and conv in classes:
            raise ValueError(
                f"{', '.join(classes[conv] + classes[local])} of one module, which Flax has"
                f" numbered by class, are all {conv} in a convolutional network: which numbers they"
                " have there, these names do not tell. Give like=, its parameters or their shapes"
                " by jax.eval_shape, or give the layers a name= that is the same in both networks."
            )
        renamed |= {name: name.replace(local, conv, 1) for name in classes.get(local, ())}
    return {name: renamed.get(name, name) for name in names}


def class_of(name: Name) -> str | None:
    """The class in a name that Flax made.

    Args:
      name: of a module.

    Returns:
      Its class, or None where the name is none of Flax's making.

    Example:
      >>> class_of("LocalConv_12"), class_of("conv1"), class_of("layer1_0")
      ('LocalConv', None, None)
    """
    found = NUMBERED.fullmatch(name) if isinstance(name, str) else None
    return found[1] if found else None


def _by_class(names: Iterable[Name]) -> dict[str, list[Name]]:
    """Names of each class in the order of their numbers, which need not be that of the names."""
    chains: dict[str, list[Name]] = {}
    for name in names:
        if (kind := class_of(name)) is not None:
            chains.setdefault(kind, []).append(name)
    for chain in chains.values():
        chain.sort(key=lambda name: int(name.rpartition("_")[2]))
    return chains


def _count(chains: dict[str, list[Name]]) -> int:
    return sum(map(len, chains.values()))


def _possible_pairs(
    sources: Sequence[Sequence[Name]],
    targets: Sequence[Sequence[Name]],
    fits: Callable[[Name, Name], bool],
) -> dict[Name, set[Name]]:
    """What each target may be, over all orders of layers that both sides' numbers allow.

    A state is how many layers of each class have been made so far. A pair is possible if it is a
    move on some way from none to all of them.

    Returns:
      Sources by target; nothing where there is no way.
    """
    chains = [*sources, *targets]
    total = sum(map(len, sources))
    if total != sum(map(len, targets)):
        return {}
    level: set[Any] = {(0,) * len(chains)}
    moves: list[dict[Any, list[tuple[Any, Name, Name]]]] = []
    for _ in range(total):
        step: dict[Any, list[tuple[Any, Name, Name]]] = {}
        for state in level:
            for after, source, target in _moves(state, chains, len(sources)):
                if _may_be(source, target) and fits(source, target):
                    step.setdefault(after, []).append((state, source, target))
        if len(step) > _MOST_STATES:
            names = {name for chain in sources for name in chain}
            return {target: names for chain in targets for target in chain}
        moves.append(step)
        level = set(step)
    possible: dict[Name, set[Name]] = {}
    for step in reversed(moves):  # from the end, where `level` is: only ways that lead there
        before = set()
        for state in level:
            for previous, source, target in step[state]:
                possible.setdefault(target, set()).add(source)
                before.add(previous)
        level = before
    return possible


def _moves(state: Any, chains: Sequence[Sequence[Name]], split: int) -> Iterable[Any]:
    """The next layer of each source class with that of each target class."""
    ready = [i for i, chain in enumerate(chains) if state[i] < len(chain)]
    for i in (i for i in ready if i < split):
        for j in (j for j in ready if j >= split):
            after = tuple(count + (at in (i, j)) for at, count in enumerate(state))
            yield after, chains[i][state[i]], chains[j][state[j]]


def _may_be(source: Name, target: Name) -> bool:
    """Whether one class can stand where the other does: Conv is no LocalDense."""
    one, other = str(class_of(source)), str(class_of(target))
    for local, conv in ((one, other), (other, one)):
        if local in TWINS and conv in TWINS.values():
            return TWINS[local] == conv
    return True
