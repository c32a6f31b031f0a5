"""The part of a run's report that says where its numbers come from; each function yields HTML."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jaxws.config.fields import base_config, flat_fields
from jaxws.config.registry import own_fields
from jaxws.records import html as page
from jaxws.records.html import escape
from jaxws.records.run_directory import RunDirectory
from jaxws.records.run_facts import kernels_of
from jaxws.system.terminal import duration

MANY = 12  # rows; longer tables are folded


def events(run: RunDirectory) -> Iterator[str]:
    """What does not happen in every run."""
    yield "<h2>Events</h2>"
    events = run.of_kind("event")
    if not events:
        yield "<p>None: no step was skipped or rolled back, no checkpoint was damaged.</p>"
        return
    rows = [(event["step"], event["event"], event["message"]) for event in events]
    content = page.table("What does not happen in every run", ["step", "event", "message"], rows)
    yield folded(content, f"{len(events)} events", len(events))


def origin(run: RunDirectory) -> Iterator[str]:
    """Starts of the run, how to repeat it, versions."""
    yield "<h2>Origin</h2>"
    sessions = run.provenance.get("stretches", [])
    if not sessions:
        yield "<p>Not recorded: there is no provenance.json in the run's directory.</p>"
        return
    rows = [
        (
            session["started"].replace("T", " ").replace("+00:00", " UTC"),
            f"{session['first_step']} to {session['last_step']}",
            duration(session["seconds"]),
            session["machine"]["device"],
            kernels_of([session]),
            _commit(session),
        )
        for session in sessions
    ]
    head = ["started", "steps", "wall time", "device", "kernels of LC layers", "commit of jaxws"]
    yield folded(page.table("Starts of the run", head, rows), f"{len(rows)} starts", len(rows))
    last = sessions[-1]
    commits = {_commit(session) for session in sessions}
    several = " (the starts had different ones, see above)" if len(commits) > 1 else ""
    yield f"<p>To repeat the run, with a directory of its own and this commit{several}:</p>"
    yield f"<pre><code>{escape(_command(last))}</code></pre>"
    platform = f"{last['machine']['platform']}, {last['machine']['cores']} cores"
    yield f"<p>The last start was on {escape(platform)}.</p>"
    yield page.table("Versions at the last start", ["package", "version"], last["versions"].items())


def _command(session: dict[str, Any]) -> str:
    git = session["git"]
    dirty = "  # and changes that were not committed" if git and git["dirty"] else ""
    checkout = f"git checkout {git['commit']}{dirty}\n" if git else ""
    return checkout + session["command"]


def _commit(session: dict[str, Any]) -> str:
    git = session["git"]
    if not git:
        return "not in a repository"
    return git["commit"][:12] + (", changed" if git["dirty"] else "")


def configuration(run: RunDirectory) -> Iterator[str]:
    """All fields, with those that are not at their defaults, and facts about the data."""
    defaults = dict(flat_fields(base_config())) | dict(flat_fields(own_fields(run.config)))
    rows = [
        (key, value, "" if value == defaults[key] else f"default: {defaults[key]}")
        for key, value in flat_fields(run.config)
    ]
    yield "<h2>Configuration</h2>"
    yield page.table("All fields of config.json", ["field", "value", "changed"], rows)
    if run.dataset:
        read = run.provenance.get("data", {})
        facts = {key: read[key] for key in ("name", "path") if read.get(key)} | run.dataset
        yield page.table("The data", ["fact", "value"], list(facts.items()))


def folded(table: str, summary: str, rows: int) -> str:
    """A table, shown on demand if it is long."""
    return page.details(summary, table) if rows > MANY else table
