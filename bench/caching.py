"""What does it buy to reuse a U-Net's inner features between neighbouring steps? Time and FID, beside fewer steps.

A cache pays where it is faster than the plain walk that has its FID. The rows take turns, a batch each, so that a slow
spell of the machine falls on all of them.

    python bench/caching.py cifar10 --reference train.parquet [--steps 10 20 50] [--every 1 2 3] [--n 1000]
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from ddim.system.machine import keep_memory, wait_politely


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--reference", default="", help="training pictures; by default those of the model")
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 20, 50])
    parser.add_argument("--every", type=int, nargs="+", default=[1, 2, 3], help="1 is the plain network")
    parser.add_argument("--n", type=int, default=1000)
    o = parser.parse_args()
    keep_memory()
    wait_politely()
    measure(o)


def measure(o: argparse.Namespace) -> None:
    import ddim
    from ddim.cli.commands import ready
    from ddim.diffusion.sampling import grid
    from ddim.evaluation.reference import Judge
    from ddim.jobs import sampling as job
    from ddim.networks.acceleration.convolutions import DeepCache

    model = ddim.load(o.model)
    judge = Judge(model, o.reference or model.info["data"], "", o.n, "")
    model = ready(model, "auto")
    precision = model.info["precision"]
    print(f"{o.model}, {o.n} pictures, η = 0, {precision}; FID by {judge.facts()['features']['name']}\n")
    print("| S | inner blocks every | ms a picture | FID |\n|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as scratch:
        rows = {}
        for steps in o.steps:
            for every in o.every:
                store = job.Shards(Path(scratch) / f"{steps}-{every}")
                store.out.mkdir()
                rows[steps, every] = job.Job(store, o.n, 64, grid(model, steps), 0.0, 0, False)
        seconds = dict.fromkeys(rows, 0.0)
        for images in next(iter(rows.values())).batches():
            for (steps, every), whole in rows.items():
                network = DeepCache(model.network, every) if every > 1 else model.network
                start = time.perf_counter()
                for _ in whole.work(replace(model, network=network), [images], lambda n: None):
                    pass
                seconds[steps, every] += time.perf_counter() - start
        for (steps, every), whole in rows.items():
            ms = 1000 * seconds[steps, every] / o.n
            print(f"| {steps} | {every} | {ms:.1f} | {judge.measure(whole)['fid']:.3f} |", flush=True)


if __name__ == "__main__":
    main()
