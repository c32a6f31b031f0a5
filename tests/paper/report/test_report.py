"""Reports of runs that were never trained, read as a browser, Markdown and a spreadsheet would."""

import csv
import io
import re

import pytest

import jaxws.paper.figures
from jaxws.__main__ import main
from jaxws.paper.names import parse_name, select
from jaxws.paper.report.build import build, make_sections, with_companions
from jaxws.paper.report.coverage import Coverage
from jaxws.paper.report.markdown import to_markdown
from jaxws.paper.report.rows_csv import to_csv
from jaxws.paper.report.web_page import to_html
from jaxws.paper.rows import Rates
from jaxws.paper.scales import SCALES
from tests.records.test_report import Page
from tests.support.paper_results import make_result
from tests.support.paper_runs import write_run

TABLE = "small/table5/digits"


def report(*arguments):
    return main(["paper", "report", *map(str, arguments)])


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def runs_of(row, tops, **changes):
    """Results of a row by seed, with these accuracies in %."""
    name = parse_name(row)
    return [
        make_result(name.with_seed(seed), metrics={"test_top1": top / 100}, **changes)
        for seed, top in enumerate(tops)
    ]


def tables(names, results):
    """Cells of a report's rows by the first one of each, from Markdown; and its text."""
    text = to_markdown(build(names, results, []))
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line[:1] == "|"]
    return {line[0]: line for line in lines}, text


