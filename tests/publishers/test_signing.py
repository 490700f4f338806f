"""Signatures: made by model-signing from known digests, checked without the files, and refused in one sentence."""

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from saereg.cli import run
from saereg.errors import InvalidReleaseError, MissingExtraError, SignatureError, UsageError
from saereg.publishers.plan import local_state
from saereg.publishers.signing.check import check_signature, require_signature
from saereg.publishers.signing.keys import private_key
from saereg.publishers.signing.library import KnownDigests, signed
from saereg.publishers.signing.sign import sign_release
from saereg.registry.build import build
from saereg.registry.signature import coverage, is_signed, read_signature, staleness
from saereg.registry.validators.runner import validate
from saereg.schemas.index import Index

PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
PUBLIC = serialization.PublicFormat.SubjectPublicKeyInfo
PLAIN = serialization.NoEncryption()

ELSEWHERE = {"weights/a.safetensors": "a" * 64, "manifest.json": "b" * 64}
"""Digests of files that are nowhere on this machine."""


def write_keys(folder: Path, name: str, key, password: bytes | None = None) -> tuple[Path, Path]:
    """Write a private and a public key as PEM and return their files."""
    protection = serialization.BestAvailableEncryption(password) if password else PLAIN
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(PEM, PKCS8, protection))
    public.write_bytes(key.public_key().public_bytes(PEM, PUBLIC))
    return private, public


@pytest.fixture(scope="session")
def keys(tmp_path_factory) -> dict[str, tuple[Path, Path]]:
    """Keys that can sign, and keys that cannot."""
    folder = tmp_path_factory.mktemp("keys")
    made = {
        "mine": ec.generate_private_key(ec.SECP256R1()),
        "p521": ec.generate_private_key(ec.SECP521R1()),
        "koblitz": ec.generate_private_key(ec.SECP256K1()),
        "rsa": rsa.generate_private_key(65537, 2048),
        "edwards": ed25519.Ed25519PrivateKey.generate(),
    }
    found = {name: write_keys(folder, name, key) for name, key in made.items()}
    return found | {"locked": write_keys(folder, "locked", ec.generate_private_key(ec.SECP384R1()), b"open sesame")}


@pytest.fixture(scope="session")
def bundle(keys) -> bytes:
    """A signature over files that are not on this machine."""
    return signed(KnownDigests("elsewhere", ELSEWHERE), private_key(keys["mine"][0]))


def digests_of(root: Path) -> dict[str, str]:
    """Return what would be published of a release."""
    return {path: str(sha256) for path, (_, sha256) in local_state(root).items()}


