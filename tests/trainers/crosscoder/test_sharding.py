"""Two processes that share the latents train what one trains, stop together, and end together."""

import copy
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from saereg.errors import InterruptedRunError, UsageError
from saereg.registry.build import build
from saereg.registry.validators.options import Options
from saereg.registry.validators.runner import validate
from saereg.trainers.crosscoder.group import ALONE, share_of
from saereg.trainers.crosscoder.member import CrosscoderMember
from saereg.trainers.crosscoder.model import Crosscoder
from saereg.trainers.crosscoder.resharding import own_states, state_folder
from saereg.trainers.crosscoder.sharding import NAMES, Ranks, is_one_of_several, own_device
from saereg.trainers.crosscoder.train import train_crosscoder
from saereg.trainers.runs.checkpoints import PARTS, newest_of_all, save
from saereg.trainers.runs.interrupts import SIGNALS, Interrupts
from saereg.trainers.runs.state import read_state, tensors_of
from saereg.trainers.runs.together import OneProcess
from tests.trainers.crosscoder.conftest import VARIANTS
from tests.trainers.crosscoder.ranks_child import INFO

CHILD = Path(__file__).with_name("ranks_child.py")

STEPS, STOP = 50, 20
LONG = {"tokens": 32 * STEPS, "checkpoint_every": 0, "checkpoint_minutes": 0}

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHILD.parents[3])}


def plain(config) -> dict:
    return config.model_dump(mode="json")


@pytest.fixture(scope="module")
def configs(on_layers, on_steps):
    """id → configuration: every architecture, with a number of latents that two do not share evenly."""
    small = {"d_sae": 49, "dead_after_steps": 10}
    made = {}
    for name in VARIANTS:
        run = {**LONG, "snapshots": [960]} if name == "topk" else LONG
        crosscoder, artifact = {**small, "dtype": "float64"}, {"id": f"cross/{name}", "variant": name}
        made[f"cross/{name}"] = on_layers(name, crosscoder=crosscoder, optimization=run, artifact=artifact)
    artifact = {"id": "f32/batchtopk", "variant": "float32"}
    made["f32/batchtopk"] = on_layers("batchtopk", crosscoder=small, optimization=LONG, artifact=artifact)
    made["W_U/topk"] = on_steps("topk", crosscoder=small, optimization=LONG, artifact={"id": "W_U/topk"})
    return made


@pytest.fixture(scope="module")
def trained(configs, tmp_path_factory):
    """(folder of what one and two processes trained, what the two noted, what they printed).

    `one` is of this process. Of the two: `two` never stops, `again` is stopped and gone on with, `more` was begun by
    one process, `less` is to be gone on with by one.
    """
    root = tmp_path_factory.mktemp("sharded")
    for config in configs.values():
        train_crosscoder(config, root / "one", root / "one-checkpoints", info=INFO)
    begun = configs["cross/jumprelu"]
    with pytest.raises(InterruptedRunError):
        train_crosscoder(begun, root / "more", root / "more-checkpoints", stop_at(STOP), info=INFO)
    jobs = [{"config": plain(config), "to": "two"} for config in configs.values()]
    stopped = {"config": plain(configs["cross/batchtopk"]), "to": "again"}
    jobs += [{**stopped, "stop": STOP, "rank": 1}, stopped]
    jobs += [{"config": plain(begun), "to": "more"}]
    jobs += [{"config": plain(configs["cross/gated"]), "to": "less", "stop": STOP}]
    poisoned = {**plain(begun), "crosscoder": {"architecture": "standard", "d_sae": 9, "l1_coefficient": 0.1}}
    (root / "plan.json").write_text(json.dumps({"jobs": jobs, "poisoned": poisoned}))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        str(free_port()),
    ]
    done = subprocess.run(
        [*command, str(CHILD), str(root / "plan.json"), str(root)],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    train_crosscoder(configs["cross/gated"], root / "less", root / "less-checkpoints", info=INFO)
    return root, [json.loads((root / f"noted-{rank}.json").read_text()) for rank in range(2)], done.stdout


def stop_at(step: int):
    def progress(seen) -> None:
        if seen.tokens == (step - 1) * 32:  # when it is told of a step, that one is over
            os.kill(os.getpid(), signal.SIGINT)

    return progress


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "training.log").read_text().splitlines()]


def farthest(left: Path, right: Path) -> float:
    a, b = weights(left), weights(right)
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def ends(config) -> list[str]:
    name = config.artifact.id
    return [f"{name}/960", f"{name}/final"] if config.optimization.snapshots else [name]


@pytest.mark.slow
def test_after_50_steps_two_processes_have_the_weights_of_one(trained, configs):
    root, _, _ = trained
    for config in configs.values():
        bound = 1e-9 if config.crosscoder.dtype == "float64" else 1e-5
        for name in ends(config):
            assert farthest(root / "one" / name, root / "two" / name) < bound, name


