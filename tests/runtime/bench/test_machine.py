from __future__ import annotations

import json
import os

import numpy as np
import pytest
from cfcam.runtime.bench.machine import describe_machine, load, versions
from cfcam.runtime.bench.memory import high_water, resident

_SMI = """#!/bin/sh
case "$1" in
  --query-gpu=name,driver_version,*) echo "NVIDIA Orin, 540.4.0, 918, 1300, 3199, 25.00, 48, 1203";;
  *) exit 2;;
esac
"""


def test_machine_is_plain_json_and_has_no_gpu_where_none_runs():
    found = describe_machine("cpu")
    assert json.loads(json.dumps(found)) == found
    assert found["cpu"]
    assert found["usable_cores"] >= 1
    assert found["gpus"] is None


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for the program")
def test_gpu_by_nvidia_smi(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(_SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (gpu,) = describe_machine("tensorrt")["gpus"]
    assert (gpu["name"], gpu["clock_mhz"], gpu["memory_used_mib"]) == ("NVIDIA Orin", "918", "1203")
    program.write_text("#!/bin/sh\nexit 9\n")
    assert describe_machine("tensorrt")["gpus"] is None


def test_versions_and_load():
    found = versions("onnxruntime 1.2.3")
    assert found["backend"] == "onnxruntime 1.2.3"
    assert found["numpy"] == np.__version__
    assert "unknown" not in found.values()
    busy = load()
    assert busy is None or busy >= 0


def test_memory_follows_what_is_held():
    before = resident()
    if before is None:
        pytest.skip("the system does not say")
    held = np.ones(2**25, np.uint8)
    after, peak = resident(), high_water()
    assert after is not None
    assert peak is not None
    assert after - before > 0.8 * held.size
    assert peak >= after
