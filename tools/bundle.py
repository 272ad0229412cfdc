"""Ship the model of a run: its averaged weights as float16, into the package. Its card, README.md, is written by hand.

python tools/bundle.py runs/emoji emoji --data emoji.zip
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

import ddim

BUNDLED = Path(__file__).parent.parent / "src" / "ddim" / "checkpoints" / "bundled"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run, or one of its snapshots")
    parser.add_argument("name", help="what it is called from then on")
    parser.add_argument("--data", required=True, help="the images that it was trained on, as others know them")
    o = parser.parse_args()
    model = ddim.load(o.run, "cpu")
    model = replace(model, facts=replace(model.facts, data=o.data, source=None))
    print(ddim.save(model, BUNDLED / o.name, torch.float16))


if __name__ == "__main__":
    main()
