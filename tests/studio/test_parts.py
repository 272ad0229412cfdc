"""What the page is made of, without a browser: lines to copy, sheets, curves, work that is followed."""

import shlex
import threading
import time
from dataclasses import replace

import pytest
import torch
from support.models import tiny_model

import ddim
from ddim.diffusion.walk import last
from ddim.errors import InputError
from ddim.plots import sheets
from ddim.studio import Studio, curves, render
from ddim.studio.painting import mask_of
from ddim.studio.recipes import Origin, arguments, flags
from ddim.studio.tray import uploaded
from ddim.studio.ways import Way
from ddim.studio.work import followed, number, steps_of, whole
from ddim.training.verdict import Measurement


def test_options_and_arguments_leave_out_what_is_the_default():
    values = {"n": 4, "seed": 0, "eta": 0.0, "steps": None, "solver": "heun", "clip": False, "choices": [1, 2]}
    assert flags(values) == ["--n", "4", "--solver", "heun", "--no-clip", "--choices", "1", "2"]
    assert arguments(values) == ', n=4, solver="heun", clip=False, choices=[1, 2]'


def test_names_are_quoted_for_the_shell_and_for_python():
    origin = Origin("my models/it's", "fp32", "cpu")
    words = shlex.split(origin.command("sample", n=2))
    assert words == ["ddim", "sample", "my models/it's", "--n", "2", "--device", "cpu", "--precision", "fp32"]
    assert (
        origin.command("encode", "a b.png", exact=True) == "ddim encode 'my models/it'\"'\"'s' 'a b.png' --device cpu"
    )
    assert 'ddim.prepare(ddim.load("my models/it\'s", "cpu"), "fp32")' in origin.python()


def test_an_image_is_the_file_that_the_library_writes(tmp_path):
    image = torch.linspace(-1, 1, 3 * 5 * 4).view(3, 5, 4)
    path = sheets.save(sheets.to_pil(image), tmp_path / "image.png")
    assert render.png(image) == path.read_bytes()


def test_names_in_the_page_are_text():
    assert "<script>" not in render.alert("<script>") + render.download(b"", "<script>", "<script>")


def test_the_curve_is_the_losses_on_a_scale_of_powers():
    """Equal ratios are equal distances; the first and the last point stand at the ends."""
    text = curves.losses([(0, 1.0), (50, 0.1), (100, 0.01)], [Measurement(100, 0.02, 0.01)])
    points = text.partition('class="loss" points="')[2].partition('"')[0].split()
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in points)
    assert (x0, x2) == (curves.LEFT, curves.WIDE - 8)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.1)
    assert y1 - y0 == pytest.approx(y2 - y1, abs=0.1)
    assert y2 > y0
    assert text.count("<circle") == 2
    assert curves.losses([], []) == ""
    assert len(curves.thinned([(k, 1.0) for k in range(10_000)])) <= curves.POINTS


def test_followed_work_reports_returns_and_ends_when_it_is_left():
    def job(report):
        for k in range(1, 4):
            report("counting", k, 4)
            time.sleep(0.2)
        return "value"

    def value():
        seen.append((yield from followed(job, lambda what, part: {what: part})))

    seen: list = []
    shown = list(value())
    assert shown[-1] == {"counting": 0.75}
    assert seen == ["value"]
    ended = threading.Event()

    def endless(report):
        try:
            while True:
                report("going", 1, 2)
                time.sleep(0.01)
        finally:
            ended.set()

    left = followed(endless, lambda what, part: {what: part})
    assert next(left) == {"going": 0.5}
    left.close()
    assert ended.wait(5)

    def wrong(report):
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        list(followed(wrong, dict))


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda s: s.model("elsewhere"), "unknown model 'elsewhere'"),
        (lambda s: s.images(ddim.load("cifar10", "cpu")), "start the studio with --data"),
        (lambda s: steps_of("10 x"), "whole numbers, such as 10 20 50; got '10 x'"),
        (lambda s: steps_of("0"), "whole numbers"),
        (lambda s: whole(None, "the seed", 0, 5), "the seed is a whole number from 0 to 5; got None"),
        (lambda s: whole(2.5, "n", 0, 5), "n is a whole number"),
        (lambda s: whole("7", "n", 0, 9), "n is a whole number from 0 to 9; got 7"),
        (lambda s: whole(float("nan"), "n", 0, 9), "n is a whole number"),
        (lambda s: number(None, "η", 0, 1), "η is a number from 0 to 1; got None"),
        (lambda s: number(2, "η", 0, 1), "η is a number from 0 to 1; got 2"),
        (lambda s: mask_of("", (1, 8, 8)), "paint on the image"),
        (lambda s: mask_of("1" * 9, (1, 8, 8)), "the mask is of another image"),
        (lambda s: mask_of("1x" * 32, (1, 8, 8)), "the mask is of another image"),
        (lambda s: uploaded("/nowhere/cat.png", ddim.load("digits", "cpu")), "cat.png: no such folder or file"),
    ],
)
def test_what_a_page_cannot_ask_is_one_line(tmp_path, call, line: str):
    with pytest.raises(InputError, match=line) as caught:
        call(Studio(("digits", "cifar10"), tmp_path, device="cpu"))
    assert "\n" not in str(caught.value)
    assert "/nowhere" not in str(caught.value)


def test_a_young_model_is_sampled_as_the_lines_say():
    """η at 0 is left to the model, in the page as in the lines, which say nothing of it then."""
    model = replace(tiny_model(size=16), facts=ddim.Facts(images=5))
    way = Way.of(model, 0, 3, 5, "auto", "auto", 0, False, "auto", None, 1)
    course = way.course(model)
    shown = torch.cat([last(walk).x.clamp(-1, 1) for _, walk in way.walks(model, course.times, course.solver)])
    assert course.eta == 1
    assert torch.equal(shown, ddim.sample(model, n=3, steps=5))
    assert "eta" not in {name for name, value in way.said().items() if value is not None}
