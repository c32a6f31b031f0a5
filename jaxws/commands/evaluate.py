"""``python -m jaxws evaluate``: scores a network on a split of the data of its run.

Every image counts once, without augmentation, normalised as in training.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxws import data
from jaxws.commands.arguments import (
    add_data_place,
    add_json,
    add_step,
    add_trust,
    move_data,
)
from jaxws.commands.networks import Network, add_network, feed_of, network_of, network_of_run
from jaxws.commands.share_effect import (
    DISTANCE,
    EFFECT_HEAD,
    distance_to_shared,
    effect_rows,
    shared_already,
)
from jaxws.config.registry import SHARING_RULES, add_own_fields
from jaxws.core.partitioning import one_device
from jaxws.models.build import build_model
from jaxws.records.run_directory import RunDirectory
from jaxws.records.summary import metric_label, metric_text
from jaxws.system.terminal import print_table
from jaxws.system.text import say
from jaxws.training import weight_sharing
from jaxws.training.compilation_cache import keep_programs
from jaxws.training.evaluation import score
from jaxws.training.metrics import IMAGES, METRICS, means

_SPLITS = ("test", "train", "validation")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to a parser."""
    add_network(parser)
    add_trust(parser)
    add_step(parser)
    parser.add_argument(
        "--split",
        choices=_SPLITS,
        help="images to score on; by default those that the run itself was tested on",
    )
    add_data_place(parser)
    parser.add_argument(
        "--share",
        metavar="RULE",
        help="share weights once before scoring: instant, or any other rule that"
        " config.sharing.mode may name; the checkpoint stays as it is",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the scores.

    Args:
      args: of :func:`add_arguments`.

    Returns:
      0.

    Raises:
      ValueError: there is no such network, checkpoint or split, or the data are others.
    """
    if args.share is not None:  # a wrong name is told at once; what the user names may be run
        SHARING_RULES.load(args.share, given_as="--share")
    network = network_of(args)
    move_data(network.config, args)
    scores = score_network(network, split=args.split, share=args.share)
    if args.json:
        print(json.dumps(scores, indent=1))
        return 0
    title = f"{network.title}, step {scores['step']}"
    if args.share:
        _show_effect(title, scores)
        return 0
    _show_scores(title, scores)
    return 0


def _show_scores(title: str, scores: dict[str, Any]) -> None:
    published = scores.get("published", {})

    def row(name: str) -> tuple[str, ...]:
        beside = (metric_text(name, published[name]),) if name in published else ()
        return (metric_label(name), metric_text(name, scores[name]), *beside)

    rows = [("split", scores["split"]), ("images", scores["images"]), *map(row, METRICS)]
    head = ("", "scored now", "published") if published else ()
    print_table(rows, title=title, head=head, last_is_text=False)


def _show_effect(title: str, scores: dict[str, Any]) -> None:
    split = f"{scores['split']}, {scores['images']} images"
    caption = f"{title}; weights shared once: {scores['share']}; {split}"
    rows = effect_rows(scores, list(METRICS))
    print_table(rows, title=caption, head=EFFECT_HEAD, last_is_text=False)
    if shared_already(scores):
        say(
            "The weights were shared already (differences between neurons of a pool are rounding):"
            " there was nothing for this to change."
        )


def evaluate(
    past: RunDirectory, step: int | None = None, split: str | None = None, share: str | None = None
) -> dict[str, Any]:
    """Scores a checkpoint.

    Args:
      past: its run.
      step: of the checkpoint; None for the newest.
      split: ``'test'``, ``'train'`` (those trained on) or ``'validation'`` (training images that a
        run with ``data.split='tuning'`` held out); None for what the run was tested on.
      share: to share weights first, the name of a rule, such as ``'instant'`` or ``'sleep'``, see
        :data:`jaxws.config.registry.SHARING_RULES`.

    Returns:
      What can be written as JSON: ``step``, ``split``, ``share``, number of ``images``,
      and the mean of each of :data:`jaxws.training.metrics.METRICS`; with ``share`` also
      ``distance_to_shared`` (:mod:`jaxws.commands.share_effect`), and both ``before`` sharing.

    Raises:
      ValueError: there is no such checkpoint, split or rule, the data are others, or there is
        nothing to share.
    """
    return score_network(network_of_run(past, step), split, share)


def score_network(
    network: Network, split: str | None = None, share: str | None = None
) -> dict[str, Any]:
    """As :func:`evaluate`, for any network.

    Args:
      network: of a run or file.
      split: as there.
      share: as there.

    Returns:
      As there. Networks of files have ``file`` in place of ``workdir``, ``name`` if they are
      published, and ``published``, their means as the file gives them, where the split is that.

    Raises:
      ValueError: as there.
    """
    if share is not None:
        SHARING_RULES.load(share, given_as="--share")  # a wrong name is told at once
    config, weights = network.config, network.weights
    feed = feed_of(config, network.dataset)
    split = split or feed.test_kind
    model = build_model(config.model, len(feed.class_names))
    keep_programs(config.compilation_cache)
    prefetch, pools = config.data.prefetch, config.sharing.pools

    def measure(params: Any) -> tuple[Any, dict[str, Any]]:
        sums = score(
            params,
            weights["batch_stats"],
            inputs=_inputs(config, feed, split),
            batching=feed.batching,
            model=model,
            prefetch=prefetch,
        )
        distance = {} if share is None else {DISTANCE: distance_to_shared(params, pools)}
        return sums, {**means(sums), **distance}

    before = {}
    with one_device():
        params = weights["params"]
        if share is not None:
            shared = _shared(config, feed, model, params, share)
            before, params = {"before": measure(params)[1]}, shared
        sums, found = measure(params)
    as_tested = network.published and share is None and split == feed.test_kind
    published = {"published": {name: network.published.get(name) for name in METRICS}}
    return {
        **network.where,
        "step": network.step,
        "split": split,
        "share": share,
        "images": round(sums[IMAGES]),
        **found,
        **before,
        **(published if as_tested else {}),
    }


def _shared(config: ConfigDict, feed: data.Feed, model: Any, params: Any, mode: str) -> Any:
    """Shares weights once, with the numbers of the run's configuration."""
    if config.model.connectivity == "conv":
        raise ValueError(
            f"--share={mode}: the run's network shares its weights already"
            " (config.model.connectivity='conv')."
        )
    config = config.copy_and_resolve_references()
    config.sharing.mode, config.sharing.every = mode, 1
    add_own_fields(config)
    sharing = weight_sharing.make_sharing(config, model, feed.image_shape, feed.steps_per_epoch)
    return jax.jit(lambda p: weight_sharing.share(p, 0, sharing))(params)


def _inputs(config: ConfigDict, feed: data.Feed, split: str) -> Any:
    """What the run's feed makes batches of; it alone normalises."""
    if split == "train":
        return feed.eval_inputs("train")
    if split == feed.test_kind:
        return feed.eval_inputs()
    if split == "validation":
        raise ValueError(
            "--split=validation: this run held no images out (config.data.split='final'); use"
            " --split=test or train."
        )
    final = config.copy_and_resolve_references()
    final.data.split, final.data.train_fraction = "final", 1.0
    return data.build_feed(final).eval_inputs()
