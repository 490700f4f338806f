"""The process that opens pickles may die, hang, be forked or interrupted; it sees nothing of the working folder."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from saereg.errors import WeightsError
from saereg.registry.files import pickles
from saereg.registry.files.pickles import open_pickle
from saereg.registry.files.tensors import whole

pytestmark = pytest.mark.slow

DIED = "the process that opened it died: it is damaged, made to do harm, or too large for this machine"


def next_file_is_read(folder: Path) -> None:
    torch.save({"a": torch.ones(3)}, folder / "next.pt")
    assert torch.equal(whole(open_pickle(folder / "next.pt"), "a"), torch.ones(3))


def only_the_child(tensor: torch.Tensor) -> torch.Tensor:
    """Return the same numbers so that they do not lie side by side: what does is read without the child."""
    return tensor.repeat_interleave(2)[::2]


def test_a_child_that_dies_is_an_error_and_the_next_file_is_read(tmp_path):
    """Killed between two requests it is started again; killed during one, the reader hears of it."""
    torch.save({"a": only_the_child(torch.arange(1000.0))}, tmp_path / "a.pt")
    file = open_pickle(tmp_path / "a.pt")
    pickles._CHILD._process.kill()
    pickles._CHILD._process.wait()
    assert torch.equal(whole(file, "a"), torch.arange(1000.0))

    os.kill(pickles._CHILD._process.pid, signal.SIGSTOP)
    killer = threading.Timer(0.2, pickles._CHILD._process.kill)
    killer.start()
    with pytest.raises(WeightsError, match=DIED):
        whole(file, "a")
    killer.join()
    next_file_is_read(tmp_path)


def test_a_child_that_hangs_is_ended(tmp_path, monkeypatch):
    """After a time that grows with the file."""
    torch.save({"a": only_the_child(torch.ones(3))}, tmp_path / "a.pt")
    file = open_pickle(tmp_path / "a.pt")
    monkeypatch.setattr(pickles, "SECONDS", 0.2)
    os.kill(pickles._CHILD._process.pid, signal.SIGSTOP)
    with pytest.raises(WeightsError, match="the process that opened it took more than 0 seconds"):
        whole(file, "a")
    monkeypatch.undo()
    next_file_is_read(tmp_path)


def test_an_interrupt_ends_the_child(tmp_path):
    """Its late answer would be taken for that to the next request."""
    torch.save({"a": only_the_child(torch.ones(3))}, tmp_path / "a.pt")
    file = open_pickle(tmp_path / "a.pt")
    os.kill(pickles._CHILD._process.pid, signal.SIGSTOP)
    timer = threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        whole(file, "a")
    timer.join()
    assert torch.equal(whole(file, "a"), torch.ones(3))


def test_a_file_that_was_replaced_is_not_taken_for_the_one_that_was_opened(tmp_path):
    """Neither while the child is open nor by a new child."""
    torch.save({"a": only_the_child(torch.ones(3))}, tmp_path / "a.pt")
    file = open_pickle(tmp_path / "a.pt")
    torch.save({"a": torch.zeros(3)}, tmp_path / "b.pt")
    (tmp_path / "b.pt").replace(tmp_path / "a.pt")
    assert torch.equal(whole(file, "a"), torch.ones(3))  # still mapped
    pickles._CHILD.stop()
    with pytest.raises(WeightsError, match=r"a\.pt: has changed since it was opened; read it again"):
        whole(file, "a")


def test_two_threads_share_the_child(tmp_path):
    """One answer at a time."""
    for index in range(4):
        torch.save({"a": torch.full((1000,), float(index))}, tmp_path / f"{index}.pt")
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(25):
            if not torch.equal(whole(open_pickle(tmp_path / f"{index}.pt"), "a"), torch.full((1000,), float(index))):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_many_files_at_once_are_not_opened_again_and_again(tmp_path):
    """Two that are read in turn stay open; of hundreds only the last few do."""
    files = []
    for index in range(20):
        torch.save({"a": only_the_child(torch.full((10,), float(index)))}, tmp_path / f"{index}.pt")
        files.append(open_pickle(tmp_path / f"{index}.pt"))
    for _ in range(2):
        for index, file in enumerate(files):
            assert torch.equal(whole(file, "a"), torch.full((10,), float(index)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_starts_a_child_of_its_own(tmp_path):
    """And neither ends nor confuses that of its parent."""
    torch.save({"a": only_the_child(torch.arange(1000.0))}, tmp_path / "a.pt")
    file = open_pickle(tmp_path / "a.pt")
    child = pickles._CHILD._process.pid
    forked = os.fork()
    if forked == 0:
        same = torch.equal(whole(file, "a"), torch.arange(1000.0)) and pickles._CHILD._process.pid != child
        pickles._CHILD.stop()
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
    assert torch.equal(whole(file, "a"), torch.arange(1000.0))
    assert pickles._CHILD._process.pid == child


READ = """
import sys
from pathlib import Path

