"""Figs 4 and 5: what is simulated, and what the command writes or leaves unwritten."""

import csv

import numpy as np
import pytest
from matplotlib.colors import to_hex

from jaxws.__main__ import main
from jaxws.commands import convergence as command
from jaxws.commands import theorem1
from jaxws.commands.convergence import meaningless
from jaxws.commands.convergence_plot import draw, to_csv
from jaxws.dynamics import convergence as simulation
from jaxws.dynamics.convergence import simulate
from jaxws.dynamics.study import Curve, Study

theorem1_figure = theorem1.draw
SMALL = Study(runs=3, neurons=20, sizes=(3,), gammas=(0.1, 0.01), input_mean=0.0)


def test_rule_reaches_the_floor_of_the_text():
    """4A with zero-mean inputs: 2 log(gamma / (1 + gamma)), within what runs differ by."""
    curves = simulate(SMALL._replace(runs=10, neurons=100, gammas=(0.1, 0.01)), "A", 3)
    for curve in curves:
        check_floor(curve)


def check_floor(curve):
    last = curve.values[:, -1]
    assert abs(last.mean() - curve.text_floor) < 2 * last.std()
    assert abs(last.mean() - curve.exact_floor) < 2 * last.std()
    assert np.ptp(curve.values[:, 0]) > 0
    assert np.all(np.abs(curve.values[:, 0]) < 1)


@pytest.mark.slow
@pytest.mark.parametrize("figure", [4, 5])
@pytest.mark.parametrize("size", [3, 6, 9])
def test_all_floors(figure, size):
    """4A for all sizes and gammas; 5A's descends to the text's floor first, then to (24)'s."""
    study = Study(figure=figure, input_mean=0.0)
    for curve in simulate(study, "A", size):
        if figure == 4:
            assert abs(curve.values[:, -1].mean() - curve.text_floor) < 0.2
        else:
            mean = curve.values.mean(axis=0)
            assert curve.exact_floor > mean[-1] - 0.1
            assert mean.min() < mean[-1]


def test_circuit_first_shares_and_then_forgets():
    """4B: -log SNR falls far below its start, then rises slowly, the more so for large gamma."""
    weak = simulate(SMALL._replace(presentations=3000, runs=2), "B", 3)[1]
    mean = weak.values.mean(axis=0)
    assert mean[0] > -0.5
    assert mean.min() < -6
    assert mean[-1] > mean.min() + 0.2
    assert weak.exact_floor > mean[-1]


def test_inputs_with_a_mean_have_another_floor():
    """Exact by (19) for C = I + 11^T: lower than the text's by about log(1 - 1 / k^2)."""
    study = Study(runs=2, gammas=(0.01,), iterations=50)
    curve = simulate(study, "A", 3)[0]
    other = simulate(study._replace(input_mean=0.0), "A", 3)[0]
    assert abs(curve.exact_floor - other.exact_floor - np.log(1 - 1 / 9)) < 0.05
    assert curve.text_floor == other.text_floor


def test_runs_do_not_depend_on_their_number():
    few, many = (
        simulation._draw(simulation._generators(Study(runs=runs), 3), (5, 9), 0.0)
        for runs in (2, 4)
    )
    np.testing.assert_array_equal(few, many[:2])


ARGUMENTS = ("--sizes=3", "--gammas=0.1", "--runs=2", "--iterations=50", "--presentations=20")


@pytest.mark.parametrize("figure", ["4", "5"])
def test_command_writes_three_files(figure, tmp_path, capsys):
    arguments = ["convergence", f"--figure={figure}", *ARGUMENTS, f"--out={tmp_path}"]
    assert main(arguments) == 0
    name = f"fig{figure}"
    kinds = {"png": b"\x89PNG", "pdf": b"%PDF"}
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.{k}" for k in ("csv", *kinds)}
    for kind, magic in kinds.items():
        assert (tmp_path / f"{name}.{kind}").read_bytes().startswith(magic)
    text = (tmp_path / f"{name}.csv").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    assert len(rows) == 51 + 21
    curve = simulate(
        Study(figure=int(figure), sizes=(3,), gammas=(0.1,), runs=2, iterations=50), "A", 3
    )[0]
    last = [row for row in rows if row["simulation"] == "A"][-1]
    assert (last["iteration"], last["kernel_size"], last["runs"]) == ("50", "3", "2")
    np.testing.assert_allclose(float(last["neg_log_snr_mean"]), curve.values[:, -1].mean(), 1e-4)
    np.testing.assert_allclose(float(last["exact_floor"]), curve.exact_floor, 1e-4)
    output = capsys.readouterr()
    assert f"Fig. {figure}B, k = 3: 20 iterations" in output.err
    assert str(tmp_path / f"{name}.png") in output.out


