"""The language of a text is told, or it is said that it is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zora_core.skills.text.language import claim_terms, language, name_of


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Anna owes Ben 50 euro for the train tickets", "en"),
        ("Eco-friendly mug, 350 ml.", "en"),
        ("Unsere Fruchtgummis werden klimaneutral hergestellt.", "de"),
        ("Umweltfreundliche Verpackung.", "de"),
        ("Wir liefern in ganz Europa", "de"),
        ("Notre t-shirt est neutre en carbone et respectueux de l'environnement.", "fr"),
        ("Envase ecológico y respetuoso con el medio ambiente.", "es"),
        ("Producto sostenible", "es"),
        ("Duurzame verpakking", "nl"),
        ("De klant wil elke week een nieuwsbrief over het klimaat ontvangen", "nl"),
        ("Il prodotto è rispettoso dell'ambiente", "it"),
        ("Vårt kaffe är klimatneutralt", "sv"),
        ("Nasze opakowania są ekologiczne", "pl"),
        ("Клиент хочет получать новости о климате", "CYRILLIC"),
        ("当社の製品は環境に優しい", "HIRAGANA"),
        ("Bidhaa zetu ni rafiki kwa mazingira", None),
        ("CO2-neutral", None),
        ("LED 5 W", None),
        ("", None),
    ],
)
def test_a_language_is_told_from_function_words_letters_and_terms(text: str, code: str | None) -> None:
    assert language(text) == code


def test_terms_of_a_language_are_quoted_as_they_are_written() -> None:
    assert claim_terms("Umweltfreundliche Verpackung, CO2-neutral.", "de") == ["Umweltfreundliche", "CO2-neutral"]
    assert claim_terms("Umweltfreundlich", None) == ["Umweltfreundlich"]
    assert claim_terms("Umweltfreundlich", "CYRILLIC") == []


@given(st.text(max_size=200))
def test_every_text_has_a_language_with_a_name_or_none(text: str) -> None:
    assert name_of(language(text))
