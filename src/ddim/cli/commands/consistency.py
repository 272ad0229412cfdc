"""ddim consistency: one noise, different numbers of steps (the paper's figure 5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddim.cli.commands import Counted, OnModel, Precision, Spacing, batches_of, opened, parse
from ddim.errors import InputError

SHOWN = 12  # pictures in the figure


@dataclass(frozen=True, kw_only=True)
class Consistency(OnModel):
    """Sample the same noise with several numbers of steps, draw the pictures and measure how far apart they are."""

    steps: tuple[int, ...] = ()
    """Numbers of steps; the longest is what the others are compared with. By default 10 20 50 100 and every level."""
    n: int = 64
    """Pictures to measure; the figure shows the first 12."""
    spacing: Spacing = "linear"
    """How the steps are spread over the noise levels."""
    seed: int = 0
    """Picture k of a seed is the same whatever n and the batch size."""
    out: Path = Path("consistency")
    """Folder to write."""
    precision: Precision = "fp32"
    """Arithmetic of the network: in less, distances between pictures that are close lose digits."""


def main(args: Sequence[str]) -> None:
    o = parse(Consistency, "consistency", args)
    import torch
    from rich.console import Console
    from rich.table import Table

    from ddim.checkpoints import folders as checkpoint
    from ddim.diffusion.noise import normal
    from ddim.diffusion.sampling import end, grid, walk
    from ddim.plots import sheets as plot
    from ddim.system.files import folder
    from ddim.system.progress import progress

    if o.n < 2:
        raise InputError(f"n must be at least 2, for pictures to be unrelated; got {o.n}")
    model = opened(o)
    every = sorted(set(o.steps or [*(S for S in (10, 20, 50, 100) if S < model.T), model.T]))
    if len(every) < 2:
        raise InputError(f"consistency compares two numbers of steps or more; got {every[0]} alone")
    grids = {S: grid(model, S, o.spacing) for S in every}
    if len({times[0] for times in grids.values()}) > 1:
        tops = ", ".join(f"{times[0]} for S = {S}" for S, times in grids.items())
        raise InputError(f"{o.spacing} grids start at different times ({tops}); use linear or quadratic")
    out = folder(o.out)
    batches = batches_of(model, o.n, o.batch_size)
    pictures: dict[int, list] = {S: [] for S in every}
    with torch.no_grad(), progress("sampling", len(batches) * sum(len(t) - 1 for t in grids.values())) as advance:
        for images in batches:
            x = normal(o.seed, images, model.shape).to(model.device)
            for S, times in grids.items():
                pictures[S].append(end(walk(Counted(model, advance), x, times)).clamp(-1, 1).float().cpu())
    made = {S: torch.cat(parts) for S, parts in pictures.items()}  # (n, C, H, W) each
    longest = made[every[-1]]

    def distance(a, b) -> float:
        """Mean over the pictures of the root mean square difference of their pixels, on [0, 1]."""
        return ((a - b) / 2).flatten(1).square().mean(1).sqrt().mean().item()

    # Picture k against picture k + 1 of the longest: made of independent noises, so unrelated.
    unrelated = distance(longest, longest.roll(1, 0))
    table = Table("S", f"distance to S = {every[-1]}", "of unrelated", title=f"{o.n} pictures, same starting noise")
    result = []
    for S in every[:-1]:
        d = distance(made[S], longest)
        table.add_row(str(S), f"{d:.4f}", f"{d / unrelated:.1%}" if unrelated else "")
        result.append({"steps": S, "distance": d})
    table.add_row("unrelated pictures", f"{unrelated:.4f}", "100%")
    figure = plot.rows([made[S][:SHOWN] for S in every], [f"S = {S}" for S in every])
    plot.save(figure, out / "consistency.png")
    settings = {"model": checkpoint.fingerprint(model), "precision": model.info["precision"], "n": o.n}
    settings |= {"seed": o.seed, "spacing": o.spacing}
    checkpoint.write_json(out / "consistency.json", {**settings, "unrelated": unrelated, "rows": result})
    Console().print(table)
    print("distance: root mean square difference of pixels on [0, 1], mean over the pictures")
    print(f"figure: {out / 'consistency.png'}\nnumbers: {out / 'consistency.json'}")
