"""Jobs that keep their result only at the end: stopped, they go on with the batches that were left, to the same end."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.models import tiny_model

import ddim
from ddim.diffusion.model import Model
from ddim.errors import InputError
from ddim.jobs import encode_files
from ddim.jobs.unfinished import unfinished
from ddim.system.files import held

N, BATCH = 5, 2


class Stopping(Model):
    """A model that counts its calls; the last one it is allowed is a Ctrl-C."""

    calls, allowed = 0, 10**9

    def __call__(self, x, t):
        Stopping.calls += 1
        if Stopping.calls > Stopping.allowed:
            raise KeyboardInterrupt
        return super().__call__(x, t)


@pytest.fixture
def stopping(monkeypatch) -> Stopping:
    monkeypatch.setattr(Stopping, "calls", 0)
    monkeypatch.setattr(Stopping, "allowed", 10**9)
    model = tiny_model()
    return Stopping(model.network, model.abar, model.shape)


@pytest.fixture
def images(tmp_path) -> Path:
    values = torch.randint(256, (N, *tiny_model().shape), generator=torch.Generator().manual_seed(0)).byte()
    return ddim.save_images(values.float() / 127.5 - 1, tmp_path / "images")[0].parent


def encode(model: Model, images: Path, out: Path, solver: str = "ddim") -> dict:
    made = encode_files(model, [images], out / "z.safetensors", 3, solver=solver, batch_size=BATCH)
    return {"file": (out / "z.safetensors").read_bytes(), "mean": made.mean, "residual": made.residual}


def reconstruct(model: Model, images: Path, out: Path, solver: str = "ddim") -> dict:
    ddim.reconstruct(model, [images], out, (2, 3), solver=solver, batch_size=BATCH)
    return {"record": json.loads((out / "reconstruct.json").read_text()), "f": (out / "reconstruct.png").read_bytes()}


def law(model: Model, images: Path, out: Path, solver: str = "ddim") -> dict:
    ddim.latents_law(model, [images], out, (2, 3), (solver,), batch_size=BATCH)
    return {"record": json.loads((out / "latents.json").read_text())}


def calls_of(job: Callable[[], dict]) -> tuple[int, dict]:
    before = Stopping.calls
    found = job()
    return Stopping.calls - before, found


@pytest.mark.parametrize(
    ("job", "solver"), [(encode, "ddim"), (encode, "implicit"), (encode, "exact"), (reconstruct, "ddim"), (law, "ddim")]
)
def test_a_stopped_job_continues_and_ends_the_same(job, solver, stopping, images, tmp_path, monkeypatch):
    whole, expected = calls_of(lambda: job(stopping, images, tmp_path / "whole", solver))
    monkeypatch.setattr(Stopping, "allowed", Stopping.calls + whole // 2)
    with pytest.raises(KeyboardInterrupt, match=r"the same command continues, in .*unfinished"):
        job(stopping, images, tmp_path / "stopped", solver)
    left = list((tmp_path / "stopped").rglob("*.safetensors"))
    assert left
    assert all(path.parent.name.endswith("unfinished") for path in left)  # no result, and nothing that looks like one
    monkeypatch.setattr(Stopping, "allowed", 10**9)
    rest, found = calls_of(lambda: job(stopping, images, tmp_path / "stopped", solver))
    assert found == expected
    assert 0 < rest <= 0.8 * whole
    assert not list((tmp_path / "stopped").rglob("*unfinished*"))


def stopped(model: Stopping, images: Path, out: Path, monkeypatch) -> None:
    """Encode all but the last batch."""
    monkeypatch.setattr(Stopping, "allowed", Stopping.calls + 7)  # three steps a batch
    with pytest.raises(KeyboardInterrupt):
        encode(model, images, out)
    monkeypatch.setattr(Stopping, "allowed", 10**9)
    assert len(list((out / "z.safetensors.unfinished").glob("*.safetensors"))) == 2


def test_what_was_cut_short_is_made_again(stopping, images, tmp_path, monkeypatch):
    _, expected = calls_of(lambda: encode(stopping, images, tmp_path / "whole"))
    stopped(stopping, images, tmp_path / "z", monkeypatch)
    broken = next((tmp_path / "z" / "z.safetensors.unfinished").glob("*.safetensors"))
    broken.write_bytes(broken.read_bytes()[:-7])
    calls, found = calls_of(lambda: encode(stopping, images, tmp_path / "z"))
    assert (calls, found) == (6, expected)


def test_nothing_is_taken_of_other_images_or_another_way(stopping, images, tmp_path, monkeypatch):
    stopped(stopping, images, tmp_path / "images-differ", monkeypatch)
    stopped(stopping, images, tmp_path / "way-differs", monkeypatch)
    other = sorted(images.iterdir())[0]
    other.write_bytes(sorted(images.iterdir())[1].read_bytes())
    calls, found = calls_of(lambda: encode(stopping, images, tmp_path / "images-differ"))
    assert calls == 6  # the first batch and the last
    assert found == encode(stopping, images, tmp_path / "whole")
    assert encode(stopping, images, tmp_path / "way-differs", "exact") == encode(
        stopping, images, tmp_path / "exact", "exact"
    )


def test_a_folder_of_others_or_of_a_job_at_work_is_refused(stopping, images, tmp_path):
    (tmp_path / "a" / "z.safetensors.unfinished").mkdir(parents=True)
    with held(tmp_path / "a" / "z.safetensors.unfinished"), pytest.raises(InputError, match="another process works"):
        encode(stopping, images, tmp_path / "a")
    (tmp_path / "a" / "z.safetensors.unfinished" / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="holds other files"):
        encode(stopping, images, tmp_path / "a")
    assert (tmp_path / "a" / "z.safetensors.unfinished" / "mine.txt").read_text() == "precious"


def test_a_job_that_kept_nothing_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="early"), unfinished(tmp_path / "u", {"a": 1}):
        raise ValueError("early")
    assert not (tmp_path / "u").exists()
    with pytest.raises(KeyboardInterrupt, match=r"^$"), unfinished(tmp_path / "u", {"a": 1}):
        raise KeyboardInterrupt
    assert not (tmp_path / "u").exists()
