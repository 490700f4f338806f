"""Many dictionaries on whoever there is: the same digits, nothing lost, nothing twice, and on where it was ended."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saereg.errors import FormatError, UsageError, WeightsError
from saereg.registry.conversion.write import write_checkpoint
from saereg.registry.files.tensors import MemoryFile
from saereg.registry.kernels.streaming import STREAM_BYTES
from saereg.registry.metrics.definitions import FOREIGN
from saereg.registry.metrics.engine import Wanted, chunks, total_sums
from saereg.registry.metrics.evaluate import Subject, measure
from saereg.registry.metrics.sources.spec import rows_of_spec
from saereg.registry.models.pinned import PinnedModel
from saereg.registry.readings.reading import Reading
from saereg.registry.recompute.chosen import Chosen, Measuring, Setting
from saereg.registry.recompute.journal import open_journal
from saereg.registry.recompute.run import Failure, Order, Recomputation
from saereg.registry.recompute.sums_text import CLASSES, part_of, part_text
from saereg.registry.recompute.tasks import Part, Place, Stamps, Task, forget, run_any, run_task
from saereg.registry.work.opening import open_executor
from saereg.schemas.metrics import Claim
from tests.registry.factories import checkpoint, config
from tests.registry.metrics.token_data import manifest_of, token_rows
from tests.registry.recompute import recomputing
from tests.registry.recompute.recomputing import ORDER, ROWS, dictionary, recompute
from tests.registry.work.rows import DeadlyRows
from tests.registry.work.scheduler import scheduler
from tests.releases import D_IN

ROOT = Path(__file__).parents[3]
WANTED = Wanted(ORDER.batch_rows, ("raw", "normalized"))
DEADLY = 20_000
"""A row of the second chunk."""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with two dictionaries; read only."""
    root = tmp_path_factory.mktemp("two")
    for seed, name in enumerate(("a", "b")):
        dictionary(root / name, seed)
    return root


@pytest.fixture(scope="module")
def plain(place) -> tuple[bytes, tuple[bytes, ...]]:
    """What one process gives: the bytes of the journal, and the counts."""
    return _results(place, recompute(place, None))


@pytest.fixture
def root(place, plain, tmp_path) -> Path:
    """The same folder under the same name, with nothing computed."""
    for path in place.iterdir():
        if path.name not in ("a", "b"):
            path.unlink() if path.is_file() else shutil.rmtree(path)
    return place


def _results(root: Path, run) -> tuple[bytes, tuple[bytes, ...]]:
    assert not run.failures
    assert not (root / "out.jsonl.part").exists()
    return (root / "out.jsonl").read_bytes(), tuple(run.fired[at].counts.numpy().tobytes() for at in sorted(run.fired))


def _reads(root: Path, name: str) -> list[int]:
    return [first for first, _ in DeadlyRows(ROWS, D_IN, root / f"{name}-rows").traces()]


def _chunk_starts() -> list[int]:
    return [first for first, _ in chunks(ROWS, Wanted(ORDER.batch_rows))]


@pytest.mark.slow
def test_two_processes_one_of_them_killed_give_the_same_digits(root, plain):
    """SIGKILL in the middle of a chunk: that chunk is computed again, from its first row, and no other."""
    assert _results(root, recompute(root, "local:2", DEADLY)) == plain
    starts = [_reads(root, name) for name in ("a", "b")]
    assert starts[0] == sorted(set(starts[0]))
    assert sorted({*starts[1]}) == starts[0]
    assert len(starts[1]) > len(starts[0])


@pytest.mark.slow
def test_two_workers_of_a_cluster_one_of_them_killed_give_the_same_digits(root, plain, tmp_path):
    """A real scheduler and two worker processes on loopback."""
    with scheduler(tmp_path, 2) as word:
        assert _results(root, recompute(root, word, DEADLY)) == plain
    processes = {process for name in "ab" for _, process in DeadlyRows(ROWS, D_IN, root / f"{name}-rows").traces()}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert (root / "b-rows/died").exists()


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(root, plain):
    """SIGKILL to the program itself: the first dictionary and two chunks of the second are not computed again."""
    command = [sys.executable, "-m", recomputing.__name__, str(root), str(chunks(ROWS, Wanted(ORDER.batch_rows))[2][0])]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=ROOT, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    before = {name: _reads(root, name) for name in "ab"}
    assert (root / "out.jsonl").read_text().count("\n") == 1
    with (root / "out.jsonl.part").open("a") as file:
        file.write('{"part": "torn')
    assert _results(root, recompute(root, None)) == plain
    assert _reads(root, "a") == before["a"]
    again = [first for first in _reads(root, "b") if first in _chunk_starts()]
    assert sorted(again) == sorted([*_chunk_starts(), _chunk_starts()[2]])


