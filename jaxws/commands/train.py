"""``python -m jaxws train``, which train.py is too: from a command line to a trained network.

Flags and configuration are read and checked before JAX is imported, which takes seconds.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from jaxws.commands.flags import add_config_arguments, config_of
from jaxws.config import fields
from jaxws.config.checks import check_config
from jaxws.config.files import DIRECTORY
from jaxws.parallel.launch import add_launch_arguments, cluster_of
from jaxws.system.local_path import workdir_argument
from jaxws.system.text import one_line, say, size_text

if TYPE_CHECKING:
    from jaxws.training.run import Run

DEFAULT_CONFIG = "digits_lc_ws1"
DIVERGED = 3

_USAGE = """%(prog)s [--config=NAME] [--config.FIELD=VALUE ...] [--workdir=DIR] [--debug]
       %(prog)s [...] --compile_only --topology=KIND:SIZE [--json]"""
_MORE = f"""\
configurations:
  python -m jaxws configs lists those that come with jaxws. Their files are in
  {DIRECTORY}

fields:
  --config.FIELD=VALUE changes a field of the configuration, as in --config.seed=1
  --config.sharing.every=5; None unsets one that is unset by default. All fields, with their
  defaults and what they mean, are in
  {fields.__file__}

exit status:
  0         the run has reached its end, or its step is compiled
  2         a mistake, damage that needs a decision, a full disk, or a step that does not fit; one
            line says what
  3         the run has diverged
  75        stopped in order by SIGTERM or Ctrl-C, with a checkpoint; the same command goes on
            or another process of the run was lost, and the command goes on from the last checkpoint
  130, 143  ended at once by Ctrl-C or SIGTERM, before or after training or by a second one
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to a parser."""
    parser.usage, parser.epilog = _USAGE, _MORE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--helpfull", "--helpshort", action="help", help=argparse.SUPPRESS)
    add_config_arguments(parser, default=DEFAULT_CONFIG)
    parser.add_argument(
        "--workdir",
        type=workdir_argument,
        metavar="DIR",
        help="directory of the run, also gs://BUCKET/DIR (default: runs/ and the name of the"
        " configuration)",
    )
    parser.add_argument(
        "--compile_only",
        action="store_true",
        help="compile the step for --topology, which need not be here, and print what it takes",
    )
    parser.add_argument(
        "--topology", metavar="KIND:SIZE", help="for --compile_only, such as v5e:4x4 or h100:8"
    )
    parser.add_argument("--json", action="store_true", help="for --compile_only: print JSON")
    add_launch_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Trains.

    Args:
      args: of :func:`add_arguments`.

    Returns:
      The exit status: 0, 3 where the run has diverged or 75 where a signal has stopped it.

    Raises:
      ValueError: what is wrong with the configuration, the data or the directory.
      OSError: the disk has been full until the end.
    """
    if args.compile_only:
        return _compile_only(args)
    if args.topology or args.json:
        raise ValueError("--topology and --json are for --compile_only: add it, or leave them out.")
    if cluster := cluster_of(args, os.environ):
        from jaxws.parallel.together import run_together

        run_together(
            partial(_train, args),
            cluster,
            timeout=args.initialization_timeout,
            status_of={FloatingPointError: DIVERGED},
            debug=args.debug,
        )
    try:
        return _train(args)
    except FloatingPointError as error:
        if args.debug:
            raise
        say(f"error: {one_line(error)}", error=True)
        return DIVERGED


def _checked_config(args: argparse.Namespace) -> tuple[ConfigDict, str]:
    config, name = config_of(args)
    check_config(config)
    return config, name


def _compile_only(args: argparse.Namespace) -> int:
    config, name = _checked_config(args)
    from jaxws.commands.compile_only import compile_only

    if args.topology is None:
        raise ValueError("--compile_only needs --topology=KIND:SIZE, such as v5e:4x4 or h100:8.")
    return compile_only(config, name, args.topology, as_json=args.json)


def _train(args: argparse.Namespace) -> int:
    config, name = _checked_config(args)
    workdir = args.workdir or Path("runs") / name
    say(f"{name} in {workdir}: loading JAX and the data")
    from jaxws.parallel import processes
    from jaxws.records.provenance import given_command
    from jaxws.training.loop import train
    from jaxws.training.run import prepare
    from jaxws.training.signals import RESUMABLE, Stopped

    run = prepare(config, workdir)
    say(_headline(run))
    try:
        record = train(run)
    except Stopped as stopped:
        others = ", in this process and alike in the others" if processes.count() > 1 else ""
        say(f"{stopped}. To go on{others}: {shlex.join(given_command())}")
        return RESUMABLE
    if processes.is_first():
        _show(run, record, name)
    return 0


def _show(run: Run, record: Mapping[str, Any], name: str) -> None:
    """What the run has come to: on the terminal, and in its report."""
    from jaxws.paper.matching import paper_rows
    from jaxws.records.report import write_report
    from jaxws.records.run_directory import read_run
    from jaxws.records.run_facts import fact_rows
    from jaxws.records.summary import summary_rows
    from jaxws.system.terminal import print_table

    past, beside = read_run(run.workdir.path), paper_rows(run.config)
    write_report(past, beside)
    run.workdir.publish()
    print_table([*summary_rows(record), *fact_rows(past), *beside], title=name)
    place = run.workdir.place
    for plot in sorted(run.workdir.path.glob("*.png")):
        say(f"plot: {place}/{plot.name}")
    say(f"report: {place}/report.html")
    say(f"metrics: {place}/metrics.jsonl")


def _headline(run: Run) -> str:
    feed, verb = run.feed, "resuming" if run.workdir.resumed else "starting"
    n_reps = run.config.data.n_reps
    views = f", {fields.images_per_step(run.config)} images a step in {n_reps} views each"
    return (
        f"{verb} {run.workdir.place}\n{feed.name}: {feed.train_size} training and {feed.test_size}"
        f" {feed.test_kind} images, {'x'.join(map(str, feed.image_shape))} pixels to the network,"
        f" {len(feed.class_names)} classes{views if n_reps > 1 else ''}; {run.last_step} steps"
        f"{_devices(run)}{_weights(run)}"
    )


def _devices(run: Run) -> str:
    """How several devices are arranged, why, and what else there would be."""
    if run.mesh.size == 1:
        return ""
    if run.choice is None:
        sizes = "x".join(map(str, run.mesh.devices.shape))
        return f"\nmesh {sizes} (data x h x w), as config.mesh says"
    others = [f"{each.name} {size_text(each.sent)}" for each in run.choice.candidates[1:]]
    return f"\n{run.choice.reason} (others: {', '.join(others)})"


def _weights(run: Run) -> str:
    """Where weights come from, if not from the run itself."""
    if run.initial is not None:
        return f"\n{run.initial.line}"
    given = run.config.model.init_from
    # The file may be gone, and is not looked for.
    return f"\nweights: those of the run's checkpoint, not of {given}" if given else ""
