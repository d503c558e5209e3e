"""`hwnas report` and `hwnas open`: the same bytes from the same files, clear refusals, a server that hands out the run and nothing else."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_runs import change, made_run

from hwnas.cli.app import run
from hwnas.cli.serving import FolderServer, own_names
from hwnas.errors import HwnasError
from hwnas.pipeline.reporting import names, rewrite
from hwnas.report import writer

FILES = ("report.html", "report.md", "front.csv", "figures/pareto.png", "figures/history.png", "figures/calibration.png")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its report."""
    root = made_run(tmp_path_factory.mktemp("reported") / "first")
    assert run(["report", str(root), "--quiet"]) == 0
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture
def copied(reported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reported, tmp_path / "run"))


# hwnas report RUN


def test_a_report_rewritten_is_the_same_bytes(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(copied)
    for name in FILES:
        (copied / name).unlink()
    assert run(["report", str(copied), "--json"]) == 0
    assert contents(copied) == before
    assert sorted(json.loads(capsys.readouterr().out)["files"]) == sorted(str(copied / name) for name in FILES)


@pytest.mark.slow
def test_the_report_of_a_search_is_rewritten_to_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(finished, tmp_path / "run"))
    assert run(["report", str(root), "--quiet"]) == 0
    assert contents(root) == contents(finished)


