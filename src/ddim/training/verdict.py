"""What the held-out loss of a run says about it, in words."""

from collections.abc import Sequence
from dataclasses import dataclass

HELPS, LITTLE = 0.04, 0.015  # falls over the last third of a run, as shares, above which more time helps, or helps some
UNLEARNED = 0.4  # a network that answers 0 has a loss of 1 for ε, of about 0.5 for v; images begin to show below 0.1
RISE = 0.02  # above the best, that is a rise
FEWEST = 16  # images of each kind, below which their losses tell more of the images than of the network


@dataclass(frozen=True)
class Measurement:
    """The losses of the averaged network after a step: on held-out images, and on as many of those it is trained on."""

    step: int
    held_out: float
    seen: float
    n: int = FEWEST  # images of each kind


def verdict(found: Sequence[Measurement]) -> str:
    """Whether more time would help, and what would; empty where there is too little to tell."""
    if not found:
        return ""
    last, best = found[-1], min(found, key=lambda m: m.held_out)
    if last.held_out > UNLEARNED:
        if best.held_out < last.held_out / 1.5:
            return (
                f"the held-out loss has jumped from {best.held_out:.2f} at step {best.step} to {last.held_out:.2f}: "
                "the learning rate is too large; begin again with a smaller --lr"
            )
        return f"a loss of {last.held_out:.2f} means that almost nothing was learned: give it more time"
    if last.n < FEWEST:
        images = f"{last.n} held-out images were" if last.n > 1 else "one held-out image was"
        return f"only {images} measured: too few to tell what is learned and what is memorised; look at the sheets"
    if len(found) < 3:
        return ""
    if last.held_out > (1 + RISE) * best.held_out and last.seen < best.seen:
        return (
            f"the held-out loss has risen from {best.held_out:.4f} at step {best.step} while that of training images "
            "fell: these are being memorised; train on more images, or for less time"
        )
    before = max((m for m in found if m.step <= last.step * 2 / 3), key=lambda m: m.step, default=found[0])
    fall = 1 - last.held_out / before.held_out
    if fall > HELPS:
        return f"the held-out loss fell by {fall:.0%} in the last third: more time would help"
    if fall > LITTLE:
        return f"the held-out loss fell by {fall:.1%} in the last third: more time would help a little"
    return "the held-out loss has levelled off: more time would help little; a wider network or more images might"
