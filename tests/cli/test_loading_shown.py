"""What stands on standard error while a large library is imported, and what the shell is told."""

import os
import pty
import subprocess
import sys
from importlib.metadata import version

import pytest

from safespan import cli


@pytest.fixture
def slow_library(tmp_path):
    """A folder with a module of the name of a large library that takes as long."""
    (tmp_path / "trl.py").write_text("import time\ntime.sleep(1.5)\nVALUE = 7\n")
    return tmp_path


def on_standard_error(folder, quiet, terminal):
    """What a command that imports the library prints there."""
    code = "from safespan.cli.output import progress\n"
    code += f"with progress({quiet}):\n from trl import VALUE\nassert VALUE == 7"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]), "TERM": "xterm"}
    if not terminal:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        return done.stderr
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code], stderr=theirs, env=environment)
    os.close(theirs)
    printed = b""
    while True:
        try:
            printed += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert process.wait() == 0
    return printed.decode()


def test_a_terminal_is_told_what_is_loaded_unless_it_is_to_be_quiet(slow_library):
    assert "loading trl" in on_standard_error(slow_library, quiet=False, terminal=True)
    assert on_standard_error(slow_library, quiet=True, terminal=True) == ""
    assert on_standard_error(slow_library, quiet=False, terminal=False) == ""


def test_python_finds_modules_as_before_when_the_command_is_done():
    before = list(sys.meta_path)
    with cli.output.progress(quiet=False):
        assert sys.meta_path != before
    assert sys.meta_path == before


def test_the_version_is_that_of_the_package(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["safespan", "--version"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"safespan {version('safespan')}\n"


@pytest.mark.parametrize(
    ("typed", "offered"), [("safespan hyp", {"hypotheses"}), ("safespan sweep --fin", {"--finetuned"})]
)
def test_the_shell_completes_commands_and_options(typed, offered):
    words = typed.split()
    asked = {"_SAFESPAN_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    code = "import sys; sys.argv[:] = ['safespan']; from safespan.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **asked})
    assert set(done.stdout.split()) == offered
    assert done.stderr == ""
