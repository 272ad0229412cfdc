"""The images that choices in the latent space lead to, as files."""

from collections.abc import Sequence
from pathlib import Path

from ddim.diffusion.model import Model
from ddim.diffusion.neighbourhood import nearby
from ddim.diffusion.sampling import sample
from ddim.errors import InputError
from ddim.images.pixels import to_uint8
from ddim.jobs.image_files import Pngs
from ddim.jobs.sampling import Sampled, check_named, sheet_beside
from ddim.plots import sheets
from ddim.system.files import clean, folder, held, is_part


def nearby_files(
    model: Model,
    out: str | Path,
    choices: Sequence[int] = (),
    distance: float | Sequence[float] = 0.3,
    n: int = 9,
    seed: int = 0,
    steps: int | None = None,
    solver: str | None = None,
    spacing: str | None = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> Sampled:
    """Write the images of `ddim.nearby` into the folder `out`, a PNG file each; their sheet lies beside it.

    steps, solver, spacing: as for `ddim.sample`. Raises InputError, also where the folder holds other files.
    """
    check_named(model, out)
    out = Path(out)
    beside = sheet_beside(out)
    z = nearby(model, choices, distance, n, seed)  # (n, C, H, W)
    with held(folder(out)):
        clean(out)
        files = Pngs(out)
        if any(path not in {files.file(k) for k in range(n)} and not is_part(path) for path in out.iterdir()):
            raise InputError(f"{out}: holds other files; name an empty or a new folder")
        how = {"noise": z, "batch_size": batch_size, "progress": progress}
        images = sample(model, steps=steps, solver=solver, spacing=spacing, **how)
        files.write(range(n), to_uint8(images))
    return Sampled(out, sheets.save(sheets.grid(images), beside), n)
