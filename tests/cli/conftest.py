"""The command line, in this process or in its own, on one tiny release."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from saereg.cli import run
from tests.releases import tiny_release


@dataclass(frozen=True)
class Answer:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def next(self) -> str:
        """The command it names as the next one."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("next: ")]
        return line.removeprefix("next: ")


@pytest.fixture(scope="session")
def valid(tmp_path_factory) -> Path:
    """A valid release; read only."""
    return tiny_release(tmp_path_factory.mktemp("valid"))


@pytest.fixture
def place(tmp_path, valid, monkeypatch) -> Path:
    """A working directory with a copy of the release in `release`."""
    shutil.copytree(valid, tmp_path / "release")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("SAEREG_TRACEBACK", raising=False)
    return tmp_path


@pytest.fixture
def saereg(place, capsys):
    """Run a command in this process."""

    def answer(*words: object) -> Answer:
        code = run([str(word) for word in words])
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return answer


@pytest.fixture
def process(place):
    """Run a command in a process of its own."""

    def answer(*words: object, **environment: str) -> Answer:
        command = [sys.executable, "-m", "saereg", *(str(word) for word in words)]
        own = os.environ | environment  # as it is now: the folders of this run are in it
        done = subprocess.run(command, cwd=place, env=own, capture_output=True, text=True, timeout=60, check=False)
        return Answer(done.returncode, done.stdout, done.stderr)

    return answer
