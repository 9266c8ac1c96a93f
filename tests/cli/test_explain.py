"""``cfcam explain`` on real files."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx
import pytest
import typer
from cfcam.cli import main
from cfcam.cli.data import data_file
from cfcam.cli.explain import _say_how_often, _with_contrast
from cfcam.runtime.contract.columns_spec import ColumnsSpec
from cfcam.runtime.explainer import Explainer
from cfcam.runtime.panel import side_by_side
from PIL import Image
from score_heads import head
from spoilt_files import freeze_detail


@pytest.fixture
def model(tiny_path):
    return str(tiny_path("logits"))


@pytest.fixture
def photo(tmp_path):
    with data_file("two_dogs.jpg") as path:
        return shutil.copy(path, tmp_path / "dogs.jpg")


@pytest.fixture
def photos(tmp_path):
    """A folder with five images of one colour each, of different sizes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, colour in enumerate(["red", "lime", "blue", "white", "black"]):
        image = Image.new("RGB", (60 + 10 * i, 70), "gray")
        image.paste(colour, (0, 0, 30, 70))
        image.save(folder / f"{i}-{colour}.png")
    return folder


def run_json(capsys, *arguments, code=0):
    assert main(["explain", *map(str, arguments), "--json"]) == code
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_the_form_is_named_and_where_the_detail_is_of_no_use(guided_path, model, photos, tmp_path, capsys):
    document, err = run_json(capsys, guided_path, photos)
    guided = {"guided": True, "contrast": 0.3, "unguided": None, "detail": "early"}
    assert [one["form"] for one in document["results"]] == [guided] * 5
    assert "cfcam: note" not in err
    document, _ = run_json(capsys, guided_path, photos / "0-red.png", "--contrast", "0")
    assert document["results"][0]["form"] == {**guided, "contrast": 0.0}
    document, _ = run_json(capsys, model, photos / "0-red.png")  # a file of before
    assert document["results"][0]["form"] == {"guided": False, "contrast": 0.0, "unguided": None, "detail": None}
    dead = freeze_detail(guided_path, tmp_path / "dead.cam.onnx", np.zeros((1, 8, 16, 16), np.float32))
    assert main(["explain", str(dead), str(photos)]) == 0
    err = capsys.readouterr().err
    assert (
        "cfcam: note: 5 of 5 photos: the maps come from the target layer alone, not guided by the detail layer "
        f"({photos / '0-red.png'}: all activations of the detail layer are zero)"
    ) in " ".join(err.split())
    document, _ = run_json(capsys, dead, photos / "0-red.png")
    reason = "all activations of the detail layer are zero"
    assert document["results"][0]["form"] == {"guided": False, "contrast": 0.3, "unguided": reason, "detail": None}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--contrast", "1.5"], "contrast: expected a number from 0 to 1, got 1.5"),
        (["--contrast", "-0.1"], "contrast: expected a number from 0 to 1, got -0.1"),
        (["--contrast", "nan"], "contrast: expected a number from 0 to 1, got nan"),
        (["--contrast", "0.2", "-m", "gradcam"], "method 'gradcam' has none; leave it out, or take --method cfcam"),
    ],
)
def test_contrast_that_cannot_be(guided_path, photos, capsys, options, words):
    assert main(["explain", str(guided_path), str(photos), *options]) == 2
    out, err = capsys.readouterr()
    assert words in " ".join(err.split())
    assert out == ""


@pytest.mark.parametrize(
    ("fused", "advice"), [(None, "or take"), (True, "or export the model without --fused and take")]
)
def test_a_file_that_has_another_method_inside_cannot_take_one_for_contrast(fused, advice):
    with pytest.raises(typer.BadParameter, match=f"leave it out, {advice} --method cfcam"):
        _with_contrast(cast(Any, SimpleNamespace(spec=SimpleNamespace(fused=fused))), "gradcam", None, 0.5)


def test_contrast_needs_a_file_with_rivals(model, photos, capsys):
    assert main(["explain", model, str(photos), "--contrast", "0.3"]) == 2
    assert "only --contrast 0 is possible" in " ".join(capsys.readouterr().err.split())
    assert main(["explain", model, str(photos), "--contrast", "0"]) == 0


