"""Labels and guidance: against closed forms, and bit for bit where one branch is asked."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.models import known_classes, labelled_model, tiny_model
from support.oracles import Gaussian, Mixture

import ddim
from ddim.diffusion import schedule
from ddim.diffusion.guidance import Guidance, in_turn, kept, labels_of, plain
from ddim.diffusion.noise import normal
from ddim.diffusion.walk import last
from ddim.errors import InputError
from ddim.jobs.cost import branches_of

ABAR = schedule.linear()
X = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


MEANS = torch.tensor([-0.6, 0.7, 0.2], dtype=torch.float64).view(3, 1, 1, 1).expand(3, 1, 2, 2)
CLASSES = [Gaussian(ABAR, mean, torch.tensor(0.05, dtype=torch.float64)) for mean in MEANS]
ALL = Mixture(ABAR, torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64), MEANS, 0.05)


def test_guided_eps_of_a_mixture_of_classes_is_exact():
    """ε_u is that of the whole mixture and ε_c that of one class; x̂_0 agrees with ε."""
    model, x = known_classes(*CLASSES, ALL), normal(0, range(3), (1, 2, 2)).double()
    labels = torch.tensor([2, 0, 1])
    for t in (1, 300, 1000):
        for s in (0.5, 2.0, 7.5):
            found = ddim.guided(model, labels, s)(x, t)
            of_class = torch.cat([CLASSES[c](x[k : k + 1], t).eps for k, c in enumerate(labels.tolist())])
            expected = ALL(x, t).eps + s * (of_class - ALL(x, t).eps)
            torch.testing.assert_close(found.eps, expected, rtol=1e-12, atol=1e-12)
            back = ABAR[t].sqrt() * found.x0 + (1 - ABAR[t]).sqrt() * found.eps
            torch.testing.assert_close(back, x, rtol=1e-9, atol=1e-9)


def test_guidance_between_two_gaussians_samples_a_third():
    """Of one variance, N(m_u, v) and N(m_c, v) guided by s are N(m_u + s (m_c − m_u), v): its flow is known."""
    spread, s = torch.tensor(0.05, dtype=torch.float64), 1.8
    model = known_classes(CLASSES[0], CLASSES[1], CLASSES[2])  # classes a and b, and no class
    x = normal(1, range(5), (1, 2, 2)).double()
    third = Gaussian(ABAR, MEANS[2] + s * (MEANS[1] - MEANS[2]), spread)
    errors = []
    for steps in (50, 100, 200):
        times = schedule.grid(ABAR, steps, "quadratic", None)
        end = last(ddim.walk(ddim.guided(model, "b", s), x, times)).x
        errors.append((end - third.flow(x, times[0], 0)).abs().max().item())
    assert errors[2] < 0.02
    assert errors[2] < errors[1] < errors[0]
    heun = last(ddim.walk(ddim.guided(model, "b", s), x, schedule.grid(ABAR, 200, "quadratic"), "heun")).x
    assert (heun - third.flow(x, 1000, 0)).abs().max() < 2e-3


def test_samples_of_a_class_and_of_none_are_of_theirs():
    model = known_classes(*CLASSES, ALL)
    means = {label: ddim.sample(model, n=400, steps=20, label=label).mean((1, 2, 3)) for label in ("a", "b", None)}
    assert abs(means["a"].mean() + 0.6) < 0.05
    assert abs(means["b"].mean() - 0.7) < 0.05
    share = (means[None] < -0.2).double().mean()  # of class a, which has a weight of 0.2
    assert abs(share - 0.2) < 0.08


@pytest.mark.parametrize("predicts", ["eps", "x0", "v"])
def test_at_0_and_1_one_branch_alone_is_asked_and_equalled(predicts, monkeypatch):
    model, labels = labelled_model(predicts=predicts), torch.tensor([0, 2, 1, 1])
    calls, forward = [], type(model.network).forward

    def noted(self, x, index, labels):
        calls.append(labels)
        return forward(self, x, index, labels)

    monkeypatch.setattr(type(model.network), "forward", noted)
    for t in (1, 500, 1000):
        calls.clear()
        of_class, of_none = ddim.guided(model, labels)(X, t), ddim.guided(model, labels, 0)(X, t)
        assert torch.equal(calls[0], labels)
        assert torch.equal(calls[1], torch.full((4,), 3))
        assert len(calls) == 2
        assert all(map(torch.equal, of_class[:3], model(X, t, labels)))
        assert all(map(torch.equal, of_none[:3], model(X, t)))
    assert (of_class.x0 - of_none.x0).abs().max() > 1e-3


def test_both_branches_are_one_evaluation(monkeypatch):
    model, calls = labelled_model(), []
    forward = type(model.network).forward
    monkeypatch.setattr(
        type(model.network), "forward", lambda self, *given: calls.append(given) or forward(self, *given)
    )
    found = ddim.guided(model, [0, 2, 1, 1], 3.0)(X, 500)
    assert [given[2].tolist() for given in calls] == [[0, 2, 1, 1, 3, 3, 3, 3]]
    of_class, of_none = model(X, 500, torch.tensor([0, 2, 1, 1])), model(X, 500)
    torch.testing.assert_close(found.eps, of_none.eps + 3 * (of_class.eps - of_none.eps), rtol=1e-5, atol=1e-5)
    times = torch.tensor([1.0, 250.5, 500, 1000])  # a time for each image
    alone = [ddim.guided(model, [c], 3.0)(X[k : k + 1], times[k : k + 1]) for k, c in enumerate([0, 2, 1, 1])]
    each = ddim.guided(model, [0, 2, 1, 1], 3.0)(X, times)
    for name in ("x0", "eps", "abar"):
        torch.testing.assert_close(
            getattr(each, name), torch.cat([getattr(p, name) for p in alone]), rtol=1e-5, atol=1e-4
        )


def test_in_an_interval_it_is_guided_and_outside_the_class_alone():
    model, labels = labelled_model(), torch.tensor([0, 2, 1, 1])
    within, whole = ddim.guided(model, labels, ddim.Guidance(3, (200, 600))), ddim.guided(model, labels, 3)
    for t, guided in ((1, False), (199, False), (200, True), (450.5, True), (600, True), (601, False), (1000, False)):
        expected = whole(X, t) if guided else model(X, t, labels)
        assert all(map(torch.equal, within(X, t)[:3], expected)), t
    times = torch.tensor([100.0, 300, 600, 700])
    mixed, of_class, led = within(X, times), model(X, times, labels), whole(X, times)
    for k, guided in enumerate((False, True, True, False)):
        assert torch.equal(mixed.eps[k], (led if guided else of_class).eps[k])
    none = ddim.guided(model, labels, ddim.Guidance(0, (200, 600)))  # no class inside, the class outside
    assert torch.equal(none(X, 100).eps, of_class_at(model, 100, labels))
    assert torch.equal(none(X, 300).eps, model(X, 300).eps)


def of_class_at(model, t, labels):
    return model(X, t, labels).eps


def test_rescaled_to_the_deviation_of_the_class_alone():
    model, labels = labelled_model(), torch.tensor([0, 2, 1, 1])
    of_class, led = model(X, 500, labels).x0, ddim.guided(model, labels, 4)(X, 500).x0
    for share in (0.4, 1.0):
        found = ddim.guided(model, labels, ddim.Guidance(4, rescale=share))(X, 500)
        for k in range(4):
            factor = share * of_class[k].std() / led[k].std() + 1 - share
            torch.testing.assert_close(found.x0[k], led[k] * factor, rtol=1e-4, atol=1e-5)
        back = ABAR[500].sqrt() * found.x0 + (1 - ABAR[500]).sqrt() * found.eps
        torch.testing.assert_close(back, X, rtol=1e-4, atol=1e-4)
    for s in (0, 1):  # one branch, bit for bit
        plain = ddim.guided(model, labels, s)(X, 500)
        assert all(map(torch.equal, ddim.guided(model, labels, ddim.Guidance(s, rescale=0.7))(X, 500)[:3], plain))


@pytest.mark.parametrize("solver", ["ddim", "heun", "unipc", "dpm++2s", "ab3", "sde-dpm++2m"])
def test_its_cost_is_counted(solver, monkeypatch):
    """By images that the network is given, in each walk; a row of both branches is two."""
    model, rows = labelled_model(), []
    forward = type(model.network).forward
    monkeypatch.setattr(type(model.network), "forward", lambda self, x, *o: rows.append(len(x)) or forward(self, x, *o))
    times = schedule.grid(ABAR, 10, "quadratic")
    for way in (
        1.0,
        0.0,
        2.5,
        ddim.Guidance(2.5, (100, 500)),
        ddim.Guidance(1, (100, 500)),
        ddim.Guidance(0, (100, 500)),
    ):
        rows.clear()
        ddim.sample(model, n=1, times=times, solver=solver, label=1, guidance=way)
        assert branches_of(way, solver, times, ABAR) == sum(rows), way


@pytest.mark.parametrize("solver", [name for name in ddim.SOLVERS if name not in ("implicit", "sde-dpm++2m")])
def test_every_solver_walks_with_it(solver):
    """Down and, where the solver can, up and down again, with a class for each image."""
    model = ddim.guided(labelled_model(), [0, 2, 1, 1], ddim.Guidance(1.5, (100, 700), 0.5))
    made = ddim.sample(model, n=4, steps=4, solver=solver, clip=False)
    assert made.isfinite().all()
    if solver == "exact":
        z = ddim.encode(model, X.clamp(-1, 1), steps=6, solver=solver)
        assert (ddim.decode(model, z, steps=6) - X.clamp(-1, 1)).abs().max() < 1e-3


def test_guidance_is_kept_in_files_as_it_was():
    for way in (ddim.Guidance(), ddim.Guidance(2), ddim.Guidance(0.5, (10, 20.5)), ddim.Guidance(3, None, 0.7)):
        assert ddim.Guidance.of(json.loads(json.dumps(kept(way)))) == way
    assert kept(2) == 2.0
    assert str(ddim.Guidance(2, (100, 500), 0.5)) == "2 at times 100 to 500, rescaled by 0.5"


def test_samples_do_not_depend_on_the_batch():
    model, labels = labelled_model(), [2, 0, 1, 1, 0]
    for guidance in (0, 1, 2.5):
        how = {"steps": 4, "eta": 1, "label": labels, "guidance": guidance}
        whole = ddim.sample(model, n=5, batch_size=5, **how)
        torch.testing.assert_close(ddim.sample(model, n=5, batch_size=2, **how), whole, rtol=0, atol=1e-5)
    how = {"steps": 4, "guidance": 2, "batch_size": 5}
    one, every = ddim.sample(model, n=2, label="ship", **how), ddim.sample(model, n=5, label="all", **how)
    assert torch.equal(ddim.sample(model, n=5, label=torch.tensor([0, 1, 2, 0, 1]), **how), every)
    torch.testing.assert_close(ddim.sample(model, n=2, label="all", **how), every[:2], rtol=1e-4, atol=1e-5)
    assert (one - every[:2]).abs().max() > 1e-2


def test_without_a_label_the_null_label_is_meant():
    model = labelled_model()
    null = replace(model, facts=ddim.Facts())  # which knows of no null label, so that 3 is a class
    assert torch.equal(ddim.sample(model, n=3, steps=3), ddim.sample(null, n=3, steps=3, label=3))
    assert torch.equal(ddim.sample(model, n=3, steps=3, label=1, guidance=0), ddim.sample(model, n=3, steps=3))


def test_a_guided_model_is_a_model():
    """It encodes, decodes and clips as any other."""
    model = ddim.guided(labelled_model(), "dog", 1.5)
    z = ddim.encode(model, X.clamp(-1, 1), steps=5, solver="exact")
    assert (ddim.decode(model, z, steps=5) - X.clamp(-1, 1)).abs().max() < 1e-4
    assert ddim.sample(model, n=3, steps=3, clip=True).shape == (3, 1, 8, 8)
    assert ddim.interpolate(model, z[0][:1], z[0][1:2], frames=3, steps=3).shape == (3, 1, 8, 8)
    with pytest.raises(InputError, match="4 labels for 3 images"):
        ddim.guided(labelled_model(), [0, 1, 2, 0])(X[:3], 5)


def test_labels_are_numbers_or_names():
    model = labelled_model(("cat", "10", "ship"))
    assert labels_of(model, "10", 2).tolist() == [1, 1]  # a name before a number
    assert labels_of(model, "2").tolist() == labels_of(model, 2).tolist() == labels_of(model, "ship").tolist() == [2]
    assert labels_of(model, np.array([0, 2]), 2).tolist() == labels_of(model, ["cat", 2]).tolist() == [0, 2]
    assert labels_of(model, torch.tensor(2), 2).tolist() == [2, 2]
    assert labels_of(model, "all", 5).tolist() == [0, 1, 2, 0, 1]
    assert (plain(model, "cat", 3), plain(model, "all", 3), plain(model, None, 3)) == (0, "all", None)
    assert plain(model, ["cat", "ship"], 2) == [0, 2]
    assert in_turn(model).tolist() == [0, 1, 2] * 5
    assert in_turn(labelled_model(tuple(map(str, range(40))))).tolist() == list(range(16))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"label": "shp"}, "unknown class 'shp': give one of cat, dog, ship; did you mean ship?"),
        ({"label": 3}, "unknown class 3: give one of cat, dog, ship"),  # which stands for no class
        ({"label": -1}, "unknown class -1"),
        ({"label": 1.5}, "1.5"),
        ({"label": [0, 1]}, "2 labels for 3 images"),
        ({"label": []}, "0 labels for 3 images"),
        ({"guidance": 2.0}, "guidance 2 leads towards a class: give a label too"),
        ({"label": 0, "guidance": float("nan")}, "guidance must be a finite number; got nan"),
        ({"label": 0, "guidance": "2"}, "guidance must be a finite number; got '2'"),
        ({"guidance": Guidance(1, (1, 2))}, "guidance 1 at times 1 to 2 leads towards a class: give a label too"),
        ({"label": 0, "guidance": Guidance(2, (500, 2000))}, "interval of guidance must lie in 0..1000; got 2000"),
    ],
)
def test_what_cannot_be_is_refused(how, said):
    with pytest.raises(InputError) as caught:
        ddim.sample(labelled_model(), n=3, steps=2, **how)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"interval": (500, 100)}, "two times, the lower first; got 500, 100"),
        ({"interval": (500,)}, "two times, the lower first; got 500"),
        ({"interval": 500}, "the interval of guidance must be a list; got 500"),
        ({"interval": (-1, 5)}, "got -1, 5"),
        ({"interval": ("a", 5)}, "got a, 5"),
        ({"rescale": 1.5}, "the rescaling of guidance must be from 0 to 1; got 1.5"),
        ({"rescale": "x"}, "got 'x'"),
        ({"scale": None}, "guidance must be a finite number; got None"),
    ],
)
def test_a_guidance_that_cannot_be_is_refused(how, said):
    with pytest.raises(InputError, match=said):
        ddim.Guidance(**how)


def test_a_model_without_classes_takes_no_label():
    for how in ({"label": 0}, {"label": "all"}, {"label": [0]}):
        with pytest.raises(InputError, match="this model knows no classes: give no label"):
            ddim.sample(tiny_model(), n=1, steps=1, **how)
    with pytest.raises(InputError, match="this model knows none; leave it out"):
        ddim.sample(tiny_model(), n=1, steps=1, guidance=2)
    with pytest.raises(InputError, match="knows no classes"):
        tiny_model()(X, 5, torch.zeros(4, dtype=torch.long))
