"""Taking over what the original system holds: read (`sources`), made rows of ours (`mapping`), written (`importer`)."""
