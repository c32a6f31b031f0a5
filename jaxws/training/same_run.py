"""Processes that share a run: whether all of them were started for the same one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

import jaxws
from jaxws import data
from jaxws.config.identity import NOTES, parts_of, to_json
from jaxws.parallel import processes
from jaxws.parallel.together import check_same
from jaxws.records.provenance import git_facts, versions
from jaxws.system.local_path import is_bucket

# Machines may have their data at places of their own, and more or less to read them with.
_OWN = ("data.path", "data.data_dir", "data.prefetch", "data.threads", "data.workers")


def check_same_run(config: ConfigDict, feed: data.Feed, workdir: str | Path) -> None:
    """Sees to it that all processes were started for the same run, with the same code.

    Args:
      config: of the run.
      feed: its data.
      workdir: its directory.

    Raises:
      ValueError: this process differs from process 0; one line says in what.
    """
    if processes.count() == 1:
        return  # it takes a part of a second
    fields, facts = parts_of(to_json(config, feed.fingerprint()))
    git = git_facts(Path(jaxws.__file__)) or {}
    check_same(
        {f"config.{name}": value for name, value in fields.items() if name not in _OWN}
        | {f"{name} of the data": value for name, value in facts.items() if name != NOTES}
        | {f"version of {name}": version for name, version in versions().items()}
        | {"commit of the code": git.get("commit"), "workdir": _absolute(workdir)}
    )


def _absolute(path: Any) -> str:
    return str(path) if is_bucket(path) else os.path.abspath(os.path.expanduser(path))
