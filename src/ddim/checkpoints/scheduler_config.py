"""diffusers' scheduler configurations in our terms, both ways: the noise schedule, and how to sample by default."""

from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from ddim.diffusion import schedule
from ddim.diffusion.clipping import Clip
from ddim.errors import InputError
from ddim.system.json import checked

PREDICTION_TYPES = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
WALKED = ("DDIMScheduler", "DDPMScheduler")  # those whose own steps are ours
READ = (  # those that share their β with DDPM, and step in other ways
    "PNDMScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler",
    "DEISMultistepScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler",
    "LMSDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DDIMInverseScheduler",
    "DPMSolverMultistepInverseScheduler", "DDPMParallelScheduler", "DDIMParallelScheduler", "SASolverScheduler",
)  # fmt: skip
MOST = 100_000  # noise levels
KINDS: dict[str, Any] = {
    "_class_name": str,
    "num_train_timesteps": int,
    "beta_start": float,
    "beta_end": float,
    "beta_schedule": str,
    "trained_betas": tuple[float, ...] | None,
    "prediction_type": str,
    "rescale_betas_zero_snr": bool,
    "clip_sample": bool,
    "clip_sample_range": float,
    "set_alpha_to_one": bool,
    "steps_offset": int,
    "timestep_spacing": Literal["leading", "trailing", "linspace"],
    "thresholding": bool,
    "variance_type": str | None,
    "use_flow_sigmas": bool | None,
}
VARIANCES = ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", "learned", "learned_range")
DIGITS = 14  # decimals of a stored β: float64 gives them back exactly through the product, so that a copy is bitwise


def check_scheduler(config: dict) -> None:
    """Raise InputError unless a scheduler config describes levels and a parametrisation that we have."""
    checked(config, KINDS)
    if (kind := config.get("_class_name", WALKED[0])) not in (*WALKED, *READ):
        raise InputError(f"{kind} is not supported: {', '.join(WALKED)}, or another that shares their β")
    if (predicts := config.get("prediction_type", "epsilon")) not in PREDICTION_TYPES:
        raise InputError(f"prediction_type {predicts!r} is not supported: {', '.join(PREDICTION_TYPES)}")
    if config.get("use_flow_sigmas"):
        raise InputError("use_flow_sigmas is not supported: flow matching has no β")
    if config.get("rescale_betas_zero_snr") and predicts == "epsilon":
        raise InputError(
            "rescale_betas_zero_snr is not supported with epsilon, which does not tell the image at t = T: predict v"
        )
    if kind.startswith("DDPM") and (variance := config.get("variance_type") or VARIANCES[0]) not in VARIANCES:
        raise InputError(f"variance_type {variance!r} is not supported: {', '.join(VARIANCES)}")
    if config.get("clip_sample_range", 1.0) <= 0:
        raise InputError(f"clip_sample_range must be above 0; got {config['clip_sample_range']}")
    if config.get("steps_offset", 0) < 0:
        raise InputError(f"steps_offset must be 0 or more; got {config['steps_offset']}")


def abar_of(config: dict) -> Tensor:
    """abar (T+1,) from a diffusers scheduler config. Raises InputError on a schedule that we do not know, or whose β
    cannot be.
    """
    T, name = config.get("num_train_timesteps", 1000), config.get("beta_schedule", "linear")
    if not 1 <= T <= MOST:
        raise InputError(f"num_train_timesteps must be from 1 to {MOST}; got {T}")
    if (betas := config.get("trained_betas")) is not None:
        if len(betas) != T:
            raise InputError(f"trained_betas has {len(betas)} values for num_train_timesteps {T}")
        abar = from_rounded(torch.tensor(betas, dtype=torch.float64))
    elif name in ("linear", "scaled_linear"):
        first, last = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
        if not 0 < first <= last < 1:
            raise InputError(f"beta_start and beta_end must rise between 0 and 1; got {first:g} and {last:g}")
        abar = (schedule.linear if name == "linear" else schedule.scaled_linear)(T, beta_1=first, beta_T=last)
    elif name == "squaredcos_cap_v2":
        abar = schedule.cosine(T)
    else:
        raise InputError(f"beta_schedule {name!r} is not supported: linear, scaled_linear or squaredcos_cap_v2")
    if config.get("rescale_betas_zero_snr") and T > 1:
        return zero_snr(abar)
    if abar[-1] < 1e-30 and config.get("prediction_type", "epsilon") == "epsilon":
        raise InputError(f"the β leave no signal at t = {T}, where ε does not tell x_0; predict v or the sample")
    return abar


def check_betas(betas: list[float]) -> None:
    """Raise InputError where a β is not above 0, or not below 1 before the last, or where they fall all along."""
    for t, beta in enumerate(betas, 1):
        if not (0 < beta < 1 or (beta == 1 and t == len(betas))):  # NaN is neither
            raise InputError(f"β must lie between 0 and 1; β_{t} is {beta:g}")
    if betas[-1] < betas[0] and all(later <= earlier for earlier, later in pairwise(betas)):
        raise InputError(f"β must not fall; it falls from {betas[0]:g} to {betas[-1]:g}")