def rows(names, results):
    text = to_csv(make_sections(names, results))
    return {line["name"]: line for line in csv.DictReader(io.StringIO(text))}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Some runs of two tables: all seeds, some, none; stopped, diverged and damaged ones."""
    runs = tmp_path_factory.mktemp("here") / "runs"
    for seed in range(5):
        write_run(runs, f"{TABLE}/conv/seed{seed}", top1=0.9 + seed / 1000)
        write_run(runs, f"{TABLE}/lc-ws1/seed{seed}", top1=0.88 + seed / 1000)
    for seed in range(2):
        write_run(runs, f"{TABLE}/lc/seed{seed}", top1=0.8 + seed / 1000)
    write_run(runs, f"{TABLE}/lc/seed2", top1=0.8, done=False)
    write_run(runs, f"{TABLE}/lc/seed3", top1=0.8, diverged=True)
    (write_run(runs, f"{TABLE}/lc/seed4") / "config.json").write_text("{")
    write_run(runs, f"{TABLE}/lc/seed7", top1=0.8)
    return runs


def test_the_command_writes_the_same_report_twice(runs, tmp_path, capsys, monkeypatch):
    drawn = []
    draw = jaxws.paper.figures.draw_figures
    monkeypatch.setattr(
        jaxws.paper.figures, "draw_figures", lambda *given: drawn.append(draw(*given)) or drawn[0]
    )
    assert report("small/table5", "--runs", runs) == 0
    told, there = capsys.readouterr(), contents(runs / "report" / "small")
    assert set(there) > {"report.md", "report.html", "report.csv", "table5-digits-accuracy.png"}
    assert "runs with seed 7 are there too, of small/table5/digits/lc; --seeds" in told.err
    assert all(name in told.out for name in there)
    # The same again, and from published results; figures, which take long, are drawn once.
    published = tmp_path / "published"
    collect = ["paper", "collect", "small/table5", "--seeds=0-7", f"--runs={runs}"]
    main([*collect, f"--out={published}"])
    monkeypatch.setattr(jaxws.paper.figures, "draw_figures", lambda *_: drawn[0])
    report("small/table5", "--runs", runs, "--results", published, "--out", tmp_path / "both")
    assert contents(tmp_path / "both") == there
    report("small/table5", "--runs", tmp_path, "--results", published, "--out", tmp_path / "out")
    assert contents(tmp_path / "out")["report.csv"] == there["report.csv"]
    markdown, html = there["report.md"].decode(), there["report.html"].decode()
    assert str(runs.parent) not in markdown + html
    assert "](table5-digits-accuracy.png)" in markdown
    page = Page(html)
    about = SCALES["small"].about
    assert page.plain.count(f"not the paper's: {about}") >= 2
    assert len(page.attributes("caption")) == len(page.attributes("table"))
    assert all(image["alt"] for image in page.attributes("img"))
    assert len(page.attributes("img")) == len(there) - 3
    assert f"**Not the paper's: {about}.**" in markdown
    for expected in (
        "12 of 40 runs are done, 1 damaged, 1 diverged, 1 started.",
        f"{TABLE}/lc/seed2: started, after 10 of 20 epochs",
        f"{TABLE}/lc/seed3: diverged, the loss is not finite at step 41",
        f"{TABLE}/lc/seed4: damaged, config.json cannot be read: ",
        f"python -m jaxws paper run {TABLE}/lc-8reps python -m",
        "jax 0.10.2",
        "dates 2026-01-02",
        "Wall time of the 12 runs that count: 0:12:00",
    ):
        assert expected in page.plain, expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["table5"], "nothing to report: none of the 120 runs is in"),
        (["table5", "small/table5"], "a report is of one scale, these are of paper and small"),
        (["table5", "--results", "nowhere"], "nowhere is no directory"),
        (["table7"], "nothing fits 'table7'"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, capsys, arguments, expected):
    with pytest.raises(SystemExit) as status:
        report(*arguments, "--runs", tmp_path)
    assert status.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
    assert not any(tmp_path.iterdir())


def test_rows_are_held_against_the_paper_s():
    names = select(["table5/cifar100"])
    results = [
        *runs_of("table5/cifar100/conv", [59.0, 59.1, 59.2, 59.3, 59.9]),
        *runs_of("table5/cifar100/lc", [51.0, 51.4]),
    ]
    results[0].metrics["test_top5"] = 0.84
    cells, text = tables(names, results)
    # The paper has 59.2 and 49.8, with spreads of 1.5 and 1.1.
    assert "Top-1 accuracy (%) on CIFAR-100" in text
    assert cells["LC \\< LC - 4 reps"][-1] == "missing"
    conv, local, missing = (
        next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        for name in ("conv", "LC", "LC - 8 reps")
    )
    assert conv == (
        "| conv | 59.2 | 1.5 |  | 59.3 | 0.9 | 5 |  | 0.01, 0.01 | within (+0.1, up to 0.9) |"
    )
    assert local == (
        "| LC | 49.8 | 1.1 | -9.4 | 51.2 | 0.4 | 2 of 5 | -8.1 | 0.0005, 0.01"
        " | outside (+1.4, more than 0.8) |"
    )
    assert missing.endswith("|  |  | 0 of 5 |  | 0.0005, 0.0001 | missing |")
    assert re.search(r"Top-5 .*\n\n.*\n.*\n\| conv \| 84.9 \| 0.2 \|  \| 84.0 \|  \| 1 of 5 ", text)
    assert "| Table 5 | CIFAR-100 | 2 of 8 | outside: 2, within: 1 | missing: 8 |" in text
    assert "not the paper" not in text
    line = rows(names, results)["table5/cifar100/lc"]
    assert (line["top1_mean"], line["top1_diff"], line["seeds"]) == ("51.2", "-8.1", "0 1")
    assert (line["top1_verdict"], line["is_paper"], line["order"]) == ("outside", "yes", "missing")


def test_other_rates_and_precisions_are_not_mixed():
    names = select(["small/table6"], seeds=[0, 1, 2])
    conv, local = ("small/table6/digits/conv", "small/table6/digits/lc-ws1")
    searched = Rates(3e-3, 1e-4).fields
    half = {"model.dtype": "bfloat16"}
    results = [
        *runs_of(conv, [90.0, 91.0, 92.0]),
        *runs_of(local, [88.0]),
        *[r for r in runs_of(local, [0, 80.0, 82.0], changes=searched) if r.name.seed],
        *runs_of(conv.replace("conv", "lc"), [70.0, 71.0, 72.0], changes=half | searched),
    ]
    _, text = tables(names, results)
    lines = [line for line in text.splitlines() if re.match(r"\| (LC|LC - ws\(1\)) \| \d", line)]
    assert [line.split(" | ")[4:9] for line in lines] == [
        ["", "", "0 of 3", "", "0.003, 0.01"],
        ["88.0", "", "1 of 3", "-3.0", "0.003, 0.01"],
        ["81.0", "2.0", "2 of 3", "-10.0", "0.003, 0.0001 \\*"],
        ["71.0", "2.0", "3", "", "0.003, 0.0001 \\*"],  # no conv of its kind
    ]
    assert "on digits, with model.dtype=bfloat16 (not the paper's" in text
    assert "but for rows with a star, such as searched ones: LC - ws(1)." in text
    # Of the two lines of ws(1), the one with more seeds is compared.
    assert "| LC - ws(1) ≤ conv | +0.9 | +10.0 | 80.0 to 82.0 | 90.0 to 92.0 | holds |" in text


def test_rows_beyond_the_paper_stand_beside_those_of_table_5():
    names = select(["reduced/untied", "reduced/images"])
    results = [
        *runs_of("reduced/table5/cifar10/conv", [60.0, 61.0]),
        *runs_of("reduced/table5/cifar10/lc", [50.0, 51.0]),
        *runs_of("reduced/untied/cifar10/lc-from-conv", [55.0, 56.0]),
        *runs_of("reduced/images/cifar10/conv-10pct", [40.0]),
        *runs_of("reduced/images/cifar10/lc-10pct", [30.0]),
    ]
    cells, text = tables(names, results)
    assert cells["LC (Table 5)"][:5] == ["LC (Table 5)", "50.5", "1.0", "2 of 3", "-10.0"]
    assert cells["LC, from conv"][4:] == ["-5.0", "0.001, 0.01", "+5.0 to LC: above"]
    assert cells["LC - ws(1), from conv"][-1] == "missing"
    assert cells["LC, 10pct"][4] == "-10.0"  # against conv with as many images
    assert "python -m jaxws paper run reduced/untied/cifar10/lc-ws1-from-conv" in text


def test_commands_make_exactly_what_is_missing():
    names = with_companions(select(["small", "small/table5/digits/conv/seed7"]))
    lacking = {f"{TABLE}/lc/seed0", f"{TABLE}/lc/seed3", f"{TABLE}/conv/seed7"}
    lacking |= {str(name) for name in names if name.experiment == "table4"}
    results = [make_result(name) for name in names if str(name) not in lacking]
    stuck = results[-1]._replace(state="diverged")
    commands = Coverage(names, [*results[:-1], stuck]).commands()
    assert commands[0] == "python -m jaxws paper run small/table4/digits"
    assert len(commands) == 3
    made = set()
    for command in commands:
        pattern, *seeds = command.removeprefix("python -m jaxws paper run ").split(" --seeds ")
        chosen = [int(seed) for seed in seeds[0].split(",")] if seeds else None
        made |= {str(name) for name in select([pattern], seeds=chosen)}
    assert made == lacking


def test_what_the_runs_of_a_table_differ_in_is_said():
    names = select(["small/table4"])
    old = {"jax": "0.9.0", "device": "1 x cpu (cpu)", "date": "2026-01-03"}
    results = [
        *runs_of("small/table4/digits/conv", [90.0], facts=old),
        *runs_of("small/table4/digits/lc", [80.0, 81.0], facts=old | {"jax": "0.10.2", "date": ""}),
    ]
    text = to_markdown(build(names, results, [], ["runs.csv, line 3: <b>bad|line</b>"]))
    assert "- jax: 0.10.2 (2 runs), 0.9.0 (1 runs)" in text
    assert "- device" not in text
    assert "| python | not recorded |" in text
    assert "| dates | 2026-01-03 |" in text
    assert "- runs.csv, line 3: \\<b\\>bad\\|line\\</b\\>" in text
    html = to_html(build(names, results, [], ["<b>bad</b>"]))
    assert "<li>&lt;b&gt;bad&lt;/b&gt;</li>" in html
