"""Secrets, private matters and files of a machine in a release: found, and never repeated."""

import json
import shutil
import struct

import pytest

from saereg.cli.render.report import RENDERERS
from saereg.registry.build import build
from saereg.registry.files.place import FolderPlace
from saereg.registry.validators.runner import validate
from tests.cases.planted.privacy import AWS_KEY, HF_TOKEN, RUNNER_CONFIG, WANDB_KEY
from tests.cases.tools import edit, header, reindex
from tests.releases import tiny_release

TOPK = "layer_1/topk"
PASSWORD = "Tr0ub4dor" + "And3More"
PARTS = {HF_TOKEN: "hf_", WANDB_KEY: "", AWS_KEY: "AKIA", PASSWORD: ""}
"""Secret → the beginning of it that all of its kind share."""


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return tiny_release(tmp_path_factory.mktemp("pristine"), checkpoints=False)


@pytest.fixture
def release(pristine, tmp_path):
    shutil.copytree(pristine, tmp_path / "release")
    return tmp_path / "release"


def of(report, code):
    return [finding for finding in report.findings if finding.code == code]


def add_metadata(path, **metadata):
    change = header(lambda h: h.update(__metadata__={**h.get("__metadata__", {}), **metadata}))
    path.write_bytes(change(path.read_bytes()))


def leaky(root):
    """Put secrets wherever a report could quote them: other rules have something to say of the same lines."""
    edit(root / "manifest.json", lambda m: m.update(password=PASSWORD))
    edit(root / "manifest.json", lambda m: m["base_models"]["tiny"].update(revision=HF_TOKEN))
    edit(root / f"{TOPK}/cfg.json", lambda c: c.update(wandb_api_key=WANDB_KEY, dtype=HF_TOKEN))
    edit(root / f"{TOPK}/cfg.json", lambda c: c["metadata"].update(hook_nam=AWS_KEY, api_key=PASSWORD))
    add_metadata(root / f"{TOPK}/golden.safetensors", note=HF_TOKEN)
    add_metadata(root / "evaluation/W_U.safetensors", note=HF_TOKEN)
    escaped = "".join(f"\\u{ord(c):04x}" for c in HF_TOKEN)
    (root / "run.json").write_text(f'{{"argv": ["--token", "{escaped}"]}}\n')
    (root / "README.md").write_text(f"# t\n\n[a](https://jane:{HF_TOKEN}@huggingface.co/x) {WANDB_KEY}\n")
    (root / "load.ipynb").write_text(json.dumps({"cells": [{"outputs": [{"text": [f"HF_TOKEN={HF_TOKEN}\n"]}]}]}))
    (root / "out.log").write_text(f"login {HF_TOKEN}\n" * 9)


@pytest.mark.parametrize("form", RENDERERS)
def test_no_output_holds_a_part_of_a_secret(release, saereg_output, form):
    """In no format, also where another rule quotes the value, the line, or a shortened form of either."""
    leaky(release)
    reindex(release)

    text = saereg_output("validate", release, "--format", form)

    for secret, prefix in PARTS.items():
        rest = secret.removeprefix(prefix)
        pieces = {rest[i : i + 6] for i in range(len(rest) - 5)}
        assert not [piece for piece in pieces if piece in text], secret


@pytest.fixture
def saereg_output(capsys):
    from saereg.cli import run

    def output(*words):
        assert run([str(word) for word in words]) == 1
        captured = capsys.readouterr()
        assert "SR008" in captured.out
        return captured.out + captured.err

    return output


def test_every_place_of_a_secret_is_found(release):
    """Cards, documents, logs, notebooks, and the headers of weights, golden vectors and evaluations."""
    leaky(release)

    found = {(finding.path, finding.found) for finding in of(validate(release), "SR008")}

    token = "a Hugging Face token"
    assert found == {
        ("README.md", token),
        ("evaluation/W_U.safetensors", token),
        (f"{TOPK}/cfg.json", token),
        (f"{TOPK}/cfg.json", "a Weights & Biases key"),
        (f"{TOPK}/cfg.json", "an AWS access key"),
        (f"{TOPK}/cfg.json", "a password or key"),
        (f"{TOPK}/golden.safetensors", token),
        ("load.ipynb", token),
        ("manifest.json", token),
        ("manifest.json", "a password or key"),
        ("out.log", token),
        *(("out.log", f"{token}, no. {n}") for n in (2, 3, 4, 5)),
        ("run.json", token),
    }


