"""An evaluation as people read it: Markdown tables and the figure, from the dict that table.json holds."""

from pathlib import Path

from ddim.diffusion.guidance import Guidance
from ddim.evaluation import published
from ddim.system.files import replacing

PUBLISHED_N = 50_000  # images of published FIDs


def name_of(eta: float | str) -> str:
    return "σ̂" if eta == "hat" else f"η = {eta:g}"


def cell(report: dict, steps: int, eta: float | str) -> dict | None:
    """The measured cell of S and η."""
    return next((c for c in report["cells"] if (c["steps"], c["eta"]) == (steps, eta)), None)


def grid(report: dict) -> list[list[str]]:
    """Table 1 as rows of text: FID by η (down) and S (across), the paper's row under each where there is one."""
    by = "" if report.get("solver", "ddim") == "ddim" else f" by {report['solver']}"
    rows = [[f"FID{by}, S =", *map(str, report["steps"])]]
    for eta in report["eta"]:
        cells = [cell(report, steps, eta) for steps in report["steps"]]
        rows.append([name_of(eta), *(f"{c['fid']:.3f}" if c else "…" for c in cells)])
        printed = [published.fid(report["paper"], steps, eta) for steps in report["steps"]]
        if any(printed):
            rows.append([f"paper, {report['paper']}", *("" if p is None else f"{p:.2f}" for p in printed)])
    return rows


def details(report: dict) -> list[list[str]]:
    """Everything measured of each cell, a row a cell."""
    rows = [["S", "η", "FID", "KID × 1000", "precision", "recall", "NFE", "s/image"]]
    for c in report["cells"]:
        seconds = "" if c["seconds_an_image"] is None else f"{c['seconds_an_image']:.3g}"
        rows.append(
            [str(c["steps"]), name_of(c["eta"]), f"{c['fid']:.3f}", *_others(c), str(c["evaluations"]), seconds]
        )
    return rows


def _others(c: dict) -> list[str]:
    """KID, precision and recall, or dashes where the reference is mu and sigma alone."""
    if c["kid"] is None:
        return ["–"] * 3
    return [f"{1000 * c['kid']:.2f} ± {1000 * c['kid_deviation']:.2f}", f"{c['precision']:.3f}", f"{c['recall']:.3f}"]


def facts(report: dict) -> list[str]:
    """What the figures are of: a line each."""
    model, features, reference, floor = (report[name] for name in ("model", "features", "reference", "floor"))
    lines = [
        f"model {model['source']}, fingerprint {model['fingerprint']}, {model['weights']}",
        f"features {features['name']}, hash {features['hash']}, {features['width']} wide",
        f"{report['n']} images a cell: numbers 0 to {report['n'] - 1} of seed {report['seed']}, all of them, "
        "clamped and rounded to 8 bits",
        f"reference {reference['source']}: " + (f"{reference['n']} images" if reference["n"] else "mu and sigma")
        + (", cropped and resized as for training, unflipped" if reference["n"] else " as the file holds them"),
        *label_of(report),
        f"the network in {report['arithmetic']} on {report['device']}",
        f"solver {report['solver']}, time grid {report['spacing']}; x̂_0 clipped: {clip_of(report['clip'])}",
        f"statistics in float64, distances by torchmetrics {report['torchmetrics']}",
    ]  # fmt: skip
    if floor:
        lines.append(f"floor: FID {floor['fid']:.3f} is that of {floor['n']} real images ({floor['what']})")
        if under := [c for c in report["cells"] if c["fid"] < floor["fid"]]:
            lines.append(f"{len(under)} of {len(report['cells'])} cells lie below the floor: {why_below(report)}")
    if reason := meaningless(report):
        lines.append(f"{reason}: these figures mean nothing")
    return [*lines, comparison(report)]


def meaningless(report: dict) -> str:
    """Why no FID of this report says anything of the model: a covariance of too few images is singular. Else ""."""
    width = report["features"]["width"]
    for what, n in (("n", report["n"]), ("the number of reference images", report["reference"]["n"])):
        if 0 < n <= width:
            return f"{what} is no more than the {width} dimensions of the features"
    return ""


