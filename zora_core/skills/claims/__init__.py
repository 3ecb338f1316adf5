"""Environmental claims in English text: found, parsed, held against EU, UK and US rules and against given sources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from zora_core.models import Finding, Quote, Severity
from zora_core.skills.claims.detection import Detection, detect, features, sentences_of
from zora_core.skills.claims.evidence import Evidence, Match, Passage, SourceText
from zora_core.skills.claims.parsing import Facts, parse_facts
from zora_core.skills.claims.rules import JURISDICTIONS, VERDICTS, Rule, claim_features, rules_for
from zora_core.skills.text import language
from zora_core.skills.text.visible_text import visible
from zora_core.skills.text.words import Sentence
from zora_core.wording import count

__all__ = ["JURISDICTIONS", "VERDICTS", "Claim", "ClaimsReport", "SourceText", "Unjudged", "check_text"]

# Within English text a sentence counts as one of another language with this much that speaks for it.
_FOREIGN = 1.8
# Words of these groups show that a sentence too short to tell its language is English, and that it was judged.
_ENVIRONMENTAL = {"merit", "technology", "topic"}
# Sentences of a language that are quoted as not judged.
_QUOTED = 10

# The kind of a claim is the first of these features that it shows.
_KINDS = (
    "neutrality",
    "future",
    "label_claim",
    "offset",
    "recycled_content",
    "recyclable",
    "compostable",
    "degradable",
    "free_of",
    "non_toxic",
    "renewable_energy",
    "renewable_material",
    "source_reduction",
    "reduction",
    "comparison",
    "generic",
)

_SUBSTANTIATION = {
    "EU": "Directive 2005/29/EC, Article 12",
    "UK": "CMA Green Claims Code, principle 6 (substantiated)",
    "US": "16 CFR 260.2",
}


@dataclass(frozen=True)
class Claim:
    """An environmental claim: the sentence `text` at character `start` of the checked text, as it stands there.

    `kind` names what it asserts (`neutrality`, `future`, `reduction`, `generic`, …, else `other`). `verdict` is that of
    the rules on its wording: `prohibited` (a practice that the law lists as always unfair), `misleading` (open to a
    false reading, or contradicted by a source), `needs_evidence` (could be true, is not shown), `supported` (the
    given sources agree and no rule objects). `remedies` say what would cure its findings; `confidence` that it is a
    claim at all lies in 0..1.
    """

    text: str
    start: int
    kind: str
    verdict: str
    confidence: float
    facts: Facts
    evidence: str
    findings: list[Finding]
    remedies: list[str]


@dataclass(frozen=True)
class Unjudged:
    """The sentences in one language that were not judged, because only English is.

    `language` is its name; `terms` are the environmental words among them that a person should look at; `quotes` show
    where: the sentences with such a word, or else the first one.
    """

    language: str
    sentences: int
    terms: tuple[str, ...]
    quotes: tuple[Quote, ...]


@dataclass(frozen=True)
class ClaimsReport:
    """The claims of a text in their order, and all findings, most severe first.

    `sentences` is how many there are, `not_judged` those of them that are not English or in no language that was told.
    """

    claims: list[Claim]
    findings: list[Finding]
    sentences: int
    not_judged: list[Unjudged]


def check_text(
    text: str,
    *,
    source: str,
    jurisdictions: Sequence[str] = JURISDICTIONS,
    sources: Sequence[SourceText] = (),
    assume_claims: bool = False,
) -> ClaimsReport:
    """Find the environmental claims in `text` and judge each.

    `source` names the text in evidence. `sources` are texts that may support the claims. `assume_claims` is for text
    that was handed in as a claim: every sentence about the environment counts, whatever its score. Raises `ValueError`
    for an unknown jurisdiction.
    """
    rules = rules_for(jurisdictions)
    evidence = Evidence(sources)
    seen = visible(text)
    sentences = sentences_of(seen.text)
    languages = _languages(sentences)
    claims = []
    foreign: dict[str | None, list[Sentence]] = {}
    for index, (sentence, code) in enumerate(zip(sentences, languages, strict=True)):
        start, end = seen.original(sentence.start, sentence.start + len(sentence.text))
        original = Sentence(text[start:end], start)
        if code not in (language.ENGLISH, None):
            foreign.setdefault(code, []).append(original)
            continue
        facts = parse_facts(sentence.text)
        detection = detect(sentence.text, facts)
        if detection.is_claim or (assume_claims and _speaks_of_environment(sentence.text, detection)):
            beside = " ".join(s.text for s in sentences[max(0, index - 1) : index + 2] if s is not sentence)
            claims.append(_judge(sentence, original, facts, detection, beside, rules, evidence, source, jurisdictions))
        elif code is None and not detection.words.keys() & _ENVIRONMENTAL:
            foreign.setdefault(None, []).append(original)
    not_judged = [_unjudged(code, group, source) for code, group in foreign.items()]
    findings = [finding for claim in claims for finding in claim.findings] + [_not_judged(part) for part in not_judged]
    findings.sort(key=lambda f: (-f.severity.rank, -f.confidence))
    return ClaimsReport(claims, findings, len(sentences), not_judged)


def _languages(sentences: Sequence[Sentence]) -> list[str | None]:
    """The language of each sentence; one that is too short to tell has that of the text."""
    told = [language.language(sentence.text) for sentence in sentences]
    points: Counter[str] = Counter()
    for sentence, code in zip(sentences, told, strict=True):
        if code is not None:
            points[code] += len(sentence.text)
    main = points.most_common(1)[0][0] if points else None
    found = []
    for sentence, code in zip(sentences, told, strict=True):
        if code is None:
            code = main or (language.ENGLISH if _leans_to_english(sentence.text) else None)
        elif main == language.ENGLISH != code and language.scores(sentence.text).get(code, _FOREIGN) < _FOREIGN:
            code = language.ENGLISH
        found.append(code)
    return found


def _leans_to_english(text: str) -> bool:
    """Whether more speaks for English than for any other language, though not much."""
    points = language.scores(text)
    english = points.pop(language.ENGLISH, 0.0)
    return english > max(points.values(), default=0.0)


def _unjudged(code: str | None, group: Sequence[Sentence], source: str) -> Unjudged:
    flagged = [(sentence, terms) for sentence in group if (terms := _terms(sentence.text, code))]
    shown = [sentence for sentence, _ in flagged] or list(group[:1])
    return Unjudged(
        language=language.name_of(code),
        sentences=len(group),
        terms=tuple(dict.fromkeys(term for _, terms in flagged for term in terms)),
        quotes=tuple(Quote(source=source, text=s.text, start=s.start) for s in shown[:_QUOTED]),
    )


def _terms(text: str, code: str | None) -> list[str]:
    """The environmental terms of the language in `text`, and English ones, which other languages use, too."""
    return list(dict.fromkeys([*language.claim_terms(text, code), *language.claim_terms(text, language.ENGLISH)]))


def _not_judged(part: Unjudged) -> Finding:
    look = "Have a person who reads it check whether it makes an environmental claim."
    if part.terms:
        look = f"It has environmental terms ({', '.join(part.terms[:10])}): have a person who reads it check them."
    return Finding(
        rule_id="language.not-judged",
        title=f"Text in {part.language}: not judged",
        detail=f"{count(part.sentences, 'sentence')}. The rules are applied to English text only. {look}",
        severity=Severity.MEDIUM if part.terms else Severity.INFO,
        confidence=0.9,
        evidence=list(part.quotes),
    )


def _speaks_of_environment(sentence: str, detection: Detection) -> bool:
    return detection.score > 0 or bool(features(sentence) & set(_KINDS) - {"future", "reduction", "comparison"})


def _judge(
    sentence: Sentence,
    original: Sentence,
    facts: Facts,
    detection: Detection,
    beside: str,
    rules: Sequence[Rule],
    evidence: Evidence,
    source: str,
    jurisdictions: Sequence[str],
) -> Claim:
    shown = claim_features(sentence.text, facts, beside)
    match = evidence.match(sentence.text, facts)
    quote = Quote(source=source, text=original.text, start=original.start)
    broken = [rule for rule in rules if rule.applies(shown) and not rule.cured_by & match.shown]
    findings = [_rule_finding(rule, quote) for rule in broken]
    findings += _evidence_findings(match, quote, jurisdictions)
    verdicts = {rule.verdict for rule in broken}
    if match.contradicting or match.narrower:
        verdicts.add("misleading")
    if match.status != "agrees":
        verdicts.add("needs_evidence")
    findings.sort(key=lambda f: (-f.severity.rank, -f.confidence))
    return Claim(
        text=original.text,
        start=original.start,
        kind=next((kind for kind in _KINDS if kind in shown), "other"),
        verdict=min(verdicts, key=VERDICTS.index, default="supported"),
        confidence=detection.confidence,
        facts=facts,
        evidence=match.status,
        findings=findings,
        remedies=list(dict.fromkeys(rule.remedy for rule in broken)),
    )


def _rule_finding(rule: Rule, quote: Quote) -> Finding:
    return Finding(
        rule_id=rule.id,
        title=rule.title,
        detail=f"{rule.detail} Provision: {rule.provision}. What to do: {rule.remedy}",
        severity=rule.severity,
        confidence=rule.confidence,
        evidence=[quote],
    )


def _evidence_findings(match: Match, quote: Quote, jurisdictions: Sequence[str]) -> list[Finding]:
    provisions = "; ".join(_SUBSTANTIATION[j] for j in dict.fromkeys(jurisdictions))
    findings = [
        Finding(
            rule_id="claims.evidence.contradicted",
            title="A given source contradicts the claim",
            detail=f"{passage.reason}. Provision: {provisions}.",
            severity=Severity.CRITICAL,
            confidence=0.8,
            evidence=[quote, _quoted(passage)],
        )
        for passage in match.contradicting
    ]
    findings += [
        Finding(
            rule_id="claims.evidence.narrower",
            title="The source supports less than the claim says",
            detail=f"{passage.reason}. Provision: {provisions}.",
            severity=Severity.HIGH,
            confidence=0.65,
            evidence=[quote, _quoted(passage)],
        )
        for passage in match.narrower
    ]
    if match.status in ("silent", "none", "partly") and (match.missing or match.status != "partly"):
        what = ", ".join(match.missing) or "the statement"
        given = "no source was given" if match.status == "none" else f"the given sources do not show {what}"
        findings.append(
            Finding(
                rule_id="claims.evidence.missing",
                title="The claim is not substantiated here",
                detail=f"{given[0].upper()}{given[1:]}. Provision: {provisions}.",
                severity=Severity.LOW if match.status == "none" else Severity.MEDIUM,
                confidence=0.9 if match.status == "none" else 0.7,
                evidence=[quote, *(_quoted(p) for p in match.agreeing[:2])],
            )
        )
    return findings


def _quoted(passage: Passage) -> Quote:
    return Quote(source=passage.ref, text=passage.text, start=passage.start)
