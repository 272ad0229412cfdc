"""Run the suite, or a part of it, and print the counts by outcome and every bad case. `make fuzz` runs it all."""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "COLUMNS": "200", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
sys.path.insert(0, str(Path(__file__).parents[1]))

from support.command_line import in_process

from fuzz import arguments, checkpoints, environments, pictures
from fuzz.harness import BAD, Ended, Kind, as_json, cases, table

KINDS = {kind.name: kind for kind in (checkpoints.KIND, pictures.KIND, arguments.KIND, environments.KIND)}


def warm_up() -> None:
    """Import what the verbs import, so that the forks find it."""
    import tempfile

    import datasets  # noqa: F401
    import lmdb  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        os.environ["DDIM_CACHE"] = f"{name}/cache"
        for verb in arguments.SMALL:
            arguments.names_of(verb)
        for args in (
            ("sample", "digits", "--n", 2, "--steps", 2),
            ("encode", "digits", "digits-sheet.png", "--steps", 1),
        ):
            in_process(Path(name), *args)
        in_process(Path(name), "evaluate", "digits", "--n", 3, "--steps", 1, "--eta", 0)
        in_process(Path(name), "train", "digits", "--steps", 1, "--batch-size", 2)


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], default=[], help="by default all")
    parser.add_argument("--every", type=int, default=1, help="run each so many-th case only")
    parser.add_argument("--case", type=int, help="replay the case of this number, and show what it said")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="cases at a time")
    parser.add_argument("--log", type=Path, help="write every case there, a line of JSON each")
    o = parser.parse_args()
    warm_up()
    begun, ended = time.monotonic(), []
    log = open(o.log, "w", encoding="utf-8") if o.log else None  # noqa: SIM115
    for name in o.kinds or KINDS:
        ended += run(KINDS[name], [o.case] if o.case is not None else range(0, KINDS[name].count, o.every), o, log)
    print(f"\n{table(ended)}\n\n{len(ended)} cases in {time.monotonic() - begun:.0f} s")
    return any(case.outcome in BAD for case in ended)


def run(kind: Kind, numbers, o: argparse.Namespace, log) -> list[Ended]:
    """The cases of a kind; the bad ones are printed as they come, with how to replay them."""
    found = []
    for case in cases(kind, list(numbers), o.jobs):
        found.append(case)
        if case.outcome in BAD or o.case is not None:
            print(f"{case.outcome}: python -m fuzz '{kind.name}' --case {case.number}")
            print(f"  {case.commands}\n  {case.said[-1500:]}", flush=True)
        if log:
            print(as_json(case), file=log, flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
