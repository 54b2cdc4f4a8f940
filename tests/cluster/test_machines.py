"""Machines made of namespaces are machines: what is of one is not of another, and all of it ends."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.machines import HOSTS, HUB, Machines, unavailable

ASK = "import socket, sys; print(socket.create_connection((sys.argv[1], 7000), 2).recv(100).decode())"
ANSWER = """
import socket
with socket.create_server(("", 7000)) as server:
    while True:
        server.accept()[0].sendall(socket.gethostname().encode())
"""


def test_a_machine_has_its_own_name_processes_and_folders(net: Machines, tmp_path: Path) -> None:
    for number, name in enumerate([HUB, *HOSTS]):
        assert net.run(name, ["hostname"]).strip() == name
        net.run(name, ["bash", "-c", f"echo {name} | tee /tmp/own /dev/shm/own /run/lock/own > {tmp_path}/{name}"])
        assert len(list(tmp_path.glob("h*"))) == number + 1
    for name in HOSTS:
        assert net.run(name, ["cat", "/tmp/own", "/dev/shm/own", "/run/lock/own"]).split() == [name] * 3
    slept = net.start("h1", ["sleep", "1000"])
    try:
        deadline = time.monotonic() + 10
        while not net.processes("h1") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list(net.processes("h1").values()) == ["sleep 1000"]
        assert net.processes("h2") == {}
    finally:
        net.lose("h1")
    assert slept.wait(10) != 0


def test_the_first_process_of_a_machine_collects_orphans(net: Machines) -> None:
    net.run("h1", ["bash", "-c", "(sleep 0.1 &) ; exit 0"])
    time.sleep(0.5)
    assert "defunct" not in net.run("h1", ["ps", "-ef"])


def test_machines_reach_each_other_until_a_cable_is_cut_or_the_power_is(net: Machines) -> None:
    def answers(asked: str, of: str) -> bool:
        try:
            return net.run(of, [sys.executable, "-c", ASK, asked]).strip() == asked
        except AssertionError:
            return False

    for name in (HUB, "h1"):
        net.start(name, [sys.executable, "-c", ANSWER], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not (answers(HUB, "h1") and answers("h1", "h2")):
        assert time.monotonic() < deadline
    net.cut("h1")
    assert not answers("h1", "h2")
    assert not answers(HUB, "h1")
    assert answers(HUB, "h2")
    net.mend("h1")
    assert answers("h1", "h2")
    net.lose("h1")
    assert not answers("h1", "h2")
    net.back("h1")
    assert net.processes("h1") == {}
    assert not answers("h1", "h2")
    assert answers(HUB, "h1")


def test_machines_end_with_the_process_that_made_them(tmp_path: Path) -> None:
    if reason := unavailable():
        pytest.skip(reason)
    make = (
        "import sys, time, pathlib as p; from tests.cluster.machines import Machines; net = Machines(p.Path(sys.argv[1]), hosts=['h1'])\n"
    )
    make += "net.up(); net.start('h1', ['sleep', '1000']); print(net._mark, net._inits['h1'][1], flush=True); time.sleep(1000)"
    with subprocess.Popen([sys.executable, "-c", make, tmp_path], stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout
        mark, init = maker.stdout.readline().split()
        maker.kill()
    try:
        deadline = time.monotonic() + 20
        while Path(f"/proc/{init}").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        for space in ("hub", "h1", "net"):
            subprocess.run(["ip", "netns", "del", f"{mark}-{space}"], check=False)
            shutil.rmtree(f"/etc/netns/{mark}-{space}", ignore_errors=True)


def test_nothing_stays_of_machines_that_came_up_in_part(net: Machines, tmp_path: Path) -> None:
    other = Machines(tmp_path, kept=[tmp_path / "not there" / "at all"])
    other._mark += "x"
    with pytest.raises(AssertionError, match="hub did not boot"):
        other.up()
    other.down()
    spaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert other._mark not in spaces
    assert net._mark in spaces