@pytest.mark.slow
def test_the_release_of_two_processes_has_the_files_of_one_and_is_clean(trained, configs, trajectory):
    root, _, _ = trained
    assert files(root / "one") == files(root / "two")
    assert files(root / "one-checkpoints") == files(root / "two-checkpoints")  # no state is left
    for path in (path for path in files(root / "one") if path.endswith("cfg.json")):
        assert (root / "one" / path).read_bytes() == (root / "two" / path).read_bytes()
    for config in configs.values():
        one, two = (log(root / folder / ends(config)[-1]) for folder in ("one", "two"))
        assert [line["step"] for line in one] == [line["step"] for line in two]
        assert one[-1]["loss"] == pytest.approx(two[-1]["loss"], rel=1e-5)
        assert one[-1]["l0"] == pytest.approx(two[-1]["l0"], rel=1e-5)
    options, found = Options(models={"tiny-trajectory": str(trajectory[0])}), {}
    for folder in ("one", "two"):
        build(root / folder, models=options.models)
        found[folder] = validate(root / folder, "data", options=options).findings
    assert not [finding for finding in found["two"] if finding.severity == "error"]
    assert [(one.code, one.message) for one in found["one"]] == [(one.code, one.message) for one in found["two"]]


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_after_one_step_and_they_go_on_to_the_same_bytes(trained):
    root, noted, _ = trained
    name = "cross/batchtopk"
    assert noted[0]["stopped"][name] == noted[1]["stopped"][name] == [f"step-{STOP:09d}"]
    for file in ("weights.safetensors", "training.log", "golden.safetensors"):
        assert (root / "again" / name / file).read_bytes() == (root / "two" / name / file).read_bytes()


@pytest.mark.slow
def test_a_run_goes_on_in_another_number_of_processes(trained):
    root, _, _ = trained
    for folder, name in (("more", "cross/jumprelu"), ("less", "cross/gated")):
        assert farthest(root / folder / name, root / "one" / name) < 1e-9
        assert [line["step"] for line in log(root / folder / name)] == [
            line["step"] for line in log(root / "one" / name)
        ]
        assert not (root / f"{folder}-checkpoints" / name / "state").exists()


