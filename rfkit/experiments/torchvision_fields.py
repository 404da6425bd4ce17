"""Analysis: the receptive field of every image classifier of torchvision, and how much of it an untrained one uses."""

import warnings

import pandas as pd

import rfkit
from rfkit.experiments.analysis import Analysis

LARGEST_GFLOPS = 20
"""Larger networks get no effective field: it takes a backward pass in float64."""


def settings(preset, names=None):
    """One network each, by default all that torchvision has, the same for every preset."""
    import torchvision

    every = torchvision.models.list_models(module=torchvision.models) if names is None else names
    return [({"network": name, "repeats": 4, "threads": 1, "version": 1}, None) for name in every]


def compute(_, settings, work):
    """Theoretical field at the image size of the published weights, with and without squeeze-and-excitation."""
    import torch
    from torch import nn
    from torchvision.models import get_model_weights
    from torchvision.ops import SqueezeExcitation

    weights = get_model_weights(settings["network"]).DEFAULT
    side = weights.transforms.keywords["crop_size"]
    shape = (3, side, side)
    model = _without_data(settings["network"], side)
    result = {
        "image_px": side, "parameters": sum(p.numel() for p in model.parameters()), "gflops": weights.meta["_ops"],
        "top1": weights.meta["_metrics"]["ImageNet-1K"]["acc@1"], "weights": weights.name,
        "squeezes": any(isinstance(each, SqueezeExcitation) for each in model.modules()),
        "attends": any(isinstance(each, nn.MultiheadAttention) for each in model.modules()),
    }  # fmt: skip
    try:
        last = rfkit.receptive_field.receptive_field(model, shape)
    except rfkit.receptive_field.UnsupportedOperation as error:
        return result | {"refused": str(error)}
    result |= {"field_px": _finite(last), "stride": last.stride[0], "map": last.shape[0]}
    if result["squeezes"]:
        for name, module in list(model.named_modules()):
            if isinstance(module, SqueezeExcitation):
                model.set_submodule(name, nn.Identity())
        last = rfkit.receptive_field.receptive_field(model, shape)
    result["convolutions_px"] = _finite(last)
    if not result["attends"] and result["gflops"] <= LARGEST_GFLOPS:
        torch.manual_seed(0)
        untrained = _with_data(settings["network"], side)
        effective = rfkit.receptive_field.effective(untrained, None, side, repeats=settings["repeats"])
        result |= {"half_px": effective.side_px(0.5), "layer": effective.name}
    return result


def _with_data(name, side):
    from torchvision.models import get_model

    options = {"image_size": side} if name.startswith("vit_") else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about other initial weights in later releases
        return get_model(name, **options).eval()


def _without_data(name, side):
    """A network whose weights take no memory."""
    import torch
    from torch.overrides import TorchFunctionMode

    class OnMeta(TorchFunctionMode):
        """Weights alone: a network may compute with small tensors while it is built."""

        def __torch_function__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}) | ({"device": "meta"} if func is torch.empty else {}))

    with OnMeta():
        return _with_data(name, side)


def _finite(field):
    return None if max(field.size) == float("inf") else max(field.size)


def seconds(settings, _):
    """On average; the largest take a minute."""
    return 10


def frame(results):
    """One row per network; field_px is infinite where a unit sees the whole image, missing where there is no rule."""
    return pd.DataFrame([_row(each["settings"]["network"], each["values"]) for each in results])


def _row(name, values):
    field, why = values.get("field_px"), ""
    if "refused" in values:
        why = "no rule"
    elif values["attends"]:
        field, why = float("inf"), "attention"
    elif field is None:
        field, why = float("inf"), "squeeze-and-excitation"
    if values["attends"]:  # the last map of pixels is that of the patches
        values = values | {"convolutions_px": None}
    names = ("image_px", "stride", "map", "convolutions_px", "half_px", "parameters", "gflops", "top1")
    return {"network": name, "field_px": field} | {key: values.get(key) for key in names} | {"why": why}


ANALYSIS = Analysis("torchvision_fields", "network", settings, compute, frame, seconds, planned=False, on_cpu=True)
