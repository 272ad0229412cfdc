"""ddim decode: latents to pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from ddim.cli.commands import Counted, OnModel, Precision, Spacing, Times, batches_of, opened, parse, to_pictures
from ddim.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Decode(OnModel):
    """Decode the latents that ddim encode made, down the grid that they were made on."""

    latents: Positional[Path]
    """A file that ddim encode wrote."""
    steps: int | None = None
    """Another number of steps than the latents' own; needs --force."""
    spacing: Spacing = "linear"
    """Of those other steps."""
    times: Times = None
    """Another grid than the latents' own; needs --force."""
    force: bool = False
    """Decode on another model or another grid than the latents were made with."""
    out: Path = Path("decoded")
    """Folder to write."""
    precision: Precision = "fp32"
    """Arithmetic of the network: in less, what is encoded loses its last digits on the way; see ddim sample --help."""


def main(args: Sequence[str]) -> None:
    o = parse(Decode, "decode", args)
    import torch

    from ddim.checkpoints import folders as checkpoint
    from ddim.diffusion.sampling import grid
    from ddim.images import batches as data
    from ddim.jobs.latent_files import Latents
    from ddim.plots import sheets as plot
    from ddim.system.files import folder
    from ddim.system.progress import progress

    latents = Latents(o.latents)
    model = opened(o)
    if latents.shape[1:] != tuple(model.shape):
        raise InputError(f"{o.latents}: latents of shape {latents.shape[1:]}; this model makes {tuple(model.shape)}")
    here, made = checkpoint.fingerprint(model), latents.about["model"]
    if here != made and not o.force:
        raise InputError(f"{o.latents}: made with another model ({made}; this one is {here}); --force decodes anyway")
    own = latents.about["times"]
    times = own if o.steps is None and o.times is None else grid(model, o.steps or len(own) - 1, o.spacing, o.times)
    times = grid(model, 1, times=times)  # those of the file are checked against this model too
    if times != own and not o.force:
        raise InputError(f"{o.latents}: made on another grid, of {len(own) - 1} steps; --force decodes anyway")
    if len(latents.tensors) == 2 and times[:2] != own[:2]:
        raise InputError(
            f"{o.latents}: exact latents live at times {own[0]} and {own[1]}; a grid must begin with these"
        )
    out = folder(o.out)
    batches = batches_of(model, len(latents), o.batch_size)
    shown = []
    with (
        torch.no_grad(),
        progress("decoding", len(batches) * (len(times) - len(latents.tensors))) as advance,
    ):
        for images in batches:
            z = tuple(part.to(model.device) for part in latents.batch(images))
            pictures = data.to_uint8(to_pictures(Counted(model, advance), z, times)).cpu()
            for k, picture in zip(images, pictures, strict=True):
                plot.save(plot.picture(picture), out / f"{k:05d}.png")
            shown += list(pictures[: max(0, 64 - len(shown))])
    plot.save(plot.grid(torch.stack(shown)), out / "grid.png")
    print(f"{len(latents)} pictures: {out}\ngrid of the first {len(shown)}: {out / 'grid.png'}")
