"""What the project asks of the machine: files, JSON, progress, devices and memory, processes. Nothing of diffusion."""

from ddim.system.files import appending, folder, held, replacing, writable
from ddim.system.json import claim, read_json, write_json
from ddim.system.machine import cache_folder, pick_device
from ddim.system.progress import progress, track

__all__ = [
    "appending", "cache_folder", "claim", "folder", "held", "pick_device", "progress", "read_json", "replacing",
    "track", "writable", "write_json",
]  # fmt: skip
