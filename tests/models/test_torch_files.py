"""Files of weights, by the packages that write them: read whole, or refused in one line."""

import argparse
import importlib.util
import json
import os
import pickle
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from safetensors.numpy import save, save_file

from jaxws.models import ResNet, from_torch_state_dict
from jaxws.models.torch_weights.files import read_weights_file

MODEL = ResNet((), 4, 5, nn.Conv)


def state_dict(dtype=np.float32):
    """Of MODEL, which has no blocks."""
    rng = np.random.default_rng(0)
    norm = {f"bn1.{name}": (4,) for name in ("weight", "bias", "running_mean", "running_var")}
    shapes = {"conv1.weight": (4, 3, 3, 3), **norm, "fc.weight": (5, 4), "fc.bias": (5,)}
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


def same_as(variables, state):
    expected = from_torch_state_dict(MODEL, state)
    jax.tree.map(np.testing.assert_array_equal, variables, expected)


def refusal(path):
    with pytest.raises(ValueError) as error:
        from_torch_state_dict(MODEL, path)
    text = str(error.value)
    assert text.startswith(str(path)) and "\n" not in text and len(text) < 450
    return text


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_safetensors(tmp_path, dtype):
    path = tmp_path / "model.safetensors"
    save_file(state_dict(dtype), path)
    same_as(from_torch_state_dict(MODEL, path), state_dict(dtype))
    same_as(from_torch_state_dict(MODEL, str(path)), state_dict(dtype))


def test_safetensors_that_begin_as_a_pickle_does(tmp_path):
    """By the length of their header, one in 32 of them."""
    path = tmp_path / "model.safetensors"
    for padding in range(0, 257, 8):
        save_file(state_dict(), path, metadata={"note": padding * "x"})
        if path.read_bytes()[:1] == b"\x80":
            break
    assert path.read_bytes()[:1] == b"\x80"
    same_as(from_torch_state_dict(MODEL, path), state_dict())


def test_safetensors_of_bfloat16(tmp_path):
    """A type that NumPy lacks, beside integers, in a file written as the format is described."""
    path, state = tmp_path / "model.safetensors", state_dict(jnp.bfloat16)
    header, data = {}, b""
    for name, array in {**state, "bn1.num_batches_tracked": np.array(7)}.items():
        span = [len(data), len(data) + array.nbytes]
        dtype = "BF16" if array.ndim else "I64"
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": span}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    assert read_weights_file(path)["bn1.num_batches_tracked"] == 7
    same_as(from_torch_state_dict(MODEL, path), state)


def test_npz(tmp_path):
    np.savez(tmp_path / "w.npz", description=np.array("{}"), **state_dict())
    same_as(from_torch_state_dict(MODEL, tmp_path / "w.npz"), state_dict())
    whole = (tmp_path / "w.npz").read_bytes()
    (tmp_path / "w.npz").write_bytes(whole[:-9])
    assert "no whole file of numpy.savez" in refusal(tmp_path / "w.npz")


def damaged(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    return path


def test_files_that_are_not_whole(tmp_path):
    whole = save(state_dict())
    for content in (whole[:-1], whole[:40], whole[:9], whole[:3], whole[:8] + b"x" + whole[9:]):
        assert "no whole file of safetensors" in refusal(damaged(tmp_path, content))
    assert "is empty" in refusal(damaged(tmp_path, b""))
    assert "is no whole file" in refusal(damaged(tmp_path, b"version https://git-lfs.github.com"))
    page = tmp_path / "resnet18.pth"
    page.write_text("<!DOCTYPE html>")
    assert "is no file of weights: it begins with b'<!DOCTYPE'" in refusal(page)
    assert "No such file" in refusal(tmp_path / "none.pth")
    assert "Is a directory" in refusal(tmp_path)


def test_pytorch_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    text = refusal(damaged(tmp_path, b"PK\x03\x04...."))
    assert text.endswith("needs torch, which is not installed: pip install torch.")


class Program:
    """What a pickle may hold."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.mark.torch
@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_what_torch_saves(tmp_path, torch, new, dtype):
    numbers = {name: torch.from_numpy(array) for name, array in state_dict().items()}
    tensors = {f"module.{name}": t.to(getattr(torch, dtype)) for name, t in numbers.items()}
    tensors["module.fc.bias"] = torch.nn.Parameter(tensors["module.fc.bias"])
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))])
    checkpoint = {
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1),
        "state_dict": tensors,
        "optimizer": optimizer.state_dict(),
    }
    torch.save(checkpoint, tmp_path / "last.ckpt", _use_new_zipfile_serialization=new)
    expected = {name: t.detach().float().numpy() for name, t in tensors.items()}
    same_as(from_torch_state_dict(MODEL, tmp_path / "last.ckpt"), expected)


@pytest.mark.torch
@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_no_code_of_a_file_runs(tmp_path, torch, new):
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    content = {"state_dict": {"conv1.weight": torch.ones(3)}, "extra": Program(trace)}
    torch.save(content, path, _use_new_zipfile_serialization=new)
    assert "holds an object of class posix.system, which is not read" in refusal(path)
    path.write_bytes(pickle.dumps(Program(trace)))
    refusal(path)
    torch.save(torch.nn.Linear(2, 2), path, _use_new_zipfile_serialization=new)
    assert "class torch.nn.modules.linear.Linear" in refusal(path)
    assert not trace.exists()


@pytest.mark.torch
def test_files_of_torch_that_are_no_state_dicts(tmp_path, torch):
    path = tmp_path / "model.pt"
    torch.save({name: torch.from_numpy(array) for name, array in state_dict().items()}, path)
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:100], whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert "is damaged or no file of torch.save" in refusal(path)
    at = whole.find(torch.from_numpy(state_dict()["fc.weight"]).numpy().tobytes())
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert "the checksum of model/data/" in refusal(path)
    torch.save([torch.ones(2)], path)
    assert "holds a list: expected a state dict" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "")
    assert "is a zip file of something else" in refusal(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("net/code/net.py", "")
        archive.writestr("net/data.pkl", "")
    assert "is a TorchScript program" in refusal(path)
