"""ddim reproduce: the paper's tables and figures for one model, in one report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from ddim.errors import InputError
from ddim.verbs import parse

ROWS = ((10, 0.0), (10, 1.0), (10, "hat"), (100, 0.0), (100, 1.0), (100, "hat"))  # figure 3: S and η
SHOWN, PAIRS, FRAMES = 10, 5, 11  # pictures in a row of figures 3 and 5; rows and columns of figure 6


@dataclass(frozen=True)
class Reproduce:
    """Tables 1 and 2 and figures 3 to 6 of the paper, for any model, beside the paper's numbers.

    Run again, it goes on where it was stopped.
    """

    model: Positional[str]
    """A bundled name, a run or model folder, or a Hub id."""
    out: Path = Path("reproduction")
    """Folder to write: report.md, its figures, and table1/ as ddim evaluate writes it."""
    reference: str = ""
    """Training pictures; by default those that the model was trained on."""
    held_out: str = ""
    """Real pictures that the model was not trained on, for the floor and for table 2; by default the reference."""
    features: str = ""
    """Feature network of table 1: see ddim evaluate."""
    n: int = 50_000
    """Pictures a cell of table 1."""
    reconstructed: int = 500
    """Pictures of table 2; the paper took 10,000."""
    steps: tuple[int, ...] = (10, 20, 50, 100, 1000)
    """The columns of table 1 and rows of figure 5."""
    seed: int = 0
    """Of the pictures."""
    batch_size: int | None = None
    """Pictures at a time; by default what fits in memory."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps…; by default a GPU where there is one."""


def main(args: Sequence[str]) -> None:
    o = parse(Reproduce, "reproduce", args)
    from ddim import checkpoint, paper, plot
    from ddim.files import replacing
    from ddim.judge import real
    from ddim.verbs.evaluate import Evaluate
    from ddim.verbs.evaluate import run as evaluate

    if o.reconstructed < 1:
        raise InputError(f"reconstructed must be at least 1; got {o.reconstructed}")
    grid = evaluate(
        Evaluate(
            o.model, o.reference, o.held_out, o.steps, n=o.n, features=o.features, seed=o.seed,
            batch_size=o.batch_size, out=o.out / "table1", device=o.device,
        )
    )  # fmt: skip
    if grid is None:  # one of several processes, whose help is no longer needed
        return
    model = checkpoint.load(o.model, o.device)
    source = o.held_out or grid["reference"]["source"]
    spacing = grid["spacing"]

    rows = [(steps, eta) for steps, eta in ROWS if steps <= model.T]
    shown = samples(model, rows, spacing, o.seed, "figure 3")
    plot.save(plot.rows(shown, [f"S = {s}, eta = {eta}" for s, eta in rows]), o.out / "figure3.png")
    rows = [(steps, 0.0) for steps in o.steps]
    plot.save(
        plot.rows(samples(model, rows, spacing, o.seed, "figure 5"), [f"S = {s}" for s in o.steps]),
        o.out / "figure5.png",
    )
    plot.save(plot.rows(interpolations(model, spacing, o.seed)), o.out / "figure6.png")
    table2, count = None, 0
    if not source.endswith(".npz"):
        pictures = real(source, model)
        count = min(o.reconstructed, len(pictures))
        table2 = reconstructions(model, pictures, count, spacing, o.batch_size)

    published = paper.RECONSTRUCTION if grid["paper"] == "CIFAR-10" else {}
    with replacing(o.out / "report.md") as part:
        part.write_text(text(grid, table2, f"{count} pictures of {source}", published))
    print(f"\nreport: {o.out / 'report.md'}")


def samples(model, rows: Sequence[tuple], spacing: str, seed: int, what: str) -> list:
    """Pictures 0 … of a seed by each (S, η): the same starting noise in every row."""
    import torch

    from ddim.progress import progress
    from ddim.sampler import generate, grid

    out = []
    with torch.no_grad(), progress(what, sum(steps for steps, _ in rows)) as advance:
        for steps, eta in rows:
            times = grid(model, steps, spacing)
            for x, _ in generate(model, range(SHOWN), times, eta, seed, clip=eta == "hat"):  # noqa: B007
                advance()
            out.append(x.cpu())
    return out


def interpolations(model, spacing: str, seed: int, steps: int = 50) -> list:
    """Figure 6: rows of pictures between two latents, along the sphere."""
    import torch

    from ddim.latent import decode, slerp
    from ddim.noise import normal
    from ddim.progress import track

    z = normal(seed, range(2 * PAIRS), model.shape).to(model.device)
    fractions = torch.linspace(0, 1, FRAMES)
    paths = (slerp(z[i : i + 1], z[i + 1 : i + 2], fractions) for i in range(0, 2 * PAIRS, 2))
    steps = min(steps, model.T)
    return [decode(model, path, steps, spacing).cpu() for path in track(paths, "figure 6", PAIRS, "row")]


def reconstructions(model, pictures, count: int, spacing: str, batch_size: int | None) -> dict[int, float]:
    """Table 2: S -> squared error a dimension, in [0, 1], of pictures encoded and decoded in S steps each."""
    import torch

    from ddim import data, paper
    from ddim.progress import progress
    from ddim.sampler import chunks, default_batch_size, grid, walk

    every = [steps for steps in paper.RECONSTRUCTION if steps <= model.T]
    batches = list(chunks(count, batch_size or default_batch_size(model)))
    errors = dict.fromkeys(every, 0.0)
    with torch.no_grad(), progress("table 2", 2 * sum(every) * len(batches)) as advance:
        for images in batches:
            x0 = data.to_float(torch.stack([pictures[i] for i in images])).to(model.device)  # (B, C, H, W)
            for steps in every:
                times, ends = grid(model, steps, spacing), [x0]  # the pictures, their latents, the pictures again
                for path in (times[::-1], times):
                    for x, _ in walk(model, ends[-1], path):  # noqa: B007
                        advance()
                    ends.append(x)
                errors[steps] += ((ends[2] - x0) / 2).square().mean(dim=(1, 2, 3)).sum().item() / count
    return errors


def text(grid: dict, table2: dict[int, float] | None, pictures: str, published: dict[int, float]) -> str:
    """The report in Markdown."""
    from ddim import report

    parts = [f"# The paper's tables and figures, for {Path(grid['model']['source']).name}"]
    parts += ["## Table 1: FID by S and η", report.table(report.grid(grid)), report.bullets(report.facts(grid))]
    if table2:
        rows = [["S =", *map(str, table2)], ["error a dimension", *(f"{error:.2g}" for error in table2.values())]]
        rows += [["paper, CIFAR-10", *(f"{published[steps]:g}" for steps in table2)]] if published else []
        parts += [f"## Table 2: reconstruction error, {pictures} in [0, 1]", report.table(rows)]
    parts += ["## Figure 3: samples in 10 and 100 steps", "![figure 3](figure3.png)"]
    parts += ["## Figure 4: seconds over S (right)", "![figure 4](table1/grid.png)"]
    parts += ["## Figure 5: the same x_T in different numbers of steps, η = 0", "![figure 5](figure5.png)"]
    parts += ["## Figure 6: interpolation along the sphere, η = 0, S = 50", "![figure 6](figure6.png)"]
    parts += ["Every cell with KID, precision and recall: [table1/table.md](table1/table.md)."]
    return "\n\n".join(parts) + "\n"
