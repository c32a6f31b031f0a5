"""Any row of the paper's tables by its name: --config configs/paper.py:table5/cifar10/lc-ws1.

$ python train.py --config configs/paper.py:table5/cifar10/lc-ws1/seed3

`python -m jaxws paper list` has the names; `python -m jaxws paper show NAME` what the paper says.
"""

from ml_collections import ConfigDict

from jaxws.paper.configs import row_config


def get_config(name: str = "table5/cifar10/lc-ws1") -> ConfigDict:
    """The configuration of a row, or of one of its runs, which have a seed."""
    return row_config(name)
