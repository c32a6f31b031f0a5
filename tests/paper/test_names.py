"""Names of runs: what they may be, what they ask for, and what is said of wrong ones."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxws.paper.names import RunName, all_rows, parse_name, select, usual_seeds


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(all_rows()), st.none() | st.integers(0, 10**9 - 1))
def test_names_are_read_as_they_are_written(row, seed):
    name = row._replace(seed=seed)
    assert parse_name(str(name)) == name
    assert parse_name(str(name)).find().name == row.row
    if seed is not None:
        assert select([str(name)]) == (name,) and name.of_row() == row


@settings(max_examples=100, deadline=None)
@given(st.text("abclt/*-[]sed0123456789 .\n", max_size=40))
def test_no_text_is_more_than_a_wrong_name(text):
    for read in (parse_name, lambda text: select([text])):
        try:
            read(text)
        except ValueError as error:
            assert repr(text) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("table5/cifar10/lc-ws3", "did you mean 'table5/cifar10/lc-ws1'?"),
        ("Table5/CIFAR10/conv", "did you mean 'table5/cifar10/conv'?"),
        ("table5/cifar10/lc_ws1/seed3", "did you mean 'table5/cifar10/lc-ws1'?"),
        ("runs/paper/table5/cifar10/lc-ws1/seed3", "did you mean 'table5/cifar10/lc-ws1'?"),
        ("table5/digits/conv", "did you mean 'small/table5/digits/conv'?"),
        ("table5", "expected a whole name, such as 'table5/cifar10/conv'."),
        ("table5/cifar10", "expected a whole name, such as 'table5/cifar10/conv'."),
        ("table5/cifar10/conv/3", "expected a seed, as in 'table5/cifar10/conv/seed0'."),
        ("table5/cifar10/conv/seed", "no run is called .*: expected a seed"),
        ("table5/cifar10/conv/seed03", "expected a seed"),
        ("table5/cifar10/conv/seed-1", "expected a seed"),
        ("table5/cifar10/conv/seed9999999999", "expected a seed"),
        ("table5/cifar10/conv/seed0/checkpoints", "no row is called"),
        ("", "no row is called '': python -m jaxws paper list shows all rows"),
        ("../../etc", "paper list shows all rows"),
    ],
)
def test_wrong_names_are_told_in_a_line(text, message):
    with pytest.raises(ValueError, match=message) as raised:
        parse_name(text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("patterns", "scale", "message"),
    [
        (["table55"], None, r"no part of a name is 'table55' \(did you mean 'table5'\?\)"),
        (["table5/digits"], None, "did you mean 'small/table5/digits'?"),
        (["conv"], None, "a name is EXPERIMENT/DATASET/ROW/seedN"),
        (["table5/cifar10/lc/sed1"], None, "no part of a name is 'sed1'"),
        (["table5/cifar10/lc/seed1/x"], None, "no part of a name is 'x'"),
        (["table5//lc"], None, "no part of a name is ''"),
        ([""], None, "nothing fits ''"),  # such as "$NOT_SET"
        (["table5", "table13/cifar10"], None, "nothing fits 'table13/cifar10'"),
        (["reduced/table5"], "small", "leave one of the two scales out"),
        (["table13"], "small", "nothing fits 'table13' among the runs of --scale=small"),
        ([], "large", "--scale=large: expected one of paper, small, reduced"),
    ],
)
def test_wrong_patterns_are_told_in_a_line(patterns, scale, message):
    with pytest.raises(ValueError, match=message) as raised:
        select(patterns, scale)
    assert "\n" not in str(raised.value)


def test_what_a_command_line_asks_for():
    assert len(select()) == 63 * 5 + 9 + 24 * 5
    assert len(select(["small"])) == len(select(scale="small")) == 21 * 5
    assert select(["small/table5"]) == select(["table5"], "small")
    assert select(["paper/table5"], "paper") == select(["table5/"])
    assert [str(n) for n in select(["table13/imagenet/lc"])] == ["table13/imagenet/lc/seed0"]
    shares = select(["table5/cifar10/lc-ws*"], seeds=[4, 7])
    assert [str(name)[15:] for name in shares] == [
        f"lc-ws{every}/seed{seed}" for every in (1, 10, 100) for seed in (4, 7)
    ]
    # In the order of the paper, each once; a seed in a name counts for that name.
    asked = ["table6/cifar10/lc/seed3", "table5/cifar10/lc", "*/cifar10/lc/seed1"]
    found = [str(name) for name in select(asked, seeds=[1])]
    assert found == [
        *("table4/cifar10/lc/seed1", "table5/cifar10/lc/seed1"),
        *("table6/cifar10/lc/seed1", "table6/cifar10/lc/seed3"),
    ]


def test_what_starts_from_what():
    name = parse_name("reduced/untied/cifar10/lc-from-conv/seed2")
    assert str(name.starts_from()) == "reduced/table5/cifar10/conv/seed2"
    others = [row for row in all_rows() if row.starts_from() is None]
    assert len(all_rows()) - len(others) == 4
    assert list(usual_seeds(name)) == [0, 1, 2]
    assert RunName("paper", "table13", "imagenet", "lc") in all_rows()
