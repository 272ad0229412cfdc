"""How long does it take to start? Fresh processes on a warm cache, taking turns.

python bench/startup.py [--turns 15]
"""

import argparse
import subprocess
import sys
import time
from statistics import median

from contest import markdown

COMMANDS = {  # what is run: (arguments of python, seconds that it may take)
    "python -c pass": (["-c", "pass"], None),
    "import ddim": (["-c", "import ddim"], 0.2),
    "ddim --help": (["-m", "ddim", "--help"], 0.5),
    "ddim sample --help": (["-m", "ddim", "sample", "--help"], None),
    "import torch": (["-c", "import torch"], None),
}


def seconds(args: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *args], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=15)
    o = parser.parse_args()
    turns = [{name: seconds(args) for name, (args, _) in COMMANDS.items()} for _ in range(o.turns + 1)][1:]
    rows = []
    for name, (_, goal) in COMMANDS.items():
        found = median(turn[name] for turn in turns)
        kept = "" if goal is None else f"< {goal:.1f} s: {'kept' if found < goal else 'MISSED'}"
        rows.append((name, f"{found:.3f} s", kept))
    print(f"medians of {o.turns} turns\n\n{markdown(('command', 'time', 'goal'), rows)}")


if __name__ == "__main__":
    main()
