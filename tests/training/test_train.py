"""Training: its random numbers, its loss, its average, and runs that are stopped in every way, by the real command."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from PIL import Image
from support.command_line import command, environment, in_process, refused
from support.models import tiny_network
from support.training import LONG, OPTIONS, TINY, fit, losses

from ddim import images as data
from ddim.diffusion import schedule
from ddim.diffusion.process import marginal
from ddim.system.files import held
from ddim.training import loop as train
from ddim.training.captured import Captured
from ddim.training.loss import loss_of, randomness
from ddim.training.new_model import build
from ddim.training.presets import PRESETS
from ddim.training.run import content_of

ABAR = schedule.linear()
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_the_first_loss_is_that_of_predicting_nothing():
    """ε̂ = 0 before the first step, so the loss is the mean of ε² over the batch that the seed decides."""
    first, _ = fit(steps=1)
    _, eps, _ = randomness(TINY.optimiser.seed, 1, (16, 1, 8, 8), 1000)
    assert abs(first[0] - eps.square().mean().item()) < 1e-6


def test_the_loss_is_the_papers_objective():
    """Written out for each picture: mean over pixels of (ε − ε_θ(√ᾱ_t x_0 + √(1−ᾱ_t) ε, t))², the index being t−1."""
    network = tiny_network()
    x0, eps = torch.randn(2, 6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([1, 2, 300, 500, 999, 1000])
    expected = 0.0
    for x, e, t in zip(x0, eps, times.tolist(), strict=True):
        x_t = marginal(x, e, ABAR[t]).float()
        expected += (e - network(x_t[None], torch.tensor([t - 1]))[0]).square().mean().item() / 6
    assert abs(loss_of(network, x0, times, eps, ABAR).item() - expected) < 1e-5


def test_times_are_antithetic_uniform_and_never_zero():
    times = torch.cat([randomness(0, step, (128, 1, 1, 1), 1000)[0] for step in range(500)])  # (64000,)
    assert times.min() == 1
    assert times.max() == 1000
    assert abs(times.double().mean() - 500.5) < 1e-9  # exactly, by pairs
    counts = times.bincount(minlength=1001)[1:].view(10, 100).sum(1)
    assert (counts - 6400).abs().max() < 5 * 6400**0.5
    odd, _, _ = randomness(0, 1, (5, 1, 1, 1), 1000)
    assert len(odd) == 5


def test_steps_draw_different_numbers():
    a, b = randomness(0, 1, (64, 1, 8, 8), 1000), randomness(0, 2, (64, 1, 8, 8), 1000)
    assert abs(torch.corrcoef(torch.stack([a[1].flatten(), b[1].flatten()]))[0, 1]) < 0.08
    assert torch.equal(a[1], randomness(0, 1, (64, 1, 8, 8), 1000)[1])
    assert not torch.equal(a[1], randomness(1, 1, (64, 1, 8, 8), 1000)[1])


def test_the_average_is_the_recursion():
    """a_k = d_k a_{k−1} + (1−d_k) w_k, with d_k = min(decay, (1+k)/(10+k)) and a_0 = w_0."""
    values = torch.randn(60, generator=torch.Generator().manual_seed(0)).tolist()
    holder = torch.nn.Linear(1, 1, bias=False)
    average = torch.optim.swa_utils.AveragedModel(holder, multi_avg_fn=train.ema(0.8))
    expected = values[0]
    for k, value in enumerate(values):
        holder.weight.data.fill_(value)
        average.update_parameters(holder)
        decay = min(0.8, (1 + k) / (10 + k))
        expected = value if k == 0 else decay * expected + (1 - decay) * value
        assert abs(average.module.weight.item() - expected) < 1e-5


def test_the_learning_rate_rises_and_falls():
    preset = TINY.changed(lr=2.0, warmup=10, steps=100, decay=True)
    assert train.rate(preset.optimiser, 5) == pytest.approx(2.0 * 0.5 * 0.5 * (1 + np.cos(np.pi * 4 / 100)))
    assert train.rate(preset.optimiser, 100) < 0.01
    assert [train.rate(preset.changed(decay=False).optimiser, k) for k in (1, 10, 100)] == [
        pytest.approx(0.2),
        2.0,
        2.0,
    ]


def test_half_of_the_pictures_are_flipped():
    """With one lopsided picture and ε known, what the network was shown tells the side."""
    picture = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    picture[..., :4] = 255
    preset = TINY.changed(flip=True, batch_size=400)
    model = build(preset)
    seen = []
    model.network.register_forward_pre_hook(lambda module, args: seen.append(args))
    next(
        train.fit(preset, train.State.new(preset.optimiser, model.network), model.abar, picture, Accelerator(cpu=True))
    )
    times, eps, coin = randomness(preset.optimiser.seed, 1, (400, 1, 8, 8), 1000)
    level = ABAR[times].float()[:, None, None, None]
    x0 = (seen[0][0] - (1 - level).sqrt() * eps) / level.sqrt()
    clear = times < 300
    left = (x0[..., :4].mean((1, 2, 3)) > 0)[clear]
    assert torch.equal(left, (coin >= 0.5)[clear])
    assert 0.3 < left.float().mean() < 0.7


def test_dropout_is_repeatable_and_active():
    dropped, _ = fit(TINY.changed(dropout=0.5), steps=4)
    again, _ = fit(TINY.changed(dropout=0.5), steps=4)
    plain, _ = fit(TINY, steps=4)
    assert dropped == again
    assert dropped[3] != plain[3]


def test_bf16_keeps_float32_weights_and_about_the_loss():
    """Autocast: other numbers than float32's, within its rounding; weights and averages stay float32."""
    whole, _ = fit(steps=6)
    AcceleratorState._reset_state(reset_partial_state=True)
    model = build(TINY)
    state = train.State.new(TINY.optimiser, model.network)
    pictures = data.load(data.find("digits", 8, 1))
    half = Accelerator(cpu=True, mixed_precision="bf16")
    losses = [loss.item() for loss in islice(train.fit(TINY, state, model.abar, pictures, half), 6)]
    AcceleratorState._reset_state(reset_partial_state=True)
    assert losses != whole
    assert np.allclose(losses, whole, rtol=0.02)
    assert {p.dtype for p in (*model.network.parameters(), *state.average.module.parameters())} == {torch.float32}


