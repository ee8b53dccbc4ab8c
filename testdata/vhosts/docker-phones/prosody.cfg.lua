-- As docker-jitsi-meet's templates make it with ENABLE_AUTH, ENABLE_JAAS_COMPONENTS and Jigasi, and without guests, shortened.
admins = { }
component_admins_as_room_owners = true
modules_enabled = { "roster"; "saslauth"; "disco"; "ping"; }
component_ports = { }
c2s_interfaces = { "*", "::" }
authentication = "internal_hashed"

Include "conf.d/*.cfg.lua"
