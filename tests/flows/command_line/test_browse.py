"""`kitestring browse` as a command: it says where it is, asks for its token, and ends at once."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import httpx
import pytest

from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import Kitestring, make_job, write_rows


@pytest.mark.server
def test_other_machines_need_the_token_and_ctrl_c_ends_it_at_once(
    tmp_path: Path, tiny_model: Path, kitestring: Kitestring, run_flow: RunFlow
) -> None:
    write_rows(tmp_path / "rows" / "a.parquet", 0, 12)
    document = make_job(tmp_path, tiny_model)
    run_flow(document)
    with kitestring.start("browse", kitestring.job(document), "--host", "0.0.0.0", "--port", "0", "--questions", "q.csv") as process:
        try:
            assert process.stdout is not None
            url = httpx.URL(process.stdout.readline().partition(": ")[2].strip())
            at = f"http://127.0.0.1:{url.port}"
            assert httpx.get(f"{at}/info").status_code == 401
            with httpx.Client(headers={"Authorization": f"Bearer {url.params['token']}"}, timeout=120) as client:
                found = client.post(f"{at}/search", json={"text": "the one", "k": 3})
                assert [len(hit["text"]) > 0 for hit in found.json()["hits"]] == [True] * 3, found.text
                saved = client.post(f"{at}/questions", json={"query": "the one", "relevant": [found.json()["hits"][0]["id"]]})
                assert saved.json()["new"]
            process.send_signal(signal.SIGINT)
            began = time.monotonic()
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, time.monotonic() - began < 30) == (0, True)
    assert url.params["token"] not in said
    assert (kitestring.folder / "q.csv").read_text().splitlines()[0] == "query,id,gain"


def test_a_port_in_use_and_a_host_of_nobody_are_told(tmp_path: Path, tiny_model: Path, kitestring: Kitestring) -> None:
    job = kitestring.job(make_job(tmp_path, tiny_model))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = kitestring.here("browse", job, "--no-open", "--port", port)
    assert (refused.code, f"cannot listen at 127.0.0.1:{port} (Address already in use): use another --port" in refused.err) == (
        2,
        True,
    )
    refused = kitestring.here("browse", job, "--no-open", "--host", "no.such.host.invalid")
    assert (refused.code, "--host 'no.such.host.invalid' is not an address of this machine" in refused.err) == (2, True)
    refused = kitestring.here("browse", job, "--no-open", "--port", "0")
    assert (refused.code, "has no vectors of this encoder: run the job first" in refused.err) == (2, True)
