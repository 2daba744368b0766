"""Kill a demo run without warning at random moments, give the same command each time, and compare the ledgers.

python benchmarks/kill_demo.py [KILLS] [IMAGES]
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from a2lc.project.project import Project


def demo(folder, images):
    command = [sys.executable, "-m", "a2lc", "demo", str(folder), "--images", str(images), "--budget", str(images)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)


def ledger(folder):
    with Project(folder / "demo.a2lc") as project:
        queries = {query.query_id: query for query in project.ledger.queries()}
        answers = [
            (queries[answer.query_id].image, queries[answer.query_id].mask_ids, answer.kind, answer.classes)
            for answer, _ in project.ledger.answers(standing=False)
        ]
        rows = project.corrections()
        return answers, list(
            zip(rows.keys.tolist(), rows.old.tolist(), rows.new.tolist(), rows.source.tolist(), strict=True)
        )


def main():
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    images = int(sys.argv[2]) if len(sys.argv) > 2 else 32
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as root:
        whole, broken = Path(root) / "whole", Path(root) / "broken"
        began = time.monotonic()
        assert demo(whole, images).wait() == 0
        seconds = time.monotonic() - began
        print(
            f"unbroken: {seconds:.0f} s, {len(ledger(whole)[0])} answers, {len(ledger(whole)[1])} corrections",
            flush=True,
        )
        done = 0
        for _ in range(kills):
            process = demo(broken, images)
            moment = rng.uniform(0.05, 0.35) * seconds
            try:
                process.wait(timeout=moment)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                done += 1
                print(f"killed after {moment:.1f} s", flush=True)
        assert demo(broken, images).wait() == 0
        same = ledger(whole) == ledger(broken)
        print(f"{done} of {kills} runs killed; ledgers {'equal' if same else 'DIFFER'}")
        sys.exit(not same)


if __name__ == "__main__":
    main()
