"""Weights in the forms that training leaves behind."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from cfcam.export.errors import ExportError  # noqa: E402
from cfcam.export.sources.checkpoints import load_weights, read_state_dict  # noqa: E402
from cfcam.runtime.errors import ModelFileError  # noqa: E402
from safetensors.torch import save_file  # noqa: E402


def net() -> Any:
    return torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Flatten())


def _with(prefix: str, state: Any) -> dict[str, Any]:
    return {prefix + key: value for key, value in state.items()}


STATE = net().state_dict()
FORMS: dict[str, Any] = {
    "w.bin": STATE,
    "ddp_of_compiled.pt": _with("module._orig_mod.", STATE),
    "compiled_of_ddp.pt": _with("_orig_mod.module.", STATE),
    "lit.ckpt": {"epoch": 3, "state_dict": _with("model._orig_mod.", STATE), "hyper_parameters": {"lr": 0.1}},
    "best.pth.tar": {"epoch": 3, "state_dict": _with("module.", STATE), "best_acc1": torch.tensor(71.0)},
    "net.pt": {"net": STATE, "acc": 93.1},
    "nested.pt": {"model": {"state_dict": _with("network.backbone.", STATE), "step": 1}},
    "ema.pt": {"ema": STATE},
    "lightning": {"state_dict": _with("net.", STATE) | {"loss_fn.weight": torch.ones(3), "val_acc.tp": torch.ones(1)}},
}


@pytest.mark.parametrize("name", FORMS)
def test_what_is_held_is_read_whatever_it_is_called(tmp_path, name):
    torch.save(FORMS[name], tmp_path / name)
    target = net()
    notes = load_weights(target, tmp_path / name)
    assert all(torch.equal(value, STATE[key]) for key, value in target.state_dict().items())
    assert len(notes) == (name == "lightning")
    if notes:
        assert "2 keys of a loss or a metric are left out (loss_fn.weight, val_acc.tp)" in notes[0]


def test_safetensors_by_another_name(tmp_path):
    save_file(STATE, tmp_path / "w.pt")
    assert set(read_state_dict(tmp_path / "w.pt")) == set(STATE)


def test_trained_weights_come_before_their_average(tmp_path):
    average = {key: torch.zeros_like(value) for key, value in STATE.items()}
    torch.save({"state_dict_ema": average, "state_dict": STATE}, tmp_path / "w.pt")
    target = net()
    (note,) = load_weights(target, tmp_path / "w.pt")
    assert torch.equal(target[0].weight, STATE["0.weight"])
    assert note.endswith("the weights under 'state_dict' are taken, not those under state_dict_ema")


def test_wrappers_inside_of_the_model_and_of_the_file(tmp_path):
    target: Any = torch.nn.Sequential(torch.nn.Identity(), torch.nn.DataParallel(net()))
    torch.save({"1." + key: value for key, value in STATE.items()}, tmp_path / "w.pt")
    load_weights(target, tmp_path / "w.pt")
    assert torch.equal(target[1].module[0].weight, STATE["0.weight"])


def test_two_networks_that_fit_are_refused(tmp_path):
    torch.save(_with("student.", STATE) | _with("teacher.", STATE), tmp_path / "w.pt")
    with pytest.raises(ExportError, match=r"several networks that fit, under student\., teacher\.: save"):
        load_weights(net(), tmp_path / "w.pt")


def test_what_does_not_fit_is_not_made_to_fit(tmp_path):
    extra = _with("model.", STATE) | {"other.weight": torch.zeros(1)}
    torch.save(extra, tmp_path / "w.pt")
    with pytest.raises(ExportError, match=r"1 keys unexpected \(other.weight\)"):
        load_weights(net(), tmp_path / "w.pt")


def test_a_program_is_refused_with_a_way_that_works(tmp_path):
    torch.jit.save(torch.jit.script(net()), tmp_path / "w.pt")
    with pytest.raises(ModelFileError, match="TorchScript archive"):
        read_state_dict(tmp_path / "w.pt")
    torch.save(torch.jit.load(tmp_path / "w.pt").state_dict(), tmp_path / "advised.pt")
    load_weights(net(), tmp_path / "advised.pt")
    (tmp_path / "w.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ModelFileError, match="HDF5"):
        read_state_dict(tmp_path / "w.h5")
