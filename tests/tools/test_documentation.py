"""The site: what it quotes is there, its pages are all in its menu, and it fetches nothing from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import ddim

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from documentation import Gone, check_quotes, fetched_elsewhere, from_root, source_of  # noqa: E402

PAGES = sorted((ROOT / "docs").glob("*.md"))
QUOTED = '```python title="ddim/diffusion/process.py, sigma_hat"\n{}\n```\n'


def test_every_line_that_a_page_quotes_is_in_the_code():
    counts = {page.name: check_quotes(page.read_text(encoding="utf-8"), page.name) for page in PAGES}
    assert counts["understand.md"] >= 12
    for page in PAGES:  # no block with a title escapes the check
        assert counts[page.name] == page.read_text(encoding="utf-8").count("```python title=")


@pytest.mark.parametrize(
    ("block", "gone"),
    [
        (QUOTED.format("return (1 - abar_s / abar_t).sqrt()"), "no longer has the line"),
        (QUOTED.replace("sigma_hat", "sigma_hut").format("x"), "process.py has no sigma_hut"),
        (QUOTED.replace("process.py", "processes.py").format("x"), "processes.py has no sigma_hat"),
    ],
)
def test_a_line_that_has_gone_is_refused(block: str, gone: str):
    with pytest.raises(Gone, match=gone):
        check_quotes(block, "page.md")


def test_quoted_lines_stand_in_the_order_of_the_code():
    two = '```python title="ddim/diffusion/latents.py, parts_of"\n{}\n{}\n```\n'
    first, second = "if isinstance(z, Tensor):", "return (z,)"
    assert check_quotes(two.format(first, second), "page.md") == 1
    with pytest.raises(Gone):
        check_quotes(two.format(second, first), "page.md")


def test_the_source_of_a_method_and_of_a_value():
    assert source_of(ROOT / "src/ddim/diffusion/model.py", "Model.T").startswith("def T(self)")
    assert source_of(ROOT / "src/ddim/errors.py", "LARGEST") == "LARGEST = 10**9"


def test_the_menu_names_every_page_and_the_reference_every_public_name():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    menu = set(re.findall(r"[\w-]+\.md", str(yaml.safe_load(text)["nav"])))
    assert {page.name for page in PAGES} | {"contributing.md", "changelog.md", "commands.md"} == menu
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    named = re.findall(r"^::: ddim\.(\w+)$", reference, re.MULTILINE)
    assert sorted([*named, "SOLVERS"]) == sorted(ddim.__all__)


def test_links_of_a_page_of_the_root_fit_the_site():
    assert from_root("[a](docs/a.md#b) and [c](examples/c.py)") == "[a](a.md#b) and `c`"


def test_what_a_page_fetches_is_found(tmp_path: Path):
    page = '<a href="https://a.org"></a><link rel="canonical" href="https://b.org"><img src="local.png">{}'
    (tmp_path / "page.html").write_text(page.format(""))
    (tmp_path / "style.css").write_text("@font-face { src: url(local.woff2) }")
    assert list(fetched_elsewhere(tmp_path)) == []
    (tmp_path / "page.html").write_text(page.format('<script src="//c.org/x.js"></script>'))
    (tmp_path / "style.css").write_text("@font-face { src: url('https://d.org/x.woff2') }")
    assert list(fetched_elsewhere(tmp_path)) == ["page.html: //c.org/x.js", "style.css: https://d.org/x.woff2"]


@pytest.mark.slow
def test_the_site_builds_strictly(tmp_path: Path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "site" / "understand.html").read_text(encoding="utf-8")
    assert "posterior_mean" in page
    assert "usage: ddim sample" in (tmp_path / "site" / "commands.html").read_text(encoding="utf-8")
