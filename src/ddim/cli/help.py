"""What `ddim VERB --help` prints: what tyro knows of the options, in words and in whole lines.

tyro breaks lines where a docstring breaks them, and shows Python's None. So what it prints is taken apart and laid out
again. Nothing here imports torch.
"""

import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence

COLUMN = 26  # where the text on an option begins
ASKED = 129  # columns that tyro is told: from 130 on it puts groups side by side
NARROWEST, WIDEST = 50, 100
VALUES = {  # of options that take text
    **dict.fromkeys(("--label", "--source"), "CLASS"),
    **dict.fromkeys(("--data", "--reference", "--held-out"), "IMAGES"),
    **{"--spacing": "NAME", "--features": "NAME", "--device": "DEVICE", "--host": "ADDRESS", "--init": "MODEL"},
    "--time": "TIME",
}
Section = tuple[str, list[str], list[list[str]]]  # title, description, and [option, its text …] of each option


def laid_out(text: str, about: str, examples: Sequence[str]) -> str:
    """tyro's help in another form: usage, what the verb does, a section for each group of options, examples."""
    usage, *rest = text.split("\n\n")
    said, _, table = "\n\n".join(rest).partition("\n\n ")
    lines = [usage.replace("{None}|", ""), "", about, *wrapped(said)]
    for title, description, entries in sections(f" {table}"):
        options = [entry for entry in entries if entry[0] != "-h, --help"]  # the usage has it
        if not options:
            continue
        lines += ["", *wrapped(f"{title}: {lowered(' '.join(description))}" if description else f"{title}:")]
        lines += [line for name, *text in options for line in described(in_words(name), in_words(" ".join(text)))]
    return "\n".join([*lines, "", "examples:", *(f"  {line}" for line in examples)])


def sections(table: str) -> Iterator[Section]:
    """The groups of options: a title, a rule, in most a description and another rule, then the options."""
    found: list[Section] = []
    for line in filter(str.strip, table.splitlines()):
        indent, text = len(line) - len(line.lstrip()), line.strip()
        if indent == 1 and set(text) != {"-"}:
            found.append((title_of(text), [], []))
            continue
        _, description, entries = found[-1]
        if set(text) == {"-"}:  # under the title, or under the description
            description += [word for entry in entries for word in entry]
            entries.clear()
        elif indent > 2:
            entries[-1].append(text)
        elif entries and len(entries[-1]) == 1 and entries[-1][0].endswith(","):  # the choices of an option go on
            entries[-1][0] += text
        else:
            entries.append(re.split(r"\s{2,}", text, maxsplit=1))
    yield from found


def title_of(text: str) -> str:
    """`grid` for "method.grid options", `options` for "options"."""
    return {"positional arguments": "arguments"}.get(text, text.removesuffix(" options").rpartition(".")[2])


def lowered(text: str) -> str:
    """A sentence as it stands behind a colon: "Noise in each step." but not "U-Net"."""
    return text[0].lower() + text[1:] if text[1:2].islower() else text


def in_words(text: str) -> str:
    """Without Python's None, False and empty values; an option shows the kind of value that it takes."""
    text = re.sub(r"^(\S+ )\{None\}\|(\S+)$", r"\1\2", text).replace("{None,", "{").replace("FLOAT|{hat}", "FLOAT|hat")
    text = re.sub(r"\[(\S+) \[(?:\1 )?\.\.\.\]\]", r"\1 …", text)
    text = re.sub(r"\s*\((default: (None|''|)|required)\)$", "", text)
    return re.sub(r"\(default: (False|True)\)$", lambda m: f"(default: {'yes' if m[1] == 'True' else 'no'})", text)


def described(option: str, text: str) -> Iterator[str]:
    """An option with what it does beside it, or below it where it is long."""
    option = re.sub(r"^(--[\w-]+) STR\b", lambda m: f"{m[1]} {VALUES.get(m[1], 'TEXT')}", option)
    names = wrapped(re.sub(r",(?=[a-z])", ", ", option) if len(option) > COLUMN else option, "  ", " " * 6)
    about = wrapped(text, " " * COLUMN)
    if len(names) == 1 and len(names[0]) < COLUMN - 1 and about:
        about[0] = names.pop().ljust(COLUMN) + about[0].lstrip()
    yield from [*names, *about]


def wrapped(text: str, first: str = "", others: str | None = None) -> list[str]:
    """Text in lines of the terminal's width, within limits; paragraphs apart."""
    width = min(max(shutil.get_terminal_size().columns, NARROWEST), WIDEST)
    how = {"initial_indent": first, "subsequent_indent": first if others is None else others}
    return [
        line
        for paragraph in text.split("\n\n")
        for line in textwrap.wrap(
            " ".join(paragraph.split()), width, break_long_words=False, break_on_hyphens=False, **how
        )
    ]