import saereg  # noqa: F401
from saereg.registry.files.pickles import open_pickle
from saereg.registry.files.tensors import whole

print(whole(open_pickle(Path(sys.argv[1])), "a").tolist())
"""


def test_a_torch_in_the_working_folder_is_not_imported(tmp_path):
    """Nor a saereg, a sitecustomize or a PYTHONPATH; what is printed on the way does not get in between."""
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    (tmp_path / "cwd/saereg").mkdir(parents=True)
    for name in ("torch.py", "saereg/__init__.py", "json.py", "sitecustomize.py"):
        (tmp_path / "cwd" / name).write_text(f"open({str(tmp_path / 'it ran')!r}, 'w'); print('hello')")
    command = [sys.executable, "-P", "-c", READ, str(tmp_path / "a.pt")]
    environment = {**os.environ, "PYTHONPATH": str(Path(pickles.__file__).parents[3])}
    done = subprocess.run(command, cwd=tmp_path / "cwd", capture_output=True, text=True, check=False, env=environment)
    assert (done.stdout, done.stderr) == ("[1.0, 1.0]\n", "")
    assert not (tmp_path / "it ran").exists()


def child_with(start: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next child run some code before its own."""
    pickles._CHILD.stop()
    (folder / "child.py").write_text(f"{start}\n{Path(pickles.pickle_child.__file__).read_text()}")
    monkeypatch.setattr(pickles.pickle_child, "__file__", str(folder / "child.py"))


def test_what_start_up_scripts_print_is_skipped(tmp_path, monkeypatch):
    """A sitecustomize among the installed packages runs before anything of ours."""
    prints = "import os; os.write(1, b'no newline'); print('and \\x00 more'); print('x' * 100_000)"
    child_with(prints, tmp_path, monkeypatch)
    next_file_is_read(tmp_path)
    pickles._CHILD.stop()


def test_a_child_that_does_not_start_is_one_line(tmp_path, monkeypatch):
    """With what to do next."""
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    (tmp_path / "child.py").write_text("raise SystemExit(1)")
    pickles._CHILD.stop()
    monkeypatch.setattr(pickles.pickle_child, "__file__", str(tmp_path / "child.py"))
    expected = "the process that opens pickles does not start; python -I -c 'import torch' tells why"
    with pytest.raises(WeightsError, match=expected):
        open_pickle(tmp_path / "a.pt")
    monkeypatch.undo()
    next_file_is_read(tmp_path)


WITHOUT_LIMITS = {
    "no module resource, on Windows": "import sys; sys.modules['resource'] = None",
    "no /proc, on macOS": """
import builtins
real = open
def fake(path, *arguments, **more):
    if "/proc" in str(path):
        raise FileNotFoundError(path)
    return real(path, *arguments, **more)
builtins.open = fake
""",
    "a hard limit of a batch system": "import resource; resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))",
}


@pytest.mark.parametrize("system", WITHOUT_LIMITS)
def test_a_system_without_limits_opens_pickles_too(tmp_path, monkeypatch, system):
    """That no code runs does not depend on them."""
    child_with(WITHOUT_LIMITS[system], tmp_path, monkeypatch)
    next_file_is_read(tmp_path)
    pickles._CHILD.stop()


KILL = """
import os, signal
from saereg.registry.files import pickles

print(pickles._CHILD._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_child_ends_with_its_parent(tmp_path):
    """Also when that is killed."""
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    command = [sys.executable, "-c", READ + KILL, str(tmp_path / "a.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    child = int(done.stdout.split()[-1])
    for _ in range(1200):  # a minute, for a machine that is busy
        if not _runs(child):
            return
        time.sleep(0.05)
    pytest.fail("it still runs")


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_boxes_do_not_leave_descriptors_open(tmp_path):
    """A hundred files in a row."""
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for index in range(100):
        torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
        whole(open_pickle(tmp_path / "a.pt"), "a")
        if index == 0:
            before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    assert not before or len(os.listdir("/proc/self/fd")) <= before
    child = Path(f"/proc/{pickles._CHILD._process.pid}/fd")
    assert not child.exists() or len(os.listdir(child)) < 30
