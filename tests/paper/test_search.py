"""Searches: the paper's grids as runs, which of them is the best, and how that is kept."""

import json
from pathlib import Path

import pytest

from jaxws.commands.parse_config import parse_config
from jaxws.config.checks import check_config
from jaxws.config.identity import differences, to_json
from jaxws.paper import search_runs
from jaxws.paper.choices import (
    chosen_rates,
    read_choice,
    search_lines,
    searched_rates,
    write_choice,
)
from jaxws.paper.configs import row_config, usual_rates
from jaxws.paper.names import all_rows, parse_name
from jaxws.paper.scales import SCALES
from jaxws.paper.search import candidates, search_directory, searched_row
from jaxws.paper.search_runs import at_border, choose, search_job, search_scores
from jaxws.paper.searches import TABLE, merge_searches, read_searches, searches_csv
from jaxws.training.optimizers import optimizer_settings
from tests.support.paper_runs import write_run

ROW = parse_name("small/table5/digits/lc")
CIFAR_CONV = {(rate, decay) for rate in (1e-1, 5e-2, 1e-2, 5e-3) for decay in (1e-2, 1e-4)}
CIFAR_LC = {(rate, decay) for rate in (1e-3, 5e-4, 1e-4, 5e-5) for decay in (1e-2, 1e-4)}
RATES = ("config.optimizer.learning_rate", "config.optimizer.weight_decay")
TINY_LC = {(1e-3, 1e-2), (1e-3, 1e-4), (5e-4, 1e-2), (5e-4, 1e-4)}
IMAGENET_CONV = {(rate, decay) for rate in (1e-3, 5e-4) for decay in (1e-2, 1e-4, 1e-6)}
# As appendix B prints them; with the epochs of the runs and after which of them the rate drops.
GRIDS = {
    "table5/cifar10/conv": (CIFAR_CONV, 200, (100, 150)),
    "table4/cifar100/conv": (CIFAR_CONV, 200, (100, 150)),
    "table6/cifar10/lc-16reps": (CIFAR_LC, 200, (100, 150)),
    "table6/cifar100/lc-ws10": (CIFAR_LC, 200, (100, 150)),
    "table5/tiny_imagenet/conv": (TINY_LC | {(5e-3, 1e-2), (5e-3, 1e-4)}, 50, (25, 37)),
    "table4/tiny_imagenet/lc-ws1": (TINY_LC, 50, (25, 37)),
    "table13/imagenet/conv": (IMAGENET_CONV, 20, (10, 15)),
    "table13/imagenet/lc-ws1": ({(rate, 1e-2) for rate in (1e-3, 5e-4, 1e-4, 5e-5)}, 20, (10, 15)),
    "table13/imagenet/conv1-lc": (IMAGENET_CONV - {(1e-3, 1e-2)}, 20, (10, 15)),
}


def write_candidates(runs, row=ROW, top1=lambda rates: 0.5, **options):
    """All runs of a row's search, finished, but for those whose options say otherwise."""
    for each in candidates(row):
        write_run(
            runs,
            f"{row}/seed0",
            top1=top1(each.rates),
            rates=each.rates,
            changes=each.changes,
            workdir=each.workdir(runs),
            **options,
        )


@pytest.mark.parametrize("name", GRIDS)
def test_grids_and_schedules_are_those_of_the_paper(name, tmp_path):
    grid, epochs, drops = GRIDS[name]
    found = candidates(parse_name(name))
    assert {each.rates for each in found} == grid and len(found) == len(grid)
    jobs = [search_job(each, tmp_path, {"data.path": "/images"}) for each in found]
    assert len({job.workdir for job in jobs}) == len({job.name for job in jobs}) == len(grid)
    for job in (jobs[0], jobs[-1]):
        config, _, _ = parse_config(job.arguments)
        check_config(config)
        assert to_json(config, {}) == to_json(job.config, {})
        assert (config.epochs, config.data.split, config.seed) == (epochs, "tuning", 0)
        assert config.data.path == "/images"
        assert optimizer_settings(config, steps_per_epoch=1).drop_epochs == drops
        # But for what is searched, it is the row's final run.
        changed = {
            line.partition(":")[0]
            for line in differences(to_json(row_config(name), {}), to_json(config, {}))
        }
        assert changed <= {"config.epochs", "config.data.split", *RATES}


