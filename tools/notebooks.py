"""Writes the notebooks from plain scripts: python tools/notebooks.py

A notebook is a script in notebooks/ whose cells begin with `# %%`, or `# %% [markdown]` for text. The .ipynb beside it
is written from it, without outputs, so that changes can be read; `--check` says whether they agree.
"""

import re
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "notebooks"


def cells_of(script: str) -> list[tuple[str, str]]:
    """The cells of a script: ("code" or "markdown", text)."""
    found = []
    for part in re.split(r"^# %%", script, flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        if "[markdown]" in head:
            found.append(("markdown", re.sub(r"^# ?", "", body, flags=re.MULTILINE).strip()))
        else:
            found.append(("code", body.strip()))
    return found


def notebook_of(script: str):
    """A script as a notebook; the names of its cells are their numbers, so that nothing in it is by chance."""
    import nbformat

    make = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    made = [make[kind](text, id=f"cell-{i}") for i, (kind, text) in enumerate(cells_of(script))]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.v4.new_notebook(cells=made, metadata=kernel)


def main() -> int:
    import nbformat

    differ = []
    for path in sorted(FOLDER.glob("*.py")):
        text = nbformat.writes(notebook_of(path.read_text(encoding="utf-8"))) + "\n"
        target = path.with_suffix(".ipynb")
        if "--check" not in sys.argv:
            target.write_text(text, encoding="utf-8")
        elif not target.exists() or target.read_text(encoding="utf-8") != text:
            differ.append(target.name)
    if differ:
        print(f"not of their scripts: {', '.join(differ)}; run python tools/notebooks.py")
    return len(differ)


if __name__ == "__main__":
    sys.exit(main())
