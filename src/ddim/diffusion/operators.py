"""What is measured of an image: linear operators y = A x (+ noise), with all that restoring an image asks of them.

Each has its transpose Aᵀ, its pseudo-inverse A⁺, and `solve`, (r² A Aᵀ + s²)⁻¹ y. An image that agrees with y is
x + A⁺ (y − A x), whatever x was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import torch
import torch.nn.functional as F
from torch import Tensor

from ddim.errors import InputError, check_whole, choose, shown

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as image files are made grey
Shape = tuple[int, int, int]


class Operator:
    """A linear map of images (N, C, H, W) in [−1, 1] to what is known of them. A subclass whose A Aᵀ is a number times
    the identity, on the range of A, gives that number as `gram`, and `__call__` and `transpose`.
    """

    name = ""
    gram = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        """A x: what is known of images x (N, C, H, W)."""
        raise NotImplementedError

    def transpose(self, y: Tensor) -> Tensor:
        """Aᵀ y, (N, C, H, W)."""
        raise NotImplementedError

    def inverse(self, y: Tensor) -> Tensor:
        """A⁺ y, (N, C, H, W): of all x with A x = y the one of the smallest norm."""
        return self.transpose(y) / self.gram

    def solve(self, y: Tensor, r2: Tensor | float, s2: Tensor | float = 0.0) -> Tensor:
        """(r² A Aᵀ + s²)⁻¹ y, in the shape of y. r2, s2: numbers, or (N, 1, 1, 1)."""
        return y / (r2 * self.gram + s2)

    def shape(self, image: Shape) -> Shape:
        """The shape of y for images of a shape (C, H, W). Raises InputError where they cannot be measured so."""
        return image

    def within(self, y: Tensor) -> Tensor:
        """y without what no image could have: A A⁺ y."""
        return self(self.inverse(y))

    def fixed(self, x: Tensor, y: Tensor) -> Tensor:
        """x (N, C, H, W) with what is known put in: x + A⁺ (y − A x)."""
        return x + self.inverse(y - self(x))

    def part(self, indices: Sequence[int]) -> "Operator":
        """The operator of some of the images, where it is one an image."""
        return self

    def to(self, device: torch.device | str) -> "Operator":
        """The operator on a device."""
        return self


@dataclass(frozen=True)
class Inpainting(Operator):
    """The pixels outside a mask are known. mask: (H, W), or (N, 1, H, W) for one an image; 1 or True (white) is what is
    made anew, 0 or False (black) is known. y is an image; what it shows under the mask does not matter. InputError.
    """

    mask: Tensor
    name = "inpaint"

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", checked_mask(self.mask))

    @property
    def known(self) -> Tensor:
        return ~self.mask  # (1 or N, 1, H, W)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.where(self.mask, 0.0, x)

    def transpose(self, y: Tensor) -> Tensor:
        return torch.where(self.mask, 0.0, y)

    def fixed(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.where(self.mask, x, y)  # to the last bit

    def shape(self, image: Shape) -> Shape:
        if tuple(self.mask.shape[2:]) != tuple(image[1:]):
            there, here = ("×".join(map(str, s)) for s in (self.mask.shape[2:], image[1:]))
            raise InputError(f"the mask is {there} and the images {here}: give a mask of {here} (height × width)")
        return image

    def part(self, indices: Sequence[int]) -> "Inpainting":
        return self if len(self.mask) == 1 else Inpainting(self.mask[list(indices)])

    def to(self, device: torch.device | str) -> "Inpainting":
        return Inpainting(self.mask.to(device))


def checked_mask(mask: Tensor) -> Tensor:
    """A mask as (1 or N, 1, H, W) of bool. Raises InputError where it is no mask, or says nothing."""
    if not isinstance(mask, Tensor) or mask.ndim not in (2, 3, 4) or not mask.numel():
        raise InputError(f"a mask is a tensor (H, W), or (N, 1, H, W) for one an image; got {what(mask)}")
    while mask.ndim < 4:
        mask = mask[None]
    if mask.shape[1] != 1:
        raise InputError(f"a mask has one channel; got {tuple(mask.shape)}")
    top = 255 if not mask.is_floating_point() and mask.max() > 1 else 1
    white = mask == top
    if not (white | (mask == 0)).all():
        raise InputError("the mask holds grey values: make it black (known) and white (made anew) only")
    shares = white.flatten(1).float().mean(1)
    if (shares == 0).any():
        raise InputError("the mask is black all over: nothing is to be made anew; paint that white")
    if (shares == 1).any():
        raise InputError("the mask is white all over: nothing is known; leave what is known black, or use ddim sample")
    return white


@dataclass(frozen=True)
class SuperResolution(Operator):
    """The means of blocks of factor × factor pixels are known: y is (N, C, H/factor, W/factor)."""

    factor: int = 2
    name = "super-resolve"

    def __post_init__(self) -> None:
        check_whole("factor", self.factor, 2)

    @property
    def gram(self) -> float:
        return 1 / self.factor**2

    def __call__(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.factor)

    def transpose(self, y: Tensor) -> Tensor:
        return repeated(y, self.factor) / self.factor**2

    def shape(self, image: Shape) -> Shape:
        C, H, W = image
        if H % self.factor or W % self.factor:
            fit = ", ".join(str(k) for k in range(2, min(H, W) + 1) if H % k == W % k == 0) or "none"
            raise InputError(f"factor {self.factor} does not divide {H}×{W}: give one of {fit}")
        return C, H // self.factor, W // self.factor


def repeated(y: Tensor, factor: int) -> Tensor:
    """Each pixel as a block of factor × factor."""
    return y.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


@dataclass(frozen=True)
class Colouring(Operator):
    """The luma of RGB images is known: y is (N, 1, H, W)."""

    name = "colour"
    gram = sum(w * w for w in LUMA)

    def weights(self, x: Tensor) -> Tensor:
        return x.new_tensor(LUMA).view(1, 3, 1, 1)

    def __call__(self, x: Tensor) -> Tensor:
        return (x * self.weights(x)).sum(1, keepdim=True)

    def transpose(self, y: Tensor) -> Tensor:
        return y * self.weights(y)

    def shape(self, image: Shape) -> Shape:
        if image[0] != 3:
            raise InputError(f"only RGB images can be coloured; this model's have {image[0]} channel(s)")
        return 1, *image[1:]


@dataclass(frozen=True)
class Blur(Operator):
    """Images blurred by a Gaussian of deviation `sigma` pixels, mirrored over their edges. Frequencies that it keeps
    less than `least` of count as unknown: their inverse would be noise.
    """

    sigma: float = 1.0
    least: float = 0.05
    name = "deblur"

    def __post_init__(self) -> None:
        for key in ("sigma", "least"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < 1e6:
                raise InputError(f"the {key} of a blur must be a number above 0; got {shown(value)}")

    def gains(self, x: Tensor) -> Tensor:
        """What is kept of each frequency of the mirrored image, (2H, W+1) in x's dtype; 0 where it is less than
        `least`."""
        rows, columns = torch.fft.fftfreq(2 * x.shape[2]), torch.fft.rfftfreq(2 * x.shape[3])
        square = rows.double()[:, None] ** 2 + columns.double() ** 2
        gain = torch.exp(-2 * (torch.pi * self.sigma) ** 2 * square)
        return torch.where(gain < self.least, 0.0, gain).to(x)

    def scaled(self, x: Tensor, gain: Tensor) -> Tensor:
        """x with its frequencies scaled: those of the image and its mirror images, which is the cosine transform."""
        wide = torch.cat([x, x.flip(3)], 3)
        whole = torch.cat([wide, wide.flip(2)], 2)  # (N, C, 2H, 2W)
        return torch.fft.irfft2(torch.fft.rfft2(whole) * gain, s=whole.shape[2:])[..., : x.shape[2], : x.shape[3]]

    def __call__(self, x: Tensor) -> Tensor:
        return self.scaled(x, self.gains(x))

    transpose = __call__  # it is symmetric

    def inverse(self, y: Tensor) -> Tensor:
        gain = self.gains(y)
        return self.scaled(y, torch.where(gain > 0, 1 / gain, 0.0))

    def solve(self, y: Tensor, r2: Tensor | float, s2: Tensor | float = 0.0) -> Tensor:
        gain = self.gains(y)
        return self.scaled(y, torch.where(gain > 0, 1 / (r2 * gain**2 + s2), 0.0))


TASKS: dict[str, type[Operator]] = {kind.name: kind for kind in (Inpainting, SuperResolution, Colouring, Blur)}


def operator_of(task: str, mask: Tensor | None = None, factor: int = 2, sigma: float = 1.0) -> Operator:
    """The operator of a task by its name, a key of `TASKS`. Raises InputError."""
    kind = choose("task", task, TASKS)
    if kind is Inpainting and mask is None:
        raise InputError("inpainting needs a mask")
    return {Inpainting: lambda: Inpainting(mask), SuperResolution: lambda: SuperResolution(factor)}.get(
        kind, lambda: Blur(sigma) if kind is Blur else kind()
    )()


def what(value: object) -> str:
    """A tensor's shape, or a value, in an error's line."""
    return str(tuple(value.shape)) if isinstance(value, Tensor) else shown(value)