def from_rounded(betas: Tensor) -> Tensor:
    """abar (T+1,) from β (T,) as `beta_config` stores them. Raises InputError where they cannot be a schedule."""
    rounded = [round(beta, DIGITS) for beta in betas.tolist()]
    check_betas(rounded)
    return schedule.from_betas(torch.tensor(rounded, dtype=torch.float64))


def zero_snr(abar: Tensor) -> Tensor:
    """√ᾱ shifted and stretched so that ᾱ_T = 0 and ᾱ_1 stays (Lin et al. 2023, algorithm 1). (T+1,) -> (T+1,)."""
    root = abar[1:].sqrt()  # (T,)
    root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    stretched = torch.cat([abar[:1], root**2])
    return from_rounded(1 - stretched[1:] / stretched[:-1])


def beta_config(abar: Tensor) -> dict:
    """The schedule in diffusers' terms: by name where it is one of the named ones, else as a list of β."""
    T = len(abar) - 1
    betas = 1 - abar[1:] / abar[:-1]  # (T,)
    first, last = round(betas[0].item(), 12), round(betas[-1].item(), 12)
    named = {
        "linear": lambda: schedule.linear(T, first, last),
        "scaled_linear": lambda: schedule.scaled_linear(T, first, last),
        "squaredcos_cap_v2": lambda: schedule.cosine(T),
    }
    ends = {"beta_start": first, "beta_end": last}
    for name, make in named.items():
        if torch.equal(make(), abar):
            return {"beta_schedule": name, **ends, "trained_betas": None}
    return {"beta_schedule": "linear", **ends, "trained_betas": [round(beta, DIGITS) for beta in betas.tolist()]}


def manner_of(config: dict) -> dict[str, Any]:
    """How a scheduler asks its model to be sampled, as fields of `Facts`: clip, spacing, last_time.

    DDIMScheduler clips x̂_0 and keeps ε as it was; DDPMScheduler's posterior derives it. Of schedulers that step in
    other ways, nothing is taken but β.
    """
    if (kind := config.get("_class_name", WALKED[0])) not in WALKED:
        return {}
    clip = False
    if config.get("clip_sample", True) and not config.get("thresholding"):
        clip = Clip(float(config.get("clip_sample_range", 1.0)), keep_eps=kind == "DDIMScheduler")
    offset, spacing = config.get("steps_offset", 0), config.get("timestep_spacing", "leading")
    return {
        "clip": clip,
        "spacing": f"leading+{offset}" if spacing == "leading" and offset else spacing,
        "last_time": 0 if config.get("set_alpha_to_one", True) else 1,
    }


def unheeded(config: dict) -> list[str]:
    """What a scheduler config asks for and does not get here, a clause for each."""
    kind = config.get("_class_name", WALKED[0])
    said = []
    if kind not in WALKED:
        said.append(f"{kind} is read for its β only, and steps as DDIM does here")
    variance = (config.get("variance_type") or "") if kind.startswith("DDPM") else ""
    if variance.startswith("fixed_large"):
        said.append(f"variance_type {variance} is not the default here: --eta 1 --variance large samples with it")
    if variance == "learned_range":
        said.append(f"variance_type {variance} is not the default here: --eta 1 --variance learned samples with it")
    if variance == "learned":
        said.append(f"variance_type {variance} is not used: the variance of --eta 1 is a fixed one here")
    if config.get("thresholding"):
        said.append("thresholding is not done, and x̂_0 not clipped in its place")
    if config.get("use_karras_sigmas") or config.get("use_exponential_sigmas") or config.get("use_beta_sigmas"):
        said.append("its own spacing of σ is not taken")
    return said


def scheduler_config(model) -> dict:
    """The diffusers scheduler of a model: the one that its folder had, where it still describes the model; else a
    DDIMScheduler, whose "trailing" grid is our linear one wherever S divides T. Of a model that learned its variance it
    is a DDPMScheduler, which alone takes that, on its "leading" grid: only there does it add no noise in the last step.
    Raises InputError where β cannot be.
    """
    learned = {"_class_name": "DDPMScheduler", "variance_type": "learned_range"} if model.learns_variance else {}
    had, predicts = model.facts.scheduler, {ours: name for name, ours in PREDICTION_TYPES.items()}[model.predicts]
    if had and had.get("prediction_type", "epsilon") == predicts and torch.equal(abar_of(had), model.abar):
        return {**had, **learned}
    clip = model.facts.clip
    config = {
        "_class_name": "DDIMScheduler",
        "_diffusers_version": "0.35.0",
        "num_train_timesteps": model.T,
        **beta_config(model.abar),
        "prediction_type": predicts,
        "clip_sample": bool(clip),
        **({"clip_sample_range": clip.range} if isinstance(clip, Clip) else {}),
        **({} if learned else {"set_alpha_to_one": True}),
        "steps_offset": 0,
        "timestep_spacing": "leading" if learned else "trailing",
        **learned,
    }
    abar_of(config)
    return config
