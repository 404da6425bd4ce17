import atexit
import contextlib
import json
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import class_files, write_zip
from test_config import RUN

from rfkit import experiments, files, presets, training
from rfkit.cli import main
from rfkit.config import ConfigError, run_config
from rfkit.experiments import pool, provenance, runner, store
from rfkit.experiments.networks import build, load_model
from rfkit.experiments.registry import ANALYSES
from rfkit.experiments.store import BusyError, Run, Store
from rfkit.files import StoreError

SMOKE = presets.get("smoke").select(architectures="vgg19", levels=3)


def smoke_unit(**changes):
    (unit,) = experiments.units(SMOKE.select(**changes))
    return unit, experiments.load("digits", SMOKE.image_limit)


def curve_only(unit):
    return replace(unit, asked={"pruning": unit.asked["pruning"]})


MADE = {}


def complete(**changes):
    """A finished run in this test's store, trained once for all tests and copied."""
    unit, data = smoke_unit(**changes)
    key, folder = repr(changes), Store().root / Path(unit.config.folder).parent
    if key in MADE and not folder.exists():
        shutil.copytree(MADE[key], folder)
    run = runner.complete(unit, Store(), data=data)
    if key not in MADE:
        MADE[key] = Path(tempfile.mkdtemp(prefix="rfkit-tests-")) / "run"
        shutil.copytree(folder, MADE[key])
        atexit.register(shutil.rmtree, MADE[key].parent)
    return unit, run


def test_a_finished_run_holds_what_it_should():
    unit, run = complete()
    planned = {each.name: unit.asked[each.name] for each in experiments.named() if each.name in unit.asked}
    assert run.done and run.config == unit.config and set(planned) < set(unit.asked)
    assert {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()} - {".lock"} == {
        "DONE", "config.json", "metrics.csv", "provenance.json", "summary.json", "weights/init.pt",
        "weights/final.pt", "weights/last.pt",
        *(f"analysis/{a}-{store.key_of(s)}/{f}" for a, s in planned.items() for f in ("DONE", "result.json")),
    }  # fmt: skip
    assert run.metrics[-1]["test_accuracy"] == run.summary["test_accuracy"]
    data = run.provenance["data"]
    assert data["label"] == "scikit-learn digits" and data["sha256"] == unit.config.data_sha256
    assert run.provenance["threads"] == 1 and run.provenance["versions"]["torch"] == torch.__version__.split("+")[0]
    assert os.uname().nodename not in json.dumps(run.provenance) or len(os.uname().nodename) < 4
    analysis = run.result("pruning")
    assert analysis["rates"] == [0, 0.5, 0.9] and len(analysis["test_accuracy"]) == len(analysis["layer_sparsity"]) == 3
    assert analysis["test_accuracy"][0] == run.summary["test_accuracy"]
    assert analysis["usable_kept"][0] == sum(analysis["usable"]) < sum(analysis["prunable"])  # level 3: maps of 1x1
    tuned = run.result("fine_tune")
    assert tuned["sparsity"] == pytest.approx(0.9, abs=1e-4) and tuned["epochs"] == 1


def test_pairs_of_seeds_come_with_the_runs():
    from rfkit import experiments, presets

    chosen = presets.get("smoke").select(architectures="vgg19", levels=[3], seeds="0,1")
    found = experiments.frame("pair", experiments.ensure(chosen, jobs=1))
    assert set(found["seed"]) == {"0-1"} and set(found["stage"]) == {"init", "final"}


def test_rates_that_were_not_asked_for_are_not_shown():
    from rfkit import experiments, presets

    smoke = presets.get("smoke").select(architectures="vgg19", levels=[3])
    complete()
    wide, narrow = experiments.find(smoke)[0], experiments.find(smoke.select(rates=[0.5]), complete=False)[0]
    assert experiments.frame("pruning", wide)["pruning_rate"].tolist() == [0, 0.5, 0.9]
    assert experiments.frame("pruning", narrow)["pruning_rate"].tolist() == [0, 0.5]
    (run,) = narrow
    assert run.result("pruning")["rates"] == [0, 0.5, 0.9] and run.places("pruning", [0, 0.5, 0.9]) == [0, 1]
    other = run.asked | {"pruning": run.asked["pruning"] | {"rates": [0.3]}}
    assert replace(run, asked=other).result("pruning") is None


