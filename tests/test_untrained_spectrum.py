"""Spectra of untrained networks: found again, and the same as by hand."""

from dataclasses import replace

import numpy as np
import pytest

from rfkit import data, experiments, hessian, models, presets, training
from rfkit.experiments import runner, store

DEMO = presets.get("demo").select(architectures="vgg19", levels=4)
SMALL = experiments.ANALYSES["untrained_spectrum"].settings(
    DEMO, width=1 / 32, k=3, tol=1e-3, images=6, steps=4, calibration_images=20
)


def measure(root, **options):
    return experiments.measure("untrained_spectrum", DEMO, SMALL, root=root, jobs=1, **options)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return root, measure(root)[0]


def test_as_by_hand(made):
    _, record = made
    digits = data.load("digits")
    model = models.seeded_build("vgg19", 4, width=1 / 32)
    training.remember_statistics(model, digits.mean, digits.std)
    model = training.calibrated(model.eval(), digits.train_images[:20])
    exact = hessian.top_eigenvalues(model, digits.train_images[:6], digits.train_labels[:6], 3, tol=1e-6).values
    values = record["values"]
    np.testing.assert_allclose(values["values"], exact, atol=1e-3 * exact[0])
    assert record["provenance"]["data"]["name"] == "digits" and values["left_out"] > values["parameters"] / 2


def test_found_again_and_not_computed_twice(made, monkeypatch, tmp_path):
    root, record = made
    monkeypatch.setattr(runner, "make", None)
    assert measure(root) == [record] and not list(root.rglob("*.pt"))
    source, requests = data.load("digits").source, experiments.requests("untrained_spectrum", DEMO, SMALL)
    store.record_result(requests[0].folder(root, source), requests[0].folder(tmp_path / "demo", source))
    monkeypatch.setattr("rfkit.experiments.finding.RESULTS", tmp_path)
    assert requests[0].find(DEMO, tmp_path / "elsewhere") == record
    frame = experiments.frame("untrained_spectrum", [record])
    assert frame.iloc[0][["rf_level", "field_px", "stage", "images"]].tolist() == [4, 715, "init", 6]


def test_a_record_of_another_data_set_is_not_taken(made, monkeypatch):
    root, record = made
    (request,) = experiments.requests("untrained_spectrum", DEMO, SMALL)
    assert request.find(DEMO, root) == record
    assert replace(request, dataset="cifar10").find(DEMO, root) is None
    assert request.find(DEMO.select(datasets="digits"), root / "elsewhere") is None
