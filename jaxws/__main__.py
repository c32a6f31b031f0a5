"""``python -m jaxws NAME ...``, or ``jaxws NAME ...``, runs the command in commands/NAME.py."""

from __future__ import annotations

import argparse
import difflib
import faulthandler
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from jaxws.huge_pages import restart_with_huge_pages
from jaxws.system.output import lose_output_rather_than_fail
from jaxws.system.text import one_line, say, show_text_as_text

GROUPS = {
    "train a network": {
        "train": "trains a network of the paper, or goes on with a run that was stopped",
        "configs": "the configurations that come with jaxws, for train and preview",
        "prepare": "CIFAR-10, CIFAR-100, TinyImageNet or ImageNet for training",
        "preview": "a sheet of images as the network sees them, augmented, with labels",
        "check": "whether kernels compute the right numbers here, how fast; parameters of a config",
    },
    "look at runs": {
        "inspect": "the checkpoints of a run, whether they are whole, and their metrics",
        "evaluate": "the scores of a run, a file of weights or a published network",
        "compare": "several runs or seeds side by side: means, deviations, curves",
        "look": "filters over the visual field, orientation maps and RSA of networks, as figures",
        "report": "the plots and the page of a run, made anew",
        "export": "parameters as safetensors or npz, readable without jaxws",
    },
    "the paper": {
        "paper": "every row of the paper's tables: list, show, run, search, report",
        "convergence": "Figs 4 and 5 of the paper: how dynamic weight sharing converges",
        "theorem1": "the error of noisy weight sharing against the bound of Theorem 1",
    },
}
COMMANDS = {name: what for group in GROUPS.values() for name, what in group.items()}


_KINDS = {"int": "a whole number", "float": "a number"}  # in the words of those who give them


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, in plain words and without the usage."""

    def error(self, message: str) -> NoReturn:
        say(f"error: {one_line(message)}", error=True)
        sys.exit(2)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse does, with the closest of the choices (commands, too) before the others."""
        if action.choices is None or value in action.choices:
            return
        names = [str(choice) for choice in action.choices]
        found = difflib.get_close_matches(str(value), names, n=1)
        hint = f": did you mean {found[0]!r}?" if found else "."
        raise argparse.ArgumentError(
            action, f"there is no {str(value)!r}{hint} There are {', '.join(names)}."
        )

    def _get_value(self, action: argparse.Action, text: str) -> Any:
        kind = _KINDS.get(getattr(action.type, "__name__", ""))
        try:
            return super()._get_value(action, text)
        except argparse.ArgumentError as error:
            if kind is None:
                raise
            raise argparse.ArgumentError(action, f"expected {kind}, not {text!r}.") from error

    def options(self) -> list[str]:
        """Those that it and its actions know, as they are spelled."""
        found = list(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for parser in action.choices.values():
                    found += parser.options()
        return found


def _listing() -> str:
    """All commands, a line each."""
    groups = []
    for title, commands in GROUPS.items():
        lines = [f"  {name:<12}{what}" for name, what in commands.items()]
        groups.append("\n".join([f"{title}:", *lines]))
    return "\n\n".join(groups)


def main(argv: Sequence[str] | None = None, called: str | None = None) -> int:
    """Runs a command.

    Args:
      argv: arguments; those of the process if None.
      called: how its help names the command, where that is not ``python -m jaxws NAME``.

    Returns:
      The exit status: 0, 2 for a mistake, which is told in one line, or 130 after an interrupt;
      that of ``train`` may be another one, which its help explains.
    """
    argv = sys.argv[1:] if argv is None else argv
    program = "jaxws" if Path(sys.argv[0]).stem == "jaxws" else "python -m jaxws"
    names = _Parser(
        prog=program,
        description="Locally connected networks and weight sharing.",
        epilog=f"{_listing()}\n\n{program} COMMAND --help explains one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    if not argv:
        say(names.format_help(), error=True)
        return 2
    name = names.parse_args(argv[:1]).command
    parser = _Parser(
        prog=called or f"{program} {name}", description=COMMANDS[name], allow_abbrev=False
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
    command = importlib.import_module(f"jaxws.commands.{name}")  # the one that is used, no other
    command.add_arguments(parser)
    from jaxws.commands.flags import explain_unknown, parse_arguments

    args, unknown = parse_arguments(parser, argv[1:])
    args.argv = list(argv)  # as given, for commands that pass them on
    if unknown:
        parser.error(explain_unknown(unknown, parser.options()))
    try:
        return command.run(args)
    except BrokenPipeError:
        # Its reader, such as head, has seen enough; nor shall the interpreter's last flush fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        if args.debug:
            raise
        parser.error(str(error))
    except KeyboardInterrupt:
        say("\ninterrupted; the same command can be given again.", error=True)
        return 130


def run_program(*command: str, called: str | None = None) -> NoReturn:
    """What the processes ``jaxws``, ``python -m jaxws`` and ``python train.py`` do.

    Args:
      command: comes before the arguments of the process.
      called: see :func:`main`.
    """
    argv = [*command, *sys.argv[1:]]
    if argv[:1] == ["train"]:
        restart_with_huge_pages()
        lose_output_rather_than_fail()  # a run must not end because its log cannot be written
    show_text_as_text()
    # It warns where its own cache cannot be written, which costs no more than a second.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    faulthandler.enable()  # a crash of compiled code says where
    sys.exit(main(argv, called))


if __name__ == "__main__":
    run_program()