def test_interrupt_leaves_no_files(tmp_path, monkeypatch, capsys):
    before = tmp_path / "fig4.csv"
    before.write_text("of an earlier run")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "simulate", interrupt)
    assert main(["convergence", "--figure=4", f"--out={tmp_path}"]) == 130
    monkeypatch.undo()
    monkeypatch.setattr(command, "to_csv", interrupt)
    assert main(["convergence", "--figure=4", *ARGUMENTS, f"--out={tmp_path}"]) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["fig4.csv"]
    assert before.read_text() == "of an earlier run"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--gammas=-0.1", "gamma=-0.1: expected a number above 0"),
        ("--alpha=-1", "alpha=-1.0: expected at least 0"),
        ("--runs=0", "runs=0: expected at least 1"),
        ("--sizes=0", "k=0: expected at least 1"),
        ("--momentum=1", "momentum=1.0: expected at least 0 and below 1"),
        ("--onset=-1", "onset=-1: expected at least 0"),
        ("--input_mean=nan", "input_mean=nan: expected a finite number"),
        ("--presentations=0", "presentations=0: expected at least 1"),
        ("--iterations=0", "iterations=0: expected at least 1"),
        ("--out=nowhere", "there is no such directory; make it"),
        ("--figure=6", "there is no '6'"),
        ("--counter=hour", "there is no 'hour'"),
    ],
)
def test_mistakes_are_one_line(argument, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_info:
        main(["convergence", "--figure=4", argument])
    assert exit_info.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_theorem1_writes_its_picture(tmp_path, capsys, monkeypatch):
    def with_all_lines_named(study, curves):
        figure = theorem1_figure(study, curves)
        for axes in figure.axes:  # by itself, or as the bound in the colour of a named one
            colours = {line: to_hex(line.get_color()) for line in axes.get_lines()}
            named = {colours[line] for line in colours if line.get_label()[0] != "_"}
            assert set(colours.values()) == named
        assert "proof's bound, by colour" in figure.axes[0].get_legend_handles_labels()[1]
        return figure

    monkeypatch.setattr(theorem1, "draw", with_all_lines_named)
    arguments = ("--iterations=2000", "--trials=2", "--neurons=3", "--inputs=2")
    assert main(["theorem1", *arguments, f"--out={tmp_path}"]) == 1
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".pdf", ".png"]
    out = capsys.readouterr().out
    assert "closed form" in out
    # No number where none was found, and what to do about it.
    assert "| fit failed | fit failed |" in out
    assert "only fallen 2.9-fold: with k0 = 1.04e+03, give --iterations of" in out
    with pytest.raises(SystemExit):
        main(["theorem1", "--gamma=-1", f"--out={tmp_path}"])
    assert "gamma=-1.0: expected a number above 0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["theorem1", "--neurons=0", f"--out={tmp_path}"])
    assert "neurons=0: expected at least 2" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["theorem1", "--gamma=inf", f"--out={tmp_path}"])
    assert "gamma=inf: expected a finite number" in capsys.readouterr().err


def curve_of(values, floor=-1.0):
    return Curve("B", 3, 0.1, np.arange(values.shape[1]) * 5, values, -1.0, floor)


@pytest.mark.parametrize(("figure", "who"), [(4, "Curves of B can"), (5, "Curves can")])
def test_the_figure_says_why_curves_pass_their_fixed_point(figure, who):
    curves = [curve_of(np.zeros((2, 3)))._replace(simulation=name) for name in "AB"]
    (legend,) = draw(Study(figure=figure, sizes=(3,), gammas=(0.1,)), curves).legends
    text = " ".join(legend.get_title().get_text().split())
    assert text.startswith(f"{who} pass their fixed point") and "rates lag by 30 ms" in text


def test_numbers_that_mean_nothing_are_told_and_not_written():
    values = np.array([[1.0, -np.inf, -np.inf], [1.0, 0.5, 0.2]])
    assert meaningless(curve_of(values)) == ""
    values[1, 1:] = np.nan
    line = "B, 3 x 3, gamma = 0.1: weights of 1 of 2 runs are not finite or 0 from k = 5 on"
    assert meaningless(curve_of(values)).startswith(line)
    assert "fixed point cannot be computed" in meaningless(curve_of(values[:1], floor=np.nan))
    rows = to_csv(Study(), [curve_of(values)], []).splitlines()
    assert rows[2].endswith(",5,,,,,-1,-1")
