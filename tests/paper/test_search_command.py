"""python -m jaxws paper search, with runs that cost nothing: what is trained, written and said."""

import itertools
import json

import pytest

from jaxws.__main__ import main
from jaxws.commands.paper import search
from jaxws.paper import search_runs
from jaxws.paper.execute import Outcome
from jaxws.paper.jobs import job_state
from jaxws.paper.names import parse_name
from jaxws.paper.scales import SCALES
from jaxws.paper.search import candidates
from tests.support.paper_runs import write_run

ROW = "small/table5/digits/lc"
PAIRS = [each.rates for each in candidates(parse_name(ROW))]


class Trainer:
    """Stands for run_jobs: writes the runs, and remembers which."""

    def __init__(self, diverging=(), most=100):
        self.diverging, self.most = diverging, most
        self.calls, self.trained = [], []

    def __call__(self, jobs, slots, *, retry, seconds):
        self.calls.append([job.name for job in jobs])
        ends = {"done": [], "diverged": [], "stopped": []}
        for job in jobs:
            state = job_state(job).kind
            if state not in ("done", "diverged"):
                if len(self.trained) == self.most:
                    ends["stopped"].append(job.name)
                    continue
                state = self.train(job)
            ends[state].append(job.name)
        return Outcome(
            *map(tuple, (ends["done"], ends["diverged"], (), (), ends["stopped"])),
        )

    def train(self, job):
        rate, decay = (job.config.optimizer[key] for key in ("learning_rate", "weight_decay"))
        diverges = rate in self.diverging
        write_run(
            job.workdir,
            job.arguments[0].removeprefix("--config=paper:") + "/seed0",
            # Best at 3e-3 and the larger decay.
            top1=0.9 - 50 * abs(rate - 3e-3) + decay,
            changes={
                "optimizer.learning_rate": rate,
                "optimizer.weight_decay": decay,
                "epochs": job.config.epochs,
                "data.split": job.config.data.split,
            },
            workdir=job.workdir,
            diverged=diverges,
        )
        self.trained.append((job.name, rate, decay))
        return "diverged" if diverges else "done"


@pytest.fixture
def paper_search(monkeypatch, tmp_path, capsys):
    """Runs the command; gives its status and what it printed."""
    monkeypatch.setattr(search, "probe", lambda: None)
    monkeypatch.setattr(search, "make_slots", lambda configs, devices, jobs: ())

    def run(*arguments, trainer=None):
        monkeypatch.setattr(search, "run_jobs", trainer or Trainer())
        try:
            status = main(["paper", "search", *arguments, f"--runs={tmp_path}"])
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def forecast(monkeypatch):
    """Names of the jobs of each forecast, which measures none."""
    shown = []
    monkeypatch.setattr(
        search, "show_forecast", lambda jobs, slots, runs: shown.append([job.name for job in jobs])
    )
    return shown


def test_a_search_from_start_to_choice(paper_search, forecast, tmp_path):
    file = tmp_path / "search" / ROW / "choice.json"
    status, out, _ = paper_search(ROW, "--dry_run")
    assert status == 0 and forecast[-1] == [
        f"search/{ROW}/lr{rates.learning_rate:g}-wd{rates.weight_decay:g}" for rates in PAIRS
    ]
    assert "No choice yet: 0 of 6 runs have ended." in out and not list(tmp_path.iterdir())
    # A signal stops it after two runs; it goes on with the others, and then finds nothing to do.
    begun, rest, nothing = Trainer(most=2), Trainer(diverging=[5e-3]), Trainer()
    status, out, _ = paper_search(ROW, trainer=begun)
    assert status == 75 and len(begun.trained) == 2
    assert "No choice yet: 2 of 6 runs have ended." in out
    assert json.loads(file.read_text())["chosen"] is None
    status, out, _ = paper_search(ROW, trainer=rest)
    assert status == 0 and len(rest.trained) == 4
    assert [line for line in out.splitlines() if "chosen" in line and "0.003" in line]
    assert "not the paper's" in out.replace("\n", " ")
    before = file.read_bytes()
    status, out, _ = paper_search(ROW, "--json", trainer=nothing)
    assert status == 0 and nothing.trained == [] and file.read_bytes() == before
    found = json.loads(out)[ROW]
    assert found["chosen"] == {"learning_rate": 0.003, "weight_decay": 0.01}
    assert found["at_border"] == [] and len(found["candidates"]) == 6


def test_shards_make_up_the_search(paper_search):
    trainers = [Trainer() for _ in range(4)]
    for part, trainer in enumerate(trainers):
        status, out, _ = paper_search(ROW, f"--shard={part}/4", trainer=trainer)
        assert status == 0
        assert ("No choice yet" in out) == (part < 3)
    trained = list(itertools.chain.from_iterable(trainer.trained for trainer in trainers))
    assert sorted(pair for _, *pair in trained) == sorted(map(list, PAIRS))
    assert max(len(trainer.trained) for trainer in trainers) == 2


def test_a_partial_choice_is_said_to_be_one(paper_search):
    status, out, _ = paper_search(ROW, "--shard=0/2", "--allow_partial")
    assert status == 0 and "Chosen among 3 runs of 6; the others have not ended." in out


def test_all_have_diverged(paper_search):
    trainer = Trainer(diverging={rates.learning_rate for rates in PAIRS})
    status, out, _ = paper_search(ROW, trainer=trainer)
    assert status == 3 and "No choice: all runs have diverged." in out


def test_decays_come_last_where_the_scale_says_so(paper_search, forecast, monkeypatch):
    small = SCALES["small"]._replace(decays_last=True)
    for module in (search_runs, search):
        monkeypatch.setattr(module, "SCALES", {"small": small})
    status, out, _ = paper_search(ROW, "--dry_run")
    assert len(forecast[-1]) == 3 and "Runs at another weight decay follow" in out
    trainer = Trainer()
    status, out, _ = paper_search(ROW, trainer=trainer)
    assert status == 0 and "No choice" not in out
    assert [(rate, decay) for _, rate, decay in trainer.trained] == [
        *((rate, 1e-2) for rate in (5e-3, 3e-3, 1e-3)),
        (3e-3, 1e-4),
    ]


def test_rows_with_the_rates_of_others(paper_search, forecast):
    others = ["fig6/cifar10", "frequency/cifar10/lc-ws2"]
    status, _, error = paper_search(*others)
    assert status == 2 and error.count("\n") == 1
    assert "rows of fig6, frequency are not searched: they take the rates of" in error
    assert "table5/cifar10/lc-ws10, table5/cifar10/lc-ws1; search for these" in error
    status, out, _ = paper_search(*others, "table5/cifar10/conv", "--dry_run")
    assert status == 0 and len(forecast[-1]) == 8
    assert "rows of fig6, frequency are not searched" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([f"{ROW}/seed3"], "a row is searched with seed 0, for all seeds: give small/table5"),
        ([ROW, "--config.epochs=3"], "--config.epochs is what makes a run one of its row"),
        ([ROW, "--config.optimizer.learning_rate=1"], "--config.optimizer.learning_rate is"),
        ([ROW, "--shard=2/2"], "'2/2': expected INDEX/COUNT"),
        ([ROW, "--seeds=1"], "unknown argument '--seeds=1'"),
        (["tabel5"], "no part of a name is 'tabel5'"),
    ],
)
def test_mistakes(paper_search, arguments, message):
    trainer = Trainer()
    status, _, error = paper_search(*arguments, trainer=trainer)
    assert status == 2 and message in error and error.count("\n") == 1
    assert trainer.calls == []
