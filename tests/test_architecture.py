"""The folder listing is the architecture: rooms import downwards, and pages from records wait for no torch."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rfkit"
ROOMS = [path.stem for path in PACKAGE.iterdir() if path.stem not in ("reference", "__init__", "__pycache__")]
ORDER = (  # each imports from those before it only
    "files stats numpy_layers config data presets models receptive_field training pruning hessian cka projection "
    "homework contrast_nets experiments outcomes tables claims report book cli __main__"
).split()
PROMISED = """
receptive_field.closed_form kernels strides dilations
receptive_field.trace model input_shape
receptive_field.receptive_field model input_shape layer
receptive_field.measured model layer input_shape
receptive_field.effective model layer input_size repeats seed
receptive_field.Field name size stride center
receptive_field.EffectiveField
models.build architecture level width num_classes
models.feature_extractor model
data.load name root image_size
data.ImageData train_images train_labels test_images test_labels class_names mean std source
training.fit model data config
training.evaluate model images labels
pruning.Masks
pruning.prune model rate method
pruning.sparsity model masks
pruning.usable_weights model input_shape
pruning.tap_utilisation model input_shape
pruning.fine_tune model masks data config
hessian.top_eigenvalues model images labels k tol seed mode
hessian.EigenResult values residuals products
hessian.calibrate_batchnorm model images
hessian.spectral_density model images labels probes steps seed
hessian.DensityResult
cka.linear_cka x y unbiased
cka.layer_similarity model_a model_b images layers batch_size
cka.SimilarityResult matrix layers_a layers_b
projection.gradient_projection make_model input_size repeats seed backward
projection.ProjectionResult pattern maxima
numpy_layers.conv_forward x w b stride padding dilation method
numpy_layers.conv_backward dout cache
numpy_layers.max_pool_forward x size stride method
numpy_layers.max_pool_backward dout cache
numpy_layers.spatial_batchnorm_forward x gamma beta running train
numpy_layers.spatial_batchnorm_backward dout cache
presets.get name protocol
presets.names
tables.paper_table n preset
"""
LIGHT = "files stats config data presets experiments outcomes tables claims report".split()


def imported(room):
    """{room: whether its face only is used} of what a room imports from others, anywhere in it."""
    paths = (PACKAGE / room).rglob("*.py") if (PACKAGE / room).is_dir() else [PACKAGE / f"{room}.py"]
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rfkit":
                parts = node.module.split(".")
                yield from ((parts[1], len(parts) == 2),) if parts[1:] else ((a.name, True) for a in node.names)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "rfkit":
                yield node.attr, True  # loaded when it is used


def test_rooms_import_downwards_and_through_faces():
    assert sorted(ORDER) == sorted(ROOMS)
    for room in ORDER:
        for other, face in imported(room):
            if other in ORDER and other != room:
                assert ORDER.index(other) < ORDER.index(room), f"{room} imports {other} from above"
                inside = other == "homework" or (other, room) in (("experiments", "cli"), ("experiments", "book"))
                assert face or inside, f"{room} imports what is private to {other}"


@pytest.mark.parametrize("promise", PROMISED.split("\n")[1:-1])
def test_names_and_parameters_that_others_call_are_there(promise):
    name, *parameters = promise.split()
    room, _, attribute = name.partition(".")
    found = getattr(importlib.import_module(f"rfkit.{room}"), attribute)
    assert not parameters or [each for each in inspect.signature(found).parameters if each in parameters] == parameters


def test_importing_rfkit_is_light():
    for names, heavy in (("", ("torch", "matplotlib", "numpy", "pandas")), (", ".join(LIGHT), ("torch",))):
        code = f"import sys, rfkit; {f'from rfkit import {names};' if names else ''} print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert not set(heavy) & set(done.stdout.split())


def test_the_library_stays_small():
    """A ratchet: lower it after a deletion, raise it for what readers get. The hidden tests are tests."""
    files = [path for path in PACKAGE.rglob("*.py") if path.parent.name != "hidden_tests"]
    assert sum(len(path.read_text().splitlines()) for path in files) <= 12_772


def test_ci_runs_only_what_is_pinned():
    """Every package of the requirements is locked at that version with its hashes, every action at its commit."""
    root = PACKAGE.parent
    for name in ("requirements", "requirements-cluster"):
        locked = dict(
            re.findall(r"^([\w.-]+)==(\S+)[^\n]* \\\n +--hash=", (root / f".ci/{name}.lock").read_text(), re.M)
        )
        asked = dict(re.findall(r"^([\w.-]+)==(\S+)", (root / f"{name}.txt").read_text(), re.M))
        assert asked and {package: locked.get(package) for package in asked} == asked
    actions = re.findall(r"uses: *(\S+)", (root / ".github/workflows/ci.yml").read_text())
    assert actions and all(re.search("@[0-9a-f]{40}$", action) for action in actions)


def test_unknown_attribute_lists_the_modules():
    import rfkit

    assert "models" in dir(rfkit) and rfkit.models.ARCHITECTURES
    with pytest.raises(AttributeError, match="no attribute 'nodels'; modules:.*models"):
        _ = rfkit.nodels