def test_document_has_exactly_what_it_promises(tiny_path, photo, capsys):
    model = str(tiny_path("stretch"))
    document, err = run_json(capsys, model, photo, "-t", "blue", "-m", "gradcam")
    assert err == ""
    assert list(document) == ["schema", "model", "provider", "method", "settings", "results", "errors"]
    assert document["schema"] == "cfcam.explain/1"
    assert list(document["model"]) == ["path", "sha256", "layer", "spec_version"]
    assert document["model"]["path"] == model
    assert (document["provider"], document["method"], document["errors"]) == ("cpu", "gradcam", [])
    (result,) = document["results"]
    expected = ["image", "target", "label", "probability", "peak", "empty", "counts", "times_ms", "output"]
    assert list(result) == expected
    assert (result["image"], result["target"], result["label"]) == (photo, 2, "blue") or result["image"] == str(photo)
    assert (result["empty"], result["output"]) == (False, None)
    stages = {stage: ms for stage, ms in result["times_ms"].items() if stage != "total"}
    assert stages["decode"] > 0
    assert sum(stages.values()) == pytest.approx(result["times_ms"]["total"], abs=0.01)


def test_same_answer_as_the_library(model, photos, capsys):
    document, _ = run_json(capsys, model, photos, "-m", "gradcam", "--batch", "3")
    with Explainer(model) as explainer:
        for result in document["results"]:
            alone = explainer.explain(result["image"], method="gradcam")
            assert result["target"] == alone.target
            assert result["probability"] == pytest.approx(alone.probability, rel=1e-5)
            assert result["peak"] == pytest.approx(alone.peak, abs=1e-5)
    assert [r["label"] for r in document["results"]][:3] == ["red", "green", "blue"]


def test_several_targets_of_several_images_in_order(model, photos, capsys):
    document, _ = run_json(capsys, model, photos, "-t", "red", "-t", "2", "-t", "0", "-m", "gradcam", "--batch", "3")
    assert [r["target"] for r in document["results"]] == [0, 2] * 5, "0 is red, and is explained once"
    images = [r["image"].rsplit("/", 1)[1] for r in document["results"]]
    assert images == sorted(images)


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_batch_size_changes_nothing(model, photos, capsys, batch):
    document, _ = run_json(capsys, model, photos, "-t", "red", "-t", "blue", "-m", "layercam", "--batch", batch)
    whole, _ = run_json(capsys, model, photos, "-t", "red", "-t", "blue", "-m", "layercam", "--batch", "64")
    assert [(r["image"], r["target"], r["peak"]) for r in document["results"]] == [
        (r["image"], r["target"], r["peak"]) for r in whole["results"]
    ]