def test_every_row_has_the_search_of_a_row_of_a_table():
    searched = {name: searched_row(name) for name in all_rows()}
    own = {name for name, row in searched.items() if name == row}
    assert set(searched.values()) == own <= set(all_rows())
    assert {name.experiment for name in own} == {"table4", "table5", "table6", "table13"}
    assert str(searched[parse_name("fig6/cifar10/lc-ws10-lr5e-2")]) == "table5/cifar10/lc-ws10"
    assert str(searched[parse_name("reduced/untied/cifar10/lc-from-conv")]) == (
        "reduced/table5/cifar10/lc"
    )


def test_the_best_is_chosen_and_the_rest_is_told(tmp_path):
    write_candidates(tmp_path, top1=lambda rates: 0.9 if rates.learning_rate > 1e-3 else 0.5)
    pairs = [each.rates for each in candidates(ROW)]
    assert pairs[0] == (5e-3, 1e-2) and pairs[2:4] == [(3e-3, 1e-2), (3e-3, 1e-4)]
    scores, made_with = search_scores(tmp_path, ROW)
    assert made_with["jax"] == ["0.10.2"] and made_with["device"] == ["1 x cpu (cpu)"]
    # Equal in top-1 and loss: the smaller rate, then the smaller decay.
    assert [score.rates for score in choose(scores) if score.chosen] == [(3e-3, 1e-4)]
    # The lower loss comes before that.
    write_candidate(tmp_path, 0, top1=0.9, loss=0.1)
    chosen = choose(search_scores(tmp_path, ROW)[0])
    assert [score.rates for score in chosen if score.chosen] == [(5e-3, 1e-2)]
    assert at_border(chosen) == ["the largest learning rate of the grid, 0.005"]
    # One that has diverged has lost; one that goes on keeps the choice open.
    write_candidate(tmp_path, 0, diverged=True)
    chosen = choose(search_scores(tmp_path, ROW)[0])
    assert [score.rates for score in chosen if score.chosen] == [(3e-3, 1e-4)]
    assert (chosen[0].state, chosen[0].validation_top1) == ("diverged", None)
    write_candidate(tmp_path, 1, done=False)
    scores, _ = search_scores(tmp_path, ROW)
    assert not any(score.chosen for score in choose(scores))
    assert sum(score.chosen for score in choose(scores, allow_partial=True)) == 1


def write_candidate(runs, index, **options):
    each = candidates(ROW)[index]
    options |= {"rates": each.rates, "changes": each.changes | options.pop("changes", {})}
    write_run(runs, f"{ROW}/seed0", workdir=each.workdir(runs), **options)


def test_other_runs_in_its_place_do_not_count(tmp_path):
    write_candidates(tmp_path)
    write_candidate(tmp_path, 0, changes={"data.split": "final"})
    write_candidate(tmp_path, 1, changes={"optimizer.learning_rate": 1.0})
    (candidates(ROW)[2].workdir(tmp_path) / "config.json").write_text("{")
    scores, _ = search_scores(tmp_path, ROW)
    assert [score.state for score in scores] == ["other", "other", "damaged"] + ["done"] * 3
    assert "data.split is 'final' there" in scores[0].note
    assert not any(score.chosen for score in choose(scores))


def test_nobody_wins_where_all_have_diverged(tmp_path):
    write_candidates(tmp_path, diverged=True)
    scores = choose(search_scores(tmp_path, ROW)[0], allow_partial=True)
    assert {score.state for score in scores} == {"diverged"}
    assert not any(score.chosen for score in scores)


def test_decays_may_be_searched_at_the_best_rate_only(tmp_path, monkeypatch):
    small = SCALES["small"]._replace(decays_last=True)
    monkeypatch.setattr(search_runs, "SCALES", {"small": small})
    scores, _ = search_scores(tmp_path, ROW)
    assert [score.rates for score in scores] == [(5e-3, 1e-2), (3e-3, 1e-2), (1e-3, 1e-2)]
    for index in (0, 2, 4):
        write_candidate(tmp_path, index, top1=0.9 if index == 2 else 0.5)
    scores, _ = search_scores(tmp_path, ROW)
    assert [score.state for score in scores] == ["done", "done", "missing", "done"]
    assert scores[2].rates == (3e-3, 1e-4)
    write_candidate(tmp_path, 3, top1=0.8)
    chosen = choose(search_scores(tmp_path, ROW)[0])
    assert [score.rates for score in chosen if score.chosen] == [(3e-3, 1e-2)]


