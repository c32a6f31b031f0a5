"""Figures of results that nobody made: what is drawn are the numbers, and what lacks is said."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from jaxws.paper.figures import draw_figures
from jaxws.paper.figures.canvas import styled, write_figure
from jaxws.paper.figures.draw import each_drawing
from jaxws.paper.names import parse_name
from jaxws.paper.scales import SCALES
from jaxws.paper.tables import find_published
from jaxws.records.lines import spread_out
from tests.support.paper_results import LAYERS, make_result, make_results

REDUCED = SCALES["reduced"]
RUNS = f"{REDUCED.seeds} runs"
TABLE5 = ["conv", "lc", "lc-4reps", "lc-8reps", "lc-16reps", "lc-ws1", "lc-ws10", "lc-ws100"]


def drawings(results, scale):
    with styled():
        return dict(each_drawing(results, SCALES[scale]))


@pytest.fixture(scope="module")
def results():
    return make_results("reduced", seeds=range(REDUCED.seeds))


@pytest.fixture(scope="module")
def drawn(results):
    return drawings(results, "reduced")


def top1(results, experiment, row):
    """Of a row, in %, by seed."""
    return [
        100 * run.metrics["test_top1"]
        for run in results
        if run.name.experiment == experiment and run.name.row == row
    ]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def dots(axes):
    """What is drawn as single points, line by line."""
    return [line for line in axes.get_lines() if line.get_marker() == "o"]


def curves(axes):
    return [line for line in axes.get_lines() if line.get_linestyle() != "None"]


def test_dots_are_runs_and_bars_their_means(results, drawn):
    (axes,) = drawn["table5-cifar10-accuracy"].canvas.axes
    assert [label.get_text() for label in axes.get_yticklabels()][5:7] == [
        "LC - ws(1)",
        "LC - ws(10)",
    ]
    bars = [bar.get_segments()[0] for bar in axes.collections]
    for place, (row, line, bar) in enumerate(zip(TABLE5, dots(axes), bars, strict=True)):
        values = top1(results, "table5", row)
        np.testing.assert_allclose(line.get_xdata(), values)
        assert np.abs(line.get_ydata() - place).max() < 0.5
        np.testing.assert_allclose(bar[:, 0], np.mean(values))
    # The paper's accuracies are of other networks: only its order is shown.
    assert not [line for line in axes.get_lines() if line.get_marker() == "D"]
    assert "place\n(paper)" in texts(axes) and "1 (1)" in texts(axes)


def test_the_papers_numbers_stand_beside_those_of_its_own_scale():
    names = [parse_name(f"table5/cifar10/{row}/seed{seed}") for row in TABLE5 for seed in (0, 1)]
    drawing = drawings(list(map(make_result, names)), "paper")["table5-cifar10-accuracy"]
    (axes,) = drawing.canvas.axes
    diamonds = [line for line in axes.get_lines() if line.get_marker() == "D"]
    published = [find_published("table5", "cifar10", row) for row in TABLE5]
    assert [line.get_xdata()[0] for line in diamonds] == [line.top1 for line in published]
    spreads = [np.ptp(c.get_segments()[0][:, 0]) for c in axes.collections]
    np.testing.assert_allclose([s for s in spreads if s], [p.top1_spread for p in published])
    assert "paper" in texts(axes) and "Not the paper's" not in drawing.caption
    assert "conv (2 of 5 runs)" in drawing.caption


def test_curves_are_means_in_a_band_and_each_has_a_label(results, drawn):
    (axes,) = drawn["table5-cifar10-curves"].canvas.axes
    lines = curves(axes)
    runs = [run for run in results if str(run.name.of_row()) == "reduced/table5/cifar10/lc-ws10"]
    values = 100 * np.array([[epoch["test_top1"] for epoch in run.epochs] for run in runs])
    np.testing.assert_allclose(lines[6].get_ydata(), values.mean(0))
    np.testing.assert_array_equal(lines[6].get_xdata(), np.arange(1, 6))
    edge = axes.collections[6].get_paths()[0].vertices[:, 1]
    assert (edge.min(), edge.max()) == (values.min(), values.max())
    assert texts(axes)[6] == "LC - ws(10)" and len(texts(axes)) == len(lines) == 8
    looks = {(line.get_color(), line.get_linestyle()) for line in lines}
    assert len(looks) == 8


def test_amounts_are_numbers_of_images_and_of_batches(results, drawn):
    (axes,) = drawn["images-cifar10"].canvas.axes
    total = 50_000 * REDUCED.datasets["cifar10"]["data.train_fraction"]
    images = [total * part for part in (0.1, 0.25, 0.5, 1)]
    assert [label.get_text() for label in axes.get_xticklabels()] == [f"{n:,.0f}" for n in images]
    conv = curves(axes)[0]
    np.testing.assert_allclose(conv.get_xdata(), images)
    of_parts = [np.mean(top1(results, "images", f"conv-{percent}pct")) for percent in (10, 25, 50)]
    means = [*of_parts, np.mean(top1(results, "table5", "conv"))]
    np.testing.assert_allclose(conv.get_ydata(), means)

    (axes,) = drawn["frequency-cifar10"].canvas.axes
    assert [label.get_text() for label in axes.get_xticklabels()][-2:] == ["100", "never"]
    shared = curves(axes)[0]
    np.testing.assert_array_equal(shared.get_xdata(), [1, 2, 5, 10, 20, 50, 100])
    assert shared.get_ydata()[1] == pytest.approx(np.mean(top1(results, "frequency", "lc-ws2")))
    assert shared.get_ydata()[3] == pytest.approx(np.mean(top1(results, "table5", "lc-ws10")))
    assert {"LC", "conv", "LC - ws(n)"} <= set(texts(axes))


def test_variants_stand_beside_rows_of_table_5(results, drawn):
    for name, experiment, own in (
        ("pools-cifar10", "pools", {2: "lc-ws1-global"}),
        ("modes-cifar10", "modes", {1: "lc-ws1-sleep", 2: "lc-ws1-online"}),
        ("untied-cifar10", "untied", {1: "lc-from-conv", 2: "lc-ws1-from-conv"}),
        ("longer-cifar10", "longer", {1: "conv-4x", 9: "lc-4x"}),
    ):
        axes = drawn[name].canvas.axes[0]
        for place, row in own.items():
            np.testing.assert_allclose(
                dots(axes)[place].get_xdata(), top1(results, experiment, row)
            )
        np.testing.assert_allclose(dots(axes)[-1].get_xdata(), top1(results, "table5", "lc"))
    below = drawn["untied-cifar10"].canvas.axes[1]
    assert len(curves(below)) == 5 and "ws(1), from conv" in texts(below)


def test_lines_of_fig_6_stop_where_snr_is_infinite(results):
    runs = [run for run in results if run.name.experiment == "fig6" and run.name.seed == 0]
    broken = [(step, dict(values)) for step, values in runs[2].snr]
    for step, values in broken:
        values[LAYERS[0]] = None
        values[LAYERS[1]] = None if step > broken[2][0] else values[LAYERS[1]]
        values[LAYERS[2]] = math.inf if step == broken[1][0] else values[LAYERS[2]]  # a gap
    runs[2] = runs[2]._replace(snr=broken, state="diverged", metrics={}, steps=4321)
    drawing = drawings(runs, "reduced")["fig6-cifar10"]
    panels = drawing.canvas.axes
    assert [axes.get_title("left")[:21] for axes in panels] == [
        "A. Learning rate 5e-4", "B. Learning rate 5e-3", "C. Learning rate 5e-2",
    ]  # fmt: skip
    lines = dict(zip(LAYERS, curves(panels[0]), strict=True))
    steps, recorded = zip(*runs[0].snr, strict=True)
    for layer, line in lines.items():
        np.testing.assert_array_equal(line.get_xdata(), steps)
        np.testing.assert_array_equal(line.get_ydata(), [values[layer] for values in recorded])
    assert texts(panels[0]) == list(LAYERS)

    (cross,) = [line for line in panels[2].get_lines() if line.get_marker() == "x"]
    assert cross.get_xydata()[0].tolist() == [broken[2][0], broken[2][1][LAYERS[1]]]
    assert f"infinite throughout: {LAYERS[0]}" in texts(panels[2])
    assert "diverged after 4,321 steps" in panels[2].get_title("left")
    assert "SNR is infinite from here on" in drawing.note and "diverged" in drawing.note
    assert f"(0 of {RUNS}, 1 diverged)" in drawing.caption
    assert "SNR is infinite" not in drawings(runs[:2], "reduced")["fig6-cifar10"].note


def test_what_lacks_is_said_and_nothing_raises(results):
    # One run of some rows, none of others; one that is going on, one whose accuracy is lost, one
    # without epochs, one with other rates.
    some = [run for run in results if run.name.seed == 1 and run.name.row not in ("conv", "lc")]
    some = {str(run.name).removeprefix("reduced/"): run for run in some}
    for name, changes in {
        "table5/cifar10/lc-4reps/seed1": {"state": "started", "metrics": {}},
        "table5/cifar10/lc-8reps/seed1": {"metrics": {"test_top1": None}},
        "table5/cifar10/lc-ws1/seed1": {"epochs": [], "snr": []},
        "table5/cifar10/lc-ws10/seed1": {"changes": {"optimizer.learning_rate": 0.1}},
        "fig6/cifar10/lc-ws10-lr5e-3/seed1": {"snr": [(50, dict.fromkeys(LAYERS))]},
    }.items():
        some[name] = some[name]._replace(**changes)
    drawn = drawings(list(some.values()), "reduced")
    assert len(drawn) == 10
    caption = drawn["table5-cifar10-curves"].caption
    assert f"conv (0 of {RUNS}), LC (0 of {RUNS}), LC - 4 reps (0 of {RUNS}, 1 started)" in caption
    assert f"LC - 8 reps (0 of {RUNS}, 1 without accuracy)" in caption
    assert "Without epochs in their results: runs of LC - ws(1)." in caption
    assert "Some runs differ from their rows in optimizer.learning_rate." in caption
    assert f"Not the paper's: {REDUCED.about}." in caption
    (axes,) = drawn["table5-cifar10-accuracy"].canvas.axes
    assert texts(axes).count("no finished run") == 4
    alone = {run.name.experiment: run for run in some.values()}
    for run in alone.values():  # none needs the runs of another experiment
        assert drawings([run], "reduced")
    assert drawings([], "reduced") == drawings(list(some.values()), "small") == {}


def test_rows_with_a_convolution_first_have_a_panel_of_their_own():
    rows = ("conv", "lc", "lc-ws1", "conv1-lc", "conv1-lc-ws1")
    runs = [make_result(parse_name(f"table13/imagenet/{row}/seed0")) for row in rows]
    drawing = drawings(runs, "paper")["table13-imagenet-curves"]
    assert [texts(axes) for axes in drawing.canvas.axes] == [["conv", "LC", "LC - ws(1)"]] * 2
    # One run is all that there is.
    assert "Lacking: LC - ws(10) (0 of 1 run), LC - ws(100) (0 of 1 run)," in drawing.caption
    (axes,) = drawings(runs[:1], "paper")["table13-imagenet-curves"].canvas.axes
    assert texts(axes) == ["conv"]


def test_pictures_are_the_same_bytes_twice(results):
    some = [run for run in results if run.name.experiment == "pools"]
    first, second = (draw_figures(some, REDUCED) for _ in range(2))
    assert first == second and list(first) == ["pools-cifar10"]
    figure = first["pools-cifar10"]
    image = Image.open(io.BytesIO(figure.png))
    image.load()
    assert image.width == 896  # 700 on a page, and some more for sharp screens
    assert "ws(1), all positions" in figure.alt


@pytest.mark.parametrize(("scale", "marked"), [("reduced", True), ("paper", False)])
def test_what_is_not_the_papers_is_marked_on_the_picture(scale, marked):
    name = parse_name("table5/cifar10/lc/seed0")._replace(scale=scale)
    runs = [make_result(name)]
    with styled():
        drawing = dict(each_drawing(runs, SCALES[scale]))["table5-cifar10-accuracy"]
        write_figure(drawing, SCALES[scale])
    told = " ".join(drawing.canvas.get_supxlabel().split())
    assert told == (f"Not the paper's: {SCALES[scale].about}." if marked else "")


def test_labels_keep_their_order_and_do_not_touch():
    random = np.random.default_rng(0)
    for count in (1, 2, 9, 30):
        places = random.uniform(0, 1, count)
        moved = spread_out(places, 0.05)
        order = np.argsort(places)
        assert (np.diff(moved[order]) >= min(0.05, 1 / max(count - 1, 1)) - 1e-9).all()
        assert (moved > -1e-9).all() and (moved < 1 + 1e-9).all()
    assert spread_out(np.array([0.1, 0.9]), 0.1).tolist() == [0.1, 0.9]
