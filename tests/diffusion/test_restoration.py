"""Restoring: against the exact conditional of a correlated Gaussian and of a mixture; what is known; the batch."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from support.models import labelled_model, tiny_model
from support.oracles import Correlated, Mixture
from torch import Tensor

import ddim
from ddim.diffusion import schedule
from ddim.diffusion.around import Around
from ddim.diffusion.conditioning import DPS, PiGDM, Projected, Resampled, blocks, conjugate
from ddim.diffusion.noise import normal
from ddim.diffusion.operators import Blur, Colouring, Inpainting, SuperResolution
from ddim.diffusion.solvers import find, with_noise
from ddim.diffusion.walk import last
from ddim.errors import InputError

ABAR, SHAPE = schedule.linear(), (1, 2, 2)
MASK = torch.tensor([[0, 1], [1, 1]])


def correlated() -> Correlated:
    """Four pixels, each with 0.8 of its neighbours' variation."""
    place = torch.arange(4, dtype=torch.float64)
    covariance = 0.3 * 0.8 ** (place[:, None] - place).abs()
    return Correlated(ABAR, torch.tensor([0.3, -0.2, 0.1, 0.4], dtype=torch.float64).view(SHAPE), covariance)


def matrix(operator, shape=SHAPE) -> Tensor:
    unit = torch.eye(torch.Size(shape).numel(), dtype=torch.float64).view(-1, *shape)
    return operator(unit).flatten(1).T


def known(model: Correlated, operator, noise: float = 0.0) -> tuple[Tensor, Correlated]:
    """A y that the model could have made, (1, …), and the law of x_0 given it."""
    x = model.mean + (torch.linalg.cholesky(model.covariance) @ normal(7, [0], (4,))[0].double()).view(SHAPE)
    y = operator(x[None]) + noise * normal(8, [0], operator.shape(SHAPE)).double()
    return y, model.given(matrix(operator), y[0].flatten(), noise)


OPERATORS = [Inpainting(MASK), SuperResolution(2), Blur(0.4)]


