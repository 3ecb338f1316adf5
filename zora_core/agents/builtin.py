"""Which agents there are: the six, and those that installed packages add."""

from __future__ import annotations

from importlib.metadata import entry_points

from zora_core.agents.agent import Agent, Registry
from zora_core.errors import ConfigurationError


def builtin_agents() -> list[Agent]:
    """The six agents."""
    from zora_core.agents.aegis import Aegis
    from zora_core.agents.connor import Connor
    from zora_core.agents.eivor import Eivor
    from zora_core.agents.lumina import Lumina
    from zora_core.agents.oracle import Oracle
    from zora_core.agents.sam import Sam

    return [Connor(), Lumina(), Eivor(), Oracle(), Aegis(), Sam()]


def installed_agents() -> list[Agent]:
    """Agents that other packages offer under the entry point group `zora.agents`."""
    agents = []
    for entry in entry_points(group="zora.agents"):
        agent = entry.load()
        if not (isinstance(agent, type) and issubclass(agent, Agent)):
            raise ConfigurationError(f"entry point zora.agents {entry.name!r} must name an Agent class, not {agent!r}")
        agents.append(agent())
    return agents


def registry(agents: tuple[Agent, ...] = ()) -> Registry:
    """All task types: built in, installed, and those of `agents`."""
    return Registry([*builtin_agents(), *installed_agents(), *agents])
