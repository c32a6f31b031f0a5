"""The network that a command takes: of a run, of a file that export wrote, or a published one."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxws import data
from jaxws.checkpointing.directory import checkpoint_dir
from jaxws.checkpointing.weights import read_weights
from jaxws.commands.arguments import run_of
from jaxws.config.checks import check_config
from jaxws.config.fields import flat_fields
from jaxws.config.identity import comparable_facts, place_of_data
from jaxws.config.registry import add_own_fields
from jaxws.models import Loaded, load
from jaxws.records.run_directory import RunDirectory
from jaxws.records.summary import metric_means
from jaxws.system.local_path import path_argument


class Network(NamedTuple):
    """Weights, and what they were trained on.

    Attributes:
      where: it was found, for JSON: ``workdir``, or ``file`` and ``name``.
      title: what people call it.
      step: of training.
      config: of its run.
      dataset: facts that tell the run's data from others.
      weights: ``params`` and ``batch_stats``.
      published: loss and accuracies on the images that the run was tested on, as the file gives
        them; empty for a run's directory, whose report has them.
    """

    where: dict[str, str]
    title: str
    step: int
    config: ConfigDict
    dataset: dict[str, Any]
    weights: Mapping[str, Any]
    published: Mapping[str, float | None]


def add_network(parser: argparse.ArgumentParser) -> None:
    """Adds what :func:`network_of` finds.

    Args:
      parser: of a command.
    """
    parser.add_argument(
        "workdir",
        metavar="NETWORK",
        type=path_argument,
        help="directory of a run, a file that python -m jaxws export wrote, or a published network"
        " such as small/lc-ws1",
    )


def network_of(args: argparse.Namespace) -> Network:
    """The network that was asked for.

    Args:
      args: with those of :func:`add_network` and of ``add_trust`` and ``add_step``.

    Returns:
      The network.

    Raises:
      ValueError: there is none, it is damaged, or it names code that the user did not name.
    """
    if args.workdir.is_dir():
        return network_of_run(run_of(args), args.step)
    loaded = load(args.workdir, args.trust)
    if args.step not in (None, loaded.info["step"]):
        raise ValueError(
            f"--step={args.step}: {args.workdir} has the weights of step {loaded.info['step']}"
            " alone; leave out --step."
        )
    return _network_of_file(loaded)


def network_of_run(past: RunDirectory, step: int | None) -> Network:
    """That of a checkpoint.

    Args:
      past: its run.
      step: of the checkpoint; None for the newest.

    Returns:
      The network.

    Raises:
      ValueError: there is no such checkpoint, or it is damaged.
    """
    directory = checkpoint_dir(past.checkpoints, step)
    return Network(
        where={"workdir": str(past.path)},
        title=past.path.name,
        step=int(directory.name),
        config=past.config,
        dataset=past.dataset,
        weights=read_weights(directory),
        published={},
    )


def feed_of(config: ConfigDict, dataset: Mapping[str, Any]) -> data.Feed:
    """The data that a network was trained on, as they are now.

    Args:
      config: of its run; fields of its own are added.
      dataset: facts that tell the run's data from others.

    Returns:
      What batches are made of.

    Raises:
      ValueError: something is wrong with the configuration, or these are other data.
    """
    add_own_fields(config)
    check_config(config)  # it may be of somebody else
    feed = data.build_feed(config)
    if changed := _changed(dataset, feed.fingerprint()):
        here = place_of_data(dict(flat_fields(config)))
        raise ValueError(
            f"{here}: the data are not those of the run ({changed}): nothing was computed. Give the"
            " place of those by --data_path or --data_dir."
        )
    return feed


def _changed(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    there, here = comparable_facts(there, here)
    keys = [key for key in sorted(there.keys() | here.keys()) if there.get(key) != here.get(key)]
    return "; ".join(f"{key}: {there.get(key)!r} then, {here.get(key)!r} now" for key in keys)


def _network_of_file(loaded: Loaded) -> Network:
    info, means = loaded.info, metric_means(loaded.info["metrics"], "test_")
    named = {"name": info["name"]} if info["name"] else {}
    return Network(
        where={"file": info["path"], **named},
        title=info["name"] or info["path"],
        step=info["step"],
        config=loaded.config,
        dataset=info["dataset"],
        weights={"batch_stats": {}, **loaded.variables},
        published={name.removeprefix("test_"): value for name, value in means.items()},
    )
