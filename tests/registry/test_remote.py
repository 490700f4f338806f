"""A release on the Hub: what is found there is what is found in the folder, and next to nothing is fetched for it."""

import hashlib
import json
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

import saereg
from saereg.errors import NothingToValidateError, PublishError, UsageError, WeightsError
from saereg.registry import remote
from saereg.registry.files.place import FolderPlace
from saereg.registry.remote import open_place
from saereg.registry.validators.runner import validate
from saereg.schemas import jsontext
from tests.cases.plant import CASES, folder_of
from tests.reading_hub import REPO, SHA, Client, Server, hub
from tests.releases import tiny_release

pytestmark = pytest.mark.slow

TARGET = f"hf://{REPO}"

NOT_ON_THE_HUB = {"link_out_of_release": "a repository on the Hub has no links"}
"""Case → why the Hub's findings are not those of the folder."""

REMOTE = [name for name, case in CASES.items() if case.level in ("layout", "header") and name not in NOT_ON_THE_HUB]

COMPARED = sorted({(CASES[name].code, CASES[name].passes): name for name in REMOTE}.values())
"""One case of each rule that is found, and one that passes."""


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    """A release as it lies in a repository."""
    return tiny_release(tmp_path_factory.mktemp("repository"), checkpoints=False)


@pytest.fixture
def serve(monkeypatch):
    """Serve a folder to the client of this process, which reads the address of the Hub when it is imported."""
    from contextlib import ExitStack

    from huggingface_hub import constants

    with ExitStack() as stack:

        def start(root: Path, **habits: object) -> Server:
            server = stack.enter_context(hub(root, **habits))
            monkeypatch.setattr(constants, "ENDPOINT", server.url)
            template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
            monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
            return server

        yield start


@pytest.fixture(scope="module")
def large(tmp_path_factory, release) -> tuple[Path, str]:
    """A release with one weight file of 48 MiB, and the path of that file."""
    root = tmp_path_factory.mktemp("large") / "release"
    shutil.copytree(release, root)
    path = "layer_1/topk/sae_weights.safetensors"
    _write_weights(root / path, 12 * 1024 * 1024)
    return root, path


def _write_weights(path: Path, width: int, note: str = "") -> None:
    entry = {"dtype": "F32", "shape": [width], "data_offsets": [0, 4 * width]}
    text = json.dumps({"__metadata__": {"note": note}, "W": entry}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4 * width))


def test_every_case_is_found_on_the_hub_as_in_the_folder(serve):
    """At levels layout and header, whatever is planted; each file is asked for at most twice."""
    server = serve(Path())
    differing, greedy = [], []
    for name in COMPARED:
        case, root = CASES[name], folder_of(name) / "release"
        server.root = root
        server.requests.clear()
        here = validate(root, case.level, options=case.options, settings=case.settings)
        there = validate(open_place(TARGET), case.level, options=case.options, settings=case.settings)
        unread = {"release": REPO} if here.release == root.name else {}  # by what it is called, then
        if here.model_copy(update={"revision": SHA} | unread) != there:
            differing.append(name)
        greedy += [(name, path) for path, count in server.asked().items() if count > 2]
    assert len(COMPARED) > 80
    assert (differing, greedy) == ([], [])


def test_a_report_says_which_commit_was_looked_at(serve, release):
    """A branch moves; the commit is asked for once, and everything is read at it."""
    server = serve(release)
    assert saereg.validate(TARGET).revision == SHA
    assert saereg.validate(f"{TARGET}@refs/pr/1").revision == SHA
    server.requests.clear()
    assert saereg.validate(f"{TARGET}@{SHA}").revision == SHA
    assert saereg.validate(release).revision is None
    assert not [path for _, path in server.requests if path.endswith(("/main", "/refs/pr/1"))]
    assert [path for _, path in server.requests].count(f"/api/models/{REPO}/tree/{SHA}") == 1


def test_a_place_on_the_hub_holds_what_the_folder_holds(serve, release):
    """Entries, bytes, beginnings, headers and digests."""
    serve(release)
    here, there = FolderPlace(release), open_place(TARGET)
    assert (there.name, there.folder, there.revision) == (REPO, None, SHA)
    assert there.entries() == here.entries()
    for entry in here.entries():
        assert there.read(entry.path) == here.read(entry.path)
        assert there.start(entry.path, 5) == here.start(entry.path, 5)
        assert there.sha256(entry.path) == here.sha256(entry.path)
        if entry.path.endswith(".safetensors"):
            assert there.header(entry.path) == here.header(entry.path)


def test_of_a_large_file_only_its_beginning_is_sent(serve, large):
    """One request; and its digest is the Hub's, of the tree."""
    root, path = large
    server = serve(root)
    place = open_place(TARGET)
    assert place.header(path) == FolderPlace(root).header(path)
    assert place.sha256(path) == hashlib.sha256((root / path).read_bytes()).hexdigest()
    assert server.asked()[path] == 1
    assert server.sent[f"/{REPO}/resolve/{SHA}/{path}"] == remote.FIRST


