"""What the documentation says of the tests, and where its links lead."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_row_of_reliability_names_tests_that_exist():
    defined = {
        name
        for path in ROOT.glob("tests/**/test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    text = (ROOT / "docs" / "reliability.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", text))
    assert len(named) > 50
    assert named <= defined
    tables = [block for block in text.split("\n\n") if block.endswith("|") and "| test |" in block]
    for row in (row for table in tables for row in table.splitlines()[2:]):
        assert re.search(r"`test_\w+`|by hand", row.rsplit(" | ", 1)[-1]), row


def test_links_between_files_lead_to_files():
    """Those of docs/ the manual's build checks too; those of README.md are in no build."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("docs/**/*.ipynb")]
    links = [
        (path, target)
        for path in pages
        if "_build" not in path.parts
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
        if "://" not in target
    ]
    assert len(links) > 100
    assert [(path, target) for path, target in links if not (path.parent / target).exists()] == []
