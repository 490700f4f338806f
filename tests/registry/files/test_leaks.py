"""Secrets in texts: what is one, what only looks like one, and that no text takes long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saereg.registry.files.leaks import MASK, leaks_in, redacted, text_of, unescaped

LETTERS = "GkQwErTz7Yu8iOpLmNbVcXs2dF4hJkL9aPqR3tUvW5xZ1yB6nM0jH"
HEX = "4f1c9d0b7a3e82d65c1f90ab4e7d3c28b5a6f09c"
BASE64 = "wJ4lrXUtnF+MI7K/MDENGbPxRf1CYzQ8aT5vS3nH"

SECRETS = [
    ("a Hugging Face token", "hf_" + LETTERS[:34], 'HF_TOKEN="{}"'),
    ("a Hugging Face token", "hf_" + LETTERS[:34], "[link](https://user:{}@huggingface.co/org/name)"),
    ("a Hugging Face token", "hf_oauth_eyJ" + LETTERS[:30] + ".x", "{}"),
    ("a Hugging Face token", "hf_jwt_eyJ" + LETTERS[:30], "token: {}"),
    ("a Hugging Face token", "api_org_" + LETTERS[:34], "{}"),
    ("a Weights & Biases key", HEX, "export WANDB_API_KEY={}"),
    ("a Weights & Biases key", HEX, 'os.environ["WANDB_API_KEY"] = "{}"'),
    ("a Weights & Biases key", HEX, '{{"wandb_api_key": "{}"}}'),
    ("a Weights & Biases key", HEX, 'wandb.login(key="{}")'),
    ("a Weights & Biases key", HEX, "machine api.wandb.ai\n  login user\n  password {}\n"),
    ("a Weights & Biases key", "wandb_v1_" + LETTERS[:50], "{}"),
    ("an Anthropic key", "sk-ant-api03-" + LETTERS[:50], "ANTHROPIC_API_KEY={}"),
    ("an OpenAI key", "sk-proj-" + LETTERS[:40], "'{}'"),
    ("an OpenAI key", "sk-" + LETTERS[:48], "OPENAI_API_KEY: {}"),
    ("a GitHub token", "ghp_" + LETTERS[:36], "{}"),
    ("a GitHub token", "gho_" + LETTERS[:36], "https://x-access-token:{}@github.com/a/b"),
    ("a GitHub token", "ghs_" + LETTERS[:36], "{}"),
    ("a GitHub token", "github_pat_" + LETTERS[:22] + "_" + LETTERS[:40], "{}"),
    ("a GitLab token", "glpat-" + LETTERS[:20], "{}"),
    ("a PyPI token", "pypi-AgEIcHlwaS5vcmc" + LETTERS, "{}"),
    ("an AWS access key", "AKIA" + "QX7ZP2LM5WVT3HRD", "aws_access_key_id = {}"),
    ("an AWS secret key", BASE64, "aws_secret_access_key = {}"),
    ("an AWS secret key", BASE64, '"SecretAccessKey": "{}"'),
    ("a Slack token", "xoxb-" + "2049485761-" + LETTERS[:24], "{}"),
    ("a Slack webhook", "T0A1B2C3D/B0A1B2C3D/" + LETTERS[:24], "https://hooks.slack.com/services/{}"),
    ("a Google key", "AIza" + LETTERS[:35], "?key={}&x=1"),
    ("a private key", "-----BEGIN RSA PRIVATE " + "KEY-----", "{}\nMIIE"),
    ("a private key", "-----BEGIN " + "PRIVATE KEY-----", '"key": "{}\\nMIIE"'),
    ("a private key", "-----BEGIN OPENSSH PRIVATE " + "KEY-----", "{}"),
    ("a signed token", "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiJqYW5lIn0." + LETTERS[:43], "Authorization: Bearer {}"),
    ("a password in a URL", "Tr0ub4dor", "postgresql://jane:{}@db.lab.org/runs"),
    ("a password in a URL", "Tr0ub4dor", "https://jane:{}@db.example.com.lab.org/runs"),
    ("a password or key", "Tr0ub4dor-and-3", "password = '{}'"),
    ("a password or key", "Tr0ub4dorAnd3More", "db_password: {}"),
    ("a password or key", LETTERS[:24], '"api_key": "{}"'),
    ("a password or key", LETTERS[:24], 'auth_token="{}"'),
    ("a password or key", "0a1b2c3d4e5f60718293a4b5c6d7e8f9", "api_key={}"),
]


@pytest.mark.parametrize(("kind", "secret", "text"), SECRETS)
def test_a_secret_is_told_by_its_form(kind, secret, text):
    """Its kind and its place, once, wherever it stands; without it, the text may be shown."""
    full = text.format(secret)

    (leak,) = leaks_in(full)

    assert (leak.kind, full[leak.start : leak.stop]) == (kind, secret)
    assert redacted(full) == text.format(MASK)


HARMLESS = [
    "hf_xxx",
    "hf_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "hf_...",
    "hf_YOURTOKENHEREYOURTOKENHEREYOURTOKEN",
    "hf_hub_download_and_something_long_here(repo)",
    "hf_hook_name: model.layers.1",
    'login(token="<token>")',
    'login(token="YOUR_TOKEN")',
    'token=os.environ["HF_TOKEN"]',
    "token=$HF_TOKEN",
    "token: ${{ secrets.HF_TOKEN_2026_FOR_CI }}",
    "token = userdata.get('HF_TOKEN_2')",
    "token=my_token_variable_number_22",
    "password: str = Field(default='', min_length=12)",
    "password=getpass.getpass()",
    "https://user:password@example.org/x",
    "pip install --index-url=https://user:p%2Fss@artifactory.example.com/simple x",
    "https://<user>:<token>@huggingface.co/org/name",
    "https://{user}:{token}@huggingface.co",
    "hf://org/name@v1.0.0:layer_1/topk",
    "http://localhost:8080/a@b",
    '{"sha256": "' + "0a1b2c3d" * 8 + '"}',
    '{"token": "' + "0a1b2c3d" * 8 + '"}',
    '{"token": " Schadenfreude2026andMore"}',
    '{"bos_token": "<|endoftext|>", "pad_token": "AbcdefghIjkl2026Mnopq22"}',
    "tokens: 1024000000, prompt_tokens: 12345678901234567890",
    "max_token: AbcdefghIjklmnopq22",
    f"git commit {HEX} of wandb/wandb",
    f"api.wandb.ai is up, commit {HEX}",
    "AKIAIOSFODNN7EXAMPLE",
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "sk-toggleable__content-arrow-estimator-doc-link-2",
    "sk-learn, task-" + LETTERS,
    "-----BEGIN PUBLIC KEY-----",
    "-----BEGIN CERTIFICATE-----",
    "eyJhbGciOiJIUzI1NiJ9",
    "data:image/png;base64," + LETTERS * 20,
]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_a_secret_is_none(text):
    """Placeholders, names, digests, tokens of a vocabulary, and what code reads from elsewhere."""
    assert leaks_in(text) == []
    assert redacted(text) == text


def test_a_secret_in_a_shortened_value_is_not_shown():
    """Enough of it would be left to try the rest."""
    assert redacted("found sk-ant-api03-GkQwErTz7…") == f"found {MASK}"


@pytest.mark.parametrize(
    "unit",
    ["a", "=", "\\", "\\n", "hf_", "eyJ", "eyJaaaaaaaaaaaaa.", "://", "://a:", "token=A1b2", "wandb_key ", "wandb.ai ",
     "-----BEGIN A ", "password \t", " ", "sk-", "Aa1", "\u0130", "secret_access_key=", "\ud7ff", "\x00"],
)  # fmt: skip
def test_megabytes_of_anything_are_read_in_one_pass(unit):
    """Were any pattern quadratic, one of these would run for hours."""
    size = 5 * 1024 * 1024 if len(unit) == 1 else 1024 * 1024
    text = unit * (size // len(unit))

    assert len(leaks_in(text)) + len(leaks_in(unescaped(text).text)) < len(text)


@given(st.text(alphabet=st.sampled_from('\\u0068fx"ntU_k/ \n') | st.characters()))
def test_resolving_escapes_keeps_the_lines(text):
    """So that a finding names the right one; and every offset is traced to one of the text."""
    plain = unescaped(text)

    assert plain.text.count("\n") == text.count("\n")
    assert all(0 <= plain.origin(i) <= len(text) for i in range(len(plain.text) + 1))


def test_escapes_are_those_of_json_yaml_and_toml():
    """What stands behind a resolved escape is found again in the text."""
    text = r'{"a": "\u0068\x66\U0000005f\/\"q\n\\u0041"}'

    plain = unescaped(text)

    assert plain.text == '{"a": "hf_/"q \\u0041"}'
    assert text[plain.origin(plain.text.index("q"))] == "q"
    assert unescaped("\\\\" * 4).text == "\\" * 4


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain", "plain"),
        (b"odd \xff byte", "odd \ufffd byte"),
        (b"\x7fELF\0\0", None),
        ("wide".encode("utf-16"), "wide"),
    ],
)
def test_the_text_of_a_file_is_read_whatever_its_bytes(raw, text):
    """Zero bytes make it no text, unless a mark at the start says that they belong there."""
    decoded = text_of(raw)

    assert (decoded or "").lstrip("\ufeff") == (text or "")
    assert (decoded is None) == (text is None)
