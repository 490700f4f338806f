"""SR5: the text of the cards, their links and paths."""

from saereg.registry.validators.rules.text import RuleText


class SR507(RuleText):
    """Text was read in the wrong encoding.

    Looked for, in README.md and in the .md files beside artifacts, is UTF-8 that some program read as Windows-1252,
    Latin-1, code page 437 or 850, or GBK, and saved so: é has become `Ã©`, — has become `â€”`, λ has become `Î»` or
    `位`. The character U+FFFD, which stands for what could not be read at all, is reported too, and a README.md that
    is no UTF-8. What looks broken is turned back into the bytes it was made from; it is reported only where these are
    UTF-8 for a character that such texts hold, so that honest words in any language are not. Code is not looked at.

    Why: Formulas and names cannot be read: in "default 位=0.3" nobody recognizes the coefficient λ. Searches for
    the word do not find it.

    Fix: Replace the characters by those that were meant, and save the file as UTF-8.

    Bad: README.md
        The gated run documents a 位-transfer failure (default 位=0.3).

    Good: README.md
        The gated run documents a λ-transfer failure (default λ=0.3).
    """

    severity = "warning"
    level = "layout"


class SR510(RuleText):
    """A link of the card leads nowhere.

    Looked at are links and images, in Markdown or HTML, of README.md and of the .md files beside artifacts: paths
    relative to the file, addresses on the Hub that lead to the main branch of a repository of this release's name, and
    anchors of headings. Other addresses are not looked at; nothing is fetched.

    Why: The reader who wants the licence, the training log or the picture gets an error page, or a broken image.

    Fix: Correct the path (it is relative to the file that holds the link, and small letters matter), or add the file.

    Bad: README.md
        See [the configuration](layer_1/topk/config.json).

    Good: README.md
        See [the configuration](layer_1/topk/cfg.json).
    """

    severity = "warning"
    level = "layout"


class SR511(RuleText):
    """A path of the card has braces or stars in it.

    Reported are paths in code, in links and in tables with braces that a shell would fill in, such as `{0..4}` or
    `{a,b}`, and paths with a star that fit no file. A star that does fit is a pattern for `hf download --include`.
    Placeholders such as `layer_{layer}` or `layer_<N>`, kinds of files such as `*.pt`, names of repositories such as
    `org/saes-{2b,9b}`, and blocks of code are left alone. At most 50 are told of.

    Why: Neither `hf download` nor a loader fills in braces: whoever copies the path gets "404: Entry not found".
    Programs that read the table find a file that does not exist.

    Fix: List the paths one by one, or name the folder.

    Bad: README.md
        | headline run, 5 seeds | `W_U/d8192/seed{0..4}.safetensors` |

    Good: README.md
        | headline run, seed 0 | `W_U/d8192/seed0.safetensors` |
        | headline run, seed 1 | `W_U/d8192/seed1.safetensors` |
    """

    severity = "warning"
    level = "layout"


RULES: tuple[type[RuleText], ...] = (
    SR507,
    SR510,
    SR511,
)
"""The rules of this file."""
