"""Spectra of untrained networks: found again, resumed, and the same as by hand."""

from dataclasses import replace

import numpy as np
import pytest

from rfkit import data, hessian, initial_spectra, models, presets, training
from rfkit.batches import remember_statistics
from rfkit.config import ConfigError
from rfkit.files import write_json

SMALL = initial_spectra.Setting("vgg19", 4, width=1 / 32, k=3, tol=1e-3, images=6, steps=4, calibration_images=20)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return root, initial_spectra.ensure([SMALL], presets.get("demo"), root=root)[0]


def test_as_by_hand(made):
    _, record = made
    digits = data.load("digits")
    model = models.seeded_build("vgg19", 4, width=1 / 32)
    remember_statistics(model, digits.mean, digits.std)
    model = training.calibrated(model.eval(), digits.train_images[:20])
    exact = hessian.top_eigenvalues(model, digits.train_images[:6], digits.train_labels[:6], 3, tol=1e-6).values
    np.testing.assert_allclose(record["values"], exact, atol=1e-3 * exact[0])
    assert record["provenance"]["data"]["name"] == "digits" and record["left_out"] > record["parameters"] / 2


def test_found_again_and_not_computed_twice(made, monkeypatch):
    root, record = made
    monkeypatch.setattr(initial_spectra, "compute", None)
    assert initial_spectra.ensure([SMALL], presets.get("demo"), root=root) == [record]
    assert not list(root.rglob("*.pt"))
    initial_spectra.record([record], "demo", results=root / "results")
    assert initial_spectra.find(SMALL, "demo", root=root / "elsewhere", results=root / "results") == record
    frame = initial_spectra.frame([record])
    assert frame.iloc[0][["rf_level", "field_px", "stage", "images"]].tolist() == [4, 715, "init", 6]


def test_another_setting_under_its_name_is_refused(made, tmp_path):
    _, record = made
    name = f"digits-{initial_spectra._stem(SMALL)}.json"
    write_json(tmp_path / "initial_spectra" / name, record | {"setting": record["setting"] | {"seed": 7}})
    with pytest.raises(ConfigError, match="another setting"):
        initial_spectra.find(SMALL, "demo", data.load("digits").source, root=tmp_path)


def test_a_record_of_another_data_set_is_not_taken(made):
    root, record = made
    source = data.load("digits").source
    assert initial_spectra.find(SMALL, "demo", source, root=root) == record
    assert initial_spectra.find(SMALL, "demo", replace(source, sha256="0"), root=root) is None
    assert initial_spectra.find(SMALL, "demo", root=root) is None  # a reader sees what is committed only


def test_a_stopped_search_goes_on(tmp_path, monkeypatch):
    products = []
    product = hessian.HessianOperator.__call__

    def stop_at_some(self, vector):
        products.append(1)
        if len(products) == 35:
            raise KeyboardInterrupt
        return product(self, vector)

    monkeypatch.setattr(hessian.HessianOperator, "__call__", stop_at_some)
    with pytest.raises(KeyboardInterrupt):
        initial_spectra.ensure([SMALL], presets.get("demo"), root=tmp_path)
    assert len(list(tmp_path.rglob("*.checkpoint.pt"))) == 1
    (record,) = initial_spectra.ensure([SMALL], presets.get("demo"), root=tmp_path)
    assert len(products) - 35 < record["products"] and not list(tmp_path.rglob("*.pt"))
