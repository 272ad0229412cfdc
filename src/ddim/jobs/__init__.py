"""Work on many images that is written as it goes: sampling jobs, encoding and decoding files, figures of latents."""

from typing import TYPE_CHECKING

from ddim.lazy import exports

if TYPE_CHECKING:
    from ddim.jobs.directions import directions_figure
    from ddim.jobs.latent_figures import diffusion_sequence, interpolation_figure
    from ddim.jobs.latent_jobs import decode_files, encode_files
    from ddim.jobs.neighbourhood import nearby_files
    from ddim.jobs.picking import picked
    from ddim.jobs.restoring import restore_files
    from ddim.jobs.sampling import sample_files
    from ddim.jobs.varying import vary_files

_HOMES = {
    "diffusion_sequence": "latent_figures",
    "nearby_files": "neighbourhood",
    "interpolation_figure": "latent_figures",
    "decode_files": "latent_jobs",
    "encode_files": "latent_jobs",
    "directions_figure": "directions",
    "picked": "picking",
    "restore_files": "restoring",
    "sample_files": "sampling",
    "vary_files": "varying",
}

__all__ = list(_HOMES)
__getattr__, __dir__ = exports(__name__, _HOMES)
