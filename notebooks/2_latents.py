# %% [markdown]
# # Latents
# Without noise, sampling is a map from latents to images: it can be walked backwards, and between.

# %%
import torch

import ddim

model = ddim.load("digits")
digits = ddim.data.find("digits", 8, 1)
images = torch.stack([ddim.data.to_float(digits[i]) for i in range(8)])  # (8, 1, 8, 8) in [-1, 1], real ones
ddim.show(images, columns=8)

# %% [markdown]
# There and back. `ddim` errs, less in more steps; `exact` returns the images to rounding.

# %%
steps = 50
z = ddim.encode(model, images, steps=steps)
pair = ddim.encode(model, images, steps=steps, solver="exact")
back, same = ddim.decode(model, z, steps=steps), ddim.decode(model, pair, steps=steps)
print(f"largest error: ddim {(back - images).abs().max():.2g}, exact {(same - images).abs().max():.2g}")
ddim.show([images, back, same], ["images", "ddim", "exact"])

# %% [markdown]
# Latents look like noise. Are they? About: their deviation is below 1, for the encoder errs and blank pixels carry little.

# %%
print(f"mean {z.mean():.2f}, deviation {z.std():.2f}")
ddim.show(z.clamp(-2, 2) / 2, columns=8)

# %% [markdown]
# From one latent to another along the sphere, and straight. The straight way leaves the sphere: its middle is too plain.

# %%
a = torch.linspace(0, 1, 9)
round_way = ddim.slerp(z[:1], z[3:4], a)
straight = (1 - a)[:, None, None, None] * z[:1] + a[:, None, None, None] * z[3:4]
ddim.show([ddim.decode(model, way, steps=steps) for way in (round_way, straight)], ["slerp", "straight"])

# %% [markdown]
# Between four latents.

# %%
corners = ddim.slerp_grid(z[:4], 5, 5)
ddim.show([ddim.decode(model, row, steps=10) for row in corners])

# %% [markdown]
# Directions: the first principal component of many latents, added to one.

# %%
many = ddim.noise.normal(0, range(200), model.shape)
made = ddim.decode(model, many, steps=10).flatten(1)
bright = made.mean(1)
# The direction of the latents along which brightness grows: least squares.
direction = torch.linalg.lstsq(many.flatten(1), (bright - bright.mean())[:, None]).solution.view(1, *model.shape)
direction = direction / direction.square().mean().sqrt()
ddim.show(
    ddim.decode(model, z[:1] + torch.linspace(-1.5, 1.5, 9)[:, None, None, None] * direction, steps=steps), columns=9
)
