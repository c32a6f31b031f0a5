"""A process that runs jobs as ``paper run`` does, with a stand-in for training, to be killed."""

import sys
from pathlib import Path

from jaxws.config.identity import to_json
from jaxws.paper.execute import run_jobs
from jaxws.paper.jobs import make_jobs
from jaxws.paper.names import parse_name
from jaxws.paper.slots import Slot

FAKE = Path(__file__).with_name("fake_train.py")
ROW = "small/table4/digits/conv"


def fake_jobs(runs, names):
    """Jobs of three epochs each."""
    jobs = []
    for job in make_jobs([parse_name(name) for name in names], runs):
        job.config.epochs = 3
        jobs.append(job)
    return jobs


def fake_command(jobs, seconds, statuses=None):
    """What stands in for ``train``: see fake_train.py."""
    configs = {}
    for job in jobs:
        configs[str(job.workdir)] = file = job.workdir.parents[4] / f"{job.name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(to_json(job.config, {}))

    def command(arguments):
        workdir = arguments[-1].removeprefix("--workdir=")
        status = (statuses or {}).get(workdir.rpartition("/")[2], 0)
        return [sys.executable, "-I", "-S", str(FAKE), str(configs[workdir]), workdir,
                str(seconds), str(status)]  # fmt: skip

    return command


def main(runs, seconds, seeds):
    jobs = fake_jobs(Path(runs), [f"{ROW}/seed{seed}" for seed in range(int(seeds))])
    slots = (Slot(), Slot())
    sys.exit(run_jobs(jobs, slots, command=fake_command(jobs, float(seconds))).status)


if __name__ == "__main__":
    main(*sys.argv[1:])
