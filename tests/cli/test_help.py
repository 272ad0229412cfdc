"""`ddim VERB --help`: every option, once, with whole sentences, in lines that fit."""

import re
from dataclasses import fields, is_dataclass
from typing import get_type_hints

import pytest

from ddim.cli.commands.completion import options_of
from ddim.cli.help import described, in_words, laid_out
from ddim.cli.main import VERBS


def names(kind: type) -> list[str]:
    """The options of a verb, those of its groups too; what stands without a name on the command line is left out."""
    found = []
    for field, hint in zip(fields(kind), get_type_hints(kind, include_extras=True).values(), strict=True):
        if is_dataclass(hint):
            found += names(hint)
        elif "Positional" not in str(hint):
            found.append(f"--{field.name.replace('_', '-')}")
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_described_once_and_fits(verb: str, ddim_cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    args = (verb, "digits") if verb == "train" else (verb,)
    text = ddim_cli(*args, "--help").stdout
    shown = re.findall(r"^  (--[\w-]+)", text, re.MULTILINE)
    assert sorted(shown) == sorted(names(options_of(verb)))
    assert VERBS[verb] in text
    assert not re.search(r"None|\(default: (''|)\)|\{None|STR\b|options options", text)
    table = text[text.index(VERBS[verb]) + len(VERBS[verb]) : text.index("\nexamples:")]
    assert max(map(len, table.splitlines())) <= 80
    for option in shown:  # a sentence follows each, beside it or below
        about = re.search(rf"^  {option}\b[^\n]*\n?(?: {{6}}[^\n]*\n)*", text, re.MULTILINE)[0]
        assert re.search(r"\w{2,}.*[.)]$", about, re.MULTILINE | re.DOTALL), option


def test_lines_that_tyro_breaks_become_whole():
    text = """usage: ddim paint [-h] COLOUR [--a {None}|INT]

What it does.

 positional arguments
 --------------------
  COLOUR         Any. (required)

 options
 -------
  -h, --help     show this help message and exit
  --a {None}|INT  First line
                 and more. (default: None)
  --long-name-of-an-option {x,
  y}
                 Third. (default: False)

 own.grid options
 ----------------
  Where the
  steps go.
  --------
  --b INT        Fourth. (default: 1)
"""
    found = laid_out(text, "Paint.", ("ddim paint red",))
    assert (
        found
        == """usage: ddim paint [-h] COLOUR [--a INT]

Paint.
What it does.

arguments:
  COLOUR                  Any.

options:
  --a INT                 First line and more.
  --long-name-of-an-option {x, y}
                          Third. (default: no)

grid: where the steps go.
  --b INT                 Fourth. (default: 1)

examples:
  ddim paint red"""
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--eta {None}|FLOAT|{hat}", "--eta FLOAT|hat"),
        ("--eta [FLOAT|{hat} [FLOAT|{hat} ...]]", "--eta FLOAT|hat …"),
        ("--schedule {None,linear,cosine}", "--schedule {linear,cosine}"),
        ("--steps [INT [INT ...]]", "--steps INT …"),
        ("--solver [{ddim,ab2} [...]]", "--solver {ddim,ab2} …"),
        ("Images. (default: '')", "Images."),
        ("Flip. (default: True)", "Flip. (default: yes)"),
        ("Least. (default: 1.0)", "Least. (default: 1.0)"),
    ],
)
def test_without_the_words_of_python(given: str, expected: str):
    assert in_words(given) == expected


def test_text_has_the_name_of_what_it_is():
    assert list(described("--label STR", "Their class.")) == ["  --label CLASS           Their class."]
    assert list(described("--label STR …", "Their classes.")) == ["  --label CLASS …         Their classes."]
