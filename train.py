"""Trains a network of the paper.

   $ python train.py                                          # digits, LC with weight sharing
   $ python train.py --config configs/cifar10_lc_ws1.py --config.data.path=/data/cifar10
   $ python train.py --config configs/digits_lc.py --config.seed=1 --workdir=runs/digits_lc_1

The same command resumes a run that was stopped. Exit status: 0 at the end of the run; 75 after an
orderly stop, by SIGTERM or Ctrl-C, with a checkpoint; 2 for a mistake or a full disk; 3 for a run
that has diverged. docs/reliability.md has more.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import NoReturn

from jaxws.huge_pages import restart_with_huge_pages

if __name__ == "__main__":
    restart_with_huge_pages()  # before the imports that take seconds

from absl import app, flags, logging
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from jaxws.commands.flags import parse_config
from jaxws.loop import train
from jaxws.past_run import read_run
from jaxws.progress import summary_rows
from jaxws.report import write_report
from jaxws.run import Run, prepare
from jaxws.signals import RESUMABLE, Stopped

DIVERGED = 3
DEFAULT_CONFIG = str(Path(__file__).parent / "configs" / "digits_lc_ws1.py")

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the run; by default runs/ and the name of the config file."
)
_DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of errors.")


def main(parsed: tuple[ConfigDict, str, list[str]]) -> None:
    """Runs one experiment."""
    config, file, rest = parsed
    if rest:
        _fail(f"unexpected argument {rest[0]!r}: flags start with --, as in --config=FILE.")
    name = Path(file).stem
    workdir = _WORKDIR.value or f"runs/{name}"
    console = Console()
    try:
        run = prepare(config, workdir)
        console.print(_headline(run), highlight=False, soft_wrap=True)
        record = train(run)
        write_report(read_run(run.workdir.path))
    except Stopped as stopped:
        print(f"{stopped}. To go on: {shlex.join([Path(sys.executable).name, *sys.argv])}")
        sys.exit(RESUMABLE)
    except (ValueError, FloatingPointError, OSError) as error:
        if _DEBUG.value:
            raise
        _fail(str(error), DIVERGED if isinstance(error, FloatingPointError) else 2)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command can be given again.", file=sys.stderr)
        sys.exit(130)
    table = Table(title=name, show_header=False)
    for row in summary_rows(record):
        table.add_row(*row)
    console.print(table)
    for plot in sorted(run.workdir.path.glob("*.png")):
        print(f"plot: {plot}")
    print(f"report: {run.workdir.path / 'report.html'}")
    print(f"metrics: {run.workdir.path / 'metrics.jsonl'}")


def _headline(run: Run) -> str:
    feed, verb = run.feed, "resuming" if run.workdir.resumed else "starting"
    n_reps = run.config.data.n_reps
    views = "" if n_reps == 1 else f", {n_reps} views of each in a batch"
    return (
        f"{verb} {run.workdir.path}\n{feed.name}: {feed.train_size} training and {feed.test_size}"
        f" {feed.test_kind} images, {'x'.join(map(str, feed.image_shape))} pixels to the network,"
        f" {len(feed.class_names)} classes{views}; {run.last_step} steps"
    )


def _fail(message: str, status: int = 2) -> NoReturn:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(status)


def _parse_flags(argv: list[str]) -> tuple[ConfigDict, str, list[str]]:
    """Parses flags; what is wrong with them or the config file is one line, no traceback."""
    try:
        return parse_config(argv[1:], default=DEFAULT_CONFIG, flag_values=flags.FLAGS)
    except ValueError as error:
        if "--debug" in argv:
            raise
        _fail(str(error))


if __name__ == "__main__":
    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=_parse_flags)
