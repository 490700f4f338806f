"""Third-party checks: real entry points of packages that are installed on a path of their own."""

import importlib
import itertools
import re
import sys
from pathlib import Path

import pytest

from saereg.cli import run
from saereg.errors import UsageError
from saereg.registry.validators.plugins import book_of
from saereg.registry.validators.rules import RULES
from saereg.registry.validators.runner import validate
from saereg.schemas.settings import Ignore, Settings
from tests.releases import CONFIGS, tiny_release

DOCUMENT = (Path(__file__).parents[3] / "docs/validate.md").read_text(encoding="utf-8")

(EXAMPLE,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)

(PROJECT,) = [block for block in re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL) if "entry-points" in block]

COUNT = itertools.count()


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Read only."""
    return tiny_release(tmp_path_factory.mktemp("plugins"))


@pytest.fixture
def install(tmp_path):
    """Install a package as pip does: its modules, and a dist-info folder beside them."""
    before, known = list(sys.path), set(sys.modules)

    def installed(text: str, name: str = "acme", attribute: str = "", package: str | None = None) -> str:
        number = next(COUNT)
        module, package = f"acme_checks_{number}", package or f"acme-checks-{number}"
        site = tmp_path / f"site-{number}"
        info = site / f"{package.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(text, encoding="utf-8")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[saereg.checks]\n{name} = {module}{attribute}\n")
        sys.path.insert(0, str(site))
        importlib.invalidate_caches()
        return module

    yield installed
    sys.path[:] = before
    for module in set(sys.modules) - known:
        if module.startswith("acme_checks_"):
            del sys.modules[module]
    importlib.invalidate_caches()


def refused(*names: str) -> str:
    with pytest.raises(UsageError) as caught:
        book_of(names)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def checks(body: str, name: str = "theirs", level: str = "layout") -> str:
    """Return a module with one rule and one check of that body."""
    return (
        "from saereg.registry.validators.check import ReleaseCheck\n"
        "from saereg.registry.validators.rules.text import RuleText\n"
        "from saereg.registry.validators.findings import finding\n"
        'class ACME001(RuleText):\n    """A title.\n\n    Fix: Do it.\n    """\n'
        '    severity = "error"\n    level = "layout"\n'
        f"def check(release):\n    {body}\n"
        f'RULES = (ACME001,)\nCHECKS = (ReleaseCheck("{name}", "{level}", check),)\n'
    )


def test_the_example_of_the_documentation_runs(install, release):
    """Its rules find what they say, with their own page and hint."""
    install(EXAMPLE)
    assert 'acme = "acme_checks"' in PROJECT

    report = validate(release, settings=Settings(plugins=("acme",)))

    assert {f.code for f in report.findings} == {"ACME001", "ACME002"}
    (name,) = [f for f in report.findings if f.code == "ACME001"]
    assert name.message == "the name 'tiny-saes' does not begin with 'acme-'"
    assert (name.severity, name.path, name.pointer) == ("warning", "manifest.json", "/release/name")
    assert (name.hint, name.url) == ("Put `acme-` before the name.", "https://acme.example/checks/ACME001")
    narrow = [f for f in report.findings if f.code == "ACME002"]
    assert [f.artifact for f in narrow] == [*CONFIGS, "W_U/cross-snapshot-2"]
    assert {f.url for f in narrow} == {None}
    assert (report.summary.errors, report.summary.warnings) == (4, 1)


def test_what_is_installed_is_neither_run_nor_loaded_unless_it_is_named(install, release):
    """An installed package alone changes nothing."""
    module = install(EXAMPLE)

    assert validate(release).findings == ()
    assert module not in sys.modules
    assert set(book_of(()).rules) == set(RULES)


def test_their_findings_are_graded_like_all_others(install, release):
    """Selected, ignored with a reason, given another severity."""
    install(EXAMPLE)
    why = "our old releases have old names"
    settings = Settings(
        plugins=("acme",),
        select=("ACME",),
        severity={"ACME002": "note"},
        ignore=(Ignore(rules=("ACME001",), reason=why),),
    )

    report = validate(release, settings=settings)

    assert {(f.code, f.severity, f.ignored) for f in report.findings} == {
        ("ACME001", "warning", why),
        ("ACME002", "note", None),
    }


def test_a_rule_of_a_plugin_that_is_not_named_is_unknown(install, release):
    """A configuration that speaks of ACME001 must name its plugin."""
    install(EXAMPLE)

    with pytest.raises(UsageError) as caught:
        validate(release, settings=Settings(severity={"ACME001": "note"}))

    assert str(caught.value) == "severity: no rule begins with 'ACME001'; `saereg rule` lists them all"


def test_an_unknown_name_is_refused(install):
    """With the close one, where there is one."""
    assert refused("acme") == (
        "unknown plugin 'acme'; no installed package has an entry point of the group 'saereg.checks'"
    )
    install(EXAMPLE)
    assert refused("amce") == "unknown plugin 'amce'; did you mean 'acme'?"
    assert refused("other") == "unknown plugin 'other'; known: acme"


def test_a_name_that_two_packages_offer_is_refused(install):
    """Nobody could say which one ran."""
    first = install(EXAMPLE, package="acme-one")
    second = install(EXAMPLE, package="acme-two")

    assert refused("acme") == (
        f"plugin 'acme' is offered by several packages: acme-one ({first}), acme-two ({second}); uninstall all but one"
    )


def test_a_plugin_that_is_named_twice_runs_once(install, release):
    """In saereg.toml and on the command line, for example."""
    install(EXAMPLE)

    assert len(book_of(("acme", "acme")).checks) == len(book_of(("acme",)).checks)


def test_an_object_of_a_module_may_be_offered(install, release):
    """`module:object`, as entry points are written."""
    install(
        checks("yield finding(ACME001, 'seen')") + "class Offer:\n    RULES, CHECKS = RULES, CHECKS\n",
        attribute=":Offer",
    )

    assert [f.message for f in validate(release, settings=Settings(plugins=("acme",))).findings] == ["seen"]


LIKE = checks("yield from ()")

BROKEN = {
    "import": ("import nothing_of_that_name", "cannot be loaded: ModuleNotFoundError: No module named"),
    "syntax": ("def :", "cannot be loaded: SyntaxError"),
    "no rules": ("CHECKS = ()", "has no tuple RULES; docs/validate.md shows one that has"),
    "no checks": ("RULES = ()", "has no tuple CHECKS; docs/validate.md shows one that has"),
    "rule that is none": (LIKE.replace("(ACME001,)", "('ACME001',)"), "in RULES is no class derived from RuleText"),
    "check that is none": (
        LIKE.replace("CHECKS = (", "CHECKS = (check, "),
        "is neither ReleaseCheck nor ArtifactCheck",
    ),
    "our letters": (LIKE.replace("ACME001", "SR901"), "'SR901' is no code; write 2 to 10 capital letters, not SR"),
    "our code": (LIKE.replace("ACME001", "SR003"), "'SR003' is no code"),
    "small letters": (LIKE.replace("ACME001", "acme001"), "'acme001' is no code"),
    "code twice": (LIKE.replace("(ACME001,)", "(ACME001, ACME001)"), "the code ACME001 exists already"),
    "name of ours": (checks("yield", "no_pickles"), "the check 'no_pickles' exists already"),
    "no severity": (LIKE.replace('severity = "error"', "x = 1"), "ACME001 needs `severity` and `level`"),
    "unknown level": (checks("yield", level="deep"), "the check 'theirs' needs a known level and a function"),
    "no function": (LIKE.replace(", check),", ", None),"), "the check 'theirs' needs a known level and a function"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_plugin_that_cannot_run_is_refused_in_one_line(install, name):
    """With its name and what is wrong."""
    text, problem = BROKEN[name]
    install(text)

    sentence = refused("acme")

    assert sentence.startswith("plugin 'acme'")
    assert problem in sentence


def test_two_plugins_may_not_share_a_code_or_the_name_of_a_check(install):
    """Whichever comes second is refused."""
    install(checks("yield from ()"), "first")
    install(checks("yield from ()"), "second")
    install(checks("yield from ()").replace("ACME001", "OTHER001"), "third")

    assert refused("first", "second") == "plugin 'second': the code ACME001 exists already"
    assert refused("first", "third") == "plugin 'third': the check 'theirs' exists already"


FAILING = {
    "raises": ("raise KeyError('width')\n    yield", "KeyError: 'width'"),
    "no generator": ("return None", "TypeError: 'NoneType' object is not iterable"),
    "no finding": ("yield 'too narrow'", "TypeError: it yielded 'too narrow', which is no finding"),
    "unknown code": ("yield finding('ACME001', 'by its code')", "KeyError: 'ACME001'"),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_check_that_fails_ends_the_run_in_one_line(install, release, capsys, name):
    """It names the check, and the exit code is 2: no traceback, no report that looks complete."""
    body, problem = FAILING[name]
    install(checks(body))

    code = run(["validate", str(release), "--plugin", "acme"])

    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.splitlines()[-1] == f"error: the third-party check 'theirs' failed: {problem}"


def test_a_plugin_is_named_in_the_configuration_or_on_the_command_line(install, release, tmp_path, capsys):
    """Either runs it."""
    install(EXAMPLE)
    (tmp_path / "saereg.toml").write_text('plugins = ["acme"]\n')
    codes = []
    for words in (["--plugin", "acme"], ["--config", str(tmp_path / "saereg.toml")], ["--isolated"]):
        codes.append(run(["validate", str(release), "--format", "json", *words]))
        assert ("ACME002" in capsys.readouterr().out) is (words != ["--isolated"])

    assert codes == [1, 1, 0]


def test_the_rules_of_a_plugin_have_pages_in_the_terminal(install, capsys):
    """Where it is named; without, nothing is known of them."""
    install(EXAMPLE)

    assert run(["rule", "--plugin", "acme", "ACME"]) == 0
    listed = capsys.readouterr().out.splitlines()[1:]
    assert run(["rule", "--plugin", "acme", "acme001"]) == 0
    page = capsys.readouterr().out
    assert run(["rule", "ACME001"]) == 2

    assert [line.split()[0] for line in listed] == ["ACME001", "ACME002"]
    assert all("third party" in line for line in listed)
    assert page.startswith("ACME001: a name does not say whose it is\n")
