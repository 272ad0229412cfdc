"""Images to latents and back, about and exactly; then the path between two of them."""

import torch

import ddim

model = ddim.load("digits")
images = ddim.sample(model, n=2, steps=50, seed=3)
z = ddim.encode(model, images, steps=200)
back = ddim.decode(model, z, steps=200)  # errs as 1/steps
pair = ddim.encode(model, images, steps=200, solver="exact")
same = ddim.decode(model, pair, steps=200)
path = ddim.decode(model, ddim.slerp(z[:1], z[1:], torch.linspace(0, 1, 11)), steps=50)
ddim.plots.rows([path]).save("path.png")
print(f"largest error {(back - images).abs().max():.2g}, by solver exact {(same - images).abs().max():.2g}; path.png")
