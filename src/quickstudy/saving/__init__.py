"""Files written in one piece, descriptions of modules, whose code may run, and locks."""