def test_a_long_header_takes_a_second_request(serve, tmp_path):
    """And no third."""
    _write_weights(tmp_path / "long.safetensors", 4_000_000, note="x" * 300_000)
    server = serve(tmp_path)
    header = open_place(TARGET).header("long.safetensors")
    assert len(header.metadata["note"]) == 300_000
    assert server.asked()["long.safetensors"] == 2
    assert 300_000 < sum(server.sent.values()) < 400_000


@pytest.mark.parametrize("note", ["", "x" * 300_000])
def test_a_server_that_knows_no_ranges_does_not_send_the_whole_file(serve, tmp_path, note):
    """The client hangs up; what is on the way by then is the network's."""
    _write_weights(tmp_path / "w.safetensors", 16 * 1024 * 1024, note)
    server = serve(tmp_path, deaf=True)
    assert open_place(TARGET).header("w.safetensors") == FolderPlace(tmp_path).header("w.safetensors")
    assert sum(server.sent.values()) < 2**26 / 2


def test_large_files_may_be_on_another_host(serve, large):
    """The range is asked of that host too."""
    root, path = large
    server = serve(root, elsewhere=True)
    assert open_place(TARGET).header(path) == FolderPlace(root).header(path)
    assert server.sent[f"/elsewhere/{path}"] == remote.FIRST


def test_a_long_tree_comes_in_pages(serve, release):
    """All of them are read."""
    server = serve(release, page=4)
    assert open_place(TARGET).entries() == FolderPlace(release).entries()
    assert len(server.requests) > 4


def test_a_repository_inside_the_repository_is_no_regular_file(serve, release):
    """Git calls it a submodule; whoever downloads the release does not get it."""
    serve(release, submodules=("layer_1/code",))
    (finding,) = saereg.validate(TARGET).findings
    assert (finding.code, finding.path) == ("SR013", "layer_1/code")


def test_a_busy_hub_is_asked_again_after_what_it_asks_to_wait(serve, release):
    """429 for the repository, the tree and a file; 503 for another."""
    busy = Counter({"/revision/main": 1, "/tree/": 1, "topk/cfg.json": 1})
    server = serve(release, busy=busy, broken=Counter({"jumprelu/sae_weights": 2}))
    assert saereg.validate(f"{TARGET}@main").findings == ()
    assert server.asked()["layer_1/topk/cfg.json"] == 2
    assert server.asked()["layer_1/jumprelu/sae_weights.safetensors"] == 3


@pytest.mark.parametrize("part", ["/api/", "/tree/", "cfg.json"])
def test_a_hub_that_asks_for_a_long_wait_is_told_at_once(serve, release, part):
    """Nobody sits through an hour."""
    serve(release, busy=Counter({part: 99}), retry_after=3600)
    with pytest.raises(PublishError, match=r"too many requests; the Hub asks to wait 3600 seconds, or set HF_TOKEN$"):
        saereg.validate(TARGET)


@pytest.mark.parametrize("habit", ["silent_on", "stalls_on"])
@pytest.mark.parametrize("part", ["manifest.json", "topk/cfg.json", "sae_weights"])
def test_a_hub_that_falls_silent_is_given_up(serve, release, habit, part):
    """Before an answer or in the middle of one, after two attempts; no finding is made of it."""
    server = serve(release, **{habit: part})
    started = time.monotonic()
    with pytest.raises(PublishError, match=f"^{TARGET}@{SHA}: the Hub does not answer$"):
        saereg.validate(TARGET)
    assert max(server.asked().values()) == 2
    assert time.monotonic() - started < 20


def test_a_page_of_a_proxy_is_no_answer(serve, release):
    """Where a network asks for a login, it answers for every host."""
    serve(release, html=True)
    with pytest.raises(PublishError, match=r"the answer is not that of a Hub; check the network, and HF_ENDPOINT$"):
        saereg.validate(TARGET)


def test_a_file_that_the_hub_lists_and_does_not_have_is_a_finding(serve, release):
    """As one that cannot be read is, in a folder."""
    config, weights = "layer_1/topk/cfg.json", "layer_1/jumprelu/sae_weights.safetensors"
    serve(release, lost=(config, weights))
    found = {(finding.code, finding.path) for finding in saereg.validate(TARGET).findings}
    assert {("SR100", config), ("SR200", weights)} <= found
    with pytest.raises(OSError, match="the Hub lists it, but does not have it"):
        open_place(TARGET).read(config)


