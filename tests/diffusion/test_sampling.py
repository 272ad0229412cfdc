import tracemalloc
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, UniPCMultistepScheduler
from support.models import tiny_model
from support.oracles import Gaussian, Mixture

import ddim
from ddim.diffusion import schedule
from ddim.diffusion.clipping import Clip, Clipped
from ddim.diffusion.model import Model
from ddim.diffusion.noise import draws, normal
from ddim.diffusion.process import from_x0
from ddim.diffusion.solvers import SOLVERS, check_eta, multistep, with_noise
from ddim.diffusion.walk import last
from ddim.errors import InputError

ABAR = schedule.linear()
SHAPE = (2, 1, 4, 4)


def gaussian(seed: int = 0) -> Gaussian:
    """Means in [−0.6, 0.6], deviations in [0.05, 0.5], one of each a pixel."""
    u = torch.rand(2, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return Gaussian(ABAR, 1.2 * u[0] - 0.6, (0.05 + 0.45 * u[1]) ** 2)


def x_T(n: int, seed: int = 0) -> torch.Tensor:
    return normal(seed, range(n), (1, 4, 4)).double()


def slope(steps: list[int], errors: list[float]) -> float:
    return np.polyfit(np.log(steps), np.log(errors), 1)[0]


@pytest.mark.parametrize("spacing", ["linear", "quadratic"])
def test_ddim_converges_to_the_ode_with_order_one(spacing: str):
    """Global error ∝ S⁻¹ against the closed-form flow. T is large, so that the grids are smooth at every S.

    The flow is followed from T to T/10: near the data σ̄ has no first step small enough for an asymptotic law.
    """
    T = 32000
    model = Gaussian(schedule.linear(T, 1e-4 / 32, 0.02 / 32), gaussian().mean, gaussian().variance)
    x, end = x_T(8), T // 10
    exact = model.flow(x, T, end)
    steps = [40, 80, 160, 320, 640]
    errors = []
    for S in steps:
        if spacing == "linear":
            grid = [end + (T - end) * i // S for i in range(S, -1, -1)]
        else:
            root = np.linspace(end**0.5, T**0.5, S + 1)
            grid = [int(r**2) for r in root[::-1]]
            grid[0], grid[-1] = T, end
        errors.append((last(ddim.walk(model, x, grid)).x - exact).norm().item())
    assert -1.1 < slope(steps, errors) < -0.9, errors


def test_full_grid_reaches_the_ode_solution():
    model, x = gaussian(), x_T(8)
    reached = last(ddim.walk(model, x, schedule.times(1000, 1000))).x
    assert (reached - model.flow(x, 1000, 0)).abs().max() < 0.03


@pytest.mark.parametrize(("eta", "steps"), [(0.0, 1000), (0.5, 1000), (1.0, 1000), ("hat", 1000)])
def test_samples_have_the_datas_mean_and_covariance(eta, steps: int):
    model, n = gaussian(), 4000
    grid = schedule.times(1000, steps)
    x = torch.randn(n, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    step = with_noise("ddim", eta, "small", iter_normal(x))
    x = last(ddim.walk(model, x, grid, step)).x.flatten(1)
    deviation = model.variance.sqrt().flatten()
    z = (x - model.mean.flatten()) / deviation
    assert z.mean(0).abs().max() < 0.1  # a standard error is 0.016; discretisation takes the rest
    covariance = torch.cov(z.T)
    assert (covariance - torch.eye(16)).abs().max() < 0.12


def iter_normal(like: torch.Tensor, seed: int = 7):
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn(like.shape, dtype=like.dtype, generator=generator)


@pytest.mark.parametrize(("eta", "steps"), [(0.0, 50), (1.0, 200), ("hat", 500)])
def test_mixture_weights_come_out_right(eta, steps: int):
    """Three separated modes of weight 0.5, 0.3 and 0.2: 6,000 samples land in that proportion."""
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    means = torch.zeros(3, 1, 2, 2, dtype=torch.float64)
    means[0] += torch.tensor([[0.8, -0.4], [0.0, 0.5]])
    means[1] -= torch.tensor([[0.6, 0.3], [0.7, 0.0]])
    means[2] += torch.tensor([[-0.4, 0.9], [0.1, -0.9]])
    model, n = Mixture(ABAR, weights, means, 0.02), 6000
    x = torch.randn(n, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    step = with_noise("ddim", eta, "small", iter_normal(x))
    x = last(ddim.walk(model, x, schedule.times(1000, steps), step)).x
    share = model.nearest(x).bincount(minlength=3) / n
    assert (share - weights).abs().max() < 0.03, share  # a standard error is 0.0065


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("clip", [False, True])
def test_steps_are_diffusers_ddim(eta: float, clip: bool):
    """DDIMScheduler on the same grid, the same ε and the same noise. It computes in float32, hence 1e-5."""
    scheduler = DDIMScheduler(1000, clip_sample=clip, set_alpha_to_one=True)
    scheduler.set_timesteps(20)
    model = tiny_model()
    network = Clipped(model) if clip else model
    grid = schedule.times(1000, 20, "official-linear")
    assert [t - 1 for t in grid[:-1]] == scheduler.timesteps.tolist()
    noises = draws(0, range(2), model.shape)
    x = theirs = normal(0, range(2), model.shape)
    solver = with_noise("ddim", eta, "small", draws(0, range(2), model.shape))
    for (ours, _, _), t in zip(ddim.walk(network, x, grid, solver), scheduler.timesteps, strict=True):
        eps = model.network(theirs, t.expand(2))
        args = {"variance_noise": next(noises)} if eta and t > 0 else {}
        theirs = scheduler.step(eps, t, theirs, eta=eta, use_clipped_model_output=clip, **args).prev_sample
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


class Knows:
    """A model that knows x_0."""

    abar = ABAR

    def __init__(self, x0: torch.Tensor):
        self.x0 = x0

    def __call__(self, x, t):
        return from_x0(x, self.x0, ABAR[t])


def step(solver, x0: torch.Tensor, x: torch.Tensor, t: int, s: int) -> torch.Tensor:
    """One step of a solver, x_0 being known."""
    return solver.step(Knows(x0), x, t, s, None)[0]


def test_a_step_is_diffusers_ddim_in_float64():
    scheduler = DDIMScheduler(1000, clip_sample=False)
    scheduler.alphas_cumprod = ABAR[1:]
    scheduler.final_alpha_cumprod = ABAR[0]
    scheduler.set_timesteps(50)
    x0, x, z = torch.randn(3, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for t, s in pairwise(schedule.times(1000, 50, "official-linear")):
        prediction = from_x0(x, x0, ABAR[t])
        for eta in (0.0, 0.7, 1.0):
            theirs = scheduler.step(prediction.eps, t - 1, x, eta=eta, variance_noise=z).prev_sample
            ours = step(with_noise("ddim", eta, "small", iter([z])), x0, x, t, s)
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("eta", "variance"), [(1.0, "fixed_small"), ("hat", "fixed_large")])
def test_all_levels_are_diffusers_ddpm(eta, variance: str):
    """η = 1 and σ̂ over all T levels are DDPMScheduler's two variances, clipping and all."""
    T = 300
    scheduler = DDPMScheduler(T, clip_sample=True, variance_type=variance)
    model = replace(tiny_model(), abar=schedule.linear(T))
    x = theirs = normal(0, range(2), model.shape)
    noises, grid = draws(1, range(2), model.shape), schedule.times(T, T)
    ours = ddim.walk(Clipped(model), x, grid, with_noise("ddim", eta, "small", draws(1, range(2), model.shape)))
    for k, (x, _, _) in zip(range(T - 1, -1, -1), ours, strict=True):
        abar_t, abar_s = scheduler.alphas_cumprod[k], scheduler.alphas_cumprod[k - 1] if k else torch.tensor(1.0)
        alpha = abar_t / abar_s
        x0 = ((theirs - (1 - abar_t).sqrt() * model.network(theirs, torch.tensor([k, k]))) / abar_t.sqrt()).clamp(-1, 1)
        theirs = (abar_s.sqrt() * (1 - alpha) * x0 + alpha.sqrt() * (1 - abar_s) * theirs) / (1 - abar_t)
        if k:
            theirs = theirs + scheduler._get_variance(torch.tensor(k)).sqrt() * next(noises)
    torch.testing.assert_close(x, theirs, rtol=1e-3, atol=1e-4)


def test_the_last_step_adds_no_noise():
    x0, x = torch.rand(2, *SHAPE).double()
    for eta in (1.0, "hat"):
        solver = with_noise("ddim", eta, "small", iter(()))  # asking for noise would end it
        torch.testing.assert_close(step(solver, x0, x, 20, 0), x0)


def test_eta_above_one_is_taken_while_it_is_valid():
    """1−ᾱ_s−σ² ≥ 0 allows a little more than 1: the bound is where the radicand vanishes."""
    check_eta(ABAR, [1000, 0], 50.0)  # into the data σ(η) = 0, whatever η
    times = [500, 20, 0]
    with pytest.raises(InputError, match=r"at most \d\.\d{4}, by its step 500 -> 20") as told:
        check_eta(ABAR, times, 3.0)
    bound = float(str(told.value).split("at most ")[1].split(",")[0])
    expected = ((1 - ABAR[500]) / (1 - ABAR[500] / ABAR[20])) ** 0.5
    assert bound > 1
    assert abs(bound - expected) < 1e-4
    for eta, valid in ((bound - 1e-3, True), (bound + 1e-3, False)):
        solver = with_noise("ddim", eta, "small", iter([torch.zeros(1)]))
        x0, x = torch.zeros(1).double(), torch.ones(1).double()
        assert step(solver, x0, x, 500, 20).isfinite().item() is valid
    check_eta(ABAR, times, bound - 1e-3)
    with pytest.raises(InputError):
        check_eta(ABAR, times, bound + 1e-3)


@pytest.mark.parametrize("eta", [-0.1, float("nan"), float("inf"), "hats"])
def test_eta_out_of_range(eta):
    with pytest.raises(InputError, match="eta must be 0 or more"):
        check_eta(ABAR, [1000, 0], eta)


@pytest.mark.parametrize("eta", [0.0, 1.0, "hat"])
def test_pictures_do_not_depend_on_the_batch_size(model, eta):
    """Same noise bitwise (test_noise); pixels to rounding."""
    whole = ddim.sample(model, n=64, steps=10, eta=eta, seed=4, batch_size=64)
    for size in (1, 7):
        torch.testing.assert_close(
            ddim.sample(model, n=64, steps=10, eta=eta, seed=4, batch_size=size), whole, rtol=0, atol=1e-4
        )
    torch.testing.assert_close(ddim.sample(model, n=3, steps=10, eta=eta, seed=4), whole[:3], rtol=0, atol=1e-4)
    assert (ddim.sample(model, n=3, steps=10, eta=eta, seed=5) - whole[:3]).abs().mean() > 0.1


def test_sample_is_the_walk_clamped(model):
    noise = normal(9, range(3), model.shape)
    grid = [800, 500, 100, 0]
    expected = last(ddim.walk(model, noise, grid)).x.clamp(-1, 1)
    assert torch.equal(ddim.sample(model, noise=noise, times=grid, clip=False, solver="ddim"), expected)
    assert expected.dtype == torch.float32


def test_clipping_derives_the_noise_again(model):
    x = normal(0, range(4), model.shape) * 3
    for t in (1000, 500, 3):
        prediction, free = Clipped(model)(x, t), model(x, t)
        assert free.x0.abs().max() > 1
        assert prediction.x0.abs().max() <= 1
        back = ABAR[t].sqrt() * prediction.x0 + (1 - ABAR[t]).sqrt() * prediction.eps
        torch.testing.assert_close(back, x, rtol=1e-5, atol=1e-5)


def test_any_callable_with_abar_is_a_model():
    x = x_T(2)
    grid = schedule.times(1000, 10)
    assert [p.abar for _, p, _ in ddim.walk(gaussian(), x, grid)] == [ABAR[t] for t in grid[:-1]]


def test_memory_does_not_grow_with_the_number_of_steps():
    """Python-side peak of 1000 steps over that of 10: tensors kept would show as objects, one or more a step."""
    model, x = gaussian(), x_T(2)

    def peak(steps: int) -> int:
        last(ddim.walk(model, x, schedule.times(1000, steps)))
        tracemalloc.start()
        walked = ddim.walk(model, x, schedule.times(1000, steps))
        for _ in walked:
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak(1000) - peak(10) < 100 * 1000  # the grid itself; a tensor object a step would be 5 times that


def test_a_multistep_formula_is_shown_the_last_predictions(model):
    seen = []

    @multistep(3)
    def shown(x, past, abar):
        seen.append(len(past))
        return SOLVERS["ddim"].formula(x, past, abar)

    assert (shown.name, shown.order) == ("shown", 3)
    noise = normal(0, [0], model.shape)
    made = last(ddim.walk(model, noise, schedule.times(1000, 5), shown)).x
    assert seen == [1, 2, 3, 3, 3]
    assert torch.equal(made, last(ddim.walk(model, noise, schedule.times(1000, 5))).x)


def test_unipc_is_diffusers_unipc():
    """UniPCMultistepScheduler (order 2, bh2) on the same levels, with the same network, in float64."""
    scheduler = UniPCMultistepScheduler(1000, solver_order=2, solver_type="bh2", final_sigmas_type="zero")
    model = Model(tiny_model().network.double(), ABAR, (1, 8, 8))
    for S in (5, 12):
        grid = schedule.times(1000, S)
        scheduler.set_timesteps(S)
        sigmas = [*((1 - ABAR[t]).div(ABAR[t]).sqrt().item() for t in grid[:-1]), 0.0]
        scheduler.sigmas = torch.tensor(sigmas, dtype=torch.float64)
        scheduler.timesteps = torch.tensor([t - 1 for t in grid[:-1]])
        x = theirs = normal(0, range(2), model.shape).double()
        for t in scheduler.timesteps:
            theirs = scheduler.step(model.network(theirs, t.expand(2)), t, theirs).prev_sample
        torch.testing.assert_close(last(ddim.walk(model, x, grid, "unipc")).x, theirs, rtol=0, atol=1e-9)


def test_a_time_per_image_is_each_images_own_walk():
    """Whole and broken times side by side, in one batch, into the data at different steps."""
    model = Model(tiny_model().network.double(), ABAR, (1, 8, 8))
    x = normal(0, range(3), model.shape).double()
    paths = [[1000, 400.5, 0], [700, 300, 20.25], [250.75, 0.5, 0]]
    for name in ("ddim", "heun", "unipc", "exact"):
        together = last(ddim.walk(model, x, [torch.tensor(times) for times in zip(*paths, strict=True)], name)).x
        for k, path in enumerate(paths):
            if name == "unipc" and k == 1:
                continue  # a step that takes one image into the data is DDIM's for all
            alone = last(ddim.walk(model, x[k : k + 1], path, name)).x
            torch.testing.assert_close(together[k : k + 1], alone, rtol=0, atol=1e-9)


def test_noise_with_a_time_per_image():
    """The image that reaches the data gets no noise, the other does."""
    z = torch.ones(2, 1, 4, 4).double()
    x0, x = torch.rand(2, *SHAPE).double()
    t, s = torch.tensor([500.0, 500.0]), torch.tensor([0.0, 200.0])

    class Both(Knows):
        def __call__(self, x, t):
            return from_x0(x, self.x0, schedule.level(ABAR, t))

    for eta in (1.0, "hat"):
        out = with_noise("ddim", eta, "small", iter([z])).step(Both(x0), x, t, s, None)[0]
        torch.testing.assert_close(out[:1], x0[:1])
        alone = step(with_noise("ddim", eta, "small", iter([z[1:]])), x0[1:], x[1:], 500, 200)
        torch.testing.assert_close(out[1:], alone)


def test_a_model_of_ones_own_is_told_its_shape_and_keeps_its_dtype():
    noise = x_T(2)
    made = ddim.sample(gaussian(), noise=noise, steps=5)
    assert made.dtype == torch.float64
    assert ddim.sample(gaussian(), n=3, steps=5, shape=(1, 4, 4)).shape == (3, 1, 4, 4)
    with pytest.raises(InputError, match="the images need a shape"):
        ddim.sample(gaussian(), n=3, steps=5)


def test_clipping_by_the_one_rule_of_precedence(model):
    """The caller's word, else the folder's, else where there is more noise than signal."""
    noise, grid = normal(0, range(2), model.shape), schedule.times(1000, 5)

    def made(said: bool | None, clip: bool | Clip | None) -> torch.Tensor:
        asked = replace(model, facts=ddim.Facts(clip=said))
        return last(ddim.generate(asked, range(2), grid, x=noise, clip=clip)).x

    plain, clipped, noisy = made(None, False), made(None, True), made(None, Clip(below=0.5))
    assert not torch.equal(plain, clipped)
    assert not torch.equal(noisy, clipped)
    assert torch.equal(made(None, None), noisy)
    assert torch.equal(made(True, None), clipped)
    assert torch.equal(made(False, None), plain)
    assert torch.equal(made(True, False), plain)
    narrow = Clipped(model, Clip(0.5))(noise, 900)
    assert narrow.x0.abs().max() == 0.5
    kept = Clipped(model, Clip(0.5, keep_eps=True))(noise, 900)
    assert torch.equal(kept.x0, narrow.x0)
    assert torch.equal(kept.eps, model(noise, 900).eps)


@pytest.mark.parametrize(
    ("args", "words"), [({"n": 0}, "n must"), ({"batch_size": 0}, "batch size"), ({"steps": 0}, "steps must")]
)
def test_bad_requests(model, args: dict, words: str):
    with pytest.raises(InputError, match=words):
        ddim.sample(model, **args)
