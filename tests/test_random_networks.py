"""Theory against gradients on random networks; a file of its own so that another worker can run it."""

import torch
from conftest import EXHAUSTIVE
from hypothesis import HealthCheck, assume, given, settings
from random_nets import networks

from rfkit import receptive_field as rf
from rfkit.receptive_field import gradients


def agree(net, layer, long=160, short=24):
    """Every unit in the middle of a map: the traced interval is the measured one."""
    double, name = gradients.positive_copy(net), layer.partition("#")[0]
    for axis, shape in enumerate([(3, long, short), (3, short, long)]):
        try:
            with torch.no_grad():
                double(torch.zeros(1, *shape, dtype=torch.float64))
        except RuntimeError:
            assume(False)  # a map shrank to nothing: torch itself refuses
        field = rf.receptive_field(net, shape, layer)
        assume(min(field.shape) >= 3 and field.size[axis] < long - 64)
        found, *_ = gradients.supports(double, name, 1, shape, axis, span=32)
        for unit, seen in found.items():
            first, last = field.axes[axis].at(unit)
            if first < 0 <= last or first < long <= last:
                continue  # the image ends before the field does
            nothing = last < first or 0 in field.size
            assert seen == (range(0) if nothing else range(first, last + 1)), (axis, unit)
    return field


@settings(
    max_examples=2000 if EXHAUSTIVE else 100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(networks())
def test_random_networks_trace_equals_gradients(net):
    field = agree(net, "out")
    assert field.aligned or "branches" in dict(net.named_children())