def test_a_report_elsewhere_leaves_the_run_alone(copied: Path, tmp_path: Path) -> None:
    before = contents(copied)
    assert run(["report", str(copied), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    assert contents(copied) == before
    assert contents(tmp_path / "out") == {name: before[name] for name in FILES}


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = run(arguments)
    said = capsys.readouterr()
    assert not said.out and "Traceback" not in said.err and "this is a fault of hwnas" not in said.err
    return code, said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "{root}/../firs"], "Did you mean '{root}/../first'"),
        (["report", "{root}/nothing/here"], "no such folder"),
        (["report", "{root}/front.json"], "is a file"),
        (["report", "{root}/students"], "the run is {root}"),
        (["report", "{root}", "{root}/../first"], "same run"),
        (["report", "{root}", "{root}/../secnd"], "no such folder"),
        (["report", "{root}", "--out", "{root}/students"], "holds something else"),
        (["report", "{root}", "--ouT", "x"], "No such option"),
        (["report"], "Missing argument"),
        (["raport", "{root}"], "No such command"),
        (["open", "{root}/../firs"], "Did you mean"),
        (["open", "{root}/students"], "is no run of hwnas"),
        (["open", "{root}", "--port", "70000"], "Invalid value for '--port'"),
        (["open", "{root}", "--port", "http"], "Invalid value for '--port'"),
    ],
)
def test_typing_errors_are_told_and_change_nothing(
    arguments: list[str], message: str, reported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(reported.parent)
    code, said = refused([word.format(root=reported) for word in arguments], capsys)
    assert code == 2
    assert message.format(root=reported) in " ".join(said.split())
    assert contents(reported.parent) == before


def spoil(root: Path, name: str, content: str | None) -> None:
    path = next(root.glob(name))
    if content is None:
        path.unlink()
    else:
        path.write_text(content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("front.json", None, "unfinished.*--resume --out"),
        ("front.json", "{", "front.json"),
        ("front.json", "{}", "at 'profile'"),
        ("trials.jsonl", None, "trials.jsonl: is missing"),
        ("trials.jsonl", '{"n":0}\n', "trials.jsonl, line 1"),
        ("run.yaml", None, "run.yaml: is missing"),
        ("run.yaml", "a: [", "run.yaml"),
        ("students/*/card.json", None, "card.json"),
        ("students/*/portrait.json", "[]", "portrait.json"),
        ("students/*/bench.json", "x", "bench.json"),
    ],
)
def test_a_damaged_run_is_refused_whole(
    name: str, content: str | None, message: str, copied: Path, reported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(copied, name, content)
    before, out = contents(copied), tmp_path / "out"
    for more in ([], ["--out", str(out)], [str(reported), "--out", str(out)]):
        code, said = refused(["report", str(copied), *more], capsys)
        assert code in (1, 2)
        assert re.search(message, said)
        assert contents(copied) == before
        assert not out.exists()


def test_what_is_damaged_inside_a_file_is_refused_before_anything_is_written(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(copied, "students/*/portrait.json", '{"operators": 5}')
    before = contents(copied)
    code, said = refused(["report", str(copied)], capsys)
    assert code == 1 and "is damaged or of another version of hwnas (TypeError" in said
    assert contents(copied) == before


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to every value in nested JSON; of a list, its first."""
    for key, value in content.items() if isinstance(content, dict) else list(enumerate(content))[:1] if isinstance(content, list) else ():
        yield (*path, key)
        yield from places(value, (*path, key))


def put(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of nested JSON with another value at `path`."""
    if not path:
        return value
    changed = content.copy()
    changed[path[0]] = put(content[path[0]], path[1:], value)
    return changed


@pytest.mark.parametrize("name", ["front.json", "students/*/portrait.json", "students/*/bench.json"])
def test_any_damage_is_refused_or_harmless(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every value of a file replaced in turn: a refusal in words, or a report; never a fault. Without pictures and disk, for time."""
    for still in ("history", "calibration"):
        monkeypatch.setattr(writer.stills, still, lambda report: None)
    monkeypatch.setattr(writer.figures, "png", lambda cloud, y_title, heading: b"")
    monkeypatch.setattr("plotly.offline.get_plotlyjs", str)
    monkeypatch.setattr(writer, "put", lambda folder, files: list(files))
    root = made_run(tmp_path / "run", students=1, trials=6, operators=1)
    path = next(root.glob(name))
    whole = json.loads(path.read_text())
    values = (None, "x", -1, [], {"a": 1})
    refusals = 0
    for number, place in enumerate(places(whole)):
        path.write_text(json.dumps(put(whole, place, values[number % len(values)])))
        try:
            rewrite(root)
        except HwnasError:
            refusals += 1
    assert refusals > 2
    path.write_text(json.dumps(whole))
    assert "report.html" in map(str, rewrite(root))


# hwnas report RUN RUN


def test_two_runs_of_different_profiles_stand_apart(reported: Path, copied: Path, tmp_path: Path) -> None:
    change(copied, profile="stm32l4r5")
    out = tmp_path / "out"
    assert run(["report", str(reported), str(copied), "--out", str(out), "--quiet"]) == 0
    assert set(contents(out)) == {"compare.html", "compare.md", "figures/compare-1.png", "figures/compare-2.png"}
    text = (out / "compare.md").read_text()
    assert "different grounds" in text
    assert "## Hypervolume: cortex-m4-192k" in text and "## Hypervolume: stm32l4r5" in text
    before = contents(out)
    assert run(["report", str(reported), str(copied), "--out", str(out), "--quiet"]) == 0
    assert contents(out) == before, "a comparison may be made again in its place, to the same bytes"


def test_runs_of_different_tasks_are_refused(reported: Path, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(copied, task="sleep")
    code, said = refused(["report", str(reported), str(copied), "--out", str(tmp_path / "out")], capsys)
    assert code == 2 and "compare runs of one task" in said and not (tmp_path / "out").exists()


def test_a_comparison_never_lands_on_other_files(reported: Path, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A study of `hwnas compare` has a compare.md of its own."""
    study = tmp_path / "study"
    study.mkdir()
    (study / "compare.md").write_text("of a study")
    for out in (study, copied):
        code, said = refused(["report", str(reported), str(copied), "--out", str(out)], capsys)
        assert code == 2 and "holds something else" in said
    assert (study / "compare.md").read_text() == "of a study"


def test_settings_that_differ_are_told(reported: Path, copied: Path, tmp_path: Path) -> None:
    content = yaml.safe_load((copied / "run.yaml").read_text())
    content["config"]["trials"] = 99
    (copied / "run.yaml").write_text(yaml.safe_dump(content))
    assert run(["report", str(reported), str(copied), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    assert "| trials | 24 | 99 |" in (tmp_path / "out" / "compare.md").read_text()


def test_runs_are_called_what_tells_them_apart() -> None:
    assert names([Path("/a/x"), Path("/b/y")]) == ["x", "y"]
    assert names([Path("/a/x"), Path("/b/x"), Path("/b/y")]) == ["a/x", "b/x", "b/y"]


# hwnas open


@pytest.fixture
def served(copied: Path) -> Iterator[FolderServer]:
    (copied.parent / "secret.txt").write_text("secret")
    (copied / "link.txt").symlink_to(copied.parent / "secret.txt")
    (copied / "inside.txt").symlink_to(copied / "report.md")
    (copied / "linked").symlink_to(copied.parent)
    (copied / ".hidden").write_text("secret")
    os.mkfifo(copied / "pipe")
    with FolderServer(copied, "report.html") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: FolderServer, path: str, method: str = "GET", host: str | None = None) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def test_the_run_is_served(served: FolderServer) -> None:
    for path, name in (("/", "report.html"), ("/report.html?x=/../y", "report.html"), ("/figures/pareto.png", "figures/pareto.png")):
        status, headers, content = ask(served, path)
        assert status == 200 and content == (served.folder / name).read_bytes()
        assert headers["X-Content-Type-Options"] == "nosniff" and "default-src 'none'" in headers["Content-Security-Policy"]
    assert ask(served, "/report.md")[1]["Content-Type"].startswith("text/plain")
    assert ask(served, "/figures/pareto.png")[1]["Content-Type"] == "image/png"
    status, headers, content = ask(served, "/report.md", "HEAD")
    assert status == 200 and content == b"" and int(headers["Content-Length"]) == (served.folder / "report.md").stat().st_size


@pytest.mark.parametrize(
    "path",
    [
        *("/../secret.txt", "/figures/../../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/%2e%2e%2fsecret.txt"),
        *("//secret.txt", "/..\\secret.txt", "/..%5csecret.txt", "/....//secret.txt", "/%252e%252e/secret.txt", "/./../secret.txt"),
        *("/etc/passwd", "//etc/passwd", "file:///etc/passwd", "/report.html/../../secret.txt", "/figures/%00/../../secret.txt", "/%ff"),
        *("/link.txt", "/inside.txt", "/linked/secret.txt", "/linked/run/report.md", "/.hidden", "/pipe"),
        *("/figures", "/figures/", "/students/", "/.", "/./report.html", "/figures//pareto.png", "/no", "/report.html/", "/" + "a" * 5000),
    ],
)
def test_nothing_else_is(path: str, served: FolderServer) -> None:
    status, _, content = ask(served, path)
    assert status == 404
    assert b"secret" not in content and b"href" not in content


def test_other_methods_and_other_names_are_refused(served: FolderServer) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "CONNECT"):
        assert ask(served, "/report.html", method)[0] == 501
    for host in ("evil.example", f"evil.example:{served.server_port}", "127.0.0.1", f"127.0.0.1:{served.server_port + 1}"):
        assert ask(served, "/report.html", host=host)[0] == 403
    assert ask(served, "/report.html", host=f"localhost:{served.server_port}")[0] == 200


def test_the_port_of_http_is_left_out_by_browsers() -> None:
    assert own_names(80) == {"127.0.0.1:80", "localhost:80", "127.0.0.1", "localhost"}
    assert own_names(8080) == {"127.0.0.1:8080", "localhost:8080"}


def test_a_served_page_posts_to_nobody_and_is_framed_by_nobody(served: FolderServer) -> None:
    policy = ask(served, "/")[1]["Content-Security-Policy"]
    assert {"form-action 'none'", "frame-ancestors 'none'", "default-src 'none'"} <= set(policy.split("; "))


def test_the_server_is_bound_to_loopback_only(served: FolderServer) -> None:
    assert served.server_address[0] == "127.0.0.1"
    # The whole of 127/8 is this machine: a server bound to all addresses would answer here too.
    with pytest.raises(OSError), socket.create_connection(("127.0.0.2", served.server_port), timeout=5):
        pass


def test_a_port_that_is_taken_is_told(served: FolderServer, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = refused(["open", str(served.folder), "--port", str(served.server_port), "--no-browser"], capsys)
    assert code == 2 and f"--port {served.server_port}" in said and "leave --port out" in said


def test_a_run_without_a_report_says_how_to_make_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = made_run(tmp_path / "run")
    assert f"`hwnas report {root}`" in refused(["open", str(root)], capsys)[1]


@pytest.mark.parametrize("found", [True, False])
def test_the_browser_is_opened_at_the_address(
    found: bool, reported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or found)

    def interrupted(self: FolderServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FolderServer, "serve_forever", interrupted)
    assert run(["open", str(reported)]) == 0
    said = capsys.readouterr().out
    assert len(opened) == 1 and re.fullmatch(r"http://127\.0\.0\.1:\d+/", opened[0]) and opened[0] in said
    assert ("no browser was found" in said) != found
    assert run(["open", str(reported), "--no-browser"]) == 0 and len(opened) == 1


def test_an_interrupt_ends_it_cleanly(reported: Path) -> None:
    command = [sys.executable, "-m", "hwnas", "open", str(reported), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
            assert found, line
            connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=10)
            connection.request("GET", "/front.csv")
            assert connection.getresponse().read() == (reported / "front.csv").read_bytes()
            process.send_signal(signal.SIGINT)  # while the connection is open
            assert process.wait(timeout=20) == 0
            assert process.stderr.read() == ""
            connection.close()
        finally:
            process.kill()


def test_a_browser_shows_the_served_page_without_complaint(served: FolderServer) -> None:
    """What the page does is allowed by the policy that it is served with, and it asks for nothing else."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or pytest.skip("no chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page()
        said: list[str] = []
        asked: list[str] = []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(served.address)
        tab.wait_for_selector("#pareto .scatterlayer .point", state="attached")
        browser.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [served.address]