def test_a_dictionary_that_changed_is_measured_anew_and_its_line_replaced(root, plain):
    """The other one is not read again; what an earlier run found of others stays."""
    recompute(root, None)
    other = json.loads((root / "out.jsonl").read_text().splitlines()[0]) | {"target": "other", "key": "0" * 64}
    with (root / "out.jsonl").open("a") as file:
        file.write(json.dumps(other, sort_keys=True, separators=(",", ":")) + "\n")
    before = {name: _reads(root, name) for name in "ab"}
    weights = (root / "b/sae_weights.safetensors").read_bytes()
    try:
        dictionary(root / "b", 7)
        recompute(root, None)
    finally:
        (root / "b/sae_weights.safetensors").write_bytes(weights)
    assert _reads(root, "b")[: len(before["b"])] != _reads(root, "b")
    lines = [json.loads(line) for line in (root / "out.jsonl").read_text().splitlines()]
    assert [line["target"] for line in lines] == ["other", str(root / "a"), str(root / "b")]
    assert lines[1] == json.loads(plain[0].splitlines()[0])
    assert lines[2]["weights_sha256"] != json.loads(plain[0].splitlines()[1])["weights_sha256"]


def test_rows_of_tokens_have_losses_too(tiny, tmp_path):
    """In order behind the sums, with the batch that a claim names: what `measure` gives; and tasks can be sent."""
    cfg = config("standard", d_in=16, d_sae=24)
    write_checkpoint(checkpoint(cfg), tmp_path / "sae", "saelens")
    rows = token_rows(tmp_path, tiny)
    claims = (Claim(metric="ce_recovered_batch_mean", value=0.5, evaluation="held-out", batch_rows=4),)
    place = Place(tmp_path / "sae")
    planned = (Measuring(Chosen("sae"), place.read().cfg, place, "held-out", rows, True, claims),)
    with open_journal(tmp_path / "out.jsonl") as journal, open_executor(None) as workers:
        run = Recomputation(Order(), journal)
        sent = [pickle.loads(pickle.dumps(task)) for task in run._tasks(planned)]
        (record,) = Recomputation(Order(), journal).run(planned, workers)
    manifest = manifest_of({"rows": rows.rows, "site": "neox"})
    expected = measure(Subject(place.runner(), rows, "held-out", rows.evaluation, manifest, claims))
    assert record.measurements == expected
    assert {m.metric for m in expected} >= {"ce_recovered", "ce_recovered_batch_mean"}
    assert run_any(sent[1]) == expected[-5:]
    forget()


def test_what_is_known_of_one_model_torch_or_meaning_of_rows_is_not_taken_for_another(tiny, tmp_path, monkeypatch):
    """Each decides what is recorded, so a run that goes on measures again."""
    write_checkpoint(checkpoint(config("standard", d_in=16, d_sae=24)), tmp_path / "sae", "saelens")
    place, model = Place(tmp_path / "sae"), shutil.copytree(tiny("neox"), tmp_path / "model")
    cfg, rows = place.read().cfg, token_rows(tmp_path, lambda kind: model)

    with open_journal(None) as journal:
        run = Recomputation(Order(), journal)

        def key(are_tokens: bool = True) -> str:
            again = replace(rows, models={k: PinnedModel(k, m.ref, m.given) for k, m in rows.models.items()})
            return run._begun(0, Measuring(Chosen("sae"), cfg, place, "held-out", again, are_tokens)).key

        keys = [key(), key(are_tokens=False)]
        assert key() == keys[0]
        for library in ("torch", "transformers"):
            with monkeypatch.context() as patch:
                own = metadata.version
                patch.setattr(metadata, "version", lambda n, of=library, own=own: "9" if n == of else own(n))
                keys.append(key())
        path = model / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"rotary_pct": 0.5}))
        keys.append(key())
    assert len(set(keys)) == 5


