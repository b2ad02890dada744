"""The benchmark runs and prints what it promises; the figures themselves are nobody's test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SMALL = "--model-size tiny --streams 1,2 --rounds 1 --new-tokens 4 --prompt-tokens 20 --threads 1"


def test_the_generation_benchmark_prints_one_object() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.generation", *SMALL.split(), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result["engines"]) == {"gpt2bot", "generate"}
    for streams in result["engines"].values():
        assert set(streams) == {"1", "2"}
        for figures in streams.values():
            assert set(figures) == {"decode_tok_s", "ttft_ms", "reply_s"}
            assert all(value > 0 for value in figures.values())
    assert result["loop_stall_ms"] > 0
    assert result["bot_process"]["ready_s"] > 0
