"""A state dict out of what tools make of one: checkpoints around it, prefixes, names beside it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxws.models.torch_weights.names import COUNTER, HEAD

# Parts of names that wrappers put in front of, or between, those of the network.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# Last parts of names that say nothing of the network: of BatchNorm, and of counting operations.
_IGNORED = {COUNTER, "total_ops", "total_params"}
# What others call the head and the shortcut's layers.
_HEADS = {HEAD, "linear", "classifier", "head", "last_linear"}
_SHORTCUT, _DOWNSAMPLE = ".shortcut.", ".downsample."
_DEEPEST = 4  # mappings within mappings

# A block has layers called as those of the network: its own name is no prefix.
_BLOCK = re.compile(r"(^|\.)layer\d+\.\d+\.$")


class State(NamedTuple):
    """The arrays of one network.

    Attributes:
      arrays: by name, without prefix, as torchvision has them.
      others: what is beside them under names without the prefix, with their whole names.
      prefix: that was found.
    """

    arrays: dict[str, np.ndarray]
    others: dict[str, Any]
    prefix: str


def read_state(
    checkpoint: Any, expected: Iterable[str], *, entry: str | None, prefix: str | None
) -> State:
    """Finds the arrays of a network.

    Args:
      checkpoint: a state dict, or nested mappings around one or several.
      expected: names that the network has in PyTorch.
      entry: where the state dict is, keys joined by slashes; None where there is one only.
      prefix: that the names have; None to find it. If given, others are left out.

    Returns:
      The arrays, as float32 where NumPy has not their dtype.

    Raises:
      ValueError: there is no state dict, there are several, or several prefixes; an array that
        cannot be read.

    Example:
      >>> kernel = np.ones((8, 3, 3, 3))
      >>> checkpoint = {"epoch": 3, "model": {"module.backbone.conv1.weight": kernel}}
      >>> state = read_state(checkpoint, ["conv1.weight"], entry=None, prefix=None)
      >>> list(state.arrays), state.prefix
      (['conv1.weight'], 'module.backbone.')
    """
    named = _without_notes(_state_dict(checkpoint, entry))
    expected = set(expected)
    counts = _prefixes(named, expected)
    others: dict[str, Any] = {}
    if prefix is None:
        prefix = _only(counts)
        others = {name: value for name, value in named.items() if not name.startswith(prefix)}
        named |= {f"{prefix}{new}": others.pop(old) for old, new in _head_beside(named, prefix)}
    elif prefix := _as_prefix(prefix):
        if not any(name.startswith(prefix) for name in named):
            begins = sorted({name.partition(".")[0] for name in named})
            raise ValueError(f"prefix={prefix!r}: no name begins so; they begin with {begins}.")
    else:  # of several networks, the one whose names have none
        rest = tuple(other for other in counts if other)
        named = {name: value for name, value in named.items() if not name.startswith(rest)}
    arrays = {
        name.removeprefix(prefix): _as_array(name, value)
        for name, value in named.items()
        if name.startswith(prefix)
    }
    return State(_called_as_expected(_pruned(arrays)), others, prefix)


def is_of_head(name: str) -> bool:
    """Whether an array belongs to a network's last layers, by whatever name.

    Args:
      name: without prefix.

    Returns:
      Whether it does.

    Example:
      >>> is_of_head("fc.2.weight"), is_of_head("layer1.0.conv1.weight")
      (True, False)
    """
    return name.partition(".")[0] in _HEADS


def _state_dict(checkpoint: Any, entry: str | None) -> Mapping[str, Any]:
    if not isinstance(checkpoint, Mapping) or not all(isinstance(n, str) for n in checkpoint):
        raise ValueError(
            f"state_dict is a {type(checkpoint).__name__}: expected a mapping from names to arrays,"
            " such as module.state_dict() of PyTorch, or the path of a file."
        )
    found = dict(_state_dicts(checkpoint, "", 0))
    if entry is not None:
        if entry not in found:
            raise ValueError(
                f"entry={entry!r}: no state dict is there; expected one of {list(found)}."
            )
        return found[entry]
    if len(found) > 1:
        raise ValueError(
            f"the checkpoint holds several state dicts, under {list(found)}: choose one, as in"
            f" entry={list(found)[-1]!r}."
        )
    if found:
        return next(iter(found.values()))
    if nested := [name for name, value in checkpoint.items() if isinstance(value, Mapping)]:
        raise ValueError(
            f"state_dict holds mappings under {nested}, none of which has weights: it looks like a"
            " checkpoint without its network."
        )
    return checkpoint


def _state_dicts(node: Any, path: str, depth: int) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """All mappings that hold weights, with where they are."""
    if not isinstance(node, Mapping) or depth > _DEEPEST:
        return
    if any(_is_weight(name, value) for name, value in node.items()):
        yield path, node
    for name, value in node.items():
        yield from _state_dicts(value, f"{path}/{name}".lstrip("/"), depth + 1)


def _is_weight(name: Any, value: Any) -> bool:
    last = name.rpartition(".")[2] if isinstance(name, str) else ""
    return last in ("weight", "weights", "weight_orig") and not isinstance(value, Mapping)


def _without_notes(state: Mapping[str, Any]) -> dict[str, Any]:
    """Drops wrappers' parts of names, counters, and what are no arrays of a layer."""
    kept = {}
    for name, value in state.items():
        is_note = "." not in name and not getattr(value, "shape", ())
        if name.rpartition(".")[2] not in _IGNORED and not is_note:
            kept[_without_wrappers(name)] = value
    return kept


