std = "lua54"

globals = { "module", "prosody" }
