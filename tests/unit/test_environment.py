from __future__ import annotations

import getpass
import json
import os
import platform

import numpy
import torch

from tightframe.runs.environment import describe


def test_versions_and_hardware_are_those_of_this_process():
    found = describe()
    assert found["python"] == platform.python_version()
    assert found["torch"] == torch.__version__
    assert found["numpy"] == numpy.__version__
    assert found["threads"] == torch.get_num_threads()
    assert 1 <= found["cpus"] <= os.cpu_count()
    assert len(found["devices"]) >= torch.cuda.device_count()


def test_it_is_json_and_names_no_machine_person_or_path():
    text = json.dumps(describe())
    assert json.loads(text) == describe()
    assert platform.node() not in text.split('"')
    assert getpass.getuser() not in text.split('"')
    assert os.sep not in text.replace("\\/", "")
