modules_enabled = { "saslauth", "disco" }
signature_algorithm = "HS256"

Include "conf.d/*.cfg.lua"
