"""Trains a network of the paper.

   $ python train.py                                          # digits, LC with weight sharing
   $ python train.py --config configs/cifar10_lc_ws1.py --config.data.path=/data/cifar10
   $ python train.py --config configs/digits_lc.py --config.seed=1 --workdir=runs/digits_lc_1

The same command resumes a run that was stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path

from jaxws.huge_pages import restart_with_huge_pages

if __name__ == "__main__":
    restart_with_huge_pages()  # before the imports that take seconds

from absl import app, flags, logging
from ml_collections import config_flags
from rich.console import Console
from rich.table import Table

from jaxws.config import base_config, flat_fields, unknown_field
from jaxws.loop import train
from jaxws.progress import summary_rows
from jaxws.run import Run, prepare

DEFAULT_CONFIG = str(Path(__file__).parent / "configs" / "digits_lc_ws1.py")

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "File of the experiment to run; by default configs/digits_lc_ws1.py."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the run; by default runs/ and the name of the config file."
)
_DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of errors.")


def main(argv: list[str]) -> None:
    """Runs one experiment."""
    if len(argv) > 1:
        _fail(f"unexpected argument {argv[1]!r}: flags start with --, as in --config=FILE.")
    config = _CONFIG.value
    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    workdir = _WORKDIR.value or f"runs/{name}"
    console = Console()
    try:
        run = prepare(config, workdir)
        console.print(_headline(run), highlight=False, soft_wrap=True)
        record = train(run)
    except (ValueError, FloatingPointError, OSError) as error:
        if _DEBUG.value:
            raise
        _fail(str(error))
    except KeyboardInterrupt:
        print(
            f"\ninterrupted: the same command goes on in {workdir} from the last epoch that ended."
        )
        sys.exit(130)
    table = Table(title=name, show_header=False)
    for row in summary_rows(record):
        table.add_row(*row)
    console.print(table)
    for plot in sorted(run.workdir.path.glob("*.png")):
        print(f"plot: {plot}")
    print(f"metrics: {run.workdir.path / 'metrics.jsonl'}")


def _headline(run: Run) -> str:
    feed, verb = run.feed, "resuming" if run.workdir.resumed else "starting"
    return (
        f"{verb} {run.workdir.path}\n{feed.name}: {feed.train_size} training and {feed.test_size}"
        f" test images of {'x'.join(map(str, feed.image_shape))},"
        f" {len(feed.class_names)} classes; {run.last_step} steps"
    )


def _fail(message: str) -> None:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(2)


def _parse_flags(argv: list[str]) -> list[str]:
    """Parses flags; what is wrong with them or the config file is one line, no traceback."""
    path = argv[1].partition("=")[2]
    try:
        rest = flags.FLAGS(argv)
        config = _CONFIG.value
        list(flat_fields(config))  # a file that failed to load may say so only when looked at
    except Exception as error:
        if "--debug" in argv:
            raise
        cause = _first_cause(error)
        if "[Errno 2]" in str(cause):
            _fail(f"--config={path}: no such file; see configs/ for the ones that there are.")
        if isinstance(error, flags.Error) and "Traceback" not in str(error):
            _fail(str(error))
        if unknown := _unknown_override(argv):
            _fail(unknown)
        where = f", line {cause.lineno}" if isinstance(cause, SyntaxError) else ""
        _fail(
            f"config file {path}{where}: {type(cause).__name__}: {cause} (--debug shows the"
            " traceback)"
        )
    return rest


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return error


def _unknown_override(argv: list[str]) -> str | None:
    """Finds which --config.field=value names a field that does not exist."""
    prefix = "--config."
    known = [name for name, _ in flat_fields(base_config())]
    for argument in argv[1:]:
        key = argument.removeprefix(prefix).split("=", 1)[0]
        if argument.startswith(prefix) and key not in known:
            return unknown_field(key, known)
    return None


def _config_first(argv: list[str]) -> list[str]:
    """Puts --config in front, or its default: ml_collections wants it before --config.field."""
    rest, chosen = [], []
    arguments = iter(argv[1:])
    for argument in arguments:
        name, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == "config":
            chosen.append(value if equals else next(arguments, ""))
        else:
            rest.append(argument)
    if len(chosen) > 1:
        _fail("--config is given more than once: " + ", ".join(chosen) + ".")
    return [argv[0], f"--config={chosen[0] if chosen else DEFAULT_CONFIG}", *rest]


if __name__ == "__main__":
    logging.set_verbosity(logging.WARNING)
    sys.argv[:] = _config_first(sys.argv)  # in place: ml_collections keeps the list itself
    app.run(main, flags_parser=_parse_flags)
