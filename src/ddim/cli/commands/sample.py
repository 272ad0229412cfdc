"""ddim sample: pictures from a model, as files."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ddim.cli.commands import Eta, OnGrid, opened, parse
from ddim.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Sample(OnGrid):
    """Sample pictures from a model. Run again with the same settings, it goes on where it was stopped.

    Started by torchrun or accelerate launch, on machines that share the folder, it is shared by the processes.
    """

    n: int = 64
    """How many pictures."""
    eta: Eta = 0.0
    """Noise in each step: 0 is DDIM, 1 is DDPM, hat is DDPM with the larger variance."""
    seed: int = 0
    """Picture k of a seed is the same whatever n and the batch size."""
    clip: bool = False
    """Clamp each predicted picture to [-1, 1] on the way, as the official code does for --eta hat."""
    format: Literal["png", "npz"] = "png"
    """One PNG file a picture, or one pictures.npz (arr_0: uint8, N×H×W×C); a grid in both cases."""
    out: Path | None = None
    """Folder to write; by default one in samples/ named after the settings."""
    compile: bool = False
    """Compile the network first: a minute of waiting, then faster steps on a GPU; on a CPU it gains little."""

    def folder(self) -> Path:
        steps = f"S{self.steps}-{self.spacing}" if self.times is None else f"times{len(self.times) - 1}"
        clip = "-clip" if self.clip else ""
        return self.out or Path("samples") / f"{Path(self.model).name}-{steps}-eta{self.eta}{clip}-seed{self.seed}"

    def settings(self) -> dict:
        """What decides the pictures: a folder holds those of one such choice."""
        names = ("steps", "eta", "spacing", "times", "seed", "clip", "format")
        unused = ("steps", "spacing") if self.times else ("times",)
        return {name: None if name in unused else getattr(self, name) for name in names}


def main(args: Sequence[str]) -> None:
    run(parse(Sample, "sample", args))


def run(o: Sample) -> None:
    from ddim.checkpoints import folders as checkpoint
    from ddim.diffusion.noise import check_seed
    from ddim.diffusion.sampling import check_eta, grid
    from ddim.jobs import sampling as job
    from ddim.plots import sheets as plot
    from ddim.system.files import folder
    from ddim.system.processes import together
    from ddim.system.progress import progress

    if o.n < 1:
        raise InputError(f"n must be at least 1; got {o.n}")
    workers = job.processes(o.device)
    model = opened(o, workers.device, tell=workers.is_main_process, compile=o.compile)
    times = grid(model, o.steps, o.spacing, o.times)
    check_eta(model.abar, times, o.eta)
    check_seed(o.seed)
    if times[-1] and workers.is_main_process:
        print(f"ddim: the times end at {times[-1]}, not at 0: the pictures will still be noisy", file=sys.stderr)
    out, npz = o.folder(), o.format == "npz"
    settings = {"model": checkpoint.fingerprint(model), "precision": model.info["precision"], **o.settings()}
    size = job.begin(out / "sample.json", settings, o.batch_size, model, workers)

    store = job.Shards(folder(out / "shards")) if npz else job.Pngs(out)
    whole = job.Job(store, o.n, size, times, o.eta, o.seed, o.clip)
    share = whole.share(workers)
    workers.wait_for_everyone()
    total = sum(map(len, share)) * (len(times) - 1)
    lost = lambda: f"; the same command goes on with what was made, in {out}"  # noqa: E731
    with together(lost), progress("sampling", total, show=workers.is_main_process) as advance:
        for _ in whole.work(model, share, advance):
            pass
        workers.wait_for_everyone()
    if not workers.is_main_process:
        return
    first = min(o.n, 64)
    shown = whole.pictures(first)
    if npz:
        job.pack(whole, out / "pictures.npz")
    plot.save(plot.grid(shown), out / "grid.png")
    print(f"{o.n} pictures: {out / 'pictures.npz' if npz else out}")
    print(f"grid of the first {first}: {out / 'grid.png'}")
