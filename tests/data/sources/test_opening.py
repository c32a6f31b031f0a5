"""A prepared data set of somebody else names classes; none but TFDS's own is imported."""

import json
import sys

import pytest
import tensorflow_datasets as tfds

from jaxws.data.sources.features import feature_keys
from jaxws.data.sources.named import open_prepared
from jaxws.data.sources.opening import open_directory

DICT = "tensorflow_datasets.core.features.features_dict.FeaturesDict"


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """The notes of a data set without images, and a module in the way of Python's imports."""
    directory = tmp_path / "tfds" / "pictures" / "1.0.0"
    directory.mkdir(parents=True)
    features = {
        "image": tfds.features.Image(shape=(8, 8, 3)),
        "label": tfds.features.ClassLabel(names=["cat", "dog"]),
        "nested": {"boxes": tfds.features.Sequence(tfds.features.BBoxFeature())},
        "kind": tfds.features.Text(),
    }
    tfds.features.FeaturesDict(features).save_config(directory)
    info = {"name": "pictures", "version": "1.0.0", "fileFormat": "array_record"}
    (directory / "dataset_info.json").write_text(json.dumps(info))
    (tmp_path / "evil.py").write_text("raise SystemExit('code of somebody else was run')")
    monkeypatch.syspath_prepend(tmp_path)
    yield directory
    assert "evil" not in sys.modules


def edit(path, change):
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content) or content))


def test_tfds_classes_are_opened(prepared):
    features = open_directory(prepared).info.features
    assert features["label"].names == ["cat", "dog"] and "boxes" in features["nested"]
    # As TFDS wrote them before 4.5, and with a feature whose name is that of a key.
    old = {"type": DICT, "content": {"type": features["label"].to_json()}}
    (prepared / "features.json").write_text(json.dumps(old))
    (prepared / "type.labels.txt").write_text("cat\ndog\n")
    assert open_directory(prepared).info.features["type"].num_classes == 2


def feature(key="pythonClassName", name="evil.Image"):
    def change(content):
        content["featuresDict"]["features"]["image"][key] = name

    return change


def nested(content):
    content["featuresDict"]["features"]["nested"]["featuresDict"]["features"]["boxes"]["sequence"][
        "feature"
    ]["pythonClassName"] = "evil.BBoxFeature"


def in_text(content):
    inner = {"x": {"type": "evil.X", "content": {}}}
    return {"pythonClassName": DICT, "jsonFeature": {"json": json.dumps(inner)}}


@pytest.mark.parametrize(
    "change",
    [
        feature(),
        feature("python_class_name"),
        feature(name="evil.sub.Image"),
        feature(name="tensorflow_datasets.core.features.evil.Image"),
        feature(name="tensorflow_datasets.testing.test_utils.Image"),
        feature(name="antigravity"),
        nested,
        in_text,
        lambda content: content | {"pythonClassName": "evil.FeaturesDict"},
        lambda content: {"type": "evil.FeaturesDict", "content": {}},
        lambda content: {"type": DICT, "content": {"x": {"type": "evil.X", "content": "{}"}}},
    ],
)
@pytest.mark.parametrize("file", ["features.json", "dataset_info.json"])
def test_other_classes_are_named_and_not_imported(prepared, change, file):
    if file == "dataset_info.json":
        features = json.loads((prepared / "features.json").read_text())
        edit(prepared / file, lambda content: content | {"features": features})
        edit(prepared / file, lambda c: c | {"features": change(c["features"]) or c["features"]})
    else:
        edit(prepared / file, change)
    with pytest.raises(ValueError, match=rf"{file} names the class .*come with TFDS") as caught:
        open_prepared("pictures", prepared.parents[1])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["features.json", "dataset_info.json"])
@pytest.mark.parametrize("text", ["", "[]", "{}x", "[" * 100_000, '{"featuresDict": 3}', "\x00"])
def test_what_is_no_description_is_one_line(prepared, file, text):
    (prepared / file).write_text(text)
    with pytest.raises(ValueError, match=r"cannot be opened .* prepare the data set an") as caught:
        open_directory(prepared)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("claimed", [2**62, 10**12, -5])
def test_more_records_than_bytes_are_refused(prepared, claimed):
    splits = [{"name": "train", "shardLengths": [str(claimed)]}]
    edit(prepared / "dataset_info.json", lambda content: content | {"splits": splits})
    with pytest.raises(ValueError, match=f"cannot be opened .*'train' claims {claimed} records"):
        open_directory(prepared)


def test_more_classes_than_there_may_be_are_refused(prepared):
    def change(content):
        content["featuresDict"]["features"]["label"]["classLabel"]["numClasses"] = str(2**62)

    (prepared / "label.labels.txt").unlink()
    edit(prepared / "features.json", change)
    with pytest.raises(ValueError, match=f"has {2**62} classes, expected 1 to 1048576"):
        feature_keys(open_directory(prepared))
