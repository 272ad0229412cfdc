"""A sampler is a step function: here second-order Adams–Bashforth in σ̄, which does in 20 steps what takes DDIM 50."""

import ddim
from ddim.diffusion.noise import normal
from ddim.diffusion.process import marginal
from ddim.diffusion.sampling import end


def adams_bashforth(past, abar):
    """dx̄ = ε dσ̄ from σ̄_t to σ̄_s, with ε extrapolated through the last two predictions."""
    eps = past[0].eps
    if len(past) > 1:
        before, here, there = (((1 - a) / a).sqrt() for a in (past[1].abar, past[0].abar, abar))  # σ̄, falling
        eps = eps + (there - here) / (2 * (here - before)) * (eps - past[1].eps)
    # x̄_s = x̄_t + (σ̄_s − σ̄_t) ε̃ is DDIM's step with ε̃ in ε's place, from the same x_t.
    here = past[0]
    x = marginal(here.x0, here.eps, here.abar)
    x0 = (x - (1 - here.abar).sqrt() * eps) / here.abar.sqrt()
    return marginal(x0, eps, abar)


model = ddim.load("digits")
noise = normal(0, range(64), model.shape)
exact = end(ddim.walk(model, noise, ddim.schedule.times(1000, 1000)))
for steps in (10, 20, 50):
    times = ddim.schedule.times(1000, steps, "quadratic")
    first = (end(ddim.walk(model, noise, times)) - exact).abs().mean()
    second = (end(ddim.walk(model, noise, times, adams_bashforth, order=2)) - exact).abs().mean()
    print(f"S = {steps}: mean distance to S = 1000 is {first:.4f} with DDIM, {second:.4f} with Adams–Bashforth")
