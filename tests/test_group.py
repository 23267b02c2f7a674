"""Processes that work as one: they agree, share what the chief has, and end with the one that ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time

import pytest
from support.on_hosts import addresses, finish

from mizoo._tools import group
from mizoo._tools.workers import Workers, named_workers
from mizoo.errors import UserError

# Joins with its facts, does something, and leaves; a user's mistake is status 2, as of the command line.
_WORKER = """
import json, os, sys, time
from mizoo._tools import group, lines
from mizoo._tools.workers import named_workers
from mizoo.errors import UserError
workers, index, facts, within, does = sys.argv[1:]
if does == "silent":
    lines.BEAT = 1e6
lines.SILENCE = 1.5
lines.BEAT = min(lines.BEAT, 0.2) if does != "silent" else lines.BEAT
group.SILENCE = 1.5
group._GREETING = 3.0
try:
    with group.Group(named_workers(workers, int(index)), float(within)) as joined:
        joined.join(json.loads(facts))
        content, payload = joined.share({"epochs": 3}, b"x" * 3_000_000) if joined.is_chief else joined.share()
        print(content, len(payload), flush=True)
        if does == "fail":
            raise UserError("no pictures")
        if does == "break":
            raise RuntimeError("out of memory")
        if does == "wait":
            time.sleep(60)
        if does == "silent":
            os.kill(os.getpid(), 19)
        joined.leave()
except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
"""


def worker(workers: str, index: int, facts=None, within: float = 20, does: str = "leave") -> subprocess.Popen:
    """The process of one worker."""
    command = [sys.executable, "-c", _WORKER, workers, str(index), json.dumps(facts or {}), str(within), does]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_workers_share_what_the_chief_has_and_leave_together():
    names = addresses(3)
    processes = [worker(names, i, {"recipe": {"seed": 1}}) for i in range(3)]
    said = [each.communicate(timeout=60) for each in processes]
    assert [each.returncode for each in processes] == [0, 0, 0], said
    assert [out for out, _ in said] == ["{'epochs': 3} 3000000\n"] * 3


def test_unequal_facts_are_named_on_every_host():
    names = addresses(2)
    batches = [{"recipe": {"training": {"batch_size": size}}} for size in (16, 32)]
    ended = finish([worker(names, i, facts) for i, facts in enumerate(batches)], 60)
    for status, said in ended:
        assert status == 2 and "`recipe.training.batch_size` is 16 on one and 32 on the other" in said


def test_lists_of_workers_that_differ_are_named_on_every_host():
    first, second, third = addresses(3).split(",")
    ended = finish([worker(f"{first},{second}", 0), worker(f"{first},{second},{third}", 1)], 60)
    assert [status for status, _ in ended] == [2, 2] and all("`workers` is" in said for _, said in ended)


def test_two_workers_of_one_index_are_refused_everywhere():
    names = addresses(3)
    ended = finish([worker(names, i, within=5) for i in (0, 1, 1)], 60)
    assert [status for status, _ in ended] == [2, 2, 2]
    assert any("another process is that already" in said for _, said in ended[1:])


def test_a_worker_that_does_not_start_is_named_in_time():
    names = addresses(3)
    ended = finish([worker(names, i, within=2) for i in (0, 1)], 60)
    assert [status for status, _ in ended] == [2, 2]
    assert all(f"worker 2 ({names.split(',')[2]}) is not there after 2 s" in said for _, said in ended)


def test_a_chief_that_does_not_start_is_named_in_time():
    names = addresses(2)
    ((status, said),) = finish([worker(names, 1, within=2)], 60)
    assert status == 2 and f"worker 0 ({names.split(',')[0]}), the chief, does not answer within 2 s" in said


@pytest.mark.parametrize("taken", [0, 1])
def test_a_port_in_use_is_named_on_every_host(taken):
    names = addresses(2)
    port = int(names.split(",")[taken].rpartition(":")[2])
    with socket.create_server(("", port)):
        ended = finish([worker(names, i, within=8) for i in (0, 1)], 60)
    assert [status for status, _ in ended] == [2, 2]
    by_owner = ended[taken][1]
    assert f"The port {port} of worker {taken}" in by_owner
    assert f"127.0.0.1:{port}" in ended[1 - taken][1]


@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_is_killed_the_others_end_at_once_and_name_it(victim):
    names = addresses(3)
    processes = [worker(names, i, does="wait") for i in range(3)]
    for each in processes:
        each.stdout.readline()
    began = time.monotonic()
    processes[victim].send_signal(signal.SIGKILL)
    others = [each for i, each in enumerate(processes) if i != victim]
    for status, said in finish(others, 30):
        assert status == group.STATUS_LOST
        assert f"worker {victim} ({names.split(',')[victim]}) ended without a word" in said
    assert time.monotonic() - began < 10
    finish([processes[victim]])


def test_one_that_is_silent_is_taken_for_dead():
    names = addresses(2)
    processes = [worker(names, 0, does="wait"), worker(names, 1, does="silent")]
    ((status, said),) = finish(processes[:1], 30)
    processes[1].kill()
    finish(processes[1:])
    assert status == group.STATUS_LOST and "worker 1" in said and "no sign of life" in said


def test_a_mistake_on_one_host_is_told_on_all():
    names = addresses(3)
    ended = finish([worker(names, 0, does="wait"), worker(names, 1, does="fail"), worker(names, 2, does="wait")], 60)
    assert [status for status, _ in ended] == [2, 2, 2]
    assert ended[1][1].strip() == "error: no pictures"
    assert all("worker 1" in said and "ended: no pictures" in said for _, said in (ended[0], ended[2]))


def test_a_defect_on_one_host_ends_all_and_keeps_its_traceback():
    names = addresses(2)
    ended = finish([worker(names, 0, does="wait"), worker(names, 1, does="break")], 60)
    assert [status for status, _ in ended] == [group.STATUS_LOST, 1]
    assert "worker 1" in ended[0][1] and "RuntimeError: out of memory" in ended[0][1] and "Traceback" in ended[1][1]


def test_workers_are_named_by_arguments_or_by_tf_config(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert named_workers(None, None) is None
    assert named_workers("a:1, b:2", 1) == Workers(("a:1", "b:2"), 1)
    assert named_workers(["a:1"], 0) is None
    cluster = {"cluster": {"chief": ["a:1"], "worker": ["b:2", "c:3"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    assert named_workers(None, None) == Workers(("a:1", "b:2", "c:3"), 2)
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"index": 0}}))
    assert named_workers(None, None) is None
    assert Workers(("[::1]:1", "b:2"), 1).address(0) == ("::1", 1)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("a:1,b:2", None), "belong together"),
        (("a:1,b", 0), "Received: 'b'"),
        (("a:1,b:99999", 0), "Received: 'b:99999'"),
        (("a:1,a:1", 0), "names a worker twice"),
        (("a:1,b:2", 2), "of index 0 to 1"),
    ],
)
def test_workers_that_are_none_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        named_workers(*arguments)


@pytest.mark.parametrize("text", ["{", "[]", '{"task": {"index": "x"}}'])
def test_a_tf_config_that_is_not_read_is_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match="TF_CONFIG is JSON"):
        named_workers(None, None)
