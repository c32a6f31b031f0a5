"""Which configurations are rows of the paper."""

import pytest

from jaxws.config.files import config_names, named_config
from jaxws.paper.matching import paper_rows, row_of

# As in the README: the configurations that are rows of Tables 5 and 13, and their accuracies.
ACCURACIES = {
    **{f"cifar10_{n}": v for n, v in {"conv": 88.3, "lc": 80.9, "lc_ws1": 87.4}.items()},
    **{"cifar10_lc_ws10": 85.1, "cifar10_lc_ws100": 82.0},
    **{f"cifar100_{n}": v for n, v in {"conv": 59.2, "lc": 49.8, "lc_ws1": 58.7}.items()},
    **{f"tiny_imagenet_{n}": v for n, v in {"conv": 38.6, "lc": 29.6, "lc_ws1": 41.6}.items()},
    **{f"imagenet_{n}": v for n, v in {"conv": 63.5, "lc": 46.7, "lc_ws1": 61.7}.items()},
}


@pytest.mark.parametrize("name", sorted(set(config_names()) - {"paper"}))
def test_configurations_that_are_rows_have_the_papers_accuracy(name):
    config = named_config(name)
    if name not in ACCURACIES:
        assert row_of(config) is None and paper_rows(config) == []
        return
    ((what, text),) = paper_rows(config)
    table = "Table 13" if name.startswith("imagenet") else "Table 5"
    assert what == "the paper's test top-1" and text.startswith(f"{ACCURACIES[name]} % ({table}: ")


def test_what_changes_the_protocol_is_no_row_of_it():
    config = named_config("cifar10_lc_ws1")
    config.seed, config.model.dtype, config.max_steps = 7, "bfloat16", 3
    assert str(row_of(config)) == "table5/cifar10/lc-ws1"
    config.data.pad = 0
    assert str(row_of(config)) == "table4/cifar10/lc-ws1"  # of the same rates
    for field, value in (("optimizer.learning_rate", 2e-3), ("sharing.pools", "global")):
        other = config.copy_and_resolve_references()
        other.update_from_flattened_dict({field: value})
        assert row_of(other) is None