def test_a_header_that_is_not_sound_is_refused_as_in_a_folder(serve, tmp_path):
    """With the same words."""
    contents = {
        "short": b"1234",
        "long": (2**40).to_bytes(8, "little"),
        "text": b"{}" * 50,
        "none": b"",
        "list": (2).to_bytes(8, "little") + b"[]",
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.safetensors").write_bytes(content)
    serve(tmp_path)
    place = open_place(TARGET)
    for name in contents:
        path, words = f"{name}.safetensors", []
        for one in (place, FolderPlace(tmp_path)):
            with pytest.raises(WeightsError) as problem:
                one.header(path)
            words.append(str(problem.value))
        assert words[0] == words[1]


def test_what_holds_no_manifest_is_no_release(serve, tmp_path):
    """An empty repository and one of something else."""
    serve(tmp_path)
    with pytest.raises(NothingToValidateError, match=f"^{REPO} holds no manifest.json"):
        saereg.validate(TARGET)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(NothingToValidateError):
        saereg.validate(TARGET)


@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        (f"{TARGET}@v9", PublishError, "no such revision"),
        ("hf://tiny/other", PublishError, "no such repository, or no access to it"),
        ("hf://tiny/--x", UsageError, "is no reference"),
        ("hf://tiny", UsageError, "is no reference"),
        (f"{TARGET}:layer_1/topk", UsageError, f"a release is validated as a whole; write {TARGET}$"),
        ("releases/x", UsageError, "is not on the Hub"),
    ],
)
def test_what_is_not_there_is_one_line(serve, release, target, error, words):
    """With what to do next."""
    serve(release)
    with pytest.raises(error, match=words) as problem:
        open_place(target)
    assert "\n" not in str(problem.value)


def test_a_level_that_reads_weights_needs_them_here(serve, release):
    """One line, and nothing is downloaded."""
    server = serve(release)
    with pytest.raises(UsageError, match="is not on this machine; download the release first"):
        saereg.validate(TARGET, "weights")
    assert server.fetched() == set()


VALIDATED = f"import saereg; r = saereg.validate('{TARGET}'); print(r.revision, len(r.findings))"


def test_without_a_network_a_whole_snapshot_is_enough(tmp_path, release):
    """One that holds the documents alone is not: what is missing in it is not missing in the release."""
    client, offline = Client(tmp_path), {"HF_HUB_OFFLINE": "1"}
    reason = f"{TARGET}: not (or only in part) in the local cache, and HF_HUB_OFFLINE is set"
    with hub(release) as server:
        nothing = client.python(server.url, VALIDATED, **offline)
        assert client.python(server.url, f"import saereg; saereg.open('{TARGET}')").returncode == 0
        part = client.python(server.url, VALIDATED, **offline)
        download = f"from huggingface_hub import snapshot_download; snapshot_download('{REPO}')"
        assert client.python(server.url, download).returncode == 0
        server.requests.clear()
        whole = client.python(server.url, VALIDATED, **offline)
        assert server.requests == []
    assert [answer.stderr.strip().endswith(f"PublishError: {reason}") for answer in (nothing, part)] == [True, True]
    assert (whole.stdout, whole.stderr) == (f"{SHA} 0\n", "")


def test_the_client_s_own_settings_are_heeded(tmp_path, release):
    """HF_ENDPOINT and HF_TOKEN; and torch is not imported for headers."""
    code = f"{VALIDATED}; import sys; print('torch' in sys.modules)"
    with hub(release) as server:
        answer = Client(tmp_path).python(server.url, code, HF_TOKEN="hf_of_the_test")
        assert (answer.stdout, answer.stderr) == (f"{SHA} 0\nFalse\n", "")
        assert set(server.tokens) == {"Bearer hf_of_the_test"}
    down = Client(tmp_path).python("http://127.0.0.1:9", VALIDATED)
    assert down.stderr.strip().endswith(f"PublishError: {TARGET}: the Hub cannot be reached")


def test_a_token_is_not_shown_to_another_host(tmp_path, large):
    """Large files are served by others than the Hub."""
    with hub(large[0], elsewhere=True) as server:
        Client(tmp_path).python(server.url, VALIDATED, HF_TOKEN="hf_of_the_test")
        tokens = {token for (_, path), token in zip(server.requests, server.tokens, strict=True) if "elsewhere" in path}
    assert tokens == {""}


def test_a_large_file_that_git_keeps_is_hashed_in_blocks(serve, tmp_path, monkeypatch):
    """Whatever size the Hub lists, it is not held; what is to be held has a limit."""
    content = bytes(range(256)) * 4096
    (tmp_path / "rows.csv").write_bytes(content)
    server = serve(tmp_path, drops=Counter({"rows.csv": 1}))
    place = open_place(TARGET)
    monkeypatch.setattr(jsontext, "MAX_BYTES", len(content) - 1)
    with pytest.raises(OSError, match="it has 1048576 bytes; at most 1048575 are read into memory"):
        place.read("rows.csv")
    assert place.sha256("rows.csv") == hashlib.sha256(content).hexdigest()
    assert server.asked()["rows.csv"] == 2


def test_a_repository_of_too_many_files_is_told_in_one_line(serve, release, monkeypatch):
    """The list ends where the limit is, not where the Hub ends it."""
    monkeypatch.setattr(remote, "MOST_ENTRIES", 8)
    server = serve(release, page=4)
    with pytest.raises(PublishError, match=f"^{TARGET} has more than 8 files and folders; no more are read$"):
        open_place(TARGET)
    assert sum("/tree/" in request for request in map(str, server.requests)) == 3
