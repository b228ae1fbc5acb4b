"""A study under several seeds."""

from threading import Event, Thread

import psutil
import pytest

from faults.study import write_study
from safespan.errors import ConfigError
from safespan.results import RunFolder
from safespan.settings import ExecutionConfig
from safespan.settings.study import load_study
from safespan.study.plan import plan
from safespan.study.replicates import run_replicates
from safespan.study.run import run_study
from tiny_model import save_tiny_model

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    file = write_study(tmp_path_factory.mktemp("study"), save_tiny_model, "http://127.0.0.1:9/v1")
    return load_study(file, ["evaluation.harmfulness.judge=rules", "replicates=2", "seed=3"])


@pytest.fixture(scope="module")
def folder(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    run_replicates(study, out)
    return out


def test_every_seed_is_a_run_of_its_own(folder, study):
    runs = [RunFolder(folder / "seeds" / str(seed)) for seed in (3, 4)]
    manifests = [run.read_manifest() for run in runs]
    assert [manifest.seed for manifest in manifests] == [3, 4]
    assert [manifest.config["replicates"] for manifest in manifests] == [1, 1]
    weights = [manifest.inputs for manifest in manifests]
    assert weights[0]["aligned"] == weights[1]["aligned"]  # a model that both are given
    assert {role for role in weights[0] if weights[0][role] != weights[1].get(role)} & set(study.models)


def test_they_are_pooled_over_the_seeds(folder):
    pooled = RunFolder(folder).read_table("pooled")
    assert set(pooled["seeds"]) <= {2}
    assert set(pooled["verdict"]) <= {"inconclusive"}
    estimates = [RunFolder(folder / "seeds" / str(seed)).read_table("estimates") for seed in (3, 4)]
    for row in pooled.rows(named=True):
        place = {name: row[name] for name in ("hypothesis", "test", "outcome")}
        values = [table.filter("decides", **place)["estimate"].item() for table in estimates]
        assert row["estimate"] == pytest.approx(sum(values) / 2, abs=1e-6)
    assert (folder / "comparison.html").exists()


def test_seeds_that_stand_are_not_run_again(folder, study):
    run_replicates(study, folder)
    for seed in (3, 4):
        records = RunFolder(folder / "seeds" / str(seed)).read_manifest().stages
        assert all(record.reused for record in records)


def kill_a_worker(points, killed, over):
    """Kill one of Ray's workers as soon as a point stands, unless the run is over."""
    while not over.wait(0.1):
        if list(points.glob("*.json")):
            workers = [
                child for child in psutil.Process().children(recursive=True) if "ray::HostedWorker" in child.name()
            ]
            if workers:
                workers[0].kill()
                killed.append(workers[0].pid)
                return


def test_on_ray_the_tables_are_the_same_bytes_though_a_worker_is_killed(folder, study, tmp_path):
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    on_ray = study.model_copy(update={"execution": ExecutionConfig(engine="ray", workers=2)})
    killed, over, out = [], Event(), tmp_path / "run"
    watcher = Thread(target=kill_a_worker, args=(out / "seeds/3/results/points/projection", killed, over))
    watcher.start()
    try:
        run_replicates(on_ray, out)
    finally:
        over.set()
        ray.shutdown()
    watcher.join()
    assert killed
    for place in ("seeds/3/results", "seeds/4/results", "results"):
        files = sorted((folder / place).glob("*.csv"))
        assert files
        for file in files:
            assert (out / place / file.name).read_bytes() == file.read_bytes(), file
    assert not [path for path in (out / "seeds/3").iterdir() if path.name.startswith(".scratch")]


def test_seeds_of_models_that_are_given_are_refused(study, tmp_path):
    given = {role: source for role, source in study.models.items() if not source.train}
    with pytest.raises(ConfigError, match="trains no model, so its seeds would all test the same ones"):
        run_replicates(study.model_copy(update={"models": given}), tmp_path / "run")


def test_bad_input_is_one_error_before_anything_is_run(study, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file: give a folder"):
        run_replicates(study, tmp_path / "file")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").touch()
    with pytest.raises(ConfigError, match="is the folder of a model: give another folder to run in"):
        run_study(study, tmp_path / "model")
    (tmp_path / "done" / "checkpoints").mkdir(parents=True)
    (tmp_path / "done" / "stages.json").touch()
    places = {"file": "is a file: give a folder", "model": "is the folder of a model"}
    places |= {"done/checkpoints": "is among the checkpoints of the run", "file/run": "run cannot be written: Not a"}
    for place, says in places.items():
        with pytest.raises(ConfigError, match=says):
            plan(study, tmp_path / place)
