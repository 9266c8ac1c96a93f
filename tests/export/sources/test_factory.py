"""Loading models by name, and weights that fit or do not."""

import sys
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from cfcam.export.errors import ExportError  # noqa: E402
from cfcam.export.sources import factory as loading  # noqa: E402
from cfcam.runtime.errors import ModelFileError  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

load_weights, read_state_dict = loading.load_weights, loading.read_state_dict


def load_model(*args: Any, **kwargs: Any) -> Any:
    """`loading.load_model`, with modules whose attributes a type checker cannot know."""
    return loading.load_model(*args, **kwargs)


MODULE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, classes=3, width=4):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.norm(self.stem(x)).mean((2, 3)))

    @classmethod
    def wide(cls):
        return cls(width=8)


def build(classes=3):
    return Net(classes)


def fails():
    raise RuntimeError("no luck\\ntoday")


def number():
    return 3


ready = Net()
constant = 5
"""


@pytest.fixture
def here(tmp_path, monkeypatch, request):
    """A module `netN` in the current directory; gives its name."""
    name = f"net_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_factory_in_the_current_directory(here):
    path = list(sys.path)
    model = load_model(f"{here}:build", {"classes": 7})
    assert model.head.out_features == 7
    assert not model.training
    assert not model.norm.training
    assert sys.path == path


def test_class_dotted_factory_and_ready_module(here):
    assert load_model(f"{here}:Net", {"width": 2}).stem.out_channels == 2
    assert load_model(f"{here}:Net.wide").stem.out_channels == 8
    assert load_model(f"{here}:ready").stem.out_channels == 4


@pytest.mark.parametrize(
    ("attribute", "kwargs", "words"),
    [
        ("biuld", {}, r"has no 'biuld'; nearest: build"),
        ("fails", {}, r"calling it with \(\) failed: RuntimeError: no luck today"),
        ("build", {"clases": 3}, r"calling it with \(clases=3\) failed: TypeError"),
        ("number", {}, r"returned a int, expected a torch.nn.Module"),
        ("constant", {}, r"is a int, expected a function or class"),
        ("ready", {"a": 1}, r"takes no keyword arguments"),
    ],
)
def test_bad_factories(here, attribute, kwargs, words):
    with pytest.raises(ExportError, match=words):
        load_model(f"{here}:{attribute}", kwargs)


@pytest.mark.parametrize("name", ["torchvision.models.resnet18", ":x", "x:", ""])
def test_name_without_colon(name):
    with pytest.raises(ExportError, match=r"expected PKG\.MODULE:FACTORY"):
        load_model(name)


def test_module_that_does_not_exist():
    with pytest.raises(ExportError, match=r"no module 'no_such_package'"):
        load_model("no_such_package.models:net")


def test_module_whose_own_import_fails(here, tmp_path):
    (tmp_path / f"{here}_broken.py").write_text("import no_such_dependency")
    with pytest.raises(ExportError, match=r"importing net_\d+_broken failed: .*no_such_dependency"):
        load_model(f"{here}_broken:build")
    (tmp_path / f"{here}_exits.py").write_text("raise SystemExit('bye')")
    with pytest.raises(ExportError, match="SystemExit: bye"):
        load_model(f"{here}_exits:build")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_weights_are_copied(here, tmp_path, suffix):
    source = load_model(f"{here}:build")
    path = tmp_path / f"weights{suffix}"
    save_file(source.state_dict(), path) if suffix == ".safetensors" else torch.save(source.state_dict(), path)
    loaded = load_model(f"{here}:build", weights=path)
    assert not torch.equal(load_model(f"{here}:build").stem.weight, source.stem.weight)
    for key, value in source.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_checkpoints_and_prefixes(here, tmp_path, wrapper, prefix):
    source = load_model(f"{here}:build")
    state = {prefix + key: value for key, value in source.state_dict().items()}
    torch.save({"epoch": 3, wrapper: state}, tmp_path / "checkpoint.pth")
    loaded = load_model(f"{here}:build", weights=tmp_path / "checkpoint.pth")
    assert torch.equal(loaded.head.weight, source.head.weight)


def test_a_prefix_that_belongs_to_the_model_stays(here, tmp_path):
    inner = load_model(f"{here}:build")
    wrapped: Any = torch.nn.Sequential()
    wrapped.module = inner
    torch.save(wrapped.state_dict(), tmp_path / "w.pt")
    target: Any = torch.nn.Sequential()
    target.module = load_model(f"{here}:build")
    load_weights(target, tmp_path / "w.pt")
    assert torch.equal(target.module.head.weight, inner.head.weight)


def test_state_dict_that_does_not_fit_names_the_keys(here, tmp_path):
    model = load_model(f"{here}:build")
    state = model.state_dict()
    del state["stem.bias"]
    state["extra.weight"] = torch.zeros(1)
    state["norm.weight"] = torch.zeros(9)
    torch.save(state, tmp_path / "w.pt")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ExportError) as caught:
        load_weights(model, tmp_path / "w.pt")
    text = str(caught.value)
    assert "1 keys missing (stem.bias)" in text
    assert "1 keys unexpected (extra.weight)" in text
    assert "1 of another shape (norm.weight: file [9], model [4])" in text
    assert "\n" not in text
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items()), "nothing was loaded"


def test_another_number_of_classes_gets_a_hint(here, tmp_path):
    torch.save(load_model(f"{here}:build", {"classes": 10}).state_dict(), tmp_path / "w.pt")
    with pytest.raises(ExportError, match=r"the file has 10 classes, give the factory that number with --kwargs"):
        load_model(f"{here}:build", weights=tmp_path / "w.pt")


def test_missing_batch_counters_are_no_error(here, tmp_path):
    state = load_model(f"{here}:build").state_dict()
    state.pop("norm.num_batches_tracked")
    save_file(dict(state), tmp_path / "w.safetensors")
    load_model(f"{here}:build", weights=tmp_path / "w.safetensors")


class Dangerous:
    def __reduce__(self):
        import os

        return (os.mkdir, ("pwned",))


def test_a_pickle_with_code_is_refused_and_not_run(here, tmp_path):
    torch.save({"state_dict": Dangerous()}, tmp_path / "w.pt")
    with pytest.raises(ModelFileError, match="weights_only=True"):
        read_state_dict(tmp_path / "w.pt")
    assert not (tmp_path / "pwned").exists()


def test_a_whole_pickled_module_is_refused(here, tmp_path):
    torch.save(load_model(f"{here}:build"), tmp_path / "w.pt")
    with pytest.raises(ModelFileError, match=r"save model.state_dict\(\) alone"):
        read_state_dict(tmp_path / "w.pt")


def test_other_contents(tmp_path):
    for index, (content, words) in enumerate(
        [
            ([1, 2], "holds a list"),
            ({}, "an empty dictionary"),
            ({"epoch": 1}, "a dictionary with the keys epoch"),
            ({"a": torch.zeros(1), "b": 3}, "with the keys a, b"),
        ]
    ):
        path = tmp_path / f"{index}.pt"
        torch.save(content, path)
        with pytest.raises(ModelFileError, match=words):
            read_state_dict(path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("content", [b"hello, this is no model", b"\x80\x02garbage", b"PK\x03\x04 cut"])
def test_damaged_files(tmp_path, suffix, content):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"w\.") as caught:
        read_state_dict(path)
    assert "\n" not in str(caught.value)


def test_truncated_files(tmp_path):
    state = {"a": torch.zeros(1000)}
    torch.save(state, tmp_path / "whole.pt")
    save_file(state, tmp_path / "whole.safetensors")
    for suffix in (".pt", ".safetensors"):
        data = (tmp_path / f"whole{suffix}").read_bytes()
        (tmp_path / f"cut{suffix}").write_bytes(data[: len(data) // 2])
        with pytest.raises(ModelFileError, match="damaged"):
            read_state_dict(tmp_path / f"cut{suffix}")


def test_files_that_are_no_weights(tmp_path):
    (tmp_path / "empty.pt").touch()
    (tmp_path / "folder.pt").mkdir()
    for name, words in [
        ("none.pt", "no such weights file"),
        ("w.bin", "no such weights file"),
        ("empty.pt", "is empty"),
        ("folder.pt", "is a folder"),
    ]:
        with pytest.raises(ModelFileError, match=words):
            read_state_dict(tmp_path / name)
