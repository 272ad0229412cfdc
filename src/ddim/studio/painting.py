"""An image on which a mask is painted, with the pointer or the keys, in the image's own pixels."""

from html import escape

import torch
from torch import Tensor

from ddim.errors import InputError
from ddim.studio import render

LABEL = "Paint what is to be made anew: with the pointer, or with the arrow keys and the space bar"


def easel(image: Tensor) -> str:
    """The image (C, H, W) with a sheet to paint on above it."""
    height, width = image.shape[-2:]
    size = f'width="{width}" height="{height}" data-brush="{max(1, round(max(height, width) / 12))}"'
    canvas = f'<canvas {size} tabindex="0" role="img" aria-label="{escape(LABEL)}"></canvas>'
    return f'<div class="easel">{render.img(image, "the image")}{canvas}</div>'


def mask_of(text: str, shape: tuple[int, int, int]) -> Tensor:
    """A mask (H, W) of bool from the page's zeros and ones. Raises InputError where nothing is painted."""
    _, height, width = shape
    if not text or "1" not in text:
        raise InputError("paint on the image what is to be made anew")
    if len(text) != height * width or set(text) - {"0", "1"}:
        raise InputError("the mask is of another image: paint it again")
    return torch.tensor([bit == "1" for bit in text]).view(height, width)


def file_of(mask: Tensor) -> bytes:
    """The mask as the file that `ddim inpaint --mask` takes: white is made anew."""
    return render.png((mask[None] * 255).to(torch.uint8))


# Draws on the canvas in the page; tells the mask, row by row, when a stroke has ended.
PAINT = """
let stroke = null;
const of = event => event.target.closest && event.target.closest('canvas');
const state = canvas => canvas.state ??= {mask: new Uint8Array(canvas.width * canvas.height), x: 0, y: 0, keys: false};
function draw(canvas) {
  const s = state(canvas), pen = canvas.getContext('2d');
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = 'rgba(37, 99, 235, 0.75)';
  s.mask.forEach((on, k) => on && pen.fillRect(k % canvas.width, Math.floor(k / canvas.width), 1, 1));
  if (s.keys) { pen.fillStyle = 'rgba(250, 204, 21, 0.9)'; pen.fillRect(s.x, s.y, 1, 1); }
}
function dab(canvas, x, y, on) {
  const s = state(canvas), size = Number(canvas.dataset.brush), low = Math.floor((size - 1) / 2);
  for (let i = y - low; i < y - low + size; i++) for (let j = x - low; j < x - low + size; j++)
    if (i >= 0 && j >= 0 && i < canvas.height && j < canvas.width) s.mask[i * canvas.width + j] = on;
  draw(canvas);
}
function at(canvas, event) {
  const box = canvas.getBoundingClientRect();
  return [Math.floor((event.clientX - box.left) / box.width * canvas.width),
          Math.floor((event.clientY - box.top) / box.height * canvas.height)];
}
const tell = canvas => trigger('paint', {mask: state(canvas).mask.join(''), at: performance.now()});
element.addEventListener('pointerdown', event => {
  const canvas = of(event);
  if (!canvas) return;
  const [x, y] = at(canvas, event), s = state(canvas);
  stroke = {canvas, x, y, on: s.mask[y * canvas.width + x] ? 0 : 1};
  s.keys = false;
  event.preventDefault();
  canvas.focus({preventScroll: true});
  canvas.setPointerCapture(event.pointerId);
  dab(canvas, x, y, stroke.on);
});
element.addEventListener('pointermove', event => {
  if (!stroke) return;
  const [x, y] = at(stroke.canvas, event), from = {...stroke};  // a fast pointer is seen at a few places only
  const far = Math.max(Math.abs(x - from.x), Math.abs(y - from.y));
  const between = (a, b, k) => Math.round(a + (b - a) * k / far);
  for (let k = 1; k <= far; k++) dab(from.canvas, between(from.x, x, k), between(from.y, y, k), from.on);
  Object.assign(stroke, {x, y});
});
for (const end of ['pointerup', 'pointercancel']) element.addEventListener(end, () => {
  if (stroke) tell(stroke.canvas);
  stroke = null;
});
element.addEventListener('keydown', event => {
  const ways = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
  const canvas = of(event), way = ways[event.key];
  if (!canvas || !(way || event.key === ' ')) return;
  event.preventDefault();
  const s = state(canvas);
  s.keys = true;
  if (way) {
    s.x = Math.min(canvas.width - 1, Math.max(0, s.x + way[0]));
    s.y = Math.min(canvas.height - 1, Math.max(0, s.y + way[1]));
    draw(canvas);
  } else { dab(canvas, s.x, s.y, s.mask[s.y * canvas.width + s.x] ? 0 : 1); tell(canvas); }
});
"""
