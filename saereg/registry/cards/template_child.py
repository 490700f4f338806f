"""The process in which a user's templates are rendered: requests come line by line, and so do the answers."""

import json
import sys
from pathlib import Path
from types import TracebackType

from saereg.registry.cards.templating import environment


def main(templates: Path, memory: int, most: int) -> None:
    """Answer until the other end closes.

    Args:
        templates: folder of the user's templates.
        memory: address space that may be used, in bytes.
        most: longest text that is made, in bytes.
    """
    answers, sys.stdout = sys.stdout, sys.stderr
    _limit(memory)
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(answer(request["name"], request["values"], templates, most)) + "\n")
        answers.flush()


def answer(name: str, values: dict[str, object], templates: Path, most: int) -> dict[str, str]:
    """Return the text that a template makes, or the one line that says why it makes none."""
    pieces, size = [], 0
    try:
        for piece in environment(templates).get_template(name).generate(**values):
            size += len(piece.encode())
            if size > most:
                return {"error": f"{templates / name}: the template writes more than {most >> 20} MiB"}
            pieces.append(piece)
    except MemoryError:
        return {"error": f"{templates / name}: the template takes more memory than it may have"}
    except Exception as error:  # noqa: BLE001 - whatever a template of somebody else does is one line
        return {"error": f"{where(error, name, templates)}: {reason(error)}"}
    return {"text": "".join(pieces)}


def where(error: BaseException, name: str, templates: Path) -> str:
    """Return file and line of a template at which something went wrong."""
    file, line = getattr(error, "filename", None), getattr(error, "lineno", None)
    trace: TracebackType | None = error.__traceback__
    while trace is not None and line is None:
        at = trace.tb_frame.f_code.co_filename
        if at.endswith(".j2"):
            file = at
        trace = trace.tb_next
    if line is None and file is not None:
        line = max((n for n in _lines(error, file)), default=None)
    return f"{file or templates / name}:{line}" if line else f"{file or templates / name}"


def _lines(error: BaseException, file: str) -> list[int]:
    """Return the lines of a file that the error came by; the last one is where it was made."""
    found, trace = [], error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            found.append(trace.tb_lineno)
        trace = trace.tb_next
    return found[-1:]


def reason(error: BaseException) -> str:
    """Return what went wrong, on one line."""
    said = " ".join(str(error).split()) or type(error).__name__
    kind = type(error).__name__
    if kind == "TemplateNotFound":
        return f"there is no template {getattr(error, 'name', said)!r}"
    return said if kind in ("UndefinedError", "TemplateSyntaxError", "SecurityError") else f"{kind}: {said}"


def _limit(memory: int) -> None:
    """Bound the memory of this process, where the system can."""
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (memory if hard == resource.RLIM_INFINITY else min(memory, hard), hard))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
