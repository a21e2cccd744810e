"""The server answers this machine, for reading, about what it shows, and nothing else."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from frames_to_look_at import flat, made_up, write

from bragg_numba.cli.bragg import main
from bragg_numba.errors import InputError
from bragg_numba.view.gallery import Gallery
from bragg_numba.view.scene import open_scene
from bragg_numba.view.server import HOST, Server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = write(tmp_path_factory.mktemp("served") / "<f>.h5", made_up((40, 50)), flat(50, 40))
    with open_scene(path) as scene, Server(Gallery(scene)) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def ask(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection(HOST, server.server_port, timeout=30)
    connection.putrequest(method, path, skip_host=True)
    for name, value in {"Host": f"127.0.0.1:{server.server_port}", **headers}.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer, data


def test_it_serves_the_page_and_its_data(server):
    answer, page = ask(server, "/")
    assert answer.status == 200 and b"&lt;f&gt;.h5" in page and b"<f>" not in page
    for name in re.findall(r'(?:src|href)="([\w.]+)"', page.decode()):
        answer, data = ask(server, f"/{name}")
        assert answer.status == 200 and data, name
        assert answer.getheader("Content-Type").startswith("text/")
    answer, data = ask(server, "/data/scene")
    assert answer.getheader("Content-Type") == "application/json" and json.loads(data)["title"] == "<f>.h5"
    answer, data = ask(server, "/data/tile/0/frame/0/0/0")
    assert answer.status == 200 and len(data) == int(answer.getheader("Content-Length"))
    assert "default-src 'none'" in answer.getheader("Content-Security-Policy")
    assert answer.getheader("X-Content-Type-Options") == "nosniff"


def test_it_listens_on_this_machine_alone(server):
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "host",
    [None, "", "evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}",
     "user@127.0.0.1:{port}", "127.0.0.2:{port}", "0.0.0.0:{port}"],
)  # fmt: skip
def test_a_request_for_another_host_is_refused(server, host):
    host = host if host is None else host.format(port=server.server_port)
    for path in ("/", "/data/scene"):
        answer, data = ask(server, path, Host=host)
        assert answer.status == 403 and b"50" not in data


def test_localhost_is_this_host_too(server):
    assert ask(server, "/data/scene", Host=f"localhost:{server.server_port}")[0].status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/static/../viewer.js",
        "/viewer.html",
        "/__init__.py",
        "//etc/passwd",
        "/data/../viewer.js",
        "/data/",
        "/data/frame/1",
        "/data/scene/",
        "/data/tile/0/frame/0/0/1",
        "/data/tile/0/%66rame/0/0/0",
        "http://evil.example/",
        "*",
    ],
)
def test_there_is_nothing_else(server, path):
    answer, data = ask(server, path)
    assert answer.status == 404 and data == b"there is nothing of this name"


def test_it_is_for_reading_alone(server):
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        assert ask(server, "/", method)[0].status == 501
    answer, data = ask(server, "/", "HEAD")
    assert answer.status == 200 and data == b"" and int(answer.getheader("Content-Length")) > 1000


def test_what_cannot_be_read_is_said_and_others_go_on(server, monkeypatch):
    def refuse(*_):
        raise InputError("s_data_000001.h5", "does not exist")

    monkeypatch.setattr(type(server.gallery.scene), "facts", refuse)
    answer, data = ask(server, "/data/frame/0")
    assert answer.status == 500 and data == b"s_data_000001.h5 does not exist"
    assert ask(server, "/data/scene")[0].status == 200


def test_many_may_ask_at_once(server):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(ask(server, "/data/numbers/0/frame")[0].status)) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 12


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_ends_it_cleanly(tmp_path):
    path = write(tmp_path / "f.h5", np.ones((4, 5), dtype=np.float32), flat(5, 4))
    words = [sys.executable, "-m", "bragg_numba.cli.bragg", "view", path, "--serve"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        port = int(re.search(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())[1])
        with socket.create_connection((HOST, port), timeout=30) as still_open:  # which does not keep it
            still_open.sendall(b"GET /data/scene HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % port)
            assert still_open.recv(12) == b"HTTP/1.1 200"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, err, out) == (0, "", "stopped\n")
    assert os.listdir(tmp_path) == ["f.h5"]


def test_a_port_that_is_taken_is_said(server, tmp_path, capsys):
    path = write(tmp_path / "f.h5", np.ones((4, 5), dtype=np.float32), flat(5, 4))
    assert main(["view", path, "--serve", "--port", str(server.server_port)]) == 2
    assert "--port cannot be listened on" in capsys.readouterr().err
    for port in ("-1", "65536", "x"):
        assert main(["view", path, "--serve", "--port", port]) == 2
        assert capsys.readouterr().err.startswith("error: --port must")
