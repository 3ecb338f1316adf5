"""Pure analysis: text, pages, code and rows in; findings with evidence out. No database, no agents, no network."""
