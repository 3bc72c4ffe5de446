"""README's tables of speed, from the files that `bench.py --json` and `peers.py --json` write.

    python tests/benchmarks/tables.py bench.json peers.json README.md

replaces the text between `<!-- begin bench -->` and `<!-- end bench -->`, and likewise for `peers`.
"""

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

SHOWN = (64, 1_024, 16_384)  # members
ENSEMBLE = "xorjax, `train_ensemble`, 16,384 members"


def rows(header: str, lines: list[str]) -> str:
    return "\n".join([header, re.sub(r"[^|]+", " --- ", header), *lines])


def median_ratio(fast: list[float], slow: list[float]) -> float:
    """Of rounds measured in turn."""
    return statistics.median(a / b for a, b in zip(fast, slow, strict=True))


def peers_table(report: dict[str, Any]) -> str:
    found = report["net_steps_per_second"]
    ensemble = found[ENSEMBLE]
    return rows(
        "| way | net-steps/s | range | `train_ensemble` is |",
        [
            f"| {n} | {statistics.median(v):.2g} | {min(v):.2g} to {max(v):.2g} "
            f"| {median_ratio(ensemble, v):,.3g}× |"
            for n, v in found.items()
        ],
    )


def machine(report: dict[str, Any]) -> str:
    return f"Measured on {report['hardware']}, Python {report['python']}, JAX {report['jax']}."


def bench_table(report: dict[str, Any]) -> str:
    networks = dict.fromkeys(line["network"] for line in report["lines"])
    cells = {(line["network"], line["members"]): line for line in report["lines"]}
    header = "| network |" + "".join(f" {n:,} members |" for n in SHOWN) + " depth |"

    def cell(line: dict[str, Any]) -> str:
        return f"{line['rates']['lanes']:.2g} ({line['over_plain']:.1f}×)"

    return rows(
        header,
        [
            f"| {network} | {' | '.join(cell(cells[network, n]) for n in SHOWN)} "
            f"| {cells[network, SHOWN[0]]['depth']} |"
            for network in networks
        ],
    )


def put(text: str, name: str, table: str) -> str:
    pattern = f"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)"
    text, n = re.subn(pattern, lambda match: f"{match[1]}{table}\n{match[2]}", text, flags=re.DOTALL)
    if n != 1:
        raise SystemExit(f"README has {n} places for the table {name!r}, not one.")
    return text


def main() -> None:
    bench, peers, readme = map(Path, sys.argv[1:])
    text = readme.read_text(encoding="utf-8")
    text = put(text, "bench", bench_table(json.loads(bench.read_text())))
    report = json.loads(peers.read_text())
    text = put(text, "peers", f"{peers_table(report)}\n\n{machine(report)}")
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
