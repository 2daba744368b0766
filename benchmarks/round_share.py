"""Share of each round's time that is neither fitting nor forward passes, from the ledger of a finished run.

python benchmarks/round_share.py camvid.a2lc
"""

import sys

from a2lc.project.project import Project


def main():
    with Project(sys.argv[1]) as project:
        rounds = {}
        for stage in project.ledger.stages():
            rounds.setdefault(stage.round, []).append(stage)
    print("| round | whole s | fitting s | forward s | the rest s | share |\n|---|---|---|---|---|---|")
    for number, stages in rounds.items():
        whole = sum(stage.seconds for stage in stages)
        fitting = sum(stage.seconds for stage in stages if stage.stage == "train")
        forward = sum(stage.details.get("forward_seconds") or 0.0 for stage in stages)
        rest = whole - fitting - forward
        print(f"| {number} | {whole:.1f} | {fitting:.1f} | {forward:.1f} | {rest:.1f} | {rest / whole:.3f} |")


if __name__ == "__main__":
    main()
