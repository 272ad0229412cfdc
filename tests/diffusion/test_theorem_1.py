"""Theorem 1 of the paper: for every σ there are weights γ so that J_σ = L_γ + C, and C does not depend on the network.

J_σ (11) is the bound of the family with deviations σ_t, written here from normal distributions of torch: for t > 1 the
divergence between q_σ(x_{t−1} | x_t, x_0) and q_σ(x_{t−1} | x_t, x̂_0), for t = 1 −log N(x_0; x̂_0, σ_1²). L_γ (5) is
Σ γ_t E‖ε − ε_θ‖². A network is a model of which ε is known, bent in ways of its own.
"""

import pytest
import torch
from support.oracles import Gaussian, Mixture
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ddim.diffusion import schedule
from ddim.diffusion.noise import draws, normal
from ddim.diffusion.process import from_eps, from_x0, marginal, posterior_mean, sigma

T, N, D = 30, 64, 16
ABAR = schedule.linear(T, 1e-3, 0.4)
SHAPE = (1, 4, 4)


def gaussian() -> tuple[Gaussian, Tensor]:
    u = torch.rand(2, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = Gaussian(ABAR, u[0] - 0.5, (0.1 + 0.4 * u[1]) ** 2)
    return model, model.mean + model.variance.sqrt() * normal(1, range(N), SHAPE).double()


def mixture() -> tuple[Mixture, Tensor]:
    means = torch.tensor([-0.6, 0.5], dtype=torch.float64)[:, None, None, None].expand(2, *SHAPE)
    model = Mixture(ABAR, torch.tensor([0.4, 0.6], dtype=torch.float64), means, 0.04)
    return model, means[torch.arange(N) % 2] + 0.2 * normal(1, range(N), SHAPE).double()


NETWORKS = {
    "the true ε": lambda eps, x, t: eps,
    "half of it": lambda eps, x, t: eps / 2,
    "nothing": lambda eps, x, t: torch.zeros_like(x),
    "x itself": lambda eps, x, t: x,
    "a wave": lambda eps, x, t: eps + (3 * x + t).sin(),
    "worse with t": lambda eps, x, t: eps * (1 + t / T),
}
DEVIATIONS = {
    "η = 1": lambda t: sigma(1.0, ABAR[t], ABAR[t - 1]),
    "η = 0.5": lambda t: sigma(0.5, ABAR[t], ABAR[t - 1]),
    "a tenth of all noise": lambda t: 0.1 * (1 - ABAR[t - 1]).sqrt(),
    "all noise anew": lambda t: (1 - ABAR[t - 1]).sqrt(),  # the largest σ
    "uneven": lambda t: (0.2 + 0.7 * (t % 3) / 2) * (1 - ABAR[t - 1]).sqrt(),
}
FIRST = 0.1  # σ_1: any, for what (7) has at t = 1 is the decoder's


def terms(model, data: Tensor, network, deviation) -> tuple[Tensor, Tensor]:
    """The terms of J_σ by t, and E‖ε − ε_θ‖² by t: (T,) each, over the same images and noise."""
    bound, errors = [], []
    for t, noise in zip(range(1, T + 1), draws(5, range(N), SHAPE), strict=False):
        eps = noise.double()
        x = marginal(data, eps, ABAR[t])
        told = network(model(x, t).eps, x, t)
        predicted = from_eps(x, told, ABAR[t])
        errors.append((told - eps).square().flatten(1).sum(1).mean())
        if t == 1:
            nats = -Normal(predicted.x0, FIRST).log_prob(data)
        else:
            spread = deviation(t)
            means = (posterior_mean(from_x0(x, x0, ABAR[t]), ABAR[t - 1], spread) for x0 in (data, predicted.x0))
            nats = kl_divergence(*(Normal(mean, spread) for mean in means))
        bound.append(nats.flatten(1).sum(1).mean())
    return torch.stack(bound), torch.stack(errors)


@pytest.mark.parametrize("kind", [gaussian, mixture])
@pytest.mark.parametrize("name", DEVIATIONS)
def test_the_bound_is_the_weighted_loss_and_a_constant_whatever_the_network(kind, name: str):
    """γ_t is read off two networks, without a formula; then J_σ − L_γ is the same number for all the others, while J_σ
    and L_γ themselves differ by much."""
    model, data = kind()
    found = {key: terms(model, data, network, DEVIATIONS[name]) for key, network in NETWORKS.items()}
    one, other = found["nothing"], found["half of it"]
    gamma = (one[0] - other[0]) / (one[1] - other[1])  # (T,)
    assert (gamma > 0).all()
    bounds = torch.stack([bound.sum() for bound, _ in found.values()])
    constants = torch.stack([(bound - gamma * error).sum() for bound, error in found.values()])
    size = bounds.abs().max()
    assert constants.std() < 1e-9 * size
    assert bounds.std() > 0.05 * size
    # It is that of the decoder's Gaussian alone: no divergence is left where x̂_0 is x_0.
    expected = D * Normal(0.0, FIRST).log_prob(torch.zeros(())).double()
    torch.testing.assert_close(constants.mean(), -expected, rtol=1e-6, atol=1e-6 * size.item())


@pytest.mark.parametrize("name", DEVIATIONS)
def test_the_weights_are_the_papers(name: str):
    """γ_t is half the square of what ε moves the mean of (7) by, over σ_t². The proof (appendix B) prints 1/(2 d σ_t²
    α_t), which leaves out factors that are positive and of t alone."""
    model, data = gaussian()
    one, other = (terms(model, data, NETWORKS[key], DEVIATIONS[name]) for key in ("x itself", "a wave"))
    gamma = (one[0] - other[0]) / (one[1] - other[1])
    expected = [(1 / ABAR[1] - 1) / (2 * FIRST**2)]
    for t in range(2, T + 1):
        spread = DEVIATIONS[name](t)
        # By how much the mean of x_{t−1} moves with x̂_0 at a given x_t, and x̂_0 with ε.
        by_x0 = ABAR[t - 1].sqrt() - ((1 - ABAR[t - 1] - spread**2).clamp(min=0) * ABAR[t] / (1 - ABAR[t])).sqrt()
        expected.append((by_x0 / spread) ** 2 * (1 / ABAR[t] - 1) / 2)
    torch.testing.assert_close(gamma, torch.stack(expected), rtol=1e-6, atol=1e-9)
