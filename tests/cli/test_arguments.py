"""Arguments that nothing could meet are refused at once: in one line, before torch or a model is loaded."""

import json
import subprocess
import sys

import pytest
from support.command_line import refused

from ddim.cli import names

SPACINGS = f"{', '.join(names.SPACINGS)}, {names.OTHER_SPACINGS}"
HUGE = "100000000000000000000"
REFUSED = [
    (("sample", "digits", "--n", HUGE), f"--n must be at most 1000000000; got {HUGE}"),
    (("sample", "digits", "--n", "-3"), "--n must be at least 1; got -3"),
    (("sample", "digits", "--steps", "0"), "--steps must be at least 1; got 0"),
    (("sample", "digits", "--steps", HUGE), f"--steps must be at most 1000000000; got {HUGE}"),
    (("sample", "digits", "--eta", "nan"), "--eta must be a finite number; got nan"),
    (("sample", "digits", "--eta", "inf"), "--eta must be a finite number; got inf"),
    (("sample", "digits", "--eta", "-1"), "--eta must be at least 0; got -1.0"),
    (("sample", "digits", "--times"), "--times needs at least one value"),
    (("sample", "digits", "--times", "5"), "--times needs at least two values, a start and an end; got 1"),
    (("sample", "digits", "--times", "nan", "0"), "--times must be a finite number; got nan"),
    (("sample", "digits", "--times", "5", "10"), "--times must fall; got 5 followed by 10"),
    (("sample", "digits", "--times", "10", "-1"), "--times must be at least 0; got -1.0"),
    (("sample", "digits", "--times", "10", "0", "--steps", "5"), "--times replaces --steps: give one of them"),
    (("sample", "digits", "--spacing", "power-half"), f"unknown --spacing 'power-half': choose one of {SPACINGS}"),
    (("sample", "digits", "--spacing", "power-0.5"), "--spacing power-0.5: the P of power-P is at least 1; got 0.5"),
    (("sample", "digits", "--spacing", "power-0"), "--spacing power-0: the P of power-P is at least 1; got 0"),
    (("sample", "digits", "--seed", "-1"), "--seed must be at least 0; got -1"),
    (("sample", "digits", "--seed", HUGE), f"--seed must be at most {2**64 - 1}; got {HUGE}"),
    (("sample", "digits", "--clip-range", "-1"), "--clip-range must be above 0; got -1"),
    (("sample", "digits", "--clip-range", "nan"), "--clip-range must be a finite number; got nan"),
    (("sample", "digits", "--device", "meta"), "device meta is not available here: name cpu, cuda, cuda:1 or mps"),
    (("sample", "digits", "--device", ""), "device  is not available here: name cpu, cuda, cuda:1 or mps"),
    (("sample", "digits", "--batch-size", HUGE), f"--batch-size must be at most 1000000; got {HUGE}"),
    (("sample", "digits", "--guidance", "nan"), "--guidance must be a finite number; got nan"),
    (("sample", "digits", "--guidance", "-1"), "--guidance must be at least 0; got -1.0"),
    (("sample", ""), "MODEL is empty"),
    (("sample", "digits", "--out", ""), "--out is empty: give it a name"),
    (("sample", "digits", "--out="), "--out is empty: give it a name"),
    (("convert", "digits", ""), "an argument is empty: give it a name"),
    (("evaluate", "digits", "--steps"), "--steps needs at least one value"),
    (("evaluate", "digits", "--eta"), "--eta needs at least one value"),
    (("evaluate", "digits", "--steps", "10", "0"), "--steps must be at least 1; got 0"),
    (("evaluate", "digits", "--eta", "0", "nan"), "--eta must be a finite number; got nan"),
    (("consistency", "digits", "--steps"), "--steps needs at least one value"),
    (("reconstruct", "digits"), "no images named: give image files, folders, or a .parquet file"),
    (("likelihood", "digits"), "no images named: give image files, folders, or a .parquet file"),
    (("likelihood", "digits", "digits", "--probes", "-1"), "--probes must be at least 0; got -1"),
    (("likelihood", "digits", "digits", "--steps", "0"), "--steps must be at least 1; got 0"),
    (("encode", "digits"), "no images named: give image files, folders, or a .parquet file"),
    (("interpolate", "digits", "--frames", HUGE), f"--frames must be at most 10000; got {HUGE}"),
    (("interpolate", "digits", "--ddpm", "--time", "0"), "--time must be at least 1; got 0"),
    (("interpolate", "digits", "--seeds"), "--seeds needs at least one value"),
    (("sequence", "digits", "--frames", "1"), "--frames must be at least 2; got 1"),
    (("reproduce", "digits", "--steps"), "--steps needs at least one value"),
    (("reproduce", "digits", "--reconstructed", "0"), "--reconstructed must be at least 1; got 0"),
    (("info", "x.pt", "--T", "100000000000"), "--T must be at most 1000000; got 100000000000"),
    (("info", "x.pt", "--beta-1", "nan"), "--beta-1 must be a finite number; got nan"),
    (("data", "digits", "--size", "100000"), "--size must be at most 4096; got 100000"),
    (("data", ""), "SOURCE is empty"),
    (("push", "digits", ""), "HUB-ID is empty"),
    (("demo", "--steps", "0"), "--steps must be at least 1; got 0"),
    (("train", "digits", "--T", "100000000000"), "--T must be at most 1000000; got 100000000000"),
    (("train", "digits", "--size", "100000"), "--size must be at most 4096; got 100000"),
    (("train", "digits", "--ch", "10000000"), "--ch must be from 1 to 4096; got 10000000"),
    (("train", "digits", "--layers", "1000000000"), "--layers must be from 1 to 64; got 1000000000"),
    (("train", "digits", "--mult"), "--mult needs at least one value"),
    (("train", "digits", "--mult", "100000"), "--mult must be numbers from 1 to 64; got 100000"),
    (("train", "digits", "--lr", "nan"), "--lr must be a finite number; got nan"),
    (("train", "digits", "--lr", "-1"), "--lr must be at least 0; got -1.0"),
    (("train", "digits", "--grad-clip", "-1"), "--grad-clip must be at least 0; got -1.0"),
    (("train", "digits", "--steps", HUGE), f"--steps must be at most 1000000000; got {HUGE}"),
    (("train", "digits", "--dropout", "2"), "--dropout must be at most 0.999; got 2.0"),
    (("train", "digits", "--ema", "nan"), "--ema must be a finite number; got nan"),
    (
        ("train", "digits", "--groups", "7"),
        "width 32 (ch × mult) is not divisible by groups 7: change --ch or --groups",
    ),
    (("train", "digits", "--size", "7"), "size 7 cannot be halved 1 times: change --size or --mult"),
    (
        ("sample", "x", "--format", "pngs"),
        "unknown --format 'pngs': choose one of npz, png; did you mean png? (see ddim sample --help)",
    ),
    (
        ("sample", "x", "--step", "20"),
        "unknown option --step; did you mean --steps? (see ddim sample --help)",
    ),
    (
        ("train", "--data", "x", "--tme", "2h"),
        "unknown option --tme; did you mean --time? (see ddim train --help)",
    ),
    *(
        ((verb, "digits", *args), f"{line} (see ddim {verb} --help)")
        for verb, args, line in (
            ("inpaint", ("photos", "--n", "all of them"), "--n takes a whole number; got 'all of them'"),
            ("likelihood", ("digits", "--steps=zero"), "--steps takes a whole number; got 'zero'"),
            ("sample", ("--tolerance", "tiny"), "--tolerance takes a number; got 'tiny'"),
            ("sample", ("--guidance", "lots"), "--guidance takes a number; got 'lots'"),
            ("sample", ("--eta", "foo"), "--eta takes a number or hat; got 'foo'"),
            ("sample", ("--times", "10", "b"), "--times takes numbers; got 'b'"),
            ("sample", ("--guidance-interval", "1"), "--guidance-interval takes 2 values, LOW HIGH; got 1"),
            ("sample", ("--guidance-interval", "1", "b"), "--guidance-interval takes numbers; got 'b'"),
            ("sample", ("--steps",), "--steps needs a value"),
            ("sample", ("--solvers", "tuned"), "unknown option --solvers; did you mean --solver?"),
            ("sample", ("--solvers", "x", "--y", "3"), "unknown options --solvers, --y; did you mean --solver?"),
            ("sample", ("3",), "more arguments than it takes: 3"),
            ("convert", ("x", "--T", "potato"), "--T takes a whole number; got 'potato'"),
            ("explore", ("digits", "--classes", "3"), "--classes takes 2 values, FROM TO; got 1"),
            ("vary", ("photos", "--strength", "0.2", "half"), "--strength takes numbers; got 'half'"),
            ("evaluate", ("--eta", "0", "a"), "--eta takes numbers or hat; got 'a'"),
            ("encode", ("photos", "--steps", "1.5"), "--steps takes a whole number; got '1.5'"),
        )
    ),
    (("train", "digits", "--mult", "a"), "--mult takes whole numbers; got 'a' (see ddim train digits --help)"),
    (("train", "digits", "--device", "meta"), "device meta is not available here: name cpu, cuda, cuda:1 or mps"),
]


@pytest.mark.parametrize(
    ("args", "line"), REFUSED, ids=lambda value: " ".join(value)[:60] if type(value) is tuple else ""
)
def test_arguments_out_of_every_range_get_one_line(ddim_cli, tmp_path, args: tuple[str, ...], line: str):
    result = ddim_cli(*args)
    refused(result)
    assert result.stderr == f"ddim: {line}\n"
    assert result.stdout == ""
    assert not list(tmp_path.iterdir())


def test_they_are_refused_before_torch_is_loaded():
    """All of them in one process, which has no torch at its end."""
    code = """
import json, sys
from ddim.cli.main import main
status = {main(args) for args in json.loads(sys.argv[1])}
print(status, "torch" in sys.modules)
"""
    lists = json.dumps([args for args, _ in REFUSED])
    done = subprocess.run([sys.executable, "-c", code, lists], capture_output=True, text=True, check=True)
    assert done.stdout == "{2} False\n"
    assert len(done.stderr.splitlines()) == len(REFUSED)
