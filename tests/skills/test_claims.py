"""Claims are found, parsed, judged by the rules that apply, and held against sources."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zora_core.skills.claims import Claim, SourceText, check_text
from zora_core.skills.claims.parsing import parse_facts, split_sentences
from zora_core.skills.claims.rules import JURISDICTIONS, rules_for
from zora_core.skills.page import Page
from zora_core.skills.text.words import sentences

SITE = Path(__file__).parents[2] / "examples" / "site"

REPORT = SourceText(
    "report",
    "In 2023 our scope 1 and 2 emissions fell by 31% compared to 2019. Plastic per box was reduced by 30% between 2019 "
    "and 2023. 80% of the electricity of our bakeries came from wind power in 2023.",
)


def judge(text: str, *sources: SourceText, jurisdictions: tuple[str, ...] = JURISDICTIONS) -> Claim:
    (claim,) = check_text(text, source="s", sources=sources, jurisdictions=jurisdictions, assume_claims=True).claims
    return claim


def rules(text: str, *sources: SourceText, jurisdictions: tuple[str, ...] = JURISDICTIONS) -> set[str]:
    return {finding.rule_id for finding in judge(text, *sources, jurisdictions=jurisdictions).findings}


def test_claims_stand_where_they_say_and_other_sentences_are_left_alone() -> None:
    text = "Welcome to our shop.\nOur bags are eco-friendly. We open at nine. All bottles are 100% recyclable!"
    report = check_text(text, source="page")
    assert [claim.kind for claim in report.claims] == ["generic", "recyclable"]
    assert report.sentences == 4
    for claim in report.claims:
        assert text[claim.start : claim.start + len(claim.text)] == claim.text
    for finding in report.findings:
        quote = finding.evidence[0]
        assert quote.kind == "quote"
        assert quote.source == "page"
        assert quote.start is not None
        assert text[quote.start :].startswith(quote.text)


def test_findings_come_most_severe_first() -> None:
    report = check_text("Carbon neutral thanks to offsets. Our fleet uses renewable electricity.", source="s")
    ranks = [finding.severity.rank for finding in report.findings]
    assert len(ranks) > 2
    assert ranks == sorted(ranks, reverse=True)


def test_an_empty_text_has_no_claims() -> None:
    assert check_text("", source="s").claims == []
    assert check_text(" \n ", source="s").sentences == 0


@pytest.mark.parametrize(
    "text",
    [
        "Is your packaging recyclable?",
        "We do not call our products eco-friendly.",
        "Revenue grew by 4% in a challenging economic environment.",
        "The meeting starts at ten.",
    ],
)
def test_questions_denials_and_other_subjects_are_no_claims(text: str) -> None:
    assert check_text(text, source="s").claims == []


def test_every_finding_cites_a_provision_of_a_jurisdiction_that_was_asked_for() -> None:
    claim = judge("Our eco-friendly bottle is carbon neutral thanks to offsets.", jurisdictions=("UK",))
    assert claim.findings
    for finding in claim.findings:
        assert "Provision: CMA Green Claims Code" in finding.detail
        assert not finding.rule_id.startswith(("claims.eu", "claims.us"))


def test_an_unknown_jurisdiction_is_named() -> None:
    with pytest.raises(ValueError, match="unknown jurisdiction 'FR'"):
        check_text("x", source="s", jurisdictions=("FR",))


@pytest.mark.parametrize(
    ("bad", "good", "rule_id"),
    [
        (
            "Our detergent is environmentally friendly.",
            "Our detergent is environmentally friendly because it contains 95% plant-based surfactants.",
            "claims.eu.generic-claim",
        ),
        (
            "Climate neutral coffee, thanks to our tree planting offsets.",
            "Climate neutral coffee by 2030 without offsets.",
            "claims.eu.offset-neutrality",
        ),
        (
            "We are a carbon neutral company because we buy carbon credits.",
            "We cut our own emissions.",
            "claims.eu.company-offset-neutrality",
        ),
        (
            "We will be net zero.",
            "We will be net zero by 2040 under our published transition plan.",
            "claims.eu.future-without-target",
        ),
        (
            "We will be net zero by 2040.",
            "We will be net zero by 2040, see our transition plan, verified by an independent auditor.",
            "claims.eu.future-without-plan",
        ),
        (
            "Certified sustainable T-shirts.",
            "Certified sustainable T-shirts (Global Organic Textile Standard).",
            "claims.eu.label-without-scheme",
        ),
        (
            "Our new bottle is better for the planet, with less plastic.",
            "Our new bottle uses 20% less plastic than the 2022 bottle.",
            "claims.eu.comparison-basis",
        ),
        ("We cut our emissions by 45%.", "We cut our emissions by 45% since 2019.", "claims.uk.reduction-baseline"),
        ("Our hairspray is CFC-free.", "Our hairspray has a recyclable can.", "claims.eu.legal-requirement"),
        (
            "This bag is biodegradable.",
            "This bag is biodegradable within 6 months in industrial composting.",
            "claims.us.degradable",
        ),
        ("This cup is recyclable.", "This cup is recyclable where facilities exist.", "claims.us.recyclable"),
        ("Made from recycled plastic.", "Made from 70% recycled plastic.", "claims.us.recycled-content"),
        (
            "Made with 100% renewable energy.",
            "Made with 100% renewable energy from wind.",
            "claims.us.renewable-energy",
        ),
    ],
)
def test_a_rule_catches_the_bad_wording_and_spares_the_good(bad: str, good: str, rule_id: str) -> None:
    assert rule_id in rules(bad)
    assert rule_id not in rules(good)


def test_an_offset_named_in_the_next_sentence_counts_for_a_neutrality_claim() -> None:
    text = "Our parcels are carbon neutral. We offset all emissions with forest projects."
    found = {f.rule_id for f in check_text(text, source="s").claims[0].findings}
    assert "claims.eu.offset-neutrality" in found


def test_a_figure_that_a_source_bears_out_is_supported() -> None:
    assert judge("Our boxes use 30% less plastic than in 2019.", REPORT).verdict == "supported"
    assert judge("Our boxes use 30% less plastic than in 2019.").verdict == "needs_evidence"


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ("We cut our scope 1 and 2 emissions by 45% compared to 2019.", "the claim says 45%, the source 31%"),
        ("Our scope 1 and 2 emissions fell by 31% compared to 2015.", "the claim says 2015, the source 2019"),
        ("Our scope 1 and 2 emissions rose by 31% compared to 2019.", "the source says the opposite"),
    ],
)
def test_what_a_source_contradicts_is_named(claim: str, reason: str) -> None:
    judged = judge(claim, REPORT)
    (finding,) = [f for f in judged.findings if f.rule_id == "claims.evidence.contradicted"]
    assert judged.verdict == "misleading"
    assert reason in finding.detail
    quote = finding.evidence[1]
    assert quote.kind == "quote"
    assert quote.start is not None
    assert REPORT.text[quote.start :].startswith(quote.text)


def test_a_source_about_a_part_does_not_support_a_claim_about_the_whole() -> None:
    judged = judge("Our emissions fell by 31% compared to 2019.", REPORT)
    assert "claims.evidence.narrower" in {f.rule_id for f in judged.findings}
    assert judged.verdict == "misleading"


def test_a_number_in_another_unit_agrees_and_a_name_that_is_missing_does_not() -> None:
    source = SourceText("r", "Acme saved 1.2 million kg of waste in 2023.")
    assert judge("Acme saved 1,200 tonnes of waste in 2023.", source).evidence == "agrees"
    assert judge("In 2023 Umbra saved 1,200 tonnes of waste.", source).evidence == "partly"
    assert judge("Acme saved 1,400 tonnes of waste in 2023.", source).evidence == "contradicted"


def test_facts_are_parsed_with_their_roles() -> None:
    facts = parse_facts("By 2030 we will halve scope 1, 2 and 3 emissions to 1.5 Mt CO₂e compared to a 2019 baseline.")
    assert (facts.target_year, facts.baseline_year, facts.scopes) == (2030, 2019, (1, 2, 3))
    assert {(q.dimension, q.value) for q in facts.quantities} == {("share", 50.0), ("mass", 1.5e9)}
    assert facts.direction == "down"


@pytest.mark.parametrize(
    "words",
    [
        "since 2019",
        "against 2019",
        "below 2019 levels",
        "compared to 2019",
        "compared with our 2019 baseline",
        "versus 2019",
        "relative to 2019",
        "from 2019 levels",
        "between 2019 and 2024",
        "from 2019 to 2024",
        "over 2019-2024",
        "from 412 t in 2019 to 297 t in 2024",
        "(base year: 2019)",
        "(2019, our base year, was unusual)",
    ],
)
def test_a_year_compared_with_is_the_baseline_in_any_wording(words: str) -> None:
    facts = parse_facts(f"Our emissions fell by 28% {words}.")
    assert (facts.baseline_year, facts.target_year) == (2019, None)
    assert not any("baseline" in rule for rule in rules(f"Our emissions fell by 28% {words}."))


@pytest.mark.parametrize(
    ("text", "baseline", "target"),
    [
        ("By 2030 we will cut scopes 1 and 2 by 70% against 2019.", 2019, 2030),
        ("We will cut emissions by 50% from 2019 by 2030.", 2019, 2030),
        ("We will cut emissions between 2021 and 2030.", 2021, 2030),
        ("From 2030 onwards all our vans will be electric.", None, 2030),
        ("Net zero by 2040.", None, 2040),
        ("In 2024 we emitted 3 t of CO2.", None, None),
        ("By 2023 we had cut our emissions by 10%.", None, None),
        ("Organic under Regulation (EU) 2018/848.", None, None),
    ],
)
def test_only_a_year_ahead_is_a_target(text: str, baseline: int | None, target: int | None) -> None:
    facts = parse_facts(text)
    assert (facts.baseline_year, facts.target_year) == (baseline, target)


@pytest.mark.parametrize(
    "text",
    [
        "Our emissions fell by 14%.",
        "Emissions have fallen by a fifth.",
        "Waste is down by 12%.",
        "We halved our energy use.",
        "Emissions dropped by more than 14%.",
        "Our emissions went from 412 t to 350 t.",
    ],
)
def test_a_fall_is_a_claim_of_reduction(text: str) -> None:
    (claim,) = check_text(text, source="s").claims
    assert claim.kind == "reduction"
    assert claim.facts.direction == "down"


def test_a_change_gives_both_amounts_and_stands_for_a_baseline() -> None:
    facts = parse_facts("Our emissions rose from about 350 t to just 412 t.")
    assert facts.change is not None
    assert [q.value for q in facts.change] == [350_000, 412_000]
    assert parse_facts("Our emissions went from 350 t to 412 t.").direction == "up"
    assert not any("baseline" in rule for rule in rules("Our emissions fell by 15%, from 412 t to 350 t."))


def test_an_intensity_does_not_bear_out_a_total() -> None:
    source = SourceText("r", "Emissions per kilogram of product fell by 9% compared to 2019.")
    assert parse_facts(source.text).per == "kilogram of product"
    assert parse_facts("Emissions fell by 9 per cent per year.").per is None
    assert "claims.evidence.narrower" in rules("Our emissions fell by 9% compared to 2019.", source)
    assert judge("Emissions per kilogram of product fell by 9% compared to 2019.", source).verdict == "supported"


@pytest.mark.parametrize(
    "text",
    [
        "By 2030 we will cut scopes 1 and 2 by 70% against 2019.",
        "Our emissions fell by 14% compared with our 2019 baseline (scope 1 and 2).",
        "We cut packaging waste by 38% between 2021 and 2024 (scope 3, audited by Ravel & Co).",
    ],
)
def test_a_claim_with_figure_scope_and_baseline_only_needs_evidence(text: str) -> None:
    (claim,) = check_text(text, source="s").claims
    assert claim.verdict == "needs_evidence"
    assert not any("baseline" in finding.rule_id for finding in claim.findings)


def test_a_target_with_its_year_and_baseline_still_needs_a_plan() -> None:
    target = "By 2030 we will cut scopes 1 and 2 by 70% against 2019."
    assert {"claims.eu.future-without-plan", "claims.uk.future-without-plan"} <= rules(target)
    plan = "The transition plan is checked every year: audit by Harrow Assurance."
    (claim, *_) = check_text(f"{target} {plan}", source="s").claims
    assert {f.rule_id for f in claim.findings} == {"claims.evidence.missing"}


def test_a_refill_is_not_a_refillable_package() -> None:
    assert "claims.us.refillable" not in rules("Our refills are 100% climate neutral.")
    assert "claims.us.refillable" not in rules("A refilled litre of our soap emits 0.42 kg CO2e.")
    assert "claims.us.refillable" in rules("Our bottle is refillable.")
    assert "claims.us.refillable" in rules("Refill the bottle and save plastic.")


def test_no_impact_on_the_climate_by_offsets_is_neutrality_by_offsets() -> None:
    text = (
        "We compensate all of our emissions with certified forest projects, so your order has no impact on the climate."
    )
    assert "claims.eu.offset-neutrality" in rules(text)
    assert "claims.eu.label-without-scheme" not in rules(text)


def test_a_product_name_is_no_claim() -> None:
    assert check_text("Balcony solar panel", source="s").claims == []


def verdicts(page: str) -> dict[str, str]:
    text = Page(ref=page, html=(SITE / page).read_text("utf-8")).text
    return {claim.text: claim.verdict for claim in check_text(text, source=page).claims}


def test_the_honest_page_lacks_nothing_but_evidence() -> None:
    found = verdicts("report.html")
    assert "By 2030 we will cut scopes 1 and 2 by 70% against 2019." in found
    assert len(found) >= 3
    assert set(found.values()) == {"needs_evidence"}


def test_the_vague_page_is_told_from_its_one_measured_paragraph() -> None:
    found = verdicts("climate.html")
    measured = [verdict for text, verdict in found.items() if "21.4 tonnes" in text or "refilled litre" in text]
    assert measured == ["needs_evidence", "needs_evidence"]
    assert sum(verdict == "prohibited" for verdict in found.values()) >= 4


def test_the_point_of_an_annex_is_cited_only_where_it_was_confirmed() -> None:
    points = {m[1] for rule in rules_for(("EU",)) if (m := re.search(r"Annex I point (\w+)", rule.provision))}
    assert points == {"2a", "4a", "4b", "4c"}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("A. " * 30_000, 1),
        ("a" + " " * 60_000 + "b", 1),
        ('Yes."' + '"' * 60_000, 1),
        ("Fine. " * 20_000, 20_000),
        ("1.1." * 15_000, 1),
    ],
    ids=["initials", "spaces", "quotes", "sentences", "digits"],
)
def test_a_long_nasty_text_is_split_in_one_pass(text: str, count: int) -> None:
    assert len(sentences(text)) == count
    assert len(split_sentences(text)) == count


@pytest.mark.parametrize("piece", ["A. ", "1.1.", "cut our emissions ", "12" + " " * 50, "from 4 t to 3 t in 2019 "])
def test_a_long_nasty_text_is_checked(piece: str) -> None:
    assert check_text(piece * (20_000 // len(piece)), source="s").sentences == 1


def test_standards_and_scopes_are_not_figures() -> None:
    assert parse_facts("ISO 14001 certified, EN 13432, scope 2, in 2021").quantities == ()


def test_a_wrapped_line_continues_its_sentence_and_a_heading_ends_it() -> None:
    text = "Our promise\nWe use recycled\npaper for all boxes. Read on."
    assert [s.text for s in split_sentences(text)] == [
        "Our promise",
        "We use recycled\npaper for all boxes.",
        "Read on.",
    ]


def test_every_rule_has_a_provision_and_a_known_shape() -> None:
    packs = rules_for(JURISDICTIONS)
    assert len({rule.id for rule in packs}) == len(packs) > 30
    for rule in packs:
        assert rule.id.startswith(f"claims.{rule.jurisdiction.lower()}.")
        assert rule.provision
        assert rule.all_of or rule.any_of


@given(st.text(max_size=300), st.text(max_size=100))
def test_any_text_is_taken(text: str, source: str) -> None:
    report = check_text(text, source="s", sources=[SourceText("r", source)], assume_claims=True)
    for claim in report.claims:
        assert text[claim.start : claim.start + len(claim.text)] == claim.text


@pytest.mark.parametrize(
    ("bad", "good", "rule_id"),
    [
        ("Recycled bottle, now 20% off.", "Bottle of 50% recycled plastic.", "claims.us.recycled-content"),
        (
            "Biodegradable bag, delivered within 2 days.",
            "This bag biodegrades within 6 months.",
            "claims.us.degradable",
        ),
        (
            "We cut our emissions by more than 45%.",
            "We cut our emissions by more than 45% since 2019.",
            "claims.eu.reduction-baseline",
        ),
        ("Our mug is greener than ever.", "Our mug is greener than a paper cup.", "claims.eu.comparison-basis"),
        (
            "Compostable cup, home delivery within 30 days.",
            "This cup is compostable in an industrial composting plant within 30 days.",
            "claims.uk.disposal-conditions",
        ),
        (
            "We will be net zero by 2040 under our transition plan, verified by our customers.",
            "We will be net zero by 2040 under our transition plan, verified by Ravel Assurance.",
            "claims.eu.future-unverified",
        ),
    ],
)
def test_words_cure_only_what_they_belong_to(bad: str, good: str, rule_id: str) -> None:
    assert rule_id in rules(bad)
    assert rule_id not in rules(good)


def test_a_text_in_parts_is_judged_where_it_is_english_and_named_where_it_is_not() -> None:
    text = "Our mug is eco-friendly.\nUnsere Tasse ist klimaneutral und nachhaltig.\nWir liefern in ganz Europa."
    report = check_text(text, source="page")
    assert [claim.verdict for claim in report.claims] == ["prohibited"]
    (part,) = report.not_judged
    assert (part.language, part.sentences, part.terms) == ("German", 2, ("klimaneutral", "nachhaltig"))
    (finding,) = [f for f in report.findings if f.rule_id == "language.not-judged"]
    assert finding.title == "Text in German: not judged"
    quote = finding.evidence[0]
    assert quote.kind == "quote"
    assert text[quote.start :].startswith("Unsere Tasse")


def test_headings_have_the_language_of_their_page() -> None:
    report = check_text("Tea Towel Noor\nOur tea towels are woven by hand in the north.\nCotton 50 x 70", source="page")
    assert report.not_judged == []


@pytest.mark.parametrize(
    "piece",
    [
        "eco-friendly, ", "not green and ", "the term green, ", "a-\n", "\u202ea", "50% ",
        pytest.param("-" + "a" * 29_999, id="one long word"),
    ],
)  # fmt: skip
def test_long_nasty_texts_are_judged_in_time(piece: str) -> None:
    assert check_text(piece * (30_000 // len(piece)), source="s", assume_claims=True).sentences <= 1
