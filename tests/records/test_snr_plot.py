"""-log SNR as it is drawn: every line has a name, and its end a reason."""

import numpy as np
from matplotlib.figure import Figure

from jaxws.records.plotting import finish, logarithmic_if_wide
from jaxws.records.snr_lines import draw_layers, name_layers
from jaxws.records.snr_plot import plot_snr

STEPS = np.arange(4) * 1000


def test_lines_have_names_and_those_that_stop_a_cross():
    axes = Figure(layout="constrained").subplots()
    layers = {"conv1": [1, 2, 3, 4], "$x$_2": [3, 2, np.nan, np.nan], "_mute": [np.nan] * 4}
    assert draw_layers(axes, STEPS, {name: np.array(v, float) for name, v in layers.items()})
    name_layers(axes)
    assert [text.get_text() for text in axes.texts] == [
        "infinite throughout: _mute", "conv1", "$x$_2"
    ]  # fmt: skip
    assert not any(text.get_parse_math() for text in axes.texts)
    (cross,) = [line for line in axes.get_lines() if line.get_marker() == "x"]
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == (1000, 2)
    assert not draw_layers(Figure().subplots(), STEPS, {"conv1": np.ones(4)})


def test_the_figure_says_why_lines_have_no_points(monkeypatch):
    notes = []
    monkeypatch.setattr(Figure, "supxlabel", lambda self, text, **_: notes.append(text))
    for values in ([-1.0, -2.0, None], [-1.0, None, -2.0], [-1.0, -2.0, -3.0]):
        layers = [{"conv1": -1.0, "conv2": value} for value in values]
        records = [{"kind": "train", "step": i, "neg_log_snr": v} for i, v in enumerate(layers)]
        assert plot_snr(records)[1:4] == b"PNG"
    assert [note.split(":")[0] for note in notes] == [
        "\N{MULTIPLICATION SIGN} SNR is infinite from here on",
        "Without a point SNR is infinite",
    ]


def test_ticks_show_values_without_offsets():
    for values in ([1e-4, 1.0001e-4], [1e-4, 1e-1], [12345.678, 12345.679], [-1.0, 1.0]):
        figure = Figure()
        axes = figure.subplots()
        axes.plot([0, 1], values)
        finish(axes, "step", "")
        logarithmic_if_wide(axes, np.array(values))
        figure.draw_without_rendering()
        assert not axes.yaxis.get_offset_text().get_text()
        assert not any("^" in label.get_text() for label in axes.get_yticklabels())