@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize("operator", OPERATORS, ids=lambda o: o.name)
def test_pigdm_with_the_covariance_of_the_posterior_is_exact(operator, noise: float):
    """Its prediction is the one of the conditional model, at every level and x."""
    model = correlated()
    y, exact = known(model, operator, noise)
    x = normal(0, range(5), SHAPE).double()
    guided = PiGDM(model, y.expand(5, -1, -1, -1), operator, noise, model.spread)
    for t in (1, 200, 600, 1000):
        found, right = guided(x, t), exact(x, t)
        torch.testing.assert_close(found.eps, right.eps, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(found.x0, right.x0, rtol=1e-6, atol=1e-5)
        torch.testing.assert_close(ABAR[t].sqrt() * found.x0 + (1 - ABAR[t]).sqrt() * found.eps, x)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_pigdm_is_exact_by_default_where_the_data_are_white(noise: float):
    white = Correlated(ABAR, torch.zeros(SHAPE).double(), torch.eye(4).double())
    x = normal(0, range(5), SHAPE).double()
    for operator in OPERATORS:
        y, exact = known(white, operator, noise)
        for t in (50, 500, 950):
            torch.testing.assert_close(PiGDM(white, y, operator, noise)(x, t).x0, exact(x, t).x0)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_projection_is_the_mean_of_an_isotropic_gaussian_given_y(noise: float):
    """And so it is exact where the data are white, with noise or without."""
    white = Correlated(ABAR, torch.zeros(SHAPE).double(), torch.eye(4).double())
    x = normal(0, range(5), SHAPE).double()
    for operator in OPERATORS:
        y, exact = known(white, operator, noise)
        for t in (50, 500, 950):
            found = Projected(white, y, operator, noise)(x, t)
            torch.testing.assert_close(found.x0, exact(x, t).x0)
            torch.testing.assert_close(found.eps, exact(x, t).eps)


def moments(images: Tensor) -> tuple[Tensor, Tensor]:
    flat = images.double().flatten(1)
    return flat.mean(0), flat.T.cov()


def answers(model, y: Tensor, operator, n: int = 2000, **how) -> Tensor:
    return ddim.restore(model, y.float(), operator, answers=n, shape=SHAPE, batch_size=n, **how)


def errors(model: Correlated, operator, **how) -> tuple[float, float]:
    """How far the mean is off, and the covariance, from the exact ones: in the largest element."""
    y, exact = known(model, operator)
    mean, covariance = moments(answers(model, y, operator, **how))
    return (mean - exact.mean.flatten()).abs().max().item(), (covariance - exact.covariance).abs().max().item()


def test_samples_of_the_exact_pigdm_have_the_mean_and_covariance_of_the_conditional():
    """Values stay in [−1, 1] here but for a few, which are clamped."""
    model = correlated()
    model = Correlated(ABAR, model.mean / 2, model.covariance / 8)
    for operator in OPERATORS[:2]:
        off = errors(model, operator, method="pigdm", covariance=model.spread, steps=100, spacing="quadratic")
        assert max(off) < 0.012  # of a deviation of 0.19; the mean of 2,000 is known to 0.004


def streams(shape: tuple[int, ...], seed: int):
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn(shape, generator=generator, dtype=torch.float64)


def repainted(model, y: Tensor, operator, n: int, steps: int, times: int, jump: int = 1) -> Tensor:
    """n answers of projection with resampling, in float64 and unclamped: (n, C, H, W)."""
    shape = (n, *y.shape[1:])
    inner = with_noise("ddim", 1.0, "small", streams(shape, 1))
    path = schedule.grid(ABAR, steps, "quadratic")
    solver = Resampled(inner=inner, times=times, noise=streams(shape, 2), grid=path if jump > 1 else ())
    coarse, x = blocks(path, jump), next(streams(shape, 0))
    assert solver.evaluations(coarse) == steps * times
    return operator.fixed(last(ddim.walk(Projected(model, y, operator), x, coarse, solver)).x, y)


def test_repaint_converges_as_resamplings_grow():
    """In the mean with the resamplings; in the covariance with the steps too, as DDPM itself does."""
    model, operator = correlated(), OPERATORS[0]
    y = torch.full((1, *SHAPE), -0.6, dtype=torch.float64)  # of the known pixel, 1.6 deviations from its mean
    exact = model.given(matrix(operator), operator(y)[0].flatten())
    made = [moments(repainted(model, y, operator, 4000, 50, times)) for times in (1, 4, 16, 64)]
    off = [(mean - exact.mean.flatten()).abs().max().item() for mean, _ in made]
    assert off[0] > 0.3  # projection alone is biased
    assert off[1] < 0.5 * off[0]
    assert off[2] < 0.4 * off[1]
    assert off[3] < 0.03  # of deviations up to 0.47: the mean of 4,000 is known to 0.007
    fine = moments(repainted(model, y, operator, 4000, 200, 16))[1]
    assert (fine - exact.covariance).abs().max() < 0.02  # of variances up to 0.22


@pytest.mark.parametrize(("jump", "off"), [(5, 0.08), (10, 0.11)])
def test_repaint_converges_with_jumps_of_several_steps_too(jump: int, off: float):
    """No faster than with those of one, and not at all where one jump goes back over the whole walk to noise."""
    model, operator = correlated(), OPERATORS[0]
    y = torch.full((1, *SHAPE), -0.6, dtype=torch.float64)
    exact = model.given(matrix(operator), operator(y)[0].flatten())

    def bias(times: int, jump: int) -> float:
        mean = moments(repainted(model, y, operator, 4000, 50, times, jump))[0]
        return (mean - exact.mean.flatten()).abs().max().item()

    few, many, once = bias(4, jump), bias(16, jump), bias(1, 1)
    assert few < 0.65 * once
    assert many < 0.6 * few
    assert many < off
    assert bias(4, 50) == pytest.approx(once, abs=0.03)


def test_jumps_visit_the_times_that_repaint_visits():
    """Its own schedule for six steps, jumps of two, two resamplings: down to 2, back to 4; down to 0, back to 2; and so
    on, a step below ours, for it does not go back from the data."""
    jumps, t, theirs = {0: 1, 2: 1}, 6, [6]  # get_schedule_jump(6, jump_length=2, jump_n_sample=2)
    while t >= 1:
        t -= 1
        theirs.append(t)
        if jumps.get(t, 0):
            jumps[t] -= 1
            theirs += [t + 1, t + 2]
            t += 2
    assert theirs == [6, 5, 4, 3, 2, 3, 4, 3, 2, 1, 0, 1, 2, 1, 0]
    down = [a for a, b in pairwise(theirs) if b < a]  # where the network is asked
    asked, model, path = [], correlated(), [900, 700, 500, 300, 200, 100, 0]

    class Asked(Around):
        def __call__(self, x, t):
            asked.append(path.index(t))
            return self.model(x, t)

    asking = Asked()
    asking.model = model
    noise = streams((1, *SHAPE), 0)
    last(
        ddim.walk(asking, next(noise), blocks(path, 2), Resampled(inner=find("ddim"), times=2, noise=noise, grid=path))
    )
    assert asked == [0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5]
    assert [6 - k for k in asked][4:] == down[2:]
    assert blocks(path, 4) == [900, 500, 0]
    assert blocks(path, 5) == [900, 700, 0]
    assert blocks(path, 6) == [900, 0]
    assert blocks(path, 1) == path


def test_a_return_over_several_steps_has_the_law_of_the_forward_process():
    """From x_s, √(ᾱ_t/ᾱ_s) x_s and variance 1 − ᾱ_t/ᾱ_s, as of as many single steps with noise of their own."""
    model, path, n = correlated(), [800, 700, 600], 20000
    x = torch.zeros(n, *SHAPE, dtype=torch.float64)
    seen = []

    class Seen(Around):
        def __call__(self, x, t):
            seen.append((t, x))
            return self.model(x, t)

    watching = Seen()
    watching.model = model
    noise = streams(x.shape, 3)
    solver = Resampled(inner=find("ddim"), times=2, noise=noise, grid=path)
    end = last(ddim.walk(model, x[:1], path)).x  # of the first time down
    last(ddim.walk(watching, x, [800, 600], solver))
    (t, again), ratio = seen[2], ABAR[800] / ABAR[600]
    assert t == 800
    torch.testing.assert_close(again.mean(0), ratio.sqrt() * end[0], rtol=0, atol=0.03)
    torch.testing.assert_close(again.var(0), (1 - ratio).expand(SHAPE), rtol=0.05, atol=0)


def test_jumps_of_one_step_give_the_same_bytes():
    model, x = tiny_model(), X + 0.3
    how = {"steps": 6, "resample": 3}
    assert torch.equal(ddim.inpaint(model, x, HALF, **how), ddim.inpaint(model, x, HALF, **how, jump=1))
    assert not torch.equal(ddim.inpaint(model, x, HALF, **how), ddim.inpaint(model, x, HALF, **how, jump=2))


@pytest.mark.parametrize(("variance", "apart", "within"), [(0.05, 0.3, 0.03), (0.02, 0.6, 0.1)])
def test_the_modes_of_a_mixture_given_y(variance: float, apart: float, within: float):
    """One pixel is known, and tells two components from a third. Where the two meet, their weights come out right too;
    where they lie far apart, the weights are decided at a level where y is not yet known well: docs/editing.md.
    """
    means = apart * torch.tensor([[-1, -1], [-0.5, 1], [1.5, 0]], dtype=torch.float64).view(3, 1, 1, 2)
    model = Mixture(ABAR, torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), means, variance)
    operator = Inpainting(torch.tensor([[0, 1]]))
    y = torch.tensor([[[[-0.7 * apart, 0.0]]]], dtype=torch.float64)
    near = (y[0, 0, 0, 0] - means[:, 0, 0, 0]) ** 2 / (2 * variance)
    weights = (model.weights.log() - near).softmax(0)  # (3,)
    components = torch.distributions.Normal(means[:, 0, 0, 1], torch.tensor(variance).double().sqrt())
    above = (weights * (1 - components.cdf(torch.zeros(3).double()))).sum()
    made = repainted(model, y, operator, 4000, 100, 8)[:, 0, 0, 1]
    assert 0.35 < above < 0.55
    assert abs((made > 0).double().mean() - above) < within  # a share of 4,000 is known to 0.008
    if apart == 0.6:
        for mode in (made[made > 0] - apart, made[made <= 0] + apart):
            assert abs(mode.mean()) < 0.02
            assert abs(mode.std() - variance**0.5) < 0.02


