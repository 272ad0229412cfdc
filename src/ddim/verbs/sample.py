"""ddim sample: pictures from a model, as files."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from ddim.errors import InputError
from ddim.verbs import Eta, Spacing, Times, parse


@dataclass(frozen=True)
class Sample:
    """Sample pictures from a model. Run again with the same settings, it goes on where it was stopped."""

    model: Positional[str]
    """A bundled name, a run or model folder, or a Hub id."""
    n: int = 64
    """How many pictures."""
    steps: int = 50
    """Network evaluations a picture, S."""
    eta: Eta = 0.0
    """Noise in each step: 0 is DDIM, 1 is DDPM, hat is DDPM with the larger variance."""
    spacing: Spacing = "linear"
    """How the steps are spread over the noise levels."""
    times: Times = None
    """The noise levels to visit, falling, the last usually 0; replaces steps and spacing."""
    seed: int = 0
    """Picture k of a seed is the same whatever n and the batch size."""
    clip: bool = False
    """Clamp each predicted picture to [-1, 1] on the way, as the official code does for --eta hat."""
    batch_size: int | None = None
    """Pictures at a time; by default what fits in memory."""
    format: Literal["png", "npz"] = "png"
    """One PNG file a picture, or one pictures.npz (arr_0: uint8, N×H×W×C); a grid in both cases."""
    out: Path | None = None
    """Folder to write; by default one in samples/ named after the settings."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps…; by default a GPU where there is one."""

    def folder(self) -> Path:
        steps = f"S{self.steps}-{self.spacing}" if self.times is None else f"times{len(self.times) - 1}"
        clip = "-clip" if self.clip else ""
        return self.out or Path("samples") / f"{Path(self.model).name}-{steps}-eta{self.eta}{clip}-seed{self.seed}"

    def settings(self) -> dict:
        """What decides the pictures: a folder holds those of one such choice."""
        names = ("steps", "eta", "spacing", "times", "seed", "clip", "format")
        return {name: value for name, value in asdict(self).items() if name in names}


def main(args: Sequence[str]) -> None:
    run(parse(Sample, "sample", args))


def run(o: Sample) -> None:
    import torch

    from ddim import checkpoint, plot
    from ddim.data import to_uint8
    from ddim.files import folder, replacing
    from ddim.noise import check_seed
    from ddim.progress import progress
    from ddim.sampler import check_eta, chunks, default_batch_size, generate, grid

    if o.n < 1:
        raise InputError(f"n must be at least 1; got {o.n}")
    model = checkpoint.load(o.model, o.device)
    times = grid(model, o.steps, o.spacing, o.times)
    check_eta(model.abar, times, o.eta)
    check_seed(o.seed)
    batches = list(chunks(o.n, default_batch_size(model) if o.batch_size is None else o.batch_size))
    out = folder(o.folder())
    checkpoint.claim(out / "sample.json", {"model": checkpoint.fingerprint(model), **o.settings()})

    files = [out / f"{k:05d}.png" for k in range(o.n)]
    done = {k for k, file in enumerate(files) if file.exists()} if o.format == "png" else set()
    batches = [batch for batch in batches if not done.issuperset(batch)]
    kept = []  # (n, C, H, W) uint8: 50,000 pictures of 32×32 are 150 MB
    with torch.no_grad(), progress("sampling", len(batches) * (len(times) - 1)) as advance:
        for images in batches:
            for x, _ in generate(model, images, times, o.eta, o.seed, clip=o.clip):  # noqa: B007
                advance()
            pictures = to_uint8(x).cpu()
            if o.format == "npz":
                kept.append(pictures)
                continue
            for k, picture in zip(images, pictures, strict=True):
                plot.save(plot.picture(picture), files[k])
    first = min(o.n, 64)
    if o.format == "npz":
        import numpy as np

        pictures = torch.cat(kept)
        with replacing(out / "pictures.npz") as part:
            np.savez(part, arr_0=pictures.permute(0, 2, 3, 1).numpy())  # (n, H, W, C)
        shown = pictures[:first]
    else:
        shown = torch.stack([plot.read(file) for file in files[:first]])
    plot.save(plot.grid(shown), out / "grid.png")
    print(f"{o.n} pictures: {out / 'pictures.npz' if o.format == 'npz' else out}")
    print(f"grid of the first {first}: {out / 'grid.png'}")
