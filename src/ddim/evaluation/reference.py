"""What holds samples against real pictures: the reference, a feature network, and the floor between real pictures."""

from importlib.metadata import version
from pathlib import Path

import torch

from ddim.checkpoints import folders as checkpoint
from ddim.diffusion.model import Model
from ddim.errors import InputError
from ddim.evaluation import features, metrics
from ddim.images import batches as data
from ddim.jobs.sampling import Job, seconds_an_image
from ddim.plots import sheets as plot
from ddim.system.progress import progress

SMALL = {(1, 8, 8): "digits-small", (3, 32, 32): "cifar10-small"}
SHOWN, NEAREST = 8, 6  # samples in the figure of neighbours, and training pictures beside each


class Judge:
    """Measures the samples of one model. What cannot be measured is refused at once, before any sampling.

    source: training pictures, or an .npz of mu and sigma.  network: a feature network, by default the small one that
    fits the pictures.  n: pictures a cell.  held_out: real pictures for the floor, "" for two halves of the reference.
    """

    def __init__(self, model: Model, source: str, network: str = "", n: int = 50_000, held_out: str = ""):
        self.model, self.source, self.n = model, source, n
        self.features = features.find(network or SMALL.get(model.shape, "inception"), model.device)
        self.width = self.features(torch.zeros(1, *model.shape, dtype=torch.uint8)).shape[1]
        self.pictures = None
        if source.endswith(".npz"):
            self.reference = metrics.read(Path(source).expanduser())
            metrics.check_widths(self.reference, self.width)
        else:
            self.pictures = data.load(real(source, model))
            self.reference = self.known(self.pictures)
        for what, count in ((f"the reference {source}", self.reference.n), ("a cell", n)):
            if 0 < count <= self.width:
                print(
                    f"warning: {what} has {count} pictures, no more than the {self.width} dimensions of the features "
                    f"{self.features.name}: its covariance is singular and FID depends much on n"
                )
        self.floor = self.measure_floor(held_out)

    def known(self, pictures) -> metrics.Statistics:
        """Statistics of real pictures, kept in the cache folder."""
        with progress("features", len(pictures), "picture") as advance:
            return metrics.statistics(self.features, pictures, data.cache_folder(), advance=advance)

    def measure_floor(self, held_out: str) -> dict | None:
        """FID of real pictures against the reference: what a perfect model would reach at this n."""
        if held_out:
            held = data.load(real(held_out, self.model))
            held = held[: self.n] if isinstance(held, torch.Tensor) else held
            found, against = self.known(held), self.reference
            what = f"{found.n} pictures of {held_out} against the reference"
        elif self.reference.features is None or len(self.reference.features) < 4:
            return None
        else:
            values = self.reference.features
            n = min(self.n, len(values) // 2)
            order = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))
            found, against = metrics.Statistics.of(values[order[:n]]), metrics.Statistics.of(values[order[n:]])
            what = f"{n} pictures of the reference against its other {len(values) - n}"
        return {"fid": metrics.fid(against, found), "n": found.n, "what": what}

    def measure(self, job: Job) -> dict:
        """What there is to say of a finished job's pictures. Distances are kept beside them, under what they are of."""
        pictures = job.pictures()
        content = metrics.content(pictures)
        path = job.store.out / f"distances-{content}-{self.features.hash}-{self.reference.digest()}.json"
        if not path.exists():
            found = metrics.statistics(self.features, pictures)
            kid, deviation = metrics.kid(self.reference, found, device=self.model.device) or (None, None)
            shares = metrics.precision_recall(self.reference, found, device=self.model.device) or (None, None)
            checkpoint.write_json(path, {
                "fid": metrics.fid(self.reference, found),
                **{"kid": kid, "kid_deviation": deviation, "precision": shares[0], "recall": shares[1]},
            })  # fmt: skip
        return {
            **checkpoint.read_json(path),
            "evaluations": len(job.times) - 1,
            "seconds_an_image": seconds_an_image(sorted(job.store.out.glob("seconds-*.jsonl"))),
            "pictures": content,
        }

    def facts(self) -> dict:
        return {
            "features": {"name": self.features.name, "hash": self.features.hash, "width": self.width},
            "reference": {"source": self.source, "n": self.reference.n},
            "floor": self.floor,
            "torchmetrics": version("torchmetrics"),
        }

    def neighbours(self, job: Job, path: Path) -> bool:
        """Draw samples, each before its nearest training pictures: a copy would tell of memorisation.

        Returns whether it could: a reference of statistics, or too large for memory, has no pictures at hand.
        """
        if not isinstance(self.pictures, torch.Tensor):
            return False
        samples = job.pictures(SHOWN)
        index, distance = metrics.neighbours(samples, self.pictures, NEAREST)
        rows = [torch.cat([sample[None], self.pictures[near]]) for sample, near in zip(samples, index, strict=True)]
        labels = [f"sample {k}; nearest at {d[0]:.1f}" for k, d in enumerate(distance.tolist())]
        plot.save(plot.rows(rows, labels), path)
        return True


def real(source: str, model: Model) -> data.Pictures:
    """Real pictures in a model's shape. Raises InputError where they are smaller: enlarged ones are other pictures."""
    if not source:
        raise InputError("the model does not tell what it was trained on: name the training pictures by --reference")
    channels, size, _ = model.shape
    pictures = data.find(source, size, channels)
    pictures[0]  # where it is broken, this tells
    with pictures.open(0) as first:
        if min(first.size) < size and source != model.info.get("data"):
            width, height = first.size
            raise InputError(
                f"{source}: pictures of {width}×{height} are smaller than the model's {size}×{size}; name larger ones"
            )
    return pictures
