import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from ddim import images as data
from ddim.errors import InputError
from ddim.evaluation import features
from ddim.evaluation.features.inception import Inception, resize

CIFAR = Path(__file__).parents[3] / "shared" / "data" / "cifar10" / "test.parquet"


def test_shipped_networks_are_small():
    for name in features.SMALL:
        assert (Path(features.__file__).parent / f"{name}.safetensors").stat().st_size < 2e6


def test_digits_small_knows_digits_it_was_not_trained_on():
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    labels = torch.tensor(load_digits().target)
    _, held = train_test_split(np.arange(len(labels)), test_size=0.2, random_state=0, stratify=labels)
    found = features.find("digits-small")
    x = found(data.load(data.find("digits", 8, 1))[held])
    assert x.shape == (360, 64)
    assert (found.network.head(x).argmax(1) == labels[held]).float().mean() > 0.98


@pytest.mark.skipif(not CIFAR.exists(), reason="needs the CIFAR-10 test pictures beside the checkout")
def test_cifar10_small_knows_pictures_it_was_not_trained_on():
    import pyarrow.parquet
    from PIL import Image

    table = pyarrow.parquet.read_table(CIFAR).slice(0, 1000)
    encoded = (BytesIO(cell["bytes"]) for cell in table["img"].to_pylist())
    x = torch.stack([data.fit(Image.open(file), 32, 3) for file in encoded])
    found = features.find("cifar10-small")
    right = found.network.head(found(x)).argmax(1) == torch.tensor(table["label"].to_pylist())
    assert right.float().mean() > 0.79


def test_resize_is_tensorflow_1s_bilinear():
    x = torch.rand(1, 1, 5, 7, dtype=torch.float64)
    out = resize(x, 299)[0, 0]
    for i, j in ((0, 0), (100, 31), (250, 298), (298, 298)):
        y, z = i * 5 / 299, j * 7 / 299
        r, c = int(y), int(z)
        below, right = min(r + 1, 4), min(c + 1, 6)
        a, b = y - r, z - c
        top = (1 - b) * x[0, 0, r, c] + b * x[0, 0, r, right]
        bottom = (1 - b) * x[0, 0, below, c] + b * x[0, 0, below, right]
        assert out[i, j].item() == pytest.approx(((1 - a) * top + a * bottom).item(), abs=1e-6)
    assert torch.allclose(resize(torch.full((1, 3, 8, 8), 7.0), 299), torch.tensor(7.0))


def test_inception_has_the_published_parameters():
    with torch.device("meta"):
        state = Inception().state_dict()
    learned = {name: value for name, value in state.items() if name.endswith(("weight", "bias"))}
    assert sum(value.numel() for value in learned.values()) == 21_785_568  # Inception v3 without its classifier
    shapes = {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3),
        "Mixed_6c.branch7x7dbl_4.conv.weight": (160, 160, 7, 1),
        "Mixed_7a.branch7x7x3_3.conv.weight": (192, 192, 7, 1),
        "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
        "Mixed_7c.branch_pool.bn.running_var": (192,),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes


def test_inception_is_torch_fidelitys(tmp_path):
    """Against the public implementation that torchmetrics itself uses; random weights serve as well as any."""
    reference = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="needs torch-fidelity")
    torch.manual_seed(0)
    ours = Inception().eval()
    for name, value in ours.state_dict().items():
        if name.endswith(("running_mean", "bn.bias")):
            value.normal_(0, 0.1)
        elif name.endswith(("running_var", "bn.weight")):
            value.uniform_(0.8, 1.4)
    weights = ours.state_dict() | {"fc.weight": torch.randn(1008, 2048), "fc.bias": torch.zeros(1008)}
    torch.save(weights, tmp_path / "weights.pth")
    theirs = reference.FeatureExtractorInceptionV3(
        "i", ["2048"], feature_extractor_weights_path=str(tmp_path / "weights.pth")
    ).eval()
    found = features.find(str(tmp_path / "weights.pth"))
    for size in (32, 299, 331):
        x = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
        with torch.no_grad():
            assert torch.allclose(found(x), theirs(x)[0], atol=1e-5)