def changed(bundle: bytes, change) -> bytes:
    """Return a bundle with another statement inside; its signature is left as it was."""
    outer = json.loads(bundle)
    statement = json.loads(base64.b64decode(outer["dsseEnvelope"]["payload"]))
    change(outer, statement)
    outer["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    return json.dumps(outer).encode()


def test_the_library_itself_verifies_a_signed_release(release, keys):
    """Its command line, and its stable interface without a flag; also after people edited the card on the site."""
    private, public = keys["mine"]
    done = sign_release(release, private)
    (release / "README.md").write_text("reworded on the site\n")
    (release / ".eval_results").mkdir()
    (release / ".eval_results/mmlu.yaml").write_text("- value: 1\n")
    words = [sys.executable, "-m", "model_signing", "verify", "key", str(release), "--signature", str(done.path)]
    words += ["--public_key", str(public), "--ignore_unsigned_files"]
    answer = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert (answer.returncode, answer.stdout) == (0, "Verification succeeded\n"), answer.stderr
    from model_signing.verifying import Config

    Config().use_elliptic_key_verifier(public_key=public).verify(release, done.path)
    index = release / "index.json"
    index.write_text(index.read_text().replace('"value": 0.', '"value": 0.9', 1))
    with pytest.raises(ValueError, match=r"Hash mismatch for \W+index\.json"):  # quoted as its digest demands
        Config().use_elliptic_key_verifier(public_key=public).verify(release, done.path)


def test_all_is_signed_but_cards(release, keys):
    """The manifest, the index and every file of it, nothing else."""
    done = sign_release(release, keys["mine"][0])
    listed = set(read_signature(done.path.read_bytes()).digests)
    indexed = {file.path for file in Index.read(release / "index.json").all_files()}
    assert listed == (indexed | {"manifest.json", "index.json"}) - {"README.md"}
    assert done.files == len(listed)
    assert done.bytes == sum((release / path).stat().st_size for path in listed)
    assert [p for p in ("a/README.md", ".eval_results/x.yaml", ".gitattributes", "model.sig") if is_signed(p)] == []


def test_a_signature_is_checked_against_digests_alone(bundle, keys):
    """As a repository lists them: nothing is downloaded."""
    more = ELSEWHERE | {
        "README.md": "c" * 64,
        "model.sig": "e" * 64,
        ".gitattributes": "f" * 64,
    }
    found = check_signature(bundle, keys["mine"][1], more)
    assert found.complete
    assert found.covered == ("manifest.json", "weights/a.safetensors")
    assert found.sentence == "all 2 files are as they were signed"
    assert found.key == json.loads(bundle)["verificationMaterial"]["publicKey"]["hint"]


def test_what_differs_is_named(bundle, keys):
    """Changed, missing and unsigned files, each by its path."""
    found = check_signature(
        bundle, keys["mine"][1], {"manifest.json": "0" * 64, "new.bin": "1" * 64, "NEW.md": "2" * 64}
    )
    assert (found.covered, found.different) == ((), ("manifest.json",))
    assert (found.missing, found.unsigned) == (("weights/a.safetensors",), ("new.bin",))
    assert not found.complete
    expected = "1 changed: manifest.json; 1 missing: weights/a.safetensors; 1 not signed: new.bin"
    assert found.sentence == expected
    many = coverage({f"{i}.bin": "0" * 64 for i in range(5)}, {})
    assert many.sentence == "5 missing: 0.bin, 1.bin, 2.bin, …"


@pytest.mark.parametrize("name", ["p521", "locked"])
def test_other_curves_and_protected_keys_sign_too(release, keys, name):
    """With the digest that belongs to their curve."""
    password = b"open sesame" if name == "locked" else None
    sign_release(release, keys[name][0], password)
    raw = (release / "model.sig").read_bytes()
    assert check_signature(raw, keys[name][1], digests_of(release)).complete
    with pytest.raises(SignatureError, match="made with another key than that of"):
        check_signature(raw, keys["mine"][1], digests_of(release))


def test_signing_twice_changes_nothing_and_another_key_signs_anew(release, keys):
    """ECDSA signatures are random: a new one each time would be published each time."""
    first = sign_release(release, keys["mine"][0])
    raw = first.path.read_bytes()
    again = sign_release(release, keys["mine"][0])
    assert (first.changed, again.changed, again.path.read_bytes() == raw) == (True, False, True)
    assert sign_release(release, keys["p521"][0]).changed
    (release / "model.sig").write_text("nonsense")
    assert sign_release(release, keys["p521"][0]).changed


def test_a_bundle_that_does_not_name_its_key_is_verified_quietly(bundle, keys, capsys):
    """The library prints a warning where our data goes."""
    outer = json.loads(bundle)
    outer["verificationMaterial"]["publicKey"] = {}
    assert check_signature(json.dumps(outer).encode(), keys["mine"][1], ELSEWHERE).complete
    with pytest.raises(SignatureError, match=r"^the signature does not belong to what it lists: it was altered$"):
        check_signature(json.dumps(outer).encode(), keys["p521"][1], ELSEWHERE)
    assert capsys.readouterr().out == ""


FORGED = {
    "another digest": lambda outer, inner: inner["predicate"]["resources"][0].update(digest="0" * 64),
    "another file": lambda outer, inner: inner["predicate"]["resources"].append(
        {"name": "x.bin", "algorithm": "sha256", "digest": "0" * 64}
    ),
    "another key's name": lambda outer, inner: outer["verificationMaterial"].update(publicKey={"hint": ""}),
    "no signature": lambda outer, inner: outer["dsseEnvelope"].update(signatures=[]),
    "an empty signature": lambda outer, inner: outer["dsseEnvelope"]["signatures"][0].update(sig=""),
    "another payload type": lambda outer, inner: outer["dsseEnvelope"].update(payloadType="text/plain"),
    "another media type": lambda outer, inner: outer.update(mediaType="application/json"),
    "material of no kind": lambda outer, inner: outer["verificationMaterial"].update(publicKey=[]),
}


@pytest.mark.parametrize("name", FORGED)
def test_an_altered_bundle_never_passes(bundle, keys, name, capsys):
    """Whatever was altered: one sentence, and nothing on stdout, where the library writes its warnings."""
    with pytest.raises(SignatureError) as error:
        check_signature(changed(bundle, FORGED[name]), keys["mine"][1], ELSEWHERE)
    assert "\n" not in str(error.value)
    assert capsys.readouterr().out == ""


def _resource(**fields):
    return lambda outer, inner: inner["predicate"]["resources"][0].update(fields)


UNREADABLE = {
    "blake3": (_resource(algorithm="blake3"), "lists digests of blake3, which cannot be compared with the sha256"),
    "shards": (
        lambda o, i: i["predicate"]["serialization"].update(method="shards"),
        "it lists shards, not whole files",
    ),
    "line end": (
        lambda o, i: i["predicate"]["serialization"].update(method="a\nb"),
        "it lists 'a\\nb', not whole files",
    ),
    "short": (_resource(digest="abc"), "the digest of 'manifest.json' is no sha256"),
    "escape": (_resource(name="../x"), "the path '../x' cannot be in a release"),
    "twice": (_resource(name="weights/a.safetensors"), "it lists 'weights/a.safetensors' twice"),
    "old": (lambda o, i: i.update(predicateType="https://model_signing/Digests/v0.1"), "its statement is of type"),
    "empty": (lambda o, i: i.clear(), "it has no `predicateType`"),
    "no resources": (lambda o, i: i["predicate"].pop("resources"), "it has no `resources`"),
    "unsealed": (lambda o, i: o["dsseEnvelope"].update(signatures=[]), "nobody signed it"),
    "sealed in white": (lambda o, i: o["dsseEnvelope"]["signatures"][0].update(sig=""), "nobody signed it"),
    "two seals": (lambda o, i: o["dsseEnvelope"].update(signatures=[{"sig": "AA=="}] * 2), "it has 2 signatures where"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_statement_of_something_else_is_no_signature_of_a_release(bundle, name):
    """Digests that cannot be compared would compare as different."""
    change, problem = UNREADABLE[name]
    with pytest.raises(SignatureError, match=r"model\.sig: no signature of a release: ") as error:
        read_signature(changed(bundle, change))
    assert problem in str(error.value)
    assert str(error.value).endswith("; sign again with `saereg sign`")


@pytest.mark.parametrize(
    "raw", [b"", b"\xff", b"[]", b"null", b"{}", b'{"dsseEnvelope": 1}', b"[" * 5000, b'{"a": 1, "a": 2}']
)
def test_bytes_that_are_no_bundle_are_said_to_be_none(raw, keys):
    """Also by the check with a key, before the library sees them."""
    with pytest.raises(SignatureError, match=r"^model\.sig: no "):
        check_signature(raw, keys["mine"][1], ELSEWHERE)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_damage_of_a_bundle_is_met_with_a_traceback(data):
    """Any value at any place: a sentence, or what it lists."""
    statement = {
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {"method": "files"},
            "resources": [{"name": "a", "algorithm": "sha256", "digest": "0" * 64}],
        },
    }
    plain = st.none() | st.integers() | st.text(max_size=3) | st.just([]) | st.just({}) | st.just([[]])
    place = statement
    while isinstance(place, dict | list) and place:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            place[key] = data.draw(plain)
            break
        place = place[key]
    payload = base64.b64encode(json.dumps(statement).encode()).decode()
    envelope = {"payload": payload, "signatures": [{"sig": "AAAA"}]}
    raw = json.dumps({"verificationMaterial": {}, "dsseEnvelope": envelope}).encode()
    problem = ""
    try:
        read_signature(raw)
    except SignatureError as error:
        problem = str(error)
    assert "\n" not in problem


def test_a_signature_by_certificate_is_left_to_the_library(bundle, keys):
    """What keyless signing makes: it lists the same digests, but no key checks it."""
    raw = changed(bundle, lambda outer, inner: outer.update(verificationMaterial={"certificate": {"rawBytes": "AA=="}}))
    assert read_signature(raw).digests == ELSEWHERE
    expected = "model.sig was made with a certificate, not with a key; `model_signing verify sigstore` checks that"
    with pytest.raises(SignatureError, match=f"^{expected}$"):
        check_signature(raw, keys["mine"][1], ELSEWHERE)


MAKE = "To make one: openssl ecparam -genkey -name prime256v1 -noout -out priv.pem"
CURVES = f"signatures are made with keys of P-256, P-384, P-521. {MAKE}"
TAKE = "openssl ec -in priv.pem -pubout -out pub.pem"

WRONG_PRIVATE = [
    ("mine.pub.pem", None, f"is a public key; sign with the private one. {MAKE}"),
    ("rsa.pem", None, f"is an RSA key; {CURVES}"),
    ("edwards.pem", None, f"is an Ed25519 key; {CURVES}"),
    ("koblitz.pem", None, f"is of the curve secp256k1; {CURVES}"),
    ("locked.pem", None, "is protected by a password; give --password-env NAME, a variable that holds it"),
    ("locked.pem", b"wrong", "is not opened by this password"),
    ("mine.pem", b"needless", "is not protected by a password; leave out --password-env"),
    ("damaged.pem", None, "cannot be read as a private key"),
    ("ssh.pub", None, f"is a key of OpenSSH; sign with the private one. {MAKE}"),
]
WRONG_PUBLIC = [
    ("mine.pem", f"is a private key; give the public one: {TAKE}"),
    ("rsa.pub.pem", f"is an RSA key; {CURVES}"),
    ("koblitz.pub.pem", f"is of the curve secp256k1; {CURVES}"),
    ("damaged.pub.pem", "cannot be read as a public key: it is damaged, or of a kind that is unknown"),
    ("cert.pem", f"is a certificate; give the public key as a PEM file: {TAKE}"),
    ("text", f"is no key in PEM; give the public key as a PEM file: {TAKE}"),
    ("absent.pem", ": No such file or directory; expected a key as a PEM file"),
    ("folder", "is no regular file; save the key as a PEM file"),
    ("large.pem", "has 70000 bytes, too many for a key in PEM"),
]


@pytest.fixture(scope="session")
def odd(keys) -> Path:
    """The folder of the keys, with files in it that are no keys."""
    folder = keys["mine"][0].parent
    for name, text in {
        "damaged.pem": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "damaged.pub.pem": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        "ssh.pub": "ssh-ed25519 AAAA me@here\n",
        "cert.pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "text": "a key\n",
        "large.pem": "x" * 70_000,
    }.items():
        (folder / name).write_text(text)
    (folder / "folder").mkdir()
    return folder


@pytest.mark.parametrize(("name", "password", "problem"), WRONG_PRIVATE)
def test_a_key_that_cannot_sign_is_refused_in_one_sentence(odd, name, password, problem):
    """Which says what the file is, and what to do."""
    with pytest.raises(UsageError) as error:
        private_key(odd / name, password)
    assert str(error.value) == f"{odd / name} {problem}"


@pytest.mark.parametrize(("name", "problem"), WRONG_PUBLIC)
def test_a_key_that_cannot_verify_is_refused_in_one_sentence(odd, bundle, name, problem):
    """The same for public keys; it is no finding about the release."""
    with pytest.raises(UsageError) as error:
        check_signature(bundle, odd / name, ELSEWHERE)
    assert not isinstance(error.value, SignatureError)
    assert str(error.value) == f"{odd / name}{'' if problem.startswith(':') else ' '}{problem}"


def test_only_the_files_that_were_indexed_are_signed(release, keys):
    """A signature over unknown bytes would vouch for anything; nothing is written."""
    private = keys["mine"][0]
    weights = release / "layer_1/topk/sae_weights.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    with pytest.raises(InvalidReleaseError, match=f"^{weights} changed since the index was built; nothing was signed"):
        sign_release(release, private)
    weights.unlink()
    with pytest.raises(InvalidReleaseError, match=r"is in the index but not in the release; nothing was signed$"):
        sign_release(release, private)
    weights.write_bytes(before)
    manifest = release / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    with pytest.raises(
        InvalidReleaseError, match=f"index.json is of another manifest.json. Run: saereg build {release}$"
    ):
        sign_release(release, private)
    (release / "index.json").unlink()
    with pytest.raises(
        UsageError, match=f"^{release} holds no index.json: not built yet. Run: saereg build {release}$"
    ):
        sign_release(release, private)
    assert not (release / "model.sig").exists()


def test_a_required_signature_is_there_whole_and_of_the_key(release, keys):
    """Without a key only its digests count, and whose it says that it is is repeated, not believed."""
    private, public = keys["mine"]
    digests = digests_of(release)
    missing = f"{release}/model.sig is missing, and a signature is required. Run: saereg sign {release} --key FILE"
    with pytest.raises(InvalidReleaseError) as error:
        require_signature(release, digests)
    assert str(error.value) == missing
    sign_release(release, private)
    raw = (release / "model.sig").read_bytes()
    name, count = read_signature(raw).key, len(read_signature(raw).digests)
    assert require_signature(release, digests, public) == f"signed: {count} files, by the key {name}"
    claimed = f"signed: {count} files, by the key {name}, as it says itself; only --public-key proves it"
    assert require_signature(release, digests) == claimed
    with pytest.raises(InvalidReleaseError, match=r"made with another key than that of .*; nothing was published$"):
        require_signature(release, digests, keys["p521"][1])
    stale = f"{release}/model.sig is stale: 1 not signed: new.bin. Run: saereg sign {release} --key FILE"
    for key in (None, public):
        with pytest.raises(InvalidReleaseError) as error:
            require_signature(release, digests | {"new.bin": "0" * 64}, key)
        assert str(error.value) == stale


def test_a_signature_is_published_and_is_not_in_the_index(release, keys, report_of):
    """It stands beside manifest and index: build passes it by, validate knows it, a plan takes it along."""
    (release / "model.sig").write_text("of an older build")
    index = build(release)
    assert "model.sig" not in {file.path for file in index.all_files()}
    assert staleness(release, index).startswith("model.sig: no Sigstore bundle: not JSON: ")
    sign_release(release, keys["mine"][0])
    raw = (release / "model.sig").read_bytes()
    assert staleness(release, index) == ""
    assert report_of(release).findings == ()
    assert local_state(release)["model.sig"][0] == len(raw)
    manifest = release / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"title": "Tiny', '"title": "tiny'))
    index = build(release)
    (finding,) = report_of(release).findings
    assert (finding.code, finding.path) == ("SR017", "model.sig")
    assert finding.message == "the signature is stale: 2 changed: index.json, manifest.json"
    stale = "model.sig is stale: 2 changed: index.json, manifest.json; sign again with `saereg sign`"
    assert staleness(release, index) == stale
    assert digests_of(release)["model.sig"]


def test_fixes_leave_what_is_signed_alone(release, keys, capsys):
    """Keys out of order are mended in a release without a signature only."""
    manifest = release / "manifest.json"
    manifest.write_text(json.dumps(dict(reversed(json.loads(manifest.read_text()).items()))))
    build(release)
    sign_release(release, keys["mine"][0])
    before = manifest.read_bytes()
    assert run(["validate", str(release), "--fix"]) == 1
    stale = "SR017 in model.sig: the signature is stale: 2 changed: index.json, manifest.json"
    assert f"nothing was mended: the mended release would have a new finding: {stale}\n" in capsys.readouterr().err
    assert manifest.read_bytes() == before
    (release / "model.sig").unlink()
    assert run(["validate", str(release), "--fix"]) == 0
    assert manifest.read_bytes() != before


def test_without_the_extra_it_is_named_and_stale_signatures_are_found_all_the_same(release, bundle, keys, monkeypatch):
    """Only who verifies or signs needs the library."""
    monkeypatch.setitem(sys.modules, "model_signing", None)
    install = r"needs model_signing, which is not installed: pip install 'saereg\[sign\]'$"
    with pytest.raises(MissingExtraError, match=f"^signing {install}"):
        sign_release(release, keys["mine"][0])
    with pytest.raises(MissingExtraError, match=f"^checking a signature {install}"):
        check_signature(bundle, keys["mine"][1], ELSEWHERE)
    (release / "model.sig").write_bytes(bundle)
    assert [finding.code for finding in validate(release, "layout").findings] == ["SR017"]
    with pytest.raises(
        InvalidReleaseError, match=r"model\.sig is stale: 1 changed: manifest\.json; 1 missing: weights/.* not signed: "
    ):
        require_signature(release, digests_of(release))


def test_the_verb_says_what_was_signed_and_with_which_key(release, keys, monkeypatch, capsys):
    """And takes the password from the environment alone."""
    target, (private, public) = str(release), keys["locked"]
    words = ["sign", target, "--key", str(private), "--password-env", "SAEREG_TEST_PASSWORD"]
    assert run(words) == 2
    expected = "error: --password-env SAEREG_TEST_PASSWORD: there is no such environment variable, or it is empty\n"
    assert capsys.readouterr().err == expected
    monkeypatch.setenv("SAEREG_TEST_PASSWORD", "open sesame")
    assert run(words) == 0
    told = capsys.readouterr()
    key = check_signature((release / "model.sig").read_bytes(), public, digests_of(release)).key
    count = len(read_signature((release / "model.sig").read_bytes()).digests)
    assert told.out.splitlines()[0].startswith(f"model.sig: signed {count} files, ")
    assert told.out.splitlines()[1] == f"key: sha256 {key}"
    published = "hf://ORG/NAME --require-signature --public-key PUBLIC.pem"
    assert told.err == f"next: saereg publish {release} {published}\n"
    assert run(words) == 0
    with pytest.raises(UsageError, match=r"takes the bytes of model.sig, the Path .*, not \(PosixPath, str, dict\)$"):
        check_signature(release / "model.sig", str(public), digests_of(release))
    assert "is there, of this key and of these" in capsys.readouterr().out
    shutil.rmtree(release / "W_U")
    assert run(words) == 1
    assert capsys.readouterr().err.endswith("is in the index but not in the release; nothing was signed\n")
