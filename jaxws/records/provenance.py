"""Where a run's numbers come from: code, versions, machine, command and data, in provenance.json.

Every start of a run adds a session to it (``stretches`` in the file). Sessions say how long they
lasted, also those that were killed: the file is written anew as the run goes on.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

import jaxws
from jaxws.core.implementations.dispatch import used
from jaxws.data import Feed
from jaxws.records.provenance_file import NAME, read
from jaxws.system.atomic import write_atomically

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_SECONDS = 30  # between updates within an epoch


class Session:
    """The part of a run that one process does."""

    def __init__(
        self,
        workdir: Path,
        feed: Feed,
        first_step: int,
        init_from: Mapping[str, Any] | None = None,
    ):
        """Adds a session to the run's file.

        Args:
          workdir: directory of the run.
          feed: where its batches come from.
          first_step: from which it starts or resumes.
          init_from: facts about the weights that it starts from; None keeps those that are known.
        """
        self._file, self._begin = workdir / NAME, time.monotonic()
        self._written = self._begin
        self._session = session_facts(first_step)
        before = read(workdir)
        sessions = [*before.get("stretches", []), self._session]
        self._content = {"data": data_facts(feed), "stretches": sessions}
        if known := init_from or before.get("init_from"):
            self._content["init_from"] = dict(known)
        self.reached(first_step, now=True)

    def reached(self, step: int, now: bool = False) -> None:
        """Notes how far the session has come.

        Args:
          step: number of steps done.
          now: write it at once, not only if the last time is half a minute ago.
        """
        self._session["last_step"] = step
        self._session["seconds"] = round(time.monotonic() - self._begin, 3)
        self._session["local_conv"] = used()
        if now or time.monotonic() - self._written >= _SECONDS:
            self._written = time.monotonic()
            # A full disk must not end the run: the old file stays, and the next try may do.
            with suppress(OSError):
                write_atomically(self._file, json.dumps(self._content, indent=1) + "\n")

    def close(self) -> None:
        """Notes when the session ended."""
        self.reached(self._session["last_step"], now=True)


def data_facts(feed: Feed) -> dict[str, Any]:
    """What images must be like for the run's network.

    Args:
      feed: where the run's batches come from.

    Returns:
      Facts for JSON: what was read (name of the data set or folder, its path, checksums), shape,
      normalisation (pixels in [0, 1] minus ``mean``, divided by ``std``), names of classes.
    """
    return {
        "name": feed.name,
        "path": feed.path,
        "checksums": feed.fingerprint(),
        "image_shape": list(feed.image_shape),
        "mean": [float(value) for value in feed.mean],
        "std": [float(value) for value in feed.std],
        "class_names": list(feed.class_names),
        "train_images": feed.train_size,
        "test_images": feed.test_size,
        "tested_on": feed.test_kind,
    }


def session_facts(first_step: int) -> dict[str, Any]:
    """What is known of this process.

    Args:
      first_step: from which it starts or resumes.

    Returns:
      Facts for JSON.

    Example:
      >>> facts = session_facts(0)
      >>> facts["versions"]["jaxws"] == jaxws.__version__
      True
    """
    device = jax.devices()[0]
    return {
        "first_step": first_step,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(given_command()),
        "directory": os.getcwd(),
        "git": git_facts(Path(jaxws.__file__)),
        "versions": versions(),
        "machine": {
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
            "processes": jax.process_count(),
        },
    }


def versions() -> dict[str, str]:
    """Versions of what computes.

    Returns:
      That of Python, of jaxws and of ``PACKAGES``, by name.

    Example:
      >>> versions()["jaxws"] == jaxws.__version__
      True
    """
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), "jaxws": jaxws.__version__, **packages}


def given_command() -> list[str]:
    """The command of this process as it was given.

    Returns:
      ``python train.py ...``, ``python -m jaxws train ...`` or ``jaxws train ...``.
    """
    script = Path(sys.argv[0])
    if script.stem != "jaxws":
        return [Path(sys.executable).name, *sys.orig_argv[1:]]
    found = shutil.which(script.name)
    is_on_path = found is not None and Path(found).samefile(script)
    return [script.name if is_on_path else str(script), *sys.argv[1:]]


def git_facts(file: Path) -> dict[str, Any] | None:
    """The state of the repository that a file is part of.

    Args:
      file: tracked by git, or not.

    Returns:
      ``commit``, and ``dirty`` if tracked files differ from it; None if the file is in no
      repository's care or there is no git.

    Example:
      >>> import tempfile
      >>> git_facts(Path(tempfile.mkdtemp()) / "file.py") is None
      True
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(file.parent), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        status = git("status", "--porcelain", "--untracked-files=no")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(status)}
    except (OSError, subprocess.SubprocessError):
        return None
