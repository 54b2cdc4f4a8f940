"""The way to a server: private authorities, client certificates, proxies, and what is said where nothing answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError

from tasks.adapters.milvus.transport.certificates import Certificates, read_certificates
from tasks.adapters.milvus.transport.diagnosis import why_silent
from tasks.adapters.milvus.transport.proxy import EXEMPT_VARIABLES, PROXY_VARIABLES, proxy_of
from tasks.adapters.targets.registry import no_secrets, target_for
from tasks.domain.errors import BadInput
from tasks.domain.job.target import MilvusSettings
from tasks.domain.job.tls import Tls
from tests.builders.collections import part_of, spec_of
from tests.builders.temporary_files import swept_files
from tests.servers.milvus import MilvusProcess
from tests.servers.milvus_proxy import milvus_proxy
from tests.servers.tls import Authority, make_authority, tls_before


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True)
def no_proxy_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXY_VARIABLES, *EXEMPT_VARIABLES):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def listening() -> Iterator[int]:
    """A server that takes connections and hangs up on what is said."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connection.recv(100)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        yield server.getsockname()[1]
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)


def certificates(ca: Path | None = None, pair: tuple[Path, Path] | None = None) -> Certificates:
    texts = {"ca": ca, **({"cert": pair[0], "key": pair[1]} if pair else {})}
    return Certificates(**{name: path.read_text() for name, path in texts.items() if path})


@pytest.mark.server
@pytest.mark.parametrize("mutual", [False, True])
def test_a_server_behind_tls_is_used_with_its_authority_and_where_it_asks_a_client_certificate(
    milvus_server: MilvusProcess, authority: Authority, tmp_path: Path, mutual: bool
) -> None:
    pair = {"cert": str(authority.client[0]), "key_block": "my-key"} if mutual else {}
    name = f"tls_{mutual}".lower()

    def secret(setting: str, block: str) -> str:
        assert (setting, block) == ("target.tls.key_block", "my-key")
        return authority.client[1].read_text()

    with tls_before(urlsplit(milvus_server.uri).port or 0, authority, mutual=mutual) as at:
        tls: Any = {"ca": str(authority.ca), **pair}
        target = target_for(MilvusSettings(uri=f"grpcs://{at}", tls=tls), token=None, secret=secret)
        made = target.collection(name)
        made.ensure(spec_of(name))
        made.upsert(part_of(["a", "b"]))
        assert made.count() == 2
        assert target.drop(name)
        target.close()

        for wrong, words in (({}, ["is not trusted (self", "target.tls.ca"]), ({"ca": tls["ca"]}, ["target.tls.cert and target.tls.key"])):
            if mutual or not wrong:
                with pytest.raises(BadInput) as refused:
                    target_for(MilvusSettings(uri=f"https://{at}", tls=wrong or None), token=None).reach("x")
                assert all(word in str(refused.value) for word in (f"Milvus at https://{at} does not answer", *words)), refused.value


def test_why_a_server_does_not_answer_over_tls(authority: Authority, tmp_path: Path) -> None:
    other = make_authority(tmp_path / "other", "milvus.example.org")
    with listening() as port:
        assert "does not use TLS: write http://" in why_silent(f"https://127.0.0.1:{port}", Certificates())
        with tls_before(port, authority) as at:
            assert "uses TLS: write https://" in why_silent(f"http://{at}", Certificates())
            assert "is not trusted" in why_silent(f"https://{at}", certificates(other.ca))
            assert why_silent(f"https://{at}", certificates(authority.ca)) == "start it or correct target.uri"
        with tls_before(port, authority, protocols=("http/1.1",)) as at:
            assert "does not support HTTP/2" in why_silent(f"https://{at}", certificates(authority.ca))
        with tls_before(port, other) as at:
            assert "its certificate is not for '127.0.0.1'" in why_silent(f"https://{at}", certificates(other.ca))
        with tls_before(port, authority, mutual=True) as at:
            assert "target.tls.cert" in why_silent(f"https://{at}", certificates(authority.ca, other.client))
    assert why_silent(f"http://127.0.0.1:{port}", Certificates()) == "start it or correct target.uri"
    assert "there is no host 'milvus.invalid'" in why_silent("http://milvus.invalid:19530", Certificates())


def test_certificates_that_cannot_be_used_are_told_by_their_setting(authority: Authority, tmp_path: Path) -> None:
    other = make_authority(tmp_path / "other")
    (tmp_path / "empty.pem").touch()
    for tls, words in (
        (Tls(ca=str(tmp_path / "none.pem")), "target.tls.ca: '.*none.pem' cannot be read: No such file"),
        (Tls(ca=str(tmp_path / "empty.pem")), "target.tls.ca: '.*empty.pem' is not PEM"),
        (Tls(ca_block="mine"), "target.tls.ca_block: there is no Secret block 'mine'"),
        (Tls(cert=str(authority.client[0]), key=str(other.client[1])), "target.tls cannot be used .*the key that belongs to cert"),
    ):
        with pytest.raises(BadInput, match=words):
            read_certificates(tls, no_secrets)


def test_settings_of_tls_that_say_nothing_are_refused() -> None:
    for settings, words in (
        ({"tls": {"cert": "a.pem"}}, "cert also needs key"),
        ({"tls": {"ca": "a.pem", "ca_block": "a"}}, "ca and ca_block are alternatives"),
        ({"uri": "http://host:19530", "tls": {"ca": "a.pem"}}, "is not a TLS address"),
    ):
        with pytest.raises(ValidationError, match=words):
            MilvusSettings.model_validate({"uri": "https://host:19530", **settings})


def test_a_proxy_of_the_environment_is_for_servers_elsewhere_that_are_not_exempt(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy_of("milvus.example.org") is None
    monkeypatch.setenv("http_proxy", "http://user:secret@proxy.example.org:3128")
    monkeypatch.setenv("no_proxy", "internal.example.org, .local,10.0.0.0/8")
    assert proxy_of("milvus.example.org") == ("http_proxy", "http://proxy.example.org:3128")
    for host in ("localhost", "127.0.0.1", "::1", "internal.example.org", "milvus.internal.example.org", "db.local", "10.1.2.3"):
        assert proxy_of(host) is None, host


def test_a_server_of_this_machine_is_called_straight_whatever_proxy_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with milvus_proxy() as server:  # nothing behind it answers; that it was asked is enough
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        target = target_for(MilvusSettings(uri=server.uri), token=None)
        with suppress(Exception):
            target.reach("x")
        assert server.seen
        target.close()


def test_a_proxy_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://user:secret@127.0.0.1:1")
    with pytest.raises(BadInput, match=r"through the proxy http://127\.0\.0\.1:1 \(https_proxy\).* add 'milvus.invalid' to no_proxy"):
        target_for(MilvusSettings(uri="http://milvus.invalid:19530"), token=None).reach("x")


def test_a_key_is_written_where_the_next_run_sweeps_and_nothing_is_written_without_one() -> None:
    with swept_files() as kinds, Certificates(key="-----BEGIN").files() as files:
        assert Path(files["key"]).stat().st_mode & 0o077 == 0
    assert kinds == {"kitestring"}
    assert not Path(files["key"]).exists()
    with swept_files() as kinds, Certificates().files() as files:
        assert set(files) == {"ca"}
    assert not kinds