def test_conjugate_gradients_solve():
    root = normal(0, [0], (12, 12))[0].double()
    B, b = root @ root.T + torch.eye(12), normal(1, range(3), (1, 3, 4)).double()
    b[1] = 0
    found = conjugate(lambda v: (v.flatten(1) @ B).view_as(v), b)
    torch.testing.assert_close(found.flatten(1), torch.linalg.solve(B, b.flatten(1).T).T, rtol=1e-7, atol=1e-8)


def test_a_step_of_dps_is_its_formula():
    """On Gaussian data x̂_0 is affine in x_t, so the gradient of ‖y − A x̂_0‖ is −Jᵀ Aᵀ (y − A x̂_0)/‖·‖."""
    model, operator = correlated(), SuperResolution(2)
    y = known(model, operator)[0].expand(3, -1, -1, -1)
    x, t, s = normal(0, range(3), SHAPE).double(), 400, 350
    solver = DPS(inner=find("ddim"), y=y, operator=operator, scale=0.7)
    found = last(ddim.walk(model, x, [t, s], solver)).x
    J = ABAR[t].sqrt() * model.covariance @ model.gain(ABAR[t])  # of x̂_0
    off = (y - operator(model(x, t).x0)).flatten(1)
    slope = -off @ matrix(operator) @ J / off.norm(dim=1, keepdim=True)
    plain = last(ddim.walk(model, x, [t, s])).x
    torch.testing.assert_close(found, plain - 0.7 * slope.view_as(x))


