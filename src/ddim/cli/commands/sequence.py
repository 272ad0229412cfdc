"""ddim sequence: how pictures come out of noise."""

from collections.abc import Sequence as Args
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ddim.cli.commands import OnGrid, batches_of, data_grid, opened, parse
from ddim.errors import InputError

MOMENTS = 100  # most frames in an animation


@dataclass(frozen=True, kw_only=True)
class Sequence(OnGrid):
    """Show the diffusion sequence: x_t and the predicted picture x̂_0, in two rows a picture and as an animation."""

    n: int = 8
    """How many pictures."""
    frames: int = 10
    """Columns of the figure; the animation shows every step, up to 100."""
    seed: int = 0
    """Picture k of a seed is the same whatever n and the batch size."""
    format: Literal["gif", "webp"] = "gif"
    """Of the animation."""
    out: Path = Path("sequence")
    """Folder to write."""


def main(args: Args[str]) -> None:
    o = parse(Sequence, "sequence", args)
    import torch

    from ddim.diffusion.sampling import generate
    from ddim.plots import sheets as plot
    from ddim.system.files import folder
    from ddim.system.progress import progress

    if o.n < 1 or o.frames < 2:
        raise InputError(f"sequence needs at least 1 picture and 2 frames; got {o.n} and {o.frames}")
    model = opened(o)
    times = data_grid(model, o)
    S = len(times) - 1
    columns = moments(S, o.frames)
    kept = sorted({*columns, *moments(S, MOMENTS)})
    out = folder(o.out)
    states: dict[int, list] = {i: [] for i in kept}  # step -> batches of (2, B, C, H, W): x_t and x̂_0 there
    batches = batches_of(model, o.n, o.batch_size)
    with torch.no_grad(), progress("sampling", len(batches) * S) as advance:
        for images in batches:
            for i, (x, prediction) in enumerate(generate(model, images, times, seed=o.seed)):  # noqa: B007
                # The walk shows x after a step, beside the prediction made before it: x_t is read from the latter.
                if i in states:
                    level = prediction.abar
                    before = level.sqrt() * prediction.x0 + (1 - level).sqrt() * prediction.eps
                    states[i].append(torch.stack([before, prediction.x0]).cpu())
                advance()
            states[S].append(torch.stack([x, x]).cpu())
    seen = {i: torch.cat(parts, 1) for i, parts in states.items()}  # (2, n, C, H, W)
    rows = [torch.stack([seen[i][what, k] for i in columns]) for k in range(o.n) for what in (0, 1)]
    heads = [f"t={times[i]}" for i in columns]
    figure = plot.save(plot.rows(rows, ["x_t", "x0"] * o.n, heads=heads), out / "sequence.png")
    width = len(str(times[0]))
    sheets = [plot.rows(list(seen[i]), [f"t={times[i]:0{width}d}", "x0"]) for i in kept]
    moving = plot.animation(sheets, out / f"sequence.{o.format}")
    print(f"x_t above the predicted x0: {figure}\nanimation: {moving}")


def moments(S: int, count: int) -> list[int]:
    """At most `count` of the states 0..S of a walk, evenly, with both ends."""
    count = min(count, S + 1)
    return sorted({round(i * S / (count - 1)) for i in range(count)})
