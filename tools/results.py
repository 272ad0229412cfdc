"""Makes every figure of docs/results.md anew: python tools/results.py train.parquet test.parquet --work results

One command after another, as docs/results.md names them. What lies in the folder --work already is continued, or kept.
The figures of the docs are replaced; the tables are printed, to be copied. Two hours on 2 CPU cores.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from ddim import images
from ddim.plots import save, to_pil

HERE = Path(__file__).parents[1]
DOCS = HERE / "docs" / "results"
ENDS = (3, 15)  # of the test images: an airplane and a bird
QUADRATIC, CLASSES = "--spacing quadratic", "--label all"
EVALUATE = "evaluate cifar10 --reference TRAIN --held-out TEST"
TABLE = f"{EVALUATE} --n 1000 --steps 10 20 50 {QUADRATIC} {CLASSES}"
DEFAULT = f"{EVALUATE} --n 1000 --solver unipc --spacing power-1.5 --steps 10 --eta 0"
COMMANDS = {  # by the folder of what comes of each; TRAIN and TEST are the images
    "table1": f"{TABLE} --eta 0 0.2 0.5 1 --clip off",
    "hat": f"{EVALUATE} --n 1000 --steps 10 20 {QUADRATIC} {CLASSES} --eta hat --clip on",
    "c5000": f"{EVALUATE} --n 5000 --steps 50 --eta 0 {QUADRATIC} {CLASSES} --clip off",
    "n5000": f"{EVALUATE} --n 5000 --steps 50 --eta 0.5 {QUADRATIC} {CLASSES} --clip off",
    "g50": f"{EVALUATE} --n 1000 --steps 50 --eta 0 {QUADRATIC} {CLASSES} --guidance 1.5 --clip off",
    "none": f"{EVALUATE} --n 1000 --steps 20 50 --eta 0 {QUADRATIC} --clip off",
    "default-classes": f"{DEFAULT} {CLASSES}",
    "default": DEFAULT,
    "samples": f"sample cifar10 --n 60 {CLASSES} --solver ddim --steps 50 {QUADRATIC}",
    "guided": f"sample cifar10 --n 60 {CLASSES} --guidance 2",
    "recon": "reconstruct cifar10 TEST --n 100 --steps 10 20 50 100 200",
    "consist": f"consistency cifar10 --n 16 --steps 10 20 50 100 500 {QUADRATIC}",
    "seeds": f"interpolate cifar10 --seeds 0 1 2 3 --label 0 1 7 8 --guidance 2 --steps 50 {QUADRATIC}",
    "real": "interpolate cifar10 a.png b.png --label airplane bird --steps 50",
    "recognised": "bench/recognised.py cifar10 --data TRAIN --test TEST --judge judge.safetensors",
    "exact": "bench/exact.py TRAIN",
    "seconds": "bench/scaling.py steps --model cifar10 --at 10 20 50",
    "sequence": f"sequence cifar10 --n 4 --label horse {QUADRATIC}",
}
FIGURES = {  # of the docs, by their file
    "table1/grid.png": "grid.png",
    "table1/neighbours.png": "neighbours.png",
    "samples-sheet.png": "samples.png",
    "guided-sheet.png": "guided.png",
    "recon/reconstruct.png": "reconstruct.png",
    "consist/consistency.png": "consistency.png",
    "seeds/interpolate.png": "seeds.png",
    "real/interpolate.png": "real.png",
    "sequence/sequence.png": "sequence.png",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--work", type=Path, default=Path("results"))
    parser.add_argument("--only", nargs="*", choices=COMMANDS, help="these alone")
    o = parser.parse_args()
    o.work.mkdir(parents=True, exist_ok=True)
    named = {"TRAIN": str(o.train.resolve()), "TEST": str(o.test.resolve())}
    found = images.find(named["TEST"], 32, 3)
    for name, k in zip("ab", ENDS, strict=True):
        save(to_pil(images.to_float(found.decode(k))), o.work / f"{name}.png")
    for out in o.only or COMMANDS:
        script = COMMANDS[out].startswith("bench/")
        print(f"{'python' if script else 'ddim'} {COMMANDS[out]}", flush=True)
        words = [named.get(word, word) for word in COMMANDS[out].split()]
        if script:
            subprocess.run([sys.executable, HERE / words[0], *words[1:]], cwd=o.work, check=True)
            continue
        if not (o.work / f"{out}-sheet.png").exists():
            subprocess.run([sys.executable, "-m", "ddim", *words, "--out", out], cwd=o.work, check=True)
    for made, name in FIGURES.items():
        if (o.work / made).exists():
            shutil.copy(o.work / made, DOCS / name)


if __name__ == "__main__":
    main()
