"""The quality of samples at the end of a run: against features and distances computed by hand, and copies noticed."""

import json

import pytest
import torch
from support.clocks import Ticking
from support.training import TIMED

import ddim
from ddim.evaluation import features
from ddim.training.held_out import divided
from ddim.training.sample_quality import in_words, quality, seen_by


def digits() -> torch.Tensor:
    return ddim.data.load(ddim.data.find("digits", 8, 1))


def test_held_out_images_are_near_and_noise_is_far():
    parts = divided(digits(), None, 0.15, 0)
    real = quality(parts.held[:200], parts)
    noise = torch.randint(0, 256, (200, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    far = quality(noise, parts)
    assert (real.by, real.n, real.held_n) == ("digits-small", 200, 200)
    assert real.kid == pytest.approx(real.held_kid)
    assert real.nearest == real.held_nearest
    assert far.fid > 10 * real.fid
    assert far.kid > 10 * abs(real.kid)
    distances = torch.cdist(parts.held[:200].flatten(1).double(), parts.seen.flatten(1).double()).amin(1) / 8
    assert real.nearest == pytest.approx(distances.median().item(), rel=1e-4)
    assert real.copies == 0


def test_copies_are_noticed():
    parts = divided(digits(), None, 0.15, 0)
    copied = torch.cat([parts.seen[:100], parts.held[:100]])
    found = quality(copied, parts)
    assert 0.45 <= found.copies <= 0.5  # beyond the share among held-out images
    assert "of the samples are almost copies of training images" in in_words(found)[-1]
    assert "copies" not in " ".join(in_words(quality(parts.held[:200], parts)))


def test_images_of_other_sizes_are_brought_to_that_of_the_network():
    network = features.find("cifar10-small")
    images = torch.randint(0, 256, (5, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    twice = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(seen_by(network, images), network(images))
    assert seen_by(network, twice).shape == (5, network(images).shape[1])
    grey = images[:, :1]
    assert torch.equal(seen_by(network, grey), network(grey.expand(-1, 3, -1, -1)))


def test_a_run_ends_with_the_quality_of_its_samples(tmp_path, alone, capsys):
    how = TIMED | {"labels": True, "log_every": 10, "held_out": 0.05}
    made = ddim.train("digits", tmp_path / "run", time="20m", clock=Ticking(0.5), **how)
    lines = [json.loads(line) for line in (made.out / "log.jsonl").read_text().splitlines()]
    found = [line for line in lines if "samples" in line]
    assert len(found) == 1
    assert found[0]["step"] == made.step
    assert found[0]["samples"]["n"] == 200
    assert found[0]["samples"]["held_n"] == 89
    assert any("200 samples by the features digits-small: FID" in line for line in made.report)
    assert any("held-out loss" in line for line in made.report)
