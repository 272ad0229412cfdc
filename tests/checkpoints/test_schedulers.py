"""What a diffusers folder says of sampling: honoured as its model's defaults, as its own pipeline does; or said."""

import json
from dataclasses import replace

import pytest
import torch
from support.layouts import randomise
from support.models import tiny_network

import ddim
from ddim.cli import main as cli
from ddim.diffusion import schedule
from ddim.errors import InputError

diffusers = pytest.importorskip("diffusers")
T = 60


def folder(path, kind="DDIMScheduler", **settings):
    """A pipeline folder as diffusers writes it, and its pipeline."""
    network = tiny_network(channels=3, size=8)
    unet = randomise(diffusers.UNet2DModel(**vars(network.config)))
    settings = {"num_train_timesteps": T, "beta_start": 1e-3, "beta_end": 0.2, **settings}
    scheduler = getattr(diffusers, kind)(**settings)
    pipeline = diffusers.DDIMPipeline(unet, diffusers.DDIMScheduler.from_config(scheduler.config))
    diffusers.DDPMPipeline(unet, scheduler).save_pretrained(path)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def difference(path, pipeline, steps: int, **options) -> float:
    """Between the images of a folder's own pipeline and those of `ddim.sample` by its defaults, in [−1, 1]."""
    model = ddim.load(path, "cpu")
    noise = torch.randn(3, *model.shape, generator=torch.Generator().manual_seed(5))
    theirs = pipeline(
        3, torch.Generator().manual_seed(5), num_inference_steps=steps, output_type="np", **options
    ).images
    ours = ddim.sample(model, steps=steps, noise=noise)
    assert ours.std() > 0.1
    return (ours.permute(0, 2, 3, 1) - 2 * torch.from_numpy(theirs) + 1).abs().max().item()


CLIPS = ({"clip_sample": False}, {"clip_sample": True}, {"clip_sample": True, "clip_sample_range": 0.6})


@pytest.mark.parametrize("clip", CLIPS, ids=str)
@pytest.mark.parametrize("offset", [0, 1, 2])
@pytest.mark.parametrize("steps", [1, 4, 7, 13])
def test_leading_is_its_own_pipeline_at_every_S(tmp_path, steps, offset, clip):
    pipeline = folder(tmp_path, timestep_spacing="leading", steps_offset=offset, **clip)
    assert difference(tmp_path, pipeline, steps) < 5e-4


@pytest.mark.parametrize("clip", CLIPS, ids=str)
@pytest.mark.parametrize("steps", [1, 5, 12])
def test_trailing_is_its_own_pipeline_where_S_divides_T(tmp_path, steps, clip):
    assert difference(tmp_path, folder(tmp_path, timestep_spacing="trailing", **clip), steps) < 5e-4


@pytest.mark.parametrize("offset", [1, 2])
@pytest.mark.parametrize("steps", [4, 7, 13])
def test_a_walk_that_ends_at_the_first_level(tmp_path, steps, offset):
    """set_alpha_to_one false: the last step leads to the level of the first β."""
    settings = {"timestep_spacing": "leading", "steps_offset": offset, "set_alpha_to_one": False}
    pipeline = folder(tmp_path, clip_sample=False, **settings)
    assert difference(tmp_path, pipeline, steps) < 5e-4
    assert ddim.load(tmp_path, "cpu").facts.last_time == 1
    pipeline = folder(tmp_path / "other", clip_sample=False, **settings | {"set_alpha_to_one": True})
    assert difference(tmp_path, pipeline, steps) > 1e-3  # it matters


@pytest.mark.parametrize("T", [10, 60, 1000])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_grids_are_those_of_diffusers(T, spacing):
    for steps in range(1, min(T, 120) + 1):
        theirs = diffusers.DDIMScheduler(T, timestep_spacing=spacing)
        theirs.set_timesteps(steps)
        expected = [t + 1 for t in theirs.timesteps.tolist() if t >= 0]
        assert schedule.times(T, steps, spacing) == [*expected, 0], steps


def test_an_offset_is_a_part_of_the_name():
    assert schedule.times(1000, 5, "leading+1") == [802, 602, 402, 202, 2, 0]
    assert schedule.times(1000, 5, "leading+7") == [808, 608, 408, 208, 8, 0]
    with pytest.raises(InputError, match="leading\\+1 with 1000 steps begins at 1001, above the model's T of 1000"):
        schedule.times(1000, 1000, "leading+1")
    with pytest.raises(InputError, match="unknown spacing 'leading-1'"):
        schedule.times(1000, 5, "leading-1")


@pytest.mark.parametrize(
    ("kind", "settings", "facts"),
    [
        ("DDIMScheduler", {}, (ddim.Clip(1.0, True), "leading", 0)),
        ("DDIMScheduler", {"steps_offset": 1, "clip_sample": False}, (False, "leading+1", 0)),
        ("DDPMScheduler", {"clip_sample_range": 2.0}, (ddim.Clip(2.0, False), "leading", 0)),
        ("DDPMScheduler", {"timestep_spacing": "linspace"}, (ddim.Clip(1.0, False), "linspace", 0)),
        ("DDIMScheduler", {"set_alpha_to_one": False}, (ddim.Clip(1.0, True), "leading", 1)),
        ("PNDMScheduler", {"set_alpha_to_one": True}, (None, None, 0)),
    ],
    ids=str,
)
def test_every_field_is_kept_and_shown(tmp_path, capsys, kind, settings, facts):
    folder(tmp_path / "theirs", kind, **settings)
    file = "scheduler/scheduler_config.json"
    before = json.loads((tmp_path / "theirs" / file).read_text())
    model = ddim.load(tmp_path / "theirs", "cpu")
    assert (model.facts.clip, model.facts.spacing, model.facts.last_time) == facts
    for _ in range(2):  # through save, and through the copy of a copy
        model = ddim.load(ddim.save(model, tmp_path / "copy"), "cpu")
        assert json.loads((tmp_path / "copy" / file).read_text()) == before
        assert (model.facts.clip, model.facts.spacing, model.facts.last_time) == facts
    capsys.readouterr()
    assert cli.main(["info", str(tmp_path / "copy")]) == 0
    told = capsys.readouterr().out
    for name, value in before.items():
        if name != "trained_betas" and not name.startswith("_diffusers"):
            assert f"scheduler.{name}" in told
            assert str(value) in told