@pytest.mark.parametrize("parts", [2, 16])
def test_a_step_in_parts_is_the_same_step(parts: int):
    """The losses, the gradients' norm and the weights are those of whole batches, and only a part is in memory."""
    (whole, before), (ours, state) = fit(steps=10), fit(TINY.changed(accumulate=parts), steps=10)
    assert max(abs(a - b) for a, b in zip(whole, ours, strict=True)) < 1e-5
    for ours, theirs in ((state.network, before.network), (state.average, before.average)):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert (a - b).abs().max() < 1e-5
    seen = []
    state.network.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    pictures = data.load(data.find("digits", 8, 1))
    next(train.fit(TINY.changed(accumulate=parts), state, ABAR, pictures, Accelerator(cpu=True)))
    assert seen == [16 // parts] * parts


def test_training_learns():
    values, _ = fit(TINY.changed(lr=2e-3), steps=120)
    assert np.mean(values[-20:]) < 0.5 * values[0]


def test_a_state_that_does_not_fit_is_refused(tmp_path: Path):
    _, state = fit(steps=1)
    state.save(tmp_path / "s.pt")
    other = train.State.new(TINY.optimiser, build(TINY.changed(ch=16)).network)
    with pytest.raises(train.InputError, match="not the state of this run"):
        other.restore(tmp_path / "s.pt")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    """A finished run of 30 steps."""
    tmp = tmp_path_factory.mktemp("unbroken")
    assert in_process(tmp, "train", "digits", "--out", "run", "--steps", "30", *OPTIONS).returncode == 0
    return tmp / "run"


def test_a_run_leaves_everything(unbroken: Path, ddim_cli):
    assert [step for step, _ in losses(unbroken)] == list(range(1, 31))
    assert json.loads((unbroken / "train.json").read_text())["batch_size"] == 16
    for name in ("loss.png", "samples/step-0000030.png"):
        with Image.open(unbroken / name) as picture:
            assert min(picture.size) > 100
    assert not list(unbroken.rglob(".ddim-part-*"))
    told = ddim_cli("info", unbroken).stdout
    assert "8×8, greyscale" in told
    assert "linear, β 0.0001 … 0.02" in told


def killed(tmp_path: Path, how: int, lines: int = 15, *options: str) -> tuple[Path, subprocess.Popen]:
    """A long run, sent a signal once it has logged `lines` steps and saved."""
    run = tmp_path / "run"
    process = subprocess.Popen(
        [*command("train", "digits", "--out", run, "--steps", str(LONG)), *OPTIONS, *options],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 900
    log = run / "log.jsonl"
    while not (log.exists() and log.read_text().count("\n") >= lines and (run / "state" / "last.pt").exists()):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(how)
    process.wait(timeout=600)
    return run, process


def test_killed_and_resumed_is_as_if_unbroken(tmp_path: Path, ddim_cli, unbroken: Path):
    """SIGKILL at any moment; then the losses, and the model, are those of the run that nobody killed, bit for bit."""
    run, _ = killed(tmp_path, signal.SIGKILL)
    with open(run / "log.jsonl", "a") as log:
        log.write('{"step": "3"}\n{"step": 3}\n{"step": 3, "loss": NaN}\n[]\n3\n')  # junk
        log.write('{"step": 99, "lo')  # a line cut short
    # The kill may have come late on a quick machine: then the run is beyond 30, and an unbroken one must go as far.
    steps = max(30, torch.load(run / "state" / "last.pt", weights_only=True)["step"] + 5)
    reference = unbroken
    if steps > 30:
        reference = tmp_path / "longer"
        ddim_cli("train", "digits", "--out", reference, "--steps", steps, *OPTIONS)
    result = ddim_cli("train", "digits", "--out", run, "--resume", "--steps", steps)
    assert result.returncode == 0, result.stderr
    assert losses(run) == losses(reference)
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (run / weights).read_bytes() == (reference / weights).read_bytes()


def test_control_c_leaves_a_resumable_state(tmp_path: Path, ddim_cli):
    run, process = killed(tmp_path, signal.SIGINT)
    assert process.returncode == 130
    assert "--resume" in process.stdout.read()
    assert "Traceback" not in process.stderr.read()
    reached = torch.load(run / "state" / "last.pt", weights_only=True)["step"]
    assert losses(run)[-1][0] == reached
    result = ddim_cli("train", "digits", "--out", run, "--resume", "--steps", reached + 3)
    assert result.returncode == 0, result.stderr
    assert [step for step, _ in losses(run)] == list(range(1, reached + 4))


def test_a_log_of_several_steps_a_line_goes_on_too(tmp_path: Path, ddim_cli):
    """Saved every 10 steps, logged every 7: the line after a resume is still the mean of all its seven steps."""
    run, _ = killed(tmp_path, signal.SIGKILL, 3, "--log-every", "7")
    steps = torch.load(run / "state" / "last.pt", weights_only=True)["step"] + 9
    assert ddim_cli("train", "digits", "--out", run, "--resume", "--steps", steps).returncode == 0
    whole = ("train", "digits", "--out", "whole", "--steps", steps, *OPTIONS, "--log-every", "7")
    assert ddim_cli(*whole).returncode == 0
    assert losses(run) == losses(tmp_path / "whole")


def test_killed_before_the_first_save_starts_again(tmp_path: Path, ddim_cli, unbroken: Path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "train.json").write_text((unbroken / "train.json").read_text())
    (run / "log.jsonl").write_text('{"step": 1, "loss": 5.0}\n')
    assert ddim_cli("train", "digits", "--out", run, "--resume").returncode == 0
    assert losses(run) == losses(unbroken)


def test_resume_is_refused(tmp_path: Path, ddim_cli, unbroken: Path):
    refused(ddim_cli("train", "digits", "--out", "nothing", "--resume"), "nothing: holds no run to resume")
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "listed").mkdir()
    (tmp_path / "listed" / "train.json").write_text('{"preset": []}')
    refused(ddim_cli("train", "digits", "--out", "listed", "--resume"), "listed/train.json: not the settings of a run")
    resume = ("train", "digits", "--out", unbroken, "--resume")
    refused(ddim_cli(*resume, "--ema", "0.5"), "--ema 0.5 contradicts the run, which has 0.999")
    refused(ddim_cli(*resume, "--ch", "16"), "--ch 16 contradicts")
    refused(ddim_cli("train", "cifar10", "--out", unbroken, "--resume"), "begun with preset digits, not cifar10")
    refused(ddim_cli("train", "digits", "--out", unbroken), "already holds a run; pass --resume")


def test_two_trainings_in_one_folder_are_refused(tmp_path: Path, ddim_cli):
    with held(tmp_path / "run"):
        refused(ddim_cli("train", "digits", "--out", "run", *OPTIONS), "run: another process works in it")
    assert ddim_cli("train", "digits", "--out", "run", *OPTIONS, "--steps", 2).returncode == 0


def test_a_truncated_state_is_refused(tmp_path: Path, ddim_cli, unbroken: Path):
    run = tmp_path / "run"
    (run / "state").mkdir(parents=True)
    (run / "train.json").write_text((unbroken / "train.json").read_text())
    (run / "state" / "last.pt").write_bytes((unbroken / "state" / "last.pt").read_bytes()[:-500])
    refused(ddim_cli("train", "digits", "--out", run, "--resume"), "last.pt: truncated, or not the state of this run")


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, ddim_cli):
    """With an absurd learning rate the second loss is not finite: the step is named, the state of step 1 is kept."""
    options = [*OPTIONS[:-4], "--save-every", "1", "--sample-every", "1000"]
    options[options.index("--warmup") + 1] = "0"
    result = ddim_cli("train", "digits", "--out", "run", "--lr", "1e30", *options)
    assert result.returncode == 2
    message = result.stderr.splitlines()[-1]
    assert "the loss became" in message
    assert "at step 2: the last saved state is kept in run/state/last.pt" in message
    assert torch.load(tmp_path / "run" / "state" / "last.pt", weights_only=True)["step"] == 1


