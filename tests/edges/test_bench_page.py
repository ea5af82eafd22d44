"""The benchmark's report: in a real browser it draws every plot, without a network and without a complaint."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy", reason="the benchmarks need numpy: pip install shmring[bench]")
pytest.importorskip("plotly", reason="the report needs plotly: pip install shmring[bench]")

from bench import histogram, page, panels, summary
from bench.shapes import KIB, MIB, Case

PATIENCE_MS = 250_000  # of a machine that does much else
PATHS = "all => all.map(each => each.getAttribute('d') || '')"
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
MACHINE = {
    "identity": "0123456789ab",
    "cpu": "Test <CPU>",
    "cores": 2,
    "pinned_to": [0, 1],
    "kernel": "Linux 6.18",
    "machine": "x86_64",
    "virtual": True,
    "memory_gib": 8.0,
    "load_before": 0.1,
    "python": "3.12.1",
    "implementation": "CPython",
    "libc": "glibc 2.36",
    "compiler": "cc 12",
    "shmring": "0.1.0",
    "cython": "3",
    "numpy": "2",
    "posix_ipc": "1",
    "packages": {"pyzmq": "27"},
    "commit": "",
}


def entry(case: Case, contender: str, label: str, ns: float, **more: Any) -> dict[str, Any]:
    run = {"round": 0, "floor_ns": 100.0}
    if case.shape.startswith(("pingpong", "wakeup", "aio")):
        recorded = histogram.of([ns * (1 + i / 50) for i in range(1000)])
        run |= histogram.quantiles(recorded)
        more["hdr"] = histogram.encoded(recorded)
    elif case.shape == "idle":
        run["cpu_percent"] = ns / 1e3
    else:
        run |= {"ns_per_message": ns, "cpu_ns_per_message": 2 * ns}
    return {
        "id": case.id,
        "contender": contender,
        "label": label,
        "case": vars(case),
        "status": "ok",
        "reason": "",
        "runs": [run],
        **more,
    }


def document(**more: Any) -> dict[str, Any]:
    """Results as a run leaves them: three contenders, one of which is not installed."""
    cases = [Case("oneway", size) for size in (64, 16 * KIB, MIB)] + [
        Case("pingpong-spin", 64),
        Case("pingpong-park", 64),
        Case("mpmc", 64, producers=2, members=2),
        Case("idle", 64, count=1),
        Case("object", 96),
    ]
    entries = [
        entry(case, name, label, base + case.size / speed)
        for case in cases
        for name, label, base, speed in (
            ("native", "native (C)", 20, 10),
            ("shmring", "shmring", 50, 9),
            ("pyzmq", "</script>", 900, 2),
        )
    ]
    entries.append(entry(cases[0], "zenoh", "zenoh", 1, status="missing", reason="needs pip install eclipse-zenoh", runs=[]))
    return {
        "schema": 2,
        "started": "2026-01-02T03:04:05Z",
        "quick": True,
        "rounds": 1,
        "seconds_per_run": 0.05,
        "machine": MACHINE,
        "extras": {},
        "entries": entries,
        "took_seconds": 1.0,
        **more,
    }


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium of the system, driven by playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright, to drive a browser")
    found = os.environ.get("SHMRING_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        pytest.skip("no browser: apt install chromium-headless-shell, or name one in SHMRING_BROWSER")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"], timeout=PATIENCE_MS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page.text(summary.Results(document())), encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=["light", "dark"])
def shown(request: pytest.FixtureRequest, browser: Any, file: Path) -> Iterator[Any]:
    """The page when it has drawn, and what it complained about or asked the network for."""
    context = browser.new_context(color_scheme=request.param, viewport={"width": 1400, "height": 1000}, offline=True)
    view = context.new_page()
    view.set_default_timeout(PATIENCE_MS)
    view.complaints = []
    view.on("console", lambda message: view.complaints.append(message.text) if message.type in ("error", "warning") else None)
    view.on("pageerror", lambda error: view.complaints.append(str(error)))
    view.on("request", lambda asked: view.complaints.append(asked.url) if asked.url.startswith("http") else None)
    view.goto(file.as_uri())
    view.wait_for_selector("body[data-drawn]")
    view.scheme = request.param
    yield view
    context.close()


def test_the_report_draws_every_plot_without_a_complaint(shown: Any) -> None:
    wanted = list(panels.panels(summary.Results(document())))
    assert {panel["id"] for panel in wanted} >= {"throughput-messages", "percentiles-pingpong-spin", "cdf-pingpong-park", "cpu"}
    for panel in wanted:
        curves = panel.get("curves") or panel["bars"]
        drawn = ".barlayer .trace" if "bars" in panel else ".scatterlayer .trace"
        assert shown.locator(f"#{panel['id']} {drawn}").count() == len(curves), panel["id"]
        paths = shown.locator(f"#{panel['id']} {drawn} path").evaluate_all(PATHS)
        assert sum(len(path) > 10 for path in paths) >= len(curves), f"{panel['id']} has traces without a line"
    assert not shown.complaints


def test_the_report_can_be_read_in_light_and_in_dark(shown: Any) -> None:
    def brightness(selector: str, what: str) -> float:
        colour = shown.locator(selector).first.evaluate(f"each => getComputedStyle(each)['{what}']")
        red, green, blue = (float(part) for part in colour[colour.index("(") + 1 : colour.index(")")].split(",")[:3])
        return 0.3 * red + 0.59 * green + 0.11 * blue

    def contrast() -> float:
        """Of the word that is the hardest to read."""
        ink = min if shown_dark() else max
        words = [brightness("h1", "color"), brightness(".plot .xtick text", "fill"), brightness("td", "color")]
        return abs(ink(words) - brightness("body", "backgroundColor"))

    def shown_dark() -> bool:
        return brightness("body", "backgroundColor") < 128

    assert shown_dark() is (shown.scheme == "dark") and contrast() > 120
    other = "light" if shown.scheme == "dark" else "dark"
    shown.select_option("#theme", other)  # the reader may differ from the system
    assert shown_dark() is (other == "dark") and contrast() > 120
    assert not shown.complaints


def test_the_report_says_what_machine_it_is_and_who_is_missing(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert "Test &lt;CPU&gt;" in text and "needs pip install eclipse-zenoh" in text
    assert "<!--" not in text.partition("<script")[0]
    assert '"label":"</script>"' not in text


def test_results_of_two_machines_do_not_go_into_one_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bench.__main__ import main

    other = document(machine={**MACHINE, "identity": "ba9876543210", "cpu": "Another CPU"})
    here, there, report = (str(tmp_path / name) for name in ("here.json", "there.json", "report.html"))
    Path(here).write_text(json.dumps(document()))
    Path(there).write_text(json.dumps(other))
    with pytest.raises(SystemExit):
        main(["--from", here, there, "--html", report])
    assert "two machines" in capsys.readouterr().err and not Path(report).exists()
    assert main(["--from", here, here, "--html", report]) == 0
    assert Path(report).exists()


def test_of_two_results_for_the_same_case_the_later_counts() -> None:
    newer = document()
    newer["entries"] = [entry(Case("oneway", 64), "pyzmq", "pyzmq", 7.0)]
    found = summary.Results(summary.merged([document(), newer])).entry("oneway/64", "pyzmq")
    assert found and found["runs"][0]["ns_per_message"] == 7.0


def test_a_histogram_keeps_its_samples_to_three_digits() -> None:
    recorded = histogram.of(range(1000, 11000))
    assert histogram.quantiles(recorded)["p50"] == pytest.approx(6000, rel=0.002)
    assert histogram.quantiles(recorded)["max"] == pytest.approx(10999, rel=0.002)
    twice = histogram.merged([histogram.encoded(recorded)] * 2)
    assert twice.get_total_count() == 20000
    points = histogram.points(histogram.encoded(recorded))
    assert points[0][0] == pytest.approx(1000, rel=0.002) and points[-1][1] == 1.0
    assert points == sorted(points)
