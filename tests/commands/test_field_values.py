"""Errors about values of fields are in plain words, and say what was given and what to give."""

import re
from pathlib import Path

import pytest

from jaxws import commands
from jaxws.__main__ import COMMANDS, main
from jaxws.commands.parse_config import parse_config

# What Python, absl and ml_collections would say.
JARGON = re.compile(
    r"NoneType|literal|Traceback|tuple|int\(\)|float:|flag |boolean|argument to|Error|could not"
)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--config.seed --config.epochs=3", "config.seed has no value: expected a whole number"),
        ("--config.seed", "as in --config.seed=0."),
        ("--config.seed=", "--config.seed= has no value"),
        ("--config.seed=1e3", "as in --config.seed=1000."),
        ("--config.epochs=1.5", "config.epochs=1.5: expected a whole number"),
        ("--config.epochs=true", "config.epochs=true: expected a whole number"),
        ("--config.epochs=None", "config.epochs=None: expected a whole number"),
        ("--config.epochs=[1,2]", "config.epochs=[1,2]: expected a whole number"),
        ("--config.max_steps=none", "expected a whole number, as in --config.max_steps=1; None le"),
        ("--config.tensorboard=yes", "expected True or False, as in --config.tensorboard=True."),
        ("--config.tensorboard=maybe", "config.tensorboard=maybe: expected True or False"),
        ("--config.data.flip=off", "as in --config.data.flip=False."),
        ("--noconfig.data.flip=3", "--noconfig.data.flip=3: expected no value"),
        ("--config.optimizer.learning_rate=fast", "expected a number, as in --config.optimizer.le"),
        ("--config.optimizer.drop_epochs=(10,", "expected values with commas between them, such"),
        ("--config.optimizer=sgd", "config.optimizer is a group of fields"),
    ],
)
def test_a_wrong_value_is_told_in_plain_words(arguments, expected):
    with pytest.raises(ValueError) as error:
        parse_config(["--config=digits_lc", *arguments.split()])
    assert expected in str(error.value)
    assert not JARGON.search(str(error.value))


def test_none_unsets_what_is_unset_by_default():
    argv = ["--config=digits_lc", "--config.data.crop_size=8", "--config.max_steps", "5"]
    config, *_ = parse_config([*argv, "--config.data.crop_size=None", "--config.data.path=None"])
    assert (config.data.crop_size, config.data.path, config.max_steps) == (None, None, 5)
    config, *_ = parse_config([*argv, "--config.max_steps=None", "--config.max_steps=3"])
    assert (config.data.crop_size, config.max_steps) == (8, 3)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ("inspct runs/a", "there is no 'inspct': did you mean 'inspect'? There are train, "),
        ("xyz", "there is no 'xyz'. There are train, "),
        ("paper lst", "there is no 'lst': did you mean 'list'?"),
        ("check --size=1.5", "argument --size: expected a whole number, not '1.5'."),
    ],
)
def test_a_wrong_word_of_a_command_names_the_right_one(capsys, argv, expected):
    with pytest.raises(SystemExit) as stop:
        main(argv.split())
    assert stop.value.code == 2
    assert expected in capsys.readouterr().err


def test_no_command_shows_what_there_is(capsys):
    assert main([]) == 2
    err = capsys.readouterr().err
    folder = Path(commands.__file__).parent
    files = [*folder.glob("*.py"), *(file.parent for file in folder.glob("*/__init__.py"))]
    modules = {file.stem for file in files if file.is_dir() or "def run(" in file.read_text()}
    assert set(COMMANDS) == modules
    assert all(f"\n  {name:<12}{what}\n" in err for name, what in COMMANDS.items())
