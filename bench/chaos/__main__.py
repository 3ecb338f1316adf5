"""Break the system on purpose and count what became of every task: `python bench/chaos`.

Bounded: ten minutes. Everything happens on loopback, in clusters and processes of its own. `--write` puts the table
into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import tempfile
import time
from pathlib import Path

from faults import FAULTS, Missing, Outcome

LIMIT_SECONDS = 600.0
REPORT = Path(__file__).parents[2] / "docs" / "reliability.md"
MARK = "<!-- made by make chaos -->"
HEAD = (
    "| fault | how it was made | times | tasks | lost | recorded twice | workers ended | recovery |\n"
    "|---|---|---|---|---|---|---|---|"
)


def _row(name: str, outcome: Outcome | str) -> str:
    how = " ".join((FAULTS[name].__doc__ or "").split())
    if isinstance(outcome, str):
        return f"| {name} | {how} | not run: this machine lacks {outcome} | | | | | |"
    recovery = "none" if outcome.recovery is None else f"{outcome.recovery:.1f} s"
    return (
        f"| {name} | {how} | {outcome.tries} | {outcome.tasks:,} | {outcome.lost} | {outcome.doubled} | "
        f"{outcome.died} | {recovery} |"
    )


async def _all(names: list[str], seed: int, keep: Path) -> tuple[list[str], bool]:
    rows, good = [], True
    ends = time.monotonic() + LIMIT_SECONDS
    for name in names:
        folder = keep / name.replace(" ", "-")
        folder.mkdir(mode=0o755)
        began = time.monotonic()
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + ends - time.monotonic()):
                outcome: Outcome | str = await FAULTS[name](folder, random.Random(seed))
        except Missing as missing:
            outcome = str(missing)
        except TimeoutError:
            raise SystemExit(f"{name}: not done within {LIMIT_SECONDS:.0f} seconds of all faults together") from None
        rows.append(_row(name, outcome))
        if isinstance(outcome, Outcome):
            expected = len(("exit",) * 3) if name == "misbehaving handlers" else 0  # that task's three lost leases
            good = good and not outcome.lost and not outcome.doubled and outcome.recovery is not None
            good = good and outcome.died <= expected + (2 if expected else 0)
        print(f"{rows[-1]}  ({time.monotonic() - began:.0f} s)", flush=True)
    return rows, good


def main() -> None:
    """Run the faults, print a row each, and exit with 1 when something was lost, doubled, or did not recover."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=FAULTS, action="append", help="a fault to run; all unless given")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments (default 1)")
    parser.add_argument("--write", action="store_true", help="write the table into docs/reliability.md")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="zora-chaos-"))
    folder.chmod(0o755)
    try:
        print(HEAD)
        rows, good = asyncio.run(_all(arguments.only or list(FAULTS), arguments.seed, folder))
    finally:
        if arguments.keep:
            print(f"logs: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if arguments.write:
        before, _, rest = REPORT.read_text(encoding="utf-8").partition(MARK)
        _, _, after = rest.partition(MARK)
        REPORT.write_text(f"{before}{MARK}\n" + "\n".join([HEAD, *rows]) + f"\n{MARK}{after}", encoding="utf-8")
    raise SystemExit(not good)


if __name__ == "__main__":
    main()
