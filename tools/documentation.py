"""What the documentation site is made of beside its pages: a hook of MkDocs, and checks that tests share.

A code block with a title `FILE, NAME` quotes lines of a function or class of this repository. Each of its lines must
still be there, in this order, or the build fails: a page cannot show an equation beside code that has gone.
"""

import ast
import contextlib
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).parents[1]
QUOTE = re.compile(r'^```python title="([\w/.]+), ([\w.]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
FETCHES = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "link": "href"}
CSS_FETCHES = re.compile(r"(?:@import|url\()\s*[\"']?((?:https?:)?//[^\"')]+)")
LINKS_ONLY = {"canonical", "prev", "next", "alternate"}  # <link> that a browser does not fetch


class Gone(Exception):
    """A page quotes code that is not there."""


def source_of(path: Path, name: str) -> str:
    """The source of a function, class, `Class.method`, or value of a module. Raises Gone."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    nodes: list[ast.stmt] = ast.parse(text).body
    for part in name.split("."):
        found = [node for node in nodes if part in names_of(node)]
        if not found:
            raise Gone(f"{path.name} has no {name}")
        nodes = getattr(found[0], "body", [])
    return ast.get_source_segment(text, found[0]) or ""


def names_of(node: ast.stmt) -> list[str]:
    """The names that a statement defines."""
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign):
        return [node.target.id] if isinstance(node.target, ast.Name) else []
    return [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []


def check_quotes(markdown: str, page: str) -> int:
    """Raise Gone where a quoted line is not in the code that the block names; returns how many blocks there are."""
    blocks = QUOTE.findall(markdown)
    for file, name, quoted in blocks:
        there = iter([line.strip() for line in source_of(ROOT / "src" / file, name).splitlines()])
        for line in filter(None, map(str.strip, quoted.splitlines())):
            if line != "…" and line not in there:  # `in` an iterator goes on behind what it finds: the order counts
                raise Gone(f"{page}: {file}, {name} no longer has the line: {line}")
    return len(blocks)


def from_root(text: str) -> str:
    """A page of the repository's root, with its links as they are within docs/."""
    text = re.sub(r"\]\(docs/", "](", text)
    return re.sub(r"\[([^\]]*)\]\((?:examples|notebooks|LICENSE|CITATION)[^)]*\)", r"`\1`", text)


def commands_page() -> str:
    """The help of every verb, as it is printed."""
    from ddim.cli.main import GROUPS, main

    intro = "What `ddim VERB --help` prints. [In scripts](scripts.md) has exit statuses and places."
    lines = ["# Command line", "", intro]
    for group, verbs in GROUPS.items():
        lines += ["", f"## {group.capitalize()}"]
        for verb in verbs:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                status = main([verb, *(["digits"] if verb == "train" else []), "--help"])
            if status:
                raise Gone(f"ddim {verb} --help ends with status {status}")
            text = re.sub(r"\x1b\[[0-9;]*m", "", printed.getvalue()).rstrip()
            lines += ["", f"### {verb}", "", "```text", text, "```"]
    return "\n".join(lines)


def on_files(files, config):
    """Pages that stand at the root of the repository, or come from the program."""
    from mkdocs.structure.files import File

    for name in ("CONTRIBUTING", "CHANGELOG"):
        text = from_root((ROOT / f"{name}.md").read_text(encoding="utf-8"))
        files.append(File.generated(config, f"{name.lower()}.md", content=text))
    files.append(File.generated(config, "commands.md", content=commands_page()))
    return files


def on_page_markdown(markdown, page, config, files):
    """Fail where a page quotes code that has gone."""
    from mkdocs.exceptions import PluginError

    try:
        check_quotes(markdown, page.file.src_uri)
    except Gone as error:
        raise PluginError(str(error)) from None


def on_post_build(config):
    """Fail where a page would have the browser fetch something from another server."""
    from mkdocs.exceptions import PluginError

    if found := list(fetched_elsewhere(Path(config["site_dir"]))):
        raise PluginError("fetched from elsewhere: " + "; ".join(found[:10]))


class Fetches(HTMLParser):
    """Collects the addresses of other servers that a page makes a browser fetch."""

    def __init__(self):
        super().__init__()
        self.elsewhere: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        address = values.get(FETCHES.get(tag, ""), "") or ""
        only_a_link = tag == "link" and values.get("rel") in LINKS_ONLY
        if re.match(r"(https?:)?//", address) and not only_a_link:
            self.elsewhere.append(address)


def fetched_elsewhere(site: Path) -> Iterator[str]:
    """`page: address` of whatever the pages and style sheets of a site fetch from other servers."""
    for path in sorted(site.rglob("*.html")):
        parser = Fetches()
        parser.feed(path.read_text(encoding="utf-8"))
        yield from (f"{path.relative_to(site)}: {address}" for address in parser.elsewhere)
    for path in sorted(site.rglob("*.css")):
        found = CSS_FETCHES.findall(path.read_text(encoding="utf-8"))
        yield from (f"{path.name}: {address}" for address in found)
