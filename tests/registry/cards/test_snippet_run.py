"""Running the Python blocks of a card: against the release, offline, and without harm to either."""

import ctypes
import hashlib
import sys
import time

import pytest

from saereg.registry.cards.card import Card
from saereg.registry.cards.snippet_child import LANDLOCK_CREATE, LANDLOCK_ENOUGH
from saereg.registry.cards.snippet_run import run_snippets
from saereg.registry.cards.snippet_stage import COPIED, Known
from saereg.registry.cards.snippets import snippets_of
from tests.releases import tiny_release

KNOWN = Known("tiny-saes", frozenset({"tiny/model", "tiny/text"}), frozenset({"layer_1/topk"}))
LARGE = "evaluation/large.bytes"


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A release with one file that is too large to be copied."""
    root = tiny_release(tmp_path_factory.mktemp("cards"), checkpoints=False)
    (root / LARGE).write_bytes(b"x" * (COPIED + 1))
    return root


def run(release, *blocks, seconds=60):
    """Run blocks, and see that no file of the release is another one; the code of the first starts in line 4."""
    card = Card("# t\n" + "".join(f"\n```python\n{block}\n```\n" for block in blocks))
    before = digests(release)
    outcome = run_snippets(release, snippets_of(card), KNOWN, seconds)
    assert digests(release) == before
    assert outcome.changed == ()
    return outcome


def digests(release):
    return {p: hashlib.sha256(p.read_bytes()).digest() for p in sorted(release.rglob("*")) if p.is_file()}


def runs(outcome):
    return not outcome.failures and not outcome.skipped


def has_landlock():
    """Whether this system can refuse what is written past Python."""
    if sys.platform != "linux":
        return False
    return ctypes.CDLL(None).syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1) >= LANDLOCK_ENOUGH


def what(outcome):
    (failure,) = outcome.failures
    return failure.what


def why(outcome):
    assert not outcome.failures
    (reason,) = outcome.skipped.values()
    return reason


def test_blocks_share_their_names_as_in_a_notebook(release):
    """Each goes on where the one before it ended; a class of a block is found by pickle."""
    assert runs(
        run(
            release,
            "import pickle\nclass A: pass",
            "pickle.loads(pickle.dumps(A()))",
            "await __import__('asyncio').sleep(0)",
        )
    )


def test_the_files_of_the_release_are_at_hand(release):
    """Relative to the folder, by the name of the release or of its folder, small and large."""
    paths = ["manifest.json", "tiny-saes/layer_1/topk/cfg.json", f"./{release.name}/README.md", LARGE]

    assert runs(run(release, *(f"assert open({path!r}, 'rb').read()" for path in paths)))


def test_the_hub_is_the_release(release):
    """At any revision that a block names: tag, commit, branch with a slash; files, folders, and through saereg."""
    assert runs(
        run(
            release,
            "from huggingface_hub import hf_hub_download, snapshot_download\nimport os",
            "assert os.path.getsize(hf_hub_download('org/tiny-saes', 'layer_1/topk/cfg.json', revision='v1.0.0'))",
            f"V = '{'ab' * 20}'\nd = snapshot_download('org/tiny-saes', revision=V)\nassert os.listdir(d)",
            "hf_hub_download(repo_id='org/tiny-saes', filename='README.md', revision='refs/pr/1')",
            "from safetensors.torch import load_file\n"
            "w = load_file(hf_hub_download('org/tiny-saes', 'layer_1/topk/sae_weights.safetensors'))\n"
            "assert w['W_dec'].shape == (10, 4)",
            "import saereg\nassert len(list(saereg.open('hf://org/tiny-saes@v1.0.0'))) == 4",
            "d = saereg.load('hf://org/tiny-saes@main:layer_1/topk')",
        )
    )


@pytest.mark.slow
def test_saelens_loads_the_release(release):
    """By the id of the repository and the path of the artifact; a path that is not there is the card's fault."""
    outcome = run(
        release,
        "from sae_lens import SAE\nrepo = 'someone/of-another-name'",
        "sae = SAE.from_pretrained(repo, 'layer_1/topk')",
        "assert sae.cfg.d_sae == 10",
        "SAE.from_pretrained(repo, 'layer_9/topk')",
        seconds=120,
    )

    assert what(outcome) == "layer_9/topk/cfg.json is not in the release (someone/of-another-name)"


