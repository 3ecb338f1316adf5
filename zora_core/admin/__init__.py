"""The admin pages: HTML that is made on the server, for people who watch six agents and decide what they may do."""
