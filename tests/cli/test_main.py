"""The command line as a user meets it: in a process of its own, with good requests and bad ones."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.command_line import refused
from support.models import tiny_model

import ddim
from ddim.cli.main import VERBS
from ddim.images.pixels import to_uint8

SOURCE = Path(ddim.__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return ddim.save(tiny_model(channels=3), tmp_path_factory.mktemp("model") / "tiny")


def pixels(file: Path) -> np.ndarray:
    with Image.open(file) as picture:
        return np.array(picture)


def test_sample_writes_the_pictures_of_the_library(tmp_path: Path, ddim_cli, folder: Path):
    result = ddim_cli(
        "sample", folder, "--n", 5, "--steps", 7, "--eta", 0.5, "--seed", 3, "--out", "out", "--batch-size", 2,
        "--precision", "fp32",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "out-sheet.png" in result.stdout
    expected = to_uint8(ddim.sample(ddim.load(folder, "cpu"), n=5, steps=7, eta=0.5, seed=3))
    for k in range(5):
        ours = pixels(tmp_path / "out" / f"{k:05d}.png").astype(int)
        assert np.abs(ours - expected[k].permute(1, 2, 0).numpy()).max() <= 1  # rounding, in another batch
    assert pixels(tmp_path / "out-sheet.png").shape[0] > 64
    assert len(list((tmp_path / "out").glob("*.png"))) == 5  # a folder of images holds images only


def test_a_precision_is_told_kept_and_close(tmp_path: Path, ddim_cli):
    """Digits in bf16 are the digits of float32, to a few of 255 grey levels."""
    common = ("sample", "digits", "--n", 16, "--steps", 10, "--format", "npz")
    for precision in ("fp32", "bf16"):
        result = ddim_cli(*common, "--precision", precision, "--out", precision)
        assert f"digits: on cpu in {precision}" in result.stdout, result.stderr
        assert json.loads((tmp_path / precision / "sample.json").read_text())["precision"] == precision
    made = [np.load(tmp_path / precision / "images.npz")["arr_0"].astype(float) for precision in ("fp32", "bf16")]
    assert 0 < np.abs(made[0] - made[1]).mean() < 2
    other = ddim_cli(*common, "--precision", "bf16", "--out", "fp32")
    refused(other, "holds files made with precision fp32, not bf16")
    compiled = ddim_cli("train", "digits", "--compile", "--device", "cpu")
    refused(compiled, "--compile is for a GPU")


def test_npz_and_hat_and_times(tmp_path: Path, ddim_cli, folder: Path):
    args = ("--n", 3, "--eta", "hat", "--clip", "--times", 900, 400, 0, "--format", "npz", "--out", "out")
    args += ("--precision", "fp32")
    result = ddim_cli("sample", folder, *args)
    assert result.returncode == 0, result.stderr
    with np.load(tmp_path / "out" / "images.npz") as file:
        pictures = file["arr_0"]
    assert pictures.dtype == np.uint8
    expected = ddim.sample(ddim.load(folder, "cpu"), n=3, eta="hat", clip=True, times=[900, 400, 0])
    assert np.abs(pictures.astype(int) - to_uint8(expected).permute(0, 2, 3, 1).numpy()).max() <= 1


@pytest.mark.parametrize("spacing", ["linear", "quadratic", "official-linear", "official-quadratic"])
def test_spacings(ddim_cli, folder: Path, spacing: str):
    assert ddim_cli("sample", folder, "--n", 1, "--steps", 9, "--spacing", spacing, "--out", spacing).returncode == 0


def test_a_folder_of_other_settings_is_not_mixed(tmp_path: Path, ddim_cli, folder: Path):
    args = ("sample", folder, "--n", 2, "--steps", 2, "--out", "out")
    assert ddim_cli(*args).returncode == 0
    refused(ddim_cli(*args, "--seed", 1), "out: holds files made with seed 0, not 1")
    assert ddim_cli("sample", folder, "--n", 3, "--steps", 2, "--out", "out").returncode == 0
    assert (tmp_path / "out" / "00002.png").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("sample", "{model}", "--steps", "0"), "--steps must be at least 1; got 0"),
        (("sample", "{model}", "--steps", "1001"), "steps must be from 1 to 1000"),
        (("sample", "{model}", "--eta", "-0.5"), "--eta must be at least 0; got -0.5"),
        (("sample", "{model}", "--eta", "3"), "eta 3.0 is too large"),
        (("sample", "{model}", "--eta", "lots"), "--eta"),
        (("sample", "{model}", "--times", "0", "10"), "times must fall"),
        (("sample", "{model}", "--times", "5000", "10"), "times must lie in 0..1000"),
        (("sample", "{model}", "--n", "0"), "--n must be at least 1"),
        (("sample", "{model}", "--batch-size", "0"), "--batch-size must be at least 1"),
        (("sample", "{model}", "--seed", "-1"), "seed must be"),
        (("sample", "{model}", "--spacing", "cubic"), "spacing"),
        (("sample", "{model}", "--device", "abacus"), "device abacus is not available here"),
        (("sample", "{model}", "--nonsense"), "--nonsense"),
        (("sample", "{model}", "--out", "a-file"), "a-file: is a file"),
        (("sample", "{model}", "--out", "a-file/in"), "a-file: is a file"),
        (("sample", "{model}", "--out", "/proc/ddim"), "/proc/ddim: cannot be written"),
        (("sample", "no-such-model"), "no-such-model: no such model"),
        (("sample", "some/where"), "some/where: no such folder, and not in the cache of the Hub"),
        (("sample", "a-file"), "a-file: truncated or not a file of weights"),
        (("sample",), "model"),
        (("info", "no-such-model"), "no-such-model"),
        (("train",), "train needs a preset"),
        (
            ("train", "imagenet"),
            "unknown preset 'imagenet': choose one of digits, digits-improved, cifar10, cifar10-improved, celeba",
        ),
        (("train", "celeba"), "no images named: give --data"),
        (("train", "digits", "--data", "empty"), "empty: holds no images"),
        (("train", "digits", "--data", "nowhere"), "nowhere: no such folder"),
        (("train", "digits", "--data", "broken"), "broken/b.png: not a readable image"),
        (("train", "digits", "--size", "9"), "size 9 cannot be halved"),
        (("train", "digits", "--groups", "5"), "not divisible by groups 5"),
        (("train", "digits", "--steps", "0"), "--steps must be"),
        (("train", "digits", "--accumulate", "0"), "--accumulate must be at least 1"),
        (
            ("train", "digits", "--accumulate", "3"),
            "batch size 128 is not a multiple of processes × accumulate, 1 × 3: change --batch-size or --accumulate",
        ),
        (("train", "digits", "--device", "abacus"), "device abacus is not available here"),
        (("train", "digits", "--lr", "fast"), "--lr"),
        (("train", "digits", "--out", "a-file"), "a-file: is a file"),
        (("train", "digits", "--out", "/proc/ddim"), "/proc/ddim: cannot be written"),
        (("paint",), "unknown verb 'paint': choose one of"),
    ],
)
def test_bad_requests_get_one_line(tmp_path: Path, ddim_cli, folder: Path, args: tuple[str, ...], words: str):
    (tmp_path / "a-file").write_text("here")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "broken" / "a.png")
    (tmp_path / "broken" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    before = sorted(p for p in tmp_path.rglob("*") if "hf" not in p.parts)
    refused(ddim_cli(*(arg.format(model=folder) for arg in args)), words)
    assert sorted(p for p in tmp_path.rglob("*") if "hf" not in p.parts) == before  # nothing left behind


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path, ddim_cli, folder: Path):
    (tmp_path / "locked").mkdir(mode=0o500)
    refused(ddim_cli("sample", folder, "--n", 1, "--steps", 1, "--out", "locked/out"), "locked: cannot be written")


def test_a_truncated_model_is_refused(tmp_path: Path, ddim_cli):
    folder = ddim.save(tiny_model(), tmp_path / "m")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refused(ddim_cli("sample", folder, "--out", "out"), "diffusion_pytorch_model.safetensors: truncated")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_mixed_pictures_trains(tmp_path: Path, ddim_cli):
    """Every mode, size and depth of folder; the broken one is left out when asked."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for i, mode in enumerate(["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16"]):
        picture = Image.new("L", (10 + i, 20 - i), 30 * i)
        picture = Image.fromarray(np.array(picture, dtype=np.uint16) * 257) if mode == "I;16" else picture.convert(mode)
        picture.save(tmp_path / "in" / "deep" / f"{i}.{'tiff' if mode == 'CMYK' else 'png'}")
    (tmp_path / "in" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing more")
    tiny = ("--ch", 8, "--groups", 4, "--mult", 1, 1, "--batch-size", 4, "--steps", 3, "--channels", 3)
    result = ddim_cli("train", "digits", "--data", "in", "--out", "run", *tiny, "--skip-broken")
    assert result.returncode == 0, result.stderr
    assert "left out 1 of 8 images" in result.stderr
    assert "model: run" in result.stdout


def test_help_is_quick_and_tells_every_verb(ddim_process):
    start = time.perf_counter()
    result = ddim_process("--help")
    seconds = time.perf_counter() - start
    assert result.returncode == 0
    assert all(f"  {verb}" in result.stdout for verb in VERBS)
    assert seconds < 60  # no timed test: this only notices that torch was imported on a crawling machine


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_the_command_line_keeps_its_memory():
    """Taking and freeing 30 MB a hundred times: page faults every time as the system has it, once as we ask."""
    code = """
import resource, sys
import numpy as np
from ddim.system.machine import keep_memory
if sys.argv[1] == "keep":
    keep_memory()
np.ones(2**22)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    np.ones(2**22)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    kept, plain = (int(subprocess.check_output([sys.executable, "-c", code, how])) for how in ("keep", "plain"))
    assert kept < 0.1 * plain
