"""Compares what jaxws prepares with what TFDS's own builders prepare, every record of it.

TFDS's builders need TensorFlow, so this is no part of the tests. In an environment with
`pip install tensorflow-cpu tensorflow-datasets importlib_resources pillow array_record`:

    $ python tests/official_records.py build cifar10 --manual_dir ARCHIVES --data_dir OFFICIAL
    $ python tests/official_records.py compare cifar10 OFFICIAL OURS

where OURS is the --data_dir of `python -m jaxws prepare`. Made-up and rebuilt archives will do: no
checksum is looked at. They are made by

    $ python tests/official_records.py archives ARCHIVES [--cifar10_folder FOLDER]

with FOLDER as `train/<class>/*.jpg` and `test/<class>/*.jpg`, and prepared without checksums by

    $ python tests/official_records.py ours NAME --manual_dir ARCHIVES --data_dir OURS
"""

import argparse
import pathlib
import sys
from unittest import mock

import numpy as np

NAMES = ("cifar10", "cifar100", "imagenet2012")


def archives(args):
    """Makes archives of CIFAR-10 (from a folder if given), CIFAR-100 and ImageNet."""
    import official_archives as make

    root = pathlib.Path(args.directory)
    root.mkdir(parents=True, exist_ok=True)
    ten = cifar10_from(args.cifar10_folder) if args.cifar10_folder else make.cifar_arrays([10])
    make.cifar_binary(root / "cifar-10-binary.tar.gz", ten)
    hundred = make.cifar_arrays([20, 100], train=5000, test=1000)
    make.cifar_binary(root / "cifar-100-binary.tar.gz", hundred)
    labels = imagenet_labels("labels.txt")
    train = {
        wnid: {
            f"{wnid}_{i}.JPEG": make.noise(7 * c + i, (90 + i, 70), "L" if i == 2 else "RGB")
            for i in range(3)
        }
        for c, wnid in enumerate(labels)
    }
    train["n01739381"]["n01739381_1309.JPEG"] = make.noise(1, (80, 60), "CMYK")
    train["n02105855"]["n02105855_2933.JPEG"] = make.noise(2, (80, 60), form="png")
    val = [(f"ILSVRC2012_val_{i:08d}.JPEG", make.noise(10**6 + i, (80, 60))) for i in range(1, 301)]
    make.imagenet(root, train, val)


def cifar10_from(folder):
    """All images of a folder as the arrays of the archive, in a random order."""
    import official_archives as make
    from PIL import Image

    arrays = {}
    for split in ("train", "test"):
        files = sorted(pathlib.Path(folder, split).glob("*/*"))
        order = np.random.default_rng(0).permutation(len(files))
        files = [files[i] for i in order]
        pixels = [np.asarray(Image.open(f).convert("RGB")).transpose(2, 0, 1) for f in files]
        labels = [make.CIFAR10_NAMES.index(file.parent.name) for file in files]
        arrays[split] = np.stack(pixels).reshape(-1, 3072), np.array(labels, np.uint8)[:, None]
    return arrays


def imagenet_labels(file):
    import tensorflow_datasets as tfds

    return tfds.core.tfds_path(f"datasets/imagenet2012/{file}").read_text().split()


def build(args):
    """Prepares a data set by TFDS's own builder and TensorFlow."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    builder = tfds.builder(args.name, data_dir=args.data_dir)
    config = tfds.download.DownloadConfig(manual_dir=args.manual_dir)
    unchecked = mock.patch.object(
        tfds.download.DownloadManager, "_register_or_validate_checksums", lambda *_, **__: None
    )
    with unchecked:
        builder.download_and_prepare(file_format="array_record", download_config=config)
    assert "tensorflow" in sys.modules
    print(builder.info.splits)


def ours(args):
    """Prepares a data set by jaxws, without looking at the checksum."""
    from jaxws.commands import prepare

    with mock.patch.object(prepare, "verify", lambda *_: None):
        prepare.run(args)
    assert "tensorflow" not in sys.modules


def compare(args):
    """Compares features, and every feature of every record, pixels included."""
    import io

    import tensorflow_datasets as tfds
    from PIL import Image

    first, second = (
        tfds.builder_from_directory(str(next(pathlib.Path(d, args.name).glob("*.*.*"))))
        for d in (args.official, args.ours)
    )
    assert first.info.full_name == second.info.full_name
    assert repr(first.info.features) == repr(second.info.features)
    for key, feature in first.info.features.items():
        if isinstance(feature, tfds.features.ClassLabel):
            assert feature.names == second.info.features[key].names
    assert set(first.info.splits) == set(second.info.splits)
    for split in first.info.splits:
        skip = {"image": tfds.decode.SkipDecoding()}
        a, b = (x.as_data_source(split, decoders=skip) for x in (first, second))
        assert len(a) == len(b), (len(a), len(b))
        same_bytes, differing, worst = 0, [], 0.0
        for i in range(len(a)):
            x, y = a[i], b[i]
            for key in x:
                assert key == "image" or x[key] == y[key], (split, i, key, x[key], y[key])
            if x["image"] == y["image"]:
                same_bytes += 1
                continue
            p, q = (np.asarray(Image.open(io.BytesIO(z["image"])).convert("RGB")) for z in (x, y))
            assert p.shape == q.shape
            if (p != q).any():
                differing.append(x.get("file_name", x.get("id")))
                worst = max(worst, float(np.abs(p.astype(int) - q).mean()))
        print(
            f"{args.name} {split}: {len(a)} records, order and labels equal; image bytes equal in "
            f"{same_bytes}, pixels in {len(a) - len(differing)}; pixels differ in {differing} "
            f"(mean difference at most {worst:.2f} of 255)"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("archives")
    command.add_argument("directory")
    command.add_argument("--cifar10_folder")
    command.set_defaults(run=archives)
    for action in (build, ours):
        command = commands.add_parser(action.__name__)
        command.add_argument("name", choices=NAMES)
        command.add_argument("--manual_dir", required=True)
        command.add_argument("--data_dir", required=True)
        command.set_defaults(run=action)
    command = commands.add_parser("compare")
    command.add_argument("name", choices=NAMES)
    command.add_argument("official")
    command.add_argument("ours")
    command.set_defaults(run=compare)
    arguments = parser.parse_args()
    arguments.run(arguments)
