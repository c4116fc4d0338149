"""Progress of the jobs: on the error stream, unless --quiet; the outcome and its configuration are the same."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from tightframe.cli.main import main
from tightframe.runs.record import Record

FACTORY = "from torch import nn\ndef drawn(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Linear(4, 10))\n"
FEW = ["--patch-size", "6", "--samples", "1000"]
MODEL = ["--data", "digits", "--limit", "200"]
JOBS = {
    "deconvolve": ["trace.npy", "--kernel-size", "8", "--positive", "--starts", "1", "--alpha", "0.2"],
    "denoise": ["grey.png", "--noise", "10", *FEW],
    "inpaint": ["grey.png", "--remove", "0.3", "--rounds", "1", *FEW],
    "measure": ["--model", "shallow:drawn", *MODEL],
    "certify": ["--model", "shallow:drawn", *MODEL, "--no-solve"],
    "score": ["--models", "shallow:drawn", *MODEL, "--no-probe"],
}
SHOWN = {
    "deconvolve": ["kernels, then defects", "2/2"],
    "denoise": ["denoise, by two dictionaries", "2/2"],
    "inpaint": ["inpaint, by two dictionaries", "2/2"],
    "measure": ["measuring, train", "measuring, test", "1/1"],
    "certify": ["features", "1/1"],
    "score": ["scoring networks", "1/1"],
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "shallow.py").write_text(FACTORY)
    Image.fromarray(load_sample_image("china.jpg")[120:144, 300:324, 0]).save("grey.png")
    np.save("trace.npy", np.convolve(np.arange(200) % 40 == 5, 0.7 ** np.arange(8), mode="full")[:200])
    return tmp_path


@pytest.mark.parametrize("job", JOBS)
def test_progress_is_shown_unless_it_is_not_wanted(here, capsys, job):
    streams, records = {}, {}
    for out, extra in (("loud", []), ("silent", ["--quiet"])):
        torch.manual_seed(0)
        main([job, *JOBS[job], "--out", out, *extra])
        streams[out] = capsys.readouterr()
        records[out] = Record.from_json((here / out / "record.json").read_text())
    assert all(word in streams["loud"].err for word in SHOWN[job])
    assert streams["silent"].err.splitlines() == ["wrote silent/report.html"]
    configs = [json.loads((here / out / "config.json").read_text()) for out in ("loud", "silent")]
    assert configs[0] == configs[1]
    assert "quiet" not in configs[0]
    assert records["loud"].answer == records["silent"].answer