def test_a_file_that_the_release_has_not_is_the_fault_of_the_card(release):
    """With the line of the statement, counted in the card."""
    outcome = run(release, "import huggingface_hub as h", "p = 'gone.json'\n\nh.hf_hub_download('org/tiny-saes', p)")

    assert [(f.number, f.line, f.what) for f in outcome.failures] == [
        (2, 10, "gone.json is not in the release (org/tiny-saes)")
    ]


FAILS = [
    ("x = {}\nx['a']", "KeyError: 'a'", 5),
    ("def f():\n    return 1 / 0\n\nf()", "ZeroDivisionError: division by zero", 5),
    ("import saereg.nothing", "ModuleNotFoundError: No module named 'saereg.nothing'", 4),
    ("import sys\nsys.exit(2)", "SystemExit: 2", 5),
    ("import os\nos._exit(3)", "it ends the process (ended with code 3)", 4),
    ("raise ValueError('/home/jane/x/y.txt at 0x7fff12345678')", "ValueError: …/y.txt at 0x…", 4),
    ("import os\nraise ValueError(os.getcwd() + '/a')", "ValueError: a", 5),
    ("open('gone.txt')", "FileNotFoundError: [Errno 2] No such file or directory: 'gone.txt'", 4),
    ("raise ValueError('x' * 10**7)", "ValueError: " + "x" * 227 + "…", 4),
]


@pytest.mark.parametrize(("block", "sentence", "line"), FAILS)
def test_a_block_that_does_not_run_is_told_in_one_line(release, block, sentence, line):
    """Without paths and addresses of this machine: the same on every one."""
    (failure,) = run(release, block).failures

    assert (failure.what, failure.line) == (sentence, line)


LACKS = [
    ("import nosuchlibrary.part", "it needs nosuchlibrary, which is not installed here"),
    (
        "import huggingface_hub as h\nh.hf_hub_download('openai/gpt2', 'a')\n'hf://org/tiny-saes'",
        "it needs openai/gpt2 of the Hub",
    ),
    ("import socket\nsocket.create_connection(('127.0.0.1', 9))", "it needs the network"),
    ("import socket\nsocket.getaddrinfo('example.org', 80)", "it needs the network"),
    ("import urllib.request as u\nu.urlopen('http://127.0.0.1:9')", "it needs the network"),
    ("import subprocess\nsubprocess.run(['ls'])", "it starts other programs, which is not done here"),
    ("import os\nos.system('ls')", "it starts other programs, which is not done here"),
    ("import os\nos.fork()", "it starts other programs, which is not done here"),
    ("x = [0] * 10**12", "it needs more memory than is given to it"),
    (
        "raise AssertionError('Torch not compiled with CUDA enabled')",
        "it needs a CUDA device, and blocks are run without one",
    ),
    ("input()", "it asks for input"),
    ("model = load(...)", "it leaves something out, written as ..."),
]  # fmt: skip


@pytest.mark.parametrize(("block", "reason"), LACKS)
def test_what_this_machine_lacks_is_no_fault_of_the_card(release, block, reason):
    """The block is skipped, and why is said."""
    assert why(run(release, block)) == reason


def test_a_base_model_is_no_part_of_the_release(release):
    """Blocks that need it are skipped, and so are those that need its names."""
    outcome = run(
        release, "import huggingface_hub\nm = huggingface_hub.hf_hub_download('tiny/model', 'x')", "print(m)", "y = 1"
    )

    assert outcome.failures == ()
    assert outcome.skipped == {1: "it needs tiny/model of the Hub", 2: "it needs 'm' of a block that did not run"}


def test_an_endless_block_is_ended(release):
    """With all that it started; those after it are skipped, and say so."""
    start = time.monotonic()

    outcome = run(
        release,
        "x = 1",
        "import threading\nthreading.Thread(target=lambda: 1).start()\nwhile x: pass",
        "y = 1",
        seconds=2,
    )

    assert time.monotonic() - start < 30
    assert outcome.failures == ()
    assert outcome.skipped == {
        2: "it was still running after 2 seconds",
        3: "it comes after block 2, which did not end",
    }


def test_a_block_may_print_what_it_likes(release):
    """It goes nowhere."""
    assert runs(run(release, "for _ in range(100): print('x' * 10**6)"))


