"""The environment: what is read, and what is refused with the variable's name."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from zora_core.autonomy.runtime import is_runtime_configured
from zora_core.errors import ConfigurationError
from zora_core.settings import DEFAULT_TENANT_ID, Settings, load_settings

TENANT = "3f6f7ee0-9a2c-4a39-9c3a-6c7a3e2f0d11"
SUPABASE = {"SUPABASE_URL": "https://x.supabase.co", "SUPABASE_SERVICE_KEY": "key", "ZORA_TENANT_ID": TENANT}


def test_nothing_set_means_the_embedded_database_and_the_default_tenant(tmp_path: Path) -> None:
    settings = load_settings({"ZORA_HOME": str(tmp_path)})
    assert settings.embedded
    assert (settings.home, settings.tenant_id) == (tmp_path, DEFAULT_TENANT_ID)
    assert settings.file_roots == ()


def test_each_variable_is_read() -> None:
    settings = load_settings({**SUPABASE, "ZORA_FILE_ROOTS": "/a:/b", "ZORA_ALLOW_PRIVATE_ADDRESSES": "1"})
    assert settings.tenant_id == UUID(TENANT)
    assert not settings.embedded
    assert len(settings.file_roots) == 2
    assert settings.allow_private_addresses


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("ZORA_ANALYSIS_MEMORY_MB", ["127", "128.5", "1000001", "inf", "nan", "much"], "256"),
        ("ZORA_UNKNOWN_TYPE_SECONDS", ["0", "-1", "inf", "nan", "soon", "31622401"], "0.5"),
        ("ZORA_JWT_MAX_HOURS", ["0", "inf", "nan", "long"], "0.5"),
    ],
)
def test_a_number_is_read_or_refused_with_its_value_and_its_range(name: str, wrong: list[str], right: str) -> None:
    field = name.removeprefix("ZORA_").lower()
    assert getattr(load_settings({name: right}), field) == float(right)
    assert getattr(load_settings({}), field) == getattr(Settings, field)
    for text in wrong:
        with pytest.raises(ConfigurationError, match=f"{name} is '{text}': set it to a (whole )?number of "):
            load_settings({name: text})


@pytest.mark.parametrize("hours", ["0", "-1", "inf", "nan", "a day"])
def test_the_longest_life_of_a_token_is_a_number_of_hours(hours: str) -> None:
    assert load_settings({"ZORA_JWT_MAX_HOURS": "0.5"}).jwt_max_hours == 0.5
    assert load_settings({}).jwt_max_hours == 24
    with pytest.raises(ConfigurationError, match="ZORA_JWT_MAX_HOURS is"):
        load_settings({"ZORA_JWT_MAX_HOURS": hours})


@pytest.mark.parametrize("missing", list(SUPABASE))
def test_a_missing_part_of_supabases_three_is_named(missing: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{missing} is not"):
        load_settings({name: value for name, value in SUPABASE.items() if name != missing})


def test_passwords_and_keys_do_not_show_in_the_settings_text() -> None:
    shown = repr(load_settings({**SUPABASE, "DATABASE_URL": "postgresql://u:hunter2@h/d"}))
    assert "hunter2" not in shown
    assert "key" not in shown


def test_is_runtime_configured_says_no_to_half_a_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SUPABASE:
        monkeypatch.delenv(name, raising=False)
    assert is_runtime_configured()
    monkeypatch.setenv("SUPABASE_URL", "https://x.supabase.co")
    assert not is_runtime_configured()
