"""Checkpoints: whole or not at all, the last good one always there, and nothing gone on from that is not meant."""

import copy
import json
import resource
import signal

import pytest
import torch

from saereg.errors import DivergedError, UsageError, WeightsError
from saereg.trainers.runs import checkpoints
from saereg.trainers.runs.disk import alone, bytes_label, check_room, check_writable, remove_leftovers
from saereg.trainers.runs.state import check_moments, not_finite, read_state, write_state
from tests.trainers.runs.members import TinyMember, go


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run ends with that nobody stopped."""
    return go(tmp_path_factory.mktemp("whole"))


def stopped(folder):
    """Leave a run behind that ended between steps 7 and 8, with checkpoints of steps 3 and 6."""

    def fail(seen):
        if seen.tokens == 56:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        go(folder, progress=fail)
    return folder / "state"


def test_a_tree_comes_back_bit_by_bit(tmp_path):
    """Odd floats, shared and strided tensors, keys that are numbers, ids with slashes."""
    shared = torch.arange(6.0).reshape(2, 3)
    tree = {
        "floats": [0.1, 1e-320, -0.0, float("inf"), float("-inf"), 2**53 + 1, True, None, "a/b"],
        "a": {"b/c": shared}, "a/b": {"c": shared.T, "part": shared[0]},
        "types": [torch.ones(2, dtype=dtype) for dtype in (torch.float64, torch.bfloat16, torch.int64, torch.bool)],
        "state": {0: {"step": torch.tensor(3.0)}, 17: {}}, "empty": {}, "none": torch.empty(0),
    }  # fmt: skip
    write_state(tmp_path, tree)
    found = read_state(tmp_path)
    assert [repr(value) for value in found["floats"]] == [repr(value) for value in tree["floats"]]
    assert found["state"].keys() == {0, 17}
    for here, there in ((found["a"]["b/c"], shared), (found["a/b"]["c"], shared.T), (found["a/b"]["part"], shared[0])):
        assert torch.equal(here, there)
    assert [tensor.dtype for tensor in found["types"]] == [tensor.dtype for tensor in tree["types"]]
    assert (tmp_path / "state.json").stat().st_mode & 0o077 == (tmp_path / "state.safetensors").stat().st_mode & 0o077


def test_what_is_no_number_is_found_without_a_copy():
    """Endless ones too; whole numbers and nothing at all are fine."""
    good = {"w": torch.ones(3), "n": torch.tensor([2**62]), "none": torch.empty(0)}
    assert not_finite(good) is None
    for value in (float("nan"), float("inf"), -float("inf")):
        assert not_finite({**good, "m": [{"deep": torch.tensor([1.0, value])}]}) == "m/0/deep"


DAMAGES = {
    "half a file": lambda path: (path / "state.safetensors").write_bytes(b"\x01"),
    "one bit": lambda path: (path / "state.safetensors").write_bytes(
        (path / "state.safetensors").read_bytes()[:-1] + bytes([(path / "state.safetensors").read_bytes()[-1] ^ 1])
    ),
    "no file": lambda path: (path / "state.json").unlink(),
    "half of the words": lambda path: (path / "state.json").write_text((path / "state.json").read_text()[:50]),
    "other words": lambda path: (path / "state.json").write_text("[1]"),
}


STRANGE = {
    "a list": (lambda tree: [tree], "it is no mapping"),
    "no members": (lambda tree: {key: part for key, part in tree.items() if key != "members"}, "it has no `members`"),
    "another step": (lambda tree: tree | {"step": 5}, "it is that of step 5"),
    "a log of no length": (lambda tree: tree | {"logs": {"tiny": -1}}, "it does not say how long its logs are"),
    "no log": (lambda tree: tree | {"logs": {}}, "it does not say how long its logs are"),
}


def rewritten(checkpoint, change):
    """Write a state anew, whole and with the right digest, as a stranger could."""
    tree = read_state(checkpoint)
    tree = change({key: copy.deepcopy(part) for key, part in tree.items()})
    write_state(checkpoint, tree)


@pytest.mark.parametrize("name", STRANGE)
def test_a_whole_file_that_no_run_wrote_is_left_aside(name, whole, tmp_path):
    change, problem = STRANGE[name]
    state, said = stopped(tmp_path), []
    rewritten(state / "step-000000006", change)
    assert go(tmp_path, progress=lambda seen: said.append(seen.said) if seen.said else None) == whole
    assert said == [f"{state / 'step-000000006'} cannot be gone on from: {problem}; goes on from step 3 instead"]


def test_words_nested_without_end_are_a_damage(tmp_path):
    state = stopped(tmp_path)
    (state / "step-000000006/state.json").write_text("[" * 100_000)
    with pytest.raises(WeightsError, match="is no whole state of a run: maximum recursion depth"):
        read_state(state / "step-000000006")


@pytest.mark.parametrize("name", ["step", "exp_avg", "exp_avg_sq"])
def test_moments_that_do_not_fit_their_weights_are_refused(name):
    """Adam's fused kernel reads as many numbers as there are weights, wherever that leads."""
    weights = torch.nn.Parameter(torch.ones(64, 64))
    optimizer = torch.optim.Adam([weights], fused=True)
    weights.grad = torch.ones_like(weights)
    optimizer.step()
    check_moments(optimizer)
    state = optimizer.state_dict()
    state["state"][0][name] = torch.zeros(3)
    optimizer.load_state_dict(state)
    with pytest.raises(ValueError, match=f"{name} of Adam has shape .3,., and its weights "):
        check_moments(optimizer)
    del optimizer.state[weights][name]
    with pytest.raises(ValueError, match=f"{name} of Adam has shape None"):
        check_moments(optimizer)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_left_aside_and_told_of(damage, whole, tmp_path):
    """The one before it takes its place, and the bytes at the end are the same."""
    state, said = stopped(tmp_path), []
    DAMAGES[damage](state / "step-000000006")
    assert go(tmp_path, progress=lambda seen: said.append(seen.said) if seen.said else None) == whole
    assert len(said) == 1
    assert said[0].startswith(f"{state / 'step-000000006'}: is no whole state of a run: ")
    assert said[0].endswith("; goes on from step 3 instead")


