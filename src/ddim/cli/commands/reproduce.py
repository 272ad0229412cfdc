"""ddim reproduce: the paper's tables and figures for one model, in one report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddim.cli.commands import OnModel, opened, parse
from ddim.errors import InputError

ROWS = ((10, 0.0), (10, 1.0), (10, "hat"), (100, 0.0), (100, 1.0), (100, "hat"))  # figure 3: S and η
SHOWN = 10  # pictures in a row of figure 3


@dataclass(frozen=True, kw_only=True)
class Reproduce(OnModel):
    """Tables 1 and 2 and figures 3 to 6 of the paper, for any model, beside the paper's numbers.

    Run again, it goes on where it was stopped.
    """

    out: Path = Path("reproduction")
    """Folder to write: report.md, and what the verbs that it is made of write, a folder each."""
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


def main(args: Sequence[str]) -> None:
    o = parse(Reproduce, "reproduce", args)
    from ddim.cli.commands import consistency, interpolate, reconstruct
    from ddim.cli.commands.evaluate import Evaluate
    from ddim.cli.commands.evaluate import run as evaluate
    from ddim.plots import sheets as plot
    from ddim.system.files import replacing

    if o.reconstructed < 1:
        raise InputError(f"reconstructed must be at least 1; got {o.reconstructed}")
    grid = evaluate(
        Evaluate(
            model=o.model, reference=o.reference, held_out=o.held_out, steps=o.steps, n=o.n, features=o.features,
            seed=o.seed, batch_size=o.batch_size, out=o.out / "table1", device=o.device, precision=o.precision,
        )
    )  # fmt: skip
    if grid is None:  # one of several processes, whose help is no longer needed
        return
    model = opened(o, tell=False)
    rows = [(steps, eta) for steps, eta in ROWS if steps <= model.T]
    labels = [f"S = {steps}, eta = {eta}" for steps, eta in rows]
    plot.save(plot.rows(samples(model, rows, grid["spacing"], o.seed), labels), o.out / "figure3.png")

    common = ["--spacing", grid["spacing"]]
    for name in ("batch_size", "device"):
        common += [f"--{name.replace('_', '-')}", str(getattr(o, name))] if getattr(o, name) is not None else []
    out = {name: str(o.out / name) for name in ("table2", "figure5", "figure6")}
    pictures = o.held_out or grid["reference"]["source"]
    if not pictures.endswith(".npz"):
        print()
        reconstruct.main([o.model, pictures, "--n", str(o.reconstructed), "--out", out["table2"], *common])
    print()
    consistency.main([o.model, "--steps", *map(str, o.steps), "--seed", str(o.seed), "--out", out["figure5"], *common])
    seeds = [str(o.seed + k) for k in range(4)]
    steps = str(min(50, model.T))
    interpolate.main([o.model, "--seeds", *seeds, "--steps", steps, "--out", out["figure6"], *common])
    with replacing(o.out / "report.md") as part:
        part.write_text(text(grid, o.out, pictures))
    print(f"\nreport: {o.out / 'report.md'}")


def samples(model, rows: Sequence[tuple], spacing: str, seed: int) -> list:
    """Pictures 0 … of a seed by each (S, η): the same starting noise in every row."""
    import torch

    from ddim.diffusion.sampling import generate, grid
    from ddim.system.progress import progress

    out = []
    with torch.no_grad(), progress("figure 3", sum(steps for steps, _ in rows)) as advance:
        for steps, eta in rows:
            times = grid(model, steps, spacing)
            for x, _ in generate(model, range(SHOWN), times, eta, seed, clip=eta == "hat"):
                advance()
            out.append(x.cpu())
    return out


def text(grid: dict, out: Path, pictures: str) -> str:
    """The report in Markdown, from what the verbs wrote."""
    from ddim.checkpoints import folders as checkpoint
    from ddim.evaluation import paper, report

    parts = [f"# The paper's tables and figures, for {Path(grid['model']['source']).name}"]
    parts += ["## Table 1: FID by S and η", report.table(report.grid(grid)), report.bullets(report.facts(grid))]
    parts += ["Every cell with KID, precision and recall: [table1/table.md](table1/table.md)."]
    if (out / "table2" / "reconstruct.json").exists():
        found = checkpoint.read_json(out / "table2" / "reconstruct.json")
        every = {row["steps"]: row["mse"] for row in found["rows"]}
        rows = [["S =", *map(str, every)], ["squared error a dimension", *(f"{mse:.2g}" for mse in every.values())]]
        if grid["paper"] == "CIFAR-10":
            rows.append(["paper, CIFAR-10", *(f"{paper.RECONSTRUCTION[steps]:g}" for steps in every)])
        title = f"## Table 2: reconstruction of {found['n']} pictures of {pictures}, in [0, 1]"
        parts += [title, report.table(rows), "![reconstructions](table2/reconstruct.png)"]
    parts += ["## Figure 3: samples in 10 and 100 steps", "![figure 3](figure3.png)"]
    parts += ["## Figure 4: seconds over S (right)", "![figure 4](table1/grid.png)"]
    found = checkpoint.read_json(out / "figure5" / "consistency.json")
    rows = [["S =", *(str(row["steps"]) for row in found["rows"])]]
    rows += [["distance to the longest", *(f"{row['distance']:.4f}" for row in found["rows"])]]
    parts += ["## Figure 5: the same x_T in different numbers of steps, η = 0", report.table(rows)]
    parts += [f"Unrelated pictures are {found['unrelated']:.4f} apart.", "![figure 5](figure5/consistency.png)"]
    parts += ["## Figure 6: interpolation along the sphere, η = 0", "![figure 6](figure6/interpolate.png)"]
    return "\n\n".join(parts) + "\n"
