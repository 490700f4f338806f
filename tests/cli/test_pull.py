"""`saereg verify`, `pull` and `lock`, from a hub that the real client has committed to."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest

import saereg
from saereg.errors import WeightsError
from saereg.publishers.local_hub import Fault, local_hub
from saereg.schemas.pulled import PULLED_FILE, Pulled
from tests.releases import tiny_release

REPO = "me/tiny"
TARGET = f"hf://{REPO}"
TOPK = "layer_1/topk"
WEIGHTS = f"{TOPK}/sae_weights.safetensors"


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """The folder of a hub with one release, tagged v1.0.0, which was committed by the client of the Hub."""
    from huggingface_hub import CommitOperationAdd, HfApi, constants

    root = tmp_path_factory.mktemp("hub")
    release = tiny_release(root, checkpoints=False)
    patch = pytest.MonkeyPatch()
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with local_hub(root / "stored", xet=False) as hub:
        api = HfApi(endpoint=hub.url, token="hf_x")
        api.create_repo(REPO)
        files = sorted(path for path in release.rglob("*") if path.is_file())
        adds = [CommitOperationAdd(path.relative_to(release).as_posix(), str(path)) for path in files]
        commit = api.create_commit(REPO, adds, commit_message="release")
        api.create_tag(REPO, tag="v1.0.0", revision=commit.oid)
    patch.undo()
    return root / "stored", commit.oid


@pytest.fixture
def served(stored, tmp_path, monkeypatch):
    """The hub, for the client of this process, and an empty working directory."""
    from huggingface_hub import constants

    shutil.copytree(stored[0], tmp_path / "stored")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with local_hub(tmp_path / "stored", xet=False) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
        yield hub


@pytest.fixture
def ask(served, capsys):
    """Run a command in this process, in the working directory of the test."""
    from saereg.cli import run

    def answer(*words: object) -> tuple[int, str, str]:
        code = run([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return answer


def commit(hub, path: str, content: bytes) -> str:
    """Commit one file to the default branch."""
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=hub.url, token="hf_x")
    return api.create_commit(REPO, [CommitOperationAdd(path, content)], commit_message="edit").oid


def sent(hub) -> int:
    """Return the bytes that the hub sent of files."""
    return sum(request.sent for request in hub.requests if request.route == "resolve")


def test_a_pull_by_a_condition_sends_the_bytes_of_what_it_chose(ask, served):
    """Verified, opened, loaded; the next command is named, and a second pull sends documents alone."""
    code, out, err = ask("pull", TARGET, "--where", "architecture = topk")
    assert (code, err) == (0, "next: saereg ls tiny\n")
    assert "to tiny: 1 artifact of 4" in out
    assert out.endswith(" beside the documents; every file is as the index says\n")
    here = [path for path in Path("tiny").rglob("*") if path.is_file() and ".cache" not in path.parts]
    assert sent(served) == sum(path.stat().st_size for path in here)
    assert {path.parent.as_posix() for path in here} == {"tiny", f"tiny/{TOPK}"}
    assert saereg.load(f"tiny:{TOPK}").encode is not None

    code, out, err = ask("ls", "tiny", "--format", "ids")
    assert (code, len(out.split())) == (0, 4)
    assert err.startswith("not pulled: layer_1/jumprelu, layer_1/transcoder, W_U/cross-snapshot-2: saereg show names")
    fetches = f"saereg pull {TARGET}@{Pulled.read(Path('tiny') / PULLED_FILE).commit} layer_1/jumprelu --out tiny"
    assert ask("show", "tiny:layer_1/jumprelu")[2] == f"next: {fetches}\n"
    with pytest.raises(WeightsError, match=f"^tiny/layer_1/jumprelu: was not pulled: {fetches} fetches it$"):
        saereg.load("tiny:layer_1/jumprelu")
    code, out, _ = ask("validate", "tiny", "--isolated")
    assert code == 0
    assert "not checked: 3 of 4 artifacts, 11 files: they were not pulled" in out

    served.requests.clear()
    code, out, _ = ask("pull", TARGET)
    assert f"  = {len(here)} files already there\nfetched 0 B" in out
    ask("pull", TARGET, "--all")
    assert "not checked: 2 files: they were not pulled" in ask("validate", "tiny", "--isolated", "--level", "layout")[1]


def test_a_dry_run_writes_nothing_and_json_is_for_programs(ask):
    """The same files as the run itself."""
    code, out, err = ask("pull", TARGET, TOPK, "--dry-run", "--out", "there")
    assert (code, err) == (0, f"next: saereg pull {TARGET} {TOPK} --out there\n")
    assert f"  + {WEIGHTS}" in out
    assert not Path("there").exists()
    assert not Path("tiny").exists()
    done = json.loads(ask("pull", f"{TARGET}:{TOPK}", "--format", "json")[1])
    assert done["artifacts"] == [TOPK]
    assert {file["path"] for file in done["files"] if file["action"] == "fetch"} > {WEIGHTS, "manifest.json"}


def test_a_hub_that_breaks_off_or_is_busy_is_gone_on_with(ask, served):
    """A connection cut in the middle of a file; 429 with RateLimit; neither is seen in the end."""
    served.faults += [
        Fault("resolve", path=WEIGHTS, drop=True),
        Fault("resolve", path="cfg.json", status=429, headers={"RateLimit": '"resolvers";r=0;t=1'}),
        Fault("resolve", path="golden", status=503),
    ]
    code, _, err = ask("pull", TARGET, TOPK)
    assert (code, err) == (0, "next: saereg ls tiny\n")
    assert not [fault for fault in served.faults if fault.count]
    assert len([r for r in served.requests if r.route == "resolve" and "cfg.json" in r.path]) == 2


def test_a_hub_that_asks_to_wait_too_long_is_one_line(ask, served):
    """And nothing is half there."""
    served.faults += [Fault("resolve", path=WEIGHTS, status=429, count=-1, headers={"RateLimit": '"x";r=0;t=290'})]
    code, _, err = ask("pull", TARGET, TOPK)
    assert code == 4
    assert "too many requests; the Hub asks to wait 290 seconds, or set HF_TOKEN" in err
    assert [path.name for path in Path("tiny").iterdir()] == [".cache"]


def test_verify_is_clean_until_somebody_edits_the_repository(ask, served):
    """By hand on the site: weights, and a file that no index names; the tagged commit stays clean."""
    code, out, err = ask("verify", TARGET)
    assert code == 0
    assert "0 errors, 0 warnings, 0 notes" in out
    assert re.search(
        r"compared 16 files, [\d.]+ kB, beside manifest and index: 10 by the digests of .*, 6 fetched", out
    )
    assert err == f"next: saereg pull {TARGET} --all\n"
    assert not [request for request in served.requests if request.path.endswith(".safetensors")]

    commit(served, WEIGHTS, b"other weights" * 9)
    commit(served, "notes.txt", b"notes")
    code, out, err = ask("verify", TARGET, "--format", "json")
    assert (code, err) == (1, "next: saereg rule SR601\n")
    assert [(found["code"], found["path"]) for found in json.loads(out)["findings"]] == [
        ("SR601", WEIGHTS),
        ("SR003", "notes.txt"),
    ]
    assert ask("verify", f"{TARGET}@v1.0.0", "--sample", "1")[0] == 0
    code, _, err = ask("pull", TARGET, TOPK)
    assert code == 4
    assert f"{WEIGHTS} has " in err


def test_a_lock_pins_a_pull_until_it_is_updated(ask, served, stored):
    """A branch moves on: `--check` says so, `pull` stays, `--update` follows."""
    code, out, err = ask("lock", TARGET, TOPK)
    assert (code, err) == (0, "next: saereg pull\n")
    assert out.startswith(f"{REPO} at {stored[1]}: tiny-saes 1.0.0, 1 artifact, 3 files")
    before = Path("saereg.lock").read_bytes()
    assert ask("lock", "--check")[0] == 0

    moved = commit(served, "README.md", b"# Edited\n")
    code, out, err = ask("lock", "--check")
    assert (code, out) == (1, f"{TARGET}: locked at {stored[1]}, now {moved}\n")
    assert err.endswith(f"next: saereg lock --update {TARGET}\n")
    assert Path("saereg.lock").read_bytes() == before

    code, out, err = ask("pull")
    assert code == 0
    assert f"tiny-saes 1.0.0 at {stored[1]}, as locked\n" in out
    assert Path("tiny/README.md").read_text() != "# Edited\n"
    code, _, err = ask("pull", f"{TARGET}@{moved}", TOPK)
    assert code == 2
    assert f"saereg.lock locks {TARGET} at {stored[1]}, and {TARGET}@{moved} is asked for; --no-lock" in err
    code, _, err = ask("pull", TARGET, "--no-lock", TOPK)
    assert (code, Path("tiny/README.md").read_text()) == (0, "# Edited\n")
    assert "note: README.md differs from the index: it was edited on the Hub" in err

    assert ask("lock", TARGET)[0] == 2
    shutil.copy("saereg.lock", "main.lock")
    assert ask("lock", "--update")[1].startswith(f"{REPO} at {moved}: ")
    assert ask("lock", "--check")[0] == 0

    code, out, err = ask("lock", "--check", "--lock", "main.lock", "--format", "json")
    assert (code, json.loads(out)) == (1, [{"repo": REPO, "requested": None, "locked": stored[1], "now": moved}])
    assert err.endswith(f"next: saereg lock --update --lock main.lock {TARGET}\n")
    again = "saereg lock --lock main.lock --update"
    assert f"{again} {TARGET}@v1 moves it" in ask("pull", f"{TARGET}@v1", "--lock", "main.lock")[2]
    written = Path("saereg.lock").read_bytes()
    code, out, err = ask("lock", TARGET, "--dry-run")
    assert "4 artifacts (1 before), 12 files, " in out
    assert (err, Path("saereg.lock").read_bytes()) == (f"next: saereg lock {TARGET}\n", written)


def test_a_signature_is_checked_without_a_download(ask, served, tmp_path):
    """By the digests of the tree; one of other files, by another key, or none at all is a finding."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    from saereg.publishers.signing.sign import sign_release

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    pem, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    for name, key in zip(("mine", "other"), keys, strict=True):
        Path(f"{name}.pub").write_bytes(key.public_key().public_bytes(pem, form))
    secret = (pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    Path("mine.pem").write_bytes(keys[0].private_bytes(*secret))
    code, out, _ = ask("verify", TARGET, "--public-key", "mine.pub")
    assert code == 1
    assert "model.sig  error SR607  there is no model.sig" in out

    ask("pull", TARGET, "--all", "--with-evaluations", "--out", "whole")
    sign_release(Path("whole"), Path("mine.pem"))
    commit(served, "model.sig", Path("whole/model.sig").read_bytes())
    served.requests.clear()
    code, out, _ = ask("verify", TARGET, "--public-key", "mine.pub")
    assert code == 0
    assert "signed: 17 files, by the key" in out
    assert "\nnot signed: README.md\n" in out
    assert not [request for request in served.requests if request.path.endswith(".safetensors")]
    assert ask("verify", TARGET, "--public-key", "other.pub")[0] == 1
    ask("pull", TARGET, TOPK)
    assert Path("tiny/model.sig").read_bytes() == Path("whole/model.sig").read_bytes()

    commit(served, WEIGHTS, b"other weights" * 9)
    out = ask("verify", TARGET, "--public-key", "mine.pub", "--format", "json")[1]
    assert {found["code"] for found in json.loads(out)["findings"]} == {"SR601", "SR607"}

    commit(served, WEIGHTS, (Path("whole") / WEIGHTS).read_bytes())
    index = json.loads(Path("whole/index.json").read_text())
    for metric in (metric for artifact in index["artifacts"] for metric in artifact["metrics"]):
        metric["value"] = 0.99
    commit(served, "index.json", json.dumps(index).encode())
    code, out, _ = ask("verify", TARGET, "--public-key", "mine.pub")
    assert (code, "model.sig  error SR607  1 changed: index.json\n" in out) == (1, True)


YANKED = {"version": "1.0.0", "kind": "yanked", "reason": "the decoder was transposed", "date": "2026-11-20"}


def test_what_its_author_calls_wrong_is_only_pulled_when_asked_for(ask, served):
    """Not from the branch, where the mark is; whoever asks for the tagged version gets it, and is told."""
    from huggingface_hub import hf_hub_download

    path = hf_hub_download(REPO, "manifest.json", endpoint=served.url, local_dir="scratch")
    manifest = json.loads(Path(path).read_text()) | {"withdrawn": [YANKED | {"artifact": TOPK}]}
    commit(served, "manifest.json", json.dumps(manifest).encode())

    digest = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    index = json.loads(Path(hf_hub_download(REPO, "index.json", endpoint=served.url, local_dir="scratch")).read_text())
    commit(served, "index.json", json.dumps(index | {"manifest_sha256": digest}).encode())

    code, _, err = ask("pull", TARGET, "--where", "kind = sae")
    assert code == 2
    assert f"{TOPK} of 1.0.0 is yanked (2026-11-20): the decoder was transposed; --allow-yanked fetches it" in err
    code, _, err = ask("pull", TARGET, TOPK, "--allow-yanked")
    assert (code, f"warning: {TOPK} of 1.0.0 is yanked" in err) == (0, True)
    code, out, _ = ask("pull", TARGET, "--where", "kind = sae", "--where", "withdrawn = none", "--out", "fine")
    assert (code, "1 artifact of 4" in out) == (0, True)
    code, _, err = ask("pull", f"{TARGET}@v1.0.0", TOPK, "--out", "exact")
    assert (code, f"warning: {TOPK} of 1.0.0 is yanked" in err) == (0, True)
    assert f"withdrawn: {TOPK} of 1.0.0 is yanked" in ask("verify", f"{TARGET}@v1.0.0")[1]


WRONG = [
    (["pull", "folder"], 2, "'folder' is not on the Hub; write hf://org/repo[@revision]"),
    (["pull", TARGET], 2, "4 artifacts; name some, or choose with --where, or take --all"),
    (["pull", TARGET, "layer_1/topq"], 2, "unknown artifact 'layer_1/topq'; did you mean 'layer_1/topk'?"),
    (["pull", TARGET, "--all", TOPK], 2, "--all takes every artifact; leave it out, or the ids and --where"),
    (["lock", TARGET, "--where", "l0 < few"], 2, "'l0 < few' column 6: l0 is a number, and 'few' is none"),
    (["lock", TARGET, "--where", "l0 <"], 2, "'l0 <' column 5: expected a value, found the end"),
    (["verify", "hf://no/body"], 4, "no such repository"),
    (["lock", "hf://no/body"], 4, "no such repository"),
    (["pull", TARGET, "--where", "sparkle = 3"], 2, "unknown field 'sparkle'"),
    (["pull", TARGET, "--lock", "no.lock"], 2, "--lock no.lock: there is no such file"),
    (["pull", "hf://no/body"], 4, "no such repository"),
    (["pull"], 2, "missing argument 'TARGET'"),
    (["verify", f"{TARGET}:{TOPK}"], 2, "a release is verified as a whole"),
    (["verify", TARGET, "--against", "none"], 2, "--against none is not a folder"),
    (["lock"], 2, "missing argument 'TARGET'"),
    (["lock", TOPK], 2, "ids are those of one release"),
    (["lock", TARGET, TARGET], 2, "is named twice"),
    (["lock", "--check"], 2, "saereg.lock: there is no such file"),
    (["lock", "--check", "--update"], 2, "exclude each other"),
]


def test_what_cannot_be_done_is_one_line(ask):
    """Where, what was expected, what to do next; nothing is written."""
    for words, code, line in WRONG:
        got, _, err = ask(*words)
        assert (got, line in err) == (code, True), (words, got, err)
        assert "Traceback" not in err
    assert list(Path().iterdir()) == []


def test_settings_that_do_not_fit_are_said_in_plain_words(ask, monkeypatch):
    """A token that the Hub does not know, an address that is none; and a repository that is no release."""
    from huggingface_hub import HfApi, constants

    HfApi(endpoint=constants.ENDPOINT, token="hf_x").create_repo("me/none")
    for verb in ("verify", "pull", "lock"):
        assert ask(verb, "hf://me/none")[0] == 5
        with monkeypatch.context() as patch:
            patch.setenv("HF_TOKEN", "not-a-token")
            code, _, err = ask(verb, TARGET)
            assert code == 4
            assert "the Hub does not know who you are: log in with `hf auth login`, or set HF_TOKEN" in err
            patch.setattr(constants, "ENDPOINT", "nonsense")
            code, _, err = ask(verb, TARGET)
            assert (code, err) == (2, "error: HF_ENDPOINT is 'nonsense', which is no address: write it like "
                                      "https://hub.example.org\n")  # fmt: skip
