"""``python -m jaxws NAME ...`` runs the command in jaxws/commands/NAME.py."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from jaxws.commands.flags import explain_unknown

COMMANDS = {
    "check": "whether every implementation computes the right numbers here, and how fast",
    "convergence": "Figs 4 and 5 of the paper: how dynamic weight sharing converges",
    "evaluate": "the scores of a checkpoint on a split of the data",
    "export": "parameters as safetensors or npz, readable without jaxws",
    "inspect": "the checkpoints of a run, whether they are whole, and their metrics",
    "prepare": "CIFAR-10, CIFAR-100, TinyImageNet or ImageNet for training",
    "preview": "a sheet of images as the network sees them, augmented, with labels",
    "report": "the plots and the page of a run, made anew",
    "theorem1": "the error of noisy weight sharing against the bound of Theorem 1",
}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
        sys.exit(2)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
      argv: arguments; those of the process if None.

    Returns:
      The exit status: 0, 2 for a mistake, which is told in one line, or 130 after an interrupt.
    """
    argv = sys.argv[1:] if argv is None else argv
    listing = "\n".join(f"  {name:<12}{what}" for name, what in COMMANDS.items())
    names = _Parser(
        prog="python -m jaxws",
        epilog=f"commands:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    name = names.parse_args(argv[:1]).command
    parser = _Parser(prog=f"python -m jaxws {name}", description=COMMANDS[name], allow_abbrev=False)
    parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
    command = importlib.import_module(f"jaxws.commands.{name}")  # the one that is used, no other
    command.add_arguments(parser)
    args, unknown = parser.parse_known_args(argv[1:])
    if unknown:
        parser.error(explain_unknown(unknown))
    try:
        return command.run(args)
    except (ValueError, OSError) as error:
        if args.debug:
            raise
        parser.error(str(error))
    except KeyboardInterrupt:
        print("\ninterrupted; the same command can be run again.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
