import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from support.models import tiny_model
from support.oracles import Gaussian

import ddim
from ddim.diffusion import schedule
from ddim.diffusion.interpolation import path_between
from ddim.diffusion.noise import draws, normal
from ddim.diffusion.process import from_eps, marginal
from ddim.diffusion.solvers import with_noise
from ddim.diffusion.walk import last, walk
from ddim.errors import InputError


def gaussian(T: int = 1000) -> Gaussian:
    """Means in [−0.6, 0.6], deviations in [0.05, 0.5], one of each a pixel."""
    u = torch.rand(2, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    abar = schedule.linear(T, 0.1 / T, 20 / T)
    return Gaussian(abar, 1.2 * u[0] - 0.6, (0.05 + 0.45 * u[1]) ** 2)


def data(model: Gaussian, n: int = 8) -> torch.Tensor:
    return model.mean + model.variance.sqrt() * normal(5, range(n), (1, 4, 4)).double()


def test_encoding_converges_to_the_ode_with_order_one():
    """Error ∝ S⁻¹ against the closed-form flow, from T/10 to T; T is large, so that the grids are smooth."""
    T = 32000
    model, start = gaussian(T), 3200
    x = model.flow(data(model), 0, start)
    steps, errors = [40, 80, 160, 320, 640], []
    for S in steps:
        times = [start + (T - start) * i // S for i in range(S, -1, -1)]
        errors.append((ddim.encode(model, x, times=times) - model.flow(x, start, T)).norm().item())
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert -1.1 < slope < -0.9, (slope, errors)


def test_the_finest_encoding_is_the_ode_solution():
    model = gaussian()
    x = data(model, 500)
    z = ddim.encode(model, x, steps=1000)
    assert (z - model.flow(x, 0, 1000)).abs().mean() < 0.03
    assert abs(z.mean()) < 0.02
    assert abs(z.std() - 1) < 0.03


@pytest.mark.parametrize("spacing", ["linear", "quadratic"])
def test_the_round_trip_improves_with_every_finer_grid(spacing: str):
    model = gaussian()
    x = data(model, 32)
    errors = []
    for S in (2, 5, 10, 20, 50, 100, 200, 500, 1000):
        z = ddim.encode(model, x, S, spacing)
        errors.append((ddim.decode(model, z, S, spacing) - x).square().mean().item())
    assert all(finer < coarser for coarser, finer in pairwise(errors)), errors
    assert errors[-1] < 1e-4 < errors[0]


def test_encoding_never_clips():
    model = tiny_model()
    x = 3 * normal(0, range(2), model.shape).double()  # far outside [−1, 1]
    z = ddim.encode(model, x, times=[1, 0])
    prediction = model(x, 0)
    assert torch.equal(z, marginal(prediction.x0, prediction.eps, model.abar[1]))
    assert prediction.x0.abs().max() > 1


def test_implicit_encoding_inverts_sampling():
    """On Gaussian data the sampled latents themselves come back; the explicit step's do not."""
    model = gaussian()
    noise = normal(0, range(8), (1, 4, 4)).double()
    for S in (2, 10, 50):
        x = ddim.decode(model, noise, S)
        exact = ddim.encode(model, x, S, solver="implicit")
        assert (ddim.decode(model, exact, S) - x).abs().max() < 1e-5
        assert (exact - noise).abs().max() < 1e-2 * (ddim.encode(model, x, S) - noise).abs().max()


def test_implicit_encoding_warns_where_it_found_no_solution():

    class Pushed:  # ε = −5 above 0 and 5 below: y = a x + b ε(y) has no solution for a small x
        abar = schedule.linear()

        def __call__(self, x, t):
            return from_eps(x, torch.where(x > 0, -5.0, 5.0), self.abar[t])

    with pytest.warns(UserWarning, match="residual of"):
        ddim.encode(Pushed(), 0.1 * normal(0, range(2), (1, 4, 4)), times=[1000, 0], solver="implicit")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gauss = gaussian()
        ddim.encode(gauss, data(gauss), 20, solver="implicit")


def test_slerp_is_the_papers_formula_per_sample():
    z = normal(0, range(6), (3, 4, 4)).double()
    a = torch.linspace(0, 1, 3, dtype=torch.float64)
    made = ddim.slerp(z[:3], z[3:], a)
    for u, v, fraction, w in zip(z[:3], z[3:], a, made, strict=True):
        theta = np.arccos(float((u * v).sum() / (u.norm() * v.norm())))
        expected = (np.sin((1 - fraction) * theta) * u + np.sin(fraction * theta) * v) / np.sin(theta)
        torch.testing.assert_close(w, expected, rtol=0, atol=1e-12)


def test_slerp_keeps_the_norm():
    z = normal(0, range(2), (3, 8, 8)).double()
    z = 7 * z / z.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    path = ddim.slerp(z[:1], z[1:], torch.linspace(0, 1, 21))
    torch.testing.assert_close(path.flatten(1).norm(dim=1), torch.full((21,), 7.0, dtype=torch.float64))
    middle = (z[0] + z[1]) / 2
    assert middle.norm() < 6  # what the straight line would give


def test_slerp_between_parallel_latents_is_the_straight_line():
    z = normal(0, range(1), (1, 4, 4)).double()
    path = ddim.slerp(z, 3 * z, torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(path, torch.cat([z, 2 * z, 3 * z]))


def test_at_its_ends_interpolation_returns_the_two_pictures():
    model = tiny_model()
    z = normal(3, range(2), model.shape)
    frames = ddim.interpolate(model, z[:1], z[1:], frames=5, steps=10, clip=False)
    torch.testing.assert_close(frames[[0, -1]], ddim.decode(model, z, steps=10), rtol=1e-5, atol=1e-5)
    assert torch.equal(ddim.slerp(z[:1], z[1:], torch.tensor([0.0, 1.0])), z)
    gap = (frames[1:] - frames[:-1]).flatten(1).norm(dim=1)
    assert gap.min() > 0.05 * gap.max()  # and moves on every frame between


def test_between_pairs_the_deviation_from_ddim_fades():
    """x_before(a) = DDIM's step from z(a) + w² × the nearer end's deviation, w = |2a − 1|, written out; the ends are
    the images, and the middle is what DDIM's first step and `exact` after it make of z(1/2).
    """
    model, grid = tiny_model(), [1000, 600, 300, 100, 0]
    x = normal(3, range(2), model.shape).clamp(-1, 1)
    z, behind = ddim.encode(model, x, times=grid, solver="exact")
    off = [behind[k] - ddim.decode(model, z[k : k + 1], times=grid[:2])[0] for k in (0, 1)]
    assert min(each.square().mean().sqrt() for each in off) > 0.01
    frames = ddim.interpolate(model, (z[:1], behind[:1]), (z[1:], behind[1:]), frames=5, times=grid)
    for k, (a, end) in enumerate([(0, 0), (0.25, 0), (0.5, 0), (0.75, 1), (1, 1)]):
        at = ddim.slerp(z[:1], z[1:], torch.tensor([float(a)]))
        before = ddim.decode(model, at, times=grid[:2]) + (2 * a - 1) ** 2 * off[end]
        torch.testing.assert_close(frames[k : k + 1], ddim.decode(model, (at, before), times=grid), rtol=0, atol=1e-4)
    torch.testing.assert_close(frames[[0, 4]], x, rtol=0, atol=1e-4)
    half = ddim.slerp(z[:1], z[1:], torch.tensor([0.5]))
    plain = last(walk(model, half, grid, "exact")).x.float()
    torch.testing.assert_close(frames[2:3], plain, rtol=0, atol=1e-4)


def test_the_sheet_between_pairs_has_them_at_its_corners_and_no_deviation_in_the_middle():
    z = normal(3, range(4), (1, 4, 4))
    between, nearest, weight = path_between(z, 5)
    assert torch.equal(between, ddim.slerp_grid(z, 5, 5).flatten(0, 1))
    assert nearest.view(5, 5)[[0, 0, 4, 4], [0, 4, 0, 4]].tolist() == [0, 1, 2, 3]
    weight = weight.view(5, 5)
    assert weight[[0, 0, 4, 4], [0, 4, 0, 4]].tolist() == [1, 1, 1, 1]
    assert weight[2].tolist() == weight[:, 2].tolist() == [0] * 5
    assert weight[0, 1] == 0.25
    assert weight[1, 1] == 0.0625


def test_a_grid_has_the_latents_at_its_corners_and_slerps_at_its_edges():
    z = normal(3, range(4), (1, 4, 4)).double()
    sheet = ddim.slerp_grid(z, 3, 5)
    assert sheet.shape == (3, 5, 1, 4, 4)
    torch.testing.assert_close(sheet[[0, 0, -1, -1], [0, -1, 0, -1]], z)
    torch.testing.assert_close(sheet[0], ddim.slerp(z[:1], z[1:2], torch.linspace(0, 1, 5)))
    torch.testing.assert_close(sheet[:, 0], ddim.slerp(z[:1], z[2:3], torch.linspace(0, 1, 3)))
    torch.testing.assert_close(sheet[1, 2:3], ddim.slerp(sheet[1, :1], sheet[1, -1:], torch.tensor([0.5])))


def test_the_ddpm_way_is_diffuse_mix_denoise():
    model = tiny_model()
    x = normal(1, range(2), model.shape).clamp(-1, 1)
    frames = ddim.interpolate_ddpm(model, x[:1], x[1:], 300, frames=3, steps=6, seed=4, clip=False)
    noisy = marginal(x, normal(4, [0, 1], model.shape), model.abar[300])
    middle = (noisy[:1] + noisy[1:]) / 2
    path = schedule.times(300, 6)
    assert path[0] == 300
    for start, frame in zip([noisy[:1], middle, noisy[1:]], frames, strict=True):
        solver = with_noise("ddim", 1.0, "small", draws(4, [0], model.shape))
        expected = last(ddim.walk(model, start, path, solver)).x
        torch.testing.assert_close(frame[None], expected, rtol=1e-4, atol=1e-4)


def test_the_ddpm_way_is_coarser_for_larger_times():
    """The end frame is the picture again for small t, and something else for large t."""
    model = gaussian()
    x = data(model, 2)
    frames = [ddim.interpolate_ddpm(model, x[:1], x[1:], t, 3, 1000) for t in (5, 30, 150)]
    away = [(f[0] - x[0]).square().mean().sqrt().item() for f in frames]
    assert away == sorted(away)
    assert away[0] < 0.2 * away[-1]


def test_bad_requests():
    z = normal(0, range(4), (1, 4, 4))
    with pytest.raises(InputError, match="one shape"):
        ddim.slerp(z[:2], z[:3], torch.zeros(1))
    with pytest.raises(InputError, match="four corners"):
        ddim.slerp_grid(z[:3], 2, 2)
    with pytest.raises(InputError, match="from 1 to 1000; got 0"):
        ddim.interpolate_ddpm(tiny_model(), z[:1], z[1:2], 0)
