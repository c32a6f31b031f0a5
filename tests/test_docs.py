"""What the documentation says of the tests."""

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