def test_many_secrets_of_a_kind_are_told_by_the_first(release):
    """Five findings with their lines; the last says how many follow."""
    (release / "out.log").write_text(f"step\nlogin {HF_TOKEN}\n" * 9)

    found = of(validate(release, "layout"), "SR008")

    assert [(f.line, f.column) for f in found] == [(2, 7), (4, 7), (6, 7), (8, 7), (10, 7)]
    assert [f.message for f in found[3:]] == [
        "out.log holds what looks like a Hugging Face token",
        "out.log holds what looks like a Hugging Face token, and 4 more of this kind below",
    ]
    assert len({f.fingerprint for f in found}) == 5


def test_a_fingerprint_says_nothing_of_the_secret(release):
    """Two releases that differ in a secret alone have the same findings: nobody can try values against a report."""
    reports = []
    for secret in (HF_TOKEN, "hf_" + HF_TOKEN[3:].swapcase()):
        (release / "a.txt").write_text(f"HF_TOKEN={secret}\n")
        reports.append(validate(release, "layout").findings)

    assert reports[0] == reports[1]
    assert [f.code for f in reports[0]] == ["SR003", "SR008"]


def test_level_layout_stays_outside_the_folders_of_artifacts(release):
    """There may be ten thousand of them; header looks inside."""
    (release / TOPK / "training.log").write_text(f"HF_TOKEN={HF_TOKEN}\n")
    (release / "layer_1/notes.txt").write_text(f"HF_TOKEN={HF_TOKEN}\n")
    (release / TOPK / "deep/er").mkdir(parents=True)
    (release / TOPK / "deep/er/a.csv").write_text(f"HF_TOKEN,{HF_TOKEN}\n")

    found = {
        level: [(f.path, f.artifact) for f in of(validate(release, level), "SR008")] for level in ("layout", "header")
    }

    assert found["layout"] == [("layer_1/notes.txt", None)]
    assert found["header"] == [
        ("layer_1/notes.txt", None),
        (f"{TOPK}/deep/er/a.csv", TOPK),
        (f"{TOPK}/training.log", TOPK),
    ]


@pytest.mark.parametrize(
    "raw",
    [b"\0" * 100, b"\xff\xfe", b"\xff" * 5000, b"\n" * 100_000, b"a" * 6_000_000, b"{" * 300_000,
     "ünï".encode("utf-16")],
    ids=["zeros", "mark", "bytes", "lines", "long", "deep", "wide"],
)  # fmt: skip
def test_any_file_is_borne(release, raw):
    """Whatever its bytes are, it gives no finding and no exception."""
    for name in ("a.txt", "b.json", "c.ipynb", f"{TOPK}/training.log"):
        (release / name).write_bytes(raw)

    report = validate(release)

    assert not of(report, "SR008") + of(report, "SR014")


def test_a_secret_is_found_in_odd_text(release):
    """Beside bytes that are not UTF-8, in a line of a megabyte, in UTF-16, and behind the lines of Windows."""
    (release / "a.log").write_bytes(b"\xff\xff\r\n" + b"x " * 500_000 + f"HF_TOKEN={HF_TOKEN}\r\n".encode())
    (release / "b.txt").write_bytes(f"HF_TOKEN={HF_TOKEN}\n".encode("utf-16"))

    assert [(f.path, f.line) for f in of(validate(release, "layout"), "SR008")] == [("a.log", 2), ("b.txt", 1)]


