# %% [markdown]
# # Evaluating honestly
# FID says how far images are from others, in the eyes of a network, from so many of them. Change one of these and it is another number.

# %%
import ddim

N = 400  # small, so that this runs in seconds; 50,000 for what is published
model = ddim.load("digits")

# %% [markdown]
# A table over the number of steps S and the noise η. It is a job: run again, it goes on where it was stopped.

# %%
found = ddim.evaluate(model, "evaluation", steps=(5, 20), eta=(0.0, 1.0), n=N)
found

# %% [markdown]
# **The floor** is the FID of as many real images: what no model should beat by much.

# %%
print(found["floor"])

# %% [markdown]
# **The number of images matters.** The same images, fewer of them: FID rises, though no image changed.

# %%
fewer = ddim.evaluate(model, "fewer", steps=(20,), eta=(0.0,), n=N // 4)
print(f"{N // 4} images: {fewer['cells'][0]['fid']:.2f}")
print(f"{N} images: {next(c['fid'] for c in found['cells'] if (c['steps'], c['eta']) == (20, 0.0)):.2f}")

# %% [markdown]
# **Do the samples copy?** A few of them, each before its nearest training images: the second figure above.
#
# **What a round trip loses**: the paper's table 2.

# %%
ddim.reconstruct(model, ["digits"], "reconstruction", steps=(10, 50), n=16)
