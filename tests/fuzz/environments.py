"""Places to run in: encodings, closed and full outputs, narrow terminals, homes that are not there. Real processes."""

import os
import random
import subprocess
import sys
from pathlib import Path

from fuzz.harness import Arguments, Kind

SAMPLE = "$DDIM sample digits --n 1 --steps 1 --out made"
HELP = "$DDIM --help"
LINES = [  # bash
    *(
        f"PYTHONIOENCODING={code} {verb}"
        for code in ("ascii", "cp1252", "latin-1", "utf-16", "cp437")
        for verb in (HELP, SAMPLE)
    ),
    *(f"LC_ALL={locale} LANG={locale} {SAMPLE}" for locale in ("C", "POSIX", "C.UTF-8", "xx_XX", "")),
    f"PYTHONUTF8=0 LC_ALL=C PYTHONCOERCECLOCALE=0 {SAMPLE}",
    *(
        f"{verb} {ends}"
        for verb in (HELP, SAMPLE)
        for ends in (">&-", "2>&-", ">&- 2>&-", "<&-", ">/dev/full", "2>/dev/full")
    ),
    *(f"COLUMNS={columns} {verb}" for columns in ("1", "0", "-1", "x", "99999") for verb in ("$DDIM evaluate --help",)),
    f"mkdir ro && chmod 500 ro && HOME=$PWD/ro DDIM_CACHE= {SAMPLE}",
    "HOME=/proc/none DDIM_CACHE= $DDIM evaluate digits --n 3 --steps 1 --eta 0",
    f"env -u HOME -u DDIM_CACHE {SAMPLE}",
    f"env -u TMPDIR {SAMPLE}",
    f"TMPDIR=/no/where {SAMPLE}",
    f"TERM=dumb {SAMPLE}",
    f"PYTHONWARNINGS=error {SAMPLE}",
    f"(ulimit -f 0; {SAMPLE})",
    f"(ulimit -n 32; {SAMPLE})",
    f"{HELP} | true",
    f"OMP_NUM_THREADS=x {SAMPLE}",
    f"mkdir gone && cd gone && rmdir ../gone && {SAMPLE}",
    f"env -i PATH=$PATH PYTHONPATH=$PYTHONPATH {SAMPLE}",
]


def make(rng: random.Random, templates: Path) -> list[Arguments]:
    """One of the lines; which one, by the number that the folder of the case has."""
    return [[LINES[int(Path.cwd().name.rpartition("-")[2])]]]


def run(line: str) -> tuple[int, str, str]:
    """Run a line of bash in which DDIM is the command."""
    env = os.environ | {"DDIM": f"{sys.executable} -m ddim", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(["bash", "-c", line], env=env, capture_output=True)
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


KIND = Kind("environments", len(LINES), make, run=run)