def test_a_header_that_is_not_sound_is_still_looked_into(release):
    """Its own rule says what is wrong with it."""
    raw = json.dumps({"__metadata__": {"note": HF_TOKEN}, "a": 1}).encode()
    (release / TOPK / "sae_weights.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw)

    assert {"SR008", "SR200"} <= {f.code for f in validate(release).findings}


class RemotePlace(FolderPlace):
    """A release that is not on this machine; it notes what is read."""

    folder = None

    def __init__(self, folder):
        super().__init__(folder)
        self.read_paths = set()

    def start(self, path, count):
        if count > 4:
            self.read_paths.add(path)
        return super().start(path, count)


def test_of_a_release_on_the_hub_large_logs_are_not_read(release):
    """Documents, whatever their size, and all headers; of other texts those of some kilobytes."""
    add_metadata(release / "evaluation/W_U.safetensors", note=HF_TOKEN)
    for name in ("notes.json", f"{TOPK}/sweep.yaml", "train.log", f"{TOPK}/training.log"):
        (release / name).write_text(f"HF_TOKEN: {HF_TOKEN}\n" + " " * 300_000)
    (release / "small.log").write_text(f"HF_TOKEN: {HF_TOKEN}\n")
    place = RemotePlace(release)

    found = {f.path for f in of(validate(place, "header"), "SR008")}

    assert found == {"notes.json", f"{TOPK}/sweep.yaml", "evaluation/W_U.safetensors", "small.log"}
    assert not {"train.log", f"{TOPK}/training.log"} & place.read_paths


PRIVATE = [
    ("/home/jane/data", "the path of a home folder"),
    ("/Users/jane/data", "the path of a home folder"),
    ("C:\\Users\\jane\\data", "the path of a home folder"),
    ("C:\\\\Users\\\\jane", "the path of a home folder"),
    ("file:///home/jane", "the path of a home folder"),
    ("/mnt/home/jane/x", "the path of a home folder"),
    ("/scratch/jdoe7/x", "the path of a home folder"),
    ("/root/.cache/x", "the path of a home folder"),
    ("jane@gpu07:~$ python train.py", "the prompt of a machine"),
    ("(base) jane@node-3.cluster.uni.edu:/work$", "the prompt of a machine"),
    ("jane.doe@uni.edu", "an e-mail address"),
    ('"wandb_entity": "jane-lab"', "a Weights & Biases run"),
    ("wandb_id: 3fk2a9xq", "a Weights & Biases run"),
    ("https://wandb.ai/jane-lab/saes/runs/3fk2a9xq", "a Weights & Biases run"),
]


@pytest.mark.parametrize(("text", "kind"), PRIVATE)
def test_a_private_matter_is_told_by_its_form(release, text, kind):
    """In a log; in a card, what is written for readers there is none."""
    (release / "a.log").write_text(f"one\nsee {text} there\n")
    (release / "README.md").write_text(f"# t\n\nsee {text} there\n")

    found = of(validate(release, "layout"), "SR014")

    assert ("a.log", 2, kind) in [(f.path, f.line, f.found) for f in found]
    in_card = kind in ("the path of a home folder", "the prompt of a machine")
    assert [f.found for f in found if f.path == "README.md"] == ([kind] if in_card else [])


PUBLIC = [
    "/home/NAME/x", "wandb_id: str | None",
    "/home/user/x", "/home/username", "/Users/you/x", "/home/runner/work", "/home/ubuntu", "https://a.org/home/jane",
    "~/data", "data/home/jane", "/data/pile", "/content/sae", "/workspace/sae", "git@github.com:org/name",
    "user@host:~",
    "noreply@github.com", "jane@example.com", "hf://org/name@v1.0.0", "saereg@1.2.3", "@dataclass", '"wandb_id": null',
    '"wandb_entity": ""', '"wandb_project": "saes"', "wandb_log_frequency: 10", "https://wandb.ai/site", "user@host",
    "1234+jane@users.noreply.github.com",
]  # fmt: skip


@pytest.mark.parametrize("text", PUBLIC)
def test_what_belongs_to_nobody_is_not_private(release, text):
    """Placeholders, services, versions, and paths that are the same on every machine of a provider."""
    (release / "a.log").write_text(f"one\nsee {text} there\n")

    assert not of(validate(release, "layout"), "SR014")


def test_a_log_has_one_finding_of_a_kind(release):
    """With the first line and how many there are, however long it is; the name itself is not repeated."""
    (release / "a.log").write_text("start\n" + "load /home/jane/data\n" * 10_000 + "jane@gpu07:~$ exit\n")

    found = of(validate(release, "layout"), "SR014")

    assert [(f.line, f.message) for f in found] == [
        (2, "a.log holds 10000 paths of home folders"),
        (10_002, "a.log holds the prompt of a machine"),
    ]
    assert "jane" not in "".join(f.model_dump_json() for f in found)


def test_the_authors_of_a_manifest_may_give_their_addresses(release):
    """They are written there for readers."""
    edit(release / "manifest.json", lambda m: m["release"].update(authors=["Jane Doe <jane.doe@uni.edu>"]))
    reindex(release)

    assert validate(release).findings == ()


def test_what_saelens_writes_of_a_run_is_found(release):
    """Its runner_cfg.json, in the folder of an artifact, made by its own class."""
    config = pytest.importorskip("sae_lens.config")
    from sae_lens import StandardTrainingSAEConfig

    runner = config.LanguageModelSAERunnerConfig(
        sae=StandardTrainingSAEConfig(d_in=4, d_sae=8),
        dataset_path="/home/jane/data/pile",
        verbose=False,
        logger=config.LoggingConfig(wandb_entity="jane-lab", wandb_id="3fk2a9xq"),
    )
    written = runner.to_dict()
    assert set(RUNNER_CONFIG) <= set(written)
    assert set(RUNNER_CONFIG["logger"]) <= set(written["logger"])
    (release / TOPK / "runner_cfg.json").write_text(json.dumps(written, indent=2))

    found = of(validate(release), "SR014")

    assert [(f.artifact, f.found) for f in found] == [
        (TOPK, "the path of a home folder"),
        (TOPK, "a Weights & Biases run"),
    ]
    assert found[1].message == "runner_cfg.json holds 2 names of Weights & Biases runs"


MACHINE = [
    (".env", ".env"), (".env.local", ".env.local"), ("a/prod.env", "a/prod.env"), (".netrc", ".netrc"),
    ("x/.git-credentials", "x/.git-credentials"), ("id_rsa", "id_rsa"), ("keys/id_ed25519.bak", "keys/id_ed25519.bak"),
    ("server.pem", "server.pem"), ("sign.key", "sign.key"), (".npmrc", ".npmrc"), (".pypirc", ".pypirc"),
    ("kaggle.json", "kaggle.json"), ("KAGGLE.JSON", "KAGGLE.JSON"), (".aws/credentials", ".aws"),
    ("a/.ssh/known", "a/.ssh"),
    (".huggingface/token", ".huggingface"), (".wandb/x", ".wandb"), ("wandb/latest-run/x", "wandb"),
    ("layer_1/topk/wandb/offline-run-20260101_000000-ab/x", "layer_1/topk/wandb"), ("wandb/debug.log", "wandb"),
    ("run-3fk2a9xq.wandb", "run-3fk2a9xq.wandb"), (".bash_history", ".bash_history"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "named"), MACHINE)
def test_a_file_of_a_machine_is_told_by_its_name(release, path, named):
    """It is no part of the release: the build leaves it out, and nothing advises to take it in."""
    (release / path).parent.mkdir(parents=True, exist_ok=True)
    (release / path).write_text("x\n")

    assert [(f.code, f.path) for f in validate(release).findings] == [("SR015", named)]
    build(release)
    assert [(f.code, f.path) for f in validate(release).findings] == [("SR015", named)]
    assert path not in (release / "index.json").read_text()


@pytest.mark.parametrize(
    "path",
    [".env.example", "environment.yml", "id_rsa.pub", "signing_pub.pem", "public.pem", "wandb/layer_1/x.txt", "key.txt",
     "tokenizer.json", "keys.json", "wandb.md"],
)  # fmt: skip
def test_a_file_that_may_be_given_away_stays(release, path):
    """Templates, public keys, and folders that only share a name."""
    (release / path).parent.mkdir(parents=True, exist_ok=True)
    (release / path).write_text("x\n")

    build(release)

    assert validate(release).findings == ()


def test_a_folder_of_runs_has_one_finding(release):
    """However many files are in it."""
    for name in "abc":
        (release / f"wandb/run-{name}").mkdir(parents=True)
        (release / f"wandb/run-{name}/config.yaml").write_text("x\n")

    (found,) = validate(release).findings

    assert found.message == "wandb is a folder of Weights & Biases runs (3 files)"


@pytest.mark.parametrize("name", ["load.py", "scripts/use.ipynb", "run.sh"])
def test_code_that_the_card_mentions_may_stay(release, name):
    """By its path or its name; part of another name is no mention."""
    (release / name).parent.mkdir(parents=True, exist_ok=True)
    (release / name).write_text("{}\n")
    last, card = name.split("/")[-1], (release / "README.md").read_text()

    for text, codes in ((f"my_{last}", ["SR016"]), (f"`{name}`", []), (f"see [it](./{name}).", [])):
        (release / "README.md").write_text(card + "\n" + text + "\n")
        build(release)
        assert [f.code for f in validate(release, "layout").findings if f.code == "SR016"] == codes


def test_a_program_is_reported_even_where_it_is_mentioned(release):
    """Nobody can read it."""
    (release / "fast.so").write_bytes(b"\x7fELF")
    (release / "README.md").write_text((release / "README.md").read_text() + "\nfast.so is fast.\n")
    build(release)

    assert [(f.code, f.path) for f in validate(release, "layout").findings] == [("SR016", "fast.so")]


def test_a_secret_in_the_name_of_a_file_is_found_and_never_shown(release):
    """The path of the finding is masked as well."""
    token = "ghp_" + "aB3dE5fG7h" * 4
    (release / f"{token}.txt").write_text("x")

    report = validate(release)

    assert any(f.code == "SR008" and f.message.startswith("the name of a file holds") for f in report.findings)
    assert token not in report.text()
