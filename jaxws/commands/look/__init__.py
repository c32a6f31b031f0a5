"""``python -m jaxws look NETWORK ...``: filters, orientation maps and RSA of trained networks.

Every figure has the same architecture beside it as it was before training.
"""

from __future__ import annotations

import argparse
import importlib

from jaxws.commands.arguments import (
    add_data_place,
    add_json,
    add_out_directory,
    add_trust,
    check_out_directory,
)
from jaxws.system.local_path import path_argument

# What draws each: jaxws.commands.look.NAME_figure.
FIGURES = {
    "filters": "filters of a layer at their places in the visual field",
    "similarity": "how much alike filters of two positions are, by distance and pool",
    "orientation": "preferred orientations, measured with gratings",
    "rsa": "dissimilarity of test images in each layer, and how much alike layers are",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to a parser.

    Args:
      parser: of the command.
    """
    parser.add_argument(
        "networks",
        nargs="+",
        metavar="NETWORK",
        type=path_argument,
        help="directory of a run, whose newest checkpoint is taken, a file that python -m jaxws"
        " export wrote, or a published network such as small/lc-ws1; several are compared",
    )
    add_out_directory(parser)
    parser.add_argument(
        "--figures",
        nargs="+",
        choices=FIGURES,
        default=list(FIGURES),
        help="; ".join(f"{name}: {what}" for name, what in FIGURES.items()) + " (default: all)",
    )
    parser.add_argument(
        "--layers",
        nargs="+",
        metavar="LAYER",
        help="names such as conv1 or layer1_0/conv2; by default those that have weights, of which"
        " filters are drawn of the first, orientations of the first two",
    )
    for name, default, what in (
        ("features", 4, "of each layer that are drawn, from the first on"),
        ("per_class", 8, "test images of each of the first ten classes, for rsa"),
        ("seed", 1000, "of the untrained control, and of pairs that are drawn"),
    ):
        text = f"{what} (default: %(default)s)"
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=text)
    add_data_place(parser)
    add_trust(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measures, draws and writes.

    Args:
      args: of :func:`add_arguments`.

    Returns:
      0.

    Raises:
      ValueError: there is no such network or layer, networks or data do not fit together.
    """
    check_out_directory(args.out)
    for name, minimum in (("features", 1), ("per_class", 1), ("seed", 0)):
        if getattr(args, name) < minimum:
            raise ValueError(f"--{name}={getattr(args, name)}: expected {minimum} or more.")
    # Imports JAX and matplotlib, which take seconds.
    build = importlib.import_module("jaxws.commands.look.build")
    return build.look(args)
