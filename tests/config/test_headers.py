"""Headers of configs/*.py: the accuracies and flags of rows that they name, against the data."""

import ast
import collections
import re

from jaxws.commands.parse_config import parse_config
from jaxws.config.checks import check_config
from jaxws.config.fields import flat_fields, images_per_step
from jaxws.config.files import config_names, config_path
from jaxws.paper.configs import row_config
from jaxws.paper.tables import find_published

# How many rows of the paper the headers name, by data set.
NAMED_ROWS = {"cifar10": 8, "cifar100": 14, "tiny_imagenet": 14, "imagenet2012": 9}
TABLE_OF_PAD = {0: "table4", 4: "table5", 8: "table6"}
PAPERS = [
    config_path(name)
    for name in config_names()
    if name != "paper" and not name.startswith("digits") and "_vit_" not in name
]


def rows_of(path):
    """The accuracies that each row of a config's header promises, and the row's configuration."""
    header = ast.get_docstring(ast.parse(path.read_text()))
    first, *others = re.split(r"\n    (?=\S)", header)
    commands = [(re.findall(r"([\d.]+) %", first), [])]
    for row in others:
        accuracies = re.search(r"\((\d+\.\d(, \d+\.\d)?)[,)]", row)[1].split(", ")
        commands.append((accuracies, re.findall(r"--\S+", row)))
    for accuracies, arguments in commands:
        yield accuracies, parse_config([f"--config={path}", *arguments])[0]


def row_of(config):
    """The row of the paper that a configuration says it is."""
    row = {"conv": "conv", "local": "lc"}[config.model.connectivity]
    row = f"conv1-{row}" if config.model.first_layer_conv else row
    row += f"-{config.data.n_reps}reps" if config.data.n_reps > 1 else ""
    row += f"-ws{config.sharing.every}" if config.sharing.every else ""
    if config.data.name == "imagenet2012":
        return f"table13/imagenet/{row}"
    return f"{TABLE_OF_PAD[config.data.pad]}/{config.data.name}/{row}"


def test_every_row_named_in_a_header_is_the_papers():
    seen = collections.Counter()
    for path in PAPERS:
        for accuracies, config in rows_of(path):
            check_config(config)
            name = row_of(config)
            assert dict(flat_fields(config)) == dict(flat_fields(row_config(name))), (path, name)
            line = find_published(*name.split("/"))
            printed = [line.top1] if line.top5 is None else [line.top1, line.top5]
            assert accuracies == [f"{value:.1f}" for value in printed], (path, name)
            of_imagenet = config.data.name == "imagenet2012"
            if not of_imagenet:
                steps = {1: 512, 4: 128, 8: 64, 16: 32}
                assert images_per_step(config) == steps[config.data.n_reps]
            network = (256, "resnet18", 32) if of_imagenet else (512, "resnet_cifar", 16)
            assert (config.batch_size, config.model.architecture, config.model.width) == network
            assert config.epochs == 200 and config.data.split == "final"
            assert config.data.train_fraction == 1 and config.model.depth == 20
            assert (config.optimizer.drop_epochs, config.optimizer.drop_factor) == (None, 4)
            assert config.data.flip == (config.data.name != "tiny_imagenet")
            seen[config.data.name] += 1
    assert seen == NAMED_ROWS
