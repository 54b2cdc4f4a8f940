"""A real Prometheus scrapes a real run: the dashboard's queries and the alert rules find what they ask for."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.builders.kitestring import Kitestring, make_job, write_rows
from tests.builders.readme import ROOT
from tests.servers.milvus import free_ports
from tests.servers.prometheus import missing, prometheus

MONITORING = ROOT / "infra" / "monitoring"
NOT_HERE = ("gpu", "host_rows", "retries")  # on a machine without a GPU, a cluster or a fault

pytestmark = [pytest.mark.server, pytest.mark.timeout(600), pytest.mark.skipif(bool(missing()), reason=missing())]


@pytest.mark.usefixtures("no_process_left")
def test_a_run_is_seen_to_its_last_row_and_every_panel_has_figures(kitestring: Kitestring, tiny_model: Path) -> None:
    (port,) = free_ports(1)
    write_rows(kitestring.folder / "rows" / "a.parquet", 0, 300)
    settings = {"metrics": {"exporter": "prometheus", "port": port, "linger_seconds": 60}, "shards": {"rows": 100}}
    job = kitestring.job(make_job(kitestring.folder, tiny_model, **settings))
    with prometheus(f"127.0.0.1:{port}") as server:
        ended = kitestring("run", job)
        assert ended.code == 0, ended.err
        last = {fate: server.value(f'last_over_time(kitestring_rows_total{{fate="{fate}"}}[10m])') for fate in ("encoded", "loaded")}
        assert last == {"encoded": 300, "loaded": 300}
        silent = [
            query for query in _queries() if not server.ask(_of_the_last_minutes(query)) and not any(name in query for name in NOT_HERE)
        ]
        assert not silent


def _queries() -> list[str]:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def _of_the_last_minutes(query: str) -> str:
    """As a panel asks it over some minutes: the run is over by now."""
    filled = query.replace("$corpus", ".*").replace("$__rate_interval", "1s")
    return f"last_over_time(({filled})[10m:250ms])"


def test_the_alert_rules_are_rules_and_fire_when_they_should(tmp_path: Path) -> None:
    rules = MONITORING / "alerts.yaml"
    checked = subprocess.run(["promtool", "check", "rules", str(rules)], capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "5 rules found" in checked.stdout
    of = 'corpus="birds", flow="embed-corpus"'

    def case(alert: str, minute: int, *series: tuple[str, str], fires: bool) -> dict[str, object]:
        asked = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) or vector(0)'
        test = {"expr": asked, "eval_time": f"{minute}m", "exp_samples": [{"labels": "{}", "value": int(fires)}]}
        return {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series],
            "promql_expr_test": [test],
        }

    rows = f'kitestring_rows_total{{{of}, fate="%s"}}'
    stands = [(rows % "encoded", "500+0x60"), (rows % "loaded", "500+0x60"), (f"kitestring_run_duration_seconds{{{of}}}", "0+60x60")]
    goes = [(rows % "encoded", "500+10x60"), *stands[1:]]
    bad = [(rows % "encoded", "100+100x60"), (rows % "quarantined", "2+2x60")]
    good = [bad[0], (rows % "quarantined", "1+0x60")]
    tests = [
        case("KitestringRunFailed", 5, (f"kitestring_run_failed{{{of}}}", "0 0 1 1 1 1"), fires=True),
        case("KitestringRunFailed", 5, (f"kitestring_run_failed{{{of}}}", "0+0x10"), fires=False),
        case("KitestringStalled", 50, *stands, fires=True),
        case("KitestringStalled", 50, *goes, fires=False),
        case("KitestringQuarantine", 30, *bad, fires=True),
        case("KitestringQuarantine", 30, *good, fires=False),
        case("KitestringRetries", 30, ('kitestring_retries_total{corpus="birds", what="milvus"}', "0+60x60"), fires=True),
        case("KitestringLoadingFallsBehind", 30, (f"kitestring_queue_shards{{{of}}}", "2000+0x60"), fires=True),
    ]
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": [str(rules)], "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
