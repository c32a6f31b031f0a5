"""``python -m jaxws export``: a checkpoint's weights as one file that needs no jaxws to be read."""

from __future__ import annotations

import argparse

from jaxws.checkpointing.described import describe
from jaxws.checkpointing.directory import checkpoint_dir
from jaxws.checkpointing.weights import read_weights
from jaxws.commands.arguments import add_out, add_step, add_trust, add_workdir, check_out, run_of
from jaxws.commands.export_weights import (
    NAMES,
    SUFFIXES,
    TORCH_SUFFIXES,
    check_format,
    flat_arrays,
    write,
)
from jaxws.models.exported import compacted
from jaxws.system.text import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to a parser."""
    add_workdir(parser)
    add_trust(parser)
    add_out(parser, "the file to write: .safetensors or .npz; with --names=torch also .pth or .pt")
    add_step(parser)
    parser.add_argument(
        "--names",
        choices=NAMES,
        default=NAMES[0],
        help="torch: a state dict with the names and axes of PyTorch, of a ResNet; by default those"
        " of jaxws",
    )
    parser.add_argument(
        "--compact",
        action="store_true",
        help="a small file, which jaxws.models.load and init_from read: filters that positions"
        " share but once, others of locally connected layers in float16",
    )
    parser.add_argument("--force", action="store_true", help="write over a file that is there")


def run(args: argparse.Namespace) -> int:
    """Writes parameters, running statistics and their description.

    Args:
      args: of :func:`add_arguments`.

    Returns:
      0.

    Raises:
      ValueError: there is no such run or checkpoint, the file cannot be written or is there, or
        PyTorch has no names for the network.
    """
    if args.names != "torch" and args.out.suffix.lower() in TORCH_SUFFIXES:
        raise ValueError(f"--out={args.out}: such a file has PyTorch's names: add --names=torch.")
    if args.compact and args.names == "torch":
        raise ValueError("--compact: PyTorch has no such filters: leave out --names=torch.")
    check_out(args.out, SUFFIXES + TORCH_SUFFIXES)
    check_format(args.out)
    if args.out.exists() and not args.force:
        raise ValueError(f"--out={args.out}: the file is there already; --force writes over it.")
    past = run_of(args)
    directory = checkpoint_dir(past.checkpoints, args.step)
    arrays = flat_arrays(read_weights(directory), args.names)
    arrays, positions = compacted(arrays) if args.compact else (arrays, {})
    write(args.out, arrays, describe(past, int(directory.name), arrays, positions))
    total = sum(array.size for array in arrays.values())
    say(f"{args.out}: {len(arrays)} arrays, {total} numbers, of step {directory.name}")
    return 0