def test_a_log_that_is_shorter_than_a_checkpoint_says_sends_back_to_the_one_before(whole, tmp_path):
    """Lines cannot be made up: those of steps 4 to 6 are written again by steps 4 to 6."""
    state, said = stopped(tmp_path), []
    log = tmp_path / "tiny/training.log"
    three = sum(len(line) for line in log.read_bytes().splitlines(keepends=True)[:3])
    log.write_bytes(log.read_bytes()[: three + 5])
    assert go(tmp_path, progress=lambda seen: said.append(seen.said) if seen.said else None) == whole
    assert said[0].startswith(
        f"{state / 'step-000000006'} cannot be gone on from: {log} has {three + 5} bytes, and had "
    )


def test_only_damaged_checkpoints_are_one_line(tmp_path):
    """To begin anew is for the user to decide."""
    state = stopped(tmp_path)
    (tmp_path / "tiny/training.log").unlink()
    with pytest.raises(UsageError) as caught:
        go(tmp_path)
    assert str(caught.value).endswith(f" at step 6; there is no other: remove {state} to begin anew")
    assert len(checkpoints.steps(state)) == 2


def test_another_configuration_is_refused_with_the_setting_that_differs(tmp_path):
    """As a lower learning rate is after a spike: another run, under another id."""
    state = stopped(tmp_path)
    with pytest.raises(UsageError) as caught:
        go(tmp_path, identity={"lr": 0.001})
    assert str(caught.value) == (
        f"{state / 'step-000000006'} is of another run: lr is 0.01 there and 0.001 here; "
        f"remove {state} to begin anew, or give another id"
    )


def test_a_checkpoint_of_a_newer_format_is_refused(tmp_path):
    """It may hold what this version would misread."""
    state = stopped(tmp_path)
    path = state / "step-000000006/state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(UsageError, match=r"was written by a newer saereg \(format 2, this one reads 1\)"):
        go(tmp_path)


def test_a_checkpoint_of_another_kind_of_member_is_refused(tmp_path):
    """The same words in the configuration, another class behind them."""
    state = stopped(tmp_path)

    class Other(TinyMember):
        def load(self, state):
            raise KeyError("momentum")

    with pytest.raises(UsageError) as caught:
        go(tmp_path, Other())
    assert str(caught.value) == f"{state} holds another kind of tiny ('momentum'); remove it to begin anew"