def test_a_file_that_is_something_else_is_not_written_to(tmp_path):
    """Nor one that another run writes."""
    path = tmp_path / "notes.jsonl"
    path.write_text('{"mine": 1}\n')
    with pytest.raises(UsageError, match=r"notes.jsonl:1: .*choose another --out"), open_journal(path):
        pass
    assert path.read_text() == '{"mine": 1}\n'
    path.write_text('{"mine": 1}')
    with pytest.raises(UsageError, match="its last line is none of ours"), open_journal(path):
        pass
    assert path.read_text() == '{"mine": 1}'
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is no text"), open_journal(path):
        pass
    assert path.read_bytes() == b"\xff\xfe"
    busy = pytest.raises(UsageError, match="another run writes it")
    with open_journal(tmp_path / "out"), busy, open_journal(tmp_path / "out"):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["notes.jsonl"]


@pytest.fixture(scope="module")
def parts(place, tmp_path_factory) -> dict[tuple[int, int], Part]:
    """The sums of every chunk."""
    rows = DeadlyRows(ROWS, D_IN, tmp_path_factory.mktemp("rows"))
    where = Place(place / "a")
    return {
        (first, count): run_task(Task("task", where, rows, first, count, WANTED))
        for first, count in chunks(ROWS, WANTED)
    }


def test_sums_come_back_from_text_and_from_other_processes_bit_by_bit(parts):
    """And are small: nothing of the rows, of the weights, or of tensors that they are views of goes along."""
    for part in parts.values():
        text = part_text(part)
        assert part_text(part_of(text)) == text
        assert part_text(pickle.loads(pickle.dumps(part))) == text
        assert len(text) < 40_000
        assert len(pickle.dumps(part)) < 40_000


def test_sums_of_a_version_that_kept_no_sizes_of_latents_do_not_know_them(parts):
    """They are not zero there, nor in what they are merged with."""
    whole = part_text(next(iter(parts.values())))
    older = part_of(re.sub(r',"sizes":\{[^{}]*\}', "", whole))

    assert len(part_text(older)) < len(whole)
    for sums in (older.sums, part_of(whole).sums.merge(older.sums)):
        assert {moments.sizes for moments in sums.moments.values()} == {None}
        assert FOREIGN["l1_norm"](sums.moments["raw"]).value is None
        assert FOREIGN["l0_positive"](sums.moments["raw"]).value > 0


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"is": "Path"}', '{"is": "Sums"}', '{"tensor": "AA", "shape": [1]}'])
def test_text_that_holds_no_sums_is_refused(text):
    """Whatever it is instead; it can name no other class."""
    assert "Path" not in CLASSES
    with pytest.raises(ValueError, match="holds no sums"):
        part_of(text)


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(4)))
def test_the_order_in_which_workers_finish_changes_no_bit(place, parts, order):
    """Any number of workers is some order: chunks are merged in theirs."""
    from collections import deque

    from saereg.registry.recompute.run import _Work

    spans = list(parts)
    work = _Work(0, None, WANTED, "", "", Stamps((), ()), "", deque(spans))  # type: ignore[arg-type]
    for at in order:
        work.add(spans[at][0], parts[spans[at]])
    assert part_text(work.total()) == part_text(_merged(parts))


def _merged(parts) -> Part:
    first, *others = parts.values()
    sums = first.sums
    for part in others:
        sums = sums.merge(part.sums)
    return Part(sums, first.dtype)


def test_the_number_of_threads_changes_no_bit(place, tmp_path):
    """Workers have fewer threads than one process alone; each is a worker of another size."""
    runner = Place(place / "a").runner()
    rows = DeadlyRows(5000, D_IN, tmp_path)
    before, texts = torch.get_num_threads(), set()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            texts.add(part_text(Part(total_sums(runner, rows, WANTED), runner.dtype)))
    finally:
        torch.set_num_threads(before)
    assert len(texts) == 1


