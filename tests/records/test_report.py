"""The page of a run, read as a browser and a screen reader would."""

import base64
import io
import json
from html.parser import HTMLParser

import pytest
from PIL import Image

from jaxws.__main__ import main
from jaxws.config import base_config
from jaxws.config.identity import to_json
from jaxws.records.plots import plot_accuracy, plot_curves
from jaxws.records.report import build_report, write_report
from jaxws.records.run_directory import read_run
from jaxws.records.run_facts import wall_seconds

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def stretch(first, last, seconds, dirty=False):
    return {
        "first_step": first, "last_step": last, "seconds": seconds,
        "started": "2026-11-25T18:47:06+00:00", "directory": "/home/me/jaxws",
        "command": f"python train.py --config=configs/x.py --config.max_steps={last}",
        "git": {"commit": COMMIT, "dirty": dirty},
        "versions": {"python": "3.11.7", "jaxws": "0.1.0", "jax": "0.10.2", "orbax": "0.12.8"},
        "machine": {"platform": "Linux", "cores": 2, "device": "1 x H100 (gpu)"},
    }  # fmt: skip


def write_run(path, *, events=(), stretches=(), **changes):
    """Three epochs of four steps; a layer falls silent in the last one."""
    config = base_config()
    config.update_from_flattened_dict(changes)
    path.mkdir()
    (path / "config.json").write_text(to_json(config, {"classes": 10}))
    records = list(events)
    for step in range(1, 13):
        silent = None if step > 8 else -9.0
        records.append({
            "kind": "train", "step": step, "train_loss": 3 / step, "train_top1": 0.1,
            "learning_rate": 1e-3, "grad_norm": None if step == 5 else 1 / step,
            "neg_log_snr": {"conv1": -2.0, "layer1_0/conv1": silent},
        })  # fmt: skip
        if step % 4 == 0:
            records.append({
                "kind": "epoch", "step": step, "epoch": step / 4, "train_loss": 3 / step,
                "train_top1": step / 20, "train_top5": 0.9, "test_loss": 4 / step,
                "test_top1": {4: 0.25, 8: 0.5, 12: 0.375}[step], "test_top5": 0.75,
                "images_per_second": None if step == 4 else 1000.0, "skipped": 0,
            })  # fmt: skip
    (path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    if stretches:
        (path / "provenance.json").write_text(json.dumps({"stretches": list(stretches)}))
    return path


class Page(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self._open = [], [], []
        self.feed(html)
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def attributes(self, wanted):
        return [attributes for tag, attributes in self.tags if tag == wanted]

    @property
    def plain(self):
        return " ".join(" ".join(self.text).split())


def test_the_page_stands_alone_and_can_be_heard(tmp_path):
    run = write_run(tmp_path / "run", stretches=[stretch(0, 12, 60.0)])
    write_report(read_run(run))
    html = (run / "report.html").read_text()
    page = Page(html)
    images = page.attributes("img")
    assert len(images) == 3
    for image, name in zip(images, ("accuracy", "curves", "snr"), strict=True):
        kind, _, content = image["src"].partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(content) == (run / f"{name}.png").read_bytes()
        with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
            assert picture.size[0] > 500
    assert images[0]["alt"].startswith("Accuracy over epochs. Test top-1 goes from 25.00 % after")
    assert "learning rate, gradient norm over steps" in images[1]["alt"]
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "a"}
    assert "http" not in html.replace(images[0]["src"], "")
    assert page.attributes("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in (
        page.attributes("meta")
    )
    scrolling = [each for each in page.attributes("div") if each.get("class") == "scroll"]
    assert len(scrolling) == len(page.attributes("table"))  # wider than a phone, they scroll
    assert len(page.attributes("caption")) == len(page.attributes("table")) >= 5
    heads = page.attributes("th")
    assert {head["scope"] for head in heads} == {"col", "row"}
    assert "prefers-color-scheme: dark" in html


def test_the_page_says_what_there_is_to_say(tmp_path):
    stretches = [stretch(0, 5, 100.4), stretch(5, 12, 3600.0, dirty=True)]
    event = {"kind": "event", "step": 5, "event": "rollback", "message": "to <step> 4"}
    run = write_run(tmp_path / "a<b", stretches=stretches, events=[event], seed=77)
    write_report(read_run(run))
    text = Page((run / "report.html").read_text()).plain
    for expected in (
        "a<b: test top-1 37.50 %",
        "best test top-1 50.00 % after epoch 2",
        "wall time 1:01:40 in 2 starts",
        "kernels of LC layers not recorded",
        "device 1 x H100 (gpu)",
        "best test top-1: 50.00 % after epoch 2; seed: 77; learning rate, at first: 0.001; device:",
        "(step 12) it is not finite in 1 of 2 layers, at most it was in 1",
        "5 rollback to <step> 4",
        "seed 77 default: 0",
        "2026-11-25 18:47:06 UTC 0 to 5 0:01:40 1 x H100 (gpu) not recorded 0123456789ab",
        f"git checkout {COMMIT} # and changes that were not committed python train.py"
        " --config=configs/x.py --config.max_steps=12",
        "orbax 0.12.8",
        "classes 10",
        "layer1_0/conv1 not finite",
        "skipped steps",
    ):
        assert expected in text
    assert wall_seconds(read_run(run)) == 3700.4
    write_report(read_run(run), [("the paper's test top-1", "87.4 %")])
    assert "the paper's test top-1 87.4 %" in Page((run / "report.html").read_text()).plain


def test_a_convolution_on_validation_images_without_provenance(tmp_path):
    run = write_run(tmp_path / "run", **{"model.connectivity": "conv", "data.split": "tuning"})
    past = read_run(run)
    assert write_report(past) == run / "report.html"
    page = Page((run / "report.html").read_text())
    assert "run: validation top-1 37.50 %" in page.plain
    assert "training images that were held out" in page.plain
    assert "Not recorded: there is no provenance.json" in page.plain
    assert "None: no step was skipped" in page.plain
    assert not (run / "snr.png").exists()


def test_the_same_directory_makes_the_same_page_also_by_the_command(tmp_path, capsys):
    run = write_run(tmp_path / "run", stretches=[stretch(0, 12, 1.0)], epochs=3)
    write_report(read_run(run))
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert "the paper's test top-1" not in (run / "report.html").read_text()
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_numbers_that_are_not_finite_are_named(tmp_path):
    run = write_run(tmp_path / "run")
    past = read_run(run)
    for record in past.records:
        record.update(dict.fromkeys(("train_loss", "test_loss") if "epoch" in record else ()))
    text = Page(build_report(past, {"accuracy": b"", "curves": b""})).plain
    assert "test loss not finite" in text


def test_epochs_that_were_not_evaluated_are_none_that_were_not_finite(tmp_path):
    """The second of three was, which has been the best so far; or none was yet."""
    past = read_run(write_run(tmp_path / "run"))
    plots = {"accuracy": b"", "curves": b""}
    for step, record in ((r["step"], r) for r in past.of_kind("epoch")):
        for key in ("test_loss", "test_top1", "test_top5") if step != 8 else ():
            del record[key]
    text = Page(build_report(past, plots)).plain
    assert "run: test top-1 50.00 %" in text and "best test top-1 50.00 % after epoch 2" in text
    assert "test images after epoch 2, evaluated last" in text
    assert "3 12 0.25 60.00 % 1000 0" in text and "2 8 0.375 40.00 % 0.5 50.00 % 1000 0" in text
    # A line joins the epochs that were evaluated; what was not finite leaves a gap in it.
    past.records[-1].update(test_top1=0.25, test_top5=0.75, test_loss=1.0)
    between = {"kind": "epoch", "step": 10, "epoch": 2.5, "train_top1": 0.5, "train_loss": 0.3}
    gap = between | dict.fromkeys(("test_top1", "test_top5", "test_loss"))
    for plot in (plot_accuracy, plot_curves):
        joined, broken = (plot([*past.records[:-1], r, past.records[-1]]) for r in (between, gap))
        assert joined != broken

    for record in past.of_kind("epoch"):
        for key in [key for key in record if key.startswith("test_")]:
            del record[key]
    page = Page(build_report(past, plots))
    assert "run: test not evaluated yet" in page.plain and "best test" not in page.plain
    assert "Test top-1 was not measured yet; training" in page.attributes("img")[0]["alt"]


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("config.json", None, "is not a run of jaxws: it has no config.json"),
        ("config.json", "{", "config.json cannot be read"),
        ("config.json", "[]", "not the JSON that jaxws writes"),
        ("config.json", '{"config": {"colour": 1}, "dataset": {}}', "unknown field config.colour"),
        ("metrics.jsonl", None, "no epoch in metrics.jsonl yet"),
        ("metrics.jsonl", '{"kind"\n{}\n', "line 1 of"),
    ],
)
def test_what_is_no_run_is_told_in_one_line(tmp_path, capsys, file, content, expected):
    run = write_run(tmp_path / "run")
    if content is None:
        (run / file).unlink()
    else:
        (run / file).write_text(content)
    with pytest.raises(SystemExit) as status:
        main(["report", str(run)])
    assert status.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert expected in line
    assert not (run / "report.html").exists()