def test_choices_are_kept_published_and_used(tmp_path):
    runs, published = tmp_path / "runs", tmp_path / "published"
    final = parse_name("small/table5/digits/lc/seed3")
    assert chosen_rates(runs, final) is None and search_lines(runs) == []
    write_candidates(runs, top1=lambda rates: rates.learning_rate)
    scores, made_with = search_scores(runs, ROW)
    file = search_directory(runs, ROW) / "choice.json"
    write_choice(runs, ROW, scores, made_with)  # not decided yet
    with pytest.raises(ValueError, match=r"search small/table5/digits/lc --runs=.* makes one"):
        searched_rates(runs, final)
    written = []
    for _ in range(2):
        write_choice(runs, ROW, choose(scores), made_with)
        written.append(file.read_bytes())
    assert written[0] == written[1]
    assert json.loads(written[0])["chosen"] == {"learning_rate": 0.005, "weight_decay": 0.0001}
    assert read_choice(runs, ROW) == choose(scores)
    # Published and read again, also by the name of the file.
    published.mkdir()
    lines = search_lines(runs)
    (published / TABLE).write_text(searches_csv(lines))
    assert sorted(map(str, read_searches(published / TABLE))) == sorted(map(str, lines))
    for place in (runs, published, published / TABLE):
        assert searched_rates(place, final) == chosen_rates(place, ROW) == (0.005, 0.0001)
        assert chosen_rates(place, parse_name("small/table4/digits/lc")) is None
    with pytest.raises(ValueError, match=r"conv has no finished search in .*searches.csv"):
        searched_rates(published, parse_name("small/table5/digits/conv"))
    # A search that has just begun elsewhere takes nothing from a finished one.
    begun = [score._replace(state="started", chosen=False).line for score in scores]
    for old, new in ((lines, begun), (begun, lines), ([], lines)):
        assert searches_csv(merge_searches(old, new)) == searches_csv(lines)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:50], "is not what jaxws writes"),
        (lambda text: text.replace("0.003", '"fast"'), "learning_rate is 'fast', not a positive"),
        (lambda text: text.replace('"state"', '"stat"'), "state is None, not a text"),
        (lambda text: "[]", "is not what jaxws writes"),
    ],
)
def test_damaged_choices(tmp_path, damage, message):
    scores, made_with = search_scores(tmp_path, ROW)
    write_choice(tmp_path, ROW, scores, made_with)
    file = search_directory(tmp_path, ROW) / "choice.json"
    file.write_text(damage(file.read_text()))
    with pytest.raises(ValueError, match=message) as error:
        chosen_rates(tmp_path, ROW)
    assert str(file) in str(error.value) and "paper search small/table5" in str(error.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("name", "row"), "line 1 of .*expected the columns"),
        (lambda text: text.replace("0.005", "fast"), "line 6 of .*could not convert"),
        (lambda text: text.replace(",10,", ",", 1), "line 2 of .*expected 8 values, found 7"),
        (lambda text: text.replace("0.005", ""), "line 6 of .*learning_rate is None"),
    ],
)
def test_damaged_tables(tmp_path, damage, message):
    scores, _ = search_scores(tmp_path, ROW)
    text = damage(searches_csv(score.line for score in scores))
    file = tmp_path / TABLE
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        chosen_rates(tmp_path, ROW)


def test_rates_of_the_reduced_scale_are_those_that_its_searches_chose():
    published = Path(__file__).parents[2] / "docs" / "results" / "paper" / "reduced"
    rows = {line["name"] for line in read_searches(published / TABLE)}
    assert {row.rpartition("/")[2] for row in rows} >= {"conv", "lc", "lc-ws1", "lc-ws100"}
    for row in map(parse_name, rows):
        assert chosen_rates(published, row) == usual_rates(row), str(row)
