"""Which output of a module has the class scores."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from cfcam.export.errors import ExportError
from cfcam.export.traced.capture import capture
from cfcam.export.traced.outputs import check_scores, output_place
from opened_modules import held_by, opened
from small_nets import HeadConv, TwoOutputs, seeded
from torch import Tensor, nn

EXAMPLE = torch.zeros(1, 3, 40, 40)


def scores(net: nn.Module, asked: int | str | None = None) -> tuple[int, int]:
    module = opened(seeded(net), EXAMPLE, asked)
    return module.position, module.score.classes


def test_the_score_is_the_logit_before_the_final_softmax() -> None:
    module = opened(seeded(HeadConv()), EXAMPLE)
    score = module.score
    assert (score.kind, score.classes) == ("softmax", 10)
    assert score.value != score.output
    image = torch.randn(2, 3, 40, 40)
    logits, shown = (torch.from_numpy(held_by(module.graph, name, image)) for name in (score.value, score.output))
    torch.testing.assert_close(torch.softmax(logits.flatten(1), 1), shown)


def test_the_first_output_of_shape_n_by_classes_is_the_score_and_another_can_be_chosen() -> None:
    assert scores(TwoOutputs()) == (1, 10)
    assert scores(TwoOutputs(), 1) == (1, 10)
    assert scores(TwoOutputs(), "logits") == (1, 10)
    with pytest.raises(ExportError, match=r"no output looks like class scores.*0: \(N, 16, "):
        scores(TwoOutputs(), 0)


def test_an_output_is_named_by_its_key_or_its_place() -> None:
    names = ("age", "emotion", "")
    assert [output_place(names, asked) for asked in ("emotion", "2", 0)] == [1, 2, 0]
    with pytest.raises(ExportError, match="the model has 3 outputs"):
        output_place(names, 7)
    with pytest.raises(ExportError, match=r"score output 'probs': the model has no such output \('age', 'emotion'\)"):
        output_place(names, "probs")


def test_a_segmentation_model_is_told_what_cfcam_explains() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    with pytest.raises(ExportError, match=r"0: \(N, 4, 40, 40\).*wrap the module"):
        scores(net)


@pytest.mark.parametrize(
    ("head", "returned"),
    [
        (lambda y: y.reshape(-1), r"\(5\*N,\)"),
        (lambda y: y.sum(0), r"\(5,\)"),
        (lambda y: y.T, r"\(5, N\)"),
    ],
)
def test_scores_without_one_row_per_image_are_refused(head: Callable[[Tensor], Tensor], returned: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 8, 8), nn.Linear(4, 5)

        def forward(self, image: Tensor) -> Tensor:
            return head(self.fc(self.conv(image).relu().mean((2, 3))))

    captured = capture(Net().eval(), EXAMPLE)
    with pytest.raises(ExportError, match=f"not one row per image: for a batch of N images .* 0: {returned}; keep"):
        check_scores(captured.outputs, None, captured.image.meta["val"].shape[0])
