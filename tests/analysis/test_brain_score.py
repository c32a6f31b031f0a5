"""The bridge to Brain-Score, through a stand-in of its ActivationsExtractorHelper."""

from collections import OrderedDict

import numpy as np
import pytest
from PIL import Image

from jaxws.analysis import activations, brain_score
from jaxws.models import load


class Helper:
    """Calls as Brain-Score's class does: batches of paths, the last filled up, images stacked."""

    def __init__(self, get_activations, preprocessing, identifier=False, batch_size=64):
        self.get_activations, self.preprocessing = get_activations, preprocessing
        self.identifier, self.batch_size = identifier, batch_size

    def __call__(self, paths, layers):
        parts = []
        for start in range(0, len(paths), self.batch_size):
            batch = paths[start : start + self.batch_size]
            missing = self.batch_size - len(batch)
            filled = np.concatenate((batch, np.repeat(batch[-1:], missing)))  # an array of str
            preprocessed = self.preprocessing(filled)
            stacked = np.stack([preprocessed[number] for number in range(len(filled))])
            found = self.get_activations(stacked, layers)
            assert isinstance(found, OrderedDict)
            parts.append({name: each[: len(batch)] for name, each in found.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in layers}


@pytest.fixture(scope="module")
def network():
    return load("small/lc-ws1")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Colour and grey images, of the network's size and of others."""
    folder, rng = tmp_path_factory.mktemp("stimuli"), np.random.default_rng(0)
    shapes = [(24, 24, 3), (60, 48, 3), (24, 24), (13, 30), (24, 24)]
    names = []
    for number, shape in enumerate(shapes):
        names.append(str(folder / f"{number}.png"))
        Image.fromarray(rng.integers(256, size=shape, dtype=np.uint8)).save(names[-1])
    return names


def test_the_helper_gets_the_activations_of_the_images(network, paths):
    found = brain_score(network, resize="stretch")
    layers = ["layer2_0", "fc"]
    assembled = Helper(**found._asdict(), batch_size=3)(paths, layers)

    grey = [
        Image.open(path).convert("L").resize((24, 24), Image.Resampling.BILINEAR) for path in paths
    ]
    pixels = np.stack([np.asarray(image) for image in grey])[..., None]
    expected = activations(*network[:2], network.normalise(pixels), layers)
    for name, axes in (("layer2_0", (0, 3, 1, 2)), ("fc", (0, 1))):
        np.testing.assert_allclose(
            assembled[name], expected[name].transpose(axes), rtol=1e-4, atol=1e-4
        )
    images = found.preprocessing(paths)
    assert images.shape == (5, 1, 24, 24) and images.dtype == np.float32
    data = network.info["data"]
    np.testing.assert_allclose(
        images[:, 0], (pixels[..., 0] / 255 - data["mean"][0]) / data["std"][0], rtol=1e-4
    )


def test_resizing_is_what_was_asked_for(network, paths):
    cropped = brain_score(network, resize="crop").preprocessing([paths[1]])
    middle = Image.open(paths[1]).convert("L").resize((24, 30), Image.Resampling.BILINEAR)
    expected = np.asarray(middle)[3:27][None, ..., None]
    np.testing.assert_array_equal(
        cropped[0], np.asarray(network.normalise(expected))[0, ..., 0][None]
    )
    plain = brain_score(network, resize="none")
    assert plain.preprocessing(paths[:1]).shape == (1, 1, 24, 24)
    with pytest.raises(ValueError, match=r"1.png: 48 x 60 pixels; the network takes 24 x 24: give"):
        plain.preprocessing(paths)
    with pytest.raises(
        ValueError, match=r"test_brain_score.py cannot be decoded: .*no known format"
    ):
        plain.preprocessing([__file__])
    with pytest.raises(ValueError, match="resize='cut': expected one of"):
        brain_score(network, resize="cut")
    wide = network._replace(info={"data": {"image_shape": [24, 30, 1]}})
    with pytest.raises(ValueError, match=r"'crop' for square images only; those of .* 24 x 30"):
        brain_score(wide, resize="crop")


def test_identifiers_tell_weights_and_resizing_apart(network):
    params = network.variables["params"]
    bias = np.nextafter(params["fc"]["bias"], np.inf, dtype=np.float32)  # the last bit
    changed = {**params, "fc": {**params["fc"], "bias": bias}}
    networks = (network, network._replace(variables={**network.variables, "params": changed}))
    names = {
        brain_score(each, resize=how).identifier for each in networks for how in ("crop", "none")
    }
    assert len(names) == 4 and not any("/" in name for name in names)
    assert brain_score(network, resize="none").identifier in names
