"""`python -m jaxws NAME ...`: the commands in `jaxws/commands`.

$ python -m jaxws prepare cifar10
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from typing import NoReturn

from jaxws import commands


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Prints one line instead of the usage and one line."""
        print(f"error: {message} (--help shows the arguments)", file=sys.stderr)
        sys.exit(2)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
      argv: the arguments, without the name of the program.

    Returns:
      The exit code: 0, 2 for an error of the user, 130 after an interrupt.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    names = sorted(module.name for module in pkgutil.iter_modules(commands.__path__))
    name = next((word for word in arguments if not word.startswith("-")), None)
    parser = _Parser(prog="python -m jaxws", description="Commands of jaxws.")
    parsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    module = None
    for known in names:
        # The others stay unimported: some take seconds.
        if known == name:
            module = importlib.import_module(f"jaxws.commands.{known}")
            command = parsers.add_parser(known, description=module.__doc__)
            command.add_argument("--debug", action="store_true", help="show tracebacks")
            module.add_arguments(command)
        else:
            parsers.add_parser(known)
    args = parser.parse_args(arguments)
    assert module is not None
    try:
        return module.run(args)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command can be run again.", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        if args.debug:
            raise
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
