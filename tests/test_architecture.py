"""The folder listing is the architecture: imports go downwards only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rfkit"
LAYERS = (
    {"files", "stats", "rf_rules", "numpy_layers", "numpy_training", "field_answers", "checks", "styles", "patterns"},
    {"rf_layout", "rf_gradients", "lanczos", "numpy_nets"},
    {"rf_trace"},
    {"receptive_field"},
    {"config", "published", "presets", "image_files", "store"},
    {"data", "models", "batches"},
    {"records", "training"},
    {"pruning", "stacked", "cost", "spectra"},
    {"projection", "thinning", "cka"},
    {"hessian", "landscape"},
    {"outcomes", "analyses", "contrast_nets"},
    {"contrasts"},
    {"runner", "pairs", "importance_records", "initial_spectra", "recipes"},
    {"study", "importance", "tables"},
    {"evidence", "summaries", "effort", "widgets"},
    {"claims"},
    {"claims_printed", "ledger"},
    {"plots", "views"},
    {"plots_landscape", "plots_homework", "plots_pruning"},
    {"editions", "kernel", "printing"},
    {"book", "grading"},
    {"__main__"},
)
TORCH_FREE = {
    "files",
    "styles",
    "patterns",
    "stats",
    "config",
    "published",
    "presets",
    "image_files",
    "store",
    "data",
    "records",
    "outcomes",
    "contrasts",
    "spectra",
    "tables",
    "study",
    "pairs",
    "importance_records",
    "initial_spectra",
    "evidence",
    "summaries",
    "effort",
    "claims",
    "claims_printed",
    "ledger",
    "plots",
    "plots_landscape",
    "plots_homework",
    "plots_pruning",
    "widgets",
}
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def imports(path, top_level_only=False):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_module_has_a_layer():
    assert sorted(set().union(*LAYERS)) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downwards(module):
    layer = {name: depth for depth, names in enumerate(LAYERS) for name in names}
    own = {part.split(".")[1] for part in imports(PACKAGE / f"{module}.py") if part and part.startswith("rfkit.")}
    used = own & set(MODULES)
    upward = {name for name in used if layer[name] > layer[module]}
    sideways = {name for name in used if layer[name] == layer[module] and module in reached(name)}
    assert not upward, f"{module} imports {upward} from above"
    assert not sideways, f"{module} and {sideways} import each other"


def reached(module):
    own = {part.split(".")[1] for part in imports(PACKAGE / f"{module}.py") if part and part.startswith("rfkit.")}
    return own & set(MODULES)


@pytest.mark.parametrize("module", sorted(TORCH_FREE))
def test_light_modules_load_without_torch(module):
    heavy = {name.split(".")[0] for name in imports(PACKAGE / f"{module}.py", top_level_only=True) if name}
    assert not heavy & {"torch", "torchvision"}


def test_importing_rfkit_is_light():
    code = "import sys, rfkit; print([m for m in ('torch', 'matplotlib', 'numpy', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    # pages from records wait for nothing that trains, nor for what their modules import
    code = f"import sys; from rfkit import {', '.join(sorted(TORCH_FREE))}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_modules_stay_small():
    sizes = {path.name: len(path.read_text().splitlines()) for path in PACKAGE.glob("*.py")}
    assert max(sizes.values()) <= 400, sizes


def test_unknown_attribute_lists_the_modules():
    import rfkit

    assert "models" in dir(rfkit) and rfkit.models.ARCHITECTURES
    with pytest.raises(AttributeError, match="no attribute 'nodels'; modules:.*models"):
        _ = rfkit.nodels
