"""Which agents there are: the six, and those that installed packages add."""

from __future__ import annotations

import logging
from importlib.metadata import EntryPoint, entry_points

from zora_core.agents.agent import Agent, Registry
from zora_core.errors import ConfigurationError, described

logger = logging.getLogger("zora.runtime")


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
    """Agents that other packages offer under the entry point group `zora.agents`.

    One that cannot be loaded is left out, and the log names its package: it must not stop the others.
    """
    agents: list[Agent] = []
    known = Registry(builtin_agents())
    for entry in entry_points(group="zora.agents"):
        try:
            agent = _loaded(entry)
            known.add(agent)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - importing it runs the package's own code
            package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown package"
            logger.error(
                "the agents of %s are left out: its entry point %s = %s cannot be loaded (%s). Update or remove the "
                "package",
                package,
                entry.name,
                entry.value,
                described(error),
            )
        else:
            agents.append(agent)
    return agents


def _loaded(entry: EntryPoint) -> Agent:
    agent = entry.load()
    if not (isinstance(agent, type) and issubclass(agent, Agent)):
        raise ConfigurationError(f"entry point zora.agents {entry.name!r} must name an Agent class, not {agent!r}")
    return agent()


def registry(agents: tuple[Agent, ...] = ()) -> Registry:
    """All task types: built in, installed, and those of `agents`."""
    return Registry([*builtin_agents(), *installed_agents(), *agents])