METHODS = [
    {"method": "projection"},
    {"method": "projection", "resample": 3, "jump": 2},
    {"method": "pigdm"},
    {"method": "dps"},
]
METHODS += [{"method": "projection", "solver": "unipc", "eta": 0}, {"method": "pigdm", "solver": "heun", "eta": 0}]


@pytest.mark.parametrize("how", METHODS, ids=str)
def test_what_is_known_returns(how):
    model = tiny_model(channels=3)
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mask = torch.zeros(8, 8)
    mask[2:6, 3:7] = 1
    made = ddim.inpaint(model, x, mask, answers=2, steps=4, **how)
    kept = ~(mask > 0).expand(4, 3, 8, 8)
    assert torch.equal(made[kept], x.repeat_interleave(2, 0)[kept])
    assert (made[:2] - x[:1]).abs().max() > 0.1
    assert (made[0] - made[1]).abs().max() > 1e-3
    for operator in (SuperResolution(2), Colouring(), Blur(0.7)):
        smooth = (x / 2).repeat_interleave(1, 0)
        made = ddim.restore(model, operator(smooth), operator, steps=4, **how)
        assert (operator(made) - operator(smooth)).abs().max() < 0.02, operator.name
        assert made.abs().max() <= 1


@pytest.mark.parametrize("how", METHODS, ids=str)
def test_what_lies_under_the_mask_does_not_matter(how):
    model, x = tiny_model(), torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[2:6, 3:7] = True
    other = torch.where(mask, -x, x)
    assert torch.equal(ddim.inpaint(model, x, mask, steps=3, **how), ddim.inpaint(model, other, mask, steps=3, **how))


