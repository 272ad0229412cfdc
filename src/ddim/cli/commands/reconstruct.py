"""ddim reconstruct: what is lost between pictures, their latents and back (the paper's table 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddim.cli.commands import (
    Counted,
    Method,
    OnModel,
    PictureNames,
    Precision,
    Spacing,
    batches_of,
    opened,
    parse,
    to_latents,
    to_pictures,
)
from ddim.evaluation.paper import RECONSTRUCTION as PAPER

SHOWN = 12  # pictures in the figure


@dataclass(frozen=True, kw_only=True)
class Reconstruct(OnModel):
    """Encode and decode pictures with several numbers of steps; print the error of each, and draw the pictures."""

    pictures: PictureNames = ()
    """Picture files, folders, .parquet files or Hub ids; `digits` for the embedded ones."""
    steps: tuple[int, ...] = ()
    """Numbers of steps; by default 10 20 50 100 200 500 1000, up to the model's number of noise levels."""
    n: int | None = None
    """Take the first n pictures only."""
    spacing: Spacing = "linear"
    """How the steps are spread over the noise levels."""
    method: Method = "explicit"
    """How to encode: see ddim encode --help."""
    out: Path = Path("reconstruct")
    """Folder to write."""
    precision: Precision = "fp32"
    """Arithmetic of the network: in less, what is encoded loses its last digits on the way; see ddim sample --help."""


def main(args: Sequence[str]) -> None:
    o = parse(Reconstruct, "reconstruct", args)
    import torch
    from rich.console import Console
    from rich.table import Table

    from ddim.checkpoints import folders as checkpoint
    from ddim.diffusion.inversion import pair_grid
    from ddim.diffusion.sampling import grid
    from ddim.errors import InputError
    from ddim.images.selection import Album
    from ddim.plots import sheets as plot
    from ddim.system.files import folder
    from ddim.system.progress import progress

    model = opened(o)
    every = o.steps or tuple(S for S in PAPER if S <= model.T)
    make = pair_grid if o.method == "exact" else grid
    grids = {S: make(model, S, o.spacing, None) for S in every}
    album = Album(o.pictures, model)
    if o.n is not None and o.n < 1:
        raise InputError(f"n must be at least 1; got {o.n}")
    n = min(len(album), o.n or len(album))
    batches = batches_of(model, n, o.batch_size)
    out = folder(o.out)
    sums = {S: torch.zeros(3, dtype=torch.float64) for S in every}  # squared errors, latents, squared latents
    worst, shown, originals = dict.fromkeys(every, 0.0), {S: [] for S in every}, []
    evaluations = sum(2 * (len(times) - 1) - (o.method == "exact") for times in grids.values())
    with torch.no_grad(), progress("reconstructing", len(batches) * evaluations) as advance:
        for images in batches:
            x = album.batch(images).to(model.device)
            room = max(0, SHOWN - images.start)
            originals.append(x[:room].cpu())
            for S, times in grids.items():
                latents, residual = to_latents(Counted(model, advance), x, times, o.method)
                back = to_pictures(Counted(model, advance), latents, times)
                z = latents[0].cpu().double()
                error = ((back.clamp(-1, 1) - x) / 2).cpu().double().square().sum()  # on [0, 1]
                sums[S] += torch.stack([error, z.sum(), z.square().sum()])
                worst[S] = max(worst[S], residual)
                shown[S].append(back[:room].cpu())

    columns = ["S", "MSE on [0, 1]", "paper, CIFAR-10", "latents' mean", "deviation"]
    table = Table(*columns, title=f"{n} pictures, encoded ({o.method}) and decoded")
    if o.method == "implicit":
        table.add_column("residual")
    result = []
    for S in every:
        mse, mean, square = (sums[S] / (n * x[0].numel())).tolist()
        deviation = max(square - mean**2, 0) ** 0.5
        published = f"{PAPER[S]:g}" if S in PAPER else ""
        row = [str(S), f"{mse:.2g}", published, f"{mean:.3f}", f"{deviation:.3f}"]
        table.add_row(*row, *([f"{worst[S]:.2g}"] if o.method == "implicit" else []))
        result.append({"steps": S, "mse": mse, "mean": mean, "deviation": deviation, "residual": worst[S]})
    rows = [torch.cat(originals), *(torch.cat(shown[S]) for S in every)]
    figure = plot.save(plot.rows(rows, ["original", *(f"S = {S}" for S in every)]), out / "reconstruct.png")
    settings = {"model": checkpoint.fingerprint(model), "precision": model.info["precision"], "n": n}
    settings |= {"spacing": o.spacing, "method": o.method}
    checkpoint.write_json(out / "reconstruct.json", {**settings, "rows": result})
    Console().print(table)
    print(f"figure: {figure}\nnumbers: {out / 'reconstruct.json'}")
