"""How long the Space takes: from its start to the first answer, and for one text while another visitor runs a batch.

The app runs in a process of its own with the checkpoints that come with it, and is asked over HTTP by gradio_client in
another; so a figure holds the queue, the network stack and the client too. Prints a table and writes
benchmarks/space_latency.json with the machine's load.

Run: python benchmarks/space_latency.py [questions]
"""

from __future__ import annotations

import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from gradio_client import Client, handle_file

ROOT = Path(__file__).resolve().parent.parent
TEXT = "동해의 해 뜨는 모습이 아름다운 바닷가다. 고운 모래밭이 이어지고 물이 얕아 아이와 물놀이하기 좋다."
BATCH_ROWS = 5000


def ask(client: Client, questions: int) -> list[float]:
    """Seconds of each of so many questions, one after the other."""
    seconds = []
    for number in range(questions):
        started = time.perf_counter()
        client.predict(f"{TEXT} {number}", None, "tour-tiny", api_name="/classify")
        seconds.append(time.perf_counter() - started)
    return seconds


def milliseconds(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "p50": round(1000 * statistics.median(ordered), 1),
        "p95": round(1000 * ordered[max(0, int(len(ordered) * 0.95) - 1)], 1),
        "most": round(1000 * ordered[-1], 1),
        "questions": len(ordered),
    }


def main() -> None:
    questions = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        table = folder / "places.csv"
        table.write_text("overview\n" + "".join(f"{TEXT} {n}\n" for n in range(BATCH_ROWS)), encoding="utf-8")
        environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        started = time.perf_counter()
        app = subprocess.Popen(
            [sys.executable, str(ROOT / "spaces" / "studio" / "app.py")],
            cwd=folder, env=environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            for line in app.stdout:
                if line.startswith("ready:"):
                    break
            ready = time.perf_counter() - started
            client, other = (Client(f"http://127.0.0.1:{port}/", verbose=False) for _ in range(2))
            first = ask(client, 1)[0]
            alone = ask(client, questions)
            batches = [0.0]
            running = threading.Event()
            running.set()

            def keep_busy() -> None:
                while running.is_set():
                    begun = time.perf_counter()
                    other.predict(handle_file(table), "tour-tiny", [], api_name="/batch")
                    batches.append(BATCH_ROWS / (time.perf_counter() - begun))

            busy = threading.Thread(target=keep_busy)
            busy.start()
            time.sleep(1)
            beside = ask(client, questions)
            running.clear()
            busy.join()
        finally:
            app.terminate()
            app.wait(20)
    results = {
        "start_to_ready_seconds": round(ready, 1),
        "first_answer_milliseconds": round(1000 * first, 1),
        "alone_milliseconds": milliseconds(alone),
        "beside_a_batch_milliseconds": milliseconds(beside),
        "batch_rows_per_second": round(max(batches), 1),
        "checkpoint": "tour-tiny",
        "machine": {"cpu_cores": os.cpu_count(), "load_before": round(load, 2), "python": platform.python_version()},
    }
    (Path(__file__).parent / "space_latency.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print("| figure | value |\n|---|---|")
    for name in ("start_to_ready_seconds", "first_answer_milliseconds", "batch_rows_per_second"):
        print(f"| {name.replace('_', ' ')} | {results[name]} |")
    for name in ("alone_milliseconds", "beside_a_batch_milliseconds"):
        print(f"| one text {name.replace('_', ' ')}, p50 / p95 | {results[name]['p50']} / {results[name]['p95']} |")


if __name__ == "__main__":
    main()
