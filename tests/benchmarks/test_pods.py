"""The table of pods: what is sent by arithmetic, beside what was compiled."""

import json

from benchmarks import pods
from jaxws.config.files import named_config


def test_pods(tmp_path, monkeypatch, capsys):
    def small(images, every):
        config = named_config("digits_lc_ws1")
        config.batch_size, config.sharing.every = images, every
        return config

    monkeypatch.setattr(pods, "_config", small)
    monkeypatch.setattr(pods, "CHIPS", (8,))
    monkeypatch.setattr(pods, "IMAGES", (64,))
    monkeypatch.setattr(pods, "EVERY", (1, 0))
    compiled = tmp_path / "compiled.json"
    compiled.write_text('{"chips": 8}')
    assert pods.main(["--out", str(tmp_path / "pods.json"), str(compiled)]) == 0
    results = json.loads((tmp_path / "pods.json").read_text())
    assert results["compiled"] == [{"chips": 8}]
    always, never = results["arithmetic"]
    assert always["sent"] < never["sent"] <= never["sent_data_parallel"]
    assert (always["mesh"], never["mesh"]) == ("2x4x1", "1x4x2")
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 4
    assert shown[-1].startswith("| 8 | 64 | never | ")