class Fixed(OneProcess):
    """One of several processes that are looked at one after another."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


@pytest.mark.parametrize(("before", "now"), [(3, 2), (2, 5), (4, 1)])
def test_checkpoints_are_cut_anew_for_any_number_of_processes(before, now, on_layers, tmp_path):
    config = on_layers("jumprelu", crosscoder={"d_sae": 11})
    whole = member(config, ALONE)
    whole.step({key: torch.randn(8, 16) for key in "ab"})
    parts = {}
    for size in (before, now):
        parts[size] = [member(config, Fixed(rank, size)) for rank in range(size)]
        for part in parts[size]:
            share_state(whole, part)
    for part in parts[before]:
        tree = {
            "step": 7,
            "identity": {},
            "logs": {"x": 9} if part.model.group.rank == 0 else {},
            "members": {"x": part.state()},
        }
        save(state_folder(tmp_path, part.model.group.rank, before), 7, tree)
    for part in reversed(parts[now]):  # the first one removes what was there
        own = own_states(tmp_path, {"x": 11}, part.model.group)
        found = read_state(own / "step-000000007")
        assert found["logs"] == ({"x": 9} if part.model.group.rank == 0 else {})
        expected = dict(tensors_of(part.state()))
        for name, tensor in tensors_of(found["members"]["x"]):
            assert torch.equal(tensor, expected[name]), name
    assert {path.parent for path in tmp_path.rglob("step-*")} == {
        state_folder(tmp_path, rank, now) for rank in range(now)
    }


def member(config, group) -> CrosscoderMember:
    return CrosscoderMember(config, Crosscoder(config.crosscoder, (2, 16), 0, group=group), ("a", "b"))


def share_state(whole: CrosscoderMember, part: CrosscoderMember) -> None:
    """Give a process its part of the state of one that holds all latents."""
    mine = part.model.latents
    state = copy.deepcopy(whole.state())
    names = [*(name for name in state["model"]["weights"] if name != "log_threshold"), "log_threshold"]

    def cut(tensor: torch.Tensor, name: str) -> torch.Tensor:
        axis = {"W_enc": 2, "b_dec": None}.get(name, 0)
        return tensor if axis is None else tensor.detach().narrow(axis, mine.start, len(mine)).clone()

    state["model"]["weights"] = {name: cut(tensor, name) for name, tensor in state["model"]["weights"].items()}
    for number, moments in state["optimizer"]["state"].items():
        for moment in ("exp_avg", "exp_avg_sq"):
            moments[moment] = cut(moments[moment], names[number])
    state["since_fired"] = cut(state["since_fired"], "b_enc")
    part.load(state)


def test_where_a_process_of_before_has_no_checkpoint_nothing_is_begun_anew(tmp_path):
    (state_folder(tmp_path, 0, 2) / "step-000000007").mkdir(parents=True)
    with pytest.raises(UsageError, match="rank-1-of-2 has no checkpoint of a step"):
        own_states(tmp_path, {}, ALONE)


class Other(OneProcess):
    """Two processes, of which the other one has its newest checkpoint at a step."""

    def __init__(self, step: int) -> None:
        self._step, self._asked = step, 0

    def largest(self, *numbers: int) -> tuple[int, ...]:
        self._asked += 1
        other = {1: -self._step, 2: self._step}.get(self._asked, numbers[0])
        return (max(numbers[0], other),)


def test_processes_go_on_from_the_newest_checkpoint_of_all(tmp_path):
    for step in (10, 20):
        save(tmp_path, step, {part: {} for part in PARTS} | {"step": step})
    assert newest_of_all(tmp_path, {}, {}, Other(10)).step == 10  # it was killed before it had saved the next one
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000010"]
    save(tmp_path, 20, {part: {} for part in PARTS} | {"step": 20})
    with pytest.raises(UsageError, match="not every process has its checkpoints"):
        newest_of_all(tmp_path, {}, {}, Other(0))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
def test_parts_of_uneven_length_are_joined_ranked_and_added_up(trained):
    _, noted, _ = trained
    expected = {
        "joined": [[0, 10, 11, 12], [3, 13, 14, 15]],
        "joined rows": [[7, 7]],
        "top": [[5, 2], [3, -torch.inf]],
        "top of fewer": [0],
        "sum of a view": [[0, 9], [3, 12], [6, 15]],
        "sum of a scalar": 5,
        "largest": [1, 0],
    }
    assert noted[0]["exchanges"] == noted[1]["exchanges"] == expected


@pytest.mark.slow
def test_a_number_that_is_none_in_one_process_is_none_in_all(trained):
    _, noted, _ = trained
    assert noted[0]["poisoned"] is noted[1]["poisoned"] is True


@pytest.mark.slow
def test_only_the_first_process_prints(trained):
    assert trained[2] == "printed by 0\n"


@pytest.fixture
def launch(on_layers, tmp_path):
    """Return a function that starts two processes of one long run, and waits until both have saved."""
    long = {"tokens": 3_200_000, "checkpoint_every": 10}
    config = on_layers("topk", crosscoder={"d_sae": 49}, optimization=long)
    (tmp_path / "run.yaml").write_text(json.dumps(plain(config)))
    words = ["train", "crosscoder", "run.yaml", "--release", "release", "--license", "mit"]
    started = []

    def start() -> list[subprocess.Popen]:
        variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        pair = [
            subprocess.Popen(
                [sys.executable, "-m", "saereg", *words],
                cwd=tmp_path, env={**ENVIRONMENT, **variables, "RANK": str(rank)}, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            for rank in range(2)
        ]  # fmt: skip
        started.extend(pair)
        while len({path.parent for path in tmp_path.rglob("rank-*/step-*")}) < 2:
            assert all(one.poll() is None for one in pair), [one.communicate() for one in pair]
            time.sleep(0.05)
        return pair

    yield start
    for one in started:
        one.kill()
        one.communicate()


def said(pair: list[subprocess.Popen]) -> list[str]:
    """Return the lines that both processes said, in any order."""
    return [line for one in pair for text in one.communicate(timeout=60) for line in text.splitlines()]


@pytest.mark.slow
def test_when_one_process_dies_the_other_ends_with_one_line(launch):
    pair = launch()
    pair[1].kill()
    (line,) = said(pair)
    assert line.startswith("error: another process of this run has ended, or cannot be reached (")
    assert line.endswith("the same command goes on from the last checkpoint of all of them")
    assert pair[0].returncode == 4


def test_the_second_signal_of_one_of_several_processes_does_not_cut_off_its_checkpoint():
    before = signal.getsignal(signal.SIGINT)
    try:
        with Interrupts(several=True) as interrupts:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.caught == signal.SIGINT
    finally:
        for number in SIGNALS:
            signal.signal(number, before if number == signal.SIGINT else signal.SIG_DFL)


def test_latents_are_shared_as_evenly_as_they_can_be():
    for total, size in ((49, 2), (3, 5), (32768, 8)):
        shares = [share_of(total, rank, size) for rank in range(size)]
        assert [latent for share in shares for latent in share] == list(range(total))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(("wanted", "problem"), [("cuda:0", "one device, for 2 processes"), ("mps", "one device")])
def test_processes_do_not_share_one_device(wanted, problem):
    with pytest.raises(UsageError, match=problem):
        own_device(wanted, Ranks(0, 2, None))


def test_a_process_that_cannot_find_the_others_does_not_train_alone(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    assert not is_one_of_several()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(UsageError, match="MASTER_ADDR and MASTER_PORT not: start it with torchrun"):
        is_one_of_several()
