"""Names of classes: kept exactly, or refused with the folder named."""

import os
import re

import pytest
from absl import logging as absl_logging  # noqa: F401 - its handler is there before a test looks

from jaxws.data.sources.named import open_prepared
from jaxws.data.sources.names import check_class_names, class_names, name_some
from tests.support.image_folder import load, noise, save

KEPT = [
    ("a", "A"),
    ("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"),
    ("[red]a[/red]".replace("/", ""), "$x^$"),
    ("10", "9"),
    ("tabby cat", "tabby  cat"),
    ("a\N{NO-BREAK SPACE}b", "a b"),
    ("\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}", "\N{MAN}"),
    ("\N{ZERO WIDTH NO-BREAK SPACE}a", "a"),
    ("'a'", '"a"'),
    ("cat.png", "..."[:0] + "dog,"),
]
REFUSED = [
    *("a\nb", "a\n", "\na", "cat ", " cat", "\tcat", "a\tb", "a\rb", "a\r", "a\x85b", "a\u2028b"),
    *("a\u2029", "\u3000", "\xa0a", "\x1b[31ma", "a\x7f", "a\x0cb", "a\x1cb", " "),
    os.fsdecode(b"caf\xe9"),
]


def folder_of(root, classes):
    for label, name in enumerate(classes):
        for split in ("train", "test"):
            save(noise(label), root / split / name / "0.png")
    return root


@pytest.mark.parametrize("names", KEPT)
def test_names_are_kept_exactly(tmp_path, names):
    folder = folder_of(tmp_path / "pets", names)
    for _ in range(2):  # As it is prepared, and as it is read again.
        dataset = load(folder, tmp_path)
        assert dataset.class_names == tuple(sorted(names))
        assert dataset.train.labels.tolist() == [0, 1]


@pytest.mark.parametrize("name", REFUSED)
def test_names_that_cannot_be_kept_are_refused(tmp_path, name):
    folder = folder_of(tmp_path / "pets", ("cat", name))
    with pytest.raises(ValueError, match="rename these folders") as caught:
        load(folder, tmp_path)
    message = str(caught.value)
    assert ascii(name) in message and repr(str(folder / "train")) in message
    assert message.isprintable()
    assert not (tmp_path / "tfds").exists()


def test_names_that_look_alike_are_told_apart(tmp_path):
    folder = folder_of(tmp_path / "pets", ("cat", "\xe9"))
    (folder / "test/\xe9").rename(folder / "test/e\u0301")
    with pytest.raises(ValueError, match=r"only in train: '\\xe9'; only in test: 'e\\u0301'"):
        load(folder, tmp_path)


def test_a_copy_with_other_names_on_disk_is_not_trusted(tmp_path):
    folder = folder_of(tmp_path / "pets", ("cat", "dog"))
    load(folder, tmp_path)
    (file,) = (tmp_path / "tfds").glob("image_folder/*/1.0.0/label.labels.txt")
    for text, message in (
        ("a\nb\ncat\n", r"2 classes but 3 names of classes \(a, b, cat\)"),
        ("cat\ncat\n", "classes of the same name: cat"),
        ("cat\na\x1bb\n", r"cannot be kept as they are: 'a\\x1bb'"),
    ):
        file.write_text(text)
        assert load(folder, tmp_path).class_names == ("cat", "dog")  # from a copy of its own
        builder = open_prepared("image_folder:1.0.0", tmp_path / "tfds")
        with pytest.raises(ValueError, match=message + r".*delete that directory"):
            class_names(builder, "label")


@pytest.mark.parametrize("name", ["features.json", "dataset_info.json"])
def test_a_damaged_file_of_a_copy_is_one_line_that_says_where_it_is(tmp_path, name):
    folder = folder_of(tmp_path / "pets", ("cat", "dog"))
    load(folder, tmp_path)
    (file,) = (tmp_path / "tfds").glob(f"image_folder/*/1.0.0/{name}")
    file.write_bytes(b'{"caf\xe9')
    message = rf"{re.escape(str(file.parent))} cannot be opened .*: delete that directory"
    with pytest.raises(ValueError, match=message) as caught:
        load(folder, tmp_path)
    assert str(caught.value).isprintable()


def test_names_of_files_are_shown_on_one_line():
    assert name_some(["a\nb.png", "\udcff.png", "c d.png"]) == r"'a\nb.png', '\udcff.png', c d.png"
    check_class_names(map(str, range(3_000)), "it", "rename them")
