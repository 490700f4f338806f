"""Each task is done once: here, in processes that die, and on a cluster. What cannot be done is one line."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from saereg import errors
from saereg.errors import DocumentError, MissingExtraError, SaeregError, UnknownNameError, UsageError, WeightsError
from saereg.registry.files.atomic import is_running
from saereg.registry.work import cluster
from saereg.registry.work.opening import open_executor
from saereg.registry.work.processes import cores
from saereg.registry.work.running import run_all
from saereg.registry.work.workers import Packed, run_packed, unpacked
from tests.registry.work.jobs import PATIENCE, Job, always_dies, environment, sleep, square

ROOT = Path(__file__).parents[3]


def test_here_tasks_are_done_one_by_one_when_they_are_asked_for(tmp_path):
    """No task is begun before the result of the last one was taken."""
    with open_executor(None) as workers:
        running = run_all(workers, square, (Job(number, tmp_path) for number in range(3)))
        for number in range(3):
            done = next(running)
            assert (done.index, done.outcome.value()) == (number, number**2)
            assert len(list(tmp_path.iterdir())) == number + 1
        assert next(running, None) is None


def test_an_error_of_a_task_is_its_outcome_and_a_mistake_goes_up(tmp_path):
    """The other tasks are done all the same; what no task may raise is not caught."""
    with open_executor(None) as workers:
        jobs = [Job(number, tmp_path, faulty=1) for number in range(3)]
        found = list(run_all(workers, square, jobs))
        assert [done.outcome.result for done in found] == [0, None, 4]
        with pytest.raises(DocumentError, match=r"cfg\.json#/k: is too small"):
            found[1].outcome.value()
        with pytest.raises(TypeError, match="no len"):
            list(run_all(workers, len, [3]))  # type: ignore[arg-type]


def test_processes_share_the_cores_and_a_worker_that_dies_loses_nothing(tmp_path):
    """Nine tasks on two processes, one of which is killed by SIGKILL in the middle: nine results, and one more call."""
    with open_executor("local:2") as workers:
        found = list(run_all(workers, square, [Job(number, tmp_path, deadly=4, faulty=6) for number in range(9)]))
        (threads,) = {done.outcome.value() for done in run_all(workers, environment, [Job(0, tmp_path)])}
    results = {done.index: done.outcome.result for done in found}
    assert len(found) == 9
    assert results == {number: None if number == 6 else number**2 for number in range(9)}
    calls = sorted(int(path.name.split("-")[0]) for path in tmp_path.iterdir())
    assert calls == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8]
    assert threads == str(max(1, cores() // 2))


def test_a_task_that_always_kills_its_worker_is_given_up_and_named(tmp_path):
    """After one retry; the task beside it is done."""
    with open_executor("local:1") as workers:
        jobs = [Job(7, tmp_path)]
        (done,) = run_all(workers, always_dies, jobs, retries=1, name=lambda job: f"task {job.number}")
        (other,) = run_all(workers, square, jobs)
    assert str(done.outcome.error).startswith("task 7: its worker died 2 times (killed, or out of memory")
    assert other.outcome.value() == 49
    assert len(list(tmp_path.iterdir())) == 3


def test_who_stops_early_leaves_no_process_behind(tmp_path):
    """Ctrl-C between two results: the worker in the middle of its task is ended."""
    with pytest.raises(KeyboardInterrupt):
        _interrupted(tmp_path)
    (process,) = (int(path.name) for path in tmp_path.iterdir())
    _until(lambda: not is_running(process))


def _interrupted(folder: Path) -> None:
    with open_executor("local:1") as workers:
        workers.submit(sleep, Job(1, folder), "task")
        _until(lambda: any(folder.iterdir()))
        raise KeyboardInterrupt


def test_a_killed_main_process_leaves_no_process_behind(tmp_path):
    """Not even SIGKILL, after which it cannot tell its workers to end."""
    script = tmp_path / "main.py"
    script.write_text(
        "from pathlib import Path\n"
        "from saereg.registry.work.opening import open_executor\n"
        "from saereg.registry.work.running import run_all\n"
        "from tests.registry.work.jobs import Job, sleep\n"
        "if __name__ == '__main__':\n"
        "    with open_executor('local:1') as workers:\n"
        f"        list(run_all(workers, sleep, [Job(1, Path({str(tmp_path / 'traces')!r}))]))\n"
    )
    (tmp_path / "traces").mkdir()
    main = subprocess.Popen([sys.executable, script], env=os.environ | {"PYTHONPATH": str(ROOT)})
    _until(lambda: any((tmp_path / "traces").iterdir()))
    (worker,) = (int(path.name) for path in (tmp_path / "traces").iterdir())
    main.send_signal(signal.SIGKILL)
    main.wait()
    _until(lambda: not _is_alive(worker))


def test_what_cannot_be_sent_is_said_before_anything_is_started():
    """A function that only this process knows."""
    with open_executor("local:1") as workers, pytest.raises(UsageError, match="task 3 cannot be sent to another"):
        list(run_all(workers, lambda number: number, [3], name=lambda number: f"task {number}"))


@pytest.mark.parametrize("word", ["local:0", "local:", "local:x", "dask://", "dask://host", "ray://host:1", ""])
def test_a_word_that_names_no_workers_is_refused(word):
    """With what it could have been."""
    with pytest.raises(UsageError, match="expected local:N"), open_executor(word):
        pass


def test_a_scheduler_that_does_not_answer_is_one_line(monkeypatch):
    """Within the time that it is given."""
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    silent = pytest.raises(UsageError, match=r"^dask://127\.0\.0\.1:9: no Dask scheduler answers there")
    with silent, open_executor("dask://127.0.0.1:9"):
        pass


def test_without_the_extra_it_says_which_one(monkeypatch):
    """As all commands do."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'saereg\[dask\]'"), open_executor("dask://host:1"):
        pass


def test_a_worker_of_another_version_does_nothing():
    """Its sums might be other ones."""
    with pytest.raises(UsageError, match="install the same on all machines"):
        unpacked(run_packed(Packed("0.0.0", b"never read"))).value()


SAMPLES = [
    DocumentError("a.json", "/b", "is wrong"),
    UnknownNameError("layout", "saelen", ["saelens"]),
    MissingExtraError("this", "torch", "torch"),
    WeightsError("w.safetensors", "is short", "W_enc"),
    errors.FormatError("x", "is in no layout", ["a", "b"]),
    errors.PublishError("the Hub does not answer"),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_errors_come_back_from_other_processes_as_they_were(error: SaeregError):
    """Class, sentence, attributes, exit code: an exception that cannot be unpickled would break a pool."""
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), vars(back), back.exit_code) == (
        type(error),
        str(error),
        vars(error),
        error.exit_code,
    )


def _until(holds) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def _is_alive(process: int) -> bool:
    """Whether a process that is not our child runs, and is no zombie that waits for its parent."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False if sys.platform == "linux" else is_running(process)
