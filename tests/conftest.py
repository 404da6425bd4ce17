"""Every test gets its own folders and no network."""

import functools
import http.server
import io
import os
import shutil
import socket
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("OMP_NUM_THREADS", "1")
EXHAUSTIVE = bool(os.environ.get("RFKIT_EXHAUSTIVE"))
"""More random cases of the exact oracles, and the real compiler: `make exhaustive`."""
SLOWEST_FIRST = ("test_book", "test_grading", "test_store", "test_random_networks", "test_faults", "test_training")


def pytest_collection_modifyitems(items):
    """The longest files begin first, so that none is left to one process at the end."""
    order = {name: place for place, name in enumerate(SLOWEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    monkeypatch.setenv("RFKIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("RFKIT_DATA", str(tmp_path / "data"))

    lookup = socket.getaddrinfo

    def refuse(host, *rest, **options):
        if host in ("127.0.0.1", "localhost"):
            return lookup(host, *rest, **options)
        raise OSError(f"the network is off in tests ({host})")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)


def png(value, size=8, mode="RGB"):
    """Bytes of a small image, noisy so that every channel varies."""
    noise = np.random.default_rng(value).integers(0, 255, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def class_files(classes=("cat", "dog"), splits=("train", "test"), count=4, size=8):
    return {
        f"{split}/{name}/{i}.png": png(hash_of(split, name, i), size)
        for split in splits
        for name in classes
        for i in range(count)
    }


def hash_of(*parts):
    return sum(ord(c) * (i + 1) for i, c in enumerate("".join(map(str, parts))))


def write_tree(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def served(tmp_path):
    """Address under which the files of `tmp_path` can be downloaded."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium, or what there is."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def digits():
    from rfkit import data

    return data.load("digits").sample(128, 64)