def test_stored_weights_give_the_recorded_accuracy():
    _, run = complete()
    _, data = smoke_unit()
    model = load_model(run, "final", data)
    assert training.evaluate(model, data.test_images, data.test_labels) == run.summary["test_accuracy"]
    start, init = build(run.config).state_dict(), run.weights("init")
    assert all(torch.equal(start[name], init[name]) for name in start)


def test_finished_work_is_not_done_again(monkeypatch):
    unit, run = complete()
    before = (run.path / "DONE").stat().st_mtime_ns
    monkeypatch.setattr(runner, "_train", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(runner, "_measure", lambda *_: pytest.fail("analysed again"))
    complete()
    assert (run.path / "DONE").stat().st_mtime_ns == before
    assert runner.run_all([unit]) == []


def test_another_configuration_in_the_folder_is_refused_field_by_field(tmp_path):
    runs = Store(tmp_path)
    with runs.claim(RUN) as run:
        pass
    stored = json.loads((run.path / "config.json").read_text())
    stored["train"]["lr"], stored["level"] = 9.0, 7
    (run.path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(ConfigError, match=r"level: stored 7, asked 2; train.lr: stored 9.0, asked 0.1"):
        runs.run(RUN)


def test_a_claim_excludes_others_and_ends_with_its_block(tmp_path):
    runs = Store(tmp_path)
    with runs.claim(RUN):
        folder = runs.run(RUN).path
        with pytest.raises(BusyError, match="elsewhere"), store.locked(folder, busy="elsewhere"):
            pass
        with runs.claim(replace(RUN, seed=9)):
            pass
    with runs.claim(RUN):
        pass


def test_writing_is_all_or_nothing(tmp_path):
    path = tmp_path / "a" / "b.json"
    files.write_json(path, {"x": 1})
    with pytest.raises(TypeError):
        files.write_json(path, {"x": object()})
    with pytest.raises(RuntimeError, match="stop"), files.replacing(path) as file:
        file.write(b"half")
        raise RuntimeError("stop")
    assert json.loads(path.read_text()) == {"x": 1} and [p.name for p in path.parent.iterdir()] == ["b.json"]


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def test_weights_never_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bomb.pt"
    torch.save({"weight": Bomb()}, path)
    with pytest.raises(StoreError, match="damaged or holds more than tensors"):
        files.load_tensors(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(StoreError):
        files.load_tensors(path)
    assert not Path("exploded").exists()


def test_damage_is_detected_and_named():
    _, run = complete()
    path = run.path / "weights" / "final.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"final.pt was changed or damaged.*delete the folder"):
        run.weights()
    (run.path / "summary.json").write_text('{"test_')
    with pytest.raises(StoreError, match="summary.json was changed or damaged"):
        _ = Run(run.path).summary
    (run.path / "provenance.json").write_text('{"data": 1, "device": "cpu"}')  # as one that was finished so
    store.finish(run.path)
    with pytest.raises(StoreError, match="provenance.json holds something else than data.label and device"):
        _ = Run(run.path).provenance
    path.unlink()
    with pytest.raises(StoreError, match=r"records keep no weights; train the run .* delete .*seed0 first"):
        run.weights()
    (problem,) = store.damage(run.path)
    assert "final.pt" in problem
    shutil.rmtree(path.parent)  # as in a record
    assert store.damage(run.path) == []


def test_what_is_committed_is_whole():
    """Also of records with their final weights alone."""
    folder = Path(__file__).parents[1] / "results" / "study"
    kept = [path.parents[1] for path in folder.glob("*/seed*/weights/final.pt")]
    assert len(kept) == 16 and not [problem for path in kept for problem in store.damage(path)]


def test_numbers_that_were_changed_are_refused():
    _, run = complete()
    changed = json.loads((run.path / "summary.json").read_text()) | {"test_accuracy": 99.9}
    (run.path / "summary.json").write_text(json.dumps(changed))
    with pytest.raises(StoreError, match="summary.json was changed"):
        _ = Run(run.path).summary
    (curve,) = run.path.glob("analysis/pruning-*/result.json")
    curve.write_text(curve.read_text().replace("0.9", "0.8"))
    with pytest.raises(StoreError, match="result.json was changed"):
        run.result("pruning")


def test_fewer_rates_need_nothing_new():
    _, run = complete()
    fewer, _ = smoke_unit(rates=[0.9])
    alone = [each for each in experiments.named() if each.needs == "run"]
    curves = ["pruning", "usable_pruning"]
    assert not replace(run, asked=smoke_unit(rates=[0.0])[0].asked).missing(alone)
    more = smoke_unit(rates=[0.3, 0.9])[0].asked
    assert not replace(run, asked=fewer.asked).missing(alone)
    assert list(replace(run, asked=more).missing(alone)) == curves
    assert [found.path for found in experiments.find(SMOKE.select(rates=0.9))[0]] == [run.path]
    before = sorted(run.path.glob("analysis/*"))
    complete(rates=[0.9])
    assert sorted(run.path.glob("analysis/*")) == before
    _, longer = complete(rates=[0.3, 0.9])  # a curve never becomes shorter
    assert longer.result("pruning")["rates"] == [0, 0.3, 0.5, 0.9] and sorted(run.path.glob("analysis/*")) == before


def test_other_data_than_the_run_is_of_are_refused():
    unit, data = smoke_unit()
    with pytest.raises(ConfigError, match="train_images of scikit-learn digits is 1438, that of the run .* 256"):
        runner.complete(unit, Store())
    changed = replace(data, source=replace(data.source, sha256="77"))
    with pytest.raises(ConfigError, match="data_sha256 .* is '77'"):
        runner.complete(unit, Store(), data=changed)
    assert not Store().run(unit.config).path.exists()


def stored_as(run, content):
    """A run as if it had been made from another configuration."""
    (run.path / "config.json").write_text(json.dumps(content))
    store.finish(run.path)
    target = run.path.parents[1] / run_config(content).folder
    if target != run.path:
        target.parent.mkdir(exist_ok=True)
        run.path.rename(target)
    return Run(target)


def test_own_images_do_not_stand_in_for_cifar(monkeypatch):
    """What one has trained on images of the same size is not taken for a run on the paper's data."""
    _, run = complete()
    absent = replace(SMOKE, datasets=("cifar10",), image_limit=None)
    stored = json.loads((run.path / "config.json").read_text())
    stored["train"] |= {"augmentation": "crop_flip", "batch_size": 128, "lr": 0.1}
    for name, count in (("mypics", 0), ("cifar10_jpeg", 1), ("cifar10", 1)):
        run = stored_as(run, stored | {"dataset": name, "data_sha256": "77"})
        assert len(experiments.find(absent, complete=False)[0]) == count


def test_records_are_found_without_the_data(tmp_path, monkeypatch):
    """A reader without CIFAR-10 still sees the recorded study of any data of its size."""
    _, run = complete()
    record = store.record(run, tmp_path / "results" / "smoke")
    assert not (record.path / "weights").exists() and record.summary == run.summary
    monkeypatch.setenv("RFKIT_RUNS", str(tmp_path / "empty"))
    monkeypatch.setattr("rfkit.experiments.finding.RESULTS", tmp_path / "results")
    found, missing = experiments.find(SMOKE)
    assert [r.path for r in found] == [record.path] and missing == []
    stored = json.loads((record.path / "config.json").read_text())
    stored["dataset"], stored["data_sha256"] = "cifar10_jpeg", "77"
    stored["train"] |= {"augmentation": "crop_flip", "batch_size": 128, "lr": 0.1}
    record = stored_as(record, stored)
    absent = replace(SMOKE, datasets=("cifar10",), image_limit=None)
    found, missing = experiments.find(absent)
    assert [r.path for r in found] == [record.path] and missing == []
    assert experiments.find(replace(absent, width=0.5))[1] == [("cifar10", "vgg19", 3, 0)]
    assert experiments.find(replace(absent, datasets=("tiny_imagenet",)))[0] == []


@pytest.mark.parametrize("field", ["schema", "algorithm"])
def test_runs_of_another_version_are_not_taken_for_ours(field):
    _, run = complete()
    stored = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps(stored | {field: 99}))
    store.finish(run.path)
    assert experiments.find(SMOKE) == ([], [("digits", "vgg19", 3, 0)])


def test_too_long_says_how_long_and_what_to_run():
    with pytest.raises(
        experiments.TooLongError, match=r"1 of 1 runs .* about \d+ minutes .*: rfkit study smoke --arch"
    ):
        experiments.ensure(SMOKE, max_minutes=0)


def test_data_that_no_page_can_tell_apart_are_refused_before_they_are_trained(tmp_path):
    own = write_zip(tmp_path / "own.zip", class_files(classes=("a", "b"), count=20, size=32))
    with pytest.raises(
        ConfigError, match="runs on digits, folder:.*own.zip have images of one size and would be averaged"
    ):
        experiments.ensure(SMOKE.select(datasets=["digits", f"folder:{own}"]), max_minutes=99)


def test_ensure_trains_what_is_missing():
    (run,) = experiments.ensure(SMOKE, max_minutes=5)
    assert run.done and experiments.ensure(SMOKE, max_minutes=0)[0].path == run.path


def test_one_bad_run_does_not_stop_the_others(tmp_path, monkeypatch):
    good, _ = smoke_unit()
    bad = replace(good, config=replace(good.config, level=3, train=replace(good.config.train, lr=1e20)))
    with pytest.raises(ConfigError, match="jobs is 0"):
        runner.run_all([bad, good], jobs=0)
    failures = runner.run_all([bad, good], jobs=2, image_limit=SMOKE.image_limit)
    ((failed, message),) = failures
    assert failed is bad and "the loss became" in message
    assert Store().run(good.config).done and not Store().run(bad.config).done


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_a_killed_worker_costs_its_own_run(monkeypatch):
    units = [curve_only(unit) for unit in experiments.units(SMOKE.select(seeds=[0, 1, 2]))]
    worker, made = pool._worker, []

    def first_is_killed():
        started = worker()
        if not made:
            started.submit(os.kill, started.submit(os.getpid).result(), signal.SIGKILL)
        made.append(started)
        return started

    monkeypatch.setattr(pool, "_worker", first_is_killed)
    ((failed, message),) = runner.run_all(units, jobs=1, image_limit=SMOKE.image_limit, progress=False)
    assert "a worker was killed" in message and failed.config.seed == 0
    assert [Store().run(unit.config).done for unit in units] == [False, True, True]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_a_worker_that_is_killed_while_idle_costs_nothing():
    results = pool.run([(time.sleep, (0.5,))] * 4, 2)
    found = [next(results)]
    time.sleep(3)  # both workers have nothing to do now, since nobody asks for the next result
    for worker in multiprocessing.active_children():
        worker.kill()
    time.sleep(1)
    assert sorted([*found, *results]) == [(index, None) for index in range(4)]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_workers_end_with_a_main_process_that_is_killed(tmp_path):
    command = [sys.executable, "-m", "rfkit", "study", "smoke", "--epochs", "500", "-j", "1"]
    with subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as main:
        until = time.monotonic() + 120
        while not list(Store().root.rglob("checkpoint.pt")) and time.monotonic() < until:
            time.sleep(0.1)
        main.kill()
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < until + 30:
            os.killpg(main.pid, 0)
            time.sleep(0.1)


TRAINER = textwrap.dedent("""
    import os, sys, torch
    torch.set_num_threads(1)
    from dataclasses import replace
    from rfkit import experiments
    from rfkit.experiments import runner
    from rfkit.presets import get
    preset = get("smoke").select(architectures="vgg19", levels=3, epochs=6)
    unit, data = experiments.units(preset)[0], experiments.load("digits", preset.image_limit)
    optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], 0.1, fused=True)
    optimizer.zero_grad(), optimizer.step()  # the first step of a process imports a lot
    print("ready", flush=True)
    for root in map(str.strip, sys.stdin):  # a fresh process for every training, without importing again
        child = os.fork()
        if child == 0:
            runner.complete(unit, experiments.Store(root), analyses=["pruning"], data=data)
            os._exit(0)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
""")


CURVE = {"method": "magnitude", "version": 2, "rates": [0.5, 0.9]}
TUNED = {"rate": 0.9, "epochs": 3}


def curve(run, rates, **changes):
    settings = CURVE | {"rates": rates} | changes
    store.save_result(
        run.folder_of("pruning", settings), settings, {"rates": rates}, None, {"final": run.weights_sha256}
    )
    return replace(run, asked=run.asked | {"pruning": settings})


def finished(run, weight=0.0):
    files.save_tensors(run.path / "weights" / "final.pt", {"w": torch.full((1,), weight)})
    store.finish(run.path)
    return store.Run(run.path, run.asked)


def test_a_record_holds_what_is_asked_for(tmp_path):
    """Not whatever is newest: a curve of an older version, and one that nobody asked for, stay behind."""
    with Store(tmp_path / "runs").claim(RUN) as run:
        run = curve(finished(run), [0.5, 0.9], version=1)
        run = curve(run, [0.5, 0.9])
        curve(run, [0.5, 0.9], version=3)
        store.save_result(run.folder_of("fine_tune", TUNED | {"epochs": 9}), TUNED | {"epochs": 9}, {}, None)
        store.save_result(run.folder_of("fine_tune", TUNED), TUNED, {"epochs": 3}, None)
        run = replace(run, asked=run.asked | {"fine_tune": TUNED})
        (run.path / "analysis" / ("pair-" + "d" * 10)).mkdir()  # killed before it was finished
        kept = store.record(run, tmp_path / "results")
    found = sorted(path.name for path in kept.path.glob("analysis/*"))
    assert found == [f"fine_tune-{store.key_of(TUNED)}", f"pruning-{store.key_of(CURVE)}"]
    assert kept.result("fine_tune") == {"epochs": 3}


def test_a_record_is_never_made_poorer(tmp_path):
    with Store(tmp_path / "runs").claim(RUN) as run:
        run = curve(finished(run), [0.0, 0.5, 0.9])
        kept = store.record(run, tmp_path / "results", weights=True)
        shorter = curve(run, [0.0, 0.5])  # made on another machine, with fewer rates
        store.record(shorter, tmp_path / "results")
        assert kept.result("pruning")["rates"] == [0.0, 0.5, 0.9] and kept.weights()["w"] == 0
        run = curve(
            finished(run, 1.0), [0.0, 0.5]
        )  # trained again, to other weights: nothing of the old record is of them
        kept = store.record(run, tmp_path / "results")
    assert kept.result("pruning")["rates"] == [0.0, 0.5] and not (kept.path / "weights").exists()


def test_results_are_read_by_their_settings_and_never_by_date(tmp_path):
    """A raised version or another exclusion asks for a new curve, however new the old one is."""
    with Store(tmp_path).claim(RUN) as run:
        run = curve(finished(run), [0.5, 0.9])
        for changes in ({"version": 3}, {"method": "random"}):
            assert replace(run, asked={"pruning": CURVE | changes}).result("pruning") is None
        assert run.result("pruning") == {"rates": [0.5, 0.9]}
        assert replace(run, asked={"pruning": CURVE | {"rates": [0.3]}}).result("pruning") is None


def test_a_result_of_other_weights_is_refused(tmp_path):
    """Two machines' stores merged by copying: one's weights beside the other's numbers."""
    with Store(tmp_path).claim(RUN) as run:
        run = finished(curve(finished(run), [0.5, 0.9]), 1.0)
        with pytest.raises(StoreError, match="was made from other weights"):
            run.result("pruning")


def test_a_pair_whose_first_seed_was_trained_again_is_refused(tmp_path):
    runs, settings = Store(tmp_path), {"other_seed": RUN.seed}
    with runs.claim(RUN) as first, runs.claim(replace(RUN, seed=RUN.seed + 1), {"pair": settings}) as second:
        first, second = finished(first), replace(finished(second), asked={"pair": settings})
        weights = {"final": second.weights_sha256, "other": first.weights_sha256}
        store.save_result(second.folder_of("pair", settings), settings, {"diagonal": 1.0}, None, weights)
        assert second.result("pair") == {"diagonal": 1.0}
        finished(first, 1.0)
        with pytest.raises(StoreError, match="was made from other weights"):
            second.result("pair")


def test_field_order_and_kinds_of_numbers_do_not_matter():
    _, run = complete()
    stored = json.loads((run.path / "config.json").read_text())
    stored = dict(reversed(stored.items())) | {"train": dict(reversed((stored["train"] | {"train_share": 1}).items()))}
    run = stored_as(run, stored)
    assert [found.path for found in experiments.find(SMOKE)[0]] == [run.path]


def test_a_run_says_what_it_was_begun_by_and_the_memory_it_took(monkeypatch):
    """The commit is the one at the start, not the one at the end; a worker's second run has a peak of its own."""
    states = iter([("a" * 40, False), ("b" * 40, False)])
    monkeypatch.setattr(provenance, "git_state", lambda: next(states))
    first = provenance.Clock()
    block = torch.zeros(64 * 2**20)  # 256 MiB
    peak = first.stop("cpu")
    assert provenance.Clock(commit=first.commit).stop("cpu")["commit"] == peak["commit"] == "a" * 40
    del block
    second = provenance.Clock().stop("cpu")
    assert second["commit"] == "b" * 40
    if peak["peak_memory_mib"] is not None:  # Linux
        assert second["peak_memory_mib"] < peak["peak_memory_mib"] - 100


def test_the_callers_process_stays_as_it_was(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    path = list(sys.path)
    experiments.measure("recipe", SMOKE, ANALYSES["recipe"].settings(SMOKE)[:1], jobs=1)
    assert main(["study", "smoke", "--architectures", "vgg19", "--levels", "3", "-j", "1"]) == 0
    assert torch.get_num_threads() == 2 and sys.path == path and "OMP_NUM_THREADS" not in os.environ


def test_a_wide_network_may_use_several_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    asked = ["study", "smoke", "--architectures", "vgg19", "--levels", "4", "--analyses", "pruning", "-j", "1"]
    assert main(asked) == 0
    (run,) = Store().runs()
    assert run.provenance["threads"] == 2


def test_one_job_is_one_process_for_pairs_too(monkeypatch):
    asked, run = [], pool.run
    monkeypatch.setattr(pool, "run", lambda tasks, jobs: asked.append(jobs) or run(tasks, jobs))
    experiments.ensure(SMOKE.select(seeds="0,1"), jobs=1)
    assert asked == [1, 1]


def test_analyses_and_pairs_count_before_they_are_started(monkeypatch):
    """What is trained and lacks its analyses is work too."""
    complete()
    monkeypatch.setattr("rfkit.training.seconds_per_image", lambda *_: 1.0)
    trained = experiments.ensure(SMOKE, max_minutes=0)  # nothing is missing
    shutil.rmtree(trained[0].path / "analysis")
    with pytest.raises(experiments.TooLongError, match="making them takes about"):
        experiments.ensure(SMOKE, max_minutes=5)


def test_pairs_of_other_seeds_are_not_in_sight():
    """A notebook with seeds 1 and 2 leaves a pair behind, which the default's 0 and 1 do not see."""
    chosen = presets.get("smoke").select(architectures="vgg19", levels=3)
    seen = {}
    for seeds in ("0,1,2", "1,2", "0,1"):
        runs = experiments.ensure(chosen.select(seeds=seeds), jobs=1, max_minutes=9)
        seen[seeds] = sorted(set(experiments.frame("pair", runs)["seed"]))
    assert seen == {"0,1,2": ["0-1"], "1,2": ["1-2"], "0,1": ["0-1"]}


def test_damaged_runs_are_not_recorded(tmp_path):
    for name in ("metrics.csv", "weights/final.pt"):
        shutil.rmtree(Store().root, ignore_errors=True)
        with Store().claim(RUN) as run:
            (run.path / "metrics.csv").write_text("epoch\n1\n")
            files.save_tensors(run.path / "weights" / "final.pt", {"w": torch.zeros(1)})
            store.finish(run.path)
        with (run.path / name).open("ab") as file:
            file.write(b"1")
        with pytest.raises(StoreError, match=f"{name} was changed or damaged"):
            store.record(run, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_commit_of_another_project_is_not_ours(tmp_path, monkeypatch):
    package = tmp_path / "lib" / "rfkit" / "experiments"
    package.mkdir(parents=True)
    shutil.copy(provenance.__file__, package)
    for words in (["init", "-q"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a", "--allow-empty"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    assert provenance.git_state() == (None, None)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    assert len(provenance.git_state()[0]) == 40


def test_killed_ten_times_and_still_the_same_bits(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", TRAINER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as trainer:
        assert trainer.stdout.readline() == "ready\n"

        def train(name, kill_after=None):
            trainer.stdin.write(f"{tmp_path / name}\n")
            child = int(trainer.stdout.readline())
            if kill_after is not None:
                time.sleep(kill_after)
                with contextlib.suppress(ProcessLookupError):  # it had finished
                    os.kill(child, signal.SIGKILL)
            return int(trainer.stdout.readline())

        start = time.perf_counter()
        assert train("whole") == 0
        length, moments = time.perf_counter() - start, random.Random(0)
        kills = resumed = 0
        while kills < 10:
            if train("killed", moments.uniform(0, length / 2)) == 0:  # finished before the signal: begin again
                shutil.rmtree(tmp_path / "killed")
                continue
            kills += 1
            resumed += bool(list((tmp_path / "killed").glob("*/*/checkpoint.pt")))
        assert train("killed") == 0
        trainer.stdin.close()
    assert resumed > 0
    (whole,), (killed,) = (Store(tmp_path / name).runs() for name in ("whole", "killed"))
    for which in ("init", "last", "final"):
        a, b = whole.weights(which), killed.weights(which)
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert whole.summary == killed.summary
    assert not list(killed.path.rglob("*.tmp*")) and not (killed.path / "checkpoint.pt").exists()


# --- several at once, and what is interrupted -------------------------------------------------------


def test_a_record_that_is_interrupted_is_unfinished_and_not_damaged(tmp_path, monkeypatch):
    with Store(tmp_path / "runs").claim(RUN) as run:
        run = curve(finished(run), [0.5, 0.9])
        kept = store.record(run, tmp_path / "results")
        newer = run.folder_of("pruning", CURVE)
        store.save_result(newer, CURVE, {"rates": [0.5, 0.9], "again": 1}, None, {"final": run.weights_sha256})
        copy = shutil.copytree

        def stop_after(*args, **options):
            copy(*args, **options)
            raise KeyboardInterrupt

        monkeypatch.setattr(shutil, "copytree", stop_after)
        with pytest.raises(KeyboardInterrupt):
            store.record_result(newer, kept.folder_of("pruning", CURVE))
        assert kept.result("pruning") is None  # rather than an error on every read
        monkeypatch.undo()
        store.record_result(newer, kept.folder_of("pruning", CURVE))
        assert kept.result("pruning")["again"] == 1


def test_a_record_of_other_rates_is_not_replaced(tmp_path):
    settings = [CURVE | {"rates": rates} for rates in ([0.5, 0.9], [0.1, 0.2, 0.3])]
    for name, each in zip("ab", settings, strict=True):
        store.save_result(tmp_path / name, each, {"rates": each["rates"]}, None)
        store.record_result(tmp_path / name, tmp_path / "kept")
    assert store.read_result(tmp_path / "kept", settings[0])["values"]["rates"] == [0.5, 0.9]


def test_a_claim_leaves_what_another_process_is_writing(tmp_path):
    inner = tmp_path / "run" / "analysis" / "pair-0123456789"
    with store.claimed(inner), files.replacing(inner / "result.json") as file:
        with store.claimed(tmp_path / "run"):
            pass
        file.write(b"{}")
    assert (inner / "result.json").read_bytes() == b"{}"


def test_results_on_fewer_images_are_other_results():
    few, all_of_them = (presets.get(name).select(architectures="vgg19", levels=4) for name in ("smoke", "demo"))
    keys = [
        {store.key_of(each.settings) for each in experiments.requests("untrained_spectrum", preset)}
        for preset in (few, all_of_them)
    ]
    assert not keys[0] & keys[1]


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_failing_result_does_not_stop_the_others(jobs):
    wanted = ANALYSES["recipe"].settings(SMOKE)[:2]
    broken = [(wanted[0][0] | {"epochs": "many"}, "digits"), *wanted[1:2]]
    with pytest.raises(RuntimeError, match="recipe ThreeLayerConvNet: "):
        experiments.measure("recipe", SMOKE, broken, jobs=jobs)
    assert len(experiments.measured("recipe", SMOKE, wanted[1:2])) == 1


def test_provenance_names_the_device_that_computed(monkeypatch, tmp_path):
    """Of an analysis that runs on the CPU, though networks are trained on another device."""
    asked = []
    monkeypatch.setattr(provenance.Clock, "stop", lambda self, device, seconds=None: asked.append(str(device)))
    for name, device in (("gradient_projection", "cpu"), ("pruning", "meta")):
        each = replace(ANALYSES[name], compute=lambda *_: {})
        runner._measure(each, None, {"rates": [0.5]}, tmp_path / name, None, torch.device("meta"), None)
        assert asked[-1] == device
