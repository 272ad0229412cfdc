"""Which network is the best in a given time? Each of them trained on CIFAR-10 for as many minutes of one core.

Each is trained by what `ddim train --time` would do for that network, by the processor's time of one thread, so other
work on the machine does not count; half as many minutes of two cores are about the same. Of the averaged weights are
measured what `bench/recipe.py` measures. What is measured is kept in the folder, a stopped training is resumed there.

    python bench/budget.py --data train.parquet --minutes 10 [--n 1000] [--only NAME …] [--out budget]
"""

import argparse
import json
import shutil
import time
from pathlib import Path

import contest
import torch
from recipe import measured

import ddim
from ddim.evaluation.reference import reference
from ddim.images.cache import load
from ddim.images.sources import find
from ddim.system.json import write_json
from ddim.system.machine import keep_memory
from ddim.training.held_out import divided

PIXELS = {"size": 32, "patch": 1, "layers": 1, "groups": 16, "attention": (8,)}
NETWORKS = {
    "16×16, width 32": PIXELS | {"size": 16, "ch": 32, "mult": (1, 2, 2)},
    "patches, width 32": PIXELS | {"patch": 2, "ch": 32, "mult": (1, 2, 2)},
    "patches, width 64": PIXELS | {"patch": 2, "ch": 64, "mult": (1, 2, 2)},
    "width 32, 1 2 2 2": PIXELS | {"ch": 32, "mult": (1, 2, 2, 2)},
    "width 32, 1 2 2": PIXELS | {"ch": 32, "mult": (1, 2, 2)},
    "width 32, 1 2 4": PIXELS | {"ch": 32, "mult": (1, 2, 4)},
    "width 32, 1 2 4 4": PIXELS | {"ch": 32, "mult": (1, 2, 4, 4)},
    "width 48, 1 2 2 2": PIXELS | {"ch": 48, "mult": (1, 2, 2, 2)},
    "width 64, 1 2 2": PIXELS | {"ch": 64, "mult": (1, 2, 2)},
}


def run_of(o: argparse.Namespace, name: str, minutes: float) -> Path:
    """The run folder of a network."""
    short = name.replace(" ", "-").replace(",", "").replace("×", "x")
    return o.out / f"{minutes:g}m-{short}{'-v' if o.predict == 'v' else ''}{o.seed or ''}"


def fill(o: argparse.Namespace) -> dict:
    """Train and measure each network that is not yet; write down each."""
    o.out.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in o.only or NETWORKS:
        run = run_of(o, name, o.minutes)
        path = o.out / f"{run.name}.json"
        if not path.exists():
            if o.after and not run.exists():
                shutil.copytree(run_of(o, name, o.after), run)
            begun = (run / "train.json").exists()
            how = {} if begun else NETWORKS[name] | {"seed": o.seed, "predict": o.predict}
            images = None if begun else o.data
            how |= {"resume": begun, "time": f"{o.minutes:g}m", "clock": time.process_time, "device": "cpu"}
            if not ddim.train(images, run, **how).finished:
                raise SystemExit(f"stopped; the same command continues {run}")
            write_json(path, of(run, o))
        found[name] = json.loads(path.read_text())
        print(f"{name}: {json.dumps(found[name])}", flush=True)
    return found


def of(run: Path, o: argparse.Namespace) -> dict:
    """What a run has seen and reached."""
    model = ddim.load(run)
    settings = json.loads((run / "train.json").read_text())
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    size, batch = model.shape[1], settings["batch_size"]
    held = divided(load(find(o.data, size, 3)), None, 0.05, settings["seed"]).held
    parameters = sum(p.numel() for p in model.network.parameters())
    seen = {"images": model.facts.images, "batch": batch, "lr": settings["lr"], "parameters": parameters}
    against = reference(ddim.load("cifar10"), o.data, n=o.n)  # of 32×32: smaller samples are enlarged
    return seen | {"last": last} | measured(model, held, against, o.n)


def table(found: dict) -> str:
    """A row a network."""
    rows = [
        [
            name,
            f"{cell['parameters'] / 1e6:.2f} M",
            f"{cell['images']:,}",
            f"{sum(cell['errors']) / len(cell['errors']):.4f}",
            f"{cell['noisy']:.2f}",
            f"{cell['unipc']:.2f}",
        ]
        for name, cell in found.items()
    ]
    return contest.markdown(["", "parameters", "images", "error of ε", "FID, η = 1", "FID, unipc"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="CIFAR-10's training images")
    parser.add_argument("--minutes", type=float, default=10, help="of the processor, for each (10)")
    parser.add_argument("--after", type=float, metavar="MINUTES", help="continue what was trained for so many")
    parser.add_argument("--predict", choices=["eps", "v"], default="eps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=1000, help="samples for each FID (1000)")
    parser.add_argument("--only", nargs="*", choices=NETWORKS, metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("budget"))
    o = parser.parse_args()
    keep_memory()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    print(table(fill(o)))


if __name__ == "__main__":
    main()