HOSTILE = [
    f"import os\nopen({LARGE!r}, 'r+b').write(b'y')",
    f"import os\nos.truncate(os.path.realpath({LARGE!r}), 0)",
    f"import os\nos.remove(os.path.realpath({LARGE!r}))",
    f"import os\nos.rename(os.path.realpath({LARGE!r}), 'mine')",
    f"import os\nos.link(os.path.realpath({LARGE!r}), 'mine')",
    f"import os\nos.chmod(os.path.realpath({LARGE!r}), 0)",
    f"import os, shutil\nshutil.rmtree(os.path.dirname(os.path.realpath({LARGE!r})))",
    f"import os\nf = os.open(os.path.dirname(os.path.realpath({LARGE!r})), 0)\nos.remove('large.bytes', dir_fd=f)",
    f"import os\nopen(os.path.dirname(os.path.realpath({LARGE!r})) + '/new', 'w')",
    f"import os\nopen(os.path.dirname(os.path.realpath({LARGE!r})) + '/../README.md', 'a')",
]


@pytest.mark.parametrize("block", HOSTILE)
def test_no_block_changes_the_release(release, block):
    """Neither through a link, nor by the path that the link betrays."""
    assert what(run(release, block)).startswith("NotYoursError: a block may not change ")


@pytest.mark.skipif(not has_landlock(), reason="this system refuses what Python opens alone")
@pytest.mark.parametrize(
    "block",
    [
        f"import torch\ntorch.save([1], {LARGE!r})",
        f"import os, torch\ntorch.save([1], os.path.dirname(os.path.realpath({LARGE!r})) + '/new.pt')",
        f"import os, sqlite3\nnew = os.path.dirname(os.path.realpath({LARGE!r})) + '/new.db'\n"
        "sqlite3.connect(new).execute('create table x (a)')",
    ],
)
def test_libraries_that_write_past_python_do_not_change_the_release_either(release, block):
    """torch and SQLite open files by themselves: no audit hook hears of it."""
    before = sorted(release.rglob("*"))

    assert run(release, block).failures
    assert sorted(release.rglob("*")) == before


def test_a_block_ends_by_itself_once_nobody_waits_for_it(release):
    """The process that waits may be killed; this one has a session of its own."""
    left = "import signal\nassert 60 < signal.alarm(0) <= 70"

    assert runs(run(release, left, seconds=60))


def test_a_block_writes_what_it_likes_in_its_own_folder(release):
    """Copies of the files of the release included; nothing of it remains."""
    outcome = run(
        release,
        "import os, shutil, tempfile\nopen('README.md', 'w').write('x')\nos.makedirs('a/b')\nshutil.rmtree('a')",
        "with tempfile.TemporaryDirectory() as d: open(d + '/x', 'w').write('x')",
        "from pathlib import Path\n(Path.home() / '.cache/x').mkdir(parents=True)",
        f"os.remove({LARGE!r})",
    )

    assert [f.what for f in outcome.failures] == [f"NotYoursError: a block may not change {LARGE.split('/')[1]}"]


def test_a_release_that_is_changed_after_all_is_named(release, tmp_path):
    """Code that means to can go past any such guard; it is seen afterwards."""
    root = tmp_path / "release"
    root.mkdir()
    (root / "a.txt").write_text("a")
    path = str(root / "a.txt").encode()
    card = Card(f"```python\nimport ctypes\nctypes.CDLL(None).unlink({path!r})\n```\n")

    assert run_snippets(root, snippets_of(card), KNOWN).changed == ("a.txt",)


def test_no_variable_of_the_user_is_seen(release, monkeypatch):
    """Tokens least of all; the folders are temporary ones."""
    for name in ("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "HTTPS_PROXY", "HF_ENDPOINT", "PYTHONPATH"):
        monkeypatch.setenv(name, "mine")
    code = "import os\nassert 'mine' not in os.environ.values()\nassert not os.environ.get('HF_TOKEN')"

    assert runs(
        run(
            release,
            code,
            "import huggingface_hub as h\nassert h.get_token() is None",
            "assert os.environ['HOME'] != '/root' and os.environ['HF_HUB_OFFLINE'] == '1'",
        )
    )


def test_the_same_blocks_give_the_same_outcome(release):
    """Order of sets and addresses included."""
    block = "raise ValueError(str({'a', 'b', 'c', 'd', 'e'}) + str(object()))"

    assert run(release, block) == run(release, block)


def test_nothing_starts_where_nothing_is_to_be_run(release, monkeypatch):
    """Neither copies nor a process."""
    monkeypatch.setattr("subprocess.Popen", None)

    assert why(run(release, "x = load(...)")) == "it leaves something out, written as ..."
    assert run(release, "x = = 1").skipped == {}
