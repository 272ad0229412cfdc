# %% [markdown]
# # A solver of your own, in ten lines, against exact solutions
# A model is anything with `abar` that answers (x, t) with a `Prediction`. Of Gaussian data the best answer is known in closed form,
# and so is where the ODE leads.

# %%
import torch

import ddim
from ddim.diffusion.process import from_eps, marginal, sigma_bar
from ddim.diffusion.schedule import level


class Gaussian:
    """Data N(0.4, 0.3²), known exactly."""

    abar = ddim.schedule.linear()
    mean, variance = 0.4, 0.09

    def __call__(self, x, t):
        here = level(self.abar, t, x)
        asked = self.abar[1] if here == 1 else here
        eps = (1 - asked).sqrt() * (x - asked.sqrt() * self.mean) / (asked * self.variance + 1 - asked)
        return from_eps(x, eps, here)

    def end(self, x, t, s):
        """Where the ODE carries x from t to s: the place in standard deviations is kept."""
        a, b = self.abar[t], self.abar[s]
        spread = ((b * self.variance + 1 - b) / (a * self.variance + 1 - a)).sqrt()
        return b.sqrt() * self.mean + (x - a.sqrt() * self.mean) * spread


# %% [markdown]
# The solver: Adams–Bashforth of second order in σ̄. `past` holds the last predictions, newest first.


# %%
@ddim.multistep(2)
def second_order(x, past, abar_s):
    now, eps = past[0], past[0].eps
    if len(past) > 1:
        h, d = sigma_bar(abar_s) - sigma_bar(now.abar), sigma_bar(now.abar) - sigma_bar(past[1].abar)
        eps = eps + h / (2 * d) * (eps - past[1].eps)
    x0 = (x - (1 - now.abar).sqrt() * eps) / now.abar.sqrt()
    return marginal(x0, eps, abar_s)


# %% [markdown]
# Its error between two times, on grids that are even in σ̄ and get finer. Twice the steps: half the error for DDIM, a quarter for ours.

# %%
model, x = Gaussian(), torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None, None, None]
first, last = 500, 100
exact = model.end(x, first, last)


def error(solver, steps):
    ends = [sigma_bar(model.abar[t]) for t in (first, last)]
    levels = 1 / (1 + torch.linspace(*ends, steps + 1, dtype=torch.float64) ** 2)
    times = [first, *(ddim.schedule.time_at(model.abar, a) for a in levels[1:-1]), last]
    for moment in ddim.walk(model, x, times, solver):
        pass
    return (moment.x - exact).abs().max().item()


errors = {name: [error(solver, S) for S in (20, 40, 80)] for name, solver in (("ddim", "ddim"), ("ours", second_order))}
for name, found in errors.items():
    print(f"{name:5}", *(f"{e:.1e}" for e in found), "  order", f"{torch.tensor(found[1] / found[2]).log2():.2f}")

# %% [markdown]
# And on a network.

# %%
digits = ddim.load("digits")
ways = {"ddim": "ddim", "ours": second_order}
ddim.show([ddim.sample(digits, n=8, steps=8, solver=way, spacing="quadratic") for way in ways.values()], list(ways))
