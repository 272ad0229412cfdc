"""Pictures to latents and back; then the path between two of them."""

import torch

import ddim

model = ddim.load("digits")
images = ddim.sample(model, n=2, steps=50, seed=3)
z = ddim.encode(model, images, steps=200)
back = ddim.decode(model, z, steps=200)
error = ((back - images) / 2).square().mean().item()  # on [0, 1], as the paper's table 2
path = ddim.decode(model, ddim.slerp(z[:1], z[1:], torch.linspace(0, 1, 11)), steps=50)
ddim.plots.rows([path]).save("path.png")
print(f"reconstruction error {error:.2g}; path.png")
