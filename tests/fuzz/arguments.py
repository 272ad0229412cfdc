"""Lists of arguments: every verb and option with values of every kind, and with what is no value at all."""

import random
import re
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

from fuzz.harness import Arguments, Kind

WORDS = ["", " ", "0", "1", "-1", "2", "3", "nan", "inf", "-inf", "1e3", "0.5", "x", "None", "null", "true", "--",
         "-", "-h", "--help", "β", "a\nb", "\x1b[31m", "'", '"', "*", "..", ".", "/", "~", "9" * 30, "1_0", "0x10",
         "٣", "1,2", "[1]", "(1,)", "=", "--x=1", "@file", "/dev/null", "/dev/full/x", "x" * 300, "hat", "auto", "on",
         "cpu", "cuda", "cuda:99", "meta", "cpu:7", "digits", "fp32", "bf16", "gif", "npz", "linear", "quadratic",
         "heun", "exact", "a/b", "no/such/model", "x.pt", "x.png", "x.npz", "model.safetensors"]  # fmt: skip
SMALL = {  # so that what is valid takes no time
    "sample": ["sample", "digits", "--n", "2", "--steps", "2", "--out", "made"],
    "encode": ["encode", "digits", "a.png", "--steps", "2"],
    "decode": ["decode", "digits", "z.safetensors"],
    "interpolate": ["interpolate", "digits", "--frames", "2", "--steps", "2"],
    "sequence": ["sequence", "digits", "--n", "1", "--steps", "2"],
    "evaluate": ["evaluate", "digits", "--n", "3", "--steps", "2", "--eta", "0"],
    "reconstruct": ["reconstruct", "digits", "a.png", "--steps", "2"],
    "consistency": ["consistency", "digits", "--steps", "2", "3", "--n", "2"],
    "reproduce": ["reproduce", "digits", "--n", "3", "--steps", "2", "--reconstructed", "2"],
    "train": ["train", "digits", "--steps", "1", "--batch-size", "2"],
    "tune": ["tune", "digits", "--steps", "2", "--pairs", "32", "--time", "1s"],
    "info": ["info", "digits"],
    "convert": ["convert", "digits", "model"],
    "data": ["data", "digits", "--size", "8"],
    "push": ["push", "digits", "me/x"],
    "demo": ["demo", "--steps", "1"],  # which always takes minutes, so that it is refused in the end
}
# What would be valid and long: of these the fuzz gives only odd values.
LONG = {"--n", "--steps", "--frames", "--batch-size", "--reconstructed", "--pairs", "--time"}


def names_of(verb: str) -> list[str]:
    """The options of a verb."""
    module = import_module(f"ddim.cli.commands.{verb}")
    options = next(
        value for value in vars(module).values() if is_dataclass(value) and value.__module__ == module.__name__
    )
    return sorted(set(flat(options)))


def flat(options: type) -> list[str]:
    found = []
    for field, kind in ((f, get_type_hints(options)[f.name]) for f in fields(options)):
        found += flat(kind) if is_dataclass(kind) else [f"--{field.name.replace('_', '-')}"]
    return found


def make(rng: random.Random, templates: Path) -> list[Arguments]:
    """Arguments of a verb, with some words changed, added or left out."""
    from PIL import Image

    Image.new("L", (8, 8)).putpixel((1, 1), 255)
    Image.linear_gradient("L").resize((8, 8)).save("a.png")
    verb = rng.choice(sorted(SMALL))
    args = list(SMALL[verb])
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        option, word = rng.choice(names_of(verb)), rng.choice(WORDS)
        match rng.choice(["option", "option", "option", "value", "drop", "bare", "equals", "word", "double"]):
            case "option":
                args += [option, word]
            case "equals":
                args.append(f"{option}={word}")
            case "bare":
                args.append(option)
            case "value":
                args[rng.randrange(len(args))] = word
            case "drop":
                del args[rng.randrange(len(args))]
                args = args or [""]
            case "word":
                args.insert(rng.randrange(len(args) + 1), word)
            case "double":
                args += args[rng.randrange(len(args)) :]
    return [[*short(args, verb), "--seed", "-1"] if verb == "demo" else short(args, verb)]


def short(args: Arguments, verb: str) -> Arguments:
    """The arguments with the small counts last, where they would be valid and long without."""
    given = {re.split("=", word)[0] for word in args}
    small = SMALL[verb]
    for i, word in enumerate(small):
        if word in LONG and word not in given:
            args += small[i : i + 2]
    return args


KIND = Kind("arguments", 400, make)
