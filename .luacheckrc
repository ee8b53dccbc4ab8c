std = "lua54"
globals = { "module" }
read_globals = { "prosody" }
