"""What is chosen for a time: a pure function of speeds, images and time, on a table of cases."""

import pytest

from ddim.training.budget import DataFacts, Rung, Speed, choice, fits, ladder, largest, plan, plan_fixed, rate
from ddim.training.new_model import unet_config
from ddim.training.presets import FINE_TUNING, PRESETS
from ddim.training.settings import Settings

LAPTOP = {32: 290.0, 64: 105.0, 96: 50.0, 128: 17.0}  # images a second by width, on a grid of 32 positions a side
WEIGHTS = {32: 1_110_000, 64: 4_440_000, 96: 10_000_000, 128: 35_700_000}
CIFAR = DataFacts(50_000, 32)


def speeds(rungs: list[Rung], factor: float = 1.0) -> dict[Rung, Speed]:
    """Of a machine `factor` times as fast as a laptop: the cost of an image goes with the positions of the grid."""
    return {r: Speed(factor * LAPTOP[r.ch] * (32 / r.grid) ** 2, WEIGHTS[r.ch]) for r in rungs}


@pytest.mark.parametrize(
    ("side", "factor", "minutes", "expected"),
    [
        (32, 1, 0.5, Rung(16, 16, 32)),  # 9,000 images: too few for larger ones
        (32, 1, 1, Rung(32, 32, 32)),
        (32, 1, 20, Rung(32, 32, 32)),
        (32, 1, 60, Rung(32, 32, 32)),
        (32, 1, 80, Rung(32, 32, 64)),
        (32, 1, 480, Rung(32, 32, 96)),
        (32, 100, 480, Rung(32, 32, 128)),  # the paper's, on a GPU
        (40, 1, 20, Rung(32, 32, 32)),  # nothing is enlarged to 64
        (28, 1, 20, Rung(32, 32, 32)),  # what is almost 32 is
        (500, 1, 80, Rung(32, 32, 64)),  # large images, little time: small ones are learned
        (500, 1, 240, Rung(64, 64, 32)),
        (500, 100, 30, Rung(64, 64, 32)),  # a GPU for half an hour: its 128s would see too little
        (500, 100, 240, Rung(128, 64, 64)),
        (8, 1, 1, Rung(8, 8, 32)),
        (8, 1, 10, Rung(8, 8, 64)),
        (16, 1, 1, Rung(16, 16, 32)),
    ],
)
def test_the_network_for_a_time(side: int, factor: float, minutes: float, expected: Rung):
    rungs = ladder(DataFacts(1000, side))
    assert choice(rungs, speeds(rungs, factor), 60 * minutes) == expected


def test_more_time_or_a_faster_machine_never_chooses_less():
    rungs = ladder(DataFacts(1000, 300))
    places = [rungs.index(choice(rungs, speeds(rungs), 60 * m)) for m in (1, 5, 20, 60, 300, 1000, 5000, 10**5, 10**7)]
    assert places == sorted(places)
    assert places[-1] == len(rungs) - 1
    quick = [rungs.index(choice(rungs, speeds(rungs, f), 600)) for f in (0.1, 1, 10, 100, 10**4)]
    assert quick == sorted(quick)


def test_the_smallest_is_taken_where_nothing_fits_and_only_what_was_measured_is():
    rungs = ladder(CIFAR)
    assert choice(rungs, {rung: Speed(0.0, 10**6) for rung in rungs}, 60) == rungs[0]
    assert choice(rungs, {rungs[0]: Speed(10**6, 10**6)}, 10**6) == rungs[0]
    assert fits(rungs[0], Speed(1000, 1_200_000), 12)
    assert not fits(rungs[0], Speed(1000, 1_200_001), 12)
    assert fits(Rung(32, 32, 64), Speed(1000, 1_200_000), 120)
    assert not fits(Rung(32, 32, 64), Speed(1000, 1_200_001), 120)
    assert not fits(Rung(64, 64, 32), Speed(1000, 1_200_000), 479)  # eight times as much at twice the size


def test_sizes_enlarge_little():
    assert [largest(side) for side in (3, 8, 12, 14, 27, 28, 40, 55, 56, 1000)] == [
        8,
        8,
        8,
        16,
        16,
        32,
        32,
        32,
        64,
        256,
    ]


@pytest.mark.parametrize("side", [3, 8, 16, 28, 40, 64, 100, 500])
def test_every_network_of_a_ladder_can_be_built(side: int):
    for rung in ladder(DataFacts(10, side)):
        unet_config(Settings().changed(**rung.network))


