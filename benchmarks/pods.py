"""What devices of a pod send and keep: by arithmetic, beside what compiled programs say.

$ python train.py --config imagenet_lc_ws1 --config.model.dtype=bfloat16 --compile_only \
    --topology=v5e:2x4 --json > v5e_2x4.json
$ python -m benchmarks.pods --out docs/results/pods.json v5e_2x4.json

For the paper's ImageNet network (0.5x LC ResNet-18, 224 x 224, bfloat16 activations, AdamW), the
mesh that a run takes by itself, for several numbers of chips, batches and sharing. The compiled
programs are those of ``train --compile_only --json``; nothing is run.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxws.config.files import named_config
from jaxws.data.assumed import assumed_feed
from jaxws.training.mesh_choice import choose_for
from jaxws.training.run import build_model
from jaxws.training.weight_sharing import make_sharing

CHIPS, IMAGES, EVERY = (8, 64, 256), (256, 2048), (1, 10, 0)


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the results, and prints the table of the arithmetic.

    Args:
      argv: arguments; those of the process if None.

    Returns:
      0.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("compiled", type=Path, nargs="*", help="of train --compile_only --json")
    args = parser.parse_args(argv)
    rows = [_row(*case) for case in itertools.product(CHIPS, IMAGES, EVERY)]
    compiled = [json.loads(path.read_text()) for path in args.compiled]
    results = {"benchmark": "pods", "arithmetic": rows, "compiled": compiled}
    args.out.write_text(json.dumps(results, indent=1) + "\n")
    print("\n".join(table(rows)))
    return 0


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Markdown.

    Args:
      rows: of the arithmetic.

    Returns:
      Lines.
    """
    lines = [
        "| chips | images | sharing | mesh | GB sent | data parallel | weights and moments, GB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        sharing = f"ws({row['every']})" if row["every"] else "never"
        cells = (row["chips"], row["images"], sharing, row["mesh"], f"{row['sent'] / 1e9:.2f}")
        more = (f"{row['sent_data_parallel'] / 1e9:.2f}", f"{row['state'] / 1e9:.2f}")
        lines.append("| " + " | ".join(map(str, (*cells, *more))) + " |")
    return lines


def _row(chips: int, images: int, every: int) -> dict[str, Any]:
    config = _config(images, every)
    feed = assumed_feed(config)
    model = build_model(config.model, len(feed.class_names))
    sharing = make_sharing(config, model, feed.image_shape, feed.steps_per_epoch)
    choice = choose_for(config, model, sharing, feed.image_shape, chips)
    best = choice.candidates[0]
    plain = next(c for c in choice.candidates if c.is_data_parallel)
    return {
        "chips": chips,
        "images": images,
        "every": every,
        "mesh": best.name,
        "sent": best.sent,
        "sent_data_parallel": plain.sent,
        "state": best.state,
    }


def _config(images: int, every: int) -> ConfigDict:
    config = named_config("imagenet_lc_ws1")
    config.batch_size, config.sharing.every = images, every
    config.model.dtype = "bfloat16"
    return config


if __name__ == "__main__":
    raise SystemExit(main())
