"""Images and words as HTML: sheets of images to choose from, rows with labels, notes, and the lines to copy.

Each image is a PNG of its own size inside the page, byte for byte the file that the library writes; the browser
enlarges it without smoothing.
"""

from base64 import b64encode
from collections.abc import Sequence
from html import escape as escaped
from io import BytesIO

from PIL import Image
from torch import Tensor

from ddim.plots.sheets import to_pil
from ddim.studio.recipes import Recipe


def png(image: Tensor | Image.Image) -> bytes:
    """(C, H, W) in [−1, 1], or uint8, or an image of Pillow's -> the bytes of the PNG file that `ddim` writes."""
    buffer = BytesIO()
    (to_pil(image) if isinstance(image, Tensor) else image).save(buffer, "png")
    return buffer.getvalue()


def url(content: bytes, kind: str = "image/png") -> str:
    """Bytes as an address that holds them."""
    return f"data:{kind};base64,{b64encode(content).decode()}"


def img(image: Tensor | Image.Image | bytes, text: str = "") -> str:
    """An <img> with a description; bytes are those of a PNG file."""
    return f'<img src="{url(image if isinstance(image, bytes) else png(image))}" alt="{escaped(text)}">'


def latent(z: Tensor) -> Tensor:
    """A latent (C, H, W) as an image: three deviations are black and white."""
    return (z / 3).clamp(-1, 1)


def columns_of(n: int) -> int:
    """How many columns a sheet of n has: about square on a phone, wider than high on a screen."""
    return next((c for c in (4, 6, 8) if c * c >= n), 8) if n > 3 else max(n, 1)


def sheet(images: Sequence[Tensor], chosen: Sequence[int] = (), columns: int | None = None, still: bool = False) -> str:
    """(N, C, H, W) as a grid of buttons, numbered from 0, of which some are chosen; `still`, as plain images."""
    cells = []
    for k, image in enumerate(images):
        shown = img(image, f"image {k}")
        if not still:
            mark = (
                f'<span aria-hidden="true">{list(chosen).index(k) + 1}</span>'
                if k in chosen and len(chosen) > 1
                else ""
            )
            pressed = str(k in chosen).lower()
            how = f'type="button" data-index="{k}" aria-pressed="{pressed}" title="image {k}"'
            shown = f"<button {how}>{shown}{mark}</button>"
        cells.append(shown)
    return f'<div class="sheet" style="--columns: {columns or columns_of(len(images))}">{"".join(cells)}</div>'


def rows(lines: Sequence[tuple[str, Sequence[Tensor | None]]], heads: Sequence[str] = ()) -> str:
    """Rows of images with a label before each; None leaves its place empty. Labels may hold HTML."""
    top = "".join(f"<th scope='col'>{head}</th>" for head in heads)
    body = "".join(
        f"<tr><th scope='row'>{label}</th>" + "".join(f"<td>{cell(image)}</td>" for image in images) + "</tr>"
        for label, images in lines
    )
    head = f"<thead><tr><th></th>{top}</tr></thead>" if heads else ""
    return f'<div class="wide"><table class="rows">{head}{body}</table></div>'


def cell(image: Tensor | None) -> str:
    return '<span class="empty"></span>' if image is None else img(image)


def figure(image: Tensor | Image.Image | bytes, caption: str = "", kind: str = "large") -> str:
    """One image with its caption, which may hold HTML."""
    return f'<figure class="{kind}">{img(image, caption)}<figcaption>{caption}</figcaption></figure>'


def download(content: bytes, name: str, text: str, kind: str = "image/png") -> str:
    """A link that saves bytes which are in the page already."""
    return f'<a class="download" download="{escaped(name)}" href="{url(content, kind)}">{escaped(text)}</a>'


def table(rows: Sequence[Sequence[object]], heads: Sequence[str]) -> str:
    """Numbers in columns."""
    top = "".join(f"<th scope='col'>{head}</th>" for head in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table class="numbers"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def note(text: str = "", done: float | None = None) -> str:
    """A line on how it goes; done: the part of the work that is done, 0 … 1, as a bar."""
    bar = "" if done is None else f'<progress max="1" value="{done:.4f}"></progress>'
    return f'<div class="note" role="status">{bar}<span>{text}</span></div>'


def alert(text: str) -> str:
    """A line on what cannot be done."""
    return f'<div class="note alert" role="alert"><span>{escaped(text)}</span></div>'


def recipe(lines: Recipe | None, title: str = "The same, exactly") -> str:
    """The lines that give what is shown, each block with a button that copies it."""
    if lines is None:
        return ""
    blocks = [block("In a terminal", "command", lines.command), block("In Python", "python", lines.python)]
    return f'<section class="recipe"><h3>{title}</h3>{"".join(blocks)}</section>'


def block(title: str, kind: str, text: str) -> str:
    copy = '<button type="button" data-copy>Copy</button>'
    pre = f'<pre class="{kind}" tabindex="0">{escaped(text)}</pre>'
    return f'<div class="block"><div class="head"><span>{title}</span>{copy}</div>{pre}</div>'


# What the buttons in these do; `element` and `trigger` are Gradio's.
CHOOSE = """element.addEventListener('click', event => {
  const button = event.target.closest('[data-index]');
  if (button) trigger('select', {index: Number(button.dataset.index)});
})"""
COPY = """element.addEventListener('click', event => {
  const button = event.target.closest('[data-copy]');
  if (!button) return;
  const pre = button.closest('.block').querySelector('pre'), range = document.createRange();
  range.selectNodeContents(pre);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  const said = () => { button.textContent = 'Copied'; setTimeout(() => button.textContent = 'Copy', 1500); };
  if (navigator.clipboard) navigator.clipboard.writeText(pre.textContent).then(said);
  else if (document.execCommand('copy')) said();
})"""