class Stand(nn.Module):
    """A feature network in the public TorchScript file's form."""

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        pooled = x.float().mean(dim=(2, 3))
        return torch.cat([pooled, pooled**2], dim=1) if return_features else pooled


class Flat(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().mean()


@pytest.mark.filterwarnings("ignore")
def test_a_torchscript_file_is_asked_for_its_features(tmp_path):
    torch.jit.script(Stand()).save(tmp_path / "stand.pt")
    found = features.find(str(tmp_path / "stand.pt"))
    x = torch.randint(0, 256, (3, 3, 9, 9), dtype=torch.uint8)
    assert torch.allclose(found(x), Stand()(x, True))
    assert found(x[:, :1]).shape == (3, 6)  # grey is shown as RGB
    assert found.hash == hashlib.sha256((tmp_path / "stand.pt").read_bytes()).hexdigest()[:16]
    torch.jit.script(Flat()).save(tmp_path / "flat.pt")
    with pytest.raises(InputError, match=r"must give \(N, width\) for N images; it gave \(\)"):
        features.find(str(tmp_path / "flat.pt"))(x)


def test_bad_files(tmp_path):
    with pytest.raises(InputError, match=r"no such feature file.*digits-small.*get the Inception weights from https"):
        features.find(str(tmp_path / "none.pt"))
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(InputError, match="neither TorchScript nor weights"):
        features.find(str(tmp_path / "text.pth"))
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "part.pth")
    with pytest.raises(InputError, match=r"part\.pth: lacks Conv2d_1a_3x3\.bn"):
        features.find(str(tmp_path / "part.pth"))
    torch.save(nn.Linear(2, 2), tmp_path / "pickled.pth")  # would run code if it were unpickled
    with pytest.raises(InputError, match="neither TorchScript nor weights"):
        features.find(str(tmp_path / "pickled.pth"))


def test_small_networks_take_images_of_any_shape():
    """Resized as Pillow's antialiased bilinear filter does, RGB as its luma, grey as RGB."""
    generator = torch.Generator().manual_seed(0)
    for name, shape in (("cifar10-small", (96, 96)), ("cifar10-small", (20, 20)), ("digits-small", (28, 28))):
        network = features.find(name)
        channels, size, _ = network.shape
        for colours in (1, 3):
            x = torch.randint(0, 256, (2, colours, *shape), dtype=torch.uint8, generator=generator)
            x = F.interpolate(x.float(), shape, mode="nearest").to(torch.uint8)
            mode = "L" if channels == 1 else "RGB"
            pictures = [Image.fromarray(each.permute(1, 2, 0).squeeze(-1).numpy()).convert(mode) for each in x]
            small = [
                np.array(p.resize((size, size), Image.Resampling.BILINEAR)).reshape(size, size, -1) for p in pictures
            ]
            expected = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2)
            made = features.resized(x, network.shape)
            assert (made.int() - expected.int()).abs().max() <= 2  # Pillow rounds between its two passes
            torch.testing.assert_close(network(x), network(made))
    x = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=generator)
    assert torch.equal(features.resized(x, (3, 32, 32)), x)


@pytest.fixture
def server(tmp_path):
    """A local stand-in for the place where the Inception weights are."""
    root = tmp_path / "served"
    root.mkdir()
    (root / "weights.pth").write_bytes(b"not really weights")

    class Handler(SimpleHTTPRequestHandler):
        asked = 0

        def log_message(self, *args):
            Handler.asked += 1

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/weights.pth", Handler
    server.shutdown()
    server.server_close()


def test_inception_is_downloaded_once_and_its_hash_checked(server, tmp_path, monkeypatch):
    url, handler = server
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(features, "URL", url)
    with pytest.raises(InputError, match=r"cannot be downloaded \(invalid hash value.*name the file by --features"):
        features.download()
    assert list((tmp_path / "cache").iterdir()) == []
    monkeypatch.setattr(features, "SHA256", hashlib.sha256(b"not really weights").hexdigest())
    path = features.download()
    assert path.read_bytes() == b"not really weights"
    asked = handler.asked
    assert features.download() == path
    assert handler.asked == asked
    monkeypatch.setattr(features, "URL", url.replace("weights", "absent"))
    with pytest.raises(InputError, match=r"cannot be downloaded \(HTTP Error 404"):
        features.download()
