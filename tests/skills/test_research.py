"""Passages on a topic, their agreement, their contradictions, and what is missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from zora_core.models import Quote
from zora_core.skills.research import Brief, Document, findings, research
from zora_core.skills.research.retrieval import Bm25, Index, fuse, passages, ranking
from zora_core.skills.text.words import sentences

NOW = datetime(2026, 3, 2, tzinfo=UTC)

HEAT = [
    Document("a", "Heat pumps work with old radiators below 55 °C. The garden is large."),
    Document("b", "The heat pump offer is 28,400 EUR with two radiators."),
    Document("c", "The heat pump offer is 31,200 EUR with two radiators."),
    Document("d", "Refill pouches of hand soap weigh 9 g each."),
]


def ask(topic: str, documents: list[Document], depth: str = "standard") -> Brief:
    return research(topic, documents, depth=depth, now=NOW)


def test_passages_on_the_topic_are_found_and_cited_where_they_stand() -> None:
    brief = ask("heat pump radiators", HEAT)
    assert brief.verdict == "supported"
    assert {hit.document.ref for hit in brief.hits} == {"a", "b", "c"}
    for finding in findings(brief):
        for quote in finding.evidence:
            if isinstance(quote, Quote):
                (document,) = [d for d in HEAT if d.ref == quote.source]
                assert quote.start is not None
                assert document.text[quote.start : quote.start + len(quote.text)] == quote.text


def test_numbers_that_disagree_are_reported_first() -> None:
    brief = ask("heat pump offer", HEAT)
    (pair,) = brief.disagreements
    assert "28400" in pair.reason
    assert "31200" in pair.reason
    assert findings(brief)[0].rule_id == "research.disagreement"


def test_equal_numbers_in_different_documents_agree() -> None:
    documents = [HEAT[1], Document("e", "The heat pump offer is 28,400 EUR with two new radiators.")]
    brief = ask("heat pump offer", documents)
    assert (len(brief.agreements), brief.disagreements) == (1, [])


def test_a_denial_is_a_disagreement() -> None:
    documents = [
        Document("a", "The refill pouch can be recycled in this town."),
        Document("b", "The refill pouch cannot be recycled in this town."),
    ]
    assert len(ask("recycling of the refill pouch", documents).disagreements) == 1


def test_not_enough_evidence_is_an_answer() -> None:
    brief = ask("quantum computing for whales", HEAT)
    assert brief.verdict == "not enough evidence"
    assert set(brief.missing) == {"quantum", "computing", "whales"}
    assert "Not enough evidence" in findings(brief)[-1].title
    empty = ask("heat pumps", [])
    assert (empty.verdict, empty.hits) == ("not enough evidence", [])


def test_one_document_is_thin_and_said_to_be() -> None:
    brief = ask("hand soap pouches", HEAT)
    assert brief.verdict == "thin"
    assert any("one document" in gap for gap in brief.gaps)


def test_old_evidence_is_a_gap() -> None:
    old = [Document(ref, "Heat pumps need space outside.", created_at=NOW - timedelta(days=400)) for ref in "ab"]
    assert any("400 days old" in gap for gap in ask("heat pumps", old).gaps)


def test_depth_sets_how_many_passages_are_kept() -> None:
    documents = [Document(str(n), f"Heat pump number {n} hums in its own way.") for n in range(30)]
    assert [len(ask("heat pump", documents, depth).hits) for depth in ("quick", "standard", "deep")] == [5, 10, 20]


def test_the_databases_ranking_counts() -> None:
    documents = [Document(f"m/{n}", "Heat pump notes of the family.", "memory_events", str(n)) for n in range(3)]
    brief = research("heat pump", documents, depth="quick", now=NOW, database_order=["2"])
    assert brief.hits[0].document.row_id == "2"


def test_rare_words_weigh_more() -> None:
    bm25 = Bm25([["heat", "pump"], ["heat", "house"], ["heat", "soap"]])
    assert ranking(bm25.scores({"heat": 1.0, "pump": 1.0}))[0] == 0
    assert bm25.idf("pump") > bm25.idf("heat")


def test_compounds_are_found_by_their_letters() -> None:
    assert ranking(Index(["refillable bottles", "wool socks"]).search("refill"))[0] == 0


def test_reciprocal_rank_fusion_prefers_what_several_rankings_like() -> None:
    assert ranking(fuse([[1, 2, 3], [2, 4, 5]]))[0] == 2


@given(st.text(max_size=300))
def test_offsets_point_at_the_text(text: str) -> None:
    for sentence in sentences(text):
        assert text[sentence.start : sentence.start + len(sentence.text)] == sentence.text
    for piece in passages(0, text, words=5):
        assert text[piece.start : piece.start + len(piece.text)] == piece.text


def test_abbreviations_do_not_end_sentences() -> None:
    assert [s.text for s in sentences("See e.g. Article 3. It holds.")] == ["See e.g. Article 3.", "It holds."]


@given(st.text(max_size=60), st.lists(st.text(max_size=60), max_size=4))
def test_any_text_can_be_asked(topic: str, texts: list[str]) -> None:
    findings(ask(topic, [Document(str(n), text) for n, text in enumerate(texts)]))
