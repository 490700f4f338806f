"""`saereg hub serve`: the hub as a process."""

import signal
import socket
import subprocess
import sys

import pytest

from saereg.cli import run
from saereg.publishers.local_hub import local_hub
from tests.hub.conftest import REPO, client, commit, paths


def serve(folder, *words):
    """Start a hub on a free port, and return the process and its address."""
    command = [sys.executable, "-m", "saereg", "hub", "serve", str(folder), "--port", "0", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


class Hub:
    """The address of a hub elsewhere."""

    def __init__(self, url):
        self.url = url


def test_a_hub_that_is_killed_holds_everything_when_it_is_started_again(folder):
    """SIGKILL, then SIGTERM, which ends it in order; it names the line to publish with."""
    process, url = serve(folder)
    with process:
        client(Hub(url)).create_repo(REPO)
        commit(client(Hub(url)), a_json=b"{}", w_safetensors=b"weights")
        process.kill()
    process, url = serve(folder, "--no-tags")
    with process:
        for _ in range(2):  # on one connection: the line of the first is written before the second is read
            assert paths(client(Hub(url))) == ["a.json", "w.safetensors"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        said = process.stderr.read()
    assert f"next: HF_ENDPOINT={url} HF_TOKEN=hf_local saereg publish RELEASE hf://local/rehearsal" in said
    assert f"200 GET /api/models/{REPO}/tree/main" in said
    assert said.endswith("stopped\n")


def test_what_cannot_be_served_is_one_line(folder, capsys):
    """A port in use, a folder in use, an address that others reach."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert run(["hub", "serve", str(folder), "--port", port]) == 2
        assert f"error: --port {port}: " in capsys.readouterr().err
    with local_hub(folder):
        assert run(["hub", "serve", str(folder), "--port", "0"]) == 2
        assert "another hub serves this folder" in capsys.readouterr().err
    assert run(["hub", "serve", str(folder), "--host", "0.0.0.0"]) == 2
    assert "--allow-remote" in capsys.readouterr().err
    (folder / "incoming").rmdir()
    (folder / "incoming").write_text("no folder")
    assert run(["hub", "serve", str(folder), "--port", "0"]) == 2
    assert capsys.readouterr().err == f"error: {folder}/incoming: File exists\n"


@pytest.mark.parametrize("words", [["hub"], ["hub", "serve", "--help"]])
def test_help_says_what_it_is(words, capsys):
    run(words)
    said = capsys.readouterr()
    assert "hub" in said.out + said.err