def test_what_is_given_is_stronger_than_the_folder(tmp_path):
    folder(tmp_path, timestep_spacing="leading", steps_offset=1)
    model = ddim.load(tmp_path, "cpu")
    plain = replace(model, facts=ddim.Facts())
    same = {"spacing": "linear", "clip": False, "solver": "ddim", "n": 2, "steps": 7}
    assert torch.equal(ddim.sample(model, **same), ddim.sample(plain, **same))
    own, other = (ddim.sample(m, n=2, steps=7, solver="ddim") for m in (model, plain))
    assert not torch.equal(own, other)


def test_what_is_not_done_is_said(tmp_path, caplog):
    folder(tmp_path / "a", thresholding=True)
    assert ddim.load(tmp_path / "a", "cpu").facts.clip is False
    folder(tmp_path / "b", "DPMSolverMultistepScheduler", use_karras_sigmas=True)
    ddim.load(tmp_path / "b", "cpu")
    for name in ("fixed_large", "learned_range", "learned"):
        folder(tmp_path / name, "DDPMScheduler", variance_type=name)
        ddim.load(tmp_path / name, "cpu")
    told = [record.getMessage().partition("scheduler_config.json: ")[2] for record in caplog.records]
    assert told == [
        "thresholding is not done, and x̂_0 not clipped in its place",
        "DPMSolverMultistepScheduler is read for its β only, and steps as DDIM does here",
        "its own spacing of σ is not taken",
        "variance_type fixed_large is not the default here: --eta 1 --variance large samples with it",
        "variance_type learned_range is not the default here: --eta 1 --variance learned samples with it",
        "variance_type learned is not used: the variance of --eta 1 is a fixed one here",
    ]
    config = tmp_path / "fixed_large/scheduler/scheduler_config.json"
    config.write_text(config.read_text().replace("fixed_large", "wide"))
    with pytest.raises(InputError, match="variance_type 'wide' is not supported: fixed_small, "):
        ddim.load(tmp_path / "fixed_large", "cpu")


OTHERS = (
    "PNDMScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler",
    "DEISMultistepScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler",
    "LMSDiscreteScheduler", "KDPM2DiscreteScheduler",
)  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_other_schedulers_are_read_for_their_betas(tmp_path, kind):
    folder(tmp_path, kind, beta_schedule="scaled_linear")
    scheduler = getattr(diffusers, kind).from_pretrained(tmp_path, subfolder="scheduler")
    abar = ddim.load(tmp_path, "cpu").abar
    torch.testing.assert_close(abar[1:].float(), scheduler.alphas_cumprod, rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"beta_start": -0.1}, "beta_start and beta_end must rise between 0 and 1; got -0.1"),
        ({"beta_start": 0.3, "beta_end": 0.1}, "must rise between 0 and 1; got 0.3 and 0.1"),
        ({"beta_end": 1.5}, "must rise between 0 and 1"),
        ({"beta_end": float("nan")}, "beta_end must be a number; got NaN"),
        ({"beta_end": "0.02"}, 'beta_end must be a number; got "0.02"'),
        ({"num_train_timesteps": 0}, "num_train_timesteps must be from 1 to 100000; got 0"),
        ({"num_train_timesteps": 10**12}, "num_train_timesteps must be from 1 to 100000"),
        ({"num_train_timesteps": 10.5}, "num_train_timesteps must be a whole number; got 10.5"),
        ({"trained_betas": [0.1, -0.1, 0.2], "num_train_timesteps": 3}, "β_2 is -0.1"),
        ({"trained_betas": [0.1, float("nan"), 0.2], "num_train_timesteps": 3}, "trained_betas must be a list"),
        ({"trained_betas": [0.3, 0.2, 0.1], "num_train_timesteps": 3}, "β must not fall; it falls from 0.3 to 0.1"),
        ({"trained_betas": [0.1, 0.2]}, "trained_betas has 2 values for num_train_timesteps 60"),
        ({"trained_betas": "abc"}, "trained_betas must be a list"),
        ({"timestep_spacing": "quadratic"}, "timestep_spacing must be leading, trailing, linspace"),
        ({"clip_sample": "yes"}, "clip_sample must be true or false"),
        ({"clip_sample_range": -1.0}, "clip_sample_range must be above 0; got -1.0"),
        ({"steps_offset": -1}, "steps_offset must be 0 or more; got -1"),
        ({"use_flow_sigmas": True}, "flow matching has no β"),
    ],
    ids=str,
)
def test_wrong_fields_are_refused_by_name(tmp_path, fields, said):
    folder(tmp_path)
    path = tmp_path / "scheduler/scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    with pytest.raises(InputError) as caught:
        ddim.load(tmp_path, "cpu")
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_schedule_that_could_not_be_loaded_is_not_saved(tmp_path):
    model = ddim.load("digits", "cpu")
    betas = torch.linspace(0.05, 0.01, 20, dtype=torch.float64)
    with pytest.raises(InputError, match=r"must rise between 0 and 1; got 0\.05 and 0\.01"):
        ddim.save(replace(model, abar=schedule.from_betas(betas)), tmp_path / "m")
    assert not (tmp_path / "m").exists()
