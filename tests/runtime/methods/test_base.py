from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from cfcam.runtime.errors import MethodError
from cfcam.runtime.methods import Grouping, get_method, make_settings, method_names


def test_registered_methods_come_with_summaries():
    assert method_names()[0] == "cfcam"
    assert set(method_names()) >= {"cfcam", "cfcam-paper", "cfcam-released", "gradcam", "hirescam", "layercam"}
    for name in method_names("rule"):
        assert get_method(name).summary
        assert get_method(name).kind == "rule"


def test_an_unknown_method_is_answered_with_the_nearest():
    with pytest.raises(MethodError, match="did you mean 'hirescam'"):
        get_method("hires-cam")


def test_counts():
    labels = np.array([Grouping.DOMINANT, 0, 0, 3, Grouping.NOISE, Grouping.DEAD, Grouping.DEAD])
    adopted = np.array([False, True, False, False, False, False, False])
    expected = {"dominant": 1, "noise": 1, "dead": 2, "clustered": 3, "clusters": 2, "adopted": 1}
    assert Grouping(labels, adopted).counts() == expected
    assert Grouping(labels).counts() == expected | {"adopted": 0}


def test_settings_of_the_wrong_kind():
    with pytest.raises(MethodError, match="expected a mapping"):
        make_settings(get_method("cfcam"), [1])


def test_importing_is_cheap():
    code = (
        "import sys, cfcam.runtime.methods, cfcam.runtime.cam;"
        "heavy = {'scipy', 'sklearn', 'PIL', 'torch', 'onnx', 'onnxruntime'} & set(sys.modules);"
        "print(*sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
