-- For luacheck (make check): usher's module for Prosody, and those of the tests.
std = "lua54"
max_line_length = 140
globals = { "module", "prosody" }
