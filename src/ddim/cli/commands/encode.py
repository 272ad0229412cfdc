"""ddim encode: pictures to latents."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddim.cli.commands import (
    Counted,
    Method,
    OnGrid,
    PictureNames,
    Precision,
    batches_of,
    data_grid,
    opened,
    parse,
    to_latents,
)
from ddim.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Encode(OnGrid):
    """Encode pictures into latents, which ddim decode turns back into pictures."""

    pictures: PictureNames = ()
    """Picture files, folders, .parquet files or Hub ids; `digits` for the embedded ones."""
    steps: int = 100
    """Network evaluations a picture, S; for the implicit method, a few times that."""
    method: Method = "explicit"
    """explicit: one evaluation a step. implicit: solve for the step that sampling undoes. exact: a pair of latents
    from which the pictures come back to rounding."""
    out: Path = Path("latents.safetensors")
    """File to write."""
    precision: Precision = "fp32"
    """Arithmetic of the network: in less, what is encoded loses its last digits on the way; see ddim sample --help."""


def main(args: Sequence[str]) -> None:
    o = parse(Encode, "encode", args)
    import torch

    from ddim.checkpoints import folders as checkpoint
    from ddim.diffusion.inversion import pair_grid
    from ddim.images.selection import Album
    from ddim.jobs.latent_files import writing
    from ddim.system.progress import progress

    if o.out.suffix != ".safetensors":
        raise InputError(f"{o.out}: latents are kept as .safetensors; change --out")
    model = opened(o)
    times = data_grid(model, o)
    if o.method == "exact":
        pair_grid(model, o.steps, o.spacing, times)
    album = Album(o.pictures, model)
    batches = batches_of(model, len(album), o.batch_size)
    about = {
        "model": checkpoint.fingerprint(model),
        "method": o.method,
        "times": times,
        "names": [album.name(i) for i in range(len(album))],
    }
    tensors = ("z", "before") if o.method == "exact" else ("z",)
    worst, total, squares, count = 0.0, 0.0, 0.0, 0
    with (
        writing(o.out, tensors, (len(album), *model.shape), about) as append,
        progress("encoding", len(batches) * (len(times) - 1)) as advance,
        torch.no_grad(),
    ):
        for images in batches:
            latents, residual = to_latents(
                Counted(model, advance), album.batch(images).to(model.device), times, o.method
            )
            append(*latents)
            worst, z = max(worst, residual), latents[0].cpu().double()
            total, squares, count = total + z.sum().item(), squares + z.square().sum().item(), count + z.numel()
    mean = total / count
    print(f"{len(album)} latents: {o.out}")
    print(f"mean {mean:.3f}, standard deviation {max(squares / count - mean**2, 0) ** 0.5:.3f} (N(0, 1) has 0 and 1)")
    if o.method == "implicit":
        print(f"largest residual of a step: {worst:.2g}")