def why_below(report: dict) -> str:
    """What an FID below that of real images tells."""
    if meaningless(report) or report["n"] < report["reference"]["n"]:
        return "so few samples say little; take more"
    return "these samples are nearer to the reference than other real images are; see neighbours.png for copies"


def label_of(report: dict) -> list[str]:
    """A line on the classes of the images, where they are of any."""
    label, guidance = report.get("label"), report.get("guidance", 1.0)
    if label is None:
        return []
    which = "all classes in turn" if label == "all" else "one class an image" if isinstance(label, list) else label
    return [f"images of {f'class {which}' if isinstance(which, int) else which}, guidance {Guidance.of(guidance)}"]


def clip_of(said: bool | list) -> str:
    """How a report calls the choice of clipping: see `ddim.diffusion.clipping.Clip`."""
    if isinstance(said, bool):
        return "yes" if said else "no"
    width, keep_eps, below = (*said, 1.0)[:3]
    where = f" where ᾱ < {below:g}" if below != 1 else ""
    return f"to ±{width:g}{where}" + (", ε kept" if keep_eps else "")


def comparison(report: dict) -> str:
    """Whether these figures may be set beside published ones."""
    name = report["features"]["name"]
    if name in ("digits-small", "cifar10-small"):
        return "These features are not those of published FIDs: the figures compare only with each other."
    if name != "inception":
        return f"Whether the features of {name} are those of published FIDs is not known here."
    if report["n"] < PUBLISHED_N:
        return f"Published FIDs take 50,000 images; at {report['n']} FID is larger: these do not compare with them."
    return "The features and the number of images are those of published FIDs."


def markdown(report: dict, figures: list[Path]) -> str:
    """The whole report; the figures lie beside it."""
    parts = [f"# FID of {Path(report['model']['source']).name}", table(grid(report)), bullets(facts(report))]
    parts += ["## Every cell", table(details(report))]
    parts += [f"![{figure.stem}]({figure.name})" for figure in figures]
    return "\n\n".join(parts) + "\n"


def table(rows: list[list[str]]) -> str:
    """Rows of text, the first their heads, as a Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def bullets(lines: list[str]) -> str:
    """Lines of text as a Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def figure(report: dict, path: Path) -> Path:
    """FID over network evaluations, a line an η with the paper's dashed, and the seconds for n images (its figure 4).

    All FIDs on the axis are of the same features: the paper's are there only where report["paper"] says so.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    sheet = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = sheet.subplots(1, 2)
    every: set[int] = set()  # evaluations, the marks of both x axes
    for i, eta in enumerate(report["eta"]):
        cells = [c for c in report["cells"] if c["eta"] == eta]
        cost = [c["evaluations"] for c in cells]
        every |= set(cost)
        left.plot(cost, [c["fid"] for c in cells], "o-", color=f"C{i}", label=name_of(eta))
        timed = [(c["evaluations"], c["seconds_an_image"] * report["n"]) for c in cells if c["seconds_an_image"]]
        right.plot(*zip(*timed, strict=True) if timed else ([], []), "o-", color=f"C{i}", label=name_of(eta))
        printed = [(s, p) for s in report["steps"] if (p := published.fid(report["paper"], s, eta)) is not None]
        if printed:
            left.plot(*zip(*printed, strict=True), "--", color=f"C{i}", alpha=0.5)
    if report["floor"]:
        left.axhline(report["floor"]["fid"], color="grey", linestyle=":", label="real images (floor)")
    title = f"FID ({report['features']['name']})" + (f"; dashed: paper, {report['paper']}" if report["paper"] else "")
    left.set(xscale="log", yscale="log", xlabel="network evaluations", ylabel=title)
    right.set(xscale="log", yscale="log", xlabel="network evaluations", ylabel=f"seconds for {report['n']} images")
    if reason := meaningless(report):
        left.set_title(f"means nothing: {reason}", fontsize=8, color="C3")
    if not any(c["seconds_an_image"] for c in report["cells"]):  # the logs of the seconds were lost
        right.remove()
    for axes in sheet.axes:
        axes.set_xticks(sorted(every), map(str, sorted(every)), minor=False)
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
        axes.legend()
    with replacing(path) as part:
        sheet.savefig(part, dpi=120)
    return path
