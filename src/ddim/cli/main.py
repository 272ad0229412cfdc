"""The command line. Each verb's module is imported when it is called, so that `ddim --help` answers at once."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from ddim import __version__
from ddim.errors import InputError, choose
from ddim.system.machine import keep_memory, wait_politely

VERBS = {
    "demo": "Train on handwritten digits for two minutes, then sample them with DDPM and DDIM.",
    "train": "Train a model on your pictures, with one of the paper's presets.",
    "data": "Tell what a set of pictures holds, before training on it.",
    "sample": "Sample pictures from a model.",
    "sequence": "Show how pictures come out of noise, step by step.",
    "interpolate": "Walk between pictures in the latent space, or the DDPM way.",
    "encode": "Turn pictures into latents.",
    "decode": "Turn latents back into pictures.",
    "reconstruct": "Encode and decode pictures, and measure what is lost.",
    "consistency": "Compare the pictures that different numbers of steps make of the same noise.",
    "evaluate": "Measure FID, KID, precision, recall and time over steps and η, as the paper's table 1.",
    "reproduce": "Write the paper's tables 1 and 2 and figures 3 to 6, for a model.",
    "convert": "Write a model, from other code too, as a folder for diffusers or the official code.",
    "push": "Put a model on the Hub, with a card.",
    "info": "Tell what a model is.",
}


def usage() -> str:
    verbs = "\n".join(f"  {name:14}{line}" for name, line in VERBS.items())
    return f"usage: ddim VERB …   (ddim VERB --help tells its options)\n\n{verbs}\n\nddim {__version__}"


def main(args: Sequence[str] | None = None) -> int:
    """Run a verb. Returns the exit status: 0, 2 for a request that cannot be met, told in one line, 130 for Ctrl-C."""
    args = list(sys.argv[1:] if args is None else args)
    if not args or args[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if args else 2
    if args[0] == "--version":
        print(f"ddim {__version__}")
        return 0
    keep_memory()
    wait_politely()
    try:
        choose("verb", args[0], VERBS)
        import_module(f"ddim.cli.commands.{args[0]}").main(args[1:])
        sys.stdout.flush()
    except InputError as error:
        print(f"ddim: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ddim: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone: not our failure, nothing left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0