def test_a_disk_that_is_full_in_mid_checkpoint_costs_nothing_that_was_there(whole, tmp_path):
    """A real limit of the system on the size of files: one line, and with room the run goes on to the same bytes."""
    limits, before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def fill(seen):
        if seen.tokens == 32:
            resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))

    try:
        with pytest.raises(UsageError) as caught:
            go(tmp_path, progress=fill, log_every=100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert str(caught.value) == (
        f"{tmp_path / 'state/.step-000000006.tmp/state.safetensors'}: File too large; "
        "make room, and the same command goes on; the checkpoint of step 3 is kept"
    )
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["step-000000003"]
    go(tmp_path / "other", log_every=100)
    assert go(tmp_path, log_every=100)[1:] == whole[1:]


def test_a_disk_without_room_for_a_third_checkpoint_loses_the_oldest_first(tmp_path, monkeypatch):
    """Two are kept where they fit; the newest is never given up for the next."""
    seen = []
    monkeypatch.setattr(
        "saereg.trainers.runs.checkpoints.shutil.disk_usage", lambda path: type("Usage", (), {"free": 1})
    )
    monkeypatch.setattr("saereg.trainers.runs.loop.check_room", lambda *words: None)
    write = write_state

    def watched(place, tree):
        seen.append([step for step, _ in checkpoints.steps(place.parent)])
        write(place, tree)

    monkeypatch.setattr("saereg.trainers.runs.checkpoints.write_state", watched)
    go(tmp_path)
    assert seen == [[], [3], [6], [9]]


def test_room_is_asked_for_before_the_first_step(tmp_path, monkeypatch):
    """Two checkpoints of weights and two moments of each."""
    monkeypatch.setattr("saereg.trainers.runs.disk.shutil.disk_usage", lambda path: type("Usage", (), {"free": 300}))
    with pytest.raises(UsageError) as caught:
        go(tmp_path, source=None)
    weights = 4 * 4 * 4 + TinyMember().generator.get_state().numel()
    assert str(caught.value) == (
        f"2 checkpoints need {bytes_label(6 * weights)}, and 300 B are free at {tmp_path / 'state'}; make room"
    )


def test_a_place_that_cannot_be_written_is_found_before_the_first_step(tmp_path):
    """A file stands where a folder is needed; the first batch is never read."""
    (tmp_path / "state").write_text("")
    with pytest.raises(OSError, match="state"):
        go(tmp_path, source=None)
    with pytest.raises(OSError, match="sys"):
        check_writable(type(tmp_path)("/sys/kernel"))


def test_a_second_process_is_refused_and_a_killed_one_holds_nothing(tmp_path):
    """The lock is on the folder itself, so none is left behind."""
    with alone([tmp_path / "a", tmp_path / "b"]):
        with pytest.raises(UsageError) as caught, alone([tmp_path / "b"]):
            pass
        assert str(caught.value) == (
            f"another process trains in {tmp_path / 'b'}; wait until it ends, or give this run another id"
        )
    with alone([tmp_path / "b"]):
        assert list((tmp_path / "b").iterdir()) == []


def test_leftovers_of_killed_writes_go_and_those_of_others_stay(tmp_path):
    """The name says which process was writing; one that runs may still be."""
    import os
    import subprocess
    import sys

    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    names = (f".w.safetensors.{gone.pid}.tmp", f".w.safetensors.{os.getpid()}.tmp", ".w.new.tmp", "w.safetensors")
    for name in names:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 KB"), (25_769_803_776, "25.8 GB")]
)
def test_bytes_in_words(count, words):
    """As disks count them."""
    assert bytes_label(count) == words


def test_room_is_not_asked_for_in_vain(tmp_path):
    """This disk has one byte."""
    check_room(tmp_path, 1, "one byte")


def test_divergence_is_no_reason_to_lose_what_was_kept(tmp_path):
    """The same command meets the same loss again, from the checkpoint that is kept."""
    for _ in range(2):
        with pytest.raises(DivergedError, match="the checkpoint of step 6 is kept"):
            go(tmp_path, TinyMember(loss_at=(8, float("nan"))))
    with pytest.raises(WeightsError, match="no whole state"):
        read_state(tmp_path)
