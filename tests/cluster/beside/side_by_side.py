"""python -m tests.cluster.beside.side_by_side: the same rows through `ray.data` and through Kitestring, on the same three hosts into the same Milvus.

Once undisturbed and once with a host that loses its power when a third is done. The model takes its time by waiting, as one on a GPU of each
host would, so that the processors that all machines share decide as little as possible.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.builders.held_model import make_held_model
from tests.builders.kitestring import write_rows
from tests.cluster.cluster import Cluster, cluster
from tests.cluster.faults import heal
from tests.cluster.machines import HOSTS, HUB, unavailable

ROWS, FILES, SHARD_ROWS = 9_000, 9, 250
ROW_SECONDS = 0.01
LOST_AT = 1 / 3
LIMIT = 600.0
LOOK = """
import json, sys
from pymilvus import MilvusClient
client = MilvusClient(sys.argv[1])
client.load_collection(sys.argv[2])
counted = client.query(sys.argv[2], filter="", output_fields=["count(*)"], consistency_level="Strong")[0]["count(*)"]
found = client.query(sys.argv[2], filter="", output_fields=["id"], limit=16_384, consistency_level="Strong")
print(json.dumps([counted, len({row["id"] for row in found})]))
"""
CONTENDERS = ("Ray Data, insert", "Ray Data, upsert", "Kitestring")
Figures = Mapping[str, float]


class SideBySide:
    """A corpus in S3, and who embeds it."""

    def __init__(self, made: Cluster, rows: int) -> None:
        self.cluster, self.rows = made, rows
        self.model = make_held_model(made.folder / "model", made.folder / "held", rows=0, row_seconds=ROW_SECONDS)
        (made.folder / "held").unlink()
        for number in range(FILES):
            write_rows(
                made.folder / "rows" / f"{number}.parquet", number * rows // FILES, (number + 1) * rows // FILES, row_group=SHARD_ROWS
            )
        made.make_buckets()
        upload = "import boto3, sys; [boto3.client('s3').upload_file(p, 'lake', 'rows/' + p.split('/')[-1]) for p in sys.argv[1:]]"
        made.python(HUB, upload, *sorted((made.folder / "rows").iterdir()))

    def play(self, contender: str, *, lost: bool) -> Figures:
        """One run: its seconds, its exit code, and rows of the collection that are missing or doubled."""
        name = re.sub(r"\W+", "_", f"{contender} {'lost' if lost else 'whole'}").lower()
        begin, third = (self._kitestring, self._sealed) if contender == "Kitestring" else (self._ray_data, self._written)
        done = third(name) if lost else None
        began = time.monotonic()
        run = begin(name)
        if done:
            self.cluster.wait(lambda: run.poll() is not None or done(), "a third is done", LIMIT)
            assert run.poll() is None, f"{name} ended with {run.returncode} before a host was lost"
            self.cluster.net.lose(HOSTS[-1])
        self.cluster.wait(lambda: run.poll() is not None, f"the end of {name}", LIMIT)
        seconds = time.monotonic() - began
        counted, distinct = self._look(name)
        if lost:
            heal(self.cluster, broken=(HOSTS[-1],))
        return {"seconds": seconds, "exit code": run.returncode, "missing": self.rows - distinct, "doubled": counted - distinct}

    def _ray_data(self, name: str) -> subprocess.Popen[Any]:
        arguments = ("lake/rows", self.model, self.cluster.milvus.uri, name, name.split("_")[2])
        with self.cluster.net.log(HUB, name) as log:
            command = [sys.executable, "-m", "tests.cluster.beside.ray_data", *arguments]
            return self.cluster.net.start(HUB, command, self.cluster.env, stdout=log, stderr=log)

    def _kitestring(self, name: str) -> subprocess.Popen[Any]:
        settings = {"compute__engine": {"kind": "ray", "hosts": len(HOSTS)}, "encoder__trust_remote_code": True}
        return self.cluster.begin("run", self.cluster.job_in_s3(name, self.model, shard_rows=SHARD_ROWS, **settings), log=name)

    def _sealed(self, name: str) -> Callable[[], bool]:
        """Whether shards of a third of the rows are sealed: S3's log says so, and asking for it costs nobody anything."""
        log = self.cluster.net.folder / f"{HUB}-s3.log"
        seal = re.compile(rf'"PUT /vectors/{name}/\S*seal\.json\S* \S+ 200')
        return lambda: SHARD_ROWS * len(seal.findall(log.read_text(errors="replace"))) > LOST_AT * self.rows

    def _written(self, name: str) -> Callable[[], bool]:
        """Whether a third of the rows is in the collection. Who watches is there before anything begins."""
        command = [sys.executable, "-m", "tests.cluster.beside.rows_reached", self.cluster.milvus.uri, name, int(LOST_AT * self.rows) + 1]
        with self.cluster.net.log(HUB, f"{name}-watched") as log:  # of a collection that is not loaded yet the client says much
            watching = self.cluster.net.start(HUB, command, self.cluster.env, stdout=log, stderr=log)
        return lambda: watching.poll() == 0

    def _look(self, name: str) -> tuple[int, int]:
        """Rows that the server counts, and different keys."""
        counted, distinct = json.loads(self.cluster.python(HUB, LOOK, self.cluster.milvus.uri, name).splitlines()[-1])
        return counted, distinct


def table(found: Mapping[tuple[str, bool], Figures], ideal: Callable[[bool], float]) -> str:
    lines = ["| | hosts | seconds | over the ideal | exit code | rows missing | rows doubled |", "|---|---|---|---|---|---|---|"]
    for (contender, lost), figures in found.items():
        numbers = [f"{figures['seconds']:.0f}", f"{figures['seconds'] - ideal(lost):.0f}"]
        numbers += [f"{figures[name]:,}" for name in ("exit code", "missing", "doubled")]
        lines.append(f"| {contender} | {'one of three lost' if lost else 'three'} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.beside.beside.side_by_side", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="at most 16,000")
    parser.add_argument("--only", action="append", choices=CONTENDERS, help="may be given again; left out: all")
    parser.add_argument("--lost", action="store_true", help="with a host that is lost alone; left out: undisturbed as well")
    options = parser.parse_args()
    if reason := unavailable():
        sys.stderr.write(f"{reason}\n")
        return 2
    folder, found = Path(tempfile.mkdtemp(prefix="side-by-side-")), dict[tuple[str, bool], Figures]()
    with cluster(folder, HOSTS) as made:
        played = SideBySide(made, options.rows)
        for lost in (True,) if options.lost else (False, True):
            for contender in options.only or CONTENDERS:
                found[contender, lost] = played.play(contender, lost=lost)
                print(
                    f"{time.strftime('%H:%M:%S')} {contender}, {'one lost' if lost else 'undisturbed'}: {found[contender, lost]}",
                    flush=True,
                )
        work = options.rows * ROW_SECONDS / len(HOSTS)
        lost_work = work * (LOST_AT + (1 - LOST_AT) * len(HOSTS) / (len(HOSTS) - 1))
        print("\n" + table(found, lambda lost: lost_work if lost else work), flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
