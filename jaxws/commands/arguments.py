"""Arguments that several commands take."""

from __future__ import annotations

import argparse
from pathlib import Path

from ml_collections import ConfigDict

from jaxws.config.trust import check_trusted
from jaxws.records.run_directory import RunDirectory, read_run
from jaxws.system.local_path import path_argument, path_text


def add_workdir(parser: argparse.ArgumentParser) -> None:
    """Adds the directory of a run, which :func:`run_of` reads.

    Args:
      parser: of a command.
    """
    parser.add_argument("workdir", metavar="WORKDIR", type=path_argument, help="directory of a run")


def run_of(args: argparse.Namespace) -> RunDirectory:
    """The run that was asked for.

    Args:
      args: with the argument of :func:`add_workdir`.

    Returns:
      What the run left so far. Its lock is not taken: it may go on meanwhile.

    Raises:
      ValueError: there is no run, or the command would run code that the user did not name.
    """
    run = read_run(args.workdir)
    if hasattr(args, "trust"):
        check_trusted(run.config, args.trust, f"{args.workdir}/config.json")
    return run


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Adds ``--trust``, without which :func:`run_of` refuses runs that name code of their own.

    Args:
      parser: of a command that makes the network of a run.
    """
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="MODULE",
        help="run this module, which the run names for its network or sharing rule (module:NAME);"
        " may be given again for another one",
    )


def add_data_place(parser: argparse.ArgumentParser) -> None:
    """Adds where a run's data are now, which :func:`move_data` notes.

    Args:
      parser: of a command that reads them.
    """
    # Under the names of fields too, as messages and the command line of train have them.
    parser.add_argument(
        *("--data_path", "--config.data.path"),
        metavar="FOLDER",
        type=path_text,
        help="the run's folder of images, if it is no longer where it was",
    )
    parser.add_argument(
        *("--data_dir", "--config.data.data_dir"),
        metavar="DIR",
        type=path_text,
        help="where prepared data sets are, if they are no longer there",
    )


def move_data(config: ConfigDict, args: argparse.Namespace) -> None:
    """Makes a run's configuration read its data from where they are now.

    Args:
      config: is changed.
      args: with those of :func:`add_data_place`.
    """
    if args.data_path is not None:
        config.data.path = args.data_path
    if args.data_dir is not None:
        config.data.data_dir = args.data_dir


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds ``--json``.

    Args:
      parser: of a command.
    """
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")


def add_step(parser: argparse.ArgumentParser) -> None:
    """Adds ``--step``, which :func:`jaxws.checkpointing.directory.checkpoint_dir` takes.

    Args:
      parser: of a command.
    """
    parser.add_argument(
        "--step", type=int, metavar="N", help="the checkpoint of this step; by default the newest"
    )


def add_out(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds ``--out``, which :func:`check_out` checks.

    Args:
      parser: of a command.
      what: is written.
    """
    parser.add_argument("--out", required=True, type=path_argument, metavar="FILE", help=what)


def check_out(out: Path, suffixes: tuple[str, ...]) -> None:
    """Checks the name of a file before work is done for it.

    Args:
      out: the file.
      suffixes: that it may have.

    Raises:
      ValueError: it has another one, or its directory is missing.
    """
    if out.suffix.lower() not in suffixes:
        raise ValueError(f"--out={out}: expected a file that ends in {' or '.join(suffixes)}.")
    if not out.parent.is_dir():
        raise ValueError(f"--out={out}: there is no directory {out.parent}; make it.")


def add_out_directory(parser: argparse.ArgumentParser) -> None:
    """Adds ``--out``, which :func:`check_out_directory` checks.

    Args:
      parser: of a command.
    """
    parser.add_argument(
        "--out",
        type=path_argument,
        default=Path(),
        metavar="DIR",
        help="directory to write to (default: .)",
    )


def check_out_directory(out: Path) -> None:
    """Checks a directory before work is done for it.

    Args:
      out: the directory.

    Raises:
      ValueError: it is missing.
    """
    if not out.is_dir():
        raise ValueError(f"--out={out}: there is no such directory; make it.")
