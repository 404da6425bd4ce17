"""rfkit: receptive fields of neural networks, and a paper about them that you can re-run.

Modules are imported when first used, so ``import rfkit`` loads neither torch nor matplotlib.
"""

import importlib
import pkgutil

__version__ = "0.1.0"
_MODULES = frozenset(module.name for module in pkgutil.iter_modules(__path__))


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; modules: {', '.join(sorted(_MODULES))}")


def __dir__():
    return sorted([*globals(), *_MODULES])
