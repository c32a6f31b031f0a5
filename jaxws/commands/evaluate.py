"""``python -m jaxws evaluate``: scores a checkpoint on a split of its run's data.

Every image counts once, without augmentation, normalised as in training.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import jax

from jaxws import data
from jaxws.checkpointing.directory import checkpoint_dir
from jaxws.checkpointing.weights import read_weights
from jaxws.commands.arguments import (
    add_data_place,
    add_json,
    add_step,
    add_trust,
    add_workdir,
    move_data,
    run_of,
)
from jaxws.commands.share_effect import (
    DISTANCE,
    EFFECT_HEAD,
    distance_to_shared,
    effect_rows,
    shared_already,
)
from jaxws.config.checks import check_config
from jaxws.config.fields import flat_fields
from jaxws.config.identity import comparable_facts, place_of_data
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
    add_workdir(parser)
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
      ValueError: there is no such run, checkpoint or split, or the data are others.
    """
    if args.share is not None:  # a wrong name is told at once; what the user names may be run
        SHARING_RULES.load(args.share, given_as="--share")
    past = run_of(args)
    move_data(past, args)
    scores = evaluate(past, step=args.step, split=args.split, share=args.share)
    if args.json:
        print(json.dumps(scores, indent=1))
        return 0
    title = f"{past.path.name}, step {scores['step']}"
    if args.share:
        _show_effect(title, scores)
        return 0
    rows = [
        ("split", scores["split"]),
        ("images", scores["images"]),
        *((metric_label(name), metric_text(name, scores[name])) for name in METRICS),
    ]
    print_table(rows, title=title)
    return 0


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
    if share is not None:
        SHARING_RULES.load(share, given_as="--share")  # a wrong name is told at once
    add_own_fields(past.config)
    check_config(past.config)  # the directory may be of somebody else
    directory = checkpoint_dir(past.checkpoints, step)
    feed = data.build_feed(past.config)
    if changed := _changed(past.dataset, feed.fingerprint()):
        here = place_of_data(dict(flat_fields(past.config)))
        raise ValueError(
            f"{here}: the data are not those of the run ({changed}): nothing was scored. Give the"
            " place of those by --data_path or --data_dir."
        )
    split = split or feed.test_kind
    model = build_model(past.config.model, len(feed.class_names))
    weights = read_weights(directory)
    keep_programs(past.config.compilation_cache)
    prefetch, pools = past.config.data.prefetch, past.config.sharing.pools

    def measure(params: Any) -> tuple[Any, dict[str, Any]]:
        sums = score(
            params,
            weights["batch_stats"],
            inputs=_inputs(past, feed, split),
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
            shared = _shared(past, feed, model, params, share)
            before, params = {"before": measure(params)[1]}, shared
        sums, found = measure(params)
    return {
        "workdir": str(past.path),
        "step": int(directory.name),
        "split": split,
        "share": share,
        "images": round(sums[IMAGES]),
        **found,
        **before,
    }


def _shared(past: RunDirectory, feed: data.Feed, model: Any, params: Any, mode: str) -> Any:
    """Shares weights once, with the numbers of the run's configuration."""
    if past.config.model.connectivity == "conv":
        raise ValueError(
            f"--share={mode}: the run's network shares its weights already"
            " (config.model.connectivity='conv')."
        )
    config = past.config.copy_and_resolve_references()
    config.sharing.mode, config.sharing.every = mode, 1
    add_own_fields(config)
    sharing = weight_sharing.make_sharing(config, model, feed.image_shape, feed.steps_per_epoch)
    return jax.jit(lambda p: weight_sharing.share(p, 0, sharing))(params)


def _inputs(past: RunDirectory, feed: data.Feed, split: str) -> Any:
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
    final = past.config.copy_and_resolve_references()
    final.data.split, final.data.train_fraction = "final", 1.0
    return data.build_feed(final).eval_inputs()


def _changed(there: dict[str, Any], here: dict[str, Any]) -> str:
    there, here = comparable_facts(there, here)
    keys = [key for key in sorted(there.keys() | here.keys()) if there.get(key) != here.get(key)]
    return "; ".join(f"{key}: {there.get(key)!r} then, {here.get(key)!r} now" for key in keys)
