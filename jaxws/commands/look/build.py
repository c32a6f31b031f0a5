"""What ``look`` does: loads networks, measures and draws, and writes all files at once."""

from __future__ import annotations

import argparse
import datetime
import json
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from jaxws.commands.arguments import move_data
from jaxws.commands.look import FIGURES
from jaxws.commands.look.filters_figure import filters_figures
from jaxws.commands.look.orientation_figure import orientation_figures
from jaxws.commands.look.output import Result, files_of, styled
from jaxws.commands.look.rsa_figure import rsa_figures
from jaxws.commands.look.similarity_figure import similarity_figure
from jaxws.commands.look.stimuli import stimuli_of
from jaxws.commands.look.subjects import Subject, subjects_of
from jaxws.core.partitioning import one_device
from jaxws.models import Loaded, load
from jaxws.records.provenance import versions
from jaxws.system.atomic import write_together
from jaxws.system.terminal import print_table
from jaxws.system.text import say


def look(args: argparse.Namespace) -> int:
    """Runs the command.

    Args:
      args: of :func:`jaxws.commands.look.add_arguments`.

    Returns:
      0.

    Raises:
      ValueError: as :func:`jaxws.commands.look.run`.
    """
    networks = [(str(path), load(path, args.trust)) for path in dict.fromkeys(args.networks)]
    for _, network in networks:
        move_data(network.config, args)
    with one_device(), styled():
        subjects = subjects_of(networks, args.layers, args.seed)
        results = list(_results(args, subjects, networks[0][1]))
        if not results:
            raise ValueError(
                f"--figures {' '.join(args.figures)}: there is nothing to draw; give other"
                " --layers, or rsa, which needs no positions."
            )
        heading = _heading(args, networks)
        files = {
            args.out / name: content
            for result in results
            for name, content in files_of(result, heading).items()
        }
    write_together(files)
    if args.json:
        found = {result.name: result.summary for result in results if result.summary}
        print(json.dumps({"files": [str(path) for path in files], **found}, indent=1))
        return 0
    _show(results)
    for path in files:
        say(path)
    return 0


def _results(
    args: argparse.Namespace, subjects: Sequence[Subject], first: Loaded
) -> Iterable[Result]:
    layers = list(dict.fromkeys(layer for subject in subjects for layer in subject.layers))
    # Before work is done for other figures: the data may be missing.
    stimuli = stimuli_of(first, args.per_class) if "rsa" in args.figures else None
    for figure in FIGURES:
        if figure not in args.figures:
            continue
        if figure == "filters":
            chosen = layers if args.layers else layers[:1]
            found = filters_figures(subjects, chosen, args.features)
        elif figure == "similarity":
            found = similarity_figure(subjects, args.seed)
        elif figure == "orientation":
            chosen = layers if args.layers else layers[:2]
            found = orientation_figures(subjects, chosen, args.features)
        else:
            found = rsa_figures(subjects, stimuli) if stimuli else []
        if not found:
            say(f"{figure}: no figure, as none of the layers has positions in 2-D.", error=True)
        yield from found


def _heading(args: argparse.Namespace, networks: Sequence[tuple[str, Loaded]]) -> list[str]:
    """How the numbers were made."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    known = ", ".join(f"{name} {version}" for name, version in versions().items())
    return [
        f"python -m jaxws {shlex.join(args.argv)}",
        f"{now}; {known}",
        *(
            f"{title}: {network.info['path']}, step {network.info['step']}"
            for title, network in networks
        ),
        f"untrained: weights drawn anew, seed {args.seed}",
    ]


def _show(results: Sequence[Result]) -> None:
    """The numbers of single layers as tables; those of pairs of layers are in the figures."""
    for result in results:
        rows = [record for record in result.summary if "layer" in record]
        if rows:
            head = tuple(name.replace("_", " ") for name in rows[0])
            print_table(
                [tuple(map(_text, row.values())) for row in rows],
                result.name,
                head,
                last_is_text=False,
            )


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{round(value, 3) + 0.0:.3f}" if isinstance(value, float) else str(value)
