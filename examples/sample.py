"""Sample digits in 10 steps instead of 1000, and save them as one sheet."""

import ddim

model = ddim.load("digits")
images = ddim.sample(model, n=16, seed=0)  # (16, 1, 8, 8) in [-1, 1]
ddim.plots.grid(images).save("digits.png")
print("digits.png")
