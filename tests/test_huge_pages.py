import json
import subprocess
import sys

import pytest

from jaxws import huge_pages
from jaxws.huge_pages import with_huge_pages

PROGRAM = """
import json, os, sys
from jaxws.huge_pages import restart_with_huge_pages
restart_with_huge_pages()
print(json.dumps([os.getpid(), sys.argv[1:], os.environ.get("GLIBC_TUNABLES")]))
"""


@pytest.fixture(params=[True, False])
def supported(request, monkeypatch):
    monkeypatch.setattr(huge_pages, "_is_supported", lambda: request.param)
    return request.param


def test_setting_is_added_where_it_is_known(supported):
    added = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"} if supported else {}
    assert with_huge_pages({"A": "b"}) == {"A": "b", **added}


def test_other_settings_are_kept(supported):
    given = {"GLIBC_TUNABLES": "glibc.malloc.check=3"}
    value = "glibc.malloc.check=3" + (":glibc.malloc.hugetlb=1" if supported else "")
    assert with_huge_pages(given) == {"GLIBC_TUNABLES": value}
    assert given == {"GLIBC_TUNABLES": "glibc.malloc.check=3"}


@pytest.mark.parametrize("value", ["0", "1", "2"])
def test_a_choice_of_the_user_stands(supported, value):
    given = {"GLIBC_TUNABLES": f"glibc.malloc.hugetlb={value}"}
    assert with_huge_pages(given) == given


def test_a_program_starts_anew_at_most_once_with_its_arguments(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    with subprocess.Popen(
        [sys.executable, str(path), "--x=1", "a b"], stdout=subprocess.PIPE, text=True, env={}
    ) as process:
        pid, arguments, tunables = json.loads(process.communicate(timeout=60)[0])
    assert pid == process.pid
    assert arguments == ["--x=1", "a b"]
    assert tunables == with_huge_pages({}).get("GLIBC_TUNABLES")
