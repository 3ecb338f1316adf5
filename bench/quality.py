"""How good the skills are on published sets: `python bench/quality.py --data FOLDER [--only NAME …]`.

`FOLDER` holds one folder per set (act-rules, environmental_claims, prompt-injection, stsb, opinosis, climate-fever), as
their publishers lay them out; none of them is part of this project, and nothing is trained on them. A set that is not
there is named and passed over. Each line gives a figure and what it is a figure of.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

Line = tuple[str, str]


def accessibility(data: Path) -> Iterator[Line]:
    """W3C ACT cases: a failing case counts as found, and another as a false alarm, by a finding of the case's rule."""
    from zora_core.skills.accessibility import check_accessibility, rules
    from zora_core.skills.page import Page

    folder = data / "act-rules"
    act_rules = {rule.id: set(rule.act) for rule in rules().values()}
    hosted = "/WAI/content-assets/wcag-act-rules/"
    found: Counter[tuple[bool, bool]] = Counter()
    for case in json.loads((folder / "testcases.json").read_text())["testcases"]:
        html = (folder / case["relativePath"]).read_text(errors="replace")
        linked = [m for m in re.findall(rf'href="({hosted}[^"]+\.css)"', html) if (folder / m[len(hosted) :]).exists()]
        sheets = {name: (folder / name[len(hosted) :]).read_text() for name in linked}
        report = check_accessibility(Page(ref=case["relativePath"], html=html, stylesheets=sheets), "AAA")
        hit = any(case["ruleId"] in act_rules[finding.rule_id] for finding in report.findings)
        found[case["expected"] == "failed", hit] += 1
    failing, others = found[True, True] + found[True, False], found[False, True] + found[False, False]
    yield "failing cases found", f"{found[True, True]} of {failing} ({found[True, True] / failing:.1%})"
    yield "false alarms", f"{found[False, True]} of {others} ({found[False, True] / others:.1%})"


def claims(data: Path) -> Iterator[Line]:
    """Environmental Claims (ACL 2023): F1 of the positive class."""
    from zora_core.skills.claims.detection import detect
    from zora_core.skills.claims.parsing import parse_facts

    for part in ("train", "dev"):
        rows = [json.loads(line) for line in (data / "environmental_claims" / f"{part}.jsonl").open()]
        said = [detect(row["text"], parse_facts(row["text"])).is_claim for row in rows]
        right = sum(bool(row["label"]) and yes for row, yes in zip(rows, said, strict=True))
        precision, recall = right / sum(said), right / sum(bool(row["label"]) for row in rows)
        f1 = 2 * precision * recall / (precision + recall)
        yield f"{part}, {len(rows)} sentences", f"F1 {f1:.3f} (precision {precision:.3f}, recall {recall:.3f})"


def injections(data: Path) -> Iterator[Line]:
    """Giskard's attacks found, and sentences of other sets that are taken for one."""
    from zora_core.skills.risk.injection import find_injections

    with (data / "prompt-injection" / "giskard_prompt_injections.csv").open() as file:
        attacks = [row["prompt"] for row in csv.DictReader(file)]
    yield "attacks found", f"{sum(bool(find_injections(text)) for text in attacks)} of {len(attacks)}"
    harmless = [text for topic, _ in _opinosis(data) for text in topic]
    yield "false alarms", f"{sum(bool(find_injections(text)) for text in harmless)} of {len(harmless):,}"


def similarity(data: Path) -> Iterator[Line]:
    """STS Benchmark, dev: Spearman correlation of our similarity with the judges'."""
    from zora_core.skills.text.similarity import similarity as compare

    rows = [line.rstrip("\n").split("\t") for line in (data / "stsb" / "sts-dev.csv").open(encoding="utf-8")]
    judged = _ranks([float(row[4]) for row in rows])
    ours = _ranks([compare(row[5], row[6]) for row in rows])
    yield f"{len(rows):,} pairs", f"Spearman {statistics.correlation(judged, ours):.3f}"


def summaries(data: Path) -> Iterator[Line]:
    """Opinosis: ROUGE-1 F of two chosen sentences against each human summary, stemmed, averaged over topics."""
    from zora_core.skills.text.summaries import choose

    scores = []
    for topic, gold in _opinosis(data):
        chosen = _stemmed(" ".join(topic[choice.index] for choice in choose(topic, 2)))
        scores.append(statistics.fmean(_rouge(chosen, _stemmed(text)) for text in gold))
    yield f"{len(scores)} topics", f"ROUGE-1 F {statistics.fmean(scores):.3f}"


def retrieval(data: Path) -> Iterator[Line]:
    """Climate-FEVER: for each claim, its evidence sentences among those of all claims (nDCG@10 and hit@10)."""
    from zora_core.skills.research.retrieval import Index, ranking

    rows = [json.loads(line) for line in (data / "climate-fever" / "climate-fever.jsonl").open()]
    texts = {e["evidence_id"]: e["evidence"] for row in rows for e in row["evidences"]}
    places = {identifier: place for place, identifier in enumerate(texts)}
    index = Index(list(texts.values()))
    gains, hits = [], []
    for row in rows:
        right = {places[e["evidence_id"]] for e in row["evidences"]}
        top = ranking(index.search(row["claim"]))[:10]
        best = sum(1 / math.log2(place + 2) for place in range(min(10, len(right))))
        gains.append(sum(1 / math.log2(place + 2) for place, text in enumerate(top) if text in right) / best)
        hits.append(any(text in right for text in top))
    yield (
        f"{len(rows):,} claims, {len(texts):,} sentences",
        (f"nDCG@10 {statistics.fmean(gains):.3f}, hit@10 {statistics.fmean(hits):.3f}"),
    )


def _opinosis(data: Path) -> Iterator[tuple[list[str], list[str]]]:
    """Each topic's sentences and its human summaries."""
    folder = data / "opinosis"
    for file in sorted((folder / "topics").iterdir()):
        gold = folder / "summaries-gold" / file.name.removesuffix(".txt.data")
        sentences = [line.strip() for line in file.read_text("latin-1").splitlines() if line.strip()]
        yield sentences, [summary.read_text("latin-1") for summary in sorted(gold.glob("*"))]


def _stemmed(text: str) -> Counter[str]:
    import snowballstemmer

    return Counter(snowballstemmer.stemmer("porter").stemWords(re.findall(r"[a-z0-9]+", text.lower())))


def _rouge(ours: Counter[str], gold: Counter[str]) -> float:
    shared = (ours & gold).total()
    return 2 * shared / (ours.total() + gold.total()) if shared else 0.0


def _ranks(values: list[float]) -> list[float]:
    """Ranks from 1, ties sharing their mean."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for place in order[start:end]:
            ranks[place] = (start + end + 1) / 2
        start = end
    return ranks


MEASURES: dict[str, Callable[[Path], Iterator[Line]]] = {
    measure.__name__: measure for measure in (accessibility, claims, injections, similarity, summaries, retrieval)
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), default=list(MEASURES))
    arguments = parser.parse_args()
    for name in arguments.only:
        try:
            for what, figure in MEASURES[name](arguments.data):
                print(f"{name:14} {what:38} {figure}", flush=True)
        except FileNotFoundError as error:
            print(f"{name:14} not measured: {error.filename} is missing")
