import json
import sys
from http.server import BaseHTTPRequestHandler
from importlib.metadata import PackageNotFoundError, version
from threading import Thread

import huggingface_hub
import pytest
from packaging.requirements import Requirement

from loopback import LoopbackServer
from safespan import cli
from safespan.study import doctor

SECRET = "zq-not-to-be-seen-7731"


@pytest.fixture(autouse=True)
def _light(monkeypatch):
    """Packages are not all imported: the tests' process has those that matter."""
    monkeypatch.setattr(doctor, "_SHOWN", ("torch", "transformers"))


def run(monkeypatch, capsys, *words):
    """Exit code and what is printed."""
    monkeypatch.setattr(sys, "argv", ["safespan", "doctor", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, capsys.readouterr()


def found(monkeypatch, capsys, code=0):
    """Name -> check, as programs get it."""
    ended, printed = run(monkeypatch, capsys, "--json")
    assert ended == code
    told = json.loads(printed.out)
    assert told["runs"] == (code == 0)
    return {check["name"]: check for check in told["checks"]}


def test_versions_memory_and_keys_without_anything_of_them(monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    checks = found(monkeypatch, capsys)
    for name in ("torch", "transformers", "safespan"):
        assert (checks[name]["found"], checks[name]["state"]) == (version(name), "ok")
    assert checks["python"]["found"] == ".".join(map(str, sys.version_info[:3]))
    assert {"cpu", "memory", "cache", "temporary files", "gguf", "ray", "judge", "vllm"} <= set(checks)
    keys = {name: (checks[name]["found"], checks[name]["state"]) for name in ("HF_TOKEN", "OPENAI_API_KEY")}
    assert keys == {"HF_TOKEN": ("there", "ok"), "OPENAI_API_KEY": ("not there", "optional")}
    assert checks["SOME_API_KEY"]["found"] == "there"
    assert checks["OPENAI_API_KEY"]["advice"]
    code, printed = run(monkeypatch, capsys)
    assert code == 0
    assert printed.out.splitlines()[-1] == "safespan can run"
    for text in (json.dumps(checks), printed.out, printed.err):
        assert not any(SECRET[start : start + 5] in text for start in range(len(SECRET) - 4))


def test_optional_packages_that_are_absent_are_said_with_what_to_do(monkeypatch, capsys):
    there = doctor.find_spec
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name in ("openai", "vllm", "gguf") else there(name))
    checks = found(monkeypatch, capsys)
    assert (checks["judge"]["found"], checks["judge"]["state"]) == ("not installed: openai", "optional")
    assert "pip install 'safespan[judge]'" in checks["judge"]["advice"]
    assert "pip install" in checks["vllm"]["advice"]
    assert checks["gguf"]["state"] == "optional"
    assert (checks["ray"]["state"], checks["ray"]["advice"]) == ("ok", "")


@pytest.mark.parametrize(
    ("kind", "says"),
    [("absent", "not installed"), ("old", "1.0, needed >="), ("broken", "cannot be imported: no symbol")],
)
def test_a_required_package_that_is_amiss_ends_with_1(kind, says, monkeypatch, capsys):
    def told(name):
        if name == "transformers" and kind == "absent":
            raise PackageNotFoundError(name)
        return "1.0" if name == "transformers" and kind == "old" else version(name)

    def loaded(name):
        if name == "transformers" and kind == "broken":
            raise OSError("no symbol in some library\nand more")

    monkeypatch.setattr(doctor, "version", told)
    monkeypatch.setattr(doctor, "import_module", loaded)
    checks = found(monkeypatch, capsys, code=1)
    assert checks["transformers"]["state"] == "fault"
    assert says in checks["transformers"]["found"]
    assert "pip install 'transformers>=" in checks["transformers"]["advice"]
    code, printed = run(monkeypatch, capsys)
    assert (code, printed.out.splitlines()[-1]) == (1, "safespan cannot run: transformers")


def test_parts_that_need_a_missing_package_are_left_out_in_words(monkeypatch):
    def missing():
        raise ImportError("No module named 'torch'")

    monkeypatch.setattr(doctor, "_hardware", missing)
    [check] = [check for check in doctor.examine() if check.part == "hardware"]
    assert (check.found, check.state) == ("not looked at: No module named 'torch'", "optional")


def test_folders_that_cannot_be_written_and_a_cache_size_that_is_none(tmp_path, monkeypatch):
    locked = tmp_path / "locked"
    locked.mkdir()
    monkeypatch.setenv("SAFESPAN_CACHE", str(locked / "cache"))
    monkeypatch.setenv("SAFESPAN_CACHE_GB", "much")
    monkeypatch.setattr(doctor.os, "access", lambda path, mode, **_: path != locked)
    checks = {check.name: check for check in doctor.examine() if check.part == "folders"}
    assert (checks["cache"].found, checks["cache"].state) == (f"{locked / 'cache'}, not writable", "optional")
    assert checks["cache size"].state == "fault"
    assert checks["working folder"].state == "ok" or "make space" in checks["working folder"].advice


def test_little_space_is_said(tmp_path, monkeypatch):
    usage = doctor.shutil.disk_usage(tmp_path)._replace(free=1e9)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: usage)
    check = doctor._folder("x", tmp_path, "fault", "")
    assert (check.found, check.state) == (f"{tmp_path}, 1.0 GB free", "optional")


@pytest.fixture
def hub():
    """A server on the loopback interface that plays the hub, and what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = LoopbackServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_the_hub_is_asked_unless_that_is_switched_off(hub, monkeypatch):
    place, asked = hub
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", place)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    [off] = doctor._network()
    assert (off.state, asked) == ("optional", [])
    assert "HF_HUB_OFFLINE" in off.found
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    [there] = doctor._network()
    assert (there.found, there.state, len(asked)) == (f"{place} answers", "ok", 1)
    monkeypatch.setattr(constants, "ENDPOINT", "http://user:password7@127.0.0.1:9")
    [gone] = doctor._network()
    assert gone.state == "optional"
    assert gone.found.startswith("http://***@127.0.0.1:9 does not answer")


def test_an_extras_requirement_is_not_required():
    need = Requirement("gguf; extra == 'gguf'")
    assert not doctor._applies(need, "")
    assert doctor._applies(need, "gguf")
    assert not doctor._applies(need, "ray")
    plain = Requirement("torch>=2.6")
    assert doctor._applies(plain, "")
    assert not doctor._applies(plain, "gguf")