def test_a_dictionary_stays_loaded_from_task_to_task_until_its_file_changes(tmp_path, monkeypatch):
    """One at a time."""
    loaded = []
    monkeypatch.setattr(Place, "runner", lambda place, own=Place.runner: loaded.append(place.path.name) or own(place))
    rows = DeadlyRows(10, D_IN, tmp_path)
    a, b = dictionary(tmp_path / "a"), dictionary(tmp_path / "b", 1)
    for folder in (a, a, b, b, a):
        run_task(Task("task", Place(folder), rows, 0, 10, WANTED))
    assert loaded == ["a", "b", "a"]
    os.utime(a / "sae_weights.safetensors", ns=(1, 1))
    run_task(Task("task", Place(a), rows, 0, 10, WANTED))
    assert loaded == ["a", "b", "a", "a"]
    forget()


def test_files_that_change_after_their_digest_was_taken_are_not_measured(tmp_path):
    """Chunks of two files would be merged under the digest of one; so for stored rows."""
    from safetensors.torch import save_file

    folder = dictionary(tmp_path / "a")
    stored = tmp_path / "x.safetensors"
    x = torch.randn(2 * 16_384, D_IN)
    save_file({"x": x}, stored)
    weights = folder / "sae_weights.safetensors"
    for changed in (weights, stored):
        rows = rows_of_spec(str(stored), (D_IN,))
        seen: list[int] = []

        def swap(what, done, total, changed=changed, seen=seen):
            if not seen and 2 * done >= total:
                seen.append(done)
                os.utime(changed, ns=(1, len(changed.name)))

        with open_journal(None) as journal, open_executor(None) as workers:
            run = Recomputation(Order(), journal)
            (found,) = run.run([recomputing.measuring(folder, rows)], workers, swap)
        assert isinstance(found, Failure)
        assert f"{changed.name}: changed while it was measured" in found.why
        assert seen


def test_weights_that_do_not_fit_are_streamed_with_the_same_result(place, tmp_path):
    """Whether they fit is decided once, before anything is sent to workers."""
    cfg = Place(place / "a").read().cfg
    assert Setting().stream_bytes(cfg) is None
    assert Setting(memory_bytes=10_000).stream_bytes(cfg) is None
    assert Setting(memory_bytes=500, exact=True).stream_bytes(cfg) is None
    assert Setting(memory_bytes=500).stream_bytes(cfg) > 0
    assert Setting(memory_bytes=1).stream_bytes(config("matching_pursuit")) is None  # needs its decoder whole at a step
    large = cfg.model_copy(update={"d_in": 8192, "d_sae": 65_536})
    sizes = [Setting(memory_bytes=size * 10**6).stream_bytes(large) for size in (8000, 4000, 1800, 1000, 900)]
    assert sizes == [STREAM_BYTES, STREAM_BYTES, STREAM_BYTES // 2, STREAM_BYTES // 2, STREAM_BYTES // 4]
    rows = DeadlyRows(3000, D_IN, tmp_path)
    loaded, streamed = (
        run_task(Task("task", Place(place / "a", stream_bytes=size), rows, 0, 3000, WANTED)).sums.moments["raw"]
        for size in (None, Setting(memory_bytes=500).stream_bytes(cfg))
    )
    torch.testing.assert_close(streamed.squared_error, loaded.squared_error, rtol=1e-6, atol=0)
    assert streamed.fired.equal(loaded.fired)
    forget()


def test_what_nobody_says_is_refused_before_anything_is_streamed(tmp_path, monkeypatch):
    """As when it is loaded; of an artifact of a release the validators report it."""
    unsettled = Reading(
        config("standard"), {}, {"": MemoryFile({})}, unsettled="nothing says whether b_dec is subtracted"
    )
    monkeypatch.setattr(Place, "read", lambda place: unsettled)
    with pytest.raises(FormatError, match="whether b_dec is subtracted"):
        Place(tmp_path, stream_bytes=1000).runner()
    with pytest.raises(WeightsError):  # of the tensors that are not there
        Place(tmp_path, stream_bytes=1000, released=True).runner()


def test_a_file_that_a_worker_does_not_see_is_said_with_its_path(place, tmp_path):
    """As on a machine that does not share the disk."""
    task = Task("task", Place(place / "a"), DeadlyRows(10, D_IN, tmp_path / "gone"), 0, 10, WANTED)
    with pytest.raises(WeightsError, match=r"gone/0-.* is not there for the worker"):
        run_task(task)
