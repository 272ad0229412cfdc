"""ddim train: a run from a preset."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from pathlib import Path

from ddim.cli.commands import parse
from ddim.errors import InputError, choose
from ddim.training.settings import PRESETS, Preset


@dataclass(frozen=True)
class Train(Preset):
    """Train a model with a preset's settings, any of which can be changed. Ctrl-C stops it, ready for --resume."""

    out: Path | None = None
    """Run folder; by default runs/PRESET."""
    resume: bool = False
    """Go on from the last saved state, with the settings of the run."""
    skip_broken: bool = False
    """Leave pictures out that cannot be read, instead of stopping."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps…; by default a GPU where there is one."""

    def preset(self) -> Preset:
        return Preset(**{field.name: getattr(self, field.name) for field in fields(Preset)})


def main(args: Sequence[str]) -> None:
    names = f"PRESET is one of {', '.join(PRESETS)}; ddim train PRESET --help lists its settings"
    if not args or args[0].startswith("-"):
        if not {"-h", "--help"} & set(args):
            raise InputError(f"train needs a preset first: {names}")
        print(f"usage: ddim train PRESET [--data …] [--out RUN] [--resume] [any setting of the preset]\n\n{names}")
        return
    name, rest = args[0], args[1:]
    preset = choose("preset", name, PRESETS)
    options = parse(Train, f"train {name}", rest, Train(**asdict(preset)))
    out = options.out or Path("runs") / name
    if options.resume:  # the run's own settings are the defaults, so that nothing needs to be said twice
        from ddim.training.run import check_resume, stored

        before = stored(name, out)
        options = parse(Train, f"train {name}", rest, Train(**asdict(before)))
        check_resume(before, options.preset())
    elif (out / "train.json").exists():
        raise InputError(f"{out}: already holds a run; pass --resume to go on with it, or another --out")
    finished = train(name, options.preset(), out, options.resume, options.skip_broken, options.device)
    if os.environ.get("RANK", "0") == "0":  # one process speaks for all
        told = f"model: {out}\nsample it: ddim sample {out}"
        print(told if finished else f"stopped, saved in {out}; go on with: {resuming(name, out)}")
    if not finished:
        raise SystemExit(130)


def resuming(name: str, out: Path) -> str:
    return f"ddim train {name} --out {out} --resume"


def train(
    name: str,
    preset: Preset,
    out: Path,
    resume: bool = False,
    skip_broken: bool = False,
    device: str | None = None,
) -> bool:
    """Train into `out`, drawing a sample grid and the loss as it goes. Returns whether the last step was reached."""
    import torch

    from ddim.diffusion import sampling as sampler
    from ddim.images import batches as data
    from ddim.plots import sheets as plot
    from ddim.system.files import folder, held, writable
    from ddim.system.processes import together
    from ddim.training.run import Run, check, train

    check(preset)
    # Behind zero-initialised convolutions the first gradients are denormal, which costs a CPU forty times the time.
    # Threads inherit the setting, so it comes before any is started.
    torch.set_flush_denormal(True)
    source = data.find(preset.data, preset.size, preset.channels, skip_broken)
    writable(out)
    accelerator = accelerate(preset, device)
    run = Run(preset, name, out, accelerator.device)

    def lost() -> str:
        if not (out / "train.json").exists():
            return " before the first step; start anew"
        return f" at step {run.state.step}; go on from step {run.kept()} with: {resuming(name, out)}"

    with together(lost), ExitStack() as stack:
        with accelerator.local_main_process_first():  # what it decodes, the others of the machine find in the cache
            pictures = data.load(source)
        if accelerator.is_main_process:
            parameters = sum(p.numel() for p in run.model.network.parameters())
            how = f"on {accelerator.device.type} in {'bf16' if accelerator.mixed_precision == 'bf16' else 'fp32'}"
            stack.enter_context(held(out))
            print(f"{len(pictures):,} pictures, {parameters / 1e6:.2f} M parameters, {how}: {out}", flush=True)
        if resume:
            run.resume(accelerator.is_main_process)
        elif accelerator.is_main_process:
            run.begin()
        for moment in train(run, pictures, accelerator):
            if moment == "saved":
                plot.loss_curve(run.logged, out / "loss.png")
            else:
                images = sampler.sample(run.averaged(), n=16, steps=min(50, preset.T), seed=preset.seed)
                plot.save(plot.grid(images), folder(out / "samples") / f"step-{run.state.step:07d}.png")
    return run.state.step >= preset.steps


def accelerate(preset: Preset, device: str | None):
    """The accelerator: device, precision and processes. Raises InputError where they cannot be had."""
    from accelerate import Accelerator, InitProcessGroupKwargs

    from ddim.checkpoints.folders import pick_device
    from ddim.system.machine import fast_products, precision_of

    kind = pick_device(device).type
    if device and os.environ.get("WORLD_SIZE", "1") == "1":
        os.environ["ACCELERATE_TORCH_DEVICE"] = device  # accelerate has no argument for it
    fast_products()
    bf16 = precision_of(preset.precision, kind) == "bf16"
    if preset.compile and kind == "cpu":
        raise InputError("--compile is for a GPU: on a CPU the compiler loses gradients in bf16; leave it out")
    waits = InitProcessGroupKwargs(timeout=timedelta(minutes=30))  # for the process that decodes, or draws a sample
    accelerator = Accelerator(mixed_precision="bf16" if bf16 else "no", cpu=kind == "cpu", kwargs_handlers=[waits])
    processes, parts = accelerator.num_processes, preset.accumulate
    if preset.batch_size % (processes * parts):
        raise InputError(
            f"batch size {preset.batch_size} is not a multiple of processes × accumulate, {processes} × {parts}: "
            "change --batch-size or --accumulate, or start another number of processes"
        )
    return accelerator
