"""A row of the paper's tables by its name, as in --config=paper:table5/cifar10/lc-ws1/seed3.

$ python train.py --config configs/paper.py:table5/cifar10/lc-ws1/seed3

`python -m jaxws paper list` has the names, `python -m jaxws paper show NAME` what the paper says of
one. The run goes to the directory that `python -m jaxws paper run` gives it: either command goes on
with what the other has begun.
"""

from ml_collections import ConfigDict

from jaxws.config.files import ArgumentError
from jaxws.paper.configs import row_config
from jaxws.paper.names import parse_name


def get_config(name: str = "") -> ConfigDict:
    """The configuration of a run; of a row, that of its seed 0."""
    if not name:
        raise ArgumentError(
            "--config=paper: which row? Add its name, as in --config=paper:table5/cifar10/lc-ws1;"
            " python -m jaxws paper list has all of them."
        )
    try:
        run = parse_name(name)
    except ValueError as error:
        raise ArgumentError(f"--config=paper:{name}: {error}") from error
    config = row_config(run)
    if first := run.with_seed(config.seed).starts_from():
        config.model.init_from = f"runs/paper/{first}"
    return config


def run_name(name: str, config: ConfigDict) -> str:
    """The run's directory in runs/: that of its row and of the seed that it has in the end."""
    return f"paper/{parse_name(name).with_seed(config.seed)}"