def test_neither_does_it_for_a_covariance():
    model, operator = correlated(), OPERATORS[0]
    x, y = normal(0, range(5), SHAPE).double(), torch.full((1, *SHAPE), -0.6, dtype=torch.float64)
    exact = model.given(matrix(operator)[:1], y.flatten()[:1])
    for t in (100, 1000):
        found = PiGDM(model, y, operator, covariance=model.spread)(x, t)
        torch.testing.assert_close(found.eps, exact(x, t).eps, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("how", METHODS[:5], ids=str)
def test_answers_do_not_depend_on_the_batch_nor_on_how_many(how):
    model = labelled_model()
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    masks = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.5
    run = partial(ddim.inpaint, model, x, masks, steps=3, label=["dog", 0, "ship"], guidance=1.5, seed=3, **how)
    four = run(answers=4, batch_size=12)
    torch.testing.assert_close(run(answers=4, batch_size=5), four, rtol=0, atol=1e-4)
    torch.testing.assert_close(run(answers=2).view(3, 2, 1, 8, 8), four.view(3, 4, 1, 8, 8)[:, :2], rtol=0, atol=1e-4)
    alone = ddim.inpaint(model, x[:1], masks[:1], steps=3, label="dog", guidance=1.5, seed=3, **how)
    torch.testing.assert_close(alone, four[:1], rtol=0, atol=1e-4)


X = torch.zeros(2, 1, 8, 8)
HALF = torch.zeros(8, 8)
HALF[4:] = 1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: ddim.inpaint("digits", X, HALF), "a model is what ddim.load gives"),
        (lambda m: ddim.inpaint(m, X, HALF[2:6]), "the mask is 4×8 and the images 8×8: give a mask of 8×8"),
        (lambda m: ddim.inpaint(m, X, torch.stack([HALF] * 3)[:, None]), "3 masks for 2 images"),
        (
            lambda m: ddim.inpaint(m, X[:, :, 1:], HALF),
            "inpaint makes 1×8×8 of images of 1×8×8; what is known has 1×7×8",
        ),
        (lambda m: ddim.inpaint(m, X.byte(), HALF), "a tensor .* of numbers"),
        (lambda m: ddim.inpaint(m, X / 0, HALF), "holds NaN or infinity"),
        (lambda m: ddim.inpaint(m, X, HALF, method="magic"), "unknown method 'magic': choose one of projection, pigdm"),
        (lambda m: ddim.inpaint(m, X, HALF, answers=0), "answers must be at least 1"),
        (lambda m: ddim.inpaint(m, X, HALF, method="dps", solver="heun", eta=0), "dps takes steps of ddim only"),
        (lambda m: ddim.inpaint(m, X, HALF, method="dps", scale=0), "scale must be a number above 0"),
        (lambda m: ddim.inpaint(m, X, HALF, method="pigdm", resample=3), "resample belongs to method projection"),
        (lambda m: ddim.inpaint(m, X, HALF, jump=3), "a jump of 3 steps goes back for resample .* give resample 2 or"),
        (
            lambda m: ddim.inpaint(m, X, HALF, resample=2, jump=9, steps=8),
            "jump must be from 1 to 8, the number of steps",
        ),
        (lambda m: ddim.inpaint(m, X, HALF, resample=2, jump=0), "jump must be at least 1"),
        (lambda m: ddim.inpaint(m, X, HALF, noise=-1), "noise is a deviation, 0 or more; got -1"),
        (lambda m: ddim.inpaint(m, X, HALF, label=1), "knows no classes"),
        (lambda m: ddim.restore(m, X, SuperResolution(2)), "makes 1×4×4 of images of 1×8×8; what is known has 1×8×8"),
        (lambda m: ddim.restore(m, X, SuperResolution(3)), "factor 3 does not divide 8×8: give one of 2, 4, 8"),
        (lambda m: ddim.restore(m, X, Colouring()), "only RGB"),
        (lambda m: ddim.restore(m, X, HALF), "the operator is one of ddim.operators"),
    ],
)
def test_what_cannot_be_is_refused(call, said):
    with pytest.raises(InputError, match=said) as caught:
        call(tiny_model())
    assert "\n" not in str(caught.value)


def test_gradients_need_an_unprepared_network():
    model = ddim.prepare(tiny_model(), "bf16")
    for method in ("pigdm", "dps"):
        with pytest.raises(InputError, match=f"method {method} needs gradients through the network, which is in bf16"):
            ddim.inpaint(model, X, HALF, method=method)
    assert ddim.inpaint(model, X, HALF, steps=2).shape == X.shape