@pytest.mark.parametrize("size", [8, 12, 20, 24, 36, 48, 50, 96, 100, 160, 200])
def test_a_size_that_was_said_is_kept(size: int):
    rungs = ladder(CIFAR, size)
    assert {rung.size for rung in rungs} == {size}
    for rung in rungs:
        unet_config(Settings().changed(**rung.network))


def test_the_course_of_a_short_training():
    rung = Rung(32, 16, 32)
    s = plan(rung, Speed(500.0, 1_120_000), DataFacts(300, 40), 100.0, Settings())
    o, log = s.optimiser, s.logging
    assert (o.batch_size, o.lr, o.warmup, o.decay) == (16, 2e-3, 156, True)
    assert o.ema == pytest.approx(1 - 30 / 3125, abs=1e-4)  # over a thirtieth of 50,000 / 16 steps
    assert s.network.dropout == 0.1  # each image is seen 167 times
    assert (s.data.size, s.network.patch, s.network.mult, s.network.attention) == (32, 2, (1, 2, 2), (8,))
    assert (log.save_minutes, log.sample_minutes) == (0.5, 0.5)
    assert o.steps == 10**9
    s.check()


def test_batches_leave_steps_enough_where_they_can():
    batches = {100: 8, 30_000: 8, 40_000: 16, 250_000: 16, 300_000: 32, 10**6: 64, 10**7: 128}
    for images, batch in batches.items():
        s = plan(Rung(32, 16, 64), Speed(images / 100, 10**6), CIFAR, 100.0, Settings())
        assert s.optimiser.batch_size == batch


def test_the_rate_is_that_of_the_runs_that_it_comes_from():
    assert rate(32, 16, 1400) == pytest.approx(2e-3)
    assert rate(64, 64, 28_000) == pytest.approx(8e-4, rel=0.06)  # the bundled cifar10
    assert rate(32, 4, 100) == pytest.approx(1e-3)
    assert rate(128, 128, 10**7) == 2e-4  # the paper's


def test_what_was_said_stays_and_batches_are_shared_out():
    rung, speed = Rung(32, 16, 64), Speed(200.0, 4_450_000)
    said = frozenset({"lr", "flip", "batch_size", "log_every"})
    asked = Settings().changed(lr=1e-5, flip=False, batch_size=48, log_every=7)
    s = plan(rung, speed, CIFAR, 1000.0, asked, said)
    assert (s.optimiser.lr, s.data.flip, s.optimiser.batch_size, s.logging.log_every) == (1e-5, False, 48, 7)
    assert plan(rung, speed, CIFAR, 1000.0, Settings(), shares=3).optimiser.batch_size == 18
    grey = plan(rung, speed, DataFacts(1000, 28, grey=True), 1000.0, Settings())
    assert (grey.data.channels, grey.data.flip) == (1, False)


@pytest.mark.parametrize(
    ("seconds", "batch", "lr"), [(4, 8, 7e-4), (40, 8, 3.7e-4), (1000, 32, 1.5e-4), (10**6, 64, 1e-4)]
)
def test_a_training_that_begins_with_a_model_has_enough_steps(seconds: float, batch: int, lr: float):
    """And steps that are large enough where they are few, at most half as large as those of a new network."""
    asked = FINE_TUNING.changed(init="emoji", ch=32)
    s = plan_fixed(Speed(290.0, 1_110_000), CIFAR, seconds, asked, tuned=False, begun=True)
    assert (s.optimiser.batch_size, s.optimiser.lr) == (batch, lr)
    s = plan_fixed(Speed(290.0, 1_110_000), CIFAR, seconds, asked, frozenset({"batch_size"}), tuned=False, begun=True)
    assert s.optimiser.batch_size == 64


def test_a_preset_keeps_its_network_its_batch_and_its_rate():
    asked = PRESETS["cifar10"]
    s = plan_fixed(Speed(17.0, 35_700_000), CIFAR, 2700.0, asked)
    assert s.network == asked.network
    assert s.data == asked.changed(held_out=0.05).data
    assert (s.optimiser.batch_size, s.optimiser.lr, s.optimiser.decay) == (128, 2e-4, True)
    assert s.optimiser.warmup == int(17 * 2700 / 128 / 20)
    assert s.optimiser.ema < 0.96
