"""The command line. Each verb's module is imported when it is called, so that `ddim --help` answers at once."""

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from ddim import __version__
from ddim.errors import InputError, choose
from ddim.system.machine import keep_memory, out_of_memory, wait_politely
from ddim.system.messages import flush_output, prepare_outputs, warn, warnings_in_one_line
from ddim.system.processes import disconnect

GROUPS = {
    "begin": {
        "demo": "Train on handwritten digits for two minutes, then sample them with DDPM and DDIM.",
        "data": "Show what a set of images holds, before training on it.",
        "train": "Train a model on your images: in a time that you give, or with a preset.",
        "studio": "Open a page in the browser to do all of this by hand.",
        "completion": "Print the script by which bash, zsh or fish completes verbs and options.",
    },
    "sample": {
        "sample": "Sample images from a model.",
        "sequence": "Show how images come out of noise, step by step.",
    },
    "latent space": {
        "interpolate": "Walk between images in the latent space, or the DDPM way.",
        "nearby": "Choose an image, see its neighbours in the latent space, and go on.",
        "encode": "Turn images into latents.",
        "decode": "Turn latents back into images.",
    },
    "edit": {
        "inpaint": "Make a part of images anew.",
        "restore": "Make small images large, give grey ones colour, sharpen blurred ones.",
        "vary": "Make variations of an image, or give it another class.",
        "explore": "Draw images along directions: principal components of a model, or from class to class.",
    },
    "measure": {
        "evaluate": "Measure FID, KID, precision, recall and time over steps and η, as the paper's table 1.",
        "reconstruct": "Encode and decode images, and measure what is lost: the paper's table 2.",
        "likelihood": "Measure the bits per dimension of images, by the variational bound or along the ODE.",
        "latents": "Compare the latents of images with N(0, I), by solver and number of steps.",
        "consistency": "Compare the images that different numbers of steps make of the same noise.",
        "reproduce": "Write the paper's tables 1 and 2 and figures 3 to 6, for a model.",
    },
    "models": {
        "tune": "Learn solvers of very few steps for one model, from noise alone.",
        "info": "Show what a model is.",
        "convert": "Write a model, from other code too, as a folder for diffusers or the official code.",
        "push": "Upload a model to the Hugging Face Hub, with a card.",
    },
}
VERBS = {name: line for verbs in GROUPS.values() for name, line in verbs.items()}


def usage() -> str:
    """What `ddim --help` prints."""
    lines = ["usage: ddim VERB …   (ddim VERB --help lists its options, with examples)"]
    for group, verbs in GROUPS.items():
        lines += ["", group, *(f"  {name:14}{line}" for name, line in verbs.items())]
    return "\n".join([*lines, "", f"ddim {__version__}"])


def check_place() -> None:
    """Raise InputError where the current folder is gone: libraries look for theirs from there, and end the process."""
    try:
        os.getcwd()
    except OSError:
        raise InputError("the current folder is gone: change to another") from None


class Terminated(BaseException):
    """SIGTERM: the process is asked to end."""


def terminate(code: int, frame) -> None:
    raise Terminated


def main(args: Sequence[str] | None = None) -> int:
    """Run a verb. Returns the exit status: 0; 2 for what cannot be done, said in one line; 130 for Ctrl-C, 143 for
    SIGTERM, 1 where the reader of the output has gone.
    """
    args = list(sys.argv[1:] if args is None else args)
    prepare_outputs()
    keep_memory()
    wait_politely()
    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not the main thread
        before = None
    try:
        with warnings_in_one_line():
            check_place()
            if not args or args[0] in ("-h", "--help", "help"):
                print(usage(), file=sys.stdout if args else sys.stderr)
            elif args[0] == "--version":
                print(f"ddim {__version__}")
            else:
                choose("verb", args[0], VERBS)
                import_module(f"ddim.cli.commands.{args[0]}").main(args[1:])
            sys.stdout.flush()
        return 0 if args else 2
    except SystemExit as stop:  # of --help, and of a training that was stopped
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except (Exception, KeyboardInterrupt, Terminated) as error:
        if (status := said(error)) is None:
            raise
        return status
    finally:
        flush_output()
        disconnect()
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def said(error: BaseException) -> int | None:
    """Say in one line what ended a verb, and return the exit status; None for a bug, which keeps its traceback."""
    match error:
        case InputError():
            warn(error)
        case KeyboardInterrupt():
            warn(f"interrupted{error}")
            return 130
        case Terminated():
            warn("ended by SIGTERM")
            return 143
        case BrokenPipeError():  # the reader of our output has gone: not our failure, nothing left to say
            return 1
        case OSError():
            name = str(error.filename or "output")
            warn(f"{name if len(name) < 200 else name[:200] + '…'}: {error.strerror or error}")
        case _ if out_of_memory(error):
            warn("not enough memory: give a smaller --batch-size, or a smaller network")
        case _:
            return None
    return 2