def _without_wrappers(name: str) -> str:
    """Drops the parts that stand within a name; one at its beginning is a prefix like any other."""
    first, *rest = name.split(".")
    return ".".join([first, *(part for part in rest if part not in _WRAPPERS)])


def _as_prefix(prefix: str) -> str:
    dotted = _without_wrappers(prefix)
    return dotted if not dotted or dotted.endswith(".") else f"{dotted}."


def _prefixes(names: Collection[str], expected: set[str]) -> Counter[str]:
    """How many names are expected ones, by what comes before these."""
    ends: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        for at in range(len(parts)):
            if ".".join(parts[at:]) in expected:
                ends["".join(f"{part}." for part in parts[:at])] += 1
    whole = {prefix for prefix in ends if not _BLOCK.search(prefix)}
    if stages := [name for name in expected if name.startswith("layer")]:
        # Blocks of other networks have a conv1 and bn1 too.
        whole = {prefix for prefix in whole if any(f"{prefix}{name}" in names for name in stages)}
    return Counter({prefix: ends[prefix] for prefix in whole})


def _only(counts: Counter[str]) -> str:
    """The prefix of the only network that there is; its parts may be under others."""
    rivals = [prefix for prefix, n in counts.items() if 2 * n > max(counts.values())]
    if len(rivals) > 1:
        raise ValueError(
            f"the state dict holds several networks, whose names begin with {sorted(rivals)}:"
            f" choose one, as in prefix={rivals[0]!r}."
        )
    return rivals[0] if rivals else ""


def _head_beside(names: Iterable[str], prefix: str) -> list[tuple[str, str]]:
    """Names of a head that stands beside its backbone, with those that it has without prefix."""
    if any(is_of_head(name.removeprefix(prefix)) for name in names if name.startswith(prefix)):
        return []
    parts = prefix.split(".")[:-1]
    for length in reversed(range(len(parts))):
        above = "".join(f"{part}." for part in parts[:length])
        heads = [
            (name, name.removeprefix(above))
            for name in names
            if name.startswith(above) and is_of_head(name.removeprefix(above))
        ]
        if heads:
            return heads
    return []


def _as_array(name: str, value: Any) -> np.ndarray:
    try:
        if hasattr(value, "detach"):  # a tensor: NumPy knows neither gradients, GPUs nor bfloat16
            value = value.detach().cpu()
            value = value.float() if value.is_floating_point() else value
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"state_dict[{name!r}], a {type(value).__name__}, cannot be read as an array: {error}"
        ) from error


def _pruned(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Puts weights in the place of the two factors that torch.nn.utils.prune keeps of them."""
    whole = dict(arrays)
    for name in arrays:
        stem, mask = name.removesuffix("_orig"), f"{name.removesuffix('_orig')}_mask"
        if stem != name and stem not in arrays and mask in arrays:
            whole[stem] = whole.pop(name) * whole.pop(mask)
    return whole


def _called_as_expected(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Gives shortcuts and a head of one layer the names that torchvision has for them."""
    if not any(_DOWNSAMPLE in name for name in arrays):
        arrays = {name.replace(_SHORTCUT, _DOWNSAMPLE): array for name, array in arrays.items()}
    matrices = [name for name in arrays if is_of_head(name) and arrays[name].ndim == 2]
    if len(matrices) != 1:
        return arrays
    head = matrices[0].rpartition(".")[0]
    ours = {f"{head}.{leaf}": f"{HEAD}.{leaf}" for leaf in ("weight", "bias")}
    return {ours.get(name, name): array for name, array in arrays.items()}