def test_a_full_disk_while_saving_keeps_the_previous_state(tmp_path: Path, ddim_cli, ddim_process, unbroken: Path):
    """The system refuses files over 20 kB, as a full disk would: one line, and the saved state is still that of 30."""
    run = tmp_path / "run"
    subprocess.run(["cp", "-r", unbroken, run], check=True)
    before = (run / "state" / "last.pt").read_bytes()
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # noqa: E731
    result = ddim_process("train", "digits", "--out", run, "--resume", "--steps", "35", preexec_fn=limit)
    assert result.returncode == 2
    assert "last.pt: no room to write it" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert (run / "state" / "last.pt").read_bytes() == before
    assert not list(run.rglob(".ddim-part-*"))
    assert ddim_cli("train", "digits", "--out", run, "--resume", "--steps", "35").returncode == 0
    assert [step for step, _ in losses(run)] == list(range(1, 36))


def test_two_processes_take_the_steps_of_one(tmp_path: Path, ddim_cli, unbroken: Path):
    """The same global batch on two gloo processes, each in two parts, gives the same losses; one process then goes on
    with their run, whole."""
    run = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ddim"]
    verb = ["train", "digits", "--device", "cpu", "--out", str(run), "--steps", "20", "--accumulate", "2", *OPTIONS]
    result = subprocess.run(
        torchrun + verb, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=1200
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("model: ") == 1
    resume = ("train", "digits", "--out", run, "--resume", "--steps", 30, "--accumulate", 1)
    assert ddim_cli(*resume).returncode == 0
    ours, reference = dict(losses(run)), dict(losses(unbroken))
    assert ours.keys() == reference.keys()
    assert max(abs(ours[step] - reference[step]) for step in ours) < 1e-5


def test_control_c_before_the_first_line_of_the_log(tmp_path: Path, ddim_cli):
    """Acknowledged at once; then the state is saved, and the run continues to the losses of an unbroken one."""
    options = [*OPTIONS, "--log-every", "1000", "--steps", str(LONG)]
    run = tmp_path / "run"
    for extra in ([], ["--resume"]):
        given = options if not extra else ["--resume"]
        process = subprocess.Popen(
            [*command("train", "digits", "--out", run, *given)], cwd=tmp_path, env=environment(tmp_path),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        line = process.stdout.readline()
        assert "images" in line, process.stderr.read()
        time.sleep(1.0)  # some steps on
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=600)
        assert process.returncode == 130, err
        assert "ddim: stopping after this step" in err
        assert "Traceback" not in err
        assert f"continue with: ddim train digits --out {run} --resume" in out
    step = torch.load(run / "state" / "last.pt", weights_only=True)["step"]
    assert ddim_cli("train", "digits", "--out", run, "--resume", "--steps", step + 2, "--log-every", 1).returncode == 0
    assert losses(run)[-1][0] == step + 2


def test_a_resume_may_change_the_learning_rate_and_the_record_shows_it(tmp_path: Path, ddim_cli, unbroken: Path):
    run = tmp_path / "run"
    subprocess.run(["cp", "-r", unbroken, run], check=True)
    result = ddim_cli("train", "digits", "--out", run, "--resume", "--lr", "1e-5", "--steps", 32)
    assert result.returncode == 0, result.stderr
    kept = json.loads((run / "train.json").read_text())
    assert kept["lr"] == 1e-5
    assert kept["changes"] == [{"step": 30, "lr": 1e-5, "steps": 32}]
    assert json.loads((run / "log.jsonl").read_text().splitlines()[-1])["lr"] == 1e-5


def folder_of(tmp_path: Path, name: str, grey: int) -> Path:
    (tmp_path / name).mkdir()
    for k in range(20):
        Image.new("L", (8, 8), grey + k).save(tmp_path / name / f"{k:02d}.png")
    (tmp_path / name / "99.png").write_bytes(b"broken")
    return tmp_path / name


def test_a_resume_knows_its_images_and_how_they_were_read(tmp_path: Path, ddim_cli, monkeypatch):
    """--skip-broken and the data are remembered; other images are noticed; the same ones elsewhere are taken."""
    mine, same, other = (folder_of(tmp_path, name, grey) for name, grey in (("a", 9), ("b", 9), ("c", 90)))
    begin = ["train", "digits", "--data", "a", "--skip-broken", "--out", "run", *OPTIONS, "--steps", "2"]
    assert ddim_cli(*begin).returncode == 0
    kept = json.loads((tmp_path / "run" / "train.json").read_text())
    assert (kept["data"], kept["skip_broken"]) == (str(mine), True)
    resume = ("train", "digits", "--out", tmp_path / "run", "--resume", "--steps", 4)
    refused_by = ddim_cli(*resume, "--data", other)
    assert refused_by.returncode == 2
    assert f"{other}: its images are not those that the run in" in refused_by.stderr.splitlines()[-1]
    assert ddim_cli(*resume, "--data", same).returncode == 0
    assert json.loads((tmp_path / "run" / "train.json").read_text())["data"] == str(same)
    Image.new("L", (8, 8), 255).save(same / "00.png")
    changed = ddim_cli("train", "digits", "--out", tmp_path / "run", "--resume", "--steps", 6)
    assert changed.returncode == 2
    assert "its images are not those" in changed.stderr.splitlines()[-1]


def test_settings_check_themselves():
    with pytest.raises(train.InputError, match=r"--dropout must be from 0 to 0\.999; got 1"):
        PRESETS["digits"].changed(dropout=1.0).check()
    with pytest.raises(train.InputError, match="unknown setting 'width': choose one of data, size"):
        PRESETS["digits"].changed(width=3)
    assert PRESETS["digits"].changed(mult=[1, 2]).network.mult == (1, 2)
    may = PRESETS["digits"].check_resume(PRESETS["digits"].changed(lr=1.0, workers=0))
    assert may == {"lr": 1.0, "workers": 0}


def test_images_too_large_for_memory_are_named_by_what_they_hold(tmp_path: Path):
    """Not by their place or their time, as a copy has others; and a change that keeps size and time is seen."""
    for k in range(3):
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (8, 8), np.uint8)).save(tmp_path / f"a/{k}.bmp")
    before = content_of(data.find(str(tmp_path / "a"), 8, 1))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    os.utime(tmp_path / "b/0.bmp", (1, 1))
    assert content_of(data.find(str(tmp_path / "b"), 8, 1)) == before
    raw, times = (tmp_path / "a/1.bmp").read_bytes(), (tmp_path / "a/1.bmp").stat()
    (tmp_path / "a/1.bmp").write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    os.utime(tmp_path / "a/1.bmp", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert content_of(data.find(str(tmp_path / "a"), 8, 1)) != before


def test_a_change_that_keeps_size_and_time_is_decoded_anew(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    picture = tmp_path / "a" / "0.bmp"
    picture.parent.mkdir()
    Image.new("L", (8, 8), 10).save(picture)
    assert data.load(data.find(str(picture.parent), 8, 1)).max() == 10
    times = picture.stat()
    Image.new("L", (8, 8), 20).save(picture)
    os.utime(picture, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert picture.stat().st_size == times.st_size
    assert data.load(data.find(str(picture.parent), 8, 1)).max() == 20


@GPU
@pytest.mark.parametrize("labelled", [False, True])
def test_a_step_on_a_gpu_never_waits_for_it(labelled: bool):
    settings = TINY.changed(flip=True, labels=labelled)
    model = build(settings, ("a", "b") if labelled else None).to("cuda")
    state, images = train.State.new(settings.optimiser, model.network), torch.zeros(64, 1, 8, 8, dtype=torch.uint8)
    labels = torch.arange(64) % 2 if labelled else None
    steps = train.fit(settings, state, model.abar, images, Accelerator(mixed_precision="bf16"), labels)
    for _ in range(3):
        next(steps)
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = next(steps)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert loss.isfinite()


class Again:
    """A stand-in of torch's graphs: it computes anew what was captured, into the same memory."""

    def __init__(self, captured: Captured):
        self.captured = captured

    def replay(self) -> None:
        before = [p.grad for p in self.captured.network.parameters()]
        self.captured.network.zero_grad()
        self.captured.loss.copy_(self.captured.compute())
        for kept, p in zip(before, self.captured.network.parameters(), strict=True):
            p.grad = kept.copy_(p.grad)


def captured_here(self: Captured, inputs: list[torch.Tensor]) -> None:
    self.inputs = [value.clone() for value in inputs]
    self.network.zero_grad()
    self.loss, self.graph = self.compute(), Again(self)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])
@pytest.mark.parametrize("labelled", [False, True])
def test_a_captured_graph_learns_what_single_kernels_do(device: str, labelled: bool, monkeypatch: pytest.MonkeyPatch):
    """On a CPU with a stand-in for the graph: each step takes its own batch, and gradients of its own."""
    settings = TINY.changed(flip=True, labels=labelled)
    images = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels, found = (torch.arange(64) % 2 if labelled else None), []
    if device == "cpu":
        monkeypatch.setattr(Captured, "capture", captured_here)
    for wanted in (True, False):
        monkeypatch.setattr(train, "capturable", lambda *_, wanted=wanted: wanted)
        torch.manual_seed(0)
        model = build(settings, ("a", "b") if labelled else None).to(device)
        state = train.State.new(settings.optimiser, model.network)
        steps = train.fit(settings, state, model.abar, images, Accelerator(cpu=device == "cpu"), labels)
        losses = [next(steps).item() for _ in range(8)]
        assert len(set(losses)) == 8
        found.append([torch.tensor(losses), *(p.detach().cpu() for p in state.average.module.parameters())])
    near = {"rtol": 0, "atol": 0} if device == "cpu" else {"rtol": 1e-3, "atol": 1e-5}
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, **near)
