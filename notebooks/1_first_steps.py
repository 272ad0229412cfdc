# %% [markdown]
# # First steps
# A model that comes along, sampled in a few ways.

# %%
import ddim

model = ddim.load("digits")
model

# %% [markdown]
# Sixteen images. The same seed gives the same images, whatever the number or the batch size.

# %%
ddim.show(ddim.sample(model, n=16, seed=0))

# %% [markdown]
# One noise a column, in more and more steps: DDIM maps a noise to an image, and few steps show which.

# %%
counts = (3, 5, 10, 50)
rows = [ddim.sample(model, n=8, seed=1, steps=S, solver="ddim") for S in counts]
ddim.show(rows, [f"{S} steps" for S in counts])

# %% [markdown]
# DDPM takes other ways with the same network: the noise in each step makes another digit.

# %%
ddim.show([ddim.sample(model, n=8, seed=1, steps=50, eta=eta) for eta in (0, 0.5, 1)], ["η = 0", "η = 0.5", "η = 1"])

# %% [markdown]
# What happens on the way: `walk` is the one loop. Above x_t, below the image that the network predicts from it.

# %%
import torch

x = ddim.noise.normal(3, [0], model.shape)
moments = list(ddim.walk(model, x, ddim.schedule.times(model.T, 10)))
ddim.show(
    [torch.cat([m.x for m in moments]).detach(), torch.cat([m.prediction.x0 for m in moments]).detach()], ["x_t", "x0"]
)

# %% [markdown]
# And to files.

# %%
ddim.save_images(ddim.sample(model, n=4, seed=2), "first-steps")