def test_bad_files_do_not_stop_the_rest(model, photos, tmp_path, capsys):
    (photos / "text.png").write_text("I am text")
    data = (photos / "0-red.png").read_bytes()
    (photos / "truncated.png").write_bytes(data[: len(data) // 2])
    missing = tmp_path / "missing.jpg"
    empty = tmp_path / "empty-folder"
    empty.mkdir()
    out = tmp_path / "out"
    document, _ = run_json(
        capsys, model, photos, missing, empty, tmp_path / "*.webp", "-m", "gradcam", "-o", out, code=1
    )
    assert len(document["results"]) == 5
    assert len(list(out.iterdir())) == 5
    named = {error["image"].rsplit("/", 1)[1]: error["error"] for error in document["errors"]}
    assert set(named) == {"text.png", "truncated.png", "missing.jpg", "empty-folder", "*.webp"}
    assert "not an image" in named["text.png"]
    assert "no such file" in named["missing.jpg"]
    assert not any("\n" in words for words in named.values())


def test_all_inputs_bad_is_not_done(model, tmp_path, capsys):
    document, _ = run_json(capsys, model, tmp_path / "none.jpg", code=2)
    assert document["results"] == []
    assert len(document["errors"]) == 1
    assert main(["explain", model, str(tmp_path / "none.jpg")]) == 2
    assert capsys.readouterr() == ("", f"cfcam: error: {tmp_path / 'none.jpg'}: no such file\n")


def test_an_image_on_which_the_model_overflows_is_named(tiny_path, photos, capsys, monkeypatch):
    from cfcam.runtime.errors import EngineError

    whole = Explainer.explain_batch

    def overflow(self, images, *arguments, **options):
        if any(image.photo.size == (80, 70) for image in images):
            raise EngineError("NaN")
        return whole(self, images, *arguments, **options)

    monkeypatch.setattr(Explainer, "explain_batch", overflow)
    document, _ = run_json(capsys, tiny_path("logits"), photos, "-m", "gradcam", code=1)
    assert len(document["results"]) == 4
    assert [(e["image"].rsplit("/", 1)[1], e["error"]) for e in document["errors"]] == [("2-blue.png", "NaN")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-t", "99"], "out of range"),
        (["--maps", "7"], "expected a number from 1 to 6, as many as the model has, got 7"),
        (["--maps", "2", "-t", "red"], "leave one of them out"),
        (["-t", "red", "-t", "blue", "--side-by-side", "-o", "x.npy"], "draws a picture"),
        (["-t", "red", "--contrast-with", "red"], "against: class 0 is the one that is explained: name another"),
        (["--contrast-with", "red", "--contrast", "0.3"], "leave one of them out"),
        (["--contrast-with", "purple"], "against: no class is called 'purple'"),
        (["--contrast-with", "red", "--sess"], "sess weighs windows"),
        (["-t", "purple"], "no class is called 'purple'"),
        (["-m", "gradcm"], "did you mean 'gradcam'"),
        (["-m", "gradcam", "--settings", '{"a": 1}'], "takes no settings"),
        (["--settings", '{"neighbor": 2}'], "did you mean 'neighbour'"),
        (["--provider", "abacus"], "unknown provider 'abacus'"),
        (["-o", "x.gif"], "give a .png"),
        (["-m", "ablationcam"], "export it again with `cfcam export ... --with-tail`"),
        (["-m", "scorecam", "--settings", '{"batch": 3}'], "has no setting 'batch'"),
        (["--smooth-noise", "0.1"], "--smooth"),
        (["--smooth", "3", "--smooth-noise", "-1"], "noise: expected a number from 0 to 10"),
    ],
)
def test_wrong_options_are_not_done(model, photo, capsys, options, words):
    assert main(["explain", model, str(photo), *options, "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("name", ["missing.onnx", "text.onnx", "empty.onnx", "cut.onnx"])
def test_wrong_model_files(tiny_path, photo, tmp_path, capsys, name):
    data = tiny_path("logits").read_bytes()
    (tmp_path / "text.onnx").write_text("not a model")
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "cut.onnx").write_bytes(data[: len(data) // 2])
    assert main(["explain", str(tmp_path / name), str(photo)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert name in err
    assert len(err.splitlines()) == 1


def test_model_that_is_not_ours(tiny_path, photo, capsys):
    assert main(["explain", str(tiny_path("plain")), str(photo)]) == 2
    assert "was not made by `cfcam export`" in capsys.readouterr().err


def test_files_of_one_result(model, photo, tmp_path, capsys):
    assert main(["explain", model, str(photo), "-m", "gradcam", "-o", str(tmp_path / "new" / "a.png")]) == 0
    assert main(["explain", model, str(photo), "-m", "gradcam", "-o", str(tmp_path / "a.npy")]) == 0
    with Image.open(tmp_path / "new" / "a.png") as picture:
        assert min(picture.size) > 100
    heat = np.load(tmp_path / "a.npy")
    assert (heat.shape, heat.dtype, heat.max()) == ((32, 48), np.float32, 1.0)
    assert str(tmp_path / "a.npy") in capsys.readouterr().out


def test_same_name_in_two_folders_gives_two_files(model, photo, tmp_path, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(photo, tmp_path / folder / "dogs.jpg")
    out = tmp_path / "out"
    document, _ = run_json(
        capsys,
        model,
        tmp_path / "a",
        tmp_path / "b",
        "-t",
        "0",
        "-t",
        "2",
        "-m",
        "gradcam",
        "-o",
        out,
        "--format",
        "npy",
    )
    written = {r["output"] for r in document["results"]}
    assert len(written) == 4
    assert {p.name for p in out.iterdir()} == {"a_dogs.0.npy", "a_dogs.2.npy", "b_dogs.0.npy", "b_dogs.2.npy"}


def test_top_gives_the_best_classes(model, photo, capsys):
    document, _ = run_json(capsys, model, photo, "--top", "6", "-m", "gradcam")
    top = document["results"][0]["top"]
    assert sorted(entry["target"] for entry in top) == list(range(6))
    assert sum(entry["probability"] for entry in top) == pytest.approx(1, abs=1e-5)
    assert top[0]["target"] == document["results"][0]["target"]
    assert [e["probability"] for e in top] == sorted((e["probability"] for e in top), reverse=True)


@pytest.mark.parametrize("asked", [["--maps", "3"], ["--top", "3", "--side-by-side"]])
def test_the_best_classes_in_one_picture(model, photo, tmp_path, capsys, asked):
    picture = tmp_path / "best.png"
    document, err = run_json(capsys, model, photo, *asked, "-o", picture)
    words = "each photo took 4 inferences, because the file explains one class at a time; exported with "
    assert f"{words}--classes-per-image 3 it would take one" in " ".join(err.split())
    with Explainer(model) as explainer:
        expected = explainer.explain_top(photo, 3)
    best = [index for index, _, _ in expected[0].top[:3]]
    assert [one["target"] for one in document["results"]] == [one.target for one in expected] == best
    assert {one["output"] for one in document["results"]} == {str(picture)}
    with Image.open(picture) as drawn:
        assert drawn.size == side_by_side(expected).size
        np.testing.assert_array_equal(np.asarray(drawn), np.asarray(side_by_side(expected)))


@pytest.mark.parametrize(
    ("count", "asked", "words"),
    [
        (3, 5, "took 2 inferences, because the file explains 3 classes at a time; exported with --classes-per-image 5"),
        (3, 101, "took 35 inferences, because the file explains 3 classes at a time"),
        (None, 101, "took 2 inferences, because the file knows the order of the 100 best classes alone, and one finds"),
        (None, 100, None),
    ],
)
def test_the_note_on_several_inferences_gives_advice_that_works(capsys, count, asked, words):
    spec = SimpleNamespace(columns=ColumnsSpec(count=count, ranks=100), output=SimpleNamespace(classes=1000))
    _say_how_often(cast(Any, SimpleNamespace(spec=spec)), range(-1, -1 - asked, -1), None)
    err = " ".join(capsys.readouterr().err.split())
    assert (words or "") in err
    assert ("it would take one" in err) == ("exported" in (words or ""))
    assert bool(err) == bool(words)


@pytest.mark.parametrize("asked", [["--maps", "2"], ["--top", "2", "--side-by-side"]])
def test_a_file_of_one_class_has_no_maps_of_several(model, photo, tmp_path, capsys, asked):
    graph = onnx.load(model)
    graph.graph.input.remove(next(one for one in graph.graph.input if one.name == "cam_target"))
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1]), "cam_target"))
    written = next(entry for entry in graph.metadata_props if entry.key == "cfcam.spec")
    written.value = json.dumps({**json.loads(written.value), "schema": "1.4", "fixed_target": {"index": -1}})
    path = tmp_path / "fixed.cam.onnx"
    onnx.save(graph, path)
    assert main(["explain", str(path), str(photo), *asked, "-o", str(tmp_path / "x.png")]) == 2
    assert "leave out --maps, or --side-by-side beside --top," in " ".join(capsys.readouterr().err.split())
    assert main(["explain", str(path), str(photo), "--top", "2"]) == 0


def test_maps_of_classes_in_one_picture_of_each_photo_or_apart(model, photos, tmp_path, capsys):
    out = tmp_path / "out"
    two = [photos / "0-red.png", photos / "2-blue.png"]
    run_json(capsys, model, *two, "-t", "red", "-t", "blue", "--side-by-side", "-o", out)
    assert sorted(path.name for path in out.iterdir()) == [path.name for path in two]
    run_json(capsys, model, photos / "0-red.png", "--maps", "2", "-o", tmp_path / "apart")
    assert sorted(path.name for path in (tmp_path / "apart").iterdir()) == ["0-red.top.png", "0-red.top2.png"]


def test_a_class_against_another(model, photo, tmp_path, capsys):
    document, err = run_json(capsys, model, photo, "-t", "red", "--contrast-with", "blue", "-o", tmp_path / "a.npy")
    assert "each photo took 2 inferences" in " ".join(err.split())
    assert document["results"][0]["against"]["label"] == "blue"
    assert document["settings"]["contrast"] == 0
    with Explainer(model) as explainer:
        np.testing.assert_allclose(np.load(tmp_path / "a.npy"), explainer.explain(photo, "red", against="blue").map)


def test_settings_reach_the_method(model, photo, capsys):
    document, _ = run_json(capsys, model, photo, "--settings", '{"feature_sigma": 0.75}')
    assert document["settings"]["feature_sigma"] == 0.75
    assert document["method"] == "cfcam"


@pytest.mark.parametrize("method", ["scorecam", "ablationcam", "reciprocam", "fusioncam"])
def test_probes(tiny_path, photo, tmp_path, capsys, method):
    model = tiny_path("tail")
    document, err = run_json(capsys, model, photo, "-t", "red", "-m", method, "-o", tmp_path / "why.npy", "--batch", 3)
    assert document["method"] == method
    assert [line for line in err.splitlines() if "leaves out more than a third" not in line] == []
    with Explainer(model) as explainer:
        np.testing.assert_allclose(
            np.load(tmp_path / "why.npy"), explainer.explain(photo, "red", method).map, atol=1e-6
        )


def test_smoothing(model, photo, tmp_path, capsys):
    options = ("-m", "layercam", "--smooth", "5", "--smooth-noise", "0.3")
    document, _ = run_json(capsys, model, photo, *options, "-o", tmp_path / "why.npy")
    (result,) = document["results"]
    assert result["smoothing"] == {"copies": 5, "noise": 0.3, "seed": 0}
    with Explainer(model) as explainer:
        expected = explainer.explain(photo, method="layercam", smooth=result["smoothing"])
    np.testing.assert_allclose(np.load(tmp_path / "why.npy"), expected.map, atol=1e-6)
    assert main(["explain", model, str(photo), *options, "-o", str(tmp_path / "why.png")]) == 0


def test_empty_map_is_reported_as_such(model, photo, capsys):
    document, _ = run_json(capsys, model, photo, "-t", "nothing", "-m", "gradcam")
    (result,) = document["results"]
    assert (result["empty"], result["peak"]) == (True, None)
    assert result["reason"]
    assert main(["explain", model, str(photo), "-t", "nothing", "-m", "gradcam"]) == 0
    assert f"none: {result['reason']}" in capsys.readouterr().out


def test_table_for_people(model, photo, capsys):
    assert main(["explain", model, str(photo), "-t", "blue", "-m", "gradcam", "--top", "2"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == ["image", "class", "probability", "peak", "x,", "y"]
    assert "blue (2)" in lines[1]
    assert "1. " in lines[2]
    assert "nothing was written" in err
    assert all(line == line.rstrip() for line in lines)


def test_a_full_disk_leaves_no_half_file(model, photo, tmp_path, capsys, monkeypatch):
    def no_space(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", no_space)
    assert main(["explain", model, str(photo), "-m", "gradcam", "-o", str(tmp_path / "o" / "a.npy")]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["dogs.jpg"]


def test_stdout_holds_nothing_but_json_and_torch_is_not_loaded(tiny_path, photos):
    model = str(tiny_path("stretch"))
    code = (
        "import sys; from cfcam.cli import main; rc = main(sys.argv[1:]); "
        "loaded = {'torch', 'onnx', 'sympy', 'matplotlib'} & set(sys.modules); "
        "print(sorted(loaded), file=sys.stderr); sys.exit(rc)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "explain", model, str(photos), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["results"]) == 5
    assert done.stderr == "[]\n"


def test_a_crop_that_leaves_out_much_is_said(model, tiny_path, tmp_path, capsys):
    """Of 168 x 56 the model sees the middle 48 x 32; the file that it recommends sees everything."""
    for name, size in (("wide.png", (168, 56)), ("small.png", (60, 56))):
        Image.new("RGB", size, "red").save(tmp_path / name)
    document, err = run_json(capsys, model, tmp_path / "wide.png", "-m", "gradcam")
    assert document["results"][0]["left_out"] == pytest.approx(1 - 48 * 32 / (168 * 56), abs=1e-3)
    assert "1 of 1 photos" in err
    assert f"84% of {tmp_path / 'wide.png'}" in err
    for name in ("pad", "stretch"):
        document, err = run_json(capsys, tiny_path(name), tmp_path / "wide.png", "-m", "gradcam")
        assert (err, "left_out" in document["results"][0]) == ("", False)


def test_the_range_of_a_deep_photo_is_asked_for_and_taken(model, tmp_path, capsys):
    eight = np.random.default_rng(0).integers(0, 256, (56, 84), np.uint8)
    Image.fromarray(eight).save(tmp_path / "8.png")
    Image.fromarray(eight.astype(np.uint16) * 16).save(tmp_path / "12.png")
    plain, _ = run_json(capsys, model, tmp_path / "8.png", "-m", "gradcam")
    dark, err = run_json(capsys, model, tmp_path / "12.png", "-m", "gradcam")
    assert "--photo-range LOW:HIGH" in err
    assert "--photo-range LOW:HIGH" in dark["results"][0]["notes"][0]
    assert dark["results"][0]["probability"] != pytest.approx(plain["results"][0]["probability"], rel=1e-3)
    stated, err = run_json(capsys, model, tmp_path / "12.png", "-m", "gradcam", "--photo-range", "0:4080")
    assert "photo-range" not in err
    assert stated["results"][0]["probability"] == pytest.approx(plain["results"][0]["probability"], rel=1e-5)
    assert main(["explain", model, str(tmp_path / "12.png"), "--photo-range", "4080"]) == 2
    assert "LOW:HIGH such as 0:4095" in capsys.readouterr().err


def test_channels_of_the_overlay(model, tmp_path, capsys):
    pixels = np.zeros((56, 84, 3), np.uint8)
    pixels[..., 0] = 200
    Image.fromarray(pixels).save(tmp_path / "red.png")
    assert main(["explain", model, str(tmp_path / "red.png"), "--show-channels", "3,2"]) == 2
    assert "one number or three, from 1 to 3" in capsys.readouterr().err
    assert main(["explain", model, str(tmp_path / "red.png"), "--show-channels", "red"]) == 2
    assert "such as 3,2,1" in capsys.readouterr().err
    np.save(tmp_path / "red.npy", pixels)
    with Explainer(model, show_channels=(3, 2, 1)) as explainer:
        for name in ("red.png", "red.npy"):
            assert explainer.explain(tmp_path / name).photo.getpixel((3, 3)) == (0, 0, 200)


def test_a_regression_has_a_value_and_two_directions(tmp_path, capsys):
    net = head(outputs={"logits": onnx.TensorProto.FLOAT}, classes=1)
    onnx.save(net, tmp_path / "net.onnx")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)).save(tmp_path / "photo.png")
    file, photo = str(tmp_path / "net.cam.onnx"), str(tmp_path / "photo.png")
    options = ["--score-kind", "regression", "--unit", "years", "--resize", "stretch", "-o", file]
    assert main(["export", "--onnx", str(tmp_path / "net.onnx"), *options]) == 0
    capsys.readouterr()
    assert main(["explain", file, photo, "-t", "+", "-t", "-", "--top", "1"]) == 0
    title, larger, value, smaller = capsys.readouterr().out.splitlines()
    assert title.split()[2] == "value"
    assert [" + (0) " in larger, " - (1) " in smaller] == [True, True]
    assert all(" years" in line for line in (larger, value, smaller))
    assert main(["explain", file, photo, "-t", "-", "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    with Explainer(file) as explainer:
        expected = explainer.tensors([photo]).scores[0, 0]
    assert (result["label"], result["probability"], result["unit"]) == ("-", None, "years")
    assert result["value"] == pytest.approx(float(expected))
    assert main(["evaluate", file, "--images", photo]) == 2
    assert "no probabilities" in capsys.readouterr().err
