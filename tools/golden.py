"""Golden values: every number that a refactor must not change, as JSON.

    python tools/golden.py --out FILE [--only SECTION …]      write them
    python tools/golden.py --compare FILE [--only SECTION …]  list what differs from those in FILE; status 1 if any does
    python tools/golden.py --small                            rewrite tests/tools/golden.json

Between machines of one kind the values are equal bit for bit. Each section runs in a process of its own, since training
flushes denormals and float32 products can be set for a whole process. tests/tools/golden.json holds the few values that
the tests hold to a tolerance on any machine; its tolerances are in tests/tools/test_golden.py.
"""

import argparse
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from golden_sections import SECTIONS, raw
from torch import Tensor

SMALL = Path(__file__).parents[1] / "tests" / "tools" / "golden.json"


def recorded(value):
    """What is kept of a section: a tensor's description, a float's exact repr, dicts and lists of them."""
    if isinstance(value, Tensor):
        return recorded_tensor(value)
    if isinstance(value, dict):
        return {str(name): recorded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [recorded(part) for part in value]
    return repr(value) if isinstance(value, float) else value


def recorded_tensor(value: Tensor) -> dict:
    flat = value.detach().cpu().contiguous().flatten().double()
    n = len(flat)
    return {
        "shape": list(value.shape),
        "dtype": str(value.dtype),
        "sha256": hashlib.sha256(raw(value)).hexdigest(),
        "at": [i * (n - 1) // 7 for i in range(8)],
        "values": [flat[i * (n - 1) // 7].item() for i in range(8)],
        "mean": math.fsum(flat.tolist()) / n,
        "rms": math.sqrt(math.fsum((flat * flat).tolist()) / n),
    }


def numbers(value) -> dict[str, list[float]]:
    """Of a recorded section, what holds on any machine: by dotted name, a tensor's values, mean and rms, or a number.

    Hashes and text are left out.
    """
    if isinstance(value, dict) and "sha256" in value:
        return {"": [*value["values"], value["mean"], value["rms"]]}
    if isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return {f"{name}/{rest}".rstrip("/"): n for name, part in parts for rest, n in numbers(part).items()}
    if isinstance(value, str):
        try:
            return {"": [float(value)]} if repr(float(value)) == value else {}
        except ValueError:
            return {}
    return {"": [float(value)]}


def small(kept: dict[str, dict[str, list[float]]]) -> str:
    """The values of the tests as JSON, a line each, in nine digits."""
    parts = []
    for section, values in kept.items():
        lines = [f"  {json.dumps(name)}: [{', '.join(f'{v:.9g}' for v in v10)}]" for name, v10 in values.items()]
        parts.append(f" {json.dumps(section)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def differences(old, new, name: str = "") -> list[str]:
    """A line for each leaf of two records that is not the same."""
    if isinstance(old, dict) and isinstance(new, dict):
        if old.get("sha256", 0) != new.get("sha256", 0) and old.get("shape") == new.get("shape"):
            apart = max(abs(a - b) for a, b in zip(old["values"], new["values"], strict=True))
            return [f"{name}: tensors differ, by up to {apart:.3g} in the values kept"]
        names = dict.fromkeys([*old, *new])
        return [line for k in names for line in differences(old.get(k), new.get(k), f"{name}/{k}".lstrip("/"))]
    return [] if old == new else [f"{name}: {old} became {new}"]


def environment() -> dict:
    """The kind of machine that the bits hold on."""
    cpu = Path("/proc/cpuinfo").read_text().splitlines()
    packages = ("torch", "numpy", "accelerate", "torchmetrics", "safetensors")
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "cpu": next((line.split(":")[1].strip() for line in cpu if line.startswith("model name")), ""),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def section(name: str) -> dict:
    """One section, recorded, with the state of the process that it left."""
    torch.set_num_threads(1)
    values = recorded(SECTIONS[name]())
    return {"matmul_precision": torch.get_float32_matmul_precision(), "values": values}


def in_a_process(name: str, cache: str) -> dict:
    part = Path(cache) / f"{name}.json"
    settings = os.environ | {"OMP_NUM_THREADS": "1", "DDIM_CACHE": cache, "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, __file__, "--section", name, "--out", str(part)], env=settings, check=True)
    return json.loads(part.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file to write")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="values of an earlier run")
    parser.add_argument("--small", action="store_true", help="rewrite the values of the tests")
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)  # in the processes that this one starts
    o = parser.parse_args()
    if o.section:
        found = section(o.section)
    else:
        with tempfile.TemporaryDirectory() as cache:
            found = {"environment": environment()} | {name: in_a_process(name, cache) for name in o.only}
    if o.out:
        o.out.write_text(json.dumps(found, indent=1) + "\n")
    if o.small:
        kept = {name: numbers(found[name]["values"]) for name in o.only if name != "prepared"}  # which rounds coarsely
        SMALL.write_text(small(kept))
    if o.compare:
        old = json.loads(o.compare.read_text())
        names = [name for name in found if name in old]
        lines = [line for name in names for line in differences(old[name], found[name], name)]
        print("\n".join(lines) or f"{len(names) - 1} sections are the same")
        raise SystemExit(1 if lines else 0)


if __name__ == "__main__":
    main()
