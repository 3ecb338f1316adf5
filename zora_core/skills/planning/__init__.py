"""Plans: climate missions, workflows for a goal, and the order in which to mend a page."""
